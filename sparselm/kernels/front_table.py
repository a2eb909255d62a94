"""The table of fronts, and where scalar columns are, for the numeric factorisation."""

from __future__ import annotations

import numpy as np

from sparselm._jit import serial_kernel
from sparselm.kernels.fronts import padded

# Columns of the table of fronts; its last row holds the ends of what starts in the others.
(
    WIDTH,  # pivots
    HEIGHT,  # rows below them
    STRIDE,  # between columns of the panel
    PANEL,  # its start in the factor
    PIVOT,  # scalar position of the first pivot
    UPDATE,  # start of the update matrix in its arena
    COMMON,  # 1 where that is the common arena
    UPDATE_STRIDE,
    CHILD,  # first place in the list of children
    RUN,  # first run of rows shared with the parent's front
    ENTRY,  # first block of the matrix in the panel
    VECTOR,  # start of the front's vector in a solve
) = range(12)
FRONT_COLUMNS = 12


@serial_kernel
def tabulate_fronts(new, local, update, child_ptr, run_ptr, entry_ptr, nodes):
    """Fill the table of fronts ``nodes (s + 1, 12)`` from an arrangement and what is known about each supernode.

    Panels and vectors stand one after the other. The update matrix of a supernode is in the common arena where it is
    above all subtrees, or the root of one.
    """
    count = new.above.shape[0]
    panel = vector = np.int64(0)
    for s in range(count + 1):
        nodes[s, PANEL] = panel
        nodes[s, PIVOT] = new.offsets[new.head[s]]
        nodes[s, CHILD] = child_ptr[s]
        nodes[s, RUN] = run_ptr[s]
        nodes[s, ENTRY] = entry_ptr[s]
        nodes[s, VECTOR] = vector
        if s == count:
            break
        stride = padded(new.width[s] + new.height[s])
        nodes[s, WIDTH] = new.width[s]
        nodes[s, HEIGHT] = new.height[s]
        nodes[s, STRIDE] = stride
        nodes[s, UPDATE] = update[s]
        nodes[s, COMMON] = not local[s] or new.above[s] < 0 or not local[new.above[s]]
        nodes[s, UPDATE_STRIDE] = padded(new.height[s])
        panel += new.width[s] * stride
        vector += stride


@serial_kernel
def place_columns(new, sizes, nodes, column, pivot_row):
    """For each scalar position: the column of the matrix, and the row among the rows of all fronts, where it is a pivot."""
    n = sizes.shape[0]
    first = np.empty(n, np.int64)
    place = np.int64(0)
    for v in range(n):
        first[v] = place
        place += sizes[v]
    for k in range(n):
        s = new.owner[k]
        shift = nodes[s, VECTOR] - nodes[s, PIVOT]
        begin = new.offsets[k]
        for q in range(begin, new.offsets[k + 1]):
            column[q] = first[new.order[k]] + q - begin
            pivot_row[q] = q + shift
