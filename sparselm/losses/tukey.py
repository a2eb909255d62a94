"""Tukey's biweight: flat beyond the scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from sparselm.losses._checks import store_positive
from sparselm.losses.base import AbstractLoss, Array


@final
@dataclass(frozen=True)
class Tukey(AbstractLoss):
    """Tukey's biweight, ρ(s) = c²ψ(s/c²) with c = ``scale``:

    ::

        x ≤ 1:   ψ(x) = (1 − (1−x)³)/3     ψ′(x) = (1−x)²     ψ″(x) = −2(1−x)
        x > 1:   ψ(x) = 1/3                ψ′(x) = 0          ψ″(x) = 0

    Residuals longer than c have no influence at all. That suits gross mismatches, but a block that starts beyond c does
    not come back by itself: begin with :class:`~sparselm.losses.huber.Huber`, or with a large scale, then change.

    Parameters
    ----------
    scale : float
        Length of the whitened residual from which it is ignored. 4.685 keeps 95 % of the efficiency of plain least
        squares on scalar unit-variance Gaussian residuals.

    Notes
    -----
    Normalised so that ρ′(0) = 1, as in current releases of Ceres; old ones had half of it.

    References
    ----------
    A. E. Beaton, J. W. Tukey, "The fitting of power series, meaning polynomials, illustrated on band-spectroscopic
    data", Technometrics 16, 1974, 147–185.
    Ceres Solver, Modeling, "LossFunction": ``TukeyLoss(a)`` with a = c.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((3, 3))
    >>> Tukey(scale=2.0).rho(np.array([0.0, 2.0, 9.0]), out)
    >>> out.round(4)
    array([[ 0.    ,  1.    , -0.5   ],
           [ 1.1667,  0.25  , -0.25  ],
           [ 1.3333,  0.    ,  0.    ]])
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        store_positive(self, "scale")

    def rho(self, s: Array, out: Array) -> None:
        square = self.scale * self.scale
        inner = np.minimum(s, square)  # the outer piece is the inner one's value at x = 1; NaN passes
        slope = inner / square - 1.0
        # s(1 − x + x²/3), the cube multiplied out, which does not cancel for small x; here with x = 1 + slope
        out[:, 0] = inner * ((slope * (slope - 1.0) + 1.0) / 3.0)
        out[:, 1] = slope * slope
        out[:, 2] = (2.0 / square) * slope
