"""The Schur complement of eliminated variable blocks: their factors, their coupling with kept blocks, and the sums of both.

With the eliminated blocks e, whose diagonal blocks V_e (d, d) stand alone, and the kept blocks k that residual blocks
connect with them by W_ek = Σ J_kᵀ J_e,

    V_e + D_e = L_e L_eᵀ,      Y_ek = W_ek L_e⁻ᵀ = Σ J_kᵀ (J_e L_e⁻ᵀ),      S = H + D − Σ_e Y_e Y_eᵀ.

L_e⁻¹ is what is stored of a factor, its lower triangle row by row. Y_ek (k, d) is stored by columns; W is never formed.

Kernels for couplings are compiled for known sizes or for any, which are then told (``size_k``, ``size_d``), or the shapes of
arrays have them.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numba import prange

from sparselm._jit import TASK, borrower, inlined, kernel, kernel_for, num_lanes, serial_kernel
from sparselm.kernels.block_products import sum_products, sum_projected_products
from sparselm.kernels.short_vectors import add_rows, dot_short
from sparselm.kernels.tasks import fetch_add


@functools.cache
def factor_blocks(d):
    """Kernel for L_e⁻¹ of V_e + D_e, all blocks; ``bad[task]`` is the first block of a task that is not positive definite.

    ``V`` is ``(n, d d)``, of which the lower triangles are read, by columns; ``damping`` is ``(n, d)``, and +∞ in it holds a
    component: its row and column of L⁻¹ are zero.
    """

    @kernel
    def run(V, damping, inverse, bad):
        n = V.shape[0]
        for task in prange(bad.shape[0]):
            A = np.empty((d, d))
            bad[task] = -1
            for e in range(task * TASK, min(n, (task + 1) * TASK)):
                for c in range(d):
                    for r in range(c, d):
                        held = math.isinf(damping[e, r]) or math.isinf(damping[e, c])
                        A[r, c] = V[e, c * d + r] if not held else 0.0
                    A[c, c] += damping[e, c] if not math.isinf(damping[e, c]) else 1.0
                for c in range(d):
                    for k in range(c):
                        A[c, c] -= A[c, k] * A[c, k]
                    if not A[c, c] > 0.0 and bad[task] < 0:
                        bad[task] = e
                    A[c, c] = math.sqrt(A[c, c])
                    for r in range(c + 1, d):
                        for k in range(c):
                            A[r, c] -= A[r, k] * A[c, k]
                        A[r, c] /= A[c, c]
                place = 0
                for r in range(d):
                    for c in range(r + 1):
                        total = 1.0 if r == c else 0.0
                        for k in range(c, r):
                            total -= A[r, k] * inverse[e, k * (k + 1) // 2 + c]
                        inverse[e, place] = total / A[r, r]
                        place += 1
                for r in range(d):
                    if math.isinf(damping[e, r]):
                        inverse[e, r * (r + 1) // 2 + r] = 0.0

    return run


@functools.cache
def couple(dim, k, d):
    """Kernel for ``Y[slot] (+)= J_kᵀ J_e L_e⁻ᵀ`` over a list of residual blocks sorted by slot.

    J_e and J_k are the columns ``at_e … at_e + d`` and ``at_k … at_k + k`` of a residual block's J ``(dim, …)``. Without
    ``accumulate`` what stood in Y is not read, so each slot may be there only once.
    Task t takes items ``task_ptr[t]:task_ptr[t + 1]`` of the list and no two tasks share a slot. ``eliminated`` tells the
    block e of a slot; Y_ek begins at ``slot · stride``.
    """

    @kernel_for(dim)
    def run(task_ptr, blocks, slots, eliminated, J, at_e, at_k, size_k, size_d, inverse, stride, accumulate, Y):
        tasks = task_ptr.shape[0] - 1
        for task in prange(tasks):
            height, columns, rows = (dim, d, k) if dim > 0 else (J.shape[1], size_d, size_k)
            Q = np.empty((height, columns))
            for t in range(task_ptr[task], task_ptr[task + 1]):
                b, s = blocks[t], slots[t]
                e = eliminated[s]
                for i in range(height):
                    for c in range(columns):
                        total = 0.0
                        for m in range(c + 1):
                            total += J[b, i, at_e + m] * inverse[e, c * (c + 1) // 2 + m]
                        Q[i, c] = total
                start = s * stride
                for c in range(columns):
                    for r in range(rows):
                        total = Y[start + c * rows + r] if accumulate else 0.0
                        for i in range(height):
                            total += J[b, i, at_k + r] * Q[i, c]
                        Y[start + c * rows + r] = total

    return run


@functools.cache
def orthogonalize(dim, d):
    """Kernel for Q = J_e L_e⁻ᵀ of each residual block; rows without an eliminated block (``number`` < 0) get zeros."""

    @kernel_for(dim)
    def run(J, start, index, number, inverse, Q):
        n = J.shape[0]
        for task in prange((n + TASK - 1) // TASK):
            height, columns = (dim, d) if dim > 0 else Q.shape[1:]
            for b in range(task * TASK, min(n, (task + 1) * TASK)):
                e = number[index[b]]
                for i in range(height):
                    for c in range(columns):
                        total = 0.0
                        if e >= 0:
                            for m in range(c + 1):
                                total += J[b, i, start + m] * inverse[e, c * (c + 1) // 2 + m]
                        Q[b, i, c] = total

    return run


@functools.cache
def forward_blocks(d):
    """Kernel for c_e = L_e⁻¹ b_e; b_e are the numbers ``column[e] …`` of a vector over all columns of J."""

    @kernel
    def run(inverse, column, b, c):
        n = column.shape[0]
        for task in prange((n + TASK - 1) // TASK):
            for e in range(task * TASK, min(n, (task + 1) * TASK)):
                for r in range(d):
                    total = 0.0
                    for m in range(r + 1):
                        # A held component may have any b, and even an infinite one: it has no part in this.
                        factor = inverse[e, r * (r + 1) // 2 + m]
                        total += factor * b[column[e] + m] if factor != 0.0 else 0.0
                    c[e, r] = total

    return run


@functools.cache
def backward_blocks(d):
    """Kernel for x_e = L_e⁻ᵀ z_e, written to the numbers ``column[e] …`` of a vector over all columns of J."""

    @kernel
    def run(inverse, column, z, x):
        n = column.shape[0]
        for task in prange((n + TASK - 1) // TASK):
            for e in range(task * TASK, min(n, (task + 1) * TASK)):
                for r in range(d):
                    total = 0.0
                    for m in range(r, d):
                        total += inverse[e, m * (m + 1) // 2 + r] * z[e, m]
                    x[column[e] + r] = total

    return run


@functools.cache
def subtract_forward(d):
    """Kernel for z_e ← c_e − L_e⁻¹ w_e."""

    @kernel
    def run(inverse, w, c, z):
        n = z.shape[0]
        for task in prange((n + TASK - 1) // TASK):
            for e in range(task * TASK, min(n, (task + 1) * TASK)):
                for r in range(d):
                    total = c[e, r]
                    for m in range(r + 1):
                        total -= inverse[e, r * (r + 1) // 2 + m] * w[e, m]
                    z[e, r] = total

    return run


@functools.cache
def apply_inverses(d):
    """Kernel for z_e ← L_e⁻ᵀ z_e, or (V_e + D_e)⁻¹ z_e = L_e⁻ᵀ L_e⁻¹ z_e where ``both``; in place."""

    @kernel
    def run(inverse, z, both):
        n = z.shape[0]
        for task in prange((n + TASK - 1) // TASK):
            own = np.empty(d)
            for e in range(task * TASK, min(n, (task + 1) * TASK)):
                for r in range(d):
                    total = 0.0 if both else z[e, r]
                    if both:
                        for m in range(r + 1):
                            total += inverse[e, r * (r + 1) // 2 + m] * z[e, m]
                    own[r] = total
                for r in range(d):
                    total = 0.0
                    for m in range(r, d):
                        total += inverse[e, m * (m + 1) // 2 + r] * own[m]
                    z[e, r] = total

    return run


@functools.cache
def subtract_kept(k, d):
    """Kernel for ``z_e −= Y_ekᵀ x_k`` over the slots, sorted by e; no two tasks share an e."""

    @kernel_for(k)
    def run(task_ptr, eliminated, kept, first, Y, stride, size_k, x, z):
        tasks = task_ptr.shape[0] - 1
        for task in prange(tasks):
            rows, columns = (k, d) if k > 0 else (size_k, z.shape[1])
            for s in range(task_ptr[task], task_ptr[task + 1]):
                e, start, at = eliminated[s], s * stride, first[kept[s]]
                for c in range(columns):
                    total = 0.0
                    for r in range(rows):
                        total += Y[start + c * rows + r] * x[at + r]
                    z[e, c] -= total

    return run


@inlined
def _leave(sums, k, slot, at, partial, x):
    """Take the sum of a piece off x or, of a long list, keep it for later."""
    for r in range(k):
        if slot >= 0:
            partial[slot, r] = sums[r]
        else:
            x[at + r] -= sums[r]


@borrower
def _subtract_pieces(split_row, split_ptr, first, partial, x):
    """Take what was kept of long lists off x, in order."""
    for q in range(split_row.shape[0]):
        at = first[split_row[q]]
        for slot in range(split_ptr[q], split_ptr[q + 1]):
            for r in range(partial.shape[1]):
                x[at + r] -= partial[slot, r]


@functools.cache
def subtract_eliminated(k, d):
    """Kernel for ``x_k −= Y_ek z_e`` over the slots of each kept block; pieces of a long list leave partial sums.

    The lists are those of a :class:`~sparselm.gather.Gather` of the slots by kept block.
    """

    @kernel_for(k)
    def run(
        order, piece_row, piece_ptr, piece_slot, split_row, split_ptr, task_ptr, eliminated, first, Y, stride, z, partial, x
    ):  # fmt: skip
        tasks = task_ptr.shape[0] - 1
        lanes = num_lanes(tasks, 1)
        for lane in prange(lanes):
            rows, columns = (k, d) if k > 0 else (partial.shape[1], z.shape[1])
            sums = np.empty(rows)
            for piece in range(task_ptr[lane * tasks // lanes], task_ptr[(lane + 1) * tasks // lanes]):
                for r in range(rows):
                    sums[r] = 0.0
                for t in range(piece_ptr[piece], piece_ptr[piece + 1]):
                    s = order[t]
                    e, start = eliminated[s], s * stride
                    for c in range(columns):
                        factor = z[e, c]
                        for r in range(rows):
                            sums[r] += Y[start + c * rows + r] * factor
                _leave(sums, rows, piece_slot[piece], first[piece_row[piece]], partial, x)
        _subtract_pieces(split_row, split_ptr, first, partial, x)

    return run


@functools.cache
def subtract_kept_through(dim, k, d):
    """Kernel for ``z_e −= Q_bᵀ (J_k x_k)`` over slots of one residual block each, sorted by e; no two tasks share an e."""

    @kernel_for(dim)
    def run(task_ptr, eliminated, kept, blocks, first, J, at_k, size_k, Q, x, z):
        tasks, width = task_ptr.shape[0] - 1, J.shape[2]
        for task in prange(tasks):
            height, columns = (dim, d) if dim > 0 else Q.shape[1:]
            for s in range(task_ptr[task], task_ptr[task + 1]):
                e, b, at = eliminated[s], blocks[s], first[kept[s]]
                for i in range(height):
                    product = 0.0
                    if dim > 0:
                        product = dot_short(k, J, (np.int64(b) * dim + i) * width + at_k, x, at)
                    else:
                        for r in range(size_k):
                            product += J[b, i, at_k + r] * x[at + r]
                    for c in range(columns):
                        z[e, c] -= Q[b, i, c] * product

    return run


@functools.cache
def subtract_eliminated_through(dim, k, d):
    """Kernel for ``x_k −= Σ J_kᵀ (Q_b z_e)`` over slots of one residual block each; see :func:`subtract_eliminated`."""

    @kernel_for(dim)
    def run(
        order, piece_row, piece_ptr, piece_slot, split_row, split_ptr, task_ptr, eliminated, blocks, first, J, at_k, Q, z,
        partial, x,
    ):  # fmt: skip
        tasks, width = task_ptr.shape[0] - 1, J.shape[2]
        lanes = num_lanes(tasks, 1)
        for lane in prange(lanes):
            height, rows, columns = (dim, k, d) if dim > 0 else (Q.shape[1], partial.shape[1], Q.shape[2])
            sums, factors = np.empty(rows), np.empty(height)
            for piece in range(task_ptr[lane * tasks // lanes], task_ptr[(lane + 1) * tasks // lanes]):
                for r in range(rows):
                    sums[r] = 0.0
                for t in range(piece_ptr[piece], piece_ptr[piece + 1]):
                    s = order[t]
                    e, b = eliminated[s], blocks[s]
                    for i in range(height):
                        factors[i] = 0.0
                        for c in range(columns):
                            factors[i] += Q[b, i, c] * z[e, c]
                    if dim > 0:
                        add_rows(k, dim, sums, 0, J, np.int64(b) * (dim * width) + at_k, width, factors, 0)
                    else:
                        for i in range(height):
                            for r in range(rows):
                                sums[r] += J[b, i, at_k + r] * factors[i]
                _leave(sums, rows, piece_slot[piece], first[piece_row[piece]], partial, x)
        _subtract_pieces(split_row, split_ptr, first, partial, x)

    return run


# -- the complement ------------------------------------------------------------------------------------------------------


@borrower
def _begin_sum(S, target, H, source, area):
    """A block of S ← its block of H, or 0."""
    for r in range(area):
        S[target + r] = H[source + r] if source >= 0 else 0.0


@borrower
def _subtract_outer(S, target, a, b, factor):
    """A block of S −= factor a bᵀ."""
    for c in range(b.shape[0]):
        for r in range(a.shape[0]):
            S[target + c * a.shape[0] + r] -= factor * a[r] * b[c]


@functools.cache
def subtract_pairs(d, ka, kb, stride_a, stride_b):
    """Kernel for the blocks S_ab = H_ab − Σ Y_ea Y_ebᵀ, each summed over its list of pairs of slots.

    Piece p sums pairs ``begin[p]:end[p]`` of the lists ``left`` and ``right`` for the block at ``target[p]`` of ``S``; it
    starts from the block at ``source[p]`` of ``H``, or from zero where that is negative. The lists have MARGIN more items,
    which name any slot: blocks are fetched ahead. Tasks, runs of pieces, are taken by whichever thread is free: none depends
    on another. ``sizes`` are those that the factory was given, or would be.
    """
    size_a, size_b = d * ka, d * kb

    @kernel_for(d)
    def run(task_ptr, begin, end, left, right, target, source, H, Y_a, Y_b, sizes, S, lanes, counter):
        counter[0] = 0
        tasks = task_ptr.shape[0] - 1
        for _ in prange(lanes):
            task = fetch_add(counter, 0)
            while task < tasks:
                for p in range(task_ptr[task], task_ptr[task + 1]):
                    if d > 0:
                        sum_products(
                            d, ka, kb, 1, size_a, size_b, S, target[p], ka, H, source[p], ka, Y_a, 0, stride_a, ka, left,
                            Y_b, 0, stride_b, kb, right, begin[p], end[p],
                        )  # fmt: skip
                    else:
                        inner, rows, columns, next_a, next_b = sizes
                        _begin_sum(S, target[p], H, source[p], rows * columns)
                        for t in range(begin[p], end[p]):
                            a, b = np.int64(left[t]) * next_a, np.int64(right[t]) * next_b
                            for m in range(inner):
                                _subtract_outer(
                                    S, target[p], Y_a[a + m * rows : a + m * rows + rows],
                                    Y_b[b + m * columns : b + m * columns + columns], 1.0,
                                )  # fmt: skip
                task = fetch_add(counter, 0)

    return run


@functools.cache
def subtract_projected_pairs(dim, width, d, ka, kb):
    """Kernel for the same blocks without Y: S_ab = H_ab − Σ J_aᵀ (Q_i Q_jᵀ) J_b, with Q = J_e L_e⁻ᵀ of each residual block.

    ``left`` and ``right`` name residual blocks, of whose J the columns from ``at_a`` and ``at_b`` on are those of a and b;
    ``sizes`` are ka and kb.
    """

    @kernel_for(d)
    def run(task_ptr, begin, end, left, right, target, source, H, J, at_a, at_b, Q, sizes, S, lanes, counter):
        counter[0] = 0
        tasks = task_ptr.shape[0] - 1
        for _ in prange(lanes):
            task = fetch_add(counter, 0)
            while task < tasks:
                for p in range(task_ptr[task], task_ptr[task + 1]):
                    if d > 0:
                        sum_projected_products(
                            dim, width, d, ka, kb, S, target[p], H, source[p], J, at_a, at_b, Q, left, right, begin[p],
                            end[p],
                        )  # fmt: skip
                    else:
                        rows, columns = sizes
                        _begin_sum(S, target[p], H, source[p], rows * columns)
                        for t in range(begin[p], end[p]):
                            a, b = left[t], right[t]
                            for i in range(Q.shape[1]):
                                for j in range(Q.shape[1]):
                                    product = 0.0
                                    for m in range(Q.shape[2]):
                                        product += Q[a, i, m] * Q[b, j, m]
                                    _subtract_outer(
                                        S, target[p], J[a, i, at_a : at_a + rows], J[b, j, at_b : at_b + columns], product
                                    )
                task = fetch_add(counter, 0)

    return run


@kernel
def copy_blocks(source, H, target, area, S):
    """S_ab = H_ab for blocks from which nothing is taken; 0 where the source of one is < 0."""
    n = target.shape[0]
    for task in prange((n + TASK - 1) // TASK):
        for s in range(task * TASK, min(n, (task + 1) * TASK)):
            _begin_sum(S, target[s], H, source[s], area)


@serial_kernel
def add_partial_sums(split_ptr, partial, area, source, H, target, S):
    """S_ab = H_ab + Σ of what ``subtract_pairs`` has left of long sums, in their order; H_ab = 0 where its source is < 0."""
    for s in range(target.shape[0]):
        for r in range(area):
            total = H[source[s] + r] if source[s] >= 0 else 0.0
            for p in range(split_ptr[s], split_ptr[s + 1]):
                total += partial[p * area + r]
            S[target[s] + r] = total
