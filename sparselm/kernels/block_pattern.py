"""The blocks of a sparse scalar matrix, and where its entries go in them."""

from __future__ import annotations

import numpy as np

from sparselm._jit import borrower, serial_kernel


@serial_kernel
def number_blocks(sizes, offsets, block):
    """``offsets[v]`` becomes the first scalar index of block v, and ``block[i]`` the block of scalar index i."""
    offsets[0] = 0
    for v in range(sizes.shape[0]):
        begin = offsets[v]
        offsets[v + 1] = begin + sizes[v]
        for i in range(begin, begin + sizes[v]):
            block[i] = v


@serial_kernel
def find_blocks(indptr, indices, by_columns, block, num_blocks, high, low):
    """The pairs of blocks in which the lower triangle has entries; returns their number, −1 where an index is out of range.

    The matrix comes by columns or by rows; ``block (n,)`` is the block of each scalar index. Pair e is the block row
    ``high[e]`` and the block column ``low[e]``. Pairs are numbered as they are met, going through the blocks of columns (or
    rows) one after the other.
    """
    n = block.shape[0]
    seen = np.full(num_blocks, -1, np.int32)
    count = 0
    for major in range(indptr.shape[0] - 1):
        own = block[major]
        begin, end = indptr[major], indptr[major + 1]
        if major > 0 and block[major - 1] == own:
            begin = _skip_repeated(indices, indptr[major - 1], begin, end)
        last = own  # runs of entries in one block are looked at once
        for e in range(begin, end):
            minor = indices[e]
            if minor < 0 or minor >= n:
                return -1
            other = block[minor]
            if other == last or other == own or ((minor < major) if by_columns else (minor > major)):  # noqa: SIM109
                continue
            last = other
            if seen[other] != own:
                seen[other] = own
                high[count] = other if by_columns else own
                low[count] = own if by_columns else other
                count += 1
    return count


@borrower
def _skip_repeated(indices, before, begin, end):
    """Where the entries begin to differ from those of the column (or row) before, from place ``before`` to ``begin``.

    Columns of a block mostly have the same entries; in a lower triangle the next column lacks the first, the next row has
    one more at its end.
    """
    common = min(begin - before, end - begin)
    fewer = common == end - begin
    p, q = (begin - common, end - common) if fewer else (before, begin)
    same = True
    for t in range(common):
        same &= indices[p + t] == indices[q + t]
    if not same:
        return begin
    return end if fewer else begin + common


@serial_kernel
def place_values(indptr, indices, by_columns, block, offsets, source, turned, target):
    """Where each entry goes in the store of blocks: ``target``, −1 for entries above the diagonal.

    ``source`` and ``turned`` tell the start of the block of each pair, numbered as by :func:`find_blocks`, and whether its
    column is the higher block; after the pairs come the diagonal blocks.
    """
    num_blocks = offsets.shape[0] - 1
    num_pairs = source.shape[0] - num_blocks
    seen = np.full(num_blocks, -1, np.int32)
    pair = np.empty(num_blocks, np.int64)
    count = 0
    for major in range(indptr.shape[0] - 1):
        own = block[major]
        for e in range(indptr[major], indptr[major + 1]):
            minor = indices[e]
            if (minor < major) if by_columns else (minor > major):
                target[e] = -1
                continue
            other = block[minor]
            number = num_pairs + own
            if other != own:
                if seen[other] != own:
                    seen[other] = own
                    pair[other] = count
                    count += 1
                number = pair[other]
            row, column, i, j = (minor, major, other, own) if by_columns else (major, minor, own, other)
            r, c = row - offsets[i], column - offsets[j]
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


@serial_kernel
def neighbours(first, second, indptr, indices):
    """The graph of edges ``first[e]``–``second[e]`` by node: the neighbours of each."""
    n = indptr.shape[0] - 1
    indptr[:] = 0
    for e in range(first.shape[0]):
        indptr[first[e] + 1] += 1
        indptr[second[e] + 1] += 1
    for v in range(n):
        indptr[v + 1] += indptr[v]
    filled = indptr[:-1].copy()
    for e in range(first.shape[0]):
        u, v = first[e], second[e]
        indices[filled[u]] = v
        filled[u] += 1
        indices[filled[v]] = u
        filled[v] += 1
