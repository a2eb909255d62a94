"""Welsch's loss: an upside-down Gaussian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from sparselm.losses._checks import store_positive
from sparselm.losses.base import AbstractLoss, Array


@final
@dataclass(frozen=True)
class Welsch(AbstractLoss):
    """Welsch's (or Leclerc's) loss, ρ(s) = c²ψ(s/c²) with c = ``scale``:

    ::

        ψ(x) = 1 − exp(−x)     ψ′(x) = exp(−x)     ψ″(x) = −exp(−x)

    Bounded by c². The weight falls faster than that of every other smooth loss here, so a block beyond three or four
    scales is as good as gone: use it near the solution. Minimising it is maximising correntropy. It is the limit
    α → −∞ of Barron's family with his c equal to ours / √2.

    Parameters
    ----------
    scale : float
        Length of the whitened residual at which its weight has fallen to 1/e. 2.985 keeps 95 % of the efficiency of
        plain least squares on scalar unit-variance Gaussian residuals.

    References
    ----------
    J. E. Dennis, R. E. Welsch, "Techniques for nonlinear least squares and robust regression", Communications in
    Statistics – Simulation and Computation 7, 1978, 345–359.
    J. T. Barron, "A general and adaptive robust loss function", CVPR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((2, 3))
    >>> Welsch(scale=1.0).rho(np.array([0.0, 1.0]), out)
    >>> out.round(4) + 0.0
    array([[ 0.    ,  1.    , -1.    ],
           [ 0.6321,  0.3679, -0.3679]])
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        store_positive(self, "scale")

    def rho(self, s: Array, out: Array) -> None:
        square = self.scale * self.scale
        with np.errstate(over="ignore"):  # exp(−inf) is the limit wanted
            x = s / square
        missing = np.expm1(-x)
        out[:, 0] = -square * missing
        weight = np.exp(-x)
        out[:, 1] = weight
        out[:, 2] = (-1.0 / square) * weight
