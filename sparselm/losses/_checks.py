"""What every loss asks of its parameters."""

from __future__ import annotations

from numbers import Real

from sparselm.errors import ProblemError
from sparselm.losses.base import AbstractLoss


def store_positive(owner: object, name: str) -> None:
    """Keep a frozen dataclass's field as a Python float; raise unless its square and 1/square can be formed."""
    value = getattr(owner, name)
    if not (isinstance(value, Real) and 1e-150 <= float(value) <= 1e150):
        raise ProblemError(
            f"{type(owner).__name__}: {name} is {value!r}, expected a positive number between 1e-150 and 1e150"
        )
    object.__setattr__(owner, name, float(value))


def check_loss_instance(owner: object, name: str, value: object) -> None:
    """Raise unless ``value`` is a loss (an instance, not its class or its name)."""
    if not isinstance(value, AbstractLoss):
        raise ProblemError(
            f"{type(owner).__name__}: {name} is {value!r}, expected an instance of a loss such as Huber(1.0)"
        )
