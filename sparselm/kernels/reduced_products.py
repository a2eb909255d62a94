"""Products with the Schur complement: with its blocks, or without forming it, through J.

With J_k the kept and J_e the eliminated columns of J, and L_e L_eᵀ = V_e + D_e,

    S x = J_kᵀ (J_k x − J_e (V + D)⁻¹ J_eᵀ J_k x) + D x.

All that one eliminated block has to do with lies in its own residual blocks: each of them is read once.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import prange

from sparselm._jit import TASK, inlined, kernel, kernel_for, num_lanes
from sparselm.kernels.block_products import sum_products
from sparselm.kernels.short_vectors import add_rows, dot_short

# Kept blocks a parallel task takes on.
_TASK_ROWS = 16


@functools.cache
def symmetric_product(k):
    """Kernel for y ← S x, S by blocks of which the lower triangle is stored; all of size k, or any sizes where k is 0.

    Row a has the blocks (a, b), b < a, ``row_ptr[a] … row_ptr[a + 1]`` of ``low`` at ``below``, and the diagonal one at
    ``diagonal[a]``. Column a has the blocks (c, a) ``column_order[column_ptr[a] …]`` of the same numbering, in rows
    ``high``. Each y_a is summed by one thread: a block is read twice, and no sum depends on the number of threads.
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


#: What :func:`implicit_product` does: gather w, scatter what u leaves, or both at once.
GATHER, SCATTER, WHOLE = 0, 1, 2


