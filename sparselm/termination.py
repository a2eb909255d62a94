"""When to stop, and how that is called: statuses that say what they mean and what to do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from sparselm.errors import SolverError


class Status(Enum):
    """How a solve ended. ``converged`` ones met a tolerance; ``message`` says what happened, ``remedy`` what to try."""

    GRADIENT_TOLERANCE = "gradient_tolerance"
    FUNCTION_TOLERANCE = "function_tolerance"
    PARAMETER_TOLERANCE = "parameter_tolerance"
    STALLED = "stalled"
    MAX_ITERATIONS = "max_iterations"
    TIME_LIMIT = "time_limit"
    INTERRUPTED = "interrupted"
    STOPPED_BY_CALLBACK = "stopped_by_callback"
    INVALID_STEPS = "invalid_steps"
    NON_FINITE_JACOBIAN = "non_finite_jacobian"

    @property
    def converged(self) -> bool:
        """True where a tolerance was met."""
        return self in (Status.GRADIENT_TOLERANCE, Status.FUNCTION_TOLERANCE, Status.PARAMETER_TOLERANCE)

    @property
    def is_limit(self) -> bool:
        """True where the solve was going well and something outside it said stop."""
        return self in (Status.MAX_ITERATIONS, Status.TIME_LIMIT, Status.INTERRUPTED, Status.STOPPED_BY_CALLBACK)

    @property
    def message(self) -> str:
        """What happened, in one line."""
        return _MESSAGES[self][0]

    @property
    def remedy(self) -> str:
        """What to do about it; empty where nothing needs doing."""
        return _MESSAGES[self][1]


_MESSAGES = {
    Status.GRADIENT_TOLERANCE: ("converged: ‖gradient‖∞ ≤ gradient_tolerance", ""),
    Status.FUNCTION_TOLERANCE: ("converged: |Δcost| ≤ function_tolerance · cost", ""),
    Status.PARAMETER_TOLERANCE: ("converged: ‖δ‖ ≤ parameter_tolerance · (‖x‖ + parameter_tolerance)", ""),
    Status.STALLED: (
        "no step decreases the cost any further: the damping has left its range",
        "converged to machine precision if the gradient is small; if it is not, a Jacobian is wrong: try "
        "sparselm.testing.check_residual",
    ),
    Status.MAX_ITERATIONS: ("max_iterations reached", "raise max_iterations, or continue from this result"),
    Status.TIME_LIMIT: ("time_limit reached", "raise time_limit, or continue from this result"),
    Status.INTERRUPTED: ("interrupted; the best iterate is kept", "continue from this result"),
    Status.STOPPED_BY_CALLBACK: ("stopped by the callback", ""),
    Status.INVALID_STEPS: (
        "too many consecutive steps could not be computed or led to residuals that are not finite",
        "look at the blocks named in the log; hold the gauge, add priors, or start with more damping",
    ),
    Status.NON_FINITE_JACOBIAN: (
        "a Jacobian is not finite although its residual is",
        "check the derivative of the residual at the final point",
    ),
}


# Ceres gives up after 5: by then the default radius has only come down from 1e4 to 0.3, which a residual such as log x
# survives but seldom. After 10 it is below 1e-12: what is still invalid then will stay so.
MAX_CONSECUTIVE_INVALID_STEPS = 10


@dataclass(frozen=True, slots=True)
class Progress:
    """What a stopping rule looks at after a step."""

    iteration: int
    accepted: bool
    cost: float
    cost_change: float
    gradient_max_norm: float
    step_norm: float
    point_norm: float
    consecutive_invalid: int
    damping_exhausted: bool
    elapsed: float


@dataclass(frozen=True, slots=True)
class Stopping:
    """Ceres's tolerances, tested on accepted steps only (the step that meets one is applied), and limits.

    References
    ----------
    Ceres Solver 2.x, ``TrustRegionMinimizer``: defaults and formulas of the three tolerances.
    """

    max_iterations: int = 100
    time_limit: float = math.inf
    function_tolerance: float = 1e-6
    gradient_tolerance: float = 1e-10
    parameter_tolerance: float = 1e-8
    interrupted: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        for name in ("function_tolerance", "gradient_tolerance", "parameter_tolerance", "time_limit", "max_iterations"):
            value = getattr(self, name)
            if not (isinstance(value, (int, float, np.number)) and value >= 0):
                raise SolverError(f"{name} = {value!r}, expected a number ≥ 0")

    def at_start(self, gradient_max_norm: float) -> Status | None:
        """The verdict before the first step."""
        if self.interrupted():
            return Status.INTERRUPTED
        if gradient_max_norm <= self.gradient_tolerance:
            return Status.GRADIENT_TOLERANCE
        return Status.MAX_ITERATIONS if self.max_iterations <= 0 else None

    def after_step(self, now: Progress) -> Status | None:
        """The verdict after a step; None to go on. Ctrl-C comes first: who pressed it wants to be told so."""
        if self.interrupted():
            return Status.INTERRUPTED
        if now.accepted:
            if not math.isfinite(now.gradient_max_norm):
                return Status.NON_FINITE_JACOBIAN
            if now.gradient_max_norm <= self.gradient_tolerance:
                return Status.GRADIENT_TOLERANCE
            if abs(now.cost_change) <= self.function_tolerance * now.cost:
                return Status.FUNCTION_TOLERANCE
            if now.step_norm <= self.parameter_tolerance * (now.point_norm + self.parameter_tolerance):
                return Status.PARAMETER_TOLERANCE
        if now.consecutive_invalid >= MAX_CONSECUTIVE_INVALID_STEPS:
            return Status.INVALID_STEPS
        if now.damping_exhausted:
            return Status.STALLED
        if now.iteration >= self.max_iterations:
            return Status.MAX_ITERATIONS
        if now.elapsed >= self.time_limit:
            return Status.TIME_LIMIT
        return None
