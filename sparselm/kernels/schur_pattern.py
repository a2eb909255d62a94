"""Which kept blocks an elimination connects, and which pairs of their couplings make each block of the Schur complement.

Couplings (e, k) are sorted by e, then k: those of block e are ``ptr[e]:ptr[e + 1]``, ``kept`` tells k and ``eliminated``
tells e. Seen from the other side, those of kept block a are ``by_order[by_ptr[a]:by_ptr[a + 1]]``. A pair is two couplings
of one e, the first of a kept block a, the second of a kept block b ≤ a.

Lanes of kept blocks, ``lane_ptr[lane]:lane_ptr[lane + 1]``, have a row of ``marks`` each, one number for every kept block.
"""

from __future__ import annotations

from numba import prange

from sparselm._jit import kernel, serial_kernel


@kernel
def count_neighbours(lane_ptr, by_ptr, by_order, eliminated, ptr, kept, marks, counts):
    """``counts[a]``: how many kept blocks b < a share an eliminated block with a."""
    for lane in prange(lane_ptr.shape[0] - 1):
        for a in range(lane_ptr[lane], lane_ptr[lane + 1]):
            count = 0
            for t in range(by_ptr[a], by_ptr[a + 1]):
                i = by_order[t]
                for j in range(ptr[eliminated[i]], i):
                    b = kept[j]
                    if marks[lane, b] != a + 1:
                        marks[lane, b] = a + 1
                        count += 1
            counts[a] = count


@kernel
def list_neighbours(lane_ptr, by_ptr, by_order, eliminated, ptr, kept, row_ptr, marks, high, low):
    """The pairs that :func:`count_neighbours` has counted, from ``row_ptr[a]`` on, in any order; ``marks`` are zero."""
    for lane in prange(lane_ptr.shape[0] - 1):
        for a in range(lane_ptr[lane], lane_ptr[lane + 1]):
            place = row_ptr[a]
            for t in range(by_ptr[a], by_ptr[a + 1]):
                i = by_order[t]
                for j in range(ptr[eliminated[i]], i):
                    b = kept[j]
                    if marks[lane, b] != a + 1:
                        marks[lane, b] = a + 1
                        high[place] = a
                        low[place] = b
                        place += 1


@kernel
def count_pairs(lane_ptr, by_ptr, by_order, eliminated, ptr, kept, row_ptr, low, number, own, marks, counts):
    """How many pairs each block of the complement sums.

    Block (a, b), b < a, stands at ``row_ptr[a] …`` of ``low`` and has the number ``number[…]``, the diagonal one ``own[a]``;
    pairs of blocks with a number below zero are left out.
    """
    for lane in prange(lane_ptr.shape[0] - 1):
        for a in range(lane_ptr[lane], lane_ptr[lane + 1]):
            for q in range(row_ptr[a], row_ptr[a + 1]):
                marks[lane, low[q]] = number[q]
            counts[own[a]] += by_ptr[a + 1] - by_ptr[a]
            for t in range(by_ptr[a], by_ptr[a + 1]):
                i = by_order[t]
                for j in range(ptr[eliminated[i]], i):
                    block = marks[lane, kept[j]]
                    if block >= 0:
                        counts[block] += 1


@kernel
def place_pairs(
    lane_ptr, by_ptr, by_order, eliminated, ptr, kept, slot, row_ptr, low, number, turned, own, marks, fill, left, right
):
    """The pairs of each block, by e, from ``fill[number]`` on, as slots of its row and of its column.

    The row is a, but b where ``turned``. ``fill`` is moved to the end of each block's pairs.
    """
    for lane in prange(lane_ptr.shape[0] - 1):
        for a in range(lane_ptr[lane], lane_ptr[lane + 1]):
            for q in range(row_ptr[a], row_ptr[a + 1]):
                marks[lane, low[q]] = number[q]
            for t in range(by_ptr[a], by_ptr[a + 1]):
                i = by_order[t]
                left[fill[own[a]]] = right[fill[own[a]]] = slot[i]
                fill[own[a]] += 1
                for j in range(ptr[eliminated[i]], i):
                    block = marks[lane, kept[j]]
                    if block >= 0:
                        place = fill[block]
                        fill[block] += 1
                        left[place] = slot[j] if turned[block] else slot[i]
                        right[place] = slot[i] if turned[block] else slot[j]


@serial_kernel
def first_kept(eliminated, kept, first, second):
    """The two lowest kept blocks that each eliminated one is coupled with; the number of kept blocks stands for none."""
    for t in range(eliminated.shape[0]):
        e, k = eliminated[t], kept[t]
        if k < first[e]:
            second[e] = first[e]
            first[e] = k
        elif first[e] < k < second[e]:
            second[e] = k
