"""Products with the Schur complement without forming it: each reads J once.

With J_k and J_e the kept and eliminated columns of J, S x = J_kᵀ (J_k x − J_e (V + D)⁻¹ J_eᵀ J_k x) + D x: what an
eliminated block contributes is computed from its own residual blocks while these are in cache.

In single precision, in which J is stored then, J_e is replaced by Q = J_e L_e⁻ᵀ, L_e L_eᵀ = V_e + D_e. Where D is small,
I − Q Qᵀ projects onto the complement of the range of J_e, as the orthogonal factor of a QR decomposition of the points'
columns does: no digits are lost in a difference of H and W V⁻¹ Wᵀ, however nearly dependent these columns are. L_e is found
in double precision.

References
----------
N. Demmel, C. Sommer, D. Cremers, V. Usenko, "Square Root Bundle Adjustment for Large-Scale Reconstruction", CVPR 2021.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sparselm._jit import sizes_for
from sparselm.kernels.products import jacobian_product, transposed_product
from sparselm.kernels.reduced_products import (
    GATHER,
    SCATTER,
    WHOLE,
    implicit_product,
    projected_diagonal,
    sum_lanes,
)
from sparselm.kernels.schur import apply_inverses, orthogonalize
from sparselm.linear_solvers.base import Precision
from sparselm.linear_solvers.normal_equations import BlockPattern, BlockSums
from sparselm.linear_solvers.schur.complement import ReducedPattern
from sparselm.linear_solvers.schur.elimination import Elimination
from sparselm.linear_solvers.schur.partition import Partition
from sparselm.linear_solvers.schur.reduced_system import AbstractSchurSystem

if TYPE_CHECKING:
    from sparselm.linearization import JacobianArray, Linearization
    from sparselm.structure import Span, SpanOperand

Array = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]

#: Kept operands of a residual block for which there are kernels of known sizes.
MOST_KEPT = 4

# Vectors over the kept columns that eliminated blocks are summed into side by side: their number decides in which order sums
# are made, and must not depend on the number of threads.
LANES = 16


@dataclass(frozen=True, slots=True)
class _Kept:
    """A kept operand of a span; ``column`` tells, by row, where its block begins in a vector."""

    operand: SpanOperand
    column: LongArray


@dataclass(frozen=True, slots=True)
class _Terms:
    """A span with an eliminated operand: its rows, each with the residual blocks that touch it.

    Attributes
    ----------
    part : int
        Number of the eliminated blocks among those of the partition.
    number : (num_rows + 1,) int32
        Eliminated block of each row, −1 for rows that are not, and at the end.
    projected : (num_blocks,) int32
        Row of each residual block, the one at the end where it touches a kept block twice.
    rows, ptr, order
        Rows that are touched, and the residual blocks of each, ``order[ptr[q]:ptr[q + 1]]``.
    lane_row : (LANES + 1,) int64
        Which of them each lane takes.
    sizes : (dim, d, k, …)
        What the kernel is compiled for, d and k being widths of the eliminated and of the kept operands; zeros if for any
        sizes, and any number of kept operands.
    starts, widths : (num_kept_operands,) int64
        Columns of J of the kept operands.
    places : (num_kept_operands, num_blocks) int64
        Where the kept blocks begin in a vector; empty for known sizes.
    whole : bool
        No other span touches these blocks and kept ones.
    """

    span: Span
    kept: tuple[_Kept, ...]
    eliminated: SpanOperand
    part: int
    number: IndexArray
    projected: IndexArray
    rows: IndexArray
    ptr: LongArray
    order: IndexArray
    lane_row: LongArray
    longest: int
    sizes: tuple[int, ...]
    starts: LongArray
    widths: LongArray
    places: LongArray
    whole: bool


class ImplicitSystem(AbstractSchurSystem):
    """S as a product: hardly any memory besides J and, in single precision, Q."""

    def __init__(self, partition: Partition, precision: Precision) -> None:
        super().__init__(partition)
        structure = partition.structure
        self._elimination = Elimination(partition)
        self._columns = len(partition.columns)
        # Blocks that are not kept begin after the end, in a tail that nobody looks at.
        widest = int(np.diff(structure.block_columns).max(initial=0))
        self._x: Array = np.zeros(self._columns + widest)
        self._y: Array = np.zeros((LANES, self._columns + widest))
        self._sum: Array = np.zeros(self._columns + widest)
        self._kept_first = np.full(structure.num_blocks + 1, self._columns, dtype=np.int64)
        self._kept_first[partition.kept] = partition.first[:-1]
        self._terms: list[_Terms] = []
        self._bare: list[tuple[Span, tuple[_Kept, ...]]] = []
        for span in structure.spans:
            self._add(span)
        self._w = [np.zeros((len(p.blocks), p.size)) for p in partition.eliminated]
        rows = max((span.num_blocks * span.dim for span, _ in self._bare), default=0)
        self._v: Array = np.zeros(rows)
        slots = [k.operand.gather.num_slots * k.operand.width for _, kept in self._bare for k in kept]
        self._partial: Array = np.zeros(max(slots, default=0))
        self._has_basis = precision == "float32"
        self._Q = [
            np.zeros((t.span.num_blocks, t.span.dim, t.eliminated.width), dtype=np.float32) if self._has_basis else None
            for t in self._terms
        ]
        self._diagonal_sums = self._bind_diagonal()
        self._H: Array = np.zeros(int((partition.sizes.astype(np.int64) ** 2).sum()))
        self._has_H = False
        self._pattern: ReducedPattern | None = None

    def _add(self, span: Span) -> None:
        """Note what a span contributes."""
        partition = self.partition
        present = [o for o in span.operands if o.width]
        kept = tuple(
            _Kept(o, self._kept_first[o.layout.block])
            for o in present
            if (partition.kept_number[o.layout.block[o.index]] >= 0).any()
        )
        if not kept:
            return
        for part, own in enumerate(partition.eliminated):
            number = np.full(partition.structure.num_blocks + 1, -1, dtype=np.int32)
            number[own.blocks] = np.arange(len(own.blocks), dtype=np.int32)
            for o in present:
                of_row = np.append(number[o.layout.block], np.int32(-1))
                if o.width == own.size and (of_row[o.index] >= 0).any():
                    terms = self._make_terms(span, kept, o, part, of_row)
                    self._terms.append(terms)
                    return
        self._bare.append((span, kept))

    def _make_terms(
        self, span: Span, kept: tuple[_Kept, ...], operand: SpanOperand, part: int, number: IndexArray
    ) -> _Terms:
        g = operand.gather
        first = np.flatnonzero(np.append(True, np.diff(g.piece_row) != 0))
        rows, ptr = g.piece_row[first], np.append(g.piece_ptr[first], span.num_blocks).astype(np.int64)
        lane_row = np.searchsorted(ptr, np.arange(LANES + 1) * (span.num_blocks / LANES)).astype(np.int64)
        lane_row[-1] = len(rows)
        own = number[rows][number[rows] >= 0]
        alone = not any(np.isin(own, t.number[t.rows]).any() for t in self._terms if t.part == part)
        if not alone:
            self._terms = [replace(t, whole=False) if t.part == part else t for t in self._terms]
        longest = int(np.diff(ptr).max(initial=0))
        projected = np.where(_touches_twice(span, kept), len(number) - 1, operand.index).astype(np.int32)
        structure = self.partition.structure
        widths = [k.operand.width for k in kept]
        sizes = sizes_for(structure.num_alike(span), span.dim, operand.width, *widths, *[0] * (MOST_KEPT - len(kept)))
        if len(kept) > MOST_KEPT:
            sizes = (0,) * (2 + MOST_KEPT)
        places = np.zeros((0, 0), dtype=np.int64)
        if not sizes[0]:
            places = np.stack([k.column[k.operand.index] for k in kept])
        starts = np.array([k.operand.start for k in kept], dtype=np.int64)
        return _Terms(
            span, kept, operand, part, number, projected, rows, ptr, g.order, lane_row, longest, sizes, starts,
            np.array(widths, dtype=np.int64), places, alone,
        )  # fmt: skip

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
        self._has_H = False

    def factorize(self, damping: Array) -> int:
        self.set_damping(damping)
        block = self._elimination.factor(damping)
        if block < 0:
            for terms, Q in zip(self._terms, self._Q, strict=True):
                if Q is not None:
                    o, inverse = terms.eliminated, self._elimination.parts[terms.part].inverse
                    J = self._blocks(terms.span)
                    sizes = sizes_for(self._num_alike(terms.span), terms.span.dim, o.width)
                    orthogonalize(*sizes)(J, o.start, o.index, terms.number, inverse, Q)
        return block

    def _blocks(self, span: Span) -> JacobianArray:
        assert self.linearization is not None
        return self.linearization.blocks(span)

    def _run(self, mode: int, turn: int, *, with_x: bool) -> None:
        """One pass over the residual blocks of a span."""
        t, Q = self._terms[turn], self._Q[turn]
        J = self._blocks(t.span)
        E, at_e = (J, t.eliminated.start) if Q is None else (Q, 0)
        w = self._w[t.part]
        kept = [(k.operand.index, k.column) for k in t.kept[:MOST_KEPT]]
        indices, columns = zip(*kept, *[(t.order, t.ptr)] * (MOST_KEPT - len(kept)), strict=True)
        implicit_product(*t.sizes, int(Q is not None))(
            mode, with_x, t.lane_row, t.rows, t.ptr, t.order, t.longest, t.number,
            self._elimination.parts[t.part].inverse, J, E, at_e, t.starts, t.widths, t.places, *indices, *columns, self._x,
            w, w, self._y,
        )  # fmt: skip

    def _gather(self, chosen: list[int]) -> None:
        """w ← J_eᵀ J_k x, or Qᵀ J_k x, from some of the spans."""
        for w in self._w:
            w[:] = 0.0
        for turn in chosen:
            self._run(GATHER, turn, with_x=True)

    def _solve_eliminated(self) -> None:
        """u ← (V + D)⁻¹ w, in place; with the basis Q, u = w."""
        if not self._has_basis:
            for part, w in zip(self._elimination.parts, self._w, strict=True):
                apply_inverses(part.blocks.size)(part.inverse, w, True)

    def multiply(self, x: Array, out: Array) -> None:
        self._x[: self._columns] = x
        pieces = [turn for turn, t in enumerate(self._terms) if not t.whole]
        if pieces:
            self._gather(pieces)
            self._solve_eliminated()
            for turn in pieces:
                self._run(SCATTER, turn, with_x=True)
        for turn, t in enumerate(self._terms):
            if t.whole:
                self._run(WHOLE, turn, with_x=True)
        sum_lanes(self._y, self._sum)
        self._add_bare()
        out[:] = self._sum[: self._columns]
        self.add_damping(x, out)

    def _add_bare(self) -> None:
        """Add J_kᵀ J_k x of the spans without an eliminated operand."""
        for span, kept in self._bare:
            J, v = self._blocks(span), self._v[: span.num_blocks * span.dim].reshape(span.num_blocks, span.dim)
            for turn, k in enumerate(kept):
                o = k.operand
                sizes = sizes_for(self._num_alike(span), span.dim, o.width)
                jacobian_product(*sizes)(J, o.start, o.width, o.index, k.column, self._x, v, turn > 0)
            for k in kept:
                o, g = k.operand, k.operand.gather
                partial = self._partial[: g.num_slots * o.width].reshape(g.num_slots, o.width)
                transposed_product(*sizes_for(self._num_alike(span), span.dim, o.width), False)(
                    g.order, g.piece_row, g.piece_ptr, g.piece_slot, g.split_row, g.split_ptr, g.task_ptr, J, o.start,
                    o.width, v, k.column, partial, self._sum, self._sum,
                )  # fmt: skip

    def forward(self, b: Array, reduced: Array) -> None:
        for part, w in zip(self._elimination.parts, self._w, strict=True):
            w[:] = part.begin(b)
            if not self._has_basis:  # J_e (V + D)⁻¹ b_e = J_e L⁻ᵀ c
                apply_inverses(part.blocks.size)(part.inverse, w, False)
        for turn in range(len(self._terms)):
            self._run(SCATTER, turn, with_x=False)
        sum_lanes(self._y, self._sum)
        np.add(b[self.partition.columns], self._sum[: self._columns], out=reduced)
        if self.any_held:
            reduced[self.held] = 0.0

    def backward(self, reduced: Array, x: Array) -> None:
        x[self.partition.columns] = reduced
        self._x[: self._columns] = reduced
        self._gather(list(range(len(self._terms))))
        for part, w in zip(self._elimination.parts, self._w, strict=True):
            part.finish(w, x, orthonormal=self._has_basis)

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
        for t in self._terms:
            inverse, J = self._elimination.parts[t.part].inverse, self._blocks(t.span)
            for k in t.kept:
                o, g = k.operand, k.operand.gather
                partial = np.zeros((g.num_slots, o.width * o.width))
                d = t.eliminated.width
                projected_diagonal(*sizes_for(self._num_alike(t.span), t.span.dim, o.width, d))(
                    g.order, g.piece_row, g.piece_ptr, g.piece_slot, g.split_row, g.split_ptr, g.task_ptr, J, o.start,
                    t.eliminated.start, o.width, d, t.projected, t.number, inverse,
                    place[self.partition.kept_number[o.layout.block]], partial, out,
                )  # fmt: skip
        self.finish_diagonal(out)

    def _num_alike(self, span: Span) -> int:
        return self.partition.structure.num_alike(span)


def _touches_twice(span: Span, kept: tuple[_Kept, ...]) -> npt.NDArray[np.bool_]:
    """Residual blocks of which two kept operands are the same block.

    What each operand alone would take off the diagonal of S may then be more than is there.
    """
    found = np.zeros(span.num_blocks, dtype=bool)
    for turn, one in enumerate(kept):
        for other in kept[:turn]:
            if one.operand.variables == other.operand.variables:
                found |= one.operand.index == other.operand.index
    return found
