"""From an elimination tree to supernodes: which columns are eliminated together, and where everything goes.

A supernode is a run of blocks in elimination order that are eliminated as one front: its own columns, the *pivots*, and
the rows below them in which the factor has entries. It hands its update matrix to its parent, the supernode of its first
row. Blocks are told by their position in elimination order; ``head[s] … head[s + 1]`` are those of supernode s.
"""

from __future__ import annotations

import numpy as np

from sparselm._jit import scalar, serial_kernel

# Nanoseconds for a front, a pivot, an operation, an entry of the panel, and an entry of the lower triangle of the update
# matrix: fitted to fronts of 1 to 120 pivots and 0 to 300 rows below on one core with AVX-512, where they are right to 7 %
# on average. What is decided by them is which supernodes are merged and what is one task, never a result.
FRONT, PIVOT, FLOP, PANEL, UPDATE = 120.0, 15.0, 0.0144, 0.7, 0.6


@scalar
def front_cost(w, h):
    """Nanoseconds to assemble and factorise a front of w pivots and h more rows, and to add its update to its parent."""
    w, h = np.float64(w), np.float64(h)
    flops = w * w * w / 3.0 + w * w * h + w * h * h
    return FRONT + PIVOT * w + FLOP * flops + PANEL * w * (w + h) + UPDATE * 0.5 * h * h


@serial_kernel
def merge_supernodes(parent, sizes, heights, group):
    """Decide which positions form a supernode: ``group[k]`` is the last position of the supernode of position k.

    First, columns of the same structure below them are joined (j and its parent j + 1 where the rows of j are j + 1 and
    the rows of j + 1); then a supernode joins its parent, some entries of zero being stored and computed with, where
    that is predicted to save time.

    Parameters
    ----------
    parent : (n,) int32
        Elimination tree by position, postordered.
    sizes : (n,) int32
        Columns of the block at each position.
    heights : (n,) int64
        Rows below each block in the factor.
    group : (n,) int32
    """
    n = parent.shape[0]
    width = np.zeros(n, np.int64)  # by last position of a supernode
    height = heights.copy()
    first_child = np.full(n, -1, np.int32)
    sibling = np.full(n, -1, np.int32)
    start = 0
    for j in range(n):
        width[j] = (width[j - 1] if start < j else 0) + sizes[j]
        joined = j + 1 < n and parent[j] == j + 1 and heights[j] == sizes[j + 1] + heights[j + 1]
        if joined:
            continue
        for k in range(start, j + 1):
            group[k] = j
        start = j + 1
    for s in range(n):  # children of supernodes, the last one first
        if group[s] == s and parent[s] >= 0:
            p = group[parent[s]]
            sibling[s] = first_child[p]
            first_child[p] = s
    pending = np.empty(n, np.int32)
    for s in range(n):
        if group[s] != s:
            continue
        # A child that joins leaves its own children to s; they may join too.
        count = 0
        child = first_child[s]
        while child >= 0:
            pending[count] = child
            count += 1
            child = sibling[child]
        kept = -1
        at = 0
        while at < count:
            child = pending[at]
            at += 1
            together = front_cost(width[child] + width[s], height[s])
            if together < front_cost(width[child], height[child]) + front_cost(width[s], height[s]):
                width[s] += width[child]
                group[child] = s
                child = first_child[child]
                while child >= 0:
                    pending[count] = child
                    count += 1
                    child = sibling[child]
            else:
                sibling[child] = kept
                kept = child
        first_child[s] = kept
    for k in range(n - 1, -1, -1):
        group[k] = group[group[k]]


@serial_kernel
def number_supernodes(parent, group, rank, head, above):
    """Number supernodes so that children come before parents and a subtree is a run; return how many there are.

    ``rank[k]`` becomes the new position of position k, ``head`` the first position of each supernode, and ``above`` its
    parent (−1 for a root); the positions within a supernode keep their order.
    """
    n = parent.shape[0]
    first_child = np.full(n, -1, np.int32)
    sibling = np.full(n, -1, np.int32)
    number = np.full(n, -1, np.int32)
    members = np.zeros(n, np.int32)
    for k in range(n):
        members[group[k]] += 1
    for s in range(n - 1, -1, -1):
        if group[s] == s and parent[s] >= 0:
            p = group[parent[s]]
            sibling[s] = first_child[p]
            first_child[p] = s
    count = 0
    path = np.empty(n, np.int32)
    for root in range(n):
        if group[root] != root or parent[root] >= 0:
            continue
        depth = 0
        path[0] = root
        while depth >= 0:
            s = path[depth]
            child = first_child[s]
            if child >= 0:
                first_child[s] = sibling[child]
                depth += 1
                path[depth] = child
            else:
                number[s] = count
                head[count + 1] = members[s]
                count += 1
                depth -= 1
    head[0] = 0
    for s in range(count):
        head[s + 1] += head[s]
    filled = head[: count + 1].copy()
    for k in range(n):
        s = number[group[k]]
        rank[k] = filled[s]
        filled[s] += 1
        if group[k] == k:
            above[s] = number[group[parent[k]]] if parent[k] >= 0 else -1
    return count


