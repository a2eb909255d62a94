"""Products with the Schur complement: with its blocks, or without forming it, through J and the basis Q of what is eliminated.

With L_e L_eᵀ = V_e + D_e and Q = J_e L_e⁻ᵀ, the rows of Q of one eliminated block are, but for D, an orthonormal basis of the
range of J_e, and S x = J_kᵀ (I − Q Qᵀ) J_k x + D x.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import prange

from sparselm._jit import TASK, kernel, num_lanes

# Kept blocks a parallel task takes on.
_TASK_ROWS = 16


@functools.cache
def symmetric_product(k):
    """Kernel for y ← S x, S by blocks of which the lower triangle is stored; all of size k, or any sizes where k is 0.

    Row a has the blocks (a, b), b < a, ``row_ptr[a] … row_ptr[a + 1]`` of ``low`` at ``below``, and the diagonal one at
    ``diagonal[a]``. Column a has the blocks (c, a) ``column_order[column_ptr[a] …]`` of the same numbering, in rows ``high``.
    Each y_a is summed by one thread: a block is read twice, and no sum depends on the number of threads.
    """

    @kernel
    def run(row_ptr, high, low, below, column_ptr, column_order, diagonal, first, S, x, y):
        n = diagonal.shape[0]
        for task in prange((n + _TASK_ROWS - 1) // _TASK_ROWS):
            for a in range(task * _TASK_ROWS, min(n, (task + 1) * _TASK_ROWS)):
                size = k if k > 0 else first[a + 1] - first[a]
                at, place = first[a], diagonal[a]
                for r in range(size):
                    total = 0.0
                    for c in range(size):
                        # Of the diagonal block the lower triangle is there.
                        total += S[place + (c * size + r if r >= c else r * size + c)] * x[at + c]
                    y[at + r] = total
                for q in range(row_ptr[a], row_ptr[a + 1]):
                    start, other = below[q], first[low[q]]
                    width = k if k > 0 else first[low[q] + 1] - first[low[q]]
                    for c in range(width):
                        factor = x[other + c]
                        for r in range(size):
                            y[at + r] += S[start + c * size + r] * factor
                for t in range(column_ptr[a], column_ptr[a + 1]):
                    q = column_order[t]
                    start, other = below[q], first[high[q]]
                    height = k if k > 0 else first[high[q] + 1] - first[high[q]]
                    for r in range(size):
                        total = 0.0
                        for c in range(height):
                            total += S[start + r * height + c] * x[other + c]
                        y[at + r] += total

    return run


@functools.cache
def projected_diagonal(dim, k, d):
    """Kernel for ``A_k −= Σ_b (J_kᵀ Q)(J_kᵀ Q)ᵀ``, lower triangles, over a :class:`~sparselm.gather.Gather` by kept row.

    Pieces of long lists leave their sums in ``partial``, for which there is a row of k² numbers for each.
    """

    @kernel
    def run(order, piece_row, piece_ptr, piece_slot, split_row, split_ptr, task_ptr, J, start, Q, place, partial, A):
        tasks = task_ptr.shape[0] - 1
        lanes = num_lanes(tasks, 1)
        for lane in prange(lanes):
            sums, Y = np.empty((k, k)), np.empty((k, d))
            for piece in range(task_ptr[lane * tasks // lanes], task_ptr[(lane + 1) * tasks // lanes]):
                at = place[piece_row[piece]]
                if at < 0:
                    continue
                for r in range(k):
                    for c in range(k):
                        sums[c, r] = 0.0
                for t in range(piece_ptr[piece], piece_ptr[piece + 1]):
                    b = order[t]
                    for r in range(k):
                        for m in range(d):
                            total = 0.0
                            for i in range(dim):
                                total += J[b, i, start + r] * Q[b, i, m]
                            Y[r, m] = total
                    for c in range(k):
                        for r in range(k):
                            for m in range(d):
                                sums[c, r] += Y[r, m] * Y[c, m]
                slot = piece_slot[piece]
                for c in range(k):
                    for r in range(k):
                        if slot >= 0:
                            partial[slot, c * k + r] = sums[c, r]
                        else:
                            A[at + c * k + r] -= sums[c, r]
        for s in range(split_row.shape[0]):
            at = place[split_row[s]]
            if at >= 0:
                for slot in range(split_ptr[s], split_ptr[s + 1]):
                    for r in range(k * k):
                        A[at + r] -= partial[slot, r]

    return run


@kernel
def convert(source, target):
    """Copy into another precision."""
    n = source.shape[0]
    size = 1 << 16
    for task in prange((n + size - 1) // size):
        for i in range(task * size, min(n, (task + 1) * size)):
            target[i] = source[i]
