"""The numeric half of a problem: it owns the points and the buffers, and calls residuals, weights and losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from sparselm.box import make_box
from sparselm.errors import NonFiniteStartError
from sparselm.kernels.correction import correct_for_loss, round_blocks, scale_blocks, squared_norms, whiten_blocks
from sparselm.linear_solvers.base import Precision
from sparselm.linearization import JacobianArray, Linearization
from sparselm.losses.base import AbstractLoss
from sparselm.manifolds.base import AbstractManifold
from sparselm.problem import Problem, ResidualGroup
from sparselm.residuals.base import AbstractResidual, OperandBlocks
from sparselm.structure import Span, SpanOperand, Structure
from sparselm.threads import quiet_dot

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Point = list[Array]

# Blocks whose residuals, Jacobian and loss pass through the cache together.
CHUNK = 2**15


@dataclass(frozen=True, slots=True)
class _Batch:
    """A stretch of a span with everything its kernels take, for the current and for the trial point.

    Residuals, weights and losses write J in double precision, into a buffer that all batches share where ``stored``, its
    place, is in another one.
    """

    residual: AbstractResidual
    manifolds: tuple[AbstractManifold, ...]
    blocks: tuple[tuple[OperandBlocks, ...], tuple[OperandBlocks, ...]]
    data: tuple[Array, ...]
    weight: Array | None
    loss: AbstractLoss | None
    columns: npt.NDArray[np.int32]
    r: Array
    trial_r: Array
    J: Array
    stored: JacobianArray | None


@dataclass(frozen=True, slots=True)
class _Preparation:
    """Per-row work of one residual on one operand, kept in one buffer for both points (the newest wins)."""

    residual: AbstractResidual
    operand: int
    variables: int
    out: Array


class Evaluator:
    """Owns the current and the trial point and all buffers; residual kernels are called here and nowhere else."""

    def __init__(self, problem: Problem, structure: Structure, precision: Precision = "float64") -> None:
        self.structure = structure
        self.linearization = Linearization(structure, precision)
        self.held = structure.held_columns(problem)
        self.box = make_box(problem, structure)
        self._manifolds = [v.manifold for v in problem.variables]
        self._names = [v.name for v in problem.variables]
        self._points: tuple[Point, Point] = (
            [v.values.copy() for v in problem.variables],
            [v.values.copy() for v in problem.variables],
        )
        self._current = 0
        self._trial_residual = np.zeros(structure.num_rows)
        self._tangent = [
            None if layout.present is None else np.zeros((layout.num_rows, layout.tangent_dim))
            for layout in structure.variables
        ]
        self._free_index = [
            None if layout.present is None else np.flatnonzero(layout.present) for layout in structure.variables
        ]
        self._held_rows = [
            v.fixed.all(axis=1, keepdims=True) if v.fixed is not None and v.fixed.all(axis=1).any() else None
            for v in problem.variables
        ]
        self._groups = list(problem.residuals)
        self._preparations: list[_Preparation] = []
        self._rounds = precision != "float64"
        sizes = (min(CHUNK, s.num_blocks) * s.dim * s.width for s in structure.spans if self._rounds)
        self._double: Array = np.zeros(max(sizes, default=0))
        self._batches: list[list[_Batch]] = [self._bind(span) for span in structure.spans]
        self._held_entries = [] if self.held is None else self._find_held_entries(self.held)
        longest = max((len(b.r) for batches in self._batches for b in batches if b.loss is not None), default=0)
        self._s = np.zeros(longest)
        self._rho = np.zeros((longest, 3))

    # -- points ---------------------------------------------------------------------------------------------------------

    @property
    def point(self) -> Point:
        """Values of each variable group at the current point."""
        return self._points[self._current]

    def move_trial(self, delta: Array) -> None:
        """Set the trial point to x ⊞ δ, brought inside the bounds."""
        trial = self._points[1 - self._current]
        for number, layout in enumerate(self.structure.variables):
            own = delta[layout.start : layout.stop]
            tangent = self._tangent[number]
            if tangent is None:
                tangent = own.reshape(layout.num_rows, layout.tangent_dim)
            else:
                tangent.reshape(-1)[self._free_index[number]] = own
            if len(own):
                self._manifolds[number].retract(self.point[number], tangent, trial[number])
                rows = self._held_rows[number]
                if rows is not None:  # a retraction by zero may still round
                    np.copyto(trial[number], self.point[number], where=rows)
        if self.box is not None:
            self.box.settle(delta, trial)

    def accept_trial(self) -> None:
        """Make the trial point the current one."""
        self._current = 1 - self._current

    # -- evaluation -----------------------------------------------------------------------------------------------------

    def linearize(self) -> Linearization:
        """Refresh residuals, Jacobian, gradient, diagonal and cost at the current point."""
        self._prepare(self._current, derivatives=True)
        lin = self.linearization
        robust = 0.0
        plain_rows: list[slice] = []
        for span, batches in zip(self.structure.spans, self._batches, strict=True):
            for batch in batches:
                _linearize_batch(batch, batch.blocks[self._current])
                _whiten(batch.weight, batch.r, batch.J)
                if batch.loss is not None:
                    s, rho = self._apply_loss(batch.loss, batch.r)
                    correct_for_loss(s, rho, batch.r, batch.J)
                    robust += float(rho[:, 0].sum())
                if batch.stored is not None:
                    round_blocks(batch.J, batch.stored)
            if batches[0].loss is None:
                plain_rows.append(span.rows)
        for J, blocks, column in self._held_entries:
            J[blocks, :, column] = 0.0
        lin.cost = 0.5 * (robust + sum(lin.dot(lin.residual[rows], lin.residual[rows]) for rows in plain_rows))
        lin.update_gradient(self.held)
        return lin

    def trial_cost(self) -> float:
        """The cost at the trial point; not finite where a block is not."""
        self._evaluate(1 - self._current)
        robust = 0.0
        plain = 0.0
        for span, batches in zip(self.structure.spans, self._batches, strict=True):
            if batches[0].loss is None:
                rows = self._trial_residual[span.rows]
                plain += self.linearization.dot(rows, rows)
            else:
                for batch in batches:
                    assert batch.loss is not None
                    robust += float(self._apply_loss(batch.loss, batch.trial_r)[1][:, 0].sum())
        return 0.5 * (robust + plain)

    def trial_residuals(self, out: Array) -> bool:
        """Write the whitened residuals at the trial point, before losses; False where one is not finite."""
        self._evaluate(1 - self._current)
        out[:] = self._trial_residual
        return bool(np.isfinite(self.linearization.dot(out, out)))

    def num_invalid_trial_blocks(self) -> int:
        """Blocks of the trial point whose residual is not finite."""
        return sum(int((~np.isfinite(b.trial_r)).any(axis=1).sum()) for batches in self._batches for b in batches)

    def squared_norm_of_point(self) -> float:
        """‖x‖² over all variables, ambient."""
        return sum(quiet_dot(values.ravel(), values.ravel()) for values in self.point)

    def _evaluate(self, which: int) -> None:
        self._prepare(which, derivatives=False)
        for batches in self._batches:
            for batch in batches:
                batch.residual.evaluate(batch.blocks[which], batch.data, batch.trial_r)
                _whiten(batch.weight, batch.trial_r, np.empty((*batch.trial_r.shape, 0)))

    def _prepare(self, which: int, *, derivatives: bool) -> None:
        for p in self._preparations:
            p.residual.prepare(p.operand, self._points[which][p.variables], p.out, derivatives=derivatives)

    def _apply_loss(self, loss: AbstractLoss, r: Array) -> tuple[Array, Array]:
        s, rho = self._s[: len(r)], self._rho[: len(r)]
        squared_norms(r, s)
        loss.rho(s, rho)
        if len(s) and not np.isfinite(s.max()):  # a bounded loss is finite even there, and would hide the block
            rho[~np.isfinite(s), 0] = np.nan
        return s, rho

    # -- after the solve ------------------------------------------------------------------------------------------------

    def block_residuals(self) -> list[Array]:
        """W r of every block at the current point, before losses, by residual group, in the user's order."""
        self._evaluate(self._current)
        found = [np.zeros((group.num_blocks, group.residual.dim)) for group in self._groups]
        for span in self.structure.spans:
            own = self._trial_residual[span.rows].reshape(span.num_blocks, span.dim)
            found[span.group][slice(None) if span.order is None else span.order] = own
        return found

    def block_costs(self) -> list[Array]:
        """½ρ(‖W r‖²) of every block at the current point, by residual group, in the user's order."""
        self._evaluate(self._current)
        costs = [np.zeros(group.num_blocks) for group in self._groups]
        for span, batches in zip(self.structure.spans, self._batches, strict=True):
            own = np.concatenate([self._batch_costs(batch) for batch in batches])
            costs[span.group][slice(None) if span.order is None else span.order] = own
        return costs

    def _batch_costs(self, batch: _Batch) -> Array:
        if batch.loss is not None:
            return 0.5 * self._apply_loss(batch.loss, batch.trial_r)[1][:, 0]
        costs: Array = 0.5 * np.einsum("ij,ij->i", batch.trial_r, batch.trial_r)
        return costs

    def remarks(self) -> dict[str, int]:
        """Counts of what residuals find legal but worth telling at the current point."""
        self._prepare(self._current, derivatives=False)
        totals: dict[str, int] = {}
        for batches in self._batches:
            for batch in batches:
                for text, count in batch.residual.remarks(batch.blocks[self._current], batch.data).items():
                    totals[text] = totals.get(text, 0) + count
        return {text: count for text, count in totals.items() if count}

    def check_start(self) -> None:
        """Raise :class:`NonFiniteStartError` naming the first block whose residual or Jacobian is not finite."""
        lin = self.linearization
        if np.isfinite(lin.cost) and np.isfinite(lin.max_abs(lin.gradient)):
            return
        for span in self.structure.spans:
            for what, values in (("residual", lin.block_residuals(span)), ("Jacobian", lin.blocks(span))):
                bad = np.flatnonzero(~np.isfinite(values.reshape(span.num_blocks, -1)).all(axis=1))
                if len(bad):
                    raise NonFiniteStartError(self._describe_bad_block(span, int(bad[0]), what, len(bad)))
        raise NonFiniteStartError("the cost at the start overflows: scale the residuals down")

    def _describe_bad_block(self, span: Span, block: int, what: str, count: int) -> str:
        group = self._groups[span.group]
        original = span.original_block(block)
        with np.printoptions(precision=9, threshold=12):
            operands = ", ".join(
                f"{self._names[o.variables]}[{o.index[block]}] = {self.point[o.variables][o.index[block]]}"
                for o in span.operands
            )
            data = ", ".join(str(array[original]) for array in group.data) or "none"
        return (
            f"residual group {group.name!r}: the {what} of block {original} is not finite at the start ({count} such "
            f"blocks); operands {operands}; data {data}. Correct the start or the data, or leave the block out."
        )

    def _find_held_entries(self, held: BoolArray) -> list[tuple[JacobianArray, npt.NDArray[np.intp], int]]:
        """Columns that are there but held: their derivatives count for nothing, not even where they are not finite."""
        found = []
        for span in self.structure.spans:
            for operand in span.operands:
                first = operand.layout.column[operand.index]
                for component in range(operand.width):
                    blocks = np.flatnonzero(held[first + component])
                    if len(blocks):
                        found.append((self.linearization.blocks(span), blocks, operand.start + component))
        return found

    # -- binding --------------------------------------------------------------------------------------------------------

    def _bind(self, span: Span) -> list[_Batch]:
        group = self._groups[span.group]
        data = group.data if span.order is None else tuple(array[span.order] for array in group.data)
        weight = group.sqrt_information
        if weight is not None and len(weight) > 1 and span.order is not None:
            weight = weight[span.order]
        loss = None if group.loss is None or group.loss.is_trivial else group.loss
        prepared = self._prepared_buffers(group, span.operands)
        r, J = self.linearization.block_residuals(span), self.linearization.blocks(span)
        followed = loss is not None or weight is not None or group.residual.ambient_jacobian or self._rounds
        size = CHUNK if followed else span.num_blocks
        trial_r = self._trial_residual[span.rows].reshape(span.num_blocks, span.dim)

        def blocks(which: int, part: slice) -> tuple[OperandBlocks, ...]:
            return tuple(
                OperandBlocks(self._points[which][o.variables], o.index[part], kept)
                for o, kept in zip(span.operands, prepared, strict=True)
            )

        batches = []
        for begin in range(0, span.num_blocks, size):
            part = slice(begin, min(begin + size, span.num_blocks))
            place = J[part]
            batches.append(
                _Batch(
                    residual=group.residual,
                    manifolds=tuple(self._manifolds[o.variables] for o in span.operands),
                    blocks=(blocks(0, part), blocks(1, part)),
                    data=tuple(array[part] for array in data),
                    weight=weight if weight is None or len(weight) == 1 else weight[part],
                    loss=loss,
                    columns=span.columns,
                    r=r[part],
                    trial_r=trial_r[part],
                    J=self._double[: place.size].reshape(place.shape) if self._rounds else cast(Array, place),
                    stored=place if self._rounds else None,
                )
            )
        return batches

    def _prepared_buffers(self, group: ResidualGroup, operands: Sequence[SpanOperand]) -> list[Array]:
        buffers = []
        for position, (width, operand) in enumerate(zip(group.residual.prepared_dims(), operands, strict=True)):
            known = [
                p for p in self._preparations
                if p.residual is group.residual and p.operand == position and p.variables == operand.variables
            ]  # fmt: skip
            if width and not known:
                out = np.zeros((operand.layout.num_rows, width))
                known = [_Preparation(group.residual, position, operand.variables, out)]
                self._preparations += known
            buffers.append(known[0].out if known else np.zeros((operand.layout.num_rows, 0)))
        return buffers