@serial_kernel
def list_rows(indptr, indices, order, position, owner, above, row_ptr, rows):
    """The positions below the pivots of each supernode, ascending: ``rows[row_ptr[s]:row_ptr[s + 1]]``.

    With ``rows`` of length 0 they are counted, and ``row_ptr`` is filled; otherwise it is read.

    The row of position k of the factor is the part of the tree of supernodes that one reaches upwards from the blocks
    connected to it before k (Davis, "Direct Methods for Sparse Linear Systems", SIAM, 2006, section 4.2).
    """
    count = row_ptr.shape[0] - 1
    fill = rows.shape[0] > 0
    seen = np.full(count, -1, np.int32)
    filled = row_ptr[:-1].copy()
    if not fill:
        filled[:] = 0
    for k in range(order.shape[0]):
        own = owner[k]
        v = order[k]
        for e in range(indptr[v], indptr[v + 1]):
            i = position[indices[e]]
            if i >= k:
                continue
            s = owner[i]
            while s != own and seen[s] != k:
                seen[s] = k
                if fill:
                    rows[filled[s]] = k
                filled[s] += 1
                s = above[s]
    if not fill:
        row_ptr[0] = 0
        for s in range(count):
            row_ptr[s + 1] = row_ptr[s] + filled[s]


@serial_kernel
def relate_rows(head, offsets, above, row_ptr, rows, run_ptr, runs):
    """Where the rows of a supernode stand in its parent's front, as runs of scalar rows.

    ``runs[r]``: the first row in the update matrix of the supernode, the row in its parent's front where it stands, and
    for how many rows that goes on; ``run_ptr[s]`` is the first of supernode s. ``offsets (n + 1,)`` is the scalar position
    of each block. Returns the number of runs, at most that of all rows of blocks.
    """
    count = above.shape[0]
    total = 0
    for s in range(count):
        run_ptr[s] = total
        p = above[s]
        if p < 0:
            continue
        own = 0  # scalar row in the update matrix of s
        pivots = offsets[head[p + 1]] - offsets[head[p]]
        below = row_ptr[p]
        there = pivots  # scalar row in the front of p at which rows[below] stands
        begin = total
        for q in range(row_ptr[s], row_ptr[s + 1]):
            k = rows[q]
            size = offsets[k + 1] - offsets[k]
            if k < head[p + 1]:
                target = offsets[k] - offsets[head[p]]
            else:
                while rows[below] != k:
                    there += offsets[rows[below] + 1] - offsets[rows[below]]
                    below += 1
                target = there
            if total > begin and runs[total - 1, 1] + runs[total - 1, 2] == target:
                runs[total - 1, 2] += size
            else:
                runs[total, 0] = own
                runs[total, 1] = target
                runs[total, 2] = size
                total += 1
            own += size
    run_ptr[count] = total
    return total


@serial_kernel
def place_entries(
    indptr, indices, edge, order, position, sizes, offsets, head, row_ptr, rows, stride,
    entry_ptr, entries, edge_source, edge_turned,
):  # fmt: skip
    """Where the blocks of the matrix are kept, and where they go in the panels; returns the length of the store.

    The store holds, for each supernode and each of its pivots, the diagonal block and the blocks below it, each dense and
    by columns, one after the other. ``entries[e]`` is: the start of a block there; its start in the panel of the supernode;
    rows and columns; scalar positions of the first row and column. By number of the edge of the graph (``edge``, by place
    in ``indices``), ``edge_source`` is the start in the store, and ``edge_turned`` tells whether the block of the higher
    number is the column. Numbers num_edges + v stand for the diagonal block of block v.
    """
    n = order.shape[0]
    where = np.empty(n, np.int64)
    source = 0
    e = 0
    num_edges = edge_source.shape[0] - n
    for s in range(head.shape[0] - 1):
        entry_ptr[s] = e
        row = 0
        for k in range(head[s], head[s + 1]):
            where[k] = row
            row += sizes[order[k]]
        for q in range(row_ptr[s], row_ptr[s + 1]):
            where[rows[q]] = row
            row += sizes[order[rows[q]]]
        for k in range(head[s], head[s + 1]):
            v = order[k]
            columns = sizes[v]
            base = where[k] * stride[s]
            e = _place(entries, e, source, base + where[k], columns, columns, offsets[k], offsets[k])
            edge_source[num_edges + v] = source
            edge_turned[num_edges + v] = False
            source += columns * columns
            for q in range(indptr[v], indptr[v + 1]):
                u = indices[q]
                i = position[u]
                if i > k:
                    e = _place(entries, e, source, base + where[i], sizes[u], columns, offsets[i], offsets[k])
                    edge_source[edge[q]] = source
                    edge_turned[edge[q]] = u < v
                    source += columns * sizes[u]
    entry_ptr[head.shape[0] - 1] = e
    return source


@scalar
def _place(entries, e, source, target, rows, columns, row_position, column_position):
    entries[e, 0] = source
    entries[e, 1] = target
    entries[e, 2] = rows
    entries[e, 3] = columns
    entries[e, 4] = row_position
    entries[e, 5] = column_position
    return e + 1
