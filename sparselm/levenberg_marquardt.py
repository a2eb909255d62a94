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

from typing import Any

from sparselm.damping.base import AbstractDamping, StepFailure, Trial
from sparselm.model import Outcome, QuadraticModel
from sparselm.result import Recorder
from sparselm.termination import Status, Stopping


def levenberg_marquardt(
    model: QuadraticModel, damping: AbstractDamping, stopping: Stopping, recorder: Recorder
) -> Status:
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