def _whiten(weight: Array | None, r: Array, J: Array) -> None:
    if weight is None:
        return
    if weight.shape[1:] == (1, 1):
        scale_blocks(weight.reshape(-1), r, J)
    else:
        whiten_blocks(weight, r, J)


def _linearize_batch(batch: _Batch, blocks: tuple[OperandBlocks, ...]) -> None:
    residual = batch.residual
    if not residual.ambient_jacobian:
        residual.linearize(blocks, batch.data, batch.columns, batch.r, batch.J)
        return
    # The residual knows the ambient numbers only: multiply by each operand's plus_jacobian, keep the free columns.
    ambient = [block.values.shape[1] for block in blocks]
    wide = np.empty((*batch.r.shape, sum(ambient)))
    residual.linearize(blocks, batch.data, np.arange(sum(ambient), dtype=np.int32), batch.r, wide)
    begin, component = 0, 0
    for block, width, manifold in zip(blocks, ambient, batch.manifolds, strict=True):
        plus = np.empty((len(wide), width, manifold.tangent_dim))
        manifold.plus_jacobian(block.values[block.index], plus)
        tangent = wide[:, :, begin : begin + width] @ plus
        for c, column in enumerate(batch.columns[component : component + manifold.tangent_dim]):
            if column >= 0:
                batch.J[:, :, column] = tangent[:, :, c]
        begin, component = begin + width, component + manifold.tangent_dim
