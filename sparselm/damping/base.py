"""What a damping strategy is: it proposes a trial step from the quadratic model and learns from its outcome."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from sparselm.linear_solvers.base import Failure, SolveFacts

Array = npt.NDArray[np.float64]

# The bounds Ceres puts on the damping diagonal (trust_region_options: min_lm_diagonal, max_lm_diagonal).
MIN_DIAGONAL = 1e-6
MAX_DIAGONAL = 1e32


class Model(Protocol):
    """The quadratic model m(δ) = ½‖r + Jδ‖² at the current point, as damping strategies see it.

    Arrays it hands out are read-only by convention; ``new_vector`` gives workspace for a strategy's state. Where variables
    are bounded, the gradient is 0 at active bounds and ``factorize`` holds those components: a strategy need not know.
    """

    @property
    def cost(self) -> float: ...
    @property
    def gradient(self) -> Array: ...
    @property
    def diagonal(self) -> Array:
        """diag JᵀJ, the squared column norms of J."""

    def new_vector(self) -> Array:
        """A fresh zero vector of one value per column; to be taken in ``start`` and reused."""

    def factorize(self, damping: Array) -> Any | Failure:
        """Factorise JᵀJ + diag(damping)."""

    def solve(
        self, factor: Any, rhs: Array, out: Array, *, tolerance: float | None = None, guess: Array | None = None
    ) -> SolveFacts:
        """Solve with a factor, any number of times."""

    def jvp(self, v: Array, out: Array) -> None:
        """Write J v, one value per residual."""

    def vjp(self, u: Array, out: Array) -> None:
        """Write Jᵀ u."""

    def predicted_reduction(self, delta: Array) -> float:
        """m(0) − m(δ) = −(Jδ)ᵀ(r + ½Jδ), with the undamped J."""

    def damped_reduction(self, delta: Array, damping: Array) -> float:
        """The same for a δ with δᵀ((JᵀJ + D) δ + g) = 0, out of g and D alone: ½ δᵀ(D δ − g)."""

    def project(self, delta: Array) -> bool:
        """Shorten δ in place, component by component, where x ⊞ δ would leave the bounds; True where it did.

        What a strategy proposes is shortened in any case; one that does it before it predicts, predicts better.
        """

    def confine(self, damping: Array, rhs: Array, delta: Array, facts: SolveFacts) -> SolveFacts | Failure:
        """Take a solution of (JᵀJ + D) δ = −g that leaves the bounds towards the minimum of gᵀδ + ½δᵀ(JᵀJ + D)δ in them.

        Better than to clip it: components are held at their bounds, and the others answer to that. To be called right
        after ``factorize(damping)`` and ``solve``, whose facts are given and updated. All three vectors are overwritten
        where δ leaves the bounds, and untouched where it does not.
        """

    def residuals_at(self, delta: Array, out: Array) -> bool:
        """Write the residual vector (whitened, before losses) at x ⊞ δ; False where a block is not finite."""

    def squared_norm(self, v: Array) -> float:
        """‖v‖² of a vector over the variables."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A proposed step: δ, the reduction the model predicts for it, and the state from which it came."""

    delta: Array
    predicted: float
    state: Any
    facts: SolveFacts = field(default_factory=SolveFacts)
    failed: ClassVar[Literal[False]] = False


@dataclass(frozen=True, slots=True)
class StepFailure:
    """No step could be computed; the strategy's ``invalid`` decides what to try next."""

    failure: Failure
    state: Any
    failed: ClassVar[Literal[True]] = True


class AbstractDamping(ABC):
    """Chooses the damping D of (JᵀJ + D) δ = −Jᵀr, or any other step from the quadratic model, and adapts it.

    Options are fields; all that changes is in the state, which is passed in and returned. States may hold vectors taken
    from ``model.new_vector()`` once and written in place: only the newest state is alive.
    """

    @abstractmethod
    def start(self, model: Model) -> Any:
        """The state at the first linearisation."""

    @abstractmethod
    def step(self, model: Model, state: Any) -> Trial | StepFailure:
        """Propose a step from the current point; called again after a rejected or invalid one."""

    @abstractmethod
    def judge(self, trial: Trial, actual_reduction: float, state: Any) -> tuple[bool, Any]:
        """Accept the trial or not, given the reduction of the true cost, and return the next state."""

    @abstractmethod
    def invalid(self, state: Any) -> Any:
        """The next state after a step that could not be computed or led to a non-finite cost."""

    @abstractmethod
    def value(self, state: Any) -> float:
        """The number shown in progress tables and reports (a radius, a λ)."""

    def exhausted(self, state: Any) -> bool:
        """True where the damping has left its range and no further step is worth a trial."""
        return False

    @classmethod
    def examples(cls) -> Sequence[AbstractDamping]:
        """Instances on which the contract tests check the class; override where the constructor takes arguments."""
        return (cls(),)


@dataclass(frozen=True, slots=True)
class StepVectors:
    """Workspace of :func:`damped_step`, one value per column each."""

    damping: Array
    rhs: Array
    delta: Array

    @classmethod
    def take(cls, model: Model) -> StepVectors:
        return cls(model.new_vector(), model.new_vector(), model.new_vector())


def damped_step(model: Model, vectors: StepVectors, state: Any) -> Trial | StepFailure:
    """Propose δ with (JᵀJ + D) δ = −Jᵀr for the D in ``vectors.damping``, or its like within the bounds."""
    factor = model.factorize(vectors.damping)
    if isinstance(factor, Failure):
        return StepFailure(factor, state)
    np.negative(model.gradient, out=vectors.rhs)
    facts = model.solve(factor, vectors.rhs, vectors.delta)
    confined = model.confine(vectors.damping, vectors.rhs, vectors.delta, facts)
    if isinstance(confined, Failure):
        return StepFailure(confined, state)
    if confined is facts and facts.conjugate_residual:
        return Trial(vectors.delta, model.damped_reduction(vectors.delta, vectors.damping), state, confined)
    return Trial(vectors.delta, model.predicted_reduction(vectors.delta), state, confined)
