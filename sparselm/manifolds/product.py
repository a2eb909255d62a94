"""Several manifolds side by side in one block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self, final

import numpy as np
import numpy.typing as npt

from sparselm.errors import ProblemError
from sparselm.manifolds._columns import ColumnManifold
from sparselm.manifolds.base import AbstractManifold, Array, IndexArray
from sparselm.manifolds.euclidean import Euclidean
from sparselm.manifolds.se3 import SE3
from sparselm.manifolds.so2 import SO2
from sparselm.manifolds.so3 import SO3
from sparselm.manifolds.sphere import Sphere

# Rows of a stranger's factor that are copied at a time, so that the copies stay small and in cache.
_CHUNK = 4096


@final
@dataclass(frozen=True, init=False, repr=False)
class Product(ColumnManifold):
    """M_1 × … × M_k: points and tangents are those of the factors, one after the other, and ⊞ acts on each alone.

    ``Product(Euclidean(3), SO3())`` is the decoupled pose [tx ty tz qx qy qz qw], with t + v and q·Exp(w);
    ``Product(SE3(), Euclidean(3))`` a camera with three intrinsics. Built-in factors work in place on their columns of
    the rows; any other :class:`AbstractManifold` does through contiguous copies of a few thousand rows at a time.

    Parameters
    ----------
    *manifolds : AbstractManifold
        The factors, in the order of their numbers; at least one.

    Raises
    ------
    ProblemError
        Where no factor is given.
    TypeError
        Where a factor is not an instance of AbstractManifold.

    Examples
    --------
    >>> pose = Product(Euclidean(3), SO3())
    >>> pose.ambient_dim, pose.tangent_dim
    (7, 6)
    >>> pose == Product(Euclidean(3), SO3())
    True
    """

    manifolds: tuple[AbstractManifold, ...]

    def __init__(self, *manifolds: AbstractManifold) -> None:
        if not manifolds:
            raise ProblemError("Product: no manifold given, expected at least one, as in Product(Euclidean(3), SO3()).")
        for manifold in manifolds:
            if not isinstance(manifold, AbstractManifold):
                raise TypeError(f"Product: expected instances of AbstractManifold such as SO3(), got {manifold!r}.")
        object.__setattr__(self, "manifolds", manifolds)

    def __repr__(self) -> str:
        return f"Product({', '.join(map(repr, self.manifolds))})"

    @property
    def ambient_dim(self) -> int:
        return sum(manifold.ambient_dim for manifold in self.manifolds)

    @property
    def tangent_dim(self) -> int:
        return sum(manifold.tangent_dim for manifold in self.manifolds)

    def _factors(self, a: int, t: int) -> Iterator[tuple[ColumnManifold, int, int]]:
        """Each factor with the columns at which its points and its tangents begin."""
        for manifold in self.manifolds:
            yield manifold if isinstance(manifold, ColumnManifold) else _Copied(manifold), a, t
            a += manifold.ambient_dim
            t += manifold.tangent_dim

    def retract_columns(self, x: Array, a: int, delta: Array, t: int, out: Array) -> None:
        for factor, i, j in self._factors(a, t):
            factor.retract_columns(x, i, delta, j, out)

    def local_columns(self, x: Array, y: Array, a: int, out: Array, t: int) -> None:
        for factor, i, j in self._factors(a, t):
            factor.local_columns(x, y, i, out, j)

    def plus_jacobian_columns(self, x: Array, a: int, out: Array, t: int) -> None:
        out[:, a : a + self.ambient_dim, t : t + self.tangent_dim] = 0.0
        for factor, i, j in self._factors(a, t):
            factor.plus_jacobian_columns(x, i, out, j)

    def plus_jacobian_pattern(self) -> npt.NDArray[np.int8]:
        pattern = np.zeros((self.ambient_dim, self.tangent_dim), dtype=np.int8)
        for manifold, (_, a, t) in zip(self.manifolds, self._factors(0, 0), strict=True):
            pattern[a : a + manifold.ambient_dim, t : t + manifold.tangent_dim] = manifold.plus_jacobian_pattern()
        return pattern

    def local_jacobian_columns(self, x: Array, y: Array, a: int, out: Array, t: int) -> None:
        out[:, t : t + self.tangent_dim, t : t + self.tangent_dim] = 0.0
        for factor, i, j in self._factors(a, t):
            factor.local_jacobian_columns(x, y, i, out, j)

    def project_columns(self, x: Array, a: int, out: Array) -> None:
        for factor, i, _ in self._factors(a, 0):
            factor.project_columns(x, i, out)

    def additive(self) -> IndexArray:
        found, t = [], 0
        for manifold in self.manifolds:
            own = manifold.additive()
            found.append(np.where(own < 0, np.int32(-1), own + np.int32(t)))
            t += manifold.tangent_dim
        return np.concatenate(found)

    def random(self, rng: np.random.Generator, n: int) -> Array:
        return np.concatenate([manifold.random(rng, n) for manifold in self.manifolds], axis=1)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(Euclidean(3), SO3()), cls(SE3(), Euclidean(2)), cls(SO2(), cls(Sphere(), SO3())))


@final
@dataclass(frozen=True)
class _Copied(ColumnManifold):
    """A manifold that knows nothing of columns, served with contiguous copies of chunks of rows."""

    manifold: AbstractManifold

    @property
    def ambient_dim(self) -> int:
        return self.manifold.ambient_dim

    @property
    def tangent_dim(self) -> int:
        return self.manifold.tangent_dim

    def retract_columns(self, x: Array, a: int, delta: Array, t: int, out: Array) -> None:
        for rows in _chunks(x):
            new = np.empty((len(x[rows]), self.ambient_dim))
            self.manifold.retract(self._point(x[rows], a), self._tangent(delta[rows], t), new)
            out[rows, a : a + self.ambient_dim] = new

    def local_columns(self, x: Array, y: Array, a: int, out: Array, t: int) -> None:
        for rows in _chunks(x):
            delta = np.empty((len(x[rows]), self.tangent_dim))
            self.manifold.local(self._point(x[rows], a), self._point(y[rows], a), delta)
            out[rows, t : t + self.tangent_dim] = delta

    def plus_jacobian_columns(self, x: Array, a: int, out: Array, t: int) -> None:
        for rows in _chunks(x):
            jacobian = np.empty((len(x[rows]), self.ambient_dim, self.tangent_dim))
            self.manifold.plus_jacobian(self._point(x[rows], a), jacobian)
            out[rows, a : a + self.ambient_dim, t : t + self.tangent_dim] = jacobian

    def local_jacobian_columns(self, x: Array, y: Array, a: int, out: Array, t: int) -> None:
        for rows in _chunks(x):
            jacobian = np.empty((len(x[rows]), self.tangent_dim, self.tangent_dim))
            self.manifold.local_jacobian(self._point(x[rows], a), self._point(y[rows], a), jacobian)
            out[rows, t : t + self.tangent_dim, t : t + self.tangent_dim] = jacobian

    def project_columns(self, x: Array, a: int, out: Array) -> None:
        for rows in _chunks(x):
            new = np.empty((len(x[rows]), self.ambient_dim))
            self.manifold.project(self._point(x[rows], a), new)
            out[rows, a : a + self.ambient_dim] = new

    def random(self, rng: np.random.Generator, n: int) -> Array:
        return self.manifold.random(rng, n)

    def _point(self, x: Array, a: int) -> Array:
        return np.ascontiguousarray(x[:, a : a + self.ambient_dim])

    def _tangent(self, delta: Array, t: int) -> Array:
        return np.ascontiguousarray(delta[:, t : t + self.tangent_dim])


def _chunks(x: Array) -> Iterator[slice]:
    for start in range(0, x.shape[0], _CHUNK):
        yield slice(start, start + _CHUNK)
