"""The linear solver ``SchurCholesky``: points eliminated one by one, and a Cholesky factorisation of what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sparselm.errors import SolverError
from sparselm.linear_solvers.base import AbstractLinearSolver, Failure, Need, SolveFacts
from sparselm.linear_solvers.block_cholesky.numeric import Numeric
from sparselm.linear_solvers.block_cholesky.symbolic import build_symbolic
from sparselm.linear_solvers.ordering import Choice, find_ordering, inverse_order
from sparselm.linear_solvers.schur.choice import choose_eliminated
from sparselm.linear_solvers.schur.complement import ReducedPattern
from sparselm.linear_solvers.schur.elimination import Elimination
from sparselm.linear_solvers.schur.partition import Partition
from sparselm.linear_solvers.schur.reduced_matrix import ReducedMatrix

if TYPE_CHECKING:
    from sparselm.linearization import Linearization
    from sparselm.structure import Structure

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SchurCholesky(AbstractLinearSolver):
    """Elimination of unconnected blocks, such as points, and a sparse Cholesky factorisation of the Schur complement."""

    eliminate: Sequence[str] | None = None
    ordering: Choice = "auto"

    needs: ClassVar[frozenset[Need]] = frozenset({Need.BLOCKS})

    def analyze(self, structure: Structure, previous: Any = None) -> SchurPlan:
        choice = choose_eliminated(structure, self.eliminate)
        partition = Partition(structure, choice)
        pattern = ReducedPattern(partition)
        graph = pattern.graph
        symbolic = build_symbolic(graph, find_ordering(graph.indptr, graph.indices, graph.sizes, self.ordering))
        numeric = Numeric(symbolic)
        position = inverse_order(symbolic.order)
        source, edges = symbolic.edge_source, graph.num_edges
        matrix = ReducedMatrix(pattern, position, source[edges:], source[:edges])
        return SchurPlan(choice, partition, Elimination(partition), matrix, numeric)

    def prepare(self, plan: SchurPlan, linearization: Linearization) -> SchurPlan:
        plan.linearization = linearization
        plan.elimination.prepare(linearization)
        plan.matrix.prepare(linearization)
        return plan

    def factorize(self, system: SchurPlan, damping: Array) -> SchurPlan | Failure:
        bad = system.elimination.factorize(system.linearization, damping)
        if bad >= 0:
            return Failure("a block of JᵀJ + D that is to be eliminated is not positive definite", bad)
        numeric = system.numeric
        system.matrix.compute(system.elimination, numeric.store)
        np.take(damping, system.partition.columns, out=system.damping, mode="clip")
        if numeric.factorize(system.damping):
            return system
        if not numeric.is_finite() or np.isnan(damping).any():
            return Failure("JᵀJ + D has an entry that is not finite")
        block = int(system.partition.kept[numeric.bad_blocks()[0]])
        return Failure("the Schur complement of JᵀJ + D is not positive definite", block)

    def solve(
        self, factor: SchurPlan, rhs: Array, out: Array, *, tolerance: float | None = None, guess: Array | None = None
    ) -> SolveFacts:
        factor.elimination.forward(rhs, factor.reduced)
        held = factor.numeric.hold(factor.reduced[np.newaxis])
        factor.numeric.solve(held, factor.solution[np.newaxis])
        factor.elimination.backward(factor.solution, out)
        return SolveFacts(factor_nonzeros=factor.numeric.symbolic.nonzeros)


class SchurPlan:
    def __init__(self, choice, partition, elimination, matrix, numeric) -> None:
        self.choice, self.partition, self.elimination = choice, partition, elimination
        self.matrix, self.numeric = matrix, numeric
        n = len(partition.columns)
        self.damping, self.reduced, self.solution = np.zeros((3, n))
