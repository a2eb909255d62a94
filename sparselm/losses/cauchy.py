"""Cauchy's loss: the logarithm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from sparselm.losses._checks import store_positive
from sparselm.losses.base import AbstractLoss, Array


@final
@dataclass(frozen=True)
class Cauchy(AbstractLoss):
    """Cauchy's (or Lorentz's) loss, ρ(s) = c²ψ(s/c²) with c = ``scale``:

    ::

        ψ(x) = log(1+x)     ψ′(x) = 1/(1+x)     ψ″(x) = −1/(1+x)²

    The negative logarithm of a Student density with one degree of freedom. It grows without bound, yet the pull of a
    residual vanishes like 1/‖r‖: the usual choice for wrong loop closures and wrong matches once the start is near.
    It is α = 0 in Barron's family with his c equal to ours / √2.

    Parameters
    ----------
    scale : float
        Length of the whitened residual at which its weight has fallen to one half. 2.385 keeps 95 % of the efficiency
        of plain least squares on scalar unit-variance Gaussian residuals.

    References
    ----------
    Ceres Solver, Modeling, "LossFunction": ``CauchyLoss(a)`` with a = c.
    B. Triggs, P. McLauchlan, R. Hartley, A. Fitzgibbon, "Bundle adjustment: a modern synthesis", Vision Algorithms:
    Theory and Practice, 1999, section 3.
    J. T. Barron, "A general and adaptive robust loss function", CVPR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((2, 3))
    >>> Cauchy(scale=1.0).rho(np.array([0.0, 1.0]), out)
    >>> out.round(4)
    array([[ 0.    ,  1.    , -1.    ],
           [ 0.6931,  0.5   , -0.25  ]])
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        store_positive(self, "scale")

    def rho(self, s: Array, out: Array) -> None:
        square = self.scale * self.scale
        with np.errstate(over="ignore"):  # where s/c² or c²+s leaves the number range, the limits are right
            x = s / square
            weight = square / (square + s)
        out[:, 0] = square * np.log1p(x)
        out[:, 1] = weight
        out[:, 2] = (-1.0 / square) * weight**2
