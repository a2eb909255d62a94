"""LSQR on J: least squares by Golub–Kahan bidiagonalisation, the step that makes ‖c − A y‖ least.

References
----------
C. C. Paige, M. A. Saunders, "LSQR: an algorithm for sparse linear equations and sparse least squares", ACM TOMS 8(1),
1982.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator, lsqr

from sparselm.linear_solvers.least_squares import AbstractLeastSquaresSolver, Run

Array = npt.NDArray[np.float64]


@final
@dataclass(frozen=True)
class LSQR(AbstractLeastSquaresSolver):
    """Iterative least-squares solution of the damped system by LSQR; forms neither JᵀJ nor a factor.

    Columns are scaled to norm 1. A singular system, which direct solvers refuse, gets a solution of least norm (in the
    scaled variables).

    Parameters
    ----------
    tolerance
        Stop at ‖S (b − (JᵀJ + D) x)‖ ≤ tolerance ‖S b‖, S = diag(JᵀJ + D)^(−1/2), where the caller names no other.
    max_iterations
        Most steps of one solve; what has been reached by then is returned.
    """

    @staticmethod
    def run(operator: LinearOperator, c: Array, atol: float, max_iterations: int) -> Run:
        """SciPy's LSQR."""
        y, _, iterations, residual_norm, _, norm, condition, gradient_norm, _, _ = lsqr(
            operator, c, atol=atol, btol=0.0, conlim=0.0, iter_lim=max_iterations
        )
        return Run(y, iterations, float(residual_norm), float(gradient_norm), float(norm), float(condition))
