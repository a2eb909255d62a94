"""The linear solver ``SchurPCG``: unconnected blocks are eliminated, conjugate gradients solve for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from sparselm.errors import SolverError
from sparselm.linear_solvers.base import AbstractLinearSolver, Failure, Need, Precision, SolveFacts
from sparselm.linear_solvers.schur.choice import Choice, choose_eliminated
from sparselm.linear_solvers.schur.cholesky import NOT_POSITIVE_DEFINITE
from sparselm.linear_solvers.schur.complement import ReducedPattern
from sparselm.linear_solvers.schur.conjugate_gradients import ConjugateGradients
from sparselm.linear_solvers.schur.explicit import ExplicitSystem
from sparselm.linear_solvers.schur.implicit import ImplicitSystem
from sparselm.linear_solvers.schur.partition import Partition
from sparselm.linear_solvers.schur.reduced_system import AbstractSchurSystem
from sparselm.preconditioners.base import AbstractPreconditioner
from sparselm.preconditioners.schur_jacobi import SchurJacobi

if TYPE_CHECKING:
    from sparselm.linearization import Linearization
    from sparselm.structure import Structure

Array = npt.NDArray[np.float64]
Form = Literal["explicit", "implicit"]


@dataclass(frozen=True)
class SchurPCG(AbstractLinearSolver):
    """Elimination of unconnected variable blocks, and preconditioned conjugate gradients for their Schur complement S.

    Steps are inexact: how exact, ``forcing`` or ``tolerance`` says.

    Parameters
    ----------
    preconditioner
        :class:`sparselm.SchurJacobi` by default.
    form
        ``"implicit"`` multiplies with S through J, and needs little memory besides; ``"explicit"`` forms the blocks of S,
        which makes products faster where kept blocks share many eliminated ones.
    eliminate
        Names of variable groups to eliminate; by default those are looked for whose blocks are small and unconnected.
    precision
        ``"float32"`` keeps J in half the memory, and adds the basis Q of its eliminated columns for the implicit form, whose
        products read half as much. Right-hand sides, sums, S where it is formed, and x stay in double precision. The
        gradient is that of J as it is stored, so that its terms are rounded to about 10⁻⁷.
    forcing
        η: iteration i is the last where (i/m) (Q_i − Q_{i−m})/Q_i ≤ η, with the quadratic model Q and m = max(1, ⌊i/8⌋).
    tolerance
        Where given, iterate to ‖b − S x‖ ≤ tolerance ‖b‖ instead.
    max_iterations
        Of one solve; the iterate reached is used.
    """

    preconditioner: AbstractPreconditioner = field(default_factory=SchurJacobi)
    form: Form = "implicit"
    eliminate: Sequence[str] | None = None
    precision: Precision = "float64"
    forcing: float = 0.1
    tolerance: float | None = None
    max_iterations: int = 500

    needs: ClassVar[frozenset[Need]] = frozenset({Need.BLOCKS, Need.NORMAL})

    @property
    def jacobian_precision(self) -> Precision:
        return self.precision

    def analyze(self, structure: Structure, previous: Any = None) -> SchurPCGPlan:
        """Choose what to eliminate, and allocate."""
        self._check()
        choice = choose_eliminated(structure, self.eliminate)
        explicit = self.form == "explicit"
        partition = Partition(structure, choice, coupled=explicit or self.preconditioner.needs_couplings)
        system: AbstractSchurSystem
        if explicit:
            system = ExplicitSystem(partition, ReducedPattern(partition))
        else:
            system = ImplicitSystem(partition, self.precision)
        return SchurPCGPlan(choice, system, self.preconditioner.analyze(system))

    def _check(self) -> None:
        if self.form not in get_args(Form):
            raise SolverError(f"SchurPCG: form {self.form!r}, expected explicit or implicit")
        if self.precision not in get_args(Precision):
            raise SolverError(f"SchurPCG: precision {self.precision!r}, expected float64 or float32")
        if not isinstance(self.preconditioner, AbstractPreconditioner):
            raise SolverError(
                f"SchurPCG: preconditioner must be an instance such as slm.SchurJacobi(), got {self.preconditioner!r}"
            )
        if not (self.forcing > 0.0 and (self.tolerance is None or self.tolerance >= 0.0) and self.max_iterations >= 1):
            raise SolverError(f"{self!r}: expected forcing > 0, tolerance ≥ 0 and max_iterations ≥ 1")

    def prepare(self, plan: SchurPCGPlan, linearization: Linearization) -> SchurPCGPlan:
        """Compute V."""
        plan.system.prepare(linearization)
        return plan

    def factorize(self, system: SchurPCGPlan, damping: Array) -> SchurPCGPlan | Failure:
        """Factorise the eliminated blocks, and prepare the preconditioner."""
        linearization = system.system.linearization
        assert linearization is not None
        block = system.system.factorize(damping)
        if block < 0:
            state = self.preconditioner.prepare(system.preconditioner, system.system)
            if not isinstance(state, Failure):
                system.state = state
                return system
            block = int(system.system.partition.kept[state.block]) if state.block >= 0 else -1
        if not np.isfinite(linearization.diagonal).all() or np.isnan(damping).any():
            return Failure("JᵀJ + D has an entry that is not finite")
        return Failure(NOT_POSITIVE_DEFINITE, block)

    def solve(
        self,
        factor: SchurPCGPlan,
        rhs: Array,
        out: Array,
        *,
        tolerance: float | None = None,
        guess: Array | None = None,
    ) -> SolveFacts:
        """Reduce the right-hand side, iterate, from ``guess`` if there is one, and substitute back."""
        system = factor.system
        wanted = self.tolerance if tolerance is None else tolerance
        system.forward(rhs, factor.reduced)
        if guess is not None:
            np.take(guess, system.partition.columns, out=factor.solution, mode="clip")
            factor.solution[system.held] = 0.0
        outcome = factor.gradients.solve(
            system.multiply,
            lambda r, z: self.preconditioner.apply(factor.state, r, z),
            factor.reduced,
            factor.solution,
            forcing=self.forcing if wanted is None else None,
            tolerance=0.0 if wanted is None else wanted,
            max_iterations=self.max_iterations,
            guess=guess is not None,
        )
        system.backward(factor.solution, out)
        return SolveFacts(
            inner_iterations=outcome.iterations,
            residual_norm=outcome.residual_norm,
            # Q is rounded apart from the J that the gradient is made from.
            conjugate_residual=guess is None and (self.precision == "float64" or self.form == "explicit"),
        )

    def describe(self, plan: SchurPCGPlan) -> str:
        """What is eliminated, and how the rest is solved."""
        partition = plan.system.partition
        return (
            f"{plan.choice.reason}; {self.form} Schur complement of {len(partition.columns)} columns in "
            f"{partition.num_kept} blocks, {self.preconditioner.describe(plan.preconditioner)}, {self.precision}"
        )


class SchurPCGPlan:
    """Workspace of one problem."""

    def __init__(self, choice: Choice, system: AbstractSchurSystem, preconditioner: Any) -> None:
        self.choice = choice
        self.system = system
        self.preconditioner = preconditioner
        self.state: Any = None
        size = len(system.partition.columns)
        self.gradients = ConjugateGradients(size)
        self.reduced, self.solution = np.zeros((2, size))
