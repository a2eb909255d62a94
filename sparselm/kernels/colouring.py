"""Columns that share no row, in one group: for finite differences of sparse Jacobians."""

from __future__ import annotations

import numpy as np

from sparselm._jit import serial_kernel


@serial_kernel
def colour_columns(indptr, indices, order, taken, colour):
    """Greedy colouring of compressed columns in a given order; False where the colours do not fit in ``taken``.

    ``taken (num_rows, words) uint64`` zeros: one bit for each colour that a row has met. ``colour (num_columns,)``.
    """
    words = taken.shape[1]
    one = np.uint64(1)
    for position in range(order.shape[0]):
        column = order[position]
        found = -1
        for word in range(words):
            used = np.uint64(0)
            for entry in range(indptr[column], indptr[column + 1]):
                used |= taken[indices[entry], word]
            if used != ~np.uint64(0):
                bit = 0
                while (used >> np.uint64(bit)) & one:
                    bit += 1
                found = 64 * word + bit
                break
        if found < 0:
            return False
        colour[column] = found
        mask = one << np.uint64(found % 64)
        for entry in range(indptr[column], indptr[column + 1]):
            taken[indices[entry], found // 64] |= mask
    return True
