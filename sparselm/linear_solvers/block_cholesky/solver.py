"""The linear solver ``BlockCholesky``: JᵀJ + D assembled by blocks and factorised by fronts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import numpy as np
import numpy.typing as npt

from sparselm.errors import SolverError
from sparselm.linear_solvers.base import AbstractLinearSolver, Failure, Need, Precision, SolveFacts
from sparselm.linear_solvers.block_cholesky.numeric import Numeric, refine
from sparselm.linear_solvers.block_cholesky.symbolic import Symbolic, build_symbolic
from sparselm.linear_solvers.normal_equations import BlockPattern, BlockSums
from sparselm.linear_solvers.ordering import Choice, extend_ordering, find_ordering, inverse_order

if TYPE_CHECKING:
    from sparselm.linearization import Linearization
    from sparselm.structure import Structure

Array = npt.NDArray[np.float64]

# Refinement steps of a float32 factor within an iteration, which needs no more digits; they end where they do not help.
SINGLE_STEPS = 5


@dataclass(frozen=True)
class BlockCholesky(AbstractLinearSolver):
    """Sparse Cholesky factorisation of JᵀJ + D by blocks; needs nothing but this package.

    Parameters
    ----------
    ordering
        Fill-reducing order of the variable blocks: ``"amd"``, ``"metis"`` (needs pymetis), ``"natural"``, or ``"auto"``:
        AMD's or, where the factorisation is long and pymetis is there, the better of both.
    precision
        ``"float32"`` keeps the factor in half the memory, and refines each solution in float64.
    """

    ordering: Choice = "auto"
    precision: Precision = "float64"

    needs: ClassVar[frozenset[Need]] = frozenset({Need.NORMAL})

    def analyze(self, structure: Structure, previous: Any = None) -> BlockCholeskyPlan:
        """Order the variable blocks, factorise symbolically, and lay out JᵀJ.

        ``previous`` is the plan of a problem whose variable blocks are the first ones of this one; its order is kept.
        """
        if self.ordering not in get_args(Choice):
            raise SolverError(
                f"BlockCholesky: ordering {self.ordering!r}, expected one of {', '.join(get_args(Choice))}"
            )
        if self.precision not in get_args(Precision):
            raise SolverError(f"BlockCholesky: precision {self.precision!r}, expected float64 or float32")
        pattern = BlockPattern(structure)
        graph = pattern.graph
        if isinstance(previous, BlockCholeskyPlan) and len(previous.symbolic.order) <= len(graph.sizes):
            found = extend_ordering(graph.indptr, graph.indices, graph.sizes, previous.symbolic.ordering)
        else:
            found = find_ordering(graph.indptr, graph.indices, graph.sizes, self.ordering)
        symbolic = build_symbolic(graph, found)
        numeric = Numeric(symbolic, self.precision)
        position = inverse_order(symbolic.order)
        source = symbolic.edge_source
        # A block's row is the later one of its two variable blocks.
        row = np.where(symbolic.edge_turned[: graph.num_edges], pattern.low, pattern.high)
        sums = BlockSums(
            pattern, position, source[graph.num_edges :][symbolic.order], graph.sizes[symbolic.order],
            source[: graph.num_edges], graph.sizes[row], packed=False,
        )  # fmt: skip
        return BlockCholeskyPlan(symbolic, numeric, sums)

    def prepare(self, plan: BlockCholeskyPlan, linearization: Linearization) -> BlockCholeskyPlan:
        """Assemble JᵀJ."""
        plan.sums.assemble(linearization, plan.numeric.store)
        return plan

    def factorize(self, system: BlockCholeskyPlan, damping: Array) -> BlockCholeskyPlan | Failure:
        """Factorise JᵀJ + D; D is added on the way, JᵀJ stays as it is."""
        if system.numeric.factorize(damping):
            return system
        if not system.numeric.is_finite() or np.isnan(damping).any():
            return Failure("JᵀJ + D has an entry that is not finite")
        return Failure("JᵀJ + D is not positive definite", int(system.numeric.bad_blocks()[0]))

    def solve(
        self,
        factor: BlockCholeskyPlan,
        rhs: Array,
        out: Array,
        *,
        tolerance: float | None = None,
        guess: Array | None = None,
    ) -> SolveFacts:
        """Solve with the factor; a float32 one is refined."""
        numeric, nonzeros = factor.numeric, factor.symbolic.nonzeros
        sides = numeric.hold(rhs[np.newaxis])
        numeric.solve(sides, out[np.newaxis])
        if self.precision == "float64":
            return SolveFacts(factor_nonzeros=nonzeros)
        steps, norm = refine(numeric, sides[0], out, SINGLE_STEPS)
        return SolveFacts(factor_nonzeros=nonzeros, inner_iterations=steps, residual_norm=norm)

    def logdet(self, factor: BlockCholeskyPlan) -> float:
        """log det (JᵀJ + D)."""
        return factor.numeric.logdet()

    def describe(self, plan: BlockCholeskyPlan) -> str:
        """Ordering and sizes."""
        s = plan.symbolic
        return (
            f"block Cholesky, {s.ordering.name} order of {len(s.order)} blocks, {s.num_supernodes} supernodes, "
            f"nnz(L) {s.nonzeros}, {s.flops:.3g} operations, {plan.numeric.dtype}"
        )


class BlockCholeskyPlan:
    """Workspace of one problem: JᵀJ by blocks, and its factor."""

    def __init__(self, symbolic: Symbolic, numeric: Numeric, sums: BlockSums) -> None:
        self.symbolic = symbolic
        self.numeric = numeric
        self.sums = sums
