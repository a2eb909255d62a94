"""The preconditioned conjugate gradient method for S x = b, stopped by the decrease of the quadratic model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparselm.kernels.reductions import dot, num_stretches

Array = npt.NDArray[np.float64]
Product = Callable[[Array, Array], None]

# An eighth of the iterations, the last ones, are looked at for what they gain. Gains go up and down from one iteration to
# the next: looked at singly, rounding decided between 85, 89 and 98 iterations for the fifth step of a problem with 13,682
# cameras, which led to costs 1.5e-4 apart.
_LAST_SHARE = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """Iterations, ‖b − S x‖ as the recurrence has it, and whether a stopping rule was met."""

    iterations: int
    residual_norm: float
    converged: bool


class ConjugateGradients:
    """Workspace for systems of one size."""

    def __init__(self, size: int) -> None:
        self._r, self._z, self._p, self._w = np.zeros((4, size))
        self._partial = np.zeros(num_stretches(size))

    def solve(
        self,
        multiply: Product,
        precondition: Product,
        b: Array,
        x: Array,
        *,
        forcing: float | None,
        tolerance: float,
        max_iterations: int,
        guess: bool = False,
    ) -> Outcome:
        r"""Write x, starting from what is there if that is a guess, from zero otherwise.

        Iteration i ends the solve where ‖b − S x‖ ≤ tolerance ‖b‖ or, with Q(x) = ½ xᵀ S x − bᵀ x, where
        (i / m) (Q_i − Q_{i−m}) / Q_i ≤ forcing: what the last m iterations gained, had all gained as much. Nash and Sofer's
        rule has m = 1, as here up to i = 15; beyond that m is an eighth of i.

        References
        ----------
        S. G. Nash, A. Sofer, "Assessing a search direction within a truncated-Newton method", Operations Research Letters
        9(4), 1990; Ceres Solver 2.x, ``ConjugateGradientsSolver``.
        """
        r, z, p, w = self._r, self._z, self._p, self._w
        if guess:
            multiply(x, w)
            np.subtract(b, w, out=r)
        else:
            x[:] = 0.0
            np.copyto(r, b)
        target = tolerance * math.sqrt(self._dot(b, b))
        norm = math.sqrt(self._dot(r, r))
        if norm <= target or norm == 0.0:
            return Outcome(0, norm, True)
        models = [-0.5 * (self._dot(x, b) + self._dot(x, r)) if guess else 0.0]
        precondition(r, z)
        np.copyto(p, z)
        rho = self._dot(r, z)
        for i in range(1, max_iterations + 1):
            multiply(p, w)
            curvature = self._dot(p, w)
            if not (curvature > 0.0 and rho > 0.0 and math.isfinite(curvature) and math.isfinite(rho)):
                return Outcome(i - 1, norm, False)  # rounding has won, or S is not positive definite
            alpha = rho / curvature
            np.multiply(p, alpha, out=z)
            x += z
            np.multiply(w, alpha, out=w)
            r -= w
            norm = math.sqrt(self._dot(r, r))
            models.append(-0.5 * (self._dot(x, b) + self._dot(x, r)))
            if norm <= target or (forcing is not None and gains_little(models, forcing)):
                return Outcome(i, norm, True)
            precondition(r, z)
            rho, last = self._dot(r, z), rho
            p *= rho / last
            p += z
        return Outcome(max_iterations, norm, False)

    def _dot(self, a: Array, b: Array) -> float:
        return float(dot(a, b, self._partial))


def gains_little(models: list[float], forcing: float) -> bool:
    """Whether iterations should end, given Q of all iterates, the first guess included."""
    i = len(models) - 1
    m = max(1, i // _LAST_SHARE)
    return i * (models[i] - models[i - m]) >= forcing * m * models[i]
