"""What every loss asks of its parameters."""

from __future__ import annotations

import math
from numbers import Real

from sparselm.errors import ProblemError
from sparselm.losses.base import AbstractLoss


def check_positive(owner: object, name: str, value: float) -> None:
    """Raise unless ``value`` and its square are positive normal numbers, so that c² and 1/c² can be formed."""
    if not (isinstance(value, Real) and math.isfinite(value) and 1e-150 <= value <= 1e150):
        raise ProblemError(
            f"{type(owner).__name__}: {name} is {value!r}, expected a positive number between 1e-150 and 1e150"
        )


def check_loss_instance(owner: object, name: str, value: object) -> None:
    """Raise unless ``value`` is a loss (an instance, not its class or its name)."""
    if not isinstance(value, AbstractLoss):
        raise ProblemError(
            f"{type(owner).__name__}: {name} is {value!r}, expected an instance of a loss such as Huber(1.0)"
        )
