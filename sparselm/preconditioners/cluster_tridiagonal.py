"""Cluster tridiagonal: the blocks of S within clusters, and between clusters that follow one another in chains.

References
----------
A. Kushal, S. Agarwal, "Visibility based preconditioning for bundle adjustment", CVPR 2012.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sparselm.errors import SolverError
from sparselm.linear_solvers.base import Failure
from sparselm.preconditioners._clusters import find_chains, find_clusters
from sparselm.preconditioners.base import AbstractPreconditioner, Array, BoolArray, PartialFactor, ReducedSystem

# How often what lies between clusters is halved until the matrix is positive definite; then it is left out.
_HALVINGS = 3


@dataclass(frozen=True)
class ClusterTridiagonal(AbstractPreconditioner):
    """M = S without the blocks between clusters but for those that are next to each other in a chain, factorised.

    Such a part of a positive definite matrix need not be positive definite. Where it is not, the blocks between clusters are
    halved, up to three times, and then left out.

    Parameters
    ----------
    most
        Kept blocks in a cluster at most.
    """

    most: int = 16

    needs_couplings: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.most < 1:
            raise SolverError(f"ClusterTridiagonal: most is {self.most}, expected at least 1")

    def analyze(self, system: ReducedSystem) -> _Chains:
        """Find clusters and chains, and analyse the factorisation of their blocks."""
        high, low, shared, seen = system.neighbours()
        cluster = find_clusters(high, low, shared, seen, self.most)
        chosen = find_chains(cluster, high, low, shared)
        return _Chains(system.factor_part(chosen), chosen & (cluster[high] != cluster[low]))

    def prepare(self, plan: _Chains, system: ReducedSystem) -> _Chains | Failure:
        """Compute and factorise."""
        plan.part.compute()
        for _ in range(_HALVINGS):
            if plan.part.factorize():
                return plan
            plan.part.scale(plan.between, 0.5)
        plan.part.scale(plan.between, 0.0)
        if plan.part.factorize():
            return plan
        return Failure("the preconditioner is not positive definite", plan.part.failed_block())

    def apply(self, state: _Chains, r: Array, out: Array) -> None:
        """Solve with the factor."""
        state.part.numeric.solve(r[np.newaxis], out[np.newaxis])

    def describe(self, plan: Any) -> str:
        """Size of the factor."""
        return f"ClusterTridiagonal, clusters of at most {self.most}, nnz(L) {plan.part.numeric.symbolic.nonzeros}"


@dataclass(frozen=True, slots=True)
class _Chains:
    part: PartialFactor
    between: BoolArray
