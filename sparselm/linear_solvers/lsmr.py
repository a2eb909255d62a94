"""LSMR on J: least squares by Golub–Kahan bidiagonalisation, the step that makes ‖Aᵀ(c − A y)‖ least.

References
----------
D. C.-L. Fong, M. Saunders, "LSMR: an iterative algorithm for sparse least-squares problems", SIAM J. Sci. Comput. 33(5),
2011.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator, lsmr

from sparselm.errors import SolverError
from sparselm.linear_solvers.base import AbstractLinearSolver, Failure, Need, SolveFacts
from sparselm.linear_solvers.least_squares import DampedLeastSquares, Run

if TYPE_CHECKING:
    from sparselm.linearization import Linearization
    from sparselm.structure import Structure

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LSMR(AbstractLinearSolver):
    """Iterative least-squares solution of the damped system by LSMR; forms neither JᵀJ nor a factor.

    Columns are scaled to norm 1. A singular system, which direct solvers refuse, gets a solution of least norm (in the
    scaled variables).

    Parameters
    ----------
    tolerance
        Stop at ‖S (b − (JᵀJ + D) x)‖ ≤ tolerance ‖S b‖, S = diag(JᵀJ + D)^(−1/2), where the caller names no other.
    max_iterations
        Most steps of one solve; what has been reached by then is returned.
    """

    tolerance: float = 1e-2
    max_iterations: int = 500

    needs: ClassVar[frozenset[Need]] = frozenset({Need.OPERATOR})

    def analyze(self, structure: Structure, previous: Any = None) -> DampedLeastSquares:
        """Allocate the vectors."""
        if not 0.0 <= self.tolerance < 1.0 or self.max_iterations < 1:
            raise SolverError(
                f"LSMR: tolerance {self.tolerance}, max_iterations {self.max_iterations}; expected 0 ≤ tolerance < 1 "
                "and max_iterations ≥ 1"
            )
        return DampedLeastSquares(structure)

    def prepare(self, plan: DampedLeastSquares, linearization: Linearization) -> DampedLeastSquares:
        """Keep the linearisation to multiply by."""
        plan.linearization = linearization
        return plan

    def factorize(self, system: DampedLeastSquares, damping: Array) -> DampedLeastSquares | Failure:
        """Scale the columns of [J; √D]."""
        if not system.set_damping(damping):
            return Failure("JᵀJ + D has an entry that is not finite")
        return system

    def solve(
        self,
        factor: DampedLeastSquares,
        rhs: Array,
        out: Array,
        *,
        tolerance: float | None = None,
        guess: Array | None = None,
    ) -> SolveFacts:
        """Iterate, from the guess if there is one."""
        return factor.minimise(
            _run, rhs, out, self.tolerance if tolerance is None else tolerance, self.max_iterations, guess
        )

    def describe(self, plan: DampedLeastSquares) -> str:
        """Size and tolerance."""
        return (
            f"LSMR on a {plan.num_rows} × {plan.num_columns} operator, tolerance {self.tolerance:g}, at most "
            f"{self.max_iterations} steps"
        )


def _run(operator: LinearOperator, c: Array, atol: float, max_iterations: int) -> Run:
    y, _, iterations, residual_norm, gradient_norm, norm, condition, _ = lsmr(
        operator, c, atol=atol, btol=0.0, conlim=0.0, maxiter=max_iterations
    )
    return Run(y, iterations, float(residual_norm), float(gradient_norm), float(norm), float(condition))
