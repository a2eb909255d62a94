"""A linearisation: residuals, Jacobian, gradient and cost at one point, and products with the Jacobian."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator

from sparselm._jit import sizes_for
from sparselm.kernels.block_products import MOST
from sparselm.kernels.products import jacobian_product, transposed_product, transposed_product_and_blocks
from sparselm.kernels.reductions import damped_reduction, dot, max_abs, model_reduction, num_stretches
from sparselm.linear_solvers.base import Precision
from sparselm.structure import Span, SpanOperand, Structure

Array = npt.NDArray[np.float64]
JacobianArray = npt.NDArray[np.float64] | npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


class Linearization:
    """r, J, g = Jᵀr, diag JᵀJ and the cost at the current point; whitened, and corrected for losses.

    Parameters
    ----------
    structure
    precision
        What J is stored in. All else is in double precision, and made from J as it is stored.

    Attributes
    ----------
    structure : Structure
    residual : (num_rows,)
    values : (num_values,)
        CSR value buffer of J; ``blocks(span)`` is a span's ``(n, dim, width)`` view of it.
    gradient, diagonal : (num_columns,)
    cost : float
    """

    def __init__(self, structure: Structure, precision: Precision = "float64") -> None:
        self.structure = structure
        self.residual: Array = np.zeros(structure.num_rows)
        self.values: JacobianArray = np.zeros(structure.num_values, dtype=precision)
        self.gradient: Array = np.zeros(structure.num_columns)
        self.diagonal: Array = np.zeros(structure.num_columns)
        self.cost = 0.0
        self._partial = np.zeros(num_stretches(max(structure.num_rows, structure.num_columns)))
        present = [o for s in structure.spans for o in s.operands if o.width]
        self._gather_partial = np.zeros(max((2 * o.gather.num_slots * o.width for o in present), default=0))
        self._diagonal_blocks: dict[int, Array] | None = None
        self._current_blocks = False

    def blocks(self, span: Span) -> JacobianArray:
        """J of a span as ``(n, dim, width)``, a view."""
        return self.values[span.values].reshape(span.num_blocks, span.dim, span.width)

    def block_residuals(self, span: Span) -> Array:
        """r of a span as ``(n, dim)``, a view."""
        return self.residual[span.rows].reshape(span.num_blocks, span.dim)

    def jvp(self, v: Array, out: Array) -> None:
        """Write J v."""
        for span in self.structure.spans:
            target = out[span.rows].reshape(span.num_blocks, span.dim)
            started = False
            for operand in span.operands:
                if operand.width:
                    run = jacobian_product(*sizes_for(self.structure.num_alike(span), span.dim, operand.width))
                    J, index, column = self.blocks(span), operand.index, operand.layout.column
                    run(J, operand.start, operand.width, index, column, v, target, started)
                    started = True
            if not started:
                target[:] = 0.0

    def vjp(self, u: Array, out: Array) -> None:
        """Write Jᵀ u."""
        out[:] = 0.0
        self._gather(u, out, out, with_diagonal=False)

    def update_gradient(self, held: BoolArray | None) -> None:
        """Refresh gradient and diagonal; held components have zero gradient."""
        self.gradient[:] = 0.0
        self.diagonal[:] = 0.0
        self._gather(self.residual, self.gradient, self.diagonal, with_diagonal=True)
        self._current_blocks = self._diagonal_blocks is not None
        for span in self.structure.spans:
            for a, b, blocks in span.shared:
                self._add_cross_diagonal(span, span.operands[a], span.operands[b], blocks)
            if span.shared:  # A ≈ −B cancels, and may leave less than nothing
                np.maximum(self.diagonal, 0.0, out=self.diagonal)
        if held is not None:
            self.gradient[held] = 0.0

    def diagonal_blocks(self, operand: SpanOperand) -> Array | None:
        """Σ J_operandᵀ J_operand for each row of the operand's variables that residual blocks touch, ``(num_rows, width²)``.

        None at the first point at which they are asked for, unless they were announced, and for large blocks.
        """
        self.announce_diagonal_blocks()
        assert self._diagonal_blocks is not None
        return self._diagonal_blocks.get(id(operand)) if self._current_blocks else None

    def announce_diagonal_blocks(self) -> None:
        """From the next point on, make diagonal blocks along with the gradient."""
        if self._diagonal_blocks is None:
            present = [o for s in self.structure.spans for o in s.operands if 0 < o.width <= MOST]
            self._diagonal_blocks = {id(o): np.zeros((o.layout.num_rows, o.width * o.width)) for o in present}
            longest = max((o.gather.num_slots * o.width * (o.width + 1) for o in present), default=0)
            if longest > len(self._gather_partial):
                self._gather_partial = np.zeros(longest)

    def _gather(self, u: Array, g: Array, d: Array, *, with_diagonal: bool) -> None:
        for span in self.structure.spans:
            source = u[span.rows].reshape(span.num_blocks, span.dim)
            for operand in span.operands:
                if operand.width:
                    x, width = operand.gather, operand.width
                    lists = x.order, x.piece_row, x.piece_ptr, x.piece_slot, x.split_row, x.split_ptr, x.task_ptr
                    J = self.blocks(span), operand.start, width, source, operand.layout.column
                    sizes = sizes_for(self.structure.num_alike(span), span.dim, width)
                    blocks = self._diagonal_blocks.get(id(operand)) if self._diagonal_blocks and with_diagonal else None
                    if blocks is not None:
                        sums = width * (width + 1)
                        partial = self._gather_partial[: x.num_slots * sums].reshape(x.num_slots, sums)
                        transposed_product_and_blocks(*sizes)(*lists, *J, partial, g, d, blocks)
                    else:
                        sums = 2 * width if with_diagonal else width
                        partial = self._gather_partial[: x.num_slots * sums].reshape(x.num_slots, sums)
                        transposed_product(*sizes, with_diagonal)(*lists, *J, partial, g, d)

    def _add_cross_diagonal(self, span: Span, a: SpanOperand, b: SpanOperand, blocks: npt.NDArray[np.int32]) -> None:
        """(A + B)² = A² + B² + 2AB for the blocks whose operands a and b are one variable."""
        J = self.blocks(span)[blocks]
        A, B = (J[:, :, o.start : o.start + o.width] for o in (a, b))
        cross = 2.0 * np.einsum("bic,bic->bc", A, B, dtype=np.float64)
        columns = a.layout.column[a.index[blocks]][:, None] + np.arange(a.width)
        np.add.at(self.diagonal, columns, cross)

    def predicted_reduction(self, Jd: Array) -> float:
        """−(Jδ)ᵀ(r + ½Jδ)."""
        return float(model_reduction(Jd, self.residual, self._partial))

    def damped_reduction(self, delta: Array, damping: Array) -> float:
        """½ δᵀ(D δ − g): what is predicted for a δ with δᵀ((JᵀJ + D) δ + g) = 0, without a product with J."""
        return float(damped_reduction(delta, damping, self.gradient, self._partial))

    def dot(self, x: Array, y: Array) -> float:
        """xᵀy in an order that does not depend on the thread count."""
        return float(dot(x, y, self._partial))

    def max_abs(self, x: Array) -> float:
        """‖x‖∞, NaN where an entry is."""
        return float(max_abs(x, self._partial))

    def jacobian(self) -> sp.csr_array:
        """J as CSR: on the live buffer where its rows are sorted by construction, else a sorted copy in double precision."""
        structure = self.structure
        shape = (structure.num_rows, structure.num_columns)
        if structure.rows_sorted:
            matrix = sp.csr_array((self.values, structure.indices, structure.indptr), shape=shape, copy=False)
            # Flags set by hand: were they looked up lazily, SciPy could sort, in place, buffers that are not its own.
            matrix.has_sorted_indices = True
            matrix.has_canonical_format = True
            return matrix
        values = self.values.astype(np.float64)  # a copy, in which duplicates are summed
        matrix = sp.csr_array((values, structure.indices.copy(), structure.indptr.copy()), shape=shape)
        matrix.sum_duplicates()
        return matrix

    def as_linear_operator(self) -> LinearOperator:
        """J as an operator, without CSR index arrays."""

        def matvec(v: Array) -> Array:
            out = np.empty(self.structure.num_rows)
            self.jvp(np.ascontiguousarray(v, dtype=np.float64).ravel(), out)
            return out

        def rmatvec(u: Array) -> Array:
            out = np.empty(self.structure.num_columns)
            self.vjp(np.ascontiguousarray(u, dtype=np.float64).ravel(), out)
            return out

        shape = (self.structure.num_rows, self.structure.num_columns)
        return LinearOperator(shape, matvec=matvec, rmatvec=rmatvec, dtype=np.float64)
