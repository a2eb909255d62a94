"""Dense Cholesky by LAPACK, for small problems: JᵀJ + D = L Lᵀ.

JᵀJ is assembled from the blocks straight into a dense matrix, so that J need not be dense for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dpotrf, dpotrs

from sparselm.errors import SolverError
from sparselm.linear_solvers.base import AbstractLinearSolver, Failure, Need, SolveFacts
from sparselm.linear_solvers.normal_equations import BlockPattern, NormalEquations

if TYPE_CHECKING:
    from sparselm.linearization import Linearization
    from sparselm.structure import Structure

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DenseCholesky(AbstractLinearSolver):
    """Dense Cholesky factorisation of JᵀJ + D.

    Parameters
    ----------
    max_columns
        Refuse larger problems: two matrices of ``max_columns²`` numbers are kept.
    """

    max_columns: int = 20_000

    needs: ClassVar[frozenset[Need]] = frozenset({Need.NORMAL})

    def analyze(self, structure: Structure, previous: Any = None) -> DenseCholeskyPlan:
        """Lay out the dense JᵀJ."""
        n = structure.num_columns
        if n > self.max_columns:
            raise SolverError(
                f"DenseCholesky: the problem has {n} columns, max_columns is {self.max_columns}; use a sparse solver such "
                "as Cholmod or SuperLU"
            )
        natural = np.arange(structure.num_blocks, dtype=np.int32)
        normal = NormalEquations(BlockPattern(structure), natural, dense=True)
        return DenseCholeskyPlan(normal, np.zeros((n, n), order="F"))

    def prepare(self, plan: DenseCholeskyPlan, linearization: Linearization) -> DenseCholeskyPlan:
        """Assemble JᵀJ."""
        plan.normal.assemble(linearization)
        return plan

    def factorize(self, system: DenseCholeskyPlan, damping: Array) -> DenseCholeskyPlan | Failure:
        """Factorise a copy of JᵀJ + D."""
        normal = system.normal
        if not normal.set_damping(damping):
            return Failure("JᵀJ + D has an entry that is not finite")
        np.copyto(system.factor, normal.dense())
        _, info = dpotrf(system.factor, lower=1, clean=0, overwrite_a=1)
        if info > 0:
            return Failure("JᵀJ + D is not positive definite", normal.block_at(info - 1))
        return system

    def solve(
        self,
        factor: DenseCholeskyPlan,
        rhs: Array,
        out: Array,
        *,
        tolerance: float | None = None,
        guess: Array | None = None,
    ) -> SolveFacts:
        """Solve with the factor."""
        x, _ = dpotrs(factor.factor, factor.normal.permute(rhs), lower=1, overwrite_b=1)
        factor.normal.unpermute(x, out)
        n = factor.normal.size
        return SolveFacts(factor_nonzeros=n * (n + 1) // 2)

    def describe(self, plan: DenseCholeskyPlan) -> str:
        """Size."""
        return f"dense Cholesky, {plan.normal.size} columns"


@dataclass
class DenseCholeskyPlan:
    """Workspace of one problem: JᵀJ + D and its factor."""

    normal: NormalEquations
    factor: Array
