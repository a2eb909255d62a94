"""The smooth relative of Huber's loss, alias pseudo-Huber or Charbonnier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from sparselm.losses._checks import store_positive
from sparselm.losses.base import AbstractLoss, Array


@final
@dataclass(frozen=True)
class SoftL1(AbstractLoss):
    """Soft L1, ρ(s) = c²ψ(s/c²) with c = ``scale``:

    ::

        ψ(x) = 2(√(1+x) − 1)     ψ′(x) = 1/√(1+x)     ψ″(x) = −1/(2(1+x)√(1+x))

    Convex like :class:`~sparselm.losses.huber.Huber`, with the same growth 2c‖r‖ for long residuals, but smooth, and it
    weighs down every residual a little. Known as pseudo-Huber and, in image restoration, as Charbonnier's loss; it is
    α = 1 in Barron's family with his c equal to ours.

    Parameters
    ----------
    scale : float
        Length of the whitened residual around which the loss goes from quadratic to linear.

    References
    ----------
    Ceres Solver, Modeling, "LossFunction": ``SoftLOneLoss(a)`` with a = c.
    J. T. Barron, "A general and adaptive robust loss function", CVPR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((2, 3))
    >>> SoftL1(scale=1.0).rho(np.array([0.0, 3.0]), out)
    >>> out
    array([[ 0.    ,  1.    , -0.5   ],
           [ 2.    ,  0.5   , -0.0625]])
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        store_positive(self, "scale")

    def rho(self, s: Array, out: Array) -> None:
        c = self.scale
        length = np.sqrt(s)
        with np.errstate(over="ignore", invalid="ignore"):  # s near or past the largest number: limits, NaN at infinity
            total = np.sqrt(c * c + s)  # c√(1+x)
            # ψ = 2x/(1+√(1+x)) instead of the difference, which cancels for small x
            out[:, 0] = 2.0 * c * (length * (length / (c + total)))
        weight = c / total
        out[:, 1] = weight
        out[:, 2] = (-0.5 / (c * c)) * weight**3
