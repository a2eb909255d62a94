"""R^n: points of a scene, landmarks, camera intrinsics, any plain parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, final

import numpy as np
import numpy.typing as npt

from sparselm.manifolds._columns import ColumnManifold, check_dim
from sparselm.manifolds.base import Array, IndexArray


@final
@dataclass(frozen=True)
class Euclidean(ColumnManifold):
    """The vector space R^dim, x ⊞ δ = x + δ. Plain NumPy: nothing is compiled.

    Parameters
    ----------
    dim : int
        Numbers per point, in the caller's units.

    Raises
    ------
    ProblemError
        Where dim is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> x, out = np.ones((4, 3)), np.empty((4, 3))
    >>> Euclidean(3).retract(x, x, out)
    >>> out[0]
    array([2., 2., 2.])
    """

    dim: int = 1

    def __post_init__(self) -> None:
        check_dim("Euclidean", self.dim)

    @property
    def ambient_dim(self) -> int:
        return self.dim

    @property
    def tangent_dim(self) -> int:
        return self.dim

    def retract_columns(self, x: Array, a: int, delta: Array, t: int, out: Array) -> None:
        columns = slice(a, a + self.dim)
        np.add(x[:, columns], delta[:, t : t + self.dim], out=out[:, columns])

    def local_columns(self, x: Array, y: Array, a: int, out: Array, t: int) -> None:
        columns = slice(a, a + self.dim)
        np.subtract(y[:, columns], x[:, columns], out=out[:, t : t + self.dim])

    def plus_jacobian_columns(self, x: Array, a: int, out: Array, t: int) -> None:
        out[:, a : a + self.dim, t : t + self.dim] = np.eye(self.dim)

    def plus_jacobian_pattern(self) -> npt.NDArray[np.int8]:
        return np.eye(self.dim, dtype=np.int8)

    def local_jacobian_columns(self, x: Array, y: Array, a: int, out: Array, t: int) -> None:
        out[:, t : t + self.dim, t : t + self.dim] = np.eye(self.dim)

    def project_columns(self, x: Array, a: int, out: Array) -> None:
        out[:, a : a + self.dim] = x[:, a : a + self.dim]

    def additive(self) -> IndexArray:
        return np.arange(self.dim, dtype=np.int32)

    def random(self, rng: np.random.Generator, n: int) -> Array:
        return rng.standard_normal((n, self.dim))

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(), cls(3), cls(9))
