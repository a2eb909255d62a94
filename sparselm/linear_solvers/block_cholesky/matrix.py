"""A symmetric SciPy matrix by blocks: its graph, and its values in the store that a factorisation reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from sparselm.errors import SolverError
from sparselm.kernels.block_pattern import add_values, find_blocks, number_blocks, place_values
from sparselm.linear_solvers.block_cholesky.symbolic import Symbolic
from sparselm.linear_solvers.block_graph import BlockGraph, make_graph

Array = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]


class MatrixPattern:
    """Where a matrix in compressed columns, rows or block rows has entries, cut into blocks.

    Only the lower triangle is looked at; the upper one may be there or not.

    Parameters
    ----------
    matrix
        SciPy sparse matrix or array of format csc, csr or bsr.
    block_sizes
        Columns of each block, or one number for all of them.
    """

    def __init__(self, matrix: Any, block_sizes: int | npt.ArrayLike) -> None:
        compressed, self._of_data = _compress(matrix)
        # Copies of the pattern, and nothing of the values: the matrix may be changed, or no longer be there.
        self._format, self._shape, self._data_shape = matrix.format, matrix.shape, matrix.data.shape
        self._given = self._pattern = (matrix.indptr.copy(), matrix.indices.copy())
        if compressed is not matrix:
            self._pattern = (compressed.indptr, compressed.indices)
        self._by_columns = matrix.format == "csc"
        n = matrix.shape[0]
        sizes = _checked_sizes(block_sizes, n)
        self.offsets: LongArray = np.empty(len(sizes) + 1, dtype=np.int64)
        self._block: IndexArray = np.empty(n, dtype=np.int32)
        number_blocks(sizes, self.offsets, self._block)
        high, low = np.empty((2, compressed.nnz), dtype=np.int32)
        count = find_blocks(*self._pattern, self._by_columns, self._block, len(sizes), high, low)
        if count < 0:
            used = self._pattern[1][: compressed.indptr[-1]]
            raise SolverError(f"the matrix has an index of {used.min()} or {used.max()}, expected 0 … {n - 1}")
        if count == 0:
            self._check_lower()
        self.graph: BlockGraph = make_graph(sizes, high[:count].copy(), low[:count].copy())

    def _check_lower(self) -> None:
        """Raise where no block stands below the diagonal, and something above it."""
        indptr, indices = self._pattern
        major = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        minor = indices[: len(major)]
        rows, columns = (minor, major) if self._by_columns else (major, minor)
        blocks_above = (self._block[rows] < self._block[columns]).any()
        if blocks_above or ((rows < columns).any() and not (rows > columns).any()):
            raise SolverError(
                "the matrix has entries above the diagonal and none below it, but the lower triangle is what is read: "
                "give A.T, or both triangles"
            )

    def place(self, symbolic: Symbolic) -> LongArray:
        """Where each number of a matrix's ``data`` goes in the store, −1 for those above the diagonal."""
        target = np.full(len(self._pattern[1]), -1, dtype=np.int64)  # arrays may be longer than what is in use
        place_values(
            *self._pattern, self._by_columns, self._block, self.offsets, symbolic.edge_source, symbolic.edge_turned, target,
        )  # fmt: skip
        if self._of_data is None:
            return target
        by_data = np.empty(len(target), dtype=np.int64)
        by_data[self._of_data] = target
        return by_data

    def check(self, matrix: Any) -> None:
        """Raise unless a matrix has this pattern, entry by entry."""
        indptr, indices = self._given
        if (
            getattr(matrix, "format", None) == self._format
            and matrix.shape == self._shape
            and np.array_equal(matrix.indptr, indptr)
            and np.array_equal(matrix.indices, indices)
            and matrix.data.shape == self._data_shape
        ):
            _check_real(matrix)
            return
        kind, shape = getattr(matrix, "format", type(matrix).__name__), getattr(matrix, "shape", None)
        raise SolverError(
            f"the matrix (format {kind}, shape {shape}, {len(getattr(matrix, 'indices', ()))} stored indices) has another "
            f"pattern than the one that was analysed (format {self._format}, shape {self._shape}, "
            f"{len(indices)} stored indices; SciPy drops zeros in sums and products): call analyze or factorize for it"
        )


def copy_values(target: LongArray, matrix: Any, store: Array) -> None:
    """Put a matrix's values into the store."""
    add_values(target, np.ascontiguousarray(matrix.data, dtype=np.float64).reshape(-1), store)


def _compress(matrix: Any) -> tuple[Any, LongArray | None]:
    """The matrix by scalar columns or rows, and, for block rows, the place in ``data`` of each of its entries."""
    kind = getattr(matrix, "format", type(matrix).__name__)
    if not sp.issparse(matrix) or kind not in ("csc", "csr", "bsr"):
        raise SolverError(
            f"a matrix of kind {kind}, expected a SciPy sparse matrix of format csc, csr or bsr: A.tocsc(), or "
            "scipy.sparse.csc_matrix(A) of a dense one"
        )
    if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
        raise SolverError(f"the matrix has shape {matrix.shape}, expected a square one")
    _check_real(matrix)
    if kind != "bsr":
        return matrix, None
    count = int(np.prod(matrix.data.shape))
    numbered = sp.bsr_matrix(
        (np.arange(count, dtype=np.int64).reshape(matrix.data.shape), matrix.indices, matrix.indptr), shape=matrix.shape
    ).tocsr()
    return numbered, numbered.data


def _check_real(matrix: Any) -> None:
    if np.iscomplexobj(matrix):
        raise SolverError("the matrix is complex, expected real numbers")


def _checked_sizes(block_sizes: int | npt.ArrayLike, n: int) -> IndexArray:
    sizes = np.asarray(block_sizes)
    if sizes.dtype.kind not in "iu" and sizes.size:
        raise SolverError(f"block_sizes has type {sizes.dtype}, expected an integer or an array of integers")
    if sizes.ndim == 0:
        size = int(sizes)
        if size < 1 or n % size:
            raise SolverError(f"block_sizes = {size}, expected a divisor of the {n} columns, or an array of sizes")
        return np.full(n // size, size, dtype=np.int32)
    if sizes.ndim != 1 or (sizes < 1).any() or int(sizes.sum()) != n:
        raise SolverError(
            f"block_sizes has shape {sizes.shape}, least {sizes.min() if sizes.size else 0} and sum {sizes.sum()}, "
            f"expected positive sizes in one dimension that sum to the {n} columns"
        )
    return sizes.astype(np.int32)
