"""Cluster Jacobi: the blocks of S within clusters of kept blocks that see much of the same.

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
from sparselm.preconditioners._clusters import find_clusters
from sparselm.preconditioners.base import AbstractPreconditioner, Array, PartialFactor, ReducedSystem


@dataclass(frozen=True)
class ClusterJacobi(AbstractPreconditioner):
    """M = S without the blocks between clusters, factorised; of what sees much in common, most is in one cluster.

    Parameters
    ----------
    most
        Kept blocks in a cluster at most.
    """

    most: int = 32

    needs_couplings: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.most < 1:
            raise SolverError(f"ClusterJacobi: most is {self.most}, expected at least 1")

    def analyze(self, system: ReducedSystem) -> PartialFactor:
        """Find clusters and analyse the factorisation of their blocks."""
        high, low, shared, seen = system.neighbours()
        cluster = find_clusters(high, low, shared, seen, self.most)
        return system.factor_part(cluster[high] == cluster[low])

    def prepare(self, plan: PartialFactor, system: ReducedSystem) -> PartialFactor | Failure:
        """Compute and factorise."""
        plan.compute()
        if plan.factorize():
            return plan
        return Failure("the preconditioner is not positive definite", plan.failed_block())

    def apply(self, state: PartialFactor, r: Array, out: Array) -> None:
        """Solve with the factor."""
        state.numeric.solve(r[np.newaxis], out[np.newaxis])

    def describe(self, plan: Any) -> str:
        """Size of the factor."""
        return f"ClusterJacobi, clusters of at most {self.most}, nnz(L) {plan.numeric.symbolic.nonzeros}"
