"""The quadratic model at the current point: what damping strategies and the loop see of a problem."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sparselm.damping.base import StepFailure, Trial
from sparselm.evaluator import Evaluator
from sparselm.linear_solvers.base import AbstractLinearSolver, Failure, Need, SolveFacts
from sparselm.timing import PhaseClock

Array = npt.NDArray[np.float64]

# Factorisations for one step in a box. Measured on bounded problems of Moré, Garbow and Hillstrom and on random linear
# ones: from 4 on, iterations hardly become fewer; active sets of linear problems with 200 bounds settle within 6.
MAX_FACTORIZATIONS = 6


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a proposed step; ``valid`` is False where it could not be computed or the cost is not finite."""

    valid: bool
    cost: float
    reduction: float
    gain_ratio: float
    step_norm: float
    reason: str = ""


class QuadraticModel:
    """m(δ) = ½‖r + Jδ‖² around the evaluator's current point, with a linear solver for (JᵀJ + D) δ = b.

    Implements :class:`sparselm.damping.base.Model`. The solver's ``prepare`` runs at the first factorisation after a
    point was accepted, not before: strategies that need no factor pay for none.
    """

    def __init__(self, evaluator: Evaluator, solver: AbstractLinearSolver, plan: Any, clock: PhaseClock) -> None:
        self._evaluator = evaluator
        self._solver = solver
        self._plan = plan
        self._clock = clock
        self._lin = evaluator.linearization
        if Need.NORMAL in solver.needs:
            self._lin.announce_diagonal_blocks()
        self._system: Any = None
        self._Jd = np.zeros(evaluator.structure.num_rows)
        self._box = evaluator.box
        self._gradient_max_norm = math.nan

    # -- the point ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Linearise at the start; raises where a block is not finite there."""
        self._linearize()
        self._evaluator.check_start()
        self._heed_bounds()

    def try_step(self, step: Trial | StepFailure) -> Outcome:
        """Evaluate the true cost at the trial point; δ is projected, whatever proposed it."""
        if step.failed:
            return Outcome(False, math.nan, math.nan, math.nan, math.nan, step.failure.message)
        with self._clock.phase("evaluate"):
            self.project(step.delta)
            step_norm = math.sqrt(self.squared_norm(step.delta))
            if not math.isfinite(step_norm):
                return Outcome(False, math.nan, math.nan, math.nan, math.nan, "the step is not finite")
            self._evaluator.move_trial(step.delta)
            cost = self._evaluator.trial_cost()
            if not math.isfinite(cost):
                count = self._evaluator.num_invalid_trial_blocks()
                return Outcome(False, math.nan, math.nan, math.nan, step_norm, f"{count} blocks are not finite")
        reduction = self.cost - cost
        gain_ratio = reduction / step.predicted if step.predicted > 0 else -math.inf
        return Outcome(True, cost, reduction, gain_ratio, step_norm)

    def accept(self) -> None:
        """Move to the trial point and linearise there."""
        self._evaluator.accept_trial()
        self._linearize()
        self._heed_bounds()

    def _linearize(self) -> None:
        with self._clock.phase("linearize"):
            self._evaluator.linearize()
        self._system = None

    def _heed_bounds(self) -> None:
        """Measure optimality by x − P(x − g), then take active components out of the gradient that steps see."""
        if self._box is not None:
            self._box.move_to(self._evaluator.point, self._lin.gradient)
            self._gradient_max_norm = self._lin.max_abs(self._lin.gradient)
            self._box.reduce_gradient(self._lin.gradient)

    # -- norms ----------------------------------------------------------------------------------------------------------

    @property
    def cost(self) -> float:
        return self._lin.cost

    @property
    def gradient(self) -> Array:
        return self._lin.gradient

    @property
    def diagonal(self) -> Array:
        return self._lin.diagonal

    def gradient_max_norm(self) -> float:
        """‖Jᵀr‖∞ over the free components; where bounds are, ‖x − P(x − Jᵀr)‖∞ with P the projection into them."""
        return self._lin.max_abs(self._lin.gradient) if self._box is None else self._gradient_max_norm

    def point_norm(self) -> float:
        """‖x‖ over all stored numbers."""
        return math.sqrt(self._evaluator.squared_norm_of_point())

    def squared_norm(self, v: Array) -> float:
        return self._lin.dot(v, v)

    # -- the model ------------------------------------------------------------------------------------------------------

    def new_vector(self) -> Array:
        return np.zeros(self._evaluator.structure.num_columns)

    def factorize(self, damping: Array) -> Any | Failure:
        """Factorise JᵀJ + diag(damping); components held constant, and at active bounds, get +inf in the given vector."""
        if self._evaluator.held is not None:
            damping[self._evaluator.held] = np.inf
        if self._box is not None:
            self._box.begin_step(damping)
        return self._factorize(damping)

    def _factorize(self, damping: Array) -> Any | Failure:
        with self._clock.phase("linear_solve"):
            if self._system is None:
                self._system = self._solver.prepare(self._plan, self._lin)
            factor = self._solver.factorize(self._system, damping)
        if isinstance(factor, Failure) and factor.block >= 0:
            place = self._evaluator.structure.describe_block(factor.block)
            return Failure(f"{factor.message} at {place}", factor.block)
        return factor

    def solve(
        self, factor: Any, rhs: Array, out: Array, *, tolerance: float | None = None, guess: Array | None = None
    ) -> SolveFacts:
        with self._clock.phase("linear_solve"):
            return self._solver.solve(factor, rhs, out, tolerance=tolerance, guess=guess)

    def jvp(self, v: Array, out: Array) -> None:
        self._lin.jvp(v, out)

    def vjp(self, u: Array, out: Array) -> None:
        self._lin.vjp(u, out)

    def project(self, delta: Array) -> bool:
        return self._box is not None and self._box.project(delta)

    def confine(self, damping: Array, rhs: Array, delta: Array, facts: SolveFacts) -> SolveFacts | Failure:
        box = self._box
        if box is None or not box.exceeded_by(delta):
            return facts
        for _ in range(MAX_FACTORIZATIONS - 1):
            self._multiply_by_JTJ(delta, rhs)
            if not box.revise(delta, rhs):
                break
            # What is left for the components that are not pinned: (JᵀJ + D) δ = −g − JᵀJ δ_pinned.
            box.pinned_step(delta)
            self._multiply_by_JTJ(delta, rhs)
            np.add(rhs, self._lin.gradient, out=rhs)
            box.add_active_gradient(rhs)
            np.negative(rhs, out=rhs)
            box.pin(damping)
            factor = self._factorize(damping)
            if isinstance(factor, Failure):
                return factor
            latest = self.solve(factor, rhs, delta)
            box.add_pinned_step(delta)
            if facts.inner_iterations is not None and latest.inner_iterations is not None:
                latest = replace(latest, inner_iterations=facts.inner_iterations + latest.inner_iterations)
            facts = latest
        box.project(delta)
        return facts

    def _multiply_by_JTJ(self, v: Array, out: Array) -> None:
        with self._clock.phase("linear_solve"):
            self._lin.jvp(v, self._Jd)
            self._lin.vjp(self._Jd, out)

    def predicted_reduction(self, delta: Array) -> float:
        with self._clock.phase("evaluate"):
            self._lin.jvp(delta, self._Jd)
            return self._lin.predicted_reduction(self._Jd)

    def damped_reduction(self, delta: Array, damping: Array) -> float:
        with self._clock.phase("evaluate"):
            return self._lin.damped_reduction(delta, damping)

    def residuals_at(self, delta: Array, out: Array) -> bool:
        with self._clock.phase("evaluate"):
            self._evaluator.move_trial(delta)
            return self._evaluator.trial_residuals(out)
