"""Variable blocks of one kind, which of their components are held or bounded, and which rows residual blocks read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sparselm.bounds import as_bound
from sparselm.errors import ProblemError
from sparselm.manifolds.base import AbstractManifold
from sparselm.manifolds.euclidean import Euclidean

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class Variables:
    """Variable blocks of one kind: an array ``(n, ambient_dim)`` of points on one manifold.

    Made by :meth:`Problem.add_variables`. ``cameras[index]`` selects the row that each residual block reads.
    """

    def __init__(self, name: str, values: npt.ArrayLike, manifold: AbstractManifold | None) -> None:
        self.name = name
        array = np.array(values, dtype=np.float64, order="C")
        if array.ndim == 1:
            array = array.reshape(-1, 1)
        if array.ndim != 2:
            raise ProblemError(f"variables {name!r}: values have shape {array.shape}, expected (n, ambient_dim)")
        if manifold is not None and not isinstance(manifold, AbstractManifold):
            raise ProblemError(f"variables {name!r}: manifold must be an instance such as slm.SE3(), got {manifold!r}")
        self.manifold = manifold if manifold is not None else Euclidean(array.shape[1])
        self._values = np.empty_like(array)
        self.values = array
        self._fixed: BoolArray | None = None
        self._lower: Array | None = None
        self._upper: Array | None = None

    @property
    def values(self) -> Array:
        """The start of the next solve, ``(n, ambient_dim)``, read-only; assign an array to change it."""
        view = self._values.view()
        view.flags.writeable = False
        return view

    @values.setter
    def values(self, values: npt.ArrayLike) -> None:
        array = np.ascontiguousarray(values, dtype=np.float64)
        expected = (self._values.shape[0], self.manifold.ambient_dim)
        if array.shape != expected:
            raise ProblemError(
                f"variables {self.name!r} on {self.manifold!r}: values have shape {array.shape}, expected {expected} = "
                "(n, ambient_dim)"
            )
        if not np.isfinite(array).all():
            row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
            raise ProblemError(f"variables {self.name!r}: row {row} is not finite: {array[row]}")
        projected = np.empty_like(array)
        self.manifold.project(array, projected)
        if not np.isfinite(projected).all():
            row = int(np.flatnonzero(~np.isfinite(projected).all(axis=1))[0])
            raise ProblemError(
                f"variables {self.name!r}: row {row} = {array[row]} has no nearest point on {self.manifold!r}; "
                "a quaternion or direction must not be zero"
            )
        self._values = projected

    @property
    def fixed(self) -> BoolArray | None:
        """Mask ``(n, tangent_dim)`` of the tangent components held constant; None where nothing is."""
        return self._fixed

    def fix(self, rows: Any = slice(None), components: Sequence[int] | None = None) -> None:
        """Hold rows constant, or only some tangent components of them."""
        self._mark(rows, components, True)

    def free(self, rows: Any = slice(None), components: Sequence[int] | None = None) -> None:
        """Undo :meth:`fix`."""
        self._mark(rows, components, False)

    @property
    def lower(self) -> Array | None:
        """Lower bounds ``(n, ambient_dim)``, read-only, −inf where there is none; None where there are none at all.

        Assign a number, ``(ambient_dim,)``, ``(n, ambient_dim)`` or None; see :meth:`Problem.add_variables`.
        """
        return self._lower

    @lower.setter
    def lower(self, bound: npt.ArrayLike | None) -> None:
        self._lower = as_bound(self.name, "lower", bound, self._values.shape, self.manifold.additive() >= 0)

    @property
    def upper(self) -> Array | None:
        """Upper bounds, like :attr:`lower`, with +inf for none."""
        return self._upper

    @upper.setter
    def upper(self, bound: npt.ArrayLike | None) -> None:
        self._upper = as_bound(self.name, "upper", bound, self._values.shape, self.manifold.additive() >= 0)

    def _mark(self, rows: Any, components: Sequence[int] | None, value: bool) -> None:
        tangent_dim = self.manifold.tangent_dim
        chosen = list(range(tangent_dim)) if components is None else [int(c) for c in components]
        if any(not 0 <= c < tangent_dim for c in chosen):
            raise ProblemError(f"variables {self.name!r}: components {chosen}, expected values in 0 … {tangent_dim - 1}")
        mask = np.zeros((len(self), tangent_dim), dtype=bool) if self._fixed is None else self._fixed
        try:
            selected = np.arange(len(self))[rows]
        except IndexError as error:
            raise ProblemError(f"variables {self.name!r} has {len(self)} rows: {error}") from None
        mask[selected.reshape(-1, 1), np.array(chosen, dtype=np.intp)] = value
        self._fixed = mask if mask.any() else None

    def __len__(self) -> int:
        return int(self._values.shape[0])

    def __getitem__(self, index: Any) -> Selection:
        if isinstance(index, (slice, int, np.integer)):
            index = np.atleast_1d(np.arange(len(self), dtype=np.int32)[index])
        array = np.asarray(index)
        if array.dtype == bool and array.shape == (len(self),):
            array = np.flatnonzero(array).astype(np.int32)
        return Selection(self, array if array.size else array.astype(np.int32))

    def __repr__(self) -> str:
        held = "" if self._fixed is None else f", {int(self._fixed.all(axis=1).sum())} held"
        return f"Variables({self.name!r}, {len(self)} × {self.manifold!r}{held})"


@dataclass(frozen=True)
class Selection:
    """The row of some variables that each residual block reads.

    The index array is not copied: it must not be changed in place while a problem or an analysis uses it.
    """

    variables: Variables
    index: npt.NDArray[Any]

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise where the index is no 1-D array of row numbers."""
        name, index, n = self.variables.name, self.index, len(self.variables)
        if index.ndim != 1 or index.dtype.kind not in "iu":
            raise ProblemError(
                f"variables {name!r}: an operand's index must be a 1-D array of integers, got {index.dtype} of shape "
                f"{index.shape}"
            )
        if index.size and (int(index.min()) < 0 or int(index.max()) >= n):
            bad = int(np.flatnonzero((index < 0) | (index >= n))[0])
            raise ProblemError(f"variables {name!r}: index[{bad}] = {index[bad]}, expected 0 … {n - 1}")