@inlined
def _apply_inverse(inverse, e, d, own, work):
    """own ← (V_e + D_e)⁻¹ own = L_e⁻ᵀ L_e⁻¹ own."""
    for m in range(d):
        work[m] = 0.0
        for c in range(m + 1):
            work[m] += inverse[e, m * (m + 1) // 2 + c] * own[c]
    for c in range(d):
        own[c] = 0.0
        for m in range(c, d):
            own[c] += inverse[e, m * (m + 1) // 2 + c] * work[m]


@functools.cache
def implicit_product(dim, d, k0, k1, k2, k3, basis):
    """Kernel for the residual blocks of one span, by the rows of its eliminated operand; k0 … k3 are widths of kept ones.

    For row r with its residual blocks b, its number e among the eliminated blocks (below zero: it is none of them), and
    v_b = J_k x,

    * GATHER adds up w_e = Σ J_eᵀ v_b,
    * SCATTER adds J_kᵀ (v_b − J_e u_e) to y, v_b = 0 where ``with_x`` is false,
    * WHOLE does both, with u_e = (V_e + D_e)⁻¹ w_e.

    With ``basis`` the blocks E are those of Q = J_e L_e⁻ᵀ in place of J_e, so that u_e = w_e. Lanes, as many as there are
    rows of ``y``, take rows ``lane_row[lane] … lane_row[lane + 1]`` and add to a y of their own.

    Kept operand m has the columns ``starts[m] … starts[m] + widths[m]`` of J, and begins at ``c[i[b]]`` in x, with its i and
    c of i0 … i3 and c0 … c3; a width of 0 is an operand that is not there. Where ``dim`` is 0, for blocks of any sizes,
    there may be any number of kept operands, and they begin at ``places[m, b]``.
    """

    @kernel
    def run(
        mode, with_x, lane_row, rows, ptr, order, longest, number, inverse, J, E, at_e, starts, widths, places,
        i0, i1, i2, i3, c0, c1, c2, c3, x, w, u, y,
    ):  # fmt: skip
        width = J.shape[2]
        for lane in prange(y.shape[0]):
            height, size = (dim, d) if dim > 0 else (J.shape[1], u.shape[1])
            start = lane * y.shape[1]
            v = np.empty((longest, height))
            own, work = np.empty(size), np.empty(size)
            at0, at1 = starts[0] if k0 > 0 else 0, starts[1] if k1 > 0 else 0
            at2, at3 = starts[2] if k2 > 0 else 0, starts[3] if k3 > 0 else 0
            for q in range(lane_row[lane], lane_row[lane + 1]):
                e = number[rows[q]]
                begin, end = ptr[q], ptr[q + 1]
                for m in range(size):
                    own[m] = 0.0
                for t in range(begin, end):
                    b = order[t]
                    for i in range(height):
                        total = 0.0
                        row = (np.int64(b) * height + i) * width
                        if with_x:
                            if k0 > 0:
                                total += dot_short(k0, J, row + at0, x, c0[i0[b]])
                            if k1 > 0:
                                total += dot_short(k1, J, row + at1, x, c1[i1[b]])
                            if k2 > 0:
                                total += dot_short(k2, J, row + at2, x, c2[i2[b]])
                            if k3 > 0:
                                total += dot_short(k3, J, row + at3, x, c3[i3[b]])
                            if dim == 0:
                                for m in range(starts.shape[0]):
                                    for c in range(widths[m]):
                                        total += J[b, i, starts[m] + c] * x[places[m, b] + c]
                        v[t - begin, i] = total
                        if mode != 1:
                            for m in range(size):
                                own[m] += E[b, i, at_e + m] * total
                if mode == 0:
                    if e >= 0:
                        for m in range(size):
                            w[e, m] += own[m]
                    continue
                if e >= 0:
                    if mode == 1:
                        for m in range(size):
                            own[m] = u[e, m]
                    elif basis == 0:
                        _apply_inverse(inverse, e, size, own, work)
                for t in range(begin, end):
                    b = order[t]
                    if e >= 0:
                        for i in range(height):
                            for m in range(size):
                                v[t - begin, i] -= E[b, i, at_e + m] * own[m]
                    row, place = np.int64(b) * (height * width), (t - begin) * height
                    if k0 > 0:
                        add_rows(k0, dim, y, start + c0[i0[b]], J, row + at0, width, v, place)
                    if k1 > 0:
                        add_rows(k1, dim, y, start + c1[i1[b]], J, row + at1, width, v, place)
                    if k2 > 0:
                        add_rows(k2, dim, y, start + c2[i2[b]], J, row + at2, width, v, place)
                    if k3 > 0:
                        add_rows(k3, dim, y, start + c3[i3[b]], J, row + at3, width, v, place)
                    if dim == 0:
                        for m in range(starts.shape[0]):
                            for i in range(height):
                                for c in range(widths[m]):
                                    y[lane, places[m, b] + c] += J[b, i, starts[m] + c] * v[t - begin, i]

    return run


@kernel
def sum_lanes(parts, out):
    """out ← Σ of the rows of ``parts``, in their order, which are cleared."""
    n = out.shape[0]
    for task in prange((n + TASK - 1) // TASK):
        for i in range(task * TASK, min(n, (task + 1) * TASK)):
            total = 0.0
            for lane in range(parts.shape[0]):
                total += parts[lane, i]
                parts[lane, i] = 0.0
            out[i] = total


@functools.cache
def projected_diagonal(dim, k, d):
    """Kernel for ``A_k −= Σ_b (J_kᵀ Q)(J_kᵀ Q)ᵀ`` with Q = J_e L_e⁻ᵀ, over a :class:`~sparselm.gather.Gather` by kept row.

    Pieces of long lists leave their sums in ``partial``, for which there is a row of k² numbers for each. ``number`` tells
    the eliminated block of each row that ``index`` names; ``size_k`` and ``size_d`` are k and d.
    """

    @kernel_for(dim)
    def run(
        order, piece_row, piece_ptr, piece_slot, split_row, split_ptr, task_ptr, J, start, at_e, size_k, size_d, index,
        number, inverse, place, partial, A,
    ):  # fmt: skip
        tasks = task_ptr.shape[0] - 1
        lanes = num_lanes(tasks, 1)
        width, most = J.shape[2], 0
        for piece in range(piece_row.shape[0]):
            most = max(most, piece_ptr[piece + 1] - piece_ptr[piece])
        for lane in prange(lanes):
            height, columns = (dim, d) if dim > 0 else (J.shape[1], size_d)
            rows = k if dim > 0 else size_k
            area, size = rows * rows, rows * columns
            sums, Y, Q = np.empty(area), np.empty(most * size), np.empty((columns, height))
            every = np.arange(most).astype(np.int32)
            for piece in range(task_ptr[lane * tasks // lanes], task_ptr[(lane + 1) * tasks // lanes]):
                at = place[piece_row[piece]]
                if at < 0:
                    continue
                count = 0
                for t in range(piece_ptr[piece], piece_ptr[piece + 1]):
                    b = order[t]
                    e = number[index[b]]
                    if e < 0:
                        continue
                    for i in range(height):
                        for c in range(columns):
                            total = 0.0
                            for m in range(c + 1):
                                total += J[b, i, at_e + m] * inverse[e, c * (c + 1) // 2 + m]
                            Q[c, i] = total
                    row = np.int64(b) * (height * width) + start
                    for r in range(size):
                        Y[count * size + r] = 0.0
                    for m in range(columns):
                        at_y = count * size + m * rows
                        if dim > 0:
                            add_rows(k, dim, Y, at_y, J, row, width, Q, m * dim)
                        else:
                            for i in range(height):
                                for r in range(rows):
                                    Y[at_y + r] += J[b, i, start + r] * Q[m, i]
                    count += 1
                if dim > 0:
                    sum_products(
                        d, k, k, 0, 0, 0, sums, 0, k, sums, -1, k, Y, 0, size, k, every, Y, 0, size, k, every, 0, count
                    )
                else:
                    for r in range(area):
                        sums[r] = 0.0
                        for t in range(count * columns):
                            sums[r] += Y[t * rows + r // rows] * Y[t * rows + r % rows]
                slot = piece_slot[piece]
                for r in range(area):
                    if slot >= 0:
                        partial[slot, r] = sums[r]
                    else:
                        A[at + r] -= sums[r]
        for s in range(split_row.shape[0]):
            at = place[split_row[s]]
            if at >= 0:
                for slot in range(split_ptr[s], split_ptr[s + 1]):
                    for r in range(size_k * size_k):
                        A[at + r] -= partial[slot, r]

    return run
