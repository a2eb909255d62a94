"""Moré's iteration and Powell's dogleg through the damping interface: proof that it carries them, not for use."""

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
    """What both share: an ellipsoid ‖D δ‖ ≤ Δ and the quarter / three-quarter rule."""

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
class More(TrustRegion):
    """Find λ with |‖D δ(λ)‖ − Δ| ≤ 0.1 Δ by Newton's method on φ, each with a second solve by the same factor."""

    def step(self, model, state):
        damping, rhs, delta, w = state.vectors
        np.maximum(state.scale, model.diagonal, out=state.scale)
        np.negative(model.gradient, out=rhs)
        lower, upper = 0.0, math.sqrt(np.sum(model.gradient**2 / state.scale)) / state.radius
        lam = 0.0
        for _ in range(10):
            damping[:] = max(lam, 1e-14) * state.scale
            factor = model.factorize(damping)
            if isinstance(factor, Failure):
                return StepFailure(factor, state)
            facts = model.solve(factor, rhs, delta)
            length = math.sqrt(np.sum(state.scale * delta * delta))
            phi = length - state.radius
            if abs(phi) <= 0.1 * state.radius or (lam == 0.0 and phi <= 0.0):
                break
            model.solve(factor, state.scale * delta / length, w)
            slope = -float(np.sum(state.scale * delta * w)) / length * length
            if phi < 0:
                upper = min(upper, lam)
            lower = max(lower, lam - phi / slope) if phi > 0 else lower
            lam = lam - (length / state.radius) * phi / slope
            if not lower < lam < upper:
                lam = max(1e-3 * upper, math.sqrt(lower * upper))
        return Trial(delta, model.predicted_reduction(delta), replace(state, step_norm=length), facts)


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
