"""Nielsen's damping update in Ceres's trust-region-radius form: the default strategy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

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

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NielsenState:
    radius: float
    decrease_factor: float
    squared_scale: Array
    vectors: StepVectors


@dataclass(frozen=True)
class Nielsen(AbstractDamping):
    r"""(JᵀJ + D) δ = −Jᵀr with D_i = clamp(s_i² ‖J_i‖², 10⁻⁶, 10³²) / (radius · s_i²), s_i = 1 / (o + ‖J_i⁰‖).

    s is the Jacobi scaling of iteration 0, with the offset o = 1. With the gain ratio ρ: accepted (ρ > 10⁻³) gives
    radius ← radius / max(⅓, 1 − (2ρ − 1)³); each failure in a row divides it by 2, 4, 8, …

    Parameters
    ----------
    initial_radius, min_radius, max_radius
        The inverse of the damping parameter, and its range.
    min_gain_ratio
        Steps are accepted above it.
    scale_offset
        o. With 0, a change of units of a variable, or of all residuals, changes no step; a column that is 0 at first is
        then measured by the longest one.

    References
    ----------
    Nielsen (1999), Damping parameter in Marquardt's method, IMM-REP-1999-05; Ceres Solver 2.x,
    ``LevenbergMarquardtStrategy``.
    """

    initial_radius: float = 1e4
    min_radius: float = 1e-32
    max_radius: float = 1e16
    min_gain_ratio: float = 1e-3
    scale_offset: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.min_radius <= self.initial_radius <= self.max_radius:
            raise SolverError(f"{self!r}: expected 0 < min_radius ≤ initial_radius ≤ max_radius")
        if not self.scale_offset >= 0.0:
            raise SolverError(f"{self!r}: expected scale_offset ≥ 0")

    def start(self, model: Model) -> NielsenState:
        lengths = self.scale_offset + np.sqrt(model.diagonal)
        lengths[lengths == 0.0] = lengths.max(initial=0.0) or 1.0
        scale = 1.0 / lengths
        return NielsenState(
            radius=self.initial_radius,
            decrease_factor=2.0,
            squared_scale=scale * scale,
            vectors=StepVectors.take(model),
        )

    def step(self, model: Model, state: NielsenState) -> Trial | StepFailure:
        np.multiply(state.squared_scale, model.diagonal, out=state.vectors.damping)
        np.clip(state.vectors.damping, MIN_DIAGONAL, MAX_DIAGONAL, out=state.vectors.damping)
        np.divide(state.vectors.damping, state.squared_scale, out=state.vectors.damping)
        np.divide(state.vectors.damping, state.radius, out=state.vectors.damping)
        return damped_step(model, state.vectors, state)

    def judge(self, trial: Trial, actual_reduction: float, state: NielsenState) -> tuple[bool, NielsenState]:
        gain_ratio = actual_reduction / trial.predicted if trial.predicted > 0 else -1.0
        if gain_ratio <= self.min_gain_ratio:
            return False, self.invalid(state)
        # From a ratio of 0.94 on this is ⅓; a huge one would overflow.
        shrink = max(1.0 / 3.0, 1.0 - (2.0 * min(gain_ratio, 2.0) - 1.0) ** 3)
        return True, replace(state, radius=min(self.max_radius, state.radius / shrink), decrease_factor=2.0)

    def invalid(self, state: NielsenState) -> NielsenState:
        return replace(
            state, radius=state.radius / state.decrease_factor, decrease_factor=2.0 * state.decrease_factor
        )

    def value(self, state: NielsenState) -> float:
        return state.radius

    def exhausted(self, state: NielsenState) -> bool:
        return state.radius < self.min_radius
