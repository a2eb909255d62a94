"""Products with the Schur complement without forming it: two passes over J.

With Q = J_e L_e⁻ᵀ of every residual block, L_e L_eᵀ = V_e + D_e, and J_k the kept columns,

    S x = J_kᵀ (I − Q Qᵀ) J_k x + D x.

Where D is small, I − Q Qᵀ projects onto the complement of the range of J_e, as the orthogonal factor of a QR decomposition of
the points' columns does: no digits are lost in a difference of H and W V⁻¹ Wᵀ. So J_k and Q may be kept in single precision;
L_e is found in double precision from the Jacobian itself.

References
----------
N. Demmel, C. Sommer, D. Cremers, V. Usenko, "Square Root Bundle Adjustment for Large-Scale Reconstruction", CVPR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sparselm.kernels.products import jacobian_product, transposed_product
from sparselm.kernels.reduced_products import convert, projected_diagonal
from sparselm.kernels.schur import orthogonalize
from sparselm.linear_solvers.block_cholesky.numeric import Precision
from sparselm.linear_solvers.normal_equations import BlockPattern, BlockSums
from sparselm.linear_solvers.schur.complement import ReducedPattern
from sparselm.linear_solvers.schur.elimination import Elimination
from sparselm.linear_solvers.schur.partition import Partition
from sparselm.linear_solvers.schur.reduced_system import AbstractSchurSystem

if TYPE_CHECKING:
    from sparselm.linearization import Linearization
    from sparselm.structure import Span, SpanOperand

Array = npt.NDArray[np.float64]
LongArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Side:
    """An operand of a span as an operand of products: ``column`` tells, by row, where its block begins in a vector."""

    operand: SpanOperand
    column: LongArray
    partial: Array


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a span contributes: its kept operands, and the eliminated ones with Q."""

    span: Span
    kept: tuple[_Side, ...]
    eliminated: tuple[_Side, ...]
    Q: tuple[Array, ...]
    number: tuple[npt.NDArray[np.int32], ...]
    part: tuple[int, ...]


