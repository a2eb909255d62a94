"""The elimination tree of a block matrix and the heights of its factor's columns, without forming the factor.

The pattern is that of a symmetric matrix of blocks, given as the neighbours of each block (both triangles, no diagonal);
``order[k]`` is the block eliminated in step k, its *position*, and ``position`` the inverse. Trees are over positions:
``parent[k] > k`` is the first row below the diagonal in column k of the factor, −1 at a root. Nothing here is recursive,
and the pattern is never permuted.

References
----------
J. W. H. Liu, "The role of elimination trees in sparse factorization", SIAM J. Matrix Anal. Appl. 11(1), 1990: the tree,
and its postorders, which all give the same fill.
J. R. Gilbert, E. G. Ng, B. W. Peyton, "An efficient algorithm to compute row and column counts for sparse Cholesky
factorization", SIAM J. Matrix Anal. Appl. 15(4), 1994.
T. A. Davis, "Direct Methods for Sparse Linear Systems", SIAM, 2006, chapter 4.
"""

from __future__ import annotations

import numpy as np

from sparselm._jit import scalar, serial_kernel


@serial_kernel
def elimination_tree(indptr, indices, order, position, parent):
    """Write the elimination tree: ``parent[k]`` is the least i > k such that row i of the factor has an entry in column k.

    Parameters
    ----------
    indptr, indices : (n + 1,) int64, (nnz,) int32
        Neighbours of each block.
    order, position : (n,) int32
    parent : (n,) int32
        Output.

    Notes
    -----
    Row by row; each row makes itself the root of the trees that it meets. Shortcuts to the last root met, compressed as
    they are followed, keep this almost linear (Liu 1990, algorithm 4.2).
    """
    n = order.shape[0]
    shortcut = np.full(n, -1, np.int32)
    for k in range(n):
        parent[k] = -1
        block = order[k]
        for e in range(indptr[block], indptr[block + 1]):
            i = position[indices[e]]
            while i < k:
                above = shortcut[i]
                if above == k:
                    break
                shortcut[i] = k
                if above < 0:
                    parent[i] = k
                    break
                i = above


@scalar
def _number_subtrees(parent, weight, post):
    """As :func:`postorder`; returns the number of nodes of each subtree."""
    n = parent.shape[0]
    count = np.ones(n + 1, np.int32)  # the last one stands for a node above all roots
    last = np.full(n + 1, -1, np.int32)
    for v in range(n):
        above = parent[v] if parent[v] >= 0 else n
        count[above] += count[v]
        if last[above] < 0 or weight[v] >= weight[last[above]]:
            last[above] = v
    # Each node knows where its subtree ends; its children get what is before it, from the back.
    end = np.empty(n + 1, np.int32)
    free = np.empty(n + 1, np.int32)
    end[n] = n
    for v in range(n, -1, -1):
        if v < n:
            above = parent[v] if parent[v] >= 0 else n
            if last[above] == v:
                end[v] = end[above] - 1
            else:
                end[v] = free[above]
                free[above] -= count[v]
            post[end[v]] = v
        free[v] = end[v] - 1 - (count[last[v]] if last[v] >= 0 else 0)
    return count


@serial_kernel
def postorder(parent, weight, post):
    """Write a postorder of a forest, ``post[k]`` the node at place k: every subtree is contiguous, its root at the end.

    Of the children of a node the one with the largest weight comes last, so that, with the height of its front as its
    weight, it stands beside its parent, with which it is most likely to be amalgamated; the others, and the roots, come
    in ascending order. Equal weights change nothing: a postorder then stays as it is.

    Parameters
    ----------
    parent : (n,) int32
        ``parent[v] > v``, or −1.
    weight : (n,)
        Of the last of those that are equal, ascending order is kept.
    post : (n,) int32
        Output.
    """
    _number_subtrees(parent, weight, post)


@serial_kernel
def column_heights(indptr, indices, sizes, order, position, parent, heights):
    """Write the number of scalar rows below the diagonal block at each position of the factor.

    Any order will do: it need not be a postorder.

    Parameters
    ----------
    indptr, indices : (n + 1,) int64, (nnz,) int32
        Neighbours of each block.
    sizes : (n,) int32
        Scalar size of each block, by block and not by position.
    order, position, parent : (n,) int32
        ``parent`` as :func:`elimination_tree` finds it.
    heights : (n,) int64
        Output, by position.

    Notes
    -----
    Row i of the factor is a subtree of the elimination tree with i as its root (Davis 2006, section 4.2), and every
    column in it is higher by the size of i. Instead of walking it, one adds this size at each leaf, subtracts it at the
    nearest common ancestor of each leaf and the leaf before it and above the root, and sums over subtrees in the end.
    Going through the columns in postorder, j is a leaf of row i where no column before it in its own subtree is connected
    with i; common ancestors come from disjoint sets (Gilbert, Ng, Peyton 1994).
    """
    n = order.shape[0]
    post = np.empty(n, np.int32)
    count = _number_subtrees(parent, np.zeros(n, np.int32), post)
    root = np.arange(n).astype(np.int32)  # of the set that a finished column is in
    previous_leaf = np.full(n, -1, np.int32)
    seen_from = np.full(n, -1, np.int32)  # where the subtree of the last leaf of a row begins
    heights[:] = 0
    for place in range(n):
        j = post[place]
        begin = place - count[j] + 1
        block = order[j]
        if count[j] == 1:
            heights[j] += sizes[block]
        if parent[j] >= 0:
            heights[parent[j]] -= sizes[block]
        for e in range(indptr[block], indptr[block + 1]):
            row = indices[e]
            i = position[row]
            if i < j or begin <= seen_from[i]:
                continue
            heights[j] += sizes[row]
            if previous_leaf[i] >= 0:
                common = previous_leaf[i]
                while common != root[common]:
                    common = root[common]
                node = previous_leaf[i]
                while node != common:
                    above = root[node]
                    root[node] = common
                    node = above
                heights[common] -= sizes[row]
            previous_leaf[i] = j
            seen_from[i] = begin
        if parent[j] >= 0:
            root[j] = parent[j]
    for j in range(n):
        if parent[j] >= 0:
            heights[parent[j]] += heights[j]
    for j in range(n):
        heights[j] -= sizes[order[j]]


@serial_kernel
def factor_sizes(sizes, order, heights):
    """Non-zeros and floating-point operations of the factor: with k columns and h rows below them at each position,

        Σ k (k + 1) / 2 + k h    and    Σ k³/3 + k² h + k h².

    ``sizes (n,)`` goes by block, ``order (n,)`` and ``heights (n,)`` by position.
    """
    nonzeros = 0
    flops = 0.0
    for j in range(order.shape[0]):
        k = np.int64(sizes[order[j]])
        h = heights[j]
        nonzeros += k * (k + 1) // 2 + k * h
        w = np.float64(k)
        flops += w * (w * w / 3.0 + h * (w + h))
    return nonzeros, flops
