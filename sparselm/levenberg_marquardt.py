"""The Levenberg–Marquardt method, as named steps.

    linearise at x                       r, J, g = Jᵀr
    repeat
        propose a step                   (JᵀJ + D) δ = −g, or what the damping strategy makes of it
        try it                           ρ = (f(x) − f(x ⊞ δ)) / (m(0) − m(δ))
        learn from it                    accepted(ρ) | rejected(ρ) | invalid: the next damping
        move if it was accepted          x ← x ⊞ δ, linearise
    until a tolerance or a limit is met

The parts are plug-ins: residuals and manifolds stand behind the model, as does the linear solver; the damping strategy
owns how a step is chosen. Accepted, rejected and invalid (not finite, or no factorisation) are three different events.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from sparselm.damping.base import AbstractDamping, Model, StepFailure, Trial
from sparselm.model import Outcome


class Walker(Model, Protocol):
    """A model that can also move."""

    def start(self) -> None: ...
    def gradient_max_norm(self) -> float: ...
    def try_step(self, step: Trial | StepFailure) -> Outcome: ...
    def accept(self) -> None: ...


W = TypeVar("W", bound=Walker)
W_in = TypeVar("W_in", bound=Walker, contravariant=True)
P = TypeVar("P")  # what a recorder makes of a step, for the stopping rule
P_in = TypeVar("P_in", contravariant=True)
P_out = TypeVar("P_out", covariant=True)
S = TypeVar("S")  # how a solve ended
S_out = TypeVar("S_out", covariant=True)


class StoppingRule(Protocol[P_in, S_out]):
    """Says how the solve ended; None to go on."""

    def at_start(self, gradient_max_norm: float) -> S_out | None: ...
    def after_step(self, now: P_in) -> S_out | None: ...


class StepRecorder(Protocol[W_in, P_out, S_out]):
    """Keeps what happened; its verdict, if it has one, ends the solve."""

    @property
    def verdict(self) -> S_out | None: ...
    def start(self, cost: float, gradient_max_norm: float, damping: float) -> None: ...
    def record(
        self, step: Trial | StepFailure, outcome: Outcome, accepted: bool, model: W_in, damping: float, *, exhausted: bool
    ) -> P_out: ...


def levenberg_marquardt(
    model: W, damping: AbstractDamping, stopping: StoppingRule[P, S], recorder: StepRecorder[W, P, S]
) -> S:
    """Minimise from the model's point; on return the model stands at the best iterate, the recorder knows the way."""
    model.start()
    state = damping.start(model)
    recorder.start(model.cost, model.gradient_max_norm(), damping.value(state))
    status = recorder.verdict or stopping.at_start(model.gradient_max_norm())
    while status is None:
        step = damping.step(model, state)
        outcome = model.try_step(step)
        accepted, state = _learn(damping, step, outcome)
        if accepted:
            model.accept()
        progress = recorder.record(
            step, outcome, accepted, model, damping.value(state), exhausted=damping.exhausted(state)
        )
        status = recorder.verdict or stopping.after_step(progress)
    return status


def _learn(damping: AbstractDamping, step: Trial | StepFailure, outcome: Outcome) -> tuple[bool, Any]:
    """Tell the strategy what became of its step: was it accepted, and the next state."""
    if step.failed or not outcome.valid:
        return False, damping.invalid(step.state)
    return damping.judge(step, outcome.reduction, step.state)
