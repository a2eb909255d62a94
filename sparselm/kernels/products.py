"""J v, Jᵀ u, and the diagonal of JᵀJ or its diagonal blocks, span by span and operand by operand.

Of a span's J ``(n, dim, …)``, an operand's columns are ``start … start + k``. J may be in single precision: products and
sums are in double.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import prange

from sparselm._jit import TASK, kernel_for, num_lanes
from sparselm.kernels.block_products import FEWEST, sum_products


@functools.cache
def jacobian_product(dim, width):
    """Kernel for ``out[b, :] (+)= J[b, :, start:start+k] @ v[column[index[b]]:…]``."""

    @kernel_for(dim)
    def run(J, start, k, index, column, v, out, accumulate):
        num_blocks = J.shape[0]
        for task in prange((num_blocks + TASK - 1) // TASK):
            height, size = dim if dim > 0 else J.shape[1], width if width > 0 else k
            for b in range(task * TASK, min(num_blocks, (task + 1) * TASK)):
                first = column[index[b]]
                for i in range(height):
                    total = 0.0
                    for c in range(size):
                        total += J[b, i, start + c] * v[first + c]
                    out[b, i] = total + (out[b, i] if accumulate else 0.0)

    return run


@functools.cache
def transposed_product(dim, width, with_diagonal):
    """Kernel for ``g += J_operandᵀ u`` and, with the diagonal, ``d += column-wise ΣJ²``, over a :class:`Gather`."""

    @kernel_for(dim)
    def run(
        order, piece_row, piece_ptr, piece_slot, split_row, split_ptr, task_ptr, J, start, k, u, column, partial, g, d
    ):  # fmt: skip
        num_tasks = task_ptr.shape[0] - 1
        lanes = num_lanes(num_tasks, 1)
        for lane in prange(lanes):
            height, size = dim if dim > 0 else J.shape[1], width if width > 0 else k
            num_sums = 2 * size if with_diagonal else size
            sums = np.empty(num_sums)
            for piece in range(task_ptr[lane * num_tasks // lanes], task_ptr[(lane + 1) * num_tasks // lanes]):
                for c in range(num_sums):  # a slice would become a parallel loop of its own, slow to compile
                    sums[c] = 0.0
                for q in range(piece_ptr[piece], piece_ptr[piece + 1]):
                    b = order[q]
                    for i in range(height):
                        factor = u[b, i]
                        for c in range(size):
                            entry = np.float64(J[b, i, start + c])
                            sums[c] += entry * factor
                            if with_diagonal:
                                sums[size + c] += entry * entry
                slot = piece_slot[piece]
                if slot >= 0:
                    for c in range(num_sums):
                        partial[slot, c] = sums[c]
                else:
                    first = column[piece_row[piece]]
                    for c in range(size):
                        g[first + c] += sums[c]
                        if with_diagonal:
                            d[first + c] += sums[size + c]
        for s in range(split_row.shape[0]):
            first = column[split_row[s]]
            for slot in range(split_ptr[s], split_ptr[s + 1]):
                for c in range(k):
                    g[first + c] += partial[slot, c]
                    if with_diagonal:
                        d[first + c] += partial[slot, k + c]

    return run


@functools.cache
def transposed_product_and_blocks(dim, width):
    """Kernel for ``g += J_operandᵀ u``, blocks Σ J_operandᵀ J_operand of each row, by columns, and ``d +=`` their diagonals.

    It takes as long as the diagonal alone, where J comes from memory. A row of ``partial`` has k² + k numbers.
    """
    by_vectors = width >= FEWEST

    @kernel_for(dim)
    def run(
        order, piece_row, piece_ptr, piece_slot, split_row, split_ptr, task_ptr, J, start, k, u, column, partial, g, d,
        blocks,
    ):  # fmt: skip
        num_tasks = task_ptr.shape[0] - 1
        lanes = num_lanes(num_tasks, 1)
        for lane in prange(lanes):
            height, size = dim if dim > 0 else J.shape[1], width if width > 0 else k
            area = size * size
            sums = np.empty(area + size)
            for piece in range(task_ptr[lane * num_tasks // lanes], task_ptr[(lane + 1) * num_tasks // lanes]):
                for c in range(area + size):
                    sums[c] = 0.0
                if by_vectors:
                    sum_products(
                        dim, width, width, 0, 0, 0, sums, 0, width, sums, -1, width, J, start, dim * J.shape[2], J.shape[2],
                        order, J, start, dim * J.shape[2], J.shape[2], order, piece_ptr[piece], piece_ptr[piece + 1],
                    )  # fmt: skip
                for q in range(piece_ptr[piece], piece_ptr[piece + 1]):
                    b = order[q]
                    for i in range(height):
                        factor = u[b, i]
                        for c in range(size):
                            entry = np.float64(J[b, i, start + c])
                            sums[area + c] += entry * factor
                            if not by_vectors:
                                for r in range(size):
                                    sums[c * size + r] += entry * J[b, i, start + r]
                slot = piece_slot[piece]
                if slot >= 0:
                    for c in range(area + size):
                        partial[slot, c] = sums[c]
                else:
                    row = piece_row[piece]
                    for c in range(area):
                        blocks[row, c] = sums[c]
                    for c in range(size):
                        g[column[row] + c] += sums[area + c]
                        d[column[row] + c] += sums[c * size + c]
        for s in range(split_row.shape[0]):
            row = split_row[s]
            for c in range(k * k):
                blocks[row, c] = 0.0
            for slot in range(split_ptr[s], split_ptr[s + 1]):
                for c in range(k * k):
                    blocks[row, c] += partial[slot, c]
                for c in range(k):
                    g[column[row] + c] += partial[slot, k * k + c]
            for c in range(k):
                d[column[row] + c] += blocks[row, c * k + c]

    return run
