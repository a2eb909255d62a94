"""Powell's dogleg through the damping interface: proof that it carries other trust regions, not for use."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from sparselm.damping.base import AbstractDamping, StepFailure, Trial
from sparselm.linear_solvers.base import Failure


@dataclass(frozen=True)
class TrustRegionState:
    radius: float
    scale: np.ndarray  # squared scale of each component: the running maximum of the squared column norms
    vectors: tuple[np.ndarray, ...]
    step_norm: float = 0.0
    rejected: bool = False


class TrustRegion(AbstractDamping):
    """An ellipsoid ‖D δ‖ ≤ Δ and the quarter / three-quarter rule."""

    factor = 100.0

    def start(self, model):
        scale = np.where(model.diagonal > 0, model.diagonal, 1.0)
        return TrustRegionState(self.factor, scale, tuple(model.new_vector() for _ in range(4)))

    def judge(self, trial, actual_reduction, state):
        ratio = actual_reduction / trial.predicted if trial.predicted > 0 else -1.0
        radius = state.radius
        if ratio <= 0.25:
            radius = 0.25 * min(state.radius, trial.state.step_norm)
        elif ratio >= 0.75:
            radius = max(radius, 2.0 * trial.state.step_norm)
        return ratio > 1e-4, replace(state, radius=radius)

    def invalid(self, state):
        return replace(state, radius=0.25 * state.radius)

    def value(self, state):
        return state.radius

    def exhausted(self, state):
        return state.radius < 1e-15


@dataclass(frozen=True)
class Dogleg(TrustRegion):
    """Gauss–Newton inside the radius, steepest descent where even the Cauchy point is outside, between them else."""

    def step(self, model, state):
        damping, newton, delta, cauchy = state.vectors
        np.maximum(state.scale, model.diagonal, out=state.scale)
        damping[:] = 1e-10 * state.scale
        factor = model.factorize(damping)
        if isinstance(factor, Failure):
            return StepFailure(factor, state)
        np.negative(model.gradient, out=delta)
        facts = model.solve(factor, delta, newton)
        cauchy[:] = -model.gradient / state.scale
        descent = -float(model.gradient @ cauchy)
        curvature = descent - model.predicted_reduction(cauchy)  # ½ ‖J d‖²
        cauchy *= descent / (2.0 * curvature)

        def norm(v):
            return math.sqrt(np.sum(state.scale * v * v))

        if norm(newton) <= state.radius:
            delta[:] = newton
        elif norm(cauchy) >= state.radius:
            delta[:] = cauchy * (state.radius / norm(cauchy))
        else:
            d = newton - cauchy
            a, b = np.sum(state.scale * d * d), np.sum(state.scale * cauchy * d)
            c = norm(cauchy) ** 2 - state.radius**2
            delta[:] = cauchy + d * ((-b + math.sqrt(b * b - a * c)) / a)
        return Trial(delta, model.predicted_reduction(delta), replace(state, step_norm=norm(delta)), facts)
