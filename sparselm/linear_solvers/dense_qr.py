"""Dense QR by LAPACK, for small and ill-conditioned problems: [J; √D] S = Q R, without ever forming JᵀJ.

For b = −Jᵀr the step is the least-squares solution δ = S R⁻¹ Qᵀ [−r; 0], whose error grows with κ(J) where that of
Cholesky grows with κ(J)². Any other b goes through the seminormal equations RᵀR y = S b with one step of refinement,
which brings the error down to about that of the former.

S scales columns to norm 1, so that the diagonal of R tells a column that depends on those before it.

References
----------
Å. Björck, "Numerical Methods for Least Squares Problems", SIAM, 1996, sections 2.4.1 (QR) and 6.6.5 (corrected seminormal
equations).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dgeqrf, dgeqrf_lwork, dormqr, dtrtrs

from sparselm.errors import SolverError
from sparselm.linear_solvers.base import AbstractLinearSolver, Failure, Need, SolveFacts
from sparselm.linear_solvers.least_squares import DampedLeastSquares

if TYPE_CHECKING:
    from sparselm.linearization import Linearization
    from sparselm.structure import Structure

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DenseQR(AbstractLinearSolver):
    """Dense QR factorisation of [J; √D].

    Parameters
    ----------
    max_entries
        Refuse problems where [J; √D] has more entries.
    """

    max_entries: int = 200_000_000

    needs: ClassVar[frozenset[Need]] = frozenset({Need.BLOCKS})

    def analyze(self, structure: Structure, previous: Any = None) -> DenseQRPlan:
        """Allocate the dense matrix."""
        m, n = structure.num_rows, structure.num_columns
        if (m + n) * n > self.max_entries:
            raise SolverError(
                f"DenseQR: the dense [J; √D] has {m + n} × {n} entries, max_entries is {self.max_entries}; use a sparse "
                "solver such as Cholmod or LSMR"
            )
        return DenseQRPlan(structure)

    def prepare(self, plan: DenseQRPlan, linearization: Linearization) -> DenseQRPlan:
        """Keep the linearisation to take J from."""
        plan.system.linearization = linearization
        return plan

    def factorize(self, system: DenseQRPlan, damping: Array) -> DenseQRPlan | Failure:
        """Factorise [J; √D] S."""
        least_squares, structure = system.system, system.structure
        if not least_squares.set_damping(damping):
            return Failure("JᵀJ + D has an entry that is not finite")
        m, n = structure.num_rows, structure.num_columns
        system.fill()
        _, system.tau, _, _ = dgeqrf(system.matrix, lwork=system.lwork, overwrite_a=1)
        diagonal = np.abs(np.diagonal(system.matrix))
        # Columns have norm 1, so an entry of R this small is made of rounding errors.
        weak = np.flatnonzero(~(diagonal > np.finfo(np.float64).eps * max(m, n)))
        if len(weak):
            block = structure.block_of_column(int(weak[0]))
            return Failure("[J; √D] has linearly dependent columns", block)
        return system

    def solve(
        self,
        factor: DenseQRPlan,
        rhs: Array,
        out: Array,
        *,
        tolerance: float | None = None,
        guess: Array | None = None,
    ) -> SolveFacts:
        """Solve with Q and R for b = −Jᵀr, with R alone and one correction for any other b."""
        system = factor.system
        target = system.right_hand_side(rhs)
        if target.least_squares:
            y = factor.project(target.c)
        else:
            b = rhs * system.scale
            y = factor.seminormal(b)
            y += factor.seminormal(b - system.normal_product(y))
        system.unscale(y, out)
        n = factor.structure.num_columns
        diagonal = np.abs(np.diagonal(factor.matrix))
        return SolveFacts(factor_nonzeros=n * (n + 1) // 2, condition_hint=float(diagonal.max() / diagonal.min()))

    def describe(self, plan: DenseQRPlan) -> str:
        """Size."""
        m, n = plan.structure.num_rows, plan.structure.num_columns
        return f"dense QR, {m} + {n} rows, {n} columns"


class DenseQRPlan:
    """Workspace of one problem: the dense [J; √D] S, then its factors in the same place."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self.system = DampedLeastSquares(structure)
        self.matrix: Array = np.zeros(self.system.shape, order="F")
        self.tau: Array = np.zeros(structure.num_columns)
        self.lwork = int(dgeqrf_lwork(*self.system.shape)[0])

    def fill(self) -> None:
        """Write [J; √D] S; held components, whose columns are 0, get a 1 on the diagonal below."""
        system, m = self.system, self.structure.num_rows
        assert system.linearization is not None
        self.matrix[:] = 0.0
        for span in self.structure.spans:
            blocks = system.linearization.blocks(span)
            rows = np.arange(span.rows.start, span.rows.stop).reshape(span.num_blocks, span.dim, 1)
            for operand in span.operands:
                if operand.width:
                    columns = operand.layout.column[operand.index][:, None, None] + np.arange(operand.width)
                    # Added, not written: a variable may be used twice.
                    self.matrix[rows, columns] += blocks[:, :, operand.start : operand.start + operand.width]
        self.matrix[:m] *= system.scale
        below = self.matrix[m:]
        np.fill_diagonal(below, np.where(system.held, 1.0, system.root))

    def project(self, c: Array) -> Array:
        """R⁻¹ Qᵀ c."""
        n = len(self.tau)
        column = np.asfortranarray(c[:, None])
        work = dormqr("L", "T", self.matrix, self.tau, column, -1)[1]
        product = dormqr("L", "T", self.matrix, self.tau, column, int(work[0]))[0]
        return self._triangular(product[:n, 0], transposed=False)

    def seminormal(self, b: Array) -> Array:
        """R⁻¹ R⁻ᵀ b."""
        return self._triangular(self._triangular(b, transposed=True), transposed=False)

    def _triangular(self, b: Array, *, transposed: bool) -> Array:
        n = len(self.tau)
        x, _ = dtrtrs(self.matrix[:n], b, lower=0, trans=int(transposed))
        y: Array = x
        return y
