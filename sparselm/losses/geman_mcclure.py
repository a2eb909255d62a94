"""Geman and McClure's loss: bounded, rational."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from sparselm.losses._checks import store_positive
from sparselm.losses.base import AbstractLoss, Array


@final
@dataclass(frozen=True)
class GemanMcClure(AbstractLoss):
    """Geman and McClure's loss, ρ(s) = c²ψ(s/c²) with c = ``scale``:

    ::

        ψ(x) = x/(1+x)     ψ′(x) = 1/(1+x)²     ψ″(x) = −2/(1+x)³

    Bounded by c², without transcendental functions. A switch variable w per block, minimised out of w²‖r‖² + c²(1−w)²,
    leaves exactly this loss. It is also the one of graduated non-convexity, where c shrinks from solve to solve, and
    α = −2 in Barron's family with his c equal to ours / 2.

    Parameters
    ----------
    scale : float
        Length of the whitened residual at which the loss has reached half its bound and the weight one quarter.

    References
    ----------
    S. Geman, D. E. McClure, "Bayesian image analysis: an application to single photon emission tomography", Proceedings
    of the Statistical Computing Section, American Statistical Association, 1985, 12–18.
    J. T. Barron, "A general and adaptive robust loss function", CVPR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> out = np.empty((2, 3))
    >>> GemanMcClure(scale=1.0).rho(np.array([0.0, 1.0]), out)
    >>> out
    array([[ 0.  ,  1.  , -2.  ],
           [ 0.5 ,  0.25, -0.25]])
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        store_positive(self, "scale")

    def rho(self, s: Array, out: Array) -> None:
        square = self.scale * self.scale
        with np.errstate(over="ignore", invalid="ignore"):  # s near or past the largest number: limits, NaN at infinity
            total = square + s
            out[:, 0] = square * (s / total)
        share = square / total
        weight = share * share
        out[:, 1] = weight
        out[:, 2] = (-2.0 / square) * (share * weight)
