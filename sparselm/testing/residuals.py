"""The contract of residuals, checked on any instance; public as :func:`sparselm.testing.check_residual`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sparselm.residuals._differences import ResidualBlocks, numeric_jacobian
from sparselm.residuals.base import AbstractResidual, Array, IndexArray, OperandBlocks
from sparselm.threads import use_threads

# Rows of the variables that no block reads: an index array is not the identity.
SPARE_ROWS = 5


def check_residual(residual: AbstractResidual, rng: np.random.Generator | None = None, n: int = 600) -> None:
    """Check a residual against :class:`~sparselm.residuals.base.AbstractResidual`; AssertionError if it fails.

    On n blocks of ``random_operands`` and ``random_data`` it checks that

    * all of r and J is written and finite, and values, index and data are left alone;
    * J is ∂r/∂δ at δ = 0, δ a tangent of each operand in turn, by differences along the retraction, to 10⁻⁶ of the
      column's largest entry and what the differences may be off by;
    * ``evaluate`` and ``linearize`` give the same r, to rounding;
    * holding components constant (−1 in ``columns``) leaves the other columns and r bit for bit as they were;
    * r and J have the same bits on one thread and on several, and however the blocks are cut into batches;
    * a NaN in the operands of a block shows in its residual, and in no other's.

    Parameters
    ----------
    residual : AbstractResidual
        The instance to check. It overrides ``random_operands`` and ``random_data`` where it is not smooth everywhere.
    rng : numpy.random.Generator, optional
        Where the points come from; seeded with 0 by default.
    n : int
        Number of blocks; more than two parallel tasks by default.

    Examples
    --------
    >>> from sparselm.manifolds import Euclidean
    >>> from sparselm.testing import check_residual
    >>> from sparselm.residuals import Prior
    >>> check_residual(Prior(Euclidean(2)))
    """
    batch = _draw_blocks(residual, rng or np.random.default_rng(0), n)
    r, J = batch.linearize(batch.all_columns)
    for name, array in (("r", r), ("J", J)):
        bad = np.argwhere(~np.isfinite(array))
        _require(residual, len(bad) == 0, f"{name}{bad[:1].tolist()} is not finite or was not written by linearize")
    tangent = batch.blocks.tangent_jacobian(J) if residual.ambient_jacobian else J
    rounding = batch.rounding(r, tangent)
    evaluated = batch.evaluate()
    error = np.abs(evaluated - r)
    worst = int(np.argmax(np.max(error - rounding, axis=1)))
    _require(
        residual,
        bool(np.all(error <= rounding)),
        f"evaluate gives {evaluated[worst]} for block {worst}, linearize {r[worst]}",
    )
    _check_threads_and_cuts(batch, evaluated, r, J)
    if not residual.ambient_jacobian:
        _check_held_components(batch, r, J)
    _check_jacobian(batch.blocks, tangent)
    _check_nan(batch, evaluated)


@dataclass(frozen=True)
class _Batches:
    """Blocks as batches see them: their operands stand in rows of larger tables, in a shuffled order."""

    blocks: ResidualBlocks
    index: list[IndexArray]

    @property
    def residual(self) -> AbstractResidual:
        return self.blocks.residual

    @property
    def all_columns(self) -> IndexArray:
        manifolds = self.residual.manifolds
        ambient = self.residual.ambient_jacobian
        return np.arange(sum(m.ambient_dim if ambient else m.tangent_dim for m in manifolds), dtype=np.int32)

    def evaluate(self, points: Sequence[Array] | None = None, cuts: Sequence[int] = ()) -> Array:
        """Residuals, in pieces that end at ``cuts``."""
        r = np.full((self.blocks.num_blocks, self.residual.dim), np.nan)
        for piece, operands, data in self._pieces(points, cuts):
            self.residual.evaluate(operands, data, r[piece])
        return r

    def linearize(self, columns: IndexArray, cuts: Sequence[int] = ()) -> tuple[Array, Array]:
        """Residuals and Jacobians, in pieces that end at ``cuts``; an entry that is not written stays NaN."""
        r = np.full((self.blocks.num_blocks, self.residual.dim), np.nan)
        J = np.full((*r.shape, int(np.count_nonzero(columns >= 0))), np.nan)
        for piece, operands, data in self._pieces(None, cuts):
            self.residual.linearize(operands, data, columns, r[piece], J[piece])
        return r, J

    def rounding(self, r: Array, J: Array) -> Array:
        """What r may lose to rounding: some units in the last place of each operand, and of r; (n, dim).

        J is in the tangent space.
        """
        total = np.abs(r)
        ends = np.cumsum([m.tangent_dim for m in self.residual.manifolds])[:-1]
        for part, x in zip(np.split(J, ends, axis=2), self.blocks.points, strict=True):
            size = np.maximum(1.0, np.max(np.abs(x), axis=1))
            total = total + np.sum(np.abs(part), axis=2) * size[:, None]
        return np.asarray(16.0 * np.finfo(float).eps * total)

    def _pieces(
        self, points: Sequence[Array] | None, cuts: Sequence[int]
    ) -> Iterator[tuple[slice, list[OperandBlocks], list[Array]]]:
        tables = [self._table(k, x) for k, x in enumerate(self.blocks.points if points is None else points)]
        inputs = [array for table in tables for array in table] + list(self.blocks.data)
        given = [array.copy() for array in inputs], [array.copy() for array in self.index]
        for start, stop in zip((0, *cuts), (*cuts, self.blocks.num_blocks), strict=True):
            piece = slice(start, stop)
            operands = [
                OperandBlocks(values, rows[piece], prepared)
                for (values, prepared), rows in zip(tables, self.index, strict=True)
            ]
            yield piece, operands, [array[piece] for array in self.blocks.data]
        same = all(np.array_equal(new, old, equal_nan=True) for new, old in zip(inputs, given[0], strict=True))
        same = same and all(np.array_equal(new, old) for new, old in zip(self.index, given[1], strict=True))
        _require(self.residual, same, "values, prepared numbers, index or data were changed")

    def _table(self, operand: int, x: Array) -> tuple[Array, Array]:
        """All rows of an operand's variables, and what the residual prepares for them."""
        values = np.empty((len(x) + SPARE_ROWS, x.shape[1]))
        values[:] = x[0]
        values[self.index[operand]] = x
        prepared = np.zeros((len(values), self.residual.prepared_dims()[operand]))
        if prepared.size:
            self.residual.prepare(operand, values, prepared, derivatives=True)
        return values, prepared


