"""Levenberg's damping, with one number for all parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sparselm.damping.base import AbstractDamping, Model, StepFailure, StepVectors, Trial, damped_step


@dataclass(frozen=True)
class LevenbergState:
    lambda_: float
    vectors: StepVectors


@dataclass(frozen=True)
class Levenberg(AbstractDamping):
    """(JᵀJ + λ I) δ = −Jᵀr; λ is divided by ``factor`` after a step that descends, and multiplied by it after another.

    Parameters
    ----------
    start_lambda
        The first λ > 0.
    factor
        Above 1.
    """

    start_lambda: float = 1e-3
    factor: float = 5.0

    def start(self, model: Model) -> LevenbergState:
        return LevenbergState(self.start_lambda, StepVectors.take(model))

    def step(self, model: Model, state: LevenbergState) -> Trial | StepFailure:
        state.vectors.damping[:] = state.lambda_
        return damped_step(model, state.vectors, state)

    def judge(self, trial: Trial, actual_reduction: float, state: LevenbergState) -> tuple[bool, LevenbergState]:
        if not np.isfinite(actual_reduction) or actual_reduction <= 0.0:
            return False, self.invalid(state)
        return True, replace(state, lambda_=state.lambda_ / self.factor)

    def invalid(self, state: LevenbergState) -> LevenbergState:
        return replace(state, lambda_=state.lambda_ * self.factor)

    def value(self, state: LevenbergState) -> float:
        return state.lambda_

    def exhausted(self, state: LevenbergState) -> bool:
        return state.lambda_ > 1e30
