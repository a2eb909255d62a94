"""The numeric elimination: factors of the eliminated blocks, their couplings, and right-hand sides there and back.

With x split into kept and eliminated columns, (JᵀJ + D) x = b is

    H x_K + Σ_e W_e x_e = b_K,        W_eᵀ x_K + (V_e + D_e) x_e = b_e.

With V_e + D_e = L_e L_eᵀ, Y_e = W_e L_e⁻ᵀ and c_e = L_e⁻¹ b_e it becomes S x_K = b_K − Σ Y_e c_e, S = H + D − Σ Y_e Y_eᵀ,
and then x_e = L_e⁻ᵀ (c_e − Y_eᵀ x_K).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sparselm._jit import TASK, sizes_for
from sparselm.kernels.schur import (
    backward_blocks,
    couple,
    factor_blocks,
    forward_blocks,
    orthogonalize,
    subtract_eliminated,
    subtract_eliminated_through,
    subtract_forward,
    subtract_kept,
    subtract_kept_through,
)
from sparselm.linear_solvers.block_cholesky.numeric import aligned
from sparselm.linear_solvers.normal_equations import BlockPattern, BlockSums
from sparselm.linear_solvers.schur.partition import Coupling, EliminatedBlocks, Partition, Source

if TYPE_CHECKING:
    from sparselm.linearization import JacobianArray, Linearization

Array = npt.NDArray[np.float64]


class Elimination:
    """Workspace of an elimination.

    Attributes
    ----------
    partition : Partition
    parts : tuple of EliminatedPart
        One for each size of eliminated blocks.
    """

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.parts = tuple(EliminatedPart(partition, blocks) for blocks in partition.eliminated)

    def prepare(self, linearization: Linearization) -> None:
        """Compute V."""
        for part in self.parts:
            part.sums.assemble(linearization, part.V)

    def factor(self, damping: Array) -> int:
        """Factorise V + D; the first variable block that is not positive definite, −1 where all are."""
        for part in self.parts:
            bad = part.factor(damping)
            if bad >= 0:
                return int(part.blocks.blocks[bad])
        return -1

    def couple(self, linearization: Linearization) -> None:
        """Compute Y."""
        for part in self.parts:
            part.couple(linearization)

    def factorize(self, linearization: Linearization, damping: Array) -> int:
        """Both; the first variable block that is not positive definite, −1 where all are."""
        block = self.factor(damping)
        if block < 0:
            self.couple(linearization)
        return block

    def forward(self, b: Array, reduced: Array) -> None:
        """From b, by columns of J, to the right-hand side of S, by kept columns; c is kept."""
        np.take(b, self.partition.columns, out=reduced, mode="clip")
        for part in self.parts:
            part.forward(b, reduced)

    def backward(self, reduced: Array, x: Array) -> None:
        """From the solution of S to x, by columns of J."""
        x[self.partition.columns] = reduced
        for part in self.parts:
            part.backward(reduced, x)


class EliminatedPart:
    """Numbers of the eliminated blocks of one size.

    Attributes
    ----------
    blocks : EliminatedBlocks
    V : (n d²,)
        V_e by columns, lower triangle.
    inverse : (n, d (d + 1) / 2)
        L_e⁻¹ by rows.
    through : Source or None
        Where every slot has one residual block, of one span: products with Y go through J and Q then.
    Y : list of (num_slots stride,)
        Of each coupling, otherwise.
    Q : (num_blocks, dim, d)
        J_e L_e⁻ᵀ of each residual block of that span: Y_ek = J_kᵀ Q.
    """

    def __init__(self, partition: Partition, blocks: EliminatedBlocks) -> None:
        d, n = blocks.size, len(blocks.blocks)
        self.blocks = blocks
        self.linearization: Linearization | None = None
        self._structure = partition.structure
        self._first = partition.first
        pattern = BlockPattern(partition.structure, blocks.blocks)
        every = np.arange(n, dtype=np.int32)
        none = np.zeros(0, dtype=np.int64)
        self.sums = BlockSums(
            pattern, every, every.astype(np.int64) * (d * d), np.full(n, d, dtype=np.int32), none, every[:0], packed=False
        )
        self.V: Array = np.zeros(n * d * d)
        self.inverse: Array = np.zeros((n, d * (d + 1) // 2))
        self._damping: Array = np.zeros((n, d))
        self._columns = (blocks.column[:, None] + np.arange(d)).astype(np.int64)
        self._bad = np.zeros((n + TASK - 1) // TASK, dtype=np.int64)
        self._c: Array = np.zeros((n, d))
        self._z: Array = np.zeros((n, d))
        self.through = blocks.through
        if self.through is None:
            self.Y = [aligned(len(coupling.kept) * coupling.stride, np.dtype(np.float64)) for coupling in blocks.couplings]
        else:
            span, layout = self.through.span, self.through.eliminated.layout
            number = np.full(partition.structure.num_blocks + 1, -1, dtype=np.int32)
            number[blocks.blocks] = every
            self._number = number[layout.block]
            shape = span.num_blocks, span.dim, d
            self.Q: Array = aligned(math.prod(shape), np.dtype(np.float64)).reshape(shape)
        self._partial = [np.zeros((c.gather.num_slots, c.size)) for c in blocks.couplings]

    def factor(self, damping: Array) -> int:
        """L_e⁻¹; the first block that is not positive definite, −1 where all are."""
        d = self.blocks.size
        np.take(damping, self._columns, out=self._damping, mode="clip")
        factor_blocks(d)(self.V.reshape(-1, d * d), self._damping, self.inverse, self._bad)
        failed = self._bad[self._bad >= 0]
        return int(failed[0]) if len(failed) else -1

    def couple(self, linearization: Linearization) -> None:
        """Compute Y, or Q."""
        self.linearization = linearization
        if self.through is not None:
            span, operand = self.through.span, self.through.eliminated
            orthogonalize(*sizes_for(self._structure.num_alike(span), span.dim, self.blocks.size))(
                linearization.blocks(span), operand.start, operand.index, self._number, self.inverse, self.Q
            )
            return
        for coupling, Y in zip(self.blocks.couplings, self.Y, strict=True):
            self._couple(linearization, coupling, Y)

    def _couple(self, linearization: Linearization, coupling: Coupling, Y: Array) -> None:
        if not coupling.complete:
            Y[:] = 0.0
        for number, source in enumerate(coupling.sources):
            num_alike = self._structure.num_alike(source.span)
            couple(*sizes_for(num_alike, source.span.dim, coupling.size, self.blocks.size))(
                source.task_ptr, source.blocks, source.slots, coupling.eliminated, linearization.blocks(source.span),
                source.eliminated.start, source.kept.start, coupling.size, self.blocks.size, self.inverse, coupling.stride,
                number > 0 or not coupling.complete, Y,
            )  # fmt: skip

    def begin(self, b: Array) -> Array:
        """c ← L⁻¹ b_e, which is kept."""
        forward_blocks(self.blocks.size)(self.inverse, self.blocks.column, b, self._c)
        return self._c

    def finish(self, coupled: Array, x: Array, *, orthonormal: bool) -> None:
        """x_e ← L⁻ᵀ (c − L⁻¹ w), or L⁻ᵀ (c − w), w being J_eᵀ J_k x_K or, where orthonormal, Qᵀ J_k x_K; ``(n, d)``."""
        if orthonormal:
            np.subtract(self._c, coupled, out=self._z)
        else:
            subtract_forward(self.blocks.size)(self.inverse, coupled, self._c, self._z)
        backward_blocks(self.blocks.size)(self.inverse, self.blocks.column, self._z, x)

    def forward(self, b: Array, reduced: Array) -> None:
        """c ← L⁻¹ b_e, and Y c off the kept columns."""
        d = self.blocks.size
        self.begin(b)
        for number, (coupling, partial) in enumerate(zip(self.blocks.couplings, self._partial, strict=True)):
            g, source = coupling.gather, coupling.single
            lists = g.order, g.piece_row, g.piece_ptr, g.piece_slot, g.split_row, g.split_ptr, g.task_ptr
            if self.through is not None and source is not None:
                subtract_eliminated_through(*sizes_for(len(g.order), source.span.dim, coupling.size, d))(
                    *lists, coupling.eliminated, source.blocks, self._first, self._J(source), source.kept.start, self.Q,
                    self._c, partial, reduced,
                )  # fmt: skip
            else:
                subtract_eliminated(*sizes_for(len(g.order), coupling.size, d))(
                    *lists, coupling.eliminated, self._first, self.Y[number], coupling.stride, self._c, partial, reduced
                )

    def backward(self, reduced: Array, x: Array) -> None:
        """x_e ← L⁻ᵀ (c − Yᵀ x_K)."""
        d = self.blocks.size
        self._z[:] = self._c
        for number, coupling in enumerate(self.blocks.couplings):
            lists, source = (coupling.task_ptr, coupling.eliminated, coupling.kept), coupling.single
            if self.through is not None and source is not None:
                subtract_kept_through(*sizes_for(len(coupling.kept), source.span.dim, coupling.size, d))(
                    *lists, source.blocks, self._first, self._J(source), source.kept.start, coupling.size, self.Q, reduced,
                    self._z,
                )  # fmt: skip
            else:
                subtract_kept(*sizes_for(len(coupling.kept), coupling.size, d))(
                    *lists, self._first, self.Y[number], coupling.stride, coupling.size, reduced, self._z
                )
        backward_blocks(d)(self.inverse, self.blocks.column, self._z, x)

    def _J(self, source: Source) -> JacobianArray:
        assert self.linearization is not None
        return self.linearization.blocks(source.span)