class ImplicitSystem(AbstractSchurSystem):
    """S as a product: memory for Q, d numbers for each residual, and for a copy of J in single precision if asked for."""

    def __init__(self, partition: Partition, precision: Precision) -> None:
        super().__init__(partition)
        structure = partition.structure
        self._elimination = Elimination(partition)
        self._dtype = np.dtype(precision)
        self._columns = len(partition.columns)
        widest = int(np.diff(structure.block_columns).max(initial=0))
        # Blocks of the other kind begin after the end, in a tail that nobody looks at.
        self._x: Array = np.zeros(self._columns + widest)
        self._y: Array = np.zeros(self._columns + widest)
        starts = np.cumsum([0] + [p.size * len(p.blocks) for p in partition.eliminated])
        self._starts = starts
        self._t: Array = np.zeros(int(starts[-1]) + widest)
        self._v: Array = np.zeros(structure.num_rows)
        self._kept_first = np.full(structure.num_blocks + 1, self._columns, dtype=np.int64)
        self._kept_first[partition.kept] = partition.first[:-1]
        self._terms = tuple(self._make_terms(span) for span in structure.spans)
        self._single = np.zeros(structure.num_values, dtype=np.float32) if self._dtype.itemsize == 4 else None
        self._diagonal_sums = self._bind_diagonal()
        self._H: Array = np.zeros(int((partition.sizes.astype(np.int64) ** 2).sum()))
        self._has_H = False
        self._pattern: ReducedPattern | None = None

    def _make_terms(self, span: Span) -> _Terms:
        partition = self.partition
        kept, eliminated, Q, numbers, parts = [], [], [], [], []
        for operand in span.operands:
            if not operand.width:
                continue
            block = operand.layout.block
            if (partition.kept_number[block[operand.index]] >= 0).any():
                kept.append(self._side(operand, self._kept_first[block]))
            for part, own in enumerate(partition.eliminated):
                number = np.full(partition.structure.num_blocks + 1, -1, dtype=np.int32)
                number[own.blocks] = np.arange(len(own.blocks), dtype=np.int32)
                of_row = number[block]
                if own.size == operand.width and (of_row[operand.index] >= 0).any():
                    column = np.where(of_row >= 0, self._starts[part] + own.size * of_row.astype(np.int64), self._starts[-1])
                    eliminated.append(self._side(operand, column))
                    Q.append(np.zeros((span.num_blocks, span.dim, own.size), dtype=self._dtype))
                    numbers.append(of_row)
                    parts.append(part)
        return _Terms(span, tuple(kept), tuple(eliminated), tuple(Q), tuple(numbers), tuple(parts))

    def _side(self, operand: SpanOperand, column: LongArray) -> _Side:
        return _Side(operand, column, np.zeros((operand.gather.num_slots, operand.width)))

    def _bind_diagonal(self) -> BlockSums:
        """The sums of the diagonal blocks of H; products of different kept blocks go to a place after them."""
        partition = self.partition
        pattern = BlockPattern(partition.structure, partition.kept, diagonal_only=True)
        every = np.arange(partition.num_kept, dtype=np.int32)
        none = np.zeros(0, dtype=np.int64)
        return BlockSums(pattern, every, self.place, partition.sizes, none, every[:0], packed=False)

    @property
    def pattern(self) -> ReducedPattern:
        if self._pattern is None:
            self._pattern = ReducedPattern(self.partition)
        return self._pattern

    @property
    def elimination(self) -> Elimination:
        return self._elimination

    def make_couplings(self) -> None:
        assert self.linearization is not None
        self._elimination.couple(self.linearization)

    # -- numbers --------------------------------------------------------------------------------------------------------

    def prepare(self, linearization: Linearization) -> None:
        self.linearization = linearization
        self._elimination.prepare(linearization)
        if self._single is not None:
            convert(linearization.values, self._single)
        self._has_H = False

    def factorize(self, damping: Array) -> int:
        assert self.linearization is not None
        self.set_damping(damping)
        block = self._elimination.factor(damping)
        if block < 0:
            for terms in self._terms:
                J = self.linearization.blocks(terms.span)
                for side, Q, number, part in zip(terms.eliminated, terms.Q, terms.number, terms.part, strict=True):
                    d, inverse = side.operand.width, self._elimination.parts[part].inverse
                    orthogonalize(terms.span.dim, d)(J, side.operand.start, side.operand.index, number, inverse, Q)
        return block

    def _blocks(self, span: Span) -> Array:
        if self._single is None:
            assert self.linearization is not None
            return self.linearization.blocks(span)
        return self._single[span.values].reshape(span.num_blocks, span.dim, span.width)

    def _rows(self, span: Span) -> Array:
        return self._v[span.rows].reshape(span.num_blocks, span.dim)

    def _multiply_kept(self, x: Array) -> None:
        """v ← J_k x."""
        self._x[: self._columns] = x
        for terms in self._terms:
            target, started = self._rows(terms.span), False
            for side in terms.kept:
                o = side.operand
                jacobian_product(terms.span.dim, o.width)(
                    self._blocks(terms.span), o.start, o.index, side.column, self._x, target, started
                )
                started = True
            if not started:
                target[:] = 0.0

    def _multiply_kept_transposed(self, out: Array) -> None:
        """out ← J_kᵀ v."""
        self._y[:] = 0.0
        for terms in self._terms:
            for side in terms.kept:
                self._gather(terms.span, side, self._blocks(terms.span), side.operand.start, self._y)
        out[:] = self._y[: self._columns]

    def _gather(self, span: Span, side: _Side, J: Array, start: int, out: Array) -> None:
        g = side.operand.gather
        transposed_product(span.dim, side.operand.width, False)(
            g.order, g.piece_row, g.piece_ptr, g.piece_slot, g.split_row, g.split_ptr, g.task_ptr, J, start,
            self._rows(span), side.column, side.partial, out, out,
        )  # fmt: skip

    def _project(self) -> None:
        """t ← Qᵀ v."""
        self._t[:] = 0.0
        for terms in self._terms:
            for side, Q in zip(terms.eliminated, terms.Q, strict=True):
                self._gather(terms.span, side, Q, 0, self._t)
        self._t[self._starts[-1] :] = 0.0

    def _add_basis(self, *, onto_zero: bool) -> None:
        """v ← v + Q t, or Q t alone."""
        for terms in self._terms:
            target, started = self._rows(terms.span), not onto_zero
            for side, Q in zip(terms.eliminated, terms.Q, strict=True):
                o = side.operand
                jacobian_product(terms.span.dim, o.width)(Q, 0, o.index, side.column, self._t, target, started)
                started = True
            if not started:
                target[:] = 0.0

    def multiply(self, x: Array, out: Array) -> None:
        self._multiply_kept(x)
        self._project()
        np.negative(self._t, out=self._t)
        self._add_basis(onto_zero=False)
        self._multiply_kept_transposed(out)
        self.add_damping(x, out)

    def forward(self, b: Array, reduced: Array) -> None:
        for part, start in zip(self._elimination.parts, self._starts, strict=False):
            c = part.begin(b)
            self._t[start : start + c.size] = c.reshape(-1)
        self._add_basis(onto_zero=True)
        self._multiply_kept_transposed(reduced)
        np.subtract(b[self.partition.columns], reduced, out=reduced)
        if self.any_held:
            reduced[self.held] = 0.0

    def backward(self, reduced: Array, x: Array) -> None:
        x[self.partition.columns] = reduced
        self._multiply_kept(reduced)
        self._project()
        for part, start in zip(self._elimination.parts, self._starts, strict=False):
            z = self._t[start : start + part.blocks.size * len(part.blocks.blocks)]
            part.finish(z.reshape(-1, part.blocks.size), x)

    def kept_diagonal(self, out: Array) -> None:
        out[:] = self._kept_blocks()
        self.finish_diagonal(out)

    def _kept_blocks(self) -> Array:
        """Diagonal blocks of H at this point."""
        assert self.linearization is not None
        if not self._has_H:
            self._diagonal_sums.assemble(self.linearization, self._H)
            self._has_H = True
        return self._H

    def schur_diagonal(self, out: Array) -> None:
        out[:] = self._kept_blocks()
        place = np.append(self.place, -1)
        for terms in self._terms:
            for side in terms.kept:
                o, g = side.operand, side.operand.gather
                row_place = place[self.partition.kept_number[o.layout.block]]
                partial = np.zeros((g.num_slots, o.width * o.width))
                for other, Q in zip(terms.eliminated, terms.Q, strict=True):
                    projected_diagonal(terms.span.dim, o.width, other.operand.width)(
                        g.order, g.piece_row, g.piece_ptr, g.piece_slot, g.split_row, g.split_ptr, g.task_ptr,
                        self._blocks(terms.span), o.start, Q, row_place, partial, out,
                    )  # fmt: skip
        self.finish_diagonal(out)
