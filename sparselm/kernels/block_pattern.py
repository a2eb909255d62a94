"""The blocks of a sparse scalar matrix, and where its entries go in them."""

from __future__ import annotations

import numpy as np

from sparselm._jit import serial_kernel


@serial_kernel
def find_blocks(indptr, indices, by_columns, block, num_blocks, high, low, edge):
    """The pairs of blocks in which the lower triangle has entries; returns their number.

    The matrix comes by columns or by rows; ``block (n,)`` is the block of each scalar index. Pair e is the block row
    ``high[e]`` and the block column ``low[e]``. ``edge`` becomes, by entry: the number of its pair, −1 − v in the diagonal
    block v, and num_blocks² above the diagonal. With ``high`` of length 0 pairs are only counted.
    """
    seen = np.full(num_blocks, -1, np.int64)
    pair = np.empty(num_blocks, np.int64)
    above = num_blocks * num_blocks
    count = 0
    for major in range(indptr.shape[0] - 1):
        own = block[major]
        for e in range(indptr[major], indptr[major + 1]):
            minor = indices[e]
            if (minor < major) if by_columns else (minor > major):
                edge[e] = above
                continue
            other = block[minor]
            if other == own:
                edge[e] = -1 - own
                continue
            if seen[other] != own:
                seen[other] = own
                pair[other] = count
                if count < high.shape[0]:
                    high[count] = other if by_columns else own
                    low[count] = own if by_columns else other
                count += 1
            edge[e] = pair[other]
    return count


@serial_kernel
def place_values(indptr, indices, by_columns, block, offsets, edge, source, turned, num_edges, target):
    """Where each entry goes in the store of blocks: ``target``, −1 for entries above the diagonal.

    ``source`` and ``turned`` tell the start of each pair's block there, and whether its column is the higher block; the
    diagonal block of block v is number num_edges + v.
    """
    num_blocks = offsets.shape[0] - 1
    for major in range(indptr.shape[0] - 1):
        for e in range(indptr[major], indptr[major + 1]):
            if edge[e] == num_blocks * num_blocks:
                target[e] = -1
                continue
            row, column = indices[e], major
            if not by_columns:
                row, column = major, indices[e]
            i, j = block[row], block[column]
            r, c = row - offsets[i], column - offsets[j]
            number = edge[e] if edge[e] >= 0 else num_edges - 1 - edge[e]
            if turned[number]:
                target[e] = source[number] + r * (offsets[j + 1] - offsets[j]) + c
            else:
                target[e] = source[number] + c * (offsets[i + 1] - offsets[i]) + r


@serial_kernel
def add_values(target, values, store):
    """store[target] += values, entry by entry; what is listed twice is summed."""
    store[:] = 0.0
    for e in range(target.shape[0]):
        if target[e] >= 0:
            store[target[e]] += values[e]
