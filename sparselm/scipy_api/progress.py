"""When a run of ``least_squares`` stops, what it prints on the way, and whom it tells."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sparselm.damping.base import StepFailure, Trial
from sparselm.model import Outcome
from sparselm.scipy_api.model import VectorModel
from sparselm.scipy_api.options import Tolerances

MESSAGES: Final = {
    -2: "Stopped because `callback` function raised `StopIteration` or returned `True`",
    -1: "Improper input parameters status returned from `leastsq`",
    0: "The maximum number of function evaluations is exceeded.",
    1: "`gtol` termination condition is satisfied.",
    2: "`ftol` termination condition is satisfied.",
    3: "`xtol` termination condition is satisfied.",
    4: "Both `ftol` and `xtol` termination conditions are satisfied.",
}

# Status 0 too: no tolerance was met, but no evaluation that is left could change that.
STALLED: Final = "No step reduces the cost any further, and no termination condition that is enabled is satisfied."

Reporter = Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Step:
    """What a stopping rule looks at after a trial."""

    accepted: bool
    valid: bool
    reduction: float
    previous_cost: float
    gain_ratio: float
    step_norm: float
    point_norm: float
    largest_change: float
    exhausted: bool


@dataclass(frozen=True, slots=True)
class Stopping:
    """Statuses by number; None to go on.

    The tests of f and x look at every trial, that of the gradient at accepted ones: as in SciPy. A residual that stays
    large makes the last steps shrink slowly, by a constant factor: the cost has then converged when parameters still move
    in their third digit. So the test of f may wait until they have ``settled``.

    Parameters
    ----------
    by_cosine
        Measure the gradient by angles, as MINPACK does.
    settle
        The test of f also asks that no parameter moved by more than √ftol / 10 of itself, or that the cost fell by less than
        10⁻⁴ ftol of itself, which happens where a parameter goes to 0.
    """

    model: VectorModel
    tolerances: Tolerances
    max_nfev: int
    by_cosine: bool
    settle: bool

    def at_start(self, gradient_max_norm: float) -> int | None:
        """The verdict before the first step."""
        return self._gradient(gradient_max_norm) or self._limit()

    def after_step(self, now: Step) -> int | None:
        """The verdict after a trial."""
        found = None
        if now.valid:
            tolerances = self.tolerances
            flat = now.gain_ratio > 0.25 and self._is_flat(now)
            short = now.step_norm < tolerances.xtol * (tolerances.xtol + now.point_norm)
            found = {(True, True): 4, (True, False): 2, (False, True): 3}.get((flat, short))
        if now.accepted:
            found = self._gradient(self.model.gradient_max_norm()) or found
        if found is not None:
            return found
        return 0 if now.exhausted else self._limit()

    def _is_flat(self, now: Step) -> bool:
        ftol, relative = self.tolerances.ftol, now.reduction / now.previous_cost if now.previous_cost > 0.0 else 0.0
        if ftol == 0.0 or relative > ftol:
            return False
        return not self.settle or now.largest_change <= 0.1 * math.sqrt(ftol) or relative <= 1e-4 * ftol

    def _gradient(self, optimality: float) -> int | None:
        measure = self.model.cosine() if self.by_cosine else optimality
        return 1 if measure < self.tolerances.gtol else None

    def _limit(self) -> int | None:
        return 0 if self.model.function.nfev >= self.max_nfev else None


class Recorder:
    """Prints, calls back and counts: an iteration ends where a trial is accepted, or with the run."""

    def __init__(self, model: VectorModel, verbose: int, callback: Callable[..., object] | None) -> None:
        self.verdict: int | None = None
        self.exhausted = False
        self.initial_cost = math.nan
        self._model = model
        self._verbose = verbose
        self._tell = _reporter(callback)
        self._iteration = 0
        self._open = False
        self._cost = math.nan

    def start(self, cost: float, gradient_max_norm: float, damping: float) -> None:
        """Take note of the start, and begin the table."""
        self.initial_cost = self._cost = cost
        if self._verbose == 2:
            names = ("Iteration", "Total nfev", "Cost", "Cost reduction", "Step norm", "Optimality")
            print("".join(f"{name:^15}" for name in names))
            self._row(None, None)

    def record(
        self,
        step: Trial | StepFailure,
        outcome: Outcome,
        accepted: bool,
        model: VectorModel,
        damping: float,
        *,
        exhausted: bool,
    ) -> Step:
        """Tell of a trial."""
        previous_cost, self._cost = self._cost, model.cost
        self._open = not accepted
        self.exhausted = exhausted
        if accepted:
            self._finish_iteration(outcome.reduction, outcome.step_norm)
        return Step(
            accepted=accepted,
            valid=outcome.valid,
            reduction=outcome.reduction,
            previous_cost=previous_cost,
            gain_ratio=outcome.gain_ratio,
            step_norm=outcome.step_norm,
            point_norm=model.point_norm(),
            largest_change=math.nan if step.failed else model.largest_change(step.delta),
            exhausted=exhausted,
        )

    def finish(self, status: int) -> int:
        """End an iteration that was still looking for a step; the status, which the callback may change."""
        if self._open:
            self._finish_iteration(0.0, 0.0)
        return status if self.verdict is None else self.verdict

    def _finish_iteration(self, reduction: float, step_norm: float) -> None:
        self._iteration += 1
        model = self._model
        if self._tell is not None:
            from scipy.optimize import OptimizeResult

            found = OptimizeResult(
                x=model.x.copy(),
                fun=model.f.copy(),
                nit=self._iteration,
                nfev=model.function.nfev,
                cost=model.cost,
            )
            try:
                self._tell(found)
            except StopIteration:
                self.verdict = -2
        if self._verbose == 2 and self.verdict is None:
            self._row(reduction, step_norm)

    def _row(self, reduction: float | None, step_norm: float | None) -> None:
        def cell(value: float | None) -> str:
            return " " * 15 if value is None else f"{value:^15.2e}"

        model = self._model
        print(
            f"{self._iteration:^15}{model.function.nfev:^15}{model.cost:^15.4e}{cell(reduction)}{cell(step_norm)}"
            f"{model.gradient_max_norm():^15.2e}"
        )


def _reporter(callback: Callable[..., object] | None) -> Reporter | None:
    """The callback in the one form: of an ``intermediate_result`` where that is its only parameter, else of x."""
    if callback is None:
        return None
    if set(inspect.signature(callback).parameters) == {"intermediate_result"}:
        return lambda found: callback(intermediate_result=found)
    return lambda found: callback(found.x)
