"""Sparse LU by SuperLU, which comes with SciPy: JᵀJ + D = L U with pivots on the diagonal.

SuperLU knows nothing of symmetry, so that it stores and computes twice what a Cholesky factorisation would; it is for
where CHOLMOD is not installed. SciPy offers no symbolic factorisation apart: what can be done once is the order, which is
sought on the graph of variable blocks, and JᵀJ is assembled in that order at once.

References
----------
J. W. Demmel, S. C. Eisenstat, J. R. Gilbert, X. S. Li, J. W. H. Liu, "A supernodal approach to sparse partial pivoting",
SIAM J. Matrix Anal. Appl. 20(3), 1999.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from sparselm.errors import SolverError
from sparselm.linear_solvers.base import AbstractLinearSolver, Failure, Need, SolveFacts
from sparselm.linear_solvers.normal_equations import BlockPattern, NormalEquations
from sparselm.linear_solvers.ordering import find_ordering

if TYPE_CHECKING:
    from sparselm.linearization import Linearization
    from sparselm.structure import Structure

Array = npt.NDArray[np.float64]

# Columns SuperLU works on together, and the size up to which it merges subtrees: small, as blocks are; measured on bundle
# adjustment and pose graphs, 10 to 30 % faster than its own choice (20 and 1).
PANEL_SIZE, RELAX = 8, 8


@dataclass(frozen=True)
class SuperLU(AbstractLinearSolver):
    """Sparse LU factorisation of JᵀJ + D by SuperLU; needs nothing beside SciPy.

    Parameters
    ----------
    ordering
        ``"amd"``, approximate minimum degree on the graph of variable blocks, or ``"natural"``.
    """

    ordering: Literal["amd", "natural"] = "amd"

    needs: ClassVar[frozenset[Need]] = frozenset({Need.NORMAL})

    def analyze(self, structure: Structure, previous: Any = None) -> SuperLUPlan:
        """Order the variable blocks and lay out JᵀJ in that order."""
        if self.ordering not in ("amd", "natural"):
            raise SolverError(f"SuperLU: ordering {self.ordering!r}, expected amd or natural")
        pattern = BlockPattern(structure)
        found = find_ordering(pattern.graph.indptr, pattern.graph.indices, pattern.sizes, self.ordering)
        nonzeros = 2 * found.nonzeros - structure.num_columns
        normal = NormalEquations(pattern, found.postordered())
        if normal.indices.dtype != np.int32:
            raise SolverError(
                f"SuperLU: JᵀJ has {len(normal.values)} non-zeros, it takes 2³¹ at most; use LSMR or Cholmod"
            )
        return SuperLUPlan(normal, *_both_triangles(normal), self.ordering, nonzeros)

    def prepare(self, plan: SuperLUPlan, linearization: Linearization) -> SuperLUPlan:
        """Assemble JᵀJ."""
        plan.normal.assemble(linearization)
        return plan

    def factorize(self, system: SuperLUPlan, damping: Array) -> SuperLUPlan | Failure:
        """Factorise JᵀJ + D."""
        normal = system.normal
        if not normal.set_damping(damping):
            return Failure("JᵀJ + D has an entry that is not finite")
        np.take(normal.values, system.source, out=system.matrix.data, mode="clip")
        try:
            system.lu = splu(
                system.matrix,
                permc_spec="NATURAL",
                diag_pivot_thresh=0.0,
                panel_size=PANEL_SIZE,
                relax=RELAX,
                options={"SymmetricMode": True, "Equil": False},
            )
        except RuntimeError:  # a pivot that is 0; SuperLU does not say which
            zero = np.flatnonzero(normal.values[normal.diagonal_index] == 0.0)
            return Failure("JᵀJ + D is singular", normal.block_at(int(zero[0])) if len(zero) else -1)
        # A pivot off the diagonal replaces one that is 0 there.
        wrong = np.flatnonzero(system.lu.perm_r != system.lu.perm_c)
        if not len(wrong):
            bad = np.flatnonzero(~(system.lu.U.diagonal() > 0.0))
            wrong = np.flatnonzero(system.lu.perm_c == bad[0]) if len(bad) else bad
        if len(wrong):
            return Failure("JᵀJ + D is not positive definite", normal.block_at(int(wrong[0])))
        return system

    def solve(
        self,
        factor: SuperLUPlan,
        rhs: Array,
        out: Array,
        *,
        tolerance: float | None = None,
        guess: Array | None = None,
    ) -> SolveFacts:
        """Solve with the factors."""
        factor.normal.unpermute(factor.lu.solve(factor.normal.permute(rhs)), out)
        return SolveFacts(factor_nonzeros=factor.nonzeros)

    def describe(self, plan: SuperLUPlan) -> str:
        """Ordering and sizes."""
        return (
            f"SuperLU, {plan.ordering} order of {len(plan.normal.order)} blocks, nnz(H) {len(plan.normal.values)}, "
            f"nnz(L + U) {plan.nonzeros}"
        )


@dataclass
class SuperLUPlan:
    """Workspace of one problem: JᵀJ as a lower triangle, and both triangles as SuperLU wants them."""

    normal: NormalEquations
    matrix: sp.csc_matrix
    source: npt.NDArray[np.int32]
    ordering: str
    nonzeros: int
    lu: Any = None


def _both_triangles(normal: NormalEquations) -> tuple[sp.csc_matrix, npt.NDArray[np.int32]]:
    """The whole symmetric matrix, and where in the lower triangle each of its entries stands."""
    lower = normal.lower()
    number = np.arange(1, len(lower.data) + 1, dtype=np.int32)  # from 1: adding sparse matrices drops zeros
    numbered = sp.csc_matrix((number, lower.indices, lower.indptr), shape=lower.shape)
    whole = sp.csc_matrix(numbered + sp.tril(numbered, -1).T)
    whole.sort_indices()
    source = whole.data - 1
    return sp.csc_matrix((np.zeros(len(source)), whole.indices, whole.indptr), shape=lower.shape), source
