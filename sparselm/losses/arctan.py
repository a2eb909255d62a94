"""The arctangent of the squared norm: bounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from sparselm.losses._checks import store_positive
from sparselm.losses.base import AbstractLoss, Array


@final
@dataclass(frozen=True)
class Arctan(AbstractLoss):
    """The arctangent loss, ρ(s) = c²ψ(s/c²) with c = ``scale``:

    ::

        ψ(x) = arctan x     ψ′(x) = 1/(1+x²)     ψ″(x) = −2x/(1+x²)²

    Bounded by c²π/2. It leaves residuals shorter than c nearly alone (ψ″(0) = 0) and lets go of the others fast: the
    weight falls like 1/‖r‖⁴.

    Parameters
    ----------
    scale : float
        Length of the whitened residual at which its weight has fallen to one half.

    Notes
    -----
    SciPy's ``f_scale`` is this scale. Ceres's ``ArctanLoss(a)`` states the point in units of s instead: a = c².

    References
    ----------
    Ceres Solver, Modeling, "LossFunction".

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((2, 3))
    >>> Arctan(scale=1.0).rho(np.array([0.0, 1.0]), out)
    >>> out.round(4) + 0.0
    array([[ 0.    ,  1.    ,  0.    ],
           [ 0.7854,  0.5   , -0.5   ]])
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        store_positive(self, "scale")

    def rho(self, s: Array, out: Array) -> None:
        square = self.scale * self.scale
        out[:, 0] = square * np.arctan2(s, square)
        with np.errstate(over="ignore", invalid="ignore"):  # s near or past the largest number: limits, NaN at infinity
            total = np.hypot(square, s)  # c²√(1+x²) without forming x², which overflows first
            sine = s / total
        cosine = square / total
        weight = cosine * cosine
        out[:, 1] = weight
        out[:, 2] = (-2.0 / square) * (sine * cosine * weight)
