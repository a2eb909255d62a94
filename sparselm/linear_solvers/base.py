"""What a linear solver is: four verbs on (JᵀJ + D) δ = b."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from sparselm.linearization import Linearization
    from sparselm.structure import Structure

Array = npt.NDArray[np.float64]
Precision = Literal["float64", "float32"]


class Need(Enum):
    """What a linear solver reads of a linearisation."""

    BLOCKS = "blocks"
    CSR = "csr"
    NORMAL = "normal"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Failure:
    """A factorisation or step that could not be computed; the loop then calls the step invalid and raises the damping.

    ``block`` is the index of the variable block (see :meth:`Structure.describe_block`) at which it broke down, −1
    where that is not known.
    """

    message: str
    block: int = -1


@dataclass(frozen=True, slots=True)
class SolveFacts:
    """What a solver knows of a solve; None where it does not apply.

    ``conjugate_residual`` tells that xᵀ(b − (JᵀJ + D) x) is zero but for rounding, as it is of a direct solver's x and of
    what the conjugate gradient method makes from x = 0.
    """

    factor_nonzeros: int | None = None
    inner_iterations: int | None = None
    residual_norm: float | None = None
    condition_hint: float | None = None
    conjugate_residual: bool = False


class AbstractLinearSolver(ABC):
    """Solves (JᵀJ + D) x = b, D diagonal, for a fixed sparsity structure.

    The instance holds options only and serves many problems and threads; all workspace lives in the plan, so one plan
    must not be used by two threads at once. ``prepare`` is called once per accepted point, ``factorize`` once per D,
    ``solve`` any number of times per factor. A later ``prepare`` or ``factorize`` on the same plan ends the life of
    what an earlier one returned.

    D is in tangent units, one value ≥ 0 per column, and ``+inf`` holds a component in this step: its x must be exactly
    0 and the other components solve the system without its row and column.
    """

    #: What the solver reads of a linearisation.
    needs: ClassVar[frozenset[Need]]

    @property
    def jacobian_precision(self) -> Precision:
        """What J is stored in while this solver is at work; residuals are linearised in double precision and then rounded.

        Gradient and diagonal are computed in double precision, from J as it is stored: a gradient Σ J_bᵀ r_b is known to
        some 6·10⁻⁸ Σ ‖J_b‖ ‖r_b‖ with ``"float32"``, and the optimum accordingly.
        """
        return "float64"

    @abstractmethod
    def analyze(self, structure: Structure, previous: Any = None) -> Any:
        """Do all symbolic work, allocate all workspace, and return the plan.

        ``previous`` is the plan of a problem that this one extends, or what the automatic choice of this solver has found
        out on the way; one that a solver cannot use is ignored. Raises :class:`sparselm.errors.SolverError` where this
        solver cannot work on such a problem.
        """

    @abstractmethod
    def prepare(self, plan: Any, linearization: Linearization) -> Any:
        """Take in a new linearisation (assemble JᵀJ, say) and return the system."""

    @abstractmethod
    def factorize(self, system: Any, damping: Array) -> Any | Failure:
        """Factorise JᵀJ + diag(damping); damping ``(num_columns,)``."""

    @abstractmethod
    def solve(
        self,
        factor: Any,
        rhs: Array,
        out: Array,
        *,
        tolerance: float | None = None,
        guess: Array | None = None,
    ) -> SolveFacts:
        """Write x into ``out`` ``(num_columns,)``, another array than rhs, which is left as it is.

        Direct solvers ignore tolerance and guess.
        """

    def describe(self, plan: Any) -> str:
        """One line for the report: ordering, sizes, variants chosen."""
        return ""
