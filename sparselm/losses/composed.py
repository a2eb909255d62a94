"""One loss of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, final

import numpy as np

from sparselm.losses._checks import check_loss_instance
from sparselm.losses.base import AbstractLoss, Array
from sparselm.losses.cauchy import Cauchy
from sparselm.losses.huber import Huber
from sparselm.losses.tolerant import Tolerant


@final
@dataclass(frozen=True)
class Composed(AbstractLoss):
    """A loss ρ_o = ``outer`` of a loss ρ_i = ``inner``, by the chain rule:

    ::

        ρ(s)  = ρ_o(ρ_i(s))
        ρ′(s) = ρ_o′(ρ_i(s)) ρ_i′(s)
        ρ″(s) = ρ_o″(ρ_i(s)) ρ_i′(s)² + ρ_o′(ρ_i(s)) ρ_i″(s)

    For instance ``Composed(Huber(3.0), Tolerant(1.0, 0.1))``: forgiving near zero and robust far out.

    Parameters
    ----------
    outer, inner : AbstractLoss
        ρ_o and ρ_i; the inner one sees s.

    References
    ----------
    Ceres Solver, Modeling, "LossFunction": ``ComposedLoss(f, g)``, f outer and g inner.

    Examples
    --------
    >>> import numpy as np
    >>> from sparselm.losses import Composed, Huber, SoftL1
    >>> out = np.empty((1, 3))
    >>> Composed(Huber(1.0), SoftL1(1.0)).rho(np.array([3.0]), out)  # inner 2, outer 2√2 − 1
    >>> out.round(4)
    array([[ 1.8284,  0.3536, -0.0884]])
    """

    outer: AbstractLoss
    inner: AbstractLoss

    def __post_init__(self) -> None:
        check_loss_instance(self, "outer", self.outer)
        check_loss_instance(self, "inner", self.inner)

    def rho(self, s: Array, out: Array) -> None:
        self.inner.rho(s, out)
        composed = np.empty_like(out)
        self.outer.rho(np.ascontiguousarray(out[:, 0]), composed)
        slope = out[:, 1]
        out[:, 2] = composed[:, 2] * slope * slope + composed[:, 1] * out[:, 2]
        out[:, 1] = composed[:, 1] * slope
        out[:, 0] = composed[:, 0]

    @property
    def is_trivial(self) -> bool:
        return self.outer.is_trivial and self.inner.is_trivial

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return cls(Huber(3.0), Tolerant(1.0, 0.1)), cls(Cauchy(0.5), Cauchy(2.0))
