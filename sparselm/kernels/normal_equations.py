"""JᵀJ block by block, and what has to be known of its pattern beforehand.

A block H_ij = Σ_b A_bᵀ B_b is gathered: its contributions are sorted once and then summed in that order, by whole blocks
or, where there are many, by pieces whose partial sums are added in order. Nothing depends on the number of threads. J may
be in single precision: products and sums are in double.

Where a block goes is told by two numbers, ``first`` and ``stride``: entry (r, c) stands at

    first + c stride − packed c(c+1)/2 + r

With ``packed = 0`` this is a dense matrix by columns. With ``packed = 1`` it is the lower triangle in compressed columns,
where each of the block's columns is one entry shorter than the one before it, for the entry above the diagonal it lacks.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import prange

from sparselm._jit import TASK, kernel, kernel_for, num_lanes, scalar, serial_kernel
from sparselm.kernels.block_products import FEWEST, MOST, sum_products

# How a sum of products S = AᵀB enters H.
PLAIN, LOWER, SYMMETRISED = 0, 1, 2


@scalar
def _add_block(S, ka, kb, first, stride, packed, mode, H):
    """Add the product S ``(ka, kb)``, row by row in a vector, to its block of H."""
    if mode != 0:
        for c in range(ka):
            target = first + c * stride - packed * (c * (c + 1) // 2)
            for r in range(c, ka):
                H[target + r] += S[r * kb + c] + (S[c * kb + r] if mode == 2 else 0.0)
    elif stride < 0:
        for r in range(ka):
            target = first - r * stride - packed * (r * (r + 1) // 2)
            for c in range(kb):
                H[target + c] += S[r * kb + c]
    else:
        for c in range(kb):
            target = first + c * stride - packed * (c * (c + 1) // 2)
            for r in range(ka):
                H[target + r] += S[r * kb + c]


@serial_kernel
def add_split_sums(split_row, split_ptr, partial, ka, kb, first, stride, packed, mode, H):
    """Finish what ``accumulate_products`` left as partial sums, in their order."""
    total = np.empty(ka * kb)
    for s in range(split_row.shape[0]):
        total[:] = 0.0
        for slot in range(split_ptr[s], split_ptr[s + 1]):
            for c in range(ka * kb):
                total[c] += partial[slot, c]
        row = split_row[s]
        _add_block(total, ka, kb, first[row], stride[row], packed, mode, H)


@functools.cache
def accumulate_products(dim, ka, kb):
    """Kernel for ``H[target] += Σ_b A_bᵀ B_b`` over a :class:`~sparselm.gather.Gather`.

    What is summed in several pieces is left in ``partial``, for :func:`add_split_sums`.

    A and B are the columns ``a … a + width_a`` and ``b … b + width_b`` of a block's J ``(dim, …)``. ``first`` and ``stride``
    stand for each key of the gather; a stride below zero means that the target is the transposed block, BᵀA, whose stride is
    −stride.
    ``mode`` is PLAIN, LOWER (of a diagonal block only r ≥ c is kept) or SYMMETRISED (S + Sᵀ, of it r ≥ c).
    """
    by_vectors = FEWEST <= max(ka, kb) <= MOST

    @kernel_for(dim)
    def run(
        order, piece_row, piece_ptr, piece_slot, task_ptr, J, a, b, width_a, width_b, first, stride, packed, mode, partial, H
    ):  # fmt: skip
        num_tasks = task_ptr.shape[0] - 1
        lanes = num_lanes(num_tasks, 1)
        for lane in prange(lanes):
            height, rows, columns = (dim, ka, kb) if dim > 0 else (J.shape[1], width_a, width_b)
            S = np.empty(rows * columns)
            for piece in range(task_ptr[lane * num_tasks // lanes], task_ptr[(lane + 1) * num_tasks // lanes]):
                if by_vectors:  # S lies row by row: its rows are the columns of the sum
                    sum_products(
                        dim, kb, ka, 0, 0, 0, S, 0, kb, S, -1, kb, J, b, dim * J.shape[2], J.shape[2], order,
                        J, a, dim * J.shape[2], J.shape[2], order, piece_ptr[piece], piece_ptr[piece + 1],
                    )  # fmt: skip
                else:
                    for c in range(rows * columns):  # as a slice it would become a parallel loop of its own, slow to compile
                        S[c] = 0.0
                    for q in range(piece_ptr[piece], piece_ptr[piece + 1]):
                        block = order[q]
                        for i in range(height):
                            for r in range(rows):
                                factor = np.float64(J[block, i, a + r])
                                for c in range(columns):
                                    S[r * columns + c] += factor * J[block, i, b + c]
                slot = piece_slot[piece]
                if slot >= 0:
                    for c in range(rows * columns):
                        partial[slot, c] = S[c]
                else:
                    row = piece_row[piece]
                    _add_block(S, rows, columns, first[row], stride[row], packed, mode, H)

    return run


@kernel
def add_blocks(rows, blocks, k, first, stride, packed, H):
    """``H[target] +=`` the lower triangle of a row of ``blocks``, k² numbers each, for some rows; none twice."""
    n = rows.shape[0]
    for task in prange((n + TASK - 1) // TASK):
        for t in range(task * TASK, min(n, (task + 1) * TASK)):
            row = rows[t]
            _add_block(blocks[row], k, k, first[row], stride[row], packed, LOWER, H)


@serial_kernel
def number_runs(major, minor, order, number):
    """Number the distinct pairs (major, minor), sorted by ``order``, in that order; return how many there are."""
    count = 0
    for q in range(order.shape[0]):
        e = order[q]
        if q > 0 and (major[e] != major[order[q - 1]] or minor[e] != minor[order[q - 1]]):
            count += 1
        number[e] = count
    return count + 1 if order.shape[0] else 0


@kernel
def fill_indices(column_ptr, rows, sizes, offsets, base, stride, indices):
    """Write the row indices of the lower triangle in compressed columns.

    Block column p has the blocks ``rows[column_ptr[p]:column_ptr[p+1]]`` below its diagonal, in ascending order; block p
    has ``sizes[p]`` rows from ``offsets[p]`` on; its first scalar column starts at ``base[p]`` and has ``stride[p]``
    entries.
    """
    for p in prange(sizes.shape[0]):
        target = base[p]
        for c in range(sizes[p]):
            for r in range(c, sizes[p]):
                indices[target] = offsets[p] + r
                target += 1
            for k in range(column_ptr[p], column_ptr[p + 1]):
                q = rows[k]
                for r in range(sizes[q]):
                    indices[target] = offsets[q] + r
                    target += 1


@kernel
def hold_components(indptr, indices, held, values):
    """Make rows and columns of held components those of the identity, in a lower triangle in compressed columns."""
    for j in prange(held.shape[0]):
        for k in range(indptr[j], indptr[j + 1]):
            i = indices[k]
            if held[i] or held[j]:
                values[k] = 1.0 if i == j else 0.0
