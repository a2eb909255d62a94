"""Losses as SciPy applies them: to each residual by itself, with its correction of f and J.

With z = (f_i / c)² and ρ(z) the loss, the cost is ½ c² Σ ρ(z_i), and f and J are replaced by

    J_i ← √h J_i,   f_i ← (ρ′ / √h) f_i,   h = max(ρ′ + 2 ρ″ z, ε)

so that Jᵀf is the gradient and JᵀJ the Gauss–Newton approximation of the Hessian. :func:`sparselm.solve` differs twice: it
corrects a block as a whole (Triggs), and leaves the second-order term out where ρ″ ≤ 0.

References
----------
B. Triggs et al., "Bundle adjustment: a modern synthesis", 1999, section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sparselm.losses.arctan import Arctan
from sparselm.losses.base import AbstractLoss
from sparselm.losses.cauchy import Cauchy
from sparselm.losses.huber import Huber
from sparselm.losses.soft_l1 import SoftL1

Array = npt.NDArray[np.float64]

_NAMED: Final[dict[str, type[AbstractLoss]]] = {
    "huber": Huber,
    "soft_l1": SoftL1,
    "cauchy": Cauchy,
    "arctan": Arctan,
}
NAMES: Final = ("linear", *_NAMED)


class ScalarLoss:
    """ρ of each residual.

    Parameters
    ----------
    loss : str or callable
        One of the names, but not "linear"; or a function of z ``(m,)`` that returns ρ, ρ′ and ρ″ as ``(3, m)``.
    scale : float
        c, ``f_scale``.
    """

    def __init__(self, loss: str | Callable[[Array], Any], scale: float) -> None:
        self._function = loss if callable(loss) else _Named(loss)
        self._scale = scale

    def cost(self, f: Array) -> float:
        """½ c² Σ ρ."""
        with np.errstate(over="ignore", invalid="ignore"):
            return float(0.5 * self._scale**2 * np.sum(self._rho(f)[0]))

    def correction(self, f: Array) -> tuple[float, Array, Array]:
        """The cost, and the factors of J's rows and of f."""
        rho = self._rho(f)
        curvature = rho[1] + 2.0 * rho[2] * (f / self._scale) ** 2
        root = np.sqrt(np.maximum(curvature, np.finfo(np.float64).eps))
        return float(0.5 * self._scale**2 * np.sum(rho[0])), root, rho[1] / root

    def _rho(self, f: Array) -> Array:
        rho: Array = np.asarray(self._function((f / self._scale) ** 2), dtype=np.float64)
        if rho.shape != (3, len(f)):
            raise ValueError(
                f"The return value of `loss` callable has wrong shape: expected {(3, len(f))}, actual {rho.shape}."
            )
        return rho


class _Named:
    """A loss of this package in SciPy's form."""

    def __init__(self, name: str) -> None:
        make: Any = _NAMED[name]
        self._loss: AbstractLoss = make(1.0)

    def __call__(self, z: Array) -> Array:
        out = np.empty((len(z), 3))
        self._loss.rho(z, out)
        return out.T
