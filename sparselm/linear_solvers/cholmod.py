"""Sparse Cholesky by CHOLMOD: P (JᵀJ + D) Pᵀ = L Lᵀ.

The order P is sought on the graph of variable blocks, which has many times fewer vertices than there are columns, and JᵀJ
is assembled in that order at once; the symbolic factorisation of the scalar matrix is then made once, without a further
search, and every D costs a numeric factorisation only.

References
----------
Y. Chen, T. A. Davis, W. W. Hager, S. Rajamanickam, "Algorithm 887: CHOLMOD, supernodal sparse Cholesky factorization and
update/downdate", ACM TOMS 35(3), 2008; the choice between simplicial and supernodal by operations per non-zero of L is
theirs.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from sparselm.errors import MissingDependencyError, SolverError
from sparselm.linear_solvers.base import AbstractLinearSolver, Failure, Need, SolveFacts
from sparselm.linear_solvers.normal_equations import BlockPattern, NormalEquations
from sparselm.linear_solvers.ordering import find_ordering

if TYPE_CHECKING:
    from sparselm.linearization import Linearization
    from sparselm.structure import Structure

Array = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int32]
Ordering = Literal["auto", "amd", "metis", "nesdis", "natural"]
Mode = Literal["auto", "simplicial", "supernodal"]

# Operations per non-zero of L from which dense kernels on supernodes pay off. CHOLMOD's own number is 40; measured with
# OpenBLAS, columns win 48 to 77 ms at 77 (bundle adjustment, most supernodes one point) and 4 to 9 ms at 34 (planar
# poses), supernodes 36 to 150 ms at 258 (poses in space).
SUPERNODAL_SWITCH = 100.0

# Operations of one factorisation from which METIS's order is tried too: on 5,000 poses in space it takes 17 ms and saves 7 %
# of 1.1e9 operations, on 2,500 (2.5e8) nothing.
MORE_ORDERS_FLOPS = 5e8

logger = logging.getLogger("sparselm")


@dataclass(frozen=True)
class Cholmod(AbstractLinearSolver):
    """Sparse Cholesky factorisation by CHOLMOD (needs scikit-sparse).

    Parameters
    ----------
    ordering
        Fill-reducing order of the variable blocks: approximate minimum degree (this package's own), CHOLMOD's METIS or
        its nested dissection, or none. ``"auto"`` takes AMD's or, where the factorisation is long, the one of AMD and
        METIS that needs fewer operations.
    mode
        ``"supernodal"`` works on dense panels, ``"simplicial"`` on single columns, which suits very sparse factors.
    """

    ordering: Ordering = "auto"
    mode: Mode = "auto"

    needs: ClassVar[frozenset[Need]] = frozenset({Need.NORMAL})

    def analyze(self, structure: Structure, previous: Any = None) -> CholmodPlan:
        """Order the variable blocks, lay out JᵀJ in that order, and factorise it symbolically."""
        if self.ordering not in get_args(Ordering):
            raise SolverError(f"Cholmod: ordering {self.ordering!r}, expected one of {', '.join(get_args(Ordering))}")
        if self.mode not in ("auto", "simplicial", "supernodal"):
            raise SolverError(f"Cholmod: mode {self.mode!r}, expected auto, simplicial or supernodal")
        backend = _backend()
        pattern = BlockPattern(structure)
        name, order, nonzeros, flops = self._order(backend, pattern)
        mode = self.mode
        if mode == "auto":
            mode = "supernodal" if flops >= SUPERNODAL_SWITCH * nonzeros else "simplicial"
        normal = NormalEquations(pattern, order)
        symbolic = backend.analyze(normal.lower(), mode)
        return CholmodPlan(structure, normal, backend, symbolic, name, mode, nonzeros, flops)

    def _order(self, backend: Any, pattern: BlockPattern) -> tuple[str, IndexArray, int, float]:
        """Name and order of the variable blocks, with non-zeros and operations of the factor."""

        def candidate(name: str) -> tuple[str, IndexArray, int, float]:
            if name in ("amd", "natural"):
                found = find_ordering(pattern.graph.indptr, pattern.graph.indices, pattern.sizes, name)
                return name, found.postordered(), found.nonzeros, found.flops
            order = backend.order(pattern.matrix(), name)
            return name, order, *pattern.factor_sizes(order)

        if self.ordering != "auto":
            return candidate(self.ordering)
        amd = candidate("amd")
        return min(amd, candidate("metis"), key=lambda found: found[3]) if amd[3] > MORE_ORDERS_FLOPS else amd

    def prepare(self, plan: CholmodPlan, linearization: Linearization) -> CholmodPlan:
        """Assemble JᵀJ."""
        plan.normal.assemble(linearization)
        return plan

    def factorize(self, system: CholmodPlan, damping: Array) -> CholmodPlan | Failure:
        """Factorise JᵀJ + D."""
        normal = system.normal
        if not normal.set_damping(damping):
            return Failure("JᵀJ + D has an entry that is not finite")
        system.factor, column = system.backend.factorize(system.symbolic, normal.lower(), system.mode)
        if column >= 0:
            return Failure("JᵀJ + D is not positive definite", normal.block_at(column))
        return system

    def solve(
        self,
        factor: CholmodPlan,
        rhs: Array,
        out: Array,
        *,
        tolerance: float | None = None,
        guess: Array | None = None,
    ) -> SolveFacts:
        """Solve with the factor."""
        x = factor.backend.solve(factor.factor, factor.normal.permute(rhs))
        factor.normal.unpermute(x, out)
        return SolveFacts(factor_nonzeros=factor.nonzeros)

    def describe(self, plan: CholmodPlan) -> str:
        """Ordering, variant and sizes."""
        return (
            f"CHOLMOD, {plan.ordering} order of {plan.structure.num_blocks} blocks, {plan.mode}, "
            f"nnz(H) {len(plan.normal.values)}, nnz(L) {plan.nonzeros}, {plan.flops:.3g} operations"
        )


@dataclass
class CholmodPlan:
    """Workspace of one problem: JᵀJ in its order, and CHOLMOD's factor."""

    structure: Structure
    normal: NormalEquations
    backend: Any
    symbolic: Any
    ordering: str
    mode: str
    nonzeros: int
    flops: float
    factor: Any = None


# -- the two generations of scikit-sparse ------------------------------------------------------------------------------


class _Backend04:
    """scikit-sparse 0.4: one Factor object, refilled in place."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def order(self, graph: Any, method: str) -> IndexArray:
        """Fill-reducing order of a symmetric pattern (lower triangle)."""
        symbolic = self._module.analyze(graph, mode="simplicial", ordering_method=method, use_long=False)
        return np.asarray(symbolic.P(), dtype=np.int32)

    def analyze(self, matrix: Any, mode: str) -> Any:
        """Symbolic factorisation in the given order."""
        long = matrix.indices.dtype == np.int64
        try:
            return self._module.analyze(matrix, mode=mode, ordering_method="natural", use_long=long)
        except self._module.CholmodTooLargeError:
            if long:
                raise
        return self._module.analyze(_with_long_indices(matrix), mode=mode, ordering_method="natural", use_long=True)

    def factorize(self, symbolic: Any, matrix: Any, mode: str) -> tuple[Any, int]:
        """The numeric factor, and the column at which it broke down or −1."""
        try:
            symbolic.cholesky_inplace(matrix)
        except self._module.CholmodNotPositiveDefiniteError as error:
            return None, int(error.column)
        if mode == "simplicial":  # an LDLᵀ factorisation, which stops at a pivot of 0 only
            bad = np.flatnonzero(~(symbolic.D() > 0.0))
            if len(bad):
                return None, int(bad[0])
        return symbolic, -1

    def solve(self, factor: Any, rhs: Array) -> Array:
        """Solve with the numeric factor."""
        x: Array = factor.solve_A(rhs)
        return x


class _Backend05(_Backend04):
    """scikit-sparse 0.5: a numeric factorisation turns the object into a simplicial one, so each gets a fresh copy."""

    def order(self, graph: Any, method: str) -> IndexArray:
        """Fill-reducing order of a symmetric pattern (lower triangle)."""
        factor = self._module.CholeskyFactor(graph, lower=True, order=method, supernodal_mode="simplicial")
        return np.array(factor.perm, dtype=np.int32)

    def analyze(self, matrix: Any, mode: str) -> Any:
        """Symbolic factorisation in the given order."""
        return self._module.CholeskyFactor(matrix, lower=True, order="natural", supernodal_mode=mode)

    def factorize(self, symbolic: Any, matrix: Any, mode: str) -> tuple[Any, int]:
        """The numeric factor, and the column at which it broke down or −1."""
        try:
            return symbolic.copy().factorize(matrix, ldl=False), -1
        except self._module.CholmodNotPositiveDefiniteError as error:
            column = re.search(r"column (\d+)", str(error))
            return None, int(column.group(1)) if column else 0

    def solve(self, factor: Any, rhs: Array) -> Array:
        """Solve with the numeric factor."""
        x: Array = factor.solve(rhs)
        return x


def _with_long_indices(matrix: Any) -> Any:
    matrix = matrix.copy()
    matrix.indptr, matrix.indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
    return matrix


@functools.cache
def _backend() -> _Backend04:
    try:
        module = import_module("sksparse.cholmod")
    except ImportError as error:
        raise MissingDependencyError(
            f"the linear solver Cholmod needs scikit-sparse ({error}): pip install 'sparselm[cholmod]', which needs "
            "SuiteSparse (libsuitesparse-dev on Debian and Ubuntu); or use BlockCholesky(), which needs nothing"
        ) from error
    slow = _reference_blas()
    if slow:
        logger.warning(
            "CHOLMOD uses the reference BLAS (%s) and is about ten times slower than it could be: install an optimised "
            "one (libopenblas0-pthread on Debian and Ubuntu)",
            slow,
        )
    return _Backend05(module) if hasattr(module, "CholeskyFactor") else _Backend04(module)


# A function that only the optimised library exports, for each that may stand behind the name libblas.
_OPTIMISED = ("openblas_get_config", "MKL_Get_Version", "bli_info_get_version_str", "ATL_buildinfo", "flexiblas_avail")


def _reference_blas() -> str | None:
    """Path of the BLAS behind CHOLMOD where it is the reference implementation; None where it is not, or not known.

    NumPy and SciPy carry a BLAS of their own under other names; the one of the system that CHOLMOD is linked with is
    mapped as libblas.so, and an optimised one behind that name exports, itself or through what it links, functions that
    the reference implementation does not have.
    """
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:  # no Linux
        return None
    for path in sorted(set(re.findall(r"(/\S*/libblas\.so\S*)$", maps, re.MULTILINE))):
        library = ctypes.CDLL(path)
        if not any(hasattr(library, name) for name in _OPTIMISED):
            return str(path)
    return None
