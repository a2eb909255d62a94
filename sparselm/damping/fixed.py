"""Constant damping: plain Gauss–Newton where it is tiny, and a reference for the adaptive strategies."""

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
class FixedState:
    vectors: StepVectors
    rejected: bool = False


@dataclass(frozen=True)
class Fixed(AbstractDamping):
    """(JᵀJ + λ diag JᵀJ) δ = −Jᵀr with one λ for all steps; the solve ends at the first step that does not descend.

    Parameters
    ----------
    lambda_
        λ > 0; the diagonal is clamped to [10⁻⁶, 10³²].
    """

    lambda_: float = 1e-8

    def __post_init__(self) -> None:
        if not 0.0 < self.lambda_ < np.inf:
            raise SolverError(f"{self!r}: expected a finite lambda_ > 0")

    def start(self, model: Model) -> FixedState:
        return FixedState(StepVectors.take(model))

    def step(self, model: Model, state: FixedState) -> Trial | StepFailure:
        np.clip(model.diagonal, MIN_DIAGONAL, MAX_DIAGONAL, out=state.vectors.damping)
        np.multiply(state.vectors.damping, self.lambda_, out=state.vectors.damping)
        return damped_step(model, state.vectors, state)

    def judge(self, trial: Trial, actual_reduction: float, state: FixedState) -> tuple[bool, FixedState]:
        accept = actual_reduction > 0.0
        return accept, state if accept else self.invalid(state)

    def invalid(self, state: FixedState) -> FixedState:
        return replace(state, rejected=True)

    def value(self, state: FixedState) -> float:
        return self.lambda_

    def exhausted(self, state: FixedState) -> bool:
        return state.rejected
