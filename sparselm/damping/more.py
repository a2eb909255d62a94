"""Moré's trust region: the λ for which the step has the length that the radius allows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sparselm.damping.base import AbstractDamping, Model, StepFailure, Trial
from sparselm.errors import SolverError
from sparselm.linear_solvers.base import Failure, SolveFacts

Array = npt.NDArray[np.float64]

# MINPACK's lmpar accepts a step whose length is within this fraction of the radius, and gives up after so many λ.
LENGTH_TOLERANCE = 0.1
MAX_INNER = 10


@dataclass(frozen=True, slots=True)
class MoreState:
    """Radius and λ, the running maximum D (in ``scale``), and what the last step was like.

    ``step_norm`` is ‖D δ‖ as solved for, ``short_norm`` that of the step inside the bounds, ``slope`` gᵀδ.
    """

    radius: float
    lambda_: float
    scale: Array
    damping: Array
    rhs: Array
    delta: Array
    work: Array
    held: npt.NDArray[np.bool_]
    first: bool = True
    step_norm: float = math.inf
    short_norm: float = math.inf
    slope: float = 0.0


@dataclass(frozen=True)
class More(AbstractDamping):
    r"""(JᵀJ + λ D²) δ = −Jᵀr, with λ ≥ 0 such that λ = 0 and ‖D δ‖ ≤ 1.1 Δ, or 0.9 Δ ≤ ‖D δ‖ ≤ 1.1 Δ.

    D_i is the largest ‖J_i‖ so far. λ solves φ(λ) = ‖D δ(λ)‖ − Δ = 0 by Newton's method on 1/‖D δ‖, whose derivative
    takes a second solve with the same factor, inside bounds that shrink:

    ::

        φ′ = −‖D δ‖ ‖w‖²,   ‖w‖² = bᵀ (JᵀJ + λ D²)⁻¹ b,   b = D²δ / ‖D δ‖
        λ ← λ + φ / (Δ ‖w‖²),   lower = φ(0) / (Δ ‖w(0)‖²),   upper = ‖D⁻¹ Jᵀr‖ / Δ

    With the gain ratio ρ: ρ ≤ ¼ gives Δ ← t min(Δ, 10 ‖D δ‖), t in [0.1, 0.5] where the parabola through the two costs
    and the slope has its minimum; ρ ≥ ¾ or λ = 0 gives Δ ← 2 ‖D δ‖. Several factorisations per step are the price; with
    few parameters and an ill-conditioned J it is the most dependable of the strategies.

    Parameters
    ----------
    initial_radius
        Δ of the first step, which is cut to ‖D δ‖ at once where that is shorter. By default 100 ‖D⁻¹ Jᵀr‖: MINPACK
        takes 100 ‖D x‖, which has no meaning for a pose.
    min_radius
        The solve ends below it, or where the radius is not finite after a step.
    min_gain_ratio
        Steps are accepted from it on.

    References
    ----------
    Moré (1978), The Levenberg–Marquardt algorithm: implementation and theory, Lecture Notes in Mathematics 630, sections
    5 and 7; MINPACK, ``lmder`` and ``lmpar``, for the constants.
    """

    initial_radius: float | None = None
    min_radius: float = 1e-32
    min_gain_ratio: float = 1e-4

    def __post_init__(self) -> None:
        if not (self.min_radius > 0.0 and (self.initial_radius is None or self.initial_radius >= self.min_radius)):
            raise SolverError(f"{self!r}: expected 0 < min_radius ≤ initial_radius")

    def start(self, model: Model) -> MoreState:
        scale = model.new_vector()
        np.sqrt(model.diagonal, out=scale)
        scale[scale == 0.0] = 1.0
        damping, rhs, delta, work = (model.new_vector() for _ in range(4))
        radius = self.initial_radius
        if radius is None:
            np.divide(model.gradient, scale, out=work)
            radius = max(100.0 * math.sqrt(model.squared_norm(work)), self.min_radius)
        return MoreState(radius, 0.0, scale, damping, rhs, delta, work, np.zeros(len(scale), dtype=bool))

    def step(self, model: Model, state: MoreState) -> Trial | StepFailure:
        np.sqrt(model.diagonal, out=state.work)
        np.maximum(state.scale, state.work, out=state.scale)
        np.negative(model.gradient, out=state.rhs)
        search = _Search(model, state)
        failure = search.run()
        if failure is not None:
            return StepFailure(failure, replace(state, step_norm=math.inf, short_norm=math.inf))
        confined = model.confine(state.damping, state.rhs, state.delta, search.facts)
        if isinstance(confined, Failure):
            return StepFailure(confined, replace(state, step_norm=math.inf, short_norm=math.inf))
        predicted = model.predicted_reduction(state.delta)
        np.multiply(model.gradient, state.delta, out=state.work)
        slope = float(state.work.sum())
        next_state = replace(
            state,
            lambda_=search.lambda_,
            step_norm=search.length,
            short_norm=search.norm_of_step(),
            slope=slope,
        )
        return Trial(state.delta, predicted, next_state, confined)

    def judge(self, trial: Trial, actual_reduction: float, state: MoreState) -> tuple[bool, MoreState]:
        gain_ratio = actual_reduction / trial.predicted if trial.predicted > 0 else -1.0
        radius, lambda_ = state.radius, state.lambda_
        if state.first:
            radius = min(radius, state.step_norm)
        if gain_ratio <= 0.25:
            shrink = 0.5
            if actual_reduction < 0.0:
                # The minimum of the parabola; MINPACK never goes below a tenth.
                shrink = max(0.1, 0.5 * state.slope / (state.slope + actual_reduction)) if state.slope < 0.0 else 0.1
            radius, lambda_ = shrink * min(radius, 10.0 * state.short_norm), lambda_ / shrink
        elif (lambda_ == 0.0 or gain_ratio >= 0.75) and state.step_norm > 0.0:
            radius, lambda_ = 2.0 * state.step_norm, 0.5 * lambda_
        accepted = gain_ratio >= self.min_gain_ratio
        return accepted, replace(state, radius=radius, lambda_=lambda_, first=state.first and not accepted)

    def invalid(self, state: MoreState) -> MoreState:
        # To MINPACK a cost that is not finite is a very large one, for which it takes the strongest shrinking there is.
        return replace(state, radius=0.1 * min(state.radius, 10.0 * state.short_norm), lambda_=10.0 * state.lambda_)

    def value(self, state: MoreState) -> float:
        return state.radius

    def exhausted(self, state: MoreState) -> bool:
        # Halves of infinity are infinite: no failure would ever shrink such a radius.
        return not self.min_radius <= state.radius < math.inf


class _Search:
    """One search for λ; on success the step stands in the state's ``delta``."""

    def __init__(self, model: Model, state: MoreState) -> None:
        self._model = model
        self._state = state
        self._factor: object = None
        self.lambda_ = 0.0
        self.length = math.nan
        self.facts = SolveFacts()

    def run(self) -> Failure | None:
        """Find λ and δ, or say why no λ that was tried gave a factor."""
        radius = self._state.radius
        lower, excess = 0.0, math.inf
        failure = self._solve(0.0)
        if failure is None:
            excess = self.length - radius
            if excess <= LENGTH_TOLERANCE * radius:
                return None
            lower = excess / radius / self._curvature()
        upper = self._scaled_gradient_norm() / radius
        if not (math.isfinite(upper) and upper > 0.0):
            upper = np.finfo(np.float64).tiny / min(radius, 0.1)
        lambda_ = min(max(self._state.lambda_, lower), upper)
        if lambda_ == 0.0 and failure is None:
            lambda_ = min(upper, upper * radius / self.length)
        for attempt in range(MAX_INNER):
            if lambda_ == 0.0:
                lambda_ = max(np.finfo(np.float64).tiny, 1e-3 * upper)
            failure = self._solve(lambda_)
            if failure is not None:
                # More damping makes it definite: up to the bound, then beyond.
                lower = lambda_
                lambda_ = max(math.sqrt(lambda_ * upper), 10.0 * lambda_)
                upper = max(upper, lambda_)
                continue
            before, excess = excess, self.length - radius
            if abs(excess) <= LENGTH_TOLERANCE * radius:
                self._stretch(radius)
                return None
            if (lower == 0.0 and excess <= before < 0.0) or attempt == MAX_INNER - 1:
                return None
            correction = excess / radius / self._curvature()
            if excess > 0.0:
                lower = max(lower, lambda_)
            else:
                upper = min(upper, lambda_)
            lambda_ = max(lower, lambda_ + correction)
        return failure

    def _stretch(self, radius: float) -> None:
        """Give the step the length of the radius, which lowers the model further where it was shorter."""
        np.multiply(self._state.delta, radius / self.length, out=self._state.delta)
        self.length = radius

    def norm_of_step(self) -> float:
        """‖D δ‖."""
        np.multiply(self._state.scale, self._state.delta, out=self._state.work)
        return math.sqrt(self._model.squared_norm(self._state.work))

    def _solve(self, lambda_: float) -> Failure | None:
        """The step of one λ and its length."""
        s, self.lambda_ = self._state, lambda_
        np.multiply(s.scale, s.scale, out=s.damping)
        np.multiply(s.damping, lambda_, out=s.damping)
        if not np.isfinite(s.damping).all():  # it would hold what is free, and a step of length 0 looks converged
            return Failure("the damping overflows: columns of J are too long to be squared")
        factor = self._model.factorize(s.damping)
        np.isinf(s.damping, out=s.held)
        if isinstance(factor, Failure):
            return factor
        self._factor = factor
        self.facts = self._model.solve(factor, s.rhs, s.delta)
        self.length = self.norm_of_step()
        if not math.isfinite(self.length):
            return Failure("the step is not finite: JᵀJ is singular to working precision")
        return None

    def _curvature(self) -> float:
        """‖w‖² at the last λ; overwrites what is no longer needed: the damping's buffer."""
        s = self._state
        if self.length == 0.0:
            return math.inf
        np.multiply(s.scale, s.scale, out=s.work)
        np.multiply(s.work, s.delta, out=s.work)
        np.divide(s.work, self.length, out=s.work)
        self._model.solve(self._factor, s.work, s.damping)
        np.multiply(s.work, s.damping, out=s.work)
        found = float(s.work.sum())
        return found if found > 0.0 else math.inf

    def _scaled_gradient_norm(self) -> float:
        """‖D⁻¹ Jᵀr‖ over the components that may move."""
        s = self._state
        np.divide(s.rhs, s.scale, out=s.work)
        s.work[s.held] = 0.0
        return math.sqrt(self._model.squared_norm(s.work))
