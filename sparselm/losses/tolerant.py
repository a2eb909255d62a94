"""A smooth dead zone: small residuals cost next to nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Self, final

import numpy as np

from sparselm.errors import ProblemError
from sparselm.losses._checks import store_positive
from sparselm.losses.base import AbstractLoss, Array


@final
@dataclass(frozen=True)
class Tolerant(AbstractLoss):
    """Ceres's tolerant loss: nearly flat up to s = a, then of slope one, with a bend of width b.

    ::

        ρ(s)  = b log(1 + exp((s − a)/b)) − b log(1 + exp(−a/b))
        ρ′(s) = σ((s − a)/b)                                           σ(z) = 1/(1 + exp(−z))
        ρ″(s) = σ((s − a)/b) σ((a − s)/b) / b  > 0

    It forgives residuals within a tolerance, e.g. of a landmark against a map of known coarseness. It is no robust
    loss: far out it is plain least squares. Here ρ′(0) = σ(−a/b), not 1, and ρ″ > 0, so that second-order corrections
    do apply.

    Parameters
    ----------
    a : float
        Where the bend lies, in units of s = ‖r‖² (not of ‖r‖, as a ``scale`` is); at least 0.
    b : float
        Width of the bend, in units of s; positive.

    References
    ----------
    Ceres Solver, Modeling, "LossFunction": ``TolerantLoss(a, b)``.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((3, 3))
    >>> Tolerant(a=10.0, b=1.0).rho(np.array([0.0, 10.0, 30.0]), out)
    >>> out.round(4)
    array([[ 0.    ,  0.    ,  0.    ],
           [ 0.6931,  0.5   ,  0.25  ],
           [20.    ,  1.    ,  0.    ]])
    """

    a: float
    b: float

    def __post_init__(self) -> None:
        if not (isinstance(self.a, Real) and 0.0 <= float(self.a) < math.inf):
            raise ProblemError(f"Tolerant: a is {self.a!r}, expected a finite number of at least 0")
        object.__setattr__(self, "a", float(self.a))
        store_positive(self, "b")

    def rho(self, s: Array, out: Array) -> None:
        a, b = self.a, self.b
        with np.errstate(over="ignore"):  # far beyond the bend ρ = s − a, which the limits give
            z = (s - a) / b
            rise = s / b
        decay = np.exp(-np.abs(z))
        share = 1.0 / (1.0 + decay)
        out[:, 1] = np.where(z >= 0.0, share, decay * share)
        out[:, 2] = (decay * share) * (share / b)
        # log(1+e^z) − log(1+e^z0): for small s the difference cancels, for large s the exponential overflows
        start = self._slope_at_zero()
        near = np.log1p(start * np.expm1(np.minimum(rise, 1.0)))
        far = np.maximum(z, 0.0) + np.log1p(decay) - math.log1p(math.exp(-a / b))
        out[:, 0] = b * np.where(rise <= 1.0, near, far)

    def _slope_at_zero(self) -> float:
        decay = math.exp(-self.a / self.b)
        return decay / (1.0 + decay)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return cls(a=0.0, b=1.0), cls(a=10.0, b=0.5), cls(a=1.0, b=100.0)
