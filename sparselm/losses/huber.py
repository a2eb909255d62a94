"""Huber's loss: quadratic near zero, linear beyond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from sparselm.losses._checks import store_positive
from sparselm.losses.base import AbstractLoss, Array


@final
@dataclass(frozen=True)
class Huber(AbstractLoss):
    """Huber's loss, ρ(s) = c²ψ(s/c²) with c = ``scale``:

    ::

        x ≤ 1:   ψ(x) = x          ψ′(x) = 1          ψ″(x) = 0
        x > 1:   ψ(x) = 2√x − 1    ψ′(x) = 1/√x       ψ″(x) = −1/(2 x√x)

    A residual longer than c pulls with constant force instead of one proportional to its length. Like
    :class:`~sparselm.losses.soft_l1.SoftL1`, and unlike the losses that grow slower, it is convex in r and so adds no
    local minima: the first one to try. ψ″ jumps at x = 1; at the junction itself the inner piece counts.

    Parameters
    ----------
    scale : float
        Length of the whitened residual at which the loss turns linear. 1.345 keeps 95 % of the efficiency of plain
        least squares on scalar unit-variance Gaussian residuals.

    References
    ----------
    P. J. Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35, 1964, 73–101.
    Ceres Solver, Modeling, "LossFunction": ``HuberLoss(a)`` with a = c.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((2, 3))
    >>> Huber(scale=1.0).rho(np.array([0.25, 4.0]), out)
    >>> out
    array([[ 0.25  ,  1.    ,  0.    ],
           [ 3.    ,  0.5   , -0.0625]])
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        store_positive(self, "scale")

    def rho(self, s: Array, out: Array) -> None:
        c = self.scale
        outside = ~(s <= c * c)  # true for NaN too, which the outer piece passes on
        if not outside.any():
            out[:, 0] = s
            out[:, 1] = 1.0
            out[:, 2] = 0.0
            return
        far = np.maximum(s, c * c)
        root = np.sqrt(far)
        weight = c / root  # exactly 1 inside, since the root of a rounded square is exact
        out[:, 0] = np.where(outside, c * (2.0 * root - c), s)
        out[:, 1] = weight
        out[:, 2] = np.where(outside, -0.5 * (weight / far), 0.0)  # in this order: s√s would overflow
