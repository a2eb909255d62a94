"""The direct solver for a sparse J: JᵀJ + D by CHOLMOD, or by SuperLU where scikit-sparse is missing.

JᵀJ is assembled in a fill-reducing order of the columns. Its pattern, that order and the symbolic factorisation are found
once, and again only if the pattern of J changes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from sparselm.kernels.normal_equations import factor_heights, hold_components
from sparselm.kernels.sparse_normal import normal_pattern, normal_values
from sparselm.linear_solvers.base import Failure, SolveFacts
from sparselm.linear_solvers.cholmod import SUPERNODAL_SWITCH, find_backend
from sparselm.scipy_api.systems import AbstractSystem, Array, Jacobian

IndexArray = npt.NDArray[np.int32]

# Pieces of work of the assembly; each has an array of one number per column to itself.
NUM_LANES = 16


class SparseSystem(AbstractSystem):
    """Cholesky or LU factors of JᵀJ + D."""

    def __init__(self) -> None:
        self._backend = find_backend()
        self._normal: _Normal | None = None

    def prepare(self, J: Jacobian, r: Array) -> None:
        """Assemble JᵀJ."""
        if self._normal is None or not self._normal.matches(J):
            self._normal = self._analyze(J)
        self._J, self._r = J, r
        self._gradient: Array = J.T @ r
        self._normal.assemble(J.data)

    def _analyze(self, J: sp.csr_array) -> _Normal:
        natural = _Normal(J, np.arange(J.shape[1], dtype=np.int32))
        order = _minimum_degree(natural.lower()) if self._backend is None else self._backend.order(natural.lower(), "amd")
        normal = _Normal(J, order)
        if self._backend is not None:
            nonzeros, flops = normal.factor_sizes()
            self._mode = "supernodal" if flops >= SUPERNODAL_SWITCH * nonzeros else "simplicial"
            self._symbolic = self._backend.analyze(normal.lower(), self._mode)
        return normal

    def factorize(self, damping: Array) -> Failure | None:
        """Factorise JᵀJ + D."""
        normal = self._normal
        assert normal is not None
        if not normal.set_damping(damping):
            return Failure("JᵀJ + D has an entry that is not finite")
        if self._backend is not None:
            self._factor, column = self._backend.factorize(self._symbolic, normal.lower(), self._mode)
            return None if column < 0 else Failure("JᵀJ + D is not positive definite")
        try:
            self._factor = splu(
                normal.both_triangles(),
                permc_spec="NATURAL",
                diag_pivot_thresh=0.0,
                options={"SymmetricMode": True, "Equil": False},
            )
        except RuntimeError:  # a pivot that is 0
            return Failure("JᵀJ + D is singular")
        if not (self._factor.U.diagonal() > 0.0).all():
            return Failure("JᵀJ + D is not positive definite")
        return None

    def step(self, displacement: Array | None, out: Array) -> SolveFacts:
        """Solve for −Jᵀ(r + J d)."""
        rhs = -self._gradient
        if displacement is not None:
            rhs -= self._J.T @ (self._J @ displacement)
        return self.solve(rhs, out)

    def solve(self, rhs: Array, out: Array) -> SolveFacts:
        """Solve with the factors."""
        normal = self._normal
        assert normal is not None
        b = normal.permute(rhs)
        x = self._factor.solve(b) if self._backend is None else self._backend.solve(self._factor, b)
        out[normal.order] = x
        return SolveFacts(factor_nonzeros=None)


class _Normal:
    """The lower triangle of Pᵀ(JᵀJ + D)P by compressed columns, for one pattern of J and one order of its columns."""

    def __init__(self, J: sp.csr_array, order: IndexArray) -> None:
        m, n = J.shape
        self.order = order
        # Copies: the caller may write the next pattern into the arrays of this one.
        self._pattern = (J.indptr.copy(), J.indices.copy())
        position = np.empty(n, dtype=np.int32)
        position[order] = np.arange(n, dtype=np.int32)
        entry = np.arange(J.nnz, dtype=np.int32)
        rows = sp.csr_array((entry, position[J.indices], J.indptr), shape=(m, n), copy=True)
        rows.sort_indices()
        self._row_ptr, self._row_col, self._entry = rows.indptr, rows.indices, rows.data
        columns = sp.csr_array((entry, self._row_col, self._row_ptr), shape=(m, n)).tocsc()
        self._col_ptr, self._col_row, self._source = columns.indptr, columns.indices, columns.data
        pattern = (self._col_ptr, self._col_row, self._row_ptr, self._row_col)
        self.indptr = np.zeros(n + 1, dtype=np.int64)
        normal_pattern(*pattern, self.indptr, np.zeros(0, dtype=np.int32))
        self.indptr = self.indptr.astype(np.int32 if self.indptr[-1] < 2**31 else np.int64)
        self.indices = np.zeros(int(self.indptr[-1]), dtype=self.indptr.dtype)
        normal_pattern(*pattern, self.indptr, self.indices)
        self._values: Array = np.zeros(len(self.indices))
        self.values: Array = np.zeros(len(self.indices))
        self._held = np.zeros(n, dtype=bool)
        self._lanes = self._balance()
        self._both: sp.csc_array | None = None

    def _balance(self) -> npt.NDArray[np.int64]:
        """Columns of each lane, so that all have about the same number of products to do."""
        ends = np.repeat(self._row_ptr[1:], np.diff(self._row_ptr))
        products = ends[self._source] - self._source
        work = np.append(0, np.cumsum(products, dtype=np.int64))[self._col_ptr]
        inner = np.searchsorted(work, np.linspace(0, work[-1], NUM_LANES + 1)[1:-1])
        return np.concatenate(([0], inner, [len(self.order)]))

    def matches(self, J: sp.csr_array) -> bool:
        """Whether J has the pattern that this was made for."""
        indptr, indices = self._pattern
        return np.array_equal(J.indptr, indptr) and np.array_equal(J.indices, indices)

    def factor_sizes(self) -> tuple[int, float]:
        """Non-zeros and operations of the Cholesky factor."""
        n = len(self.order)
        by_row = self.lower().tocsr()
        heights = np.zeros(n, dtype=np.int64)
        strictly = sp.tril(by_row, -1, format="csr")
        factor_heights(strictly.indptr, strictly.indices, np.ones(n, dtype=np.int32), heights)
        heights += 1
        return int(heights.sum()), float((heights.astype(np.float64) ** 2).sum())

    def assemble(self, data: Array) -> None:
        """Compute JᵀJ from the values of J."""
        normal_values(
            self._lanes, self._col_ptr, self._col_row, self._source, self._row_ptr, self._row_col, data[self._entry],
            self.indptr, self.indices, self._values,
        )  # fmt: skip

    def set_damping(self, damping: Array) -> bool:
        """Add D; components with D = +∞ get the identity's row and column. False where an entry is not finite."""
        np.copyto(self.values, self._values)
        d = damping[self.order]
        np.isinf(d, out=self._held)
        diagonal = self.indptr[:-1]  # the diagonal comes first in each column
        self.values[diagonal] += np.where(self._held, 0.0, d)
        if self._held.any():
            hold_components(self.indptr, self.indices, self._held, self.values)
        return bool(np.isfinite(self.values[diagonal].sum()))

    def permute(self, rhs: Array) -> Array:
        """A right-hand side in this order, 0 where a component is held."""
        b = rhs[self.order]
        b[self._held] = 0.0
        return b

    def lower(self) -> sp.csc_matrix:
        """The lower triangle of JᵀJ + D, on the live buffer."""
        n = len(self.order)
        matrix = sp.csc_matrix((self.values, self.indices, self.indptr), shape=(n, n), copy=False)
        matrix.has_sorted_indices = True
        matrix.has_canonical_format = True
        return matrix

    def both_triangles(self) -> sp.csc_array:
        """All of JᵀJ + D."""
        if self._both is None:
            numbered = self.lower().copy()
            numbered.data = np.arange(1.0, len(self.indices) + 1.0)
            self._both = sp.csc_array(numbered + sp.tril(numbered, -1).T)
            self._both.sort_indices()
            self._number = self._both.data.astype(np.int64) - 1
        self._both.data = self.values[self._number]
        return self._both


def _minimum_degree(lower: sp.csc_matrix) -> IndexArray:
    """SuperLU's multiple minimum degree order, which it finds while it factorises: here the graph's Laplacian plus one."""
    graph = lower.copy()
    graph.data = np.ones(len(graph.data))
    graph = sp.csc_array(graph + sp.tril(graph, -1).T)
    degrees = np.diff(graph.indptr)
    graph.data[:] = -1.0
    graph.setdiag(degrees)
    lu = splu(graph, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True, "Equil": False})
    return np.argsort(lu.perm_c).astype(np.int32)
