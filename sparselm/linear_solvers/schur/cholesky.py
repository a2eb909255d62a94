"""The linear solver ``SchurCholesky``: unconnected blocks are eliminated, what is left is factorised by blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import numpy as np
import numpy.typing as npt

from sparselm.errors import SolverError
from sparselm.linear_solvers.base import AbstractLinearSolver, Failure, Need, Precision, SolveFacts
from sparselm.linear_solvers.block_cholesky.numeric import Numeric, refine
from sparselm.linear_solvers.block_cholesky.solver import SINGLE_STEPS
from sparselm.linear_solvers.ordering import Choice as OrderingChoice
from sparselm.linear_solvers.ordering import inverse_order
from sparselm.linear_solvers.schur.choice import Choice
from sparselm.linear_solvers.schur.elimination import Elimination
from sparselm.linear_solvers.schur.partition import Partition
from sparselm.linear_solvers.schur.reduced_matrix import ReducedMatrix
from sparselm.linear_solvers.schur.symbolic import SchurSymbolic, find_symbolic

if TYPE_CHECKING:
    from sparselm.linearization import Linearization
    from sparselm.structure import Structure

Array = npt.NDArray[np.float64]

NOT_POSITIVE_DEFINITE = "JᵀJ + D is not positive definite"


@dataclass(frozen=True)
class SchurCholesky(AbstractLinearSolver):
    r"""Elimination of unconnected variable blocks, and a sparse Cholesky factorisation of their Schur complement.

    Of x = (x_K, x_E), eliminated and kept columns, whose blocks e no residual block connects with one another,

    .. math:: S x_K = b_K - \sum_e W_e (V_e + D_e)^{-1} b_e, \qquad
       S = H + D - \sum_e W_e (V_e + D_e)^{-1} W_e^T, \qquad
       x_e = (V_e + D_e)^{-1} (b_e - W_e^T x_K),

    with V_e, W_e and H the blocks of JᵀJ. In bundle adjustment the points are eliminated and S has the size of the cameras.

    Parameters
    ----------
    eliminate
        Names of variable groups to eliminate; by default those are looked for whose blocks are small and unconnected.
    ordering
        Fill-reducing order of the kept blocks; see :class:`sparselm.BlockCholesky`.
    precision
        ``"float32"`` keeps the factor of S in half the memory, and refines each solution with S in float64.

    References
    ----------
    B. Triggs, P. McLauchlan, R. Hartley, A. Fitzgibbon, "Bundle adjustment: a modern synthesis", 2000, section 6.1.
    """

    eliminate: Sequence[str] | None = None
    ordering: OrderingChoice = "auto"
    precision: Precision = "float64"

    needs: ClassVar[frozenset[Need]] = frozenset({Need.BLOCKS, Need.NORMAL})

    def analyze(self, structure: Structure, previous: Any = None) -> SchurCholeskyPlan:
        """Choose what to eliminate, find the blocks of S, order them, and factorise symbolically.

        ``previous`` may be the :class:`SchurSymbolic` of this structure, made with these options: it is taken as it is.
        """
        if self.ordering not in get_args(OrderingChoice):
            raise SolverError(
                f"SchurCholesky: ordering {self.ordering!r}, expected one of {', '.join(get_args(OrderingChoice))}"
            )
        if self.precision not in get_args(Precision):
            raise SolverError(f"SchurCholesky: precision {self.precision!r}, expected float64 or float32")
        found = previous
        if not isinstance(found, SchurSymbolic) or found.partition.structure is not structure:
            found = find_symbolic(structure, self.eliminate, self.ordering)
        choice, partition, pattern, symbolic = found.choice, found.partition, found.pattern, found.symbolic
        numeric = Numeric(symbolic, self.precision)
        source, num_pairs = symbolic.edge_source, len(pattern.high)
        below, diagonal = source[:num_pairs], source[num_pairs:]
        matrix = ReducedMatrix(pattern, inverse_order(symbolic.order), diagonal, below)
        return SchurCholeskyPlan(choice, partition, Elimination(partition), matrix, numeric)

    def prepare(self, plan: SchurCholeskyPlan, linearization: Linearization) -> SchurCholeskyPlan:
        """Compute V and H."""
        plan.linearization = linearization
        plan.elimination.prepare(linearization)
        plan.matrix.prepare(linearization)
        return plan

    def factorize(self, system: SchurCholeskyPlan, damping: Array) -> SchurCholeskyPlan | Failure:
        """Eliminate, compute S, and factorise it."""
        assert system.linearization is not None
        numeric = system.numeric
        block = system.elimination.factorize(system.linearization, damping)
        if block < 0:
            system.matrix.compute(system.elimination, numeric.store)
            np.take(damping, system.partition.columns, out=system.damping, mode="clip")
            if numeric.factorize(system.damping):
                return system
            block = int(system.partition.kept[numeric.bad_blocks()[0]])
        if not np.isfinite(system.linearization.diagonal).all() or np.isnan(damping).any():
            return Failure("JᵀJ + D has an entry that is not finite")
        return Failure(NOT_POSITIVE_DEFINITE, block)

    def solve(
        self,
        factor: SchurCholeskyPlan,
        rhs: Array,
        out: Array,
        *,
        tolerance: float | None = None,
        guess: Array | None = None,
    ) -> SolveFacts:
        """Reduce the right-hand side, solve, and substitute back; with a float32 factor, x_K is refined."""
        numeric, nonzeros = factor.numeric, factor.numeric.symbolic.nonzeros
        factor.elimination.forward(rhs, factor.reduced)
        held = numeric.hold(factor.reduced[np.newaxis])
        numeric.solve(held, factor.solution[np.newaxis])
        facts = SolveFacts(factor_nonzeros=nonzeros, conjugate_residual=True)
        if self.precision == "float32":
            steps, norm = refine(numeric, held[0], factor.solution, SINGLE_STEPS)
            facts = SolveFacts(factor_nonzeros=nonzeros, inner_iterations=steps, residual_norm=norm)
        factor.elimination.backward(factor.solution, out)
        return facts

    def describe(self, plan: SchurCholeskyPlan) -> str:
        """What is eliminated, and the sizes of S and of its factor."""
        s = plan.numeric.symbolic
        return (
            f"{plan.choice.reason}; Schur complement of {s.size} columns in {len(s.order)} blocks with "
            f"{s.graph.num_edges} below the diagonal, {s.ordering.name} order, nnz(L) {s.nonzeros}, {s.flops:.3g} operations"
            f", {plan.numeric.dtype}"
        )


class SchurCholeskyPlan:
    """Workspace of one problem."""

    def __init__(
        self, choice: Choice, partition: Partition, elimination: Elimination, matrix: ReducedMatrix, numeric: Numeric
    ) -> None:
        self.choice = choice
        self.partition = partition
        self.elimination = elimination
        self.matrix = matrix
        self.numeric = numeric
        self.linearization: Linearization | None = None
        self.damping, self.reduced, self.solution = np.zeros((3, len(partition.columns)))
