"""H = Pᵀ JᵀJ P of a sparse matrix J, lower triangle by compressed columns; J with its columns in the order of P."""

from __future__ import annotations

import numba
import numpy as np

from sparselm._jit import kernel, serial_kernel


@serial_kernel
def normal_pattern(col_ptr, col_row, row_ptr, row_col, indptr, indices):
    """Non-zeros of each column of H: ``indptr (n + 1)``; and their rows, ascending, where ``indices`` has any length.

    ``col_ptr, col_row`` are J by columns, ``row_ptr, row_col`` by rows.
    """
    n = col_ptr.shape[0] - 1
    seen = np.full(n, -1, np.int64)
    fill = indices.shape[0] > 0
    found = np.empty(n, indices.dtype)
    total = 0
    for column in range(n):
        count = 1
        seen[column] = column
        found[0] = column
        for entry in range(col_ptr[column], col_ptr[column + 1]):
            row = col_row[entry]
            for other in range(row_ptr[row], row_ptr[row + 1]):
                k = row_col[other]
                if k > column and seen[k] != column:
                    seen[k] = column
                    found[count] = k
                    count += 1
        if fill:
            found[:count].sort()
            indices[total : total + count] = found[:count]
        total += count
        indptr[column + 1] = total


@kernel
def normal_values(lane_ptr, col_ptr, col_row, source, row_ptr, row_col, row_value, indptr, indices, values):
    """Values of H; ``source`` names the entry of the rows for each entry of the columns of J, rows ascending.

    Lane k does the columns ``lane_ptr[k] … lane_ptr[k + 1]``.
    """
    n = col_ptr.shape[0] - 1
    for lane in numba.prange(lane_ptr.shape[0] - 1):
        sums = np.zeros(n)
        for column in range(lane_ptr[lane], lane_ptr[lane + 1]):
            for entry in range(col_ptr[column], col_ptr[column + 1]):
                own = source[entry]
                value = row_value[own]
                for other in range(own, row_ptr[col_row[entry] + 1]):
                    sums[row_col[other]] += value * row_value[other]
            for entry in range(indptr[column], indptr[column + 1]):
                values[entry] = sums[indices[entry]]
                sums[indices[entry]] = 0.0
