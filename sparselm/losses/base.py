"""What a loss is: ρ, ρ′ and ρ″ of a block's squared norm."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class AbstractLoss(ABC):
    """A robust loss ρ, applied once per residual block to s = ‖r‖² of the whitened residual: cost = ½ Σ ρ(s).

    A loss satisfies ρ(0) = 0, ρ′(0) = 1 and ρ′ ≥ 0 (``Tolerant`` and scaled losses keep ρ′(0) free). A scale c is in
    units of the whitened ‖r‖: ρ(s) = c² ψ(s / c²).
    """

    @abstractmethod
    def rho(self, s: Array, out: Array) -> None:
        """Write ρ(s), ρ′(s), ρ″(s) into ``out[:, 0], out[:, 1], out[:, 2]``; s ``(n,)`` ≥ 0, out ``(n, 3)``."""

    @property
    def is_trivial(self) -> bool:
        """True where ρ(s) = s, so that the pass over the residuals can be left out."""
        return False

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """Instances on which the contract tests check the class; override where the constructor takes arguments."""
        make: Any = cls
        return (make(),)