def _draw_blocks(residual: AbstractResidual, rng: np.random.Generator, n: int) -> _Batches:
    manifolds = residual.manifolds
    _require(residual, residual.dim >= 1, f"dim is {residual.dim}, expected at least 1")
    num_prepared = len(residual.prepared_dims())
    _require(residual, num_prepared == len(manifolds), f"{num_prepared} prepared_dims for {len(manifolds)} operands")
    points = [np.ascontiguousarray(x, dtype=np.float64) for x in residual.random_operands(rng, n)]
    data = [np.ascontiguousarray(x, dtype=np.float64) for x in residual.random_data(rng, n)]
    for method, arrays, row_shapes in (
        ("random_operands", points, [(manifold.ambient_dim,) for manifold in manifolds]),
        ("random_data", data, list(residual.data_shapes)),
    ):
        got, expected = [array.shape for array in arrays], [(n, *shape) for shape in row_shapes]
        _require(residual, got == expected, f"{method} gives arrays of shapes {got}, expected {expected}")
    index = [rng.permutation(n + SPARE_ROWS)[:n].astype(np.int32) for _ in manifolds]
    return _Batches(ResidualBlocks(residual, manifolds, points, data), index)


def _check_jacobian(blocks: ResidualBlocks, J: Array) -> None:
    """J, in the tangent space, against differences; an entry of which they say nothing passes."""
    numeric = numeric_jacobian(blocks)
    with np.errstate(invalid="ignore"):
        size = np.max(np.fmax(np.abs(J), np.abs(numeric.values)), axis=1, keepdims=True)
        excess = np.nan_to_num(np.abs(J - numeric.values) - (1e-6 * size + numeric.errors), nan=-np.inf)
    block, row, column = (int(i) for i in np.unravel_index(np.argmax(excess), excess.shape))
    ends = np.cumsum([manifold.tangent_dim for manifold in blocks.manifolds])
    operand = int(np.searchsorted(ends, column, side="right"))
    component = column - int(ends[operand]) + blocks.manifolds[operand].tangent_dim
    _require(
        blocks.residual,
        bool(np.all(excess <= 0.0)),
        f"d r[{row}] / d component {component} of operand {operand} in block {block}: linearize gives "
        f"{J[block, row, column]:.9g}, differences give {numeric.values[block, row, column]:.9g}",
    )


def _check_held_components(batch: _Batches, r: Array, J: Array) -> None:
    owner = np.repeat(np.arange(len(batch.index)), [m.tangent_dim for m in batch.residual.manifolds])
    component = np.arange(len(owner))
    masks = [owner != k for k in range(len(batch.index))]
    masks += [component % 2 == 0, component % 3 != 1, component == len(owner) - 1, component < 0]
    for free in masks:
        columns = np.where(free, np.cumsum(free) - 1, -1).astype(np.int32)
        held_r, held_J = batch.linearize(columns)
        same = np.array_equal(held_J, J[:, :, free]) and np.array_equal(held_r, r)
        _require(batch.residual, same, f"r or the columns that are left change with columns = {columns.tolist()}")


def _check_threads_and_cuts(batch: _Batches, evaluated: Array, r: Array, J: Array) -> None:
    n = batch.blocks.num_blocks
    cases: list[tuple[str, int | None, list[int]]] = [("on one thread", 1, [])]
    for cuts in ([1], [n // 3, n // 2], [n // 2, n // 2], list(range(7, n, 97))):
        cases.append((f"in batches that end at {cuts}", None, cuts))
    for name, num_threads, cuts in cases:
        with use_threads(num_threads):
            again_r, again_J = batch.linearize(batch.all_columns, cuts)
            again_evaluated = batch.evaluate(cuts=cuts)
        _require(batch.residual, np.array_equal(again_evaluated, evaluated), f"evaluate gives other bits {name}")
        same = np.array_equal(again_r, r) and np.array_equal(again_J, J)
        _require(batch.residual, same, f"linearize gives other bits {name}")


def _check_nan(batch: _Batches, evaluated: Array) -> None:
    block = batch.blocks.num_blocks // 2
    points = [x.copy() for x in batch.blocks.points]
    for x in points:
        x[block] = np.nan
    r = batch.evaluate(points)
    _require(batch.residual, bool(np.any(np.isnan(r[block]))), "the residual of a block whose operands are NaN is not")
    same = np.array_equal(np.delete(r, block, axis=0), np.delete(evaluated, block, axis=0))
    _require(batch.residual, same, "a NaN spoils the other blocks of its batch")


def _require(subject: object, condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(f"{subject!r}: {message}")
