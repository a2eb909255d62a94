"""What a solve gives back: values, the way there, and where time and cost went."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sparselm.termination import Progress, Status
from sparselm.timing import PhaseClock, Times

if TYPE_CHECKING:
    from sparselm.damping.base import StepFailure, Trial
    from sparselm.model import Outcome, QuadraticModel
    from sparselm.variables import Variables

Array = npt.NDArray[np.float64]
logger = logging.getLogger("sparselm")


@dataclass(frozen=True, slots=True)
class Iteration:
    """One trial step; iteration 0 is the start. Numbers that do not exist are NaN.

    ``cost`` and ``gradient_max_norm`` are those of the current point after the step (the old point's if it was not
    accepted), ``trial_cost`` that of the trial point, ``damping`` the strategy's number after the step, ``time`` seconds
    since the solve began, compiling taken out.
    """

    iteration: int
    cost: float
    trial_cost: float
    cost_change: float
    gradient_max_norm: float
    step_norm: float
    gain_ratio: float
    damping: float
    accepted: bool
    valid: bool
    inner_iterations: int | None
    time: float


Callback = Callable[[Iteration], object]


@dataclass(frozen=True, slots=True)
class BlockCost:
    """A residual block and its share ½ρ(‖r‖²) of the cost; ``operands`` names the variables it reads."""

    group: str
    block: int
    cost: float
    operands: str


@dataclass(frozen=True, slots=True)
class Sizes:
    """Counts of the problem that was solved; parameters are free tangent components, some of them bounded."""

    num_variable_blocks: int
    num_parameters: int
    num_bounded_parameters: int
    num_residual_blocks: int
    num_residuals: int


@dataclass(frozen=True)
class Result:
    """The outcome of :func:`sparselm.solve`; ``result[variables]`` are optimised values, ``print(result)`` a report.

    Attributes
    ----------
    status : Status
        Its ``message`` says how the solve ended, its ``remedy`` what to do about it.
    initial_cost, final_cost : float
        ½ Σ ρ(‖r‖²) at the start and at the returned values.
    gradient_max_norm : float
        ‖Jᵀr‖∞ at the returned values; ‖x − P(x − Jᵀr)‖∞, with P the projection into the bounds, where there are some.
    num_at_bounds : int
        Parameters that ended on a bound.
    iterations : tuple of Iteration
        The way there; iteration 0 is the start.
    group_costs : dict
        Share of the final cost of each residual group.
    worst_blocks : tuple of BlockCost
        The residual blocks with the largest share of the final cost, worst first.
    remarks : dict
        Counts of what is legal but worth knowing at the final point (points behind their camera, …).
    linear_solver, linear_solver_reason, linear_solver_facts : str
        Name, why it was chosen, and what it says of its analysis.
    """

    status: Status
    initial_cost: float
    final_cost: float
    gradient_max_norm: float
    num_at_bounds: int
    iterations: tuple[Iteration, ...]
    times: Times
    sizes: Sizes
    group_costs: dict[str, float]
    worst_blocks: tuple[BlockCost, ...]
    initial_remarks: dict[str, int]
    remarks: dict[str, int]
    linear_solver: str
    linear_solver_reason: str
    linear_solver_facts: str
    factor_nonzeros: int | None
    damping: str
    num_threads: int
    values: Mapping[str, Array] = field(repr=False)

    def __getitem__(self, variables: Variables | str) -> Array:
        """Optimised values ``(n, ambient_dim)`` of some variables, or of those of that name."""
        return self.values[variables if isinstance(variables, str) else variables.name]

    @property
    def success(self) -> bool:
        """True where the values are usable.

        A tolerance was met; or the cost went down before a limit was; or no step could lower it any further (STALLED)
        although the cost could be computed at some trial point.
        """
        if self.status.is_limit:
            return self.final_cost < self.initial_cost
        stalled = self.status is Status.STALLED and any(i.valid for i in self.iterations[1:])
        return self.status.converged or stalled

    @property
    def message(self) -> str:
        """How the solve ended, and the remedy where there is one."""
        return self.status.message + (f" ({self.status.remedy})" if self.status.remedy else "")

    @property
    def num_iterations(self) -> int:
        """Steps tried: accepted, rejected and invalid."""
        return len(self.iterations) - 1

    @property
    def num_accepted(self) -> int:
        return sum(i.accepted for i in self.iterations[1:])

    @property
    def num_rejected(self) -> int:
        return sum(i.valid and not i.accepted for i in self.iterations[1:])

    @property
    def num_invalid(self) -> int:
        return sum(not i.valid for i in self.iterations[1:])

    @property
    def inner_iterations(self) -> int | None:
        """Inner iterations of an iterative linear solver, all told; None for a direct one."""
        counts = [i.inner_iterations for i in self.iterations if i.inner_iterations is not None]
        return sum(counts) if counts else None

    def __str__(self) -> str:
        from sparselm.report.text import format_result

        return format_result(self)


class Recorder:
    """Keeps the iteration records, tells the callback, and notes when that wants to stop."""

    def __init__(self, clock: PhaseClock, callback: Callback | None) -> None:
        self.iterations: list[Iteration] = []
        self.verdict: Status | None = None
        self.factor_nonzeros: int | None = None
        self._clock = clock
        self._callback = callback
        self._consecutive_invalid = 0

    def start(self, cost: float, gradient_max_norm: float, damping: float) -> None:
        """Record iteration 0."""
        nan = math.nan
        self._append(
            Iteration(0, cost, cost, nan, gradient_max_norm, nan, nan, damping, True, True, None, self._clock.elapsed())
        )

    def record(
        self,
        step: Trial | StepFailure,
        outcome: Outcome,
        accepted: bool,
        model: QuadraticModel,
        damping: float,
        *,
        exhausted: bool,
    ) -> Progress:
        """Record a step and sum it up for the stopping rule."""
        previous = self.iterations[-1]
        self._consecutive_invalid = 0 if outcome.valid else self._consecutive_invalid + 1
        if outcome.reason:
            logger.info("iteration %d is invalid: %s", len(self.iterations), outcome.reason)
        inner = None
        if not step.failed:
            inner = step.facts.inner_iterations
            self.factor_nonzeros = step.facts.factor_nonzeros
        item = Iteration(
            iteration=previous.iteration + 1,
            cost=model.cost,
            trial_cost=outcome.cost,
            cost_change=outcome.reduction,
            gradient_max_norm=model.gradient_max_norm() if accepted else previous.gradient_max_norm,
            step_norm=outcome.step_norm,
            gain_ratio=outcome.gain_ratio,
            damping=damping,
            accepted=accepted,
            valid=outcome.valid,
            inner_iterations=inner,
            time=self._clock.elapsed(),
        )
        self._append(item)
        return Progress(
            iteration=item.iteration,
            accepted=accepted,
            cost=item.cost,
            cost_change=outcome.reduction,
            gradient_max_norm=item.gradient_max_norm,
            step_norm=outcome.step_norm,
            point_norm=model.point_norm() if accepted else math.nan,
            consecutive_invalid=self._consecutive_invalid,
            damping_exhausted=exhausted,
            elapsed=self._clock.wall(),
        )

    def _append(self, item: Iteration) -> None:
        self.iterations.append(item)
        if self._callback is not None:
            try:
                if self._callback(item):
                    self.verdict = Status.STOPPED_BY_CALLBACK
            except StopIteration:
                self.verdict = Status.STOPPED_BY_CALLBACK
