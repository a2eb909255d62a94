"""Marquardt's rule: multiply λ by a factor after a failure, divide it after a success."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sparselm.damping.base import (
    MAX_DIAGONAL,
    MIN_DIAGONAL,
    AbstractDamping,
    Model,
    StepFailure,
    StepVectors,
    Trial,
    damped_step,
)
from sparselm.errors import SolverError


@dataclass(frozen=True, slots=True)
class MarquardtState:
    lambda_: float
    vectors: StepVectors


@dataclass(frozen=True)
class Marquardt(AbstractDamping):
    """(JᵀJ + λ diag JᵀJ) δ = −Jᵀr; λ ← λ/ν after an accepted step, λ ← λν after any other.

    A step is accepted where the cost goes down. The diagonal is clamped to [10⁻⁶, 10³²].

    Parameters
    ----------
    initial_lambda, min_lambda, max_lambda
        Start and range of λ; the solve ends where λ exceeds its range.
    factor
        ν > 1.

    References
    ----------
    Marquardt (1963), An algorithm for least-squares estimation of nonlinear parameters, J. SIAM 11 (2).
    """

    initial_lambda: float = 1e-4
    factor: float = 10.0
    min_lambda: float = 1e-16
    max_lambda: float = 1e32

    def __post_init__(self) -> None:
        if not self.factor > 1.0:
            raise SolverError(f"{self!r}: factor must exceed 1")
        if not 0.0 < self.min_lambda <= self.initial_lambda <= self.max_lambda:
            raise SolverError(f"{self!r}: expected 0 < min_lambda ≤ initial_lambda ≤ max_lambda")

    def start(self, model: Model) -> MarquardtState:
        return MarquardtState(self.initial_lambda, StepVectors.take(model))

    def step(self, model: Model, state: MarquardtState) -> Trial | StepFailure:
        np.clip(model.diagonal, MIN_DIAGONAL, MAX_DIAGONAL, out=state.vectors.damping)
        np.multiply(state.vectors.damping, state.lambda_, out=state.vectors.damping)
        return damped_step(model, state.vectors, state)

    def judge(self, trial: Trial, actual_reduction: float, state: MarquardtState) -> tuple[bool, MarquardtState]:
        if not (actual_reduction > 0.0 and trial.predicted > 0.0):
            return False, self.invalid(state)
        return True, replace(state, lambda_=max(self.min_lambda, state.lambda_ / self.factor))

    def invalid(self, state: MarquardtState) -> MarquardtState:
        return replace(state, lambda_=state.lambda_ * self.factor)

    def value(self, state: MarquardtState) -> float:
        return state.lambda_

    def exhausted(self, state: MarquardtState) -> bool:
        return state.lambda_ > self.max_lambda
