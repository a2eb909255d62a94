"""The direct solver for a sparse J: JᵀJ + D by sparse Cholesky, every column a block of its own.

The pattern of JᵀJ and its symbolic factorisation are found once, and again only if the pattern of J changes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from sparselm.kernels.sparse_normal import normal_pattern, normal_values
from sparselm.linear_solvers.base import Failure, SolveFacts
from sparselm.linear_solvers.block_cholesky.matrix import MatrixPattern, copy_values
from sparselm.linear_solvers.block_cholesky.numeric import Numeric
from sparselm.linear_solvers.block_cholesky.symbolic import build_symbolic
from sparselm.linear_solvers.ordering import find_ordering
from sparselm.scipy_api.systems import AbstractSystem, Array, Jacobian

# Pieces of work of the assembly; each has an array of one number per column to itself.
NUM_LANES = 16


class SparseSystem(AbstractSystem):
    """Cholesky factors of JᵀJ + D."""

    def __init__(self) -> None:
        self._normal: _Normal | None = None

    def prepare(self, J: Jacobian, r: Array) -> None:
        """Assemble JᵀJ."""
        if self._normal is None or not self._normal.matches(J):
            self._normal = _Normal(J)
            pattern = MatrixPattern(self._normal.matrix, 1)
            graph = pattern.graph
            symbolic = build_symbolic(graph, find_ordering(graph.indptr, graph.indices, graph.sizes))
            self._numeric = Numeric(symbolic)
            self._target = pattern.place(symbolic)
        self._J, self._r = J, r
        self._gradient: Array = J.T @ r
        self._normal.assemble(J.data)
        copy_values(self._target, self._normal.matrix, self._numeric.store)

    def factorize(self, damping: Array) -> Failure | None:
        """Factorise JᵀJ + D."""
        if self._numeric.factorize(damping):
            return None
        if not self._numeric.is_finite() or np.isnan(damping).any():
            return Failure("JᵀJ + D has an entry that is not finite")
        return Failure("JᵀJ + D is not positive definite")

    def step(self, displacement: Array | None, out: Array) -> SolveFacts:
        """Solve for −Jᵀ(r + J d)."""
        rhs = -self._gradient
        if displacement is not None:
            rhs -= self._J.T @ (self._J @ displacement)
        return self.solve(rhs, out)

    def solve(self, rhs: Array, out: Array) -> SolveFacts:
        """Solve with the factors."""
        self._numeric.solve(self._numeric.hold(rhs[np.newaxis]), out[np.newaxis])
        return SolveFacts(factor_nonzeros=self._numeric.symbolic.nonzeros)


class _Normal:
    """The lower triangle of JᵀJ by compressed columns, for one pattern of J.

    Attributes
    ----------
    matrix : csc_array
        Its values are those of the last :meth:`assemble`.
    """

    def __init__(self, J: sp.csr_array) -> None:
        m, n = J.shape
        # Copies: the caller may write the next pattern into the arrays of this one.
        self._pattern = (J.indptr.copy(), J.indices.copy())
        entry = np.arange(J.nnz, dtype=np.int32)
        rows = sp.csr_array((entry, J.indices, J.indptr), shape=(m, n), copy=True)
        rows.sort_indices()
        self._row_ptr, self._row_col, self._entry = rows.indptr, rows.indices, rows.data
        columns = sp.csr_array((entry, self._row_col, self._row_ptr), shape=(m, n)).tocsc()
        self._col_ptr, self._col_row, self._source = columns.indptr, columns.indices, columns.data
        pattern = (self._col_ptr, self._col_row, self._row_ptr, self._row_col)
        indptr = np.zeros(n + 1, dtype=np.int64)
        normal_pattern(*pattern, indptr, np.zeros(0, dtype=np.int32))
        indptr = indptr.astype(np.int32 if indptr[-1] < 2**31 else np.int64)
        indices = np.zeros(int(indptr[-1]), dtype=indptr.dtype)
        normal_pattern(*pattern, indptr, indices)
        self.matrix = sp.csc_array((np.zeros(len(indices)), indices, indptr), shape=(n, n), copy=False)
        self._lanes = self._balance(n)

    def _balance(self, n: int) -> npt.NDArray[np.int64]:
        """Columns of each lane, so that all have about the same number of products to do."""
        ends = np.repeat(self._row_ptr[1:], np.diff(self._row_ptr))
        products = ends[self._source] - self._source
        work = np.append(0, np.cumsum(products, dtype=np.int64))[self._col_ptr]
        inner = np.searchsorted(work, np.linspace(0, work[-1], NUM_LANES + 1)[1:-1])
        return np.concatenate(([0], inner, [n]))

    def matches(self, J: sp.csr_array) -> bool:
        """Whether J has the pattern that this was made for."""
        indptr, indices = self._pattern
        return np.array_equal(J.indptr, indptr) and np.array_equal(J.indices, indices)

    def assemble(self, data: Array) -> None:
        """Compute JᵀJ from the values of J."""
        normal_values(
            self._lanes, self._col_ptr, self._col_row, self._source, self._row_ptr, self._row_col, data[self._entry],
            self.matrix.indptr, self.matrix.indices, self.matrix.data,
        )  # fmt: skip
