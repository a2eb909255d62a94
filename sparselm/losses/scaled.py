"""A loss times a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, final

import numpy as np

from sparselm.losses._checks import check_loss_instance, store_positive
from sparselm.losses.base import AbstractLoss, Array
from sparselm.losses.cauchy import Cauchy
from sparselm.losses.trivial import Trivial


@final
@dataclass(frozen=True)
class Scaled(AbstractLoss):
    """A loss times a positive number a = ``weight``: aρ(s), aρ′(s), aρ″(s).

    It weighs one group of residuals against the others without moving the point at which its loss takes hold. Weighing
    the residual itself does move it: √a·r turns ρ(s) into ρ(as).

    Parameters
    ----------
    loss : AbstractLoss
        ρ.
    weight : float
        a > 0.

    References
    ----------
    Ceres Solver, Modeling, "LossFunction": ``ScaledLoss``.

    Examples
    --------
    >>> import numpy as np
    >>> from sparselm.losses import Huber, Scaled
    >>> out = np.empty((1, 3))
    >>> Scaled(Huber(1.0), weight=10.0).rho(np.array([4.0]), out)
    >>> out
    array([[30.   ,  5.   , -0.625]])
    """

    loss: AbstractLoss
    weight: float

    def __post_init__(self) -> None:
        check_loss_instance(self, "loss", self.loss)
        store_positive(self, "weight")

    def rho(self, s: Array, out: Array) -> None:
        self.loss.rho(s, out)
        with np.errstate(over="ignore"):  # a weight above one can carry a cost near the largest number past it
            np.multiply(out, self.weight, out=out)

    @property
    def is_trivial(self) -> bool:
        return self.weight == 1.0 and self.loss.is_trivial

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return cls(Cauchy(2.0), weight=3.0), cls(Trivial(), weight=0.5)
