"""From an elimination tree to supernodes: which columns are eliminated together, and where everything goes.

A supernode is a run of blocks in elimination order that are eliminated as one front: its own columns, the *pivots*, and
the rows below them in which the factor has entries. It hands its update matrix to its parent, whose front has all these
rows: the supernode of the first of them or, where minimum degree absorbed it so, an earlier one. Blocks are told by their
position in elimination order; ``head[s] … head[s + 1]`` are those of supernode s.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sparselm._jit import borrower, scalar, serial_kernel
from sparselm.kernels.fronts import padded

# Nanoseconds for a front, a pivot, an operation, an entry of the panel, and an entry of the lower triangle of the update
# matrix: fitted to fronts of 1 to 120 pivots and 0 to 300 rows below on one core with AVX-512, where they are right to 7 %
# on average. What is decided by them is which supernodes are merged and what is one task, never a result.
COST_FRONT, COST_PIVOT, COST_FLOP, COST_PANEL, COST_UPDATE = 120.0, 15.0, 0.0144, 0.7, 0.6


@scalar
def front_cost(w, h):
    """Nanoseconds to assemble and factorise a front of w pivots and h more rows, and to add its update to its parent."""
    w, h = np.float64(w), np.float64(h)
    flops = w * w * w / 3.0 + w * w * h + w * h * h
    return COST_FRONT + COST_PIVOT * w + COST_FLOP * flops + COST_PANEL * w * (w + h) + COST_UPDATE * 0.5 * h * h


@serial_kernel
def merge_supernodes(order, sizes, parent, heights, node, above, width, height):
    """Decide which blocks form a supernode; returns how many there are.

    First, columns of the same structure below them are joined (j and its parent p where the rows of j are p and the rows
    of p); then a supernode joins its parent, some entries of zero being stored and computed with, where that is predicted
    to save time. Supernodes are numbered by their last positions, so that children come before parents.

    Parameters
    ----------
    order : (n,) int32
        Block at each position.
    sizes : (n,) int32
        Columns of each block.
    parent : (n,) int32
        Tree of positions, ``parent[k] > k`` or −1: rows of column k below ``parent[k]`` are rows of that column, too.
    heights : (n,) int64
        Rows below the block at each position in the factor.
    node : (n,) int32
        Output: supernode of each position.
    above : (n,) int32
        Output: parent of each supernode, −1 at roots.
    width, height : (n,) int64
        Output: pivots of each supernode, and rows below them.
    """
    n = parent.shape[0]
    count = _join_same_structure(order, sizes, parent, heights, np.full(n + 1, -1, np.int32), node, above, width, height)
    target = np.empty(count, np.int32)
    number = np.arange(count).astype(np.int32)
    largest = np.int64(0)
    for s in range(count):
        largest = max(largest, width[s], height[s])
    start = np.zeros(largest + 2, np.int32)
    _sort(width, number, start, target)
    listed = np.empty(count, np.int32)
    _sort(height, target, start, listed)
    first_child, sibling = np.empty(count, np.int32), np.empty(count, np.int32)
    _join_parents(above, width, height, listed, first_child, sibling, np.empty(count, np.float64), target)
    kept = 0
    for s in range(count):
        if target[s] == s:
            number[s] = kept
            width[kept] = width[s]
            height[kept] = height[s]
            kept += 1
    for s in range(count - 1, -1, -1):
        number[s] = number[target[s]]
    for s in range(count):
        if target[s] == s:
            above[number[s]] = number[above[s]] if above[s] >= 0 else -1
    for k in range(n):
        node[k] = number[node[k]]
    return kept


@borrower
def _join_same_structure(order, sizes, parent, heights, below, node, above, width, height):
    """Chains of columns of the same structure, as supernodes; ``below (n + 1,)`` is for the next column down each chain.

    Loops have no branches, whose outcome nobody could predict.
    """
    n = parent.shape[0]
    for j in range(n):
        p = parent[j]
        q = max(p, 0)
        same = p >= 0 and heights[j] == sizes[order[q]] + heights[q]
        below[p if same else n] = j
    count = 0
    for j in range(n):
        node[j] = count
        width[count] = 0
        height[count] = heights[j]
        count += below[parent[j]] != j or parent[j] < 0
    for j in range(n - 1, -1, -1):
        p = parent[j]
        node[j] = node[p] if p >= 0 and below[p] == j else node[j]
    for j in range(n):  # the last column of a chain is the last to write
        s = node[j]
        width[s] += sizes[order[j]]
        above[s] = node[parent[j]] if parent[j] >= 0 else -1
    return count


@borrower
def _join_parents(above, width, height, listed, first_child, sibling, cost, target):
    """Join supernodes with their parents where that saves time: ``target[s]`` becomes what s is part of.

    The highest and widest child comes first, whatever the order of elimination, so that another postorder of the same tree
    has the same supernodes. ``listed`` is all of them by height, then width. The width of what others join grows, and
    ``above`` stays the tree before.
    """
    count = target.shape[0]
    for s in range(count):
        target[s] = s
        cost[s] = front_cost(width[s], height[s])
        first_child[s] = -1
    for t in range(count):
        s = listed[t]
        p = above[s]
        if p >= 0:
            sibling[s] = first_child[p]
            first_child[p] = s
    for s in range(count):
        child = first_child[s]
        while child >= 0:
            together = front_cost(width[child] + width[s], height[s])
            if together < cost[child] + cost[s]:
                width[s] += width[child]
                cost[s] = together
                target[child] = s
            child = sibling[child]
    for s in range(count - 1, -1, -1):
        target[s] = target[target[s]]


@borrower
def _sort(key, listed, start, output):
    """Sort what is listed by ascending keys from 0 on; what has the same keeps its order.

    A counting sort: ``start``, 0 before and after, has two places more than the largest key.
    """
    for t in range(listed.shape[0]):
        start[key[listed[t]] + 1] += 1
    for k in range(start.shape[0] - 1):
        start[k + 1] += start[k]
    for t in range(listed.shape[0]):
        k = key[listed[t]]
        output[start[k]] = listed[t]
        start[k] += 1
    start[:] = 0


class Arrangement(NamedTuple):
    """Places of blocks and supernodes in a postorder of supernodes: children before parents, every subtree a run."""

    order: np.ndarray  #: (n,) int32, block at each position
    position: np.ndarray  #: (n,) int32, of each block
    owner: np.ndarray  #: (n,) int32, supernode of each position
    offsets: np.ndarray  #: (n + 1,) int64, first scalar position of each position
    head: np.ndarray  #: (s + 1,) int32, first position of each supernode
    above: np.ndarray  #: (s,) int32, parent of each supernode, −1 at roots
    width: np.ndarray  #: (s,) int64, pivots
    height: np.ndarray  #: (s,) int64, rows below them


@serial_kernel
def arrange_supernodes(order, sizes, node, above, width, height, new):
    """Number supernodes, as :func:`merge_supernodes` finds them, and positions so that every subtree is a run.

    Of the children of a supernode the highest comes last, so that it is assembled next to its parent; the others, and the
    positions within a supernode, keep their order. ``new``, an :class:`Arrangement`, is the output.
    """
    n, count = order.shape[0], above.shape[0]
    # The last one stands for a node above all roots.
    members = np.zeros(count + 1, np.int32)
    for k in range(n):
        members[node[k]] += 1
    subtree_blocks = members.copy()
    subtree_nodes = np.ones(count + 1, np.int32)
    highest = np.full(count + 1, -1, np.int32)
    for s in range(count):
        p = above[s] if above[s] >= 0 else count
        subtree_blocks[p] += subtree_blocks[s]
        subtree_nodes[p] += subtree_nodes[s]
        if highest[p] < 0 or height[s] >= height[highest[p]]:
            highest[p] = s
    # Each supernode knows where its subtree ends; its children get what is before it, from the back.
    number = np.empty(count + 1, np.int32)
    first = np.empty(count + 1, np.int32)
    free_number = np.empty(count + 1, np.int32)
    free_block = np.empty(count + 1, np.int32)
    number[count], first[count] = count, n
    for s in range(count, -1, -1):
        if s < count:
            p = above[s] if above[s] >= 0 else count
            if highest[p] == s:
                number[s], end = number[p] - 1, first[p]
            else:
                number[s], end = free_number[p], free_block[p]
                free_number[p] -= subtree_nodes[s]
                free_block[p] -= subtree_blocks[s]
            first[s] = end - members[s]
            new.head[number[s]] = first[s]
            new.above[number[s]] = number[p] if p < count else -1
            new.width[number[s]] = width[s]
            new.height[number[s]] = height[s]
        c = highest[s]
        free_number[s] = number[s] - 1 - (subtree_nodes[c] if c >= 0 else 0)
        free_block[s] = first[s] - (subtree_blocks[c] if c >= 0 else 0)
    new.head[count] = n
    for k in range(n):
        s, v = node[k], order[k]
        i = first[s]
        first[s] += 1
        new.order[i] = v
        new.position[v] = i
        new.owner[i] = number[s]
    new.offsets[0] = 0
    for k in range(n):
        new.offsets[k + 1] = new.offsets[k] + sizes[new.order[k]]


@serial_kernel
def list_children(above, child_ptr, child):
    """The children of each supernode, ascending: ``child[child_ptr[s]:child_ptr[s + 1]]``."""
    count = above.shape[0]
    child_ptr[:] = 0
    for s in range(count):
        if above[s] >= 0:
            child_ptr[above[s] + 1] += 1
    for s in range(count):
        child_ptr[s + 1] += child_ptr[s]
    filled = child_ptr[:-1].copy()
    for s in range(count):
        if above[s] >= 0:
            child[filled[above[s]]] = s
            filled[above[s]] += 1


class Edges(NamedTuple):
    """The lower triangle of the matrix by positions, row by row; behind its edges (e of them) come the diagonal blocks."""

    row: np.ndarray  #: (e + n,) int32
    column: np.ndarray  #: (e + n,) int32, no more than the row
    number: np.ndarray  #: (e + n,) int32, of the edge, or e + the block


@serial_kernel
def sort_edges(first, second, new, edges):
    """Sort the edges ``first[e]``–``second[e]`` of the graph by the later one of their positions."""
    n, count = new.order.shape[0], first.shape[0]
    place = np.zeros(n + 1, np.int32)
    for e in range(count):
        place[max(new.position[first[e]], new.position[second[e]]) + 1] += 1
    for k in range(n):
        place[k + 1] += place[k]
    for e in range(count):
        i, j = new.position[first[e]], new.position[second[e]]
        k = max(i, j)
        t = place[k]
        edges.row[t] = k
        edges.column[t] = min(i, j)
        edges.number[t] = e
        place[k] = t + 1
    for k in range(n):
        edges.row[count + k] = k
        edges.column[count + k] = k
        edges.number[count + k] = count + new.order[k]


@serial_kernel
def list_rows(edges, smallest, new, row_ptr, rows):
    """The positions below the pivots of each supernode, ascending: ``rows[row_ptr[s]:row_ptr[s + 1]]``.

    ``smallest`` is the least size of a block, so that a supernode has no more than height / smallest of them; ``rows`` has
    to be as long as all these together. Returns how many there are.

    The row of position k of the factor is the part of the tree of supernodes that one reaches upwards from the blocks
    connected to it before k (Davis, "Direct Methods for Sparse Linear Systems", SIAM, 2006, section 4.2).
    """
    n, count = new.order.shape[0], new.above.shape[0]
    filled = np.empty(count, np.int64)
    place = np.int64(0)
    for s in range(count):
        row_ptr[s] = filled[s] = place
        place += new.height[s] // smallest
    seen = np.full(count, -1, np.int32)
    for t in range(edges.row.shape[0] - n):
        k = edges.row[t]
        own = new.owner[k]
        s = new.owner[edges.column[t]]
        while s != own and seen[s] != k:
            seen[s] = k
            rows[filled[s]] = k
            filled[s] += 1
            s = new.above[s]
    place = np.int64(0)  # blocks larger than the smallest leave gaps
    for s in range(count):
        begin = row_ptr[s]
        row_ptr[s] = place
        for q in range(begin, filled[s]):
            rows[place] = rows[q]
            place += 1
    row_ptr[count] = place
    return place


@serial_kernel
def relate_rows(new, row_ptr, rows, child_ptr, child, run_ptr, runs):
    """Where the rows of a supernode stand in its parent's front, as runs of scalar rows.

    ``runs[r]``: the first row in the update matrix of the supernode, the row in its parent's front where it stands, and
    for how many rows that goes on; ``run_ptr[s]`` is the first of supernode s. Returns the number of runs, at most that of
    all rows of blocks.
    """
    there = np.empty(rows.shape[0], np.int32)
    _find_in_parents(new, row_ptr, rows, child_ptr, child, np.empty(new.order.shape[0], np.int32), there)
    total = 0
    for s in range(new.above.shape[0]):
        run_ptr[s] = total
        own = begin = target = 0  # rows: this one, and the first of the run in both
        follows = -1  # the row in the parent's front that would go on with the run
        for q in range(row_ptr[s], row_ptr[s + 1]):
            goes_on = there[q] == follows  # at random: no branch
            begin = begin if goes_on else own
            target = target if goes_on else there[q]
            total += not goes_on
            size = new.offsets[rows[q] + 1] - new.offsets[rows[q]]
            own += size
            follows = there[q] + size
            runs[total - 1, 0] = begin
            runs[total - 1, 1] = target
            runs[total - 1, 2] = own - begin
    run_ptr[new.above.shape[0]] = total
    return total


@borrower
def _find_in_parents(new, row_ptr, rows, child_ptr, child, where, there):
    """For the rows of all supernodes: the scalar row of their parent's front."""
    for s in range(new.above.shape[0]):
        if child_ptr[s] == child_ptr[s + 1]:
            continue
        number_front(new, row_ptr, rows, s, where)
        for t in range(child_ptr[s], child_ptr[s + 1]):
            c = child[t]
            for q in range(row_ptr[c], row_ptr[c + 1]):
                there[q] = where[rows[q]]


