r"""Jacobians by finite differences, dense, or sparse with columns that share no row differenced together.

With steps h_j e_j and f₀ = f(x), one column of J at a time:

    2-point    (f(x + h) − f₀) / h                              h = √ε max(L_j, |x_j|)
    3-point    (f(x + h) − f(x − h)) / 2h                       h = ε^⅓ max(L_j, |x_j|)
               (4 f(x + h) − 3 f₀ − f(x + 2h)) / 2h             where a bound is nearer than h on one side
    cs         Im f(x + ih) / h                                 h = 10⁻²⁰ max(1, |x_j|)

L_j is 1 at first, as in SciPy, and then min(1, F / ‖J_j‖): a step of length L_j changes f by all that f is made of. It
keeps h short for parameters such as the 10⁻⁷ x³ of a rational function, where √ε · 1 is a tenth of the parameter. What f is
made of shows in ‖f‖ and in the terms ‖J_k‖ |x_k|, which stay where f cancels near a solution. F is the largest of them so
far, and at least 10⁻³ of the geometric mean of the latest ‖J_k‖: where no term is left, such as with eˣ − 1 at 0, the length
of a usual parameter is 10⁻³ then, and rounding takes three digits more than it must. h has the sign of x_j; where x + h
would leave the bounds it is turned round or cut.

Given where J is not zero, one
evaluation serves all columns of a colour (Curtis, Powell, Reid): colours, and the places of the differences in J, are
found once.

References
----------
A. R. Curtis, M. J. D. Powell, J. K. Reid, "On the estimation of sparse Jacobian matrices", J. Inst. Math. Appl. 13, 1974.
T. F. Coleman, J. J. Moré, "Estimation of sparse Jacobian matrices and graph coloring problems", SIAM J. Numer. Anal. 20,
1983: the colouring as one of graphs, and orders for the greedy one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from sparselm.kernels.colouring import colour_columns
from sparselm.kernels.gather import counting_sort
from sparselm.scipy_api.systems import squared_column_norms
from sparselm.threads import quiet_dot

Array = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int32]
# Of the length 1 of a usual parameter, where f says nothing of it.
SHORTEST = 1e-3
# No difference is taken, so nothing cancels, and h² is beyond the last digit.
COMPLEX_STEP = 1e-20

Scheme = Literal["2-point", "3-point", "cs"]
MapLike = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Sparsity:
    """Where J may be non-zero, as compressed rows, and its entries sorted by the colour of their column.

    Attributes
    ----------
    shape, indptr, indices
        The pattern.
    column_ptr, column : (num_colours + 1,), (num_columns,)
        Columns of colour c: ``column[column_ptr[c]:column_ptr[c + 1]]``.
    entry_ptr, entry : (num_colours + 1,), (nnz,)
        Entries of colour c: ``entry[entry_ptr[c]:entry_ptr[c + 1]]``.
    row : (nnz,) int32
        Row of each of ``entry``.
    """

    shape: tuple[int, int]
    indptr: IndexArray
    indices: IndexArray
    column_ptr: npt.NDArray[np.int64]
    column: IndexArray
    entry_ptr: npt.NDArray[np.int64]
    entry: IndexArray
    row: IndexArray

    @property
    def num_colours(self) -> int:
        return len(self.entry_ptr) - 1


def make_sparsity(pattern: Any) -> Sparsity:
    """Colour a pattern: anything that ``scipy.sparse.csr_array`` takes; entries that are not 0 count."""
    rows = sp.csr_array(pattern, dtype=bool, copy=True)
    rows.sum_duplicates()
    rows.eliminate_zeros()
    columns = rows.tocsc()
    # The most constrained columns first: on bundle adjustment this reaches the 12 colours that one row needs.
    order = np.argsort(-np.diff(columns.indptr), kind="stable").astype(np.int32)
    colour = np.zeros(rows.shape[1], dtype=np.int32)
    words = 1
    while not colour_columns(
        columns.indptr, columns.indices, order, np.zeros((rows.shape[0], words), dtype=np.uint64), colour
    ):
        words *= 2
    num_colours = int(colour.max(initial=-1)) + 1
    entry_ptr, entry = counting_sort(colour[rows.indices], num_colours)
    row = np.repeat(np.arange(rows.shape[0], dtype=np.int32), np.diff(rows.indptr))[entry]
    column_ptr, column = counting_sort(colour, num_colours)
    return Sparsity(rows.shape, rows.indptr, rows.indices, column_ptr, column, entry_ptr, entry, row)


@dataclass(frozen=True)
class FiniteDifferences:
    """J(x) by differences of ``fun``.

    Parameters
    ----------
    fun : callable
        f, returning a 1-D array; to be pickled where ``workers`` are other processes.
    scheme : {"2-point", "3-point", "cs"}
    relative_step : array_like or None
        h_j = relative_step_j · |x_j|, with the sign of x_j; the rule above where None, or where that vanishes.
    lower, upper : (n,)
        No evaluation leaves this box; a complex step is no move.
    sparsity
        J dense where None.
    workers
        Like ``map``.
    """

    fun: Callable[[Any], Any]
    scheme: Scheme
    relative_step: Any
    lower: Array
    upper: Array
    sparsity: Sparsity | None = None
    workers: MapLike = map

    def __call__(self, x: Array, f0: npt.NDArray[Any], lengths: Array | float = 1.0) -> Array | sp.csr_array:
        """J at x, where f is f0; ``lengths`` are the L_j."""
        stencil = self._stencil(x, self.steps(x, f0, lengths))
        differences = self._differences(x, f0.astype(np.float64), stencil)
        if self.sparsity is None:
            J = np.empty((len(f0), len(x)), order="F")
            for column, difference in enumerate(differences):
                J[:, column] = difference / stencil.divisor[column]
            return J
        s = self.sparsity
        data = np.empty(len(s.entry))
        for colour, difference in enumerate(differences):
            part = slice(s.entry_ptr[colour], s.entry_ptr[colour + 1])
            entry = s.entry[part]
            data[entry] = difference[s.row[part]] / stencil.divisor[s.indices[entry]]
        return csr_of(s, data)

    def steps(self, x: Array, f0: npt.NDArray[Any], lengths: Array | float = 1.0) -> Array:
        """Steps h_j wished for, bounds apart; those of f in single precision are as much longer as it is coarser."""
        sign = np.where(x >= 0.0, 1.0, -1.0)
        if self.scheme == "cs":
            usual: Array = COMPLEX_STEP * sign * np.maximum(1.0, np.abs(x))
        else:
            eps = float(np.finfo(f0.dtype).eps if np.issubdtype(f0.dtype, np.floating) else np.finfo(np.float64).eps)
            power = 0.5 if self.scheme == "2-point" else 1.0 / 3.0
            usual = eps**power * sign * np.maximum(lengths, np.abs(x))
        if self.relative_step is None:
            return usual
        h = np.asarray(self.relative_step, dtype=np.float64) * sign * np.abs(x)
        unusable = h == 0.0 if self.scheme == "cs" else (x + h) - x == 0.0
        return np.where(unusable, usual, h)

    def _stencil(self, x: Array, h: Array) -> _Stencil:
        """Where each component goes in the one or two evaluations of its group, and what differences are divided by."""
        if self.scheme == "cs":
            return _Stencil((x + 1j * h,), h)
        if self.scheme == "2-point":
            moved = self._clip(x + _inside(x, h, self.lower, self.upper))
            return _Stencil((moved,), moved - x)
        h, one_sided = _inside_both_ways(x, h, self.lower, self.upper)
        first = self._clip(np.where(one_sided, x + h, x - h))
        second = self._clip(np.where(one_sided, x + 2.0 * h, x + h))
        return _Stencil((first, second), second - np.where(one_sided, x, first), one_sided)

    def _clip(self, x: Array) -> Array:
        return np.clip(x, self.lower, self.upper)

    def _groups(self, num_columns: int) -> Iterator[npt.NDArray[Any]]:
        """What moves in each evaluation: an index array."""
        if self.sparsity is None:
            return iter(np.arange(num_columns).reshape(-1, 1))
        return iter(np.split(self.sparsity.column, self.sparsity.column_ptr[1:-1]))

    def _points(self, x: Array, stencil: _Stencil) -> Iterator[npt.NDArray[Any]]:
        """The points to evaluate at; each a new array, for a worker to keep."""
        for group in self._groups(len(x)):
            for moved in stencil.moved:
                point = x.astype(moved.dtype)
                point[group] = moved[group]
                yield point

    def _differences(self, x: Array, f0: Array, stencil: _Stencil) -> Iterator[Array]:
        """The difference ``(m,)`` of each group."""
        evaluations = (_like(f0, f) for f in self.workers(self.fun, self._points(x, stencil)))
        for group in self._groups(len(x)):
            first = next(evaluations)
            if self.scheme == "cs":
                yield np.imag(first)
            elif self.scheme == "2-point":
                yield first - f0
            else:
                second = next(evaluations)
                difference = second - first
                rows = self._rows_of(group[stencil.one_sided[group]])
                difference[rows] = 4.0 * first[rows] - 3.0 * f0[rows] - second[rows]
                yield difference

    def _rows_of(self, columns: npt.NDArray[Any]) -> Any:
        """Rows in which some columns of one group may differ from 0."""
        if not len(columns):
            return slice(0)
        if self.sparsity is None:
            return slice(None)
        chosen = np.zeros(self.sparsity.shape[1], dtype=bool)
        chosen[columns] = True
        return self.sparsity.row[chosen[self.sparsity.indices[self.sparsity.entry]]]


class DifferencedJacobian:
    """J(x) by differences whose lengths L_j follow from the Jacobians before."""

    def __init__(self, differences: FiniteDifferences) -> None:
        self._differences = differences
        self._lengths: Array | float = 1.0
        self._largest = 0.0

    def __call__(self, x: Array, f0: npt.NDArray[Any]) -> Array | sp.csr_array:
        """J at x, where f is f0."""
        J = self._differences(x, f0, self._lengths)
        norms = np.sqrt(squared_column_norms(J))
        f = f0.astype(np.float64, copy=False)
        self._largest = max(self._largest, math.sqrt(quiet_dot(f, f)), float((norms * np.abs(x)).max(initial=0.0)))
        matter = norms > 0.0
        usual = math.exp(np.log(norms[matter]).mean()) if matter.any() else 0.0
        size = max(self._largest, SHORTEST * usual)
        self._lengths = np.minimum(1.0, np.divide(size, norms, out=np.ones_like(norms), where=matter))
        return J


@dataclass(frozen=True)
class _Stencil:
    """x with all components moved, once for each evaluation of a group; what differences are divided by."""

    moved: tuple[npt.NDArray[Any], ...]
    divisor: Array
    one_sided: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))


def _like(f0: Array, f: Any) -> npt.NDArray[Any]:
    """An evaluation, with as many residuals as the first one."""
    f = np.atleast_1d(f)
    if f.shape != f0.shape:
        raise ValueError(f"`fun` returned residuals of shape {f.shape}, and {f0.shape} at the initial point.")
    return f  # type: ignore[no-any-return]


def csr_of(pattern: Sparsity, data: Array) -> sp.csr_array:
    """The matrix of a pattern and its values."""
    J = sp.csr_array((data, pattern.indices, pattern.indptr), shape=pattern.shape)
    J.has_sorted_indices = True
    J.has_canonical_format = True
    return J


def _inside(x: Array, h: Array, lower: Array, upper: Array) -> Array:
    """Turn steps round that leave the box; go to the farther bound where neither way is long enough."""
    outside = (x + h < lower) | (x + h > upper)
    if not outside.any():
        return h
    up, down = upper - x, x - lower
    room = np.maximum(up, down)
    turned = np.where(np.abs(h) <= room, -h, np.where(up >= down, up, -down))
    return np.where(outside, turned, h)


def _inside_both_ways(x: Array, h: Array, lower: Array, upper: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Steps to both sides where both have room; else of two lengths to the side with more, or shorter to both."""
    h = np.abs(h)
    up, down = upper - x, x - lower
    one_sided = ~((down >= h) & (up >= h))
    if not one_sided.any():
        return h, one_sided
    away = np.where(up >= down, np.minimum(h, 0.5 * up), -np.minimum(h, 0.5 * down))
    near = np.minimum(up, down)
    shorter = one_sided & (np.abs(away) <= near)
    h = np.where(shorter, near, np.where(one_sided, away, h))
    return h, one_sided & ~shorter