@borrower
def number_front(new, row_ptr, rows, s, where):
    """``where`` becomes the scalar row of each position of a front."""
    begin = new.offsets[new.head[s]]
    for k in range(new.head[s], new.head[s + 1]):
        where[k] = new.offsets[k] - begin
    row = new.width[s]
    for q in range(row_ptr[s], row_ptr[s + 1]):
        k = rows[q]
        where[k] = row
        row += new.offsets[k + 1] - new.offsets[k]


@serial_kernel
def place_entries(edges, new, row_ptr, rows, entry_ptr, entries, edge_source, edge_turned):
    """Where the blocks of the matrix are kept, and where they go in the panels; returns the length of the store.

    The store holds, for each supernode and each of its pivots, the diagonal block and the blocks below it, each dense and
    by columns, one after the other. ``entries[e]`` is: the start of a block there; its start in the panel of the supernode;
    rows and columns; scalar positions of the first row and column. By number of the edge of the graph ``edge_source`` is the
    start in the store, and ``edge_turned`` tells whether the block of the higher number is the column. Numbers num_edges + v
    stand for the diagonal block of block v.
    """
    listed = np.empty(edges.row.shape[0], np.int32)
    start = np.zeros(new.order.shape[0] + 1, np.int32)
    _sort_by_columns(edges, start, listed)
    where = np.empty(new.order.shape[0], np.int32)
    source = np.int64(0)
    for s in range(new.above.shape[0]):
        number_front(new, row_ptr, rows, s, where)
        stride = padded(new.width[s] + new.height[s])
        entry_ptr[s] = start[new.head[s]]
        for e in range(start[new.head[s]], start[new.head[s + 1]]):
            t = listed[e]
            i, k = edges.row[t], edges.column[t]
            row, column = new.offsets[i], new.offsets[k]
            height, width = new.offsets[i + 1] - row, new.offsets[k + 1] - column
            entries[e, 0] = source
            entries[e, 1] = where[k] * stride + where[i]
            entries[e, 2] = height
            entries[e, 3] = width
            entries[e, 4] = row
            entries[e, 5] = column
            edge_source[edges.number[t]] = source
            edge_turned[edges.number[t]] = new.order[i] < new.order[k]
            source += height * width
    entry_ptr[new.above.shape[0]] = edges.row.shape[0]
    return source


@borrower
def _sort_by_columns(edges, start, listed):
    """Places in ``edges`` column by column, from ``start[k]`` on, the diagonal first, then by rows."""
    n = start.shape[0] - 1
    for t in range(listed.shape[0]):
        start[edges.column[t]] += 1
    end = np.int32(0)
    for k in range(n):
        end += start[k]
        start[k] = end
    start[n] = end
    for t in range(listed.shape[0] - 1, -1, -1):  # from the back, where the diagonal is
        k = edges.column[t]
        start[k] -= 1
        listed[start[k]] = t
