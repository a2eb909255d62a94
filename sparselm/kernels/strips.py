"""A factor once more, for solves: packed by strips, without zeros and padding.

Fronts suit a factorisation: merged supernodes store zeros, columns are padded to whole vectors. A solve reads each number
once, so of a factor of small fronts it mostly reads zeros, and spends its time in moving short vectors between fronts. A
*strip* is a few neighbouring columns with the same rows below them in the exact factor. It has, one after the other, the
entries of L D⁻¹, D the diagonal of L, so that its triangle has a unit diagonal:

    the triangle below the diagonal, by columns; then, for each *run* of at most UNIT rows that follow one another, the
    columns of the strip in these rows.

Solves go over all strips forward, y = (L D⁻¹)⁻¹ b, and back, and act on one vector by position. Strips may come in any
order that has those first whose rows a strip's columns are among. It is not that of their columns: what a strip writes
would then often be what the next one waits for, and every strip would have another shape than the one before it, so that
the processor could not foresee how its loops go.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sparselm._jit import borrower, serial_kernel
from sparselm._llvm import UNIT
from sparselm.kernels.front_table import PANEL, STRIDE
from sparselm.kernels.supernodes import number_front
from sparselm.kernels.tiles import backward_strip, forward_strip, pack_strip, wide_backward_strip, wide_forward_strip


class Strips(NamedTuple):
    """Where strips stand: in the packed factor, in the vector of a solve, and in the panels."""

    first: np.ndarray  #: (s + 1,) int64, where the strips of each supernode begin in …
    number: np.ndarray  #: (t,) int32, … the numbers of strips
    table: np.ndarray  #: (t + 1, 5) int64, see the columns below; of the last row, VALUES and RUN are where all end
    runs: np.ndarray  #: (r, 2) int32, first position and rows
    panel_rows: np.ndarray  #: (r,) int32, rows below the diagonal entry of the strip's first column in the panel


# Columns of the table of strips: first position, columns, start of its values, its first run, and the index of its first
# diagonal entry in the panels.
POSITION, COLUMNS, VALUES, RUN, SOURCE = range(5)
STRIP_COLUMNS = 5

# Zeros that a strip may take in to have more columns. The costs of a strip are those of some 50 numbers; a tenth is gained.
MOST_ZEROS = 48


@serial_kernel
def join_columns(new, parent, heights, groups):
    """Find groups of positions with the same rows below them, each within one supernode; returns how many there are.

    ``new`` is the arrangement of supernodes, ``parent`` and ``heights (n,)`` the tree and the scalar rows below each
    position in the exact factor. ``groups`` is an arrangement of the same order; ``owner``, ``head``, ``above``, ``width``
    and ``height`` are the output.
    """
    n = parent.shape[0]
    count = 0
    zeros = np.int64(0)  # in the present group
    for k in range(n):
        size = new.offsets[k + 1] - new.offsets[k]
        joined = False
        if k > 0 and new.owner[k - 1] == new.owner[k] and parent[k - 1] == k:
            more = groups.width[count - 1] * (size + heights[k] - heights[k - 1])
            joined = more == 0 or (zeros + more <= MOST_ZEROS and groups.width[count - 1] + size <= UNIT)
            zeros += more
        if not joined:
            groups.head[count] = k
            groups.width[count] = 0
            zeros = np.int64(0)
            count += 1
        groups.width[count - 1] += size
        groups.height[count - 1] = heights[k]
        groups.owner[k] = count - 1
    groups.head[count] = n
    for g in range(count):
        p = parent[groups.head[g + 1] - 1]
        groups.above[g] = groups.owner[p] if p >= 0 else -1
    return count


@serial_kernel
def cut_strips(new, row_ptr, rows, nodes, groups, group_ptr, group_rows, first, table, runs, panel_rows):
    """Cut groups of columns into strips of UNIT columns at most; returns how many strips and runs there are.

    ``row_ptr`` and ``rows`` are of the supernodes, ``nodes`` their table of fronts; ``group_ptr`` and ``group_rows`` are of
    the groups. ``first``, ``table``, ``runs`` and ``panel_rows`` become those of ``Strips``, strips by position; with tables
    of no strip only ``first`` is filled.
    """
    fill = runs.shape[0] > 0 or table.shape[0] > 1
    place = np.empty(new.order.shape[0], np.int32)  # row in the panel at which a block stands
    offsets = new.offsets
    t = 0
    r = 0
    values = 0
    s = -1
    for g in range(groups.above.shape[0]):
        begin = groups.head[g]
        while s < new.owner[begin]:
            s += 1
            first[s] = t
            number_front(new, row_ptr, rows, s, place)
        pivots = groups.width[g]
        parts = (pivots + UNIT - 1) // UNIT
        for part in range(parts):
            column, last = pivots * part // parts, pivots * (part + 1) // parts
            columns = last - column
            p = offsets[begin] + column
            row = place[begin] + column
            if fill:
                table[t, POSITION] = p
                table[t, COLUMNS] = columns
                table[t, VALUES] = values
                table[t, RUN] = r
                table[t, SOURCE] = nodes[s, PANEL] + row * (nodes[s, STRIDE] + 1)
            t += 1
            values += columns * (columns - 1) // 2
            # Rows below, as stretches of positions: the rest of the group, then its rows.
            start, length, there = p + columns, pivots - last, columns
            for q in range(group_ptr[g], group_ptr[g + 1] + 1):
                more = q < group_ptr[g + 1]
                if more:
                    k = group_rows[q]
                    size = offsets[k + 1] - offsets[k]
                    if length > 0 and offsets[k] == start + length:
                        length += size
                        continue
                while length > 0:
                    taken = min(length, UNIT)
                    if fill:
                        runs[r, 0] = start
                        runs[r, 1] = taken
                        panel_rows[r] = there
                    r += 1
                    values += taken * columns
                    start += taken
                    there += taken
                    length -= taken
                if more:
                    start, length, there = offsets[k], size, place[k] - row
    while s < first.shape[0] - 1:
        s += 1
        first[s] = t
    if fill:
        table[t, VALUES] = values
        table[t, RUN] = r
    return t, r


@serial_kernel
def strip_depths(table, runs, num_positions, depth):
    """How many strips there are between a strip and the root of its tree, itself included; of strips by position.

    The parent of a strip holds the first of its rows.
    """
    strip_of = np.empty(num_positions, np.int32)
    for t in range(depth.shape[0] - 1, -1, -1):
        p = table[t, POSITION]
        strip_of[p : p + table[t, COLUMNS]] = t
        depth[t] = 1
        if table[t, RUN] < table[t + 1, RUN]:
            depth[t] += depth[strip_of[runs[table[t, RUN], 0]]]


@borrower
def pack_strips(z, s, factor, ld, inverse, packed):
    """Copy the strips of a supernode out of its panel, whose columns are ``ld`` apart."""
    for k in range(z.first[s], z.first[s + 1]):
        t = z.number[k]
        pack_strip(
            z.table[t, COLUMNS], factor, z.table[t, SOURCE], ld, inverse, z.table[t, POSITION], packed, z.table[t, VALUES],
            z.runs, z.table[t, RUN], z.table[t + 1, RUN], z.panel_rows,
        )  # fmt: skip


@borrower
def _scale(y, inverse, n, twice):
    """y ← D⁻¹ y, or D⁻² y with the bits of both one after the other."""
    if twice:
        for i in range(n):
            y[i] = (y[i] * inverse[i]) * inverse[i]
    else:
        for i in range(n):
            y[i] *= inverse[i]


@serial_kernel
def solve_strips(table, runs, packed, inverse, column, b, x, y, forward, backward):
    """x ← (L Lᵀ)⁻¹ b for one right-hand side, both ``(n,)`` by column of the matrix; or one of the two halves.

    Without the way back, x becomes L⁻¹ b by position; without the way forward, b is by position. ``y (n + UNIT,)`` is the
    vector that strips act on.
    """
    n = column.shape[0]
    count = table.shape[0] - 1
    if forward:
        for i in range(n):
            y[i] = b[column[i]]
        for t in range(count):
            forward_strip(
                table[t, COLUMNS], packed, table[t, VALUES], y, table[t, POSITION], runs, table[t, RUN], table[t + 1, RUN]
            )  # fmt: skip
    else:
        y[:n] = b
    _scale(y, inverse, n, forward and backward)
    if not backward:
        x[:] = y[:n]
        return
    for t in range(count - 1, -1, -1):
        backward_strip(
            table[t, COLUMNS], packed, table[t, VALUES], y, table[t, POSITION], runs, table[t, RUN], table[t + 1, RUN]
        )  # fmt: skip
    for i in range(n):
        x[column[i]] = y[i]


@serial_kernel
def solve_strips_wide(table, runs, packed, inverse, column, b, x, y, forward, backward):
    """The same for UNIT right-hand sides at most: ``b`` and ``x`` are ``(q, n)``, ``y (n, UNIT)``."""
    n = column.shape[0]
    sides = b.shape[0]
    count = table.shape[0] - 1
    for i in range(n):
        for c in range(UNIT):
            y[i, c] = b[c, column[i] if forward else i] if c < sides else 0.0
    if forward:
        for t in range(count):
            wide_forward_strip(
                table[t, COLUMNS], packed, table[t, VALUES], y, table[t, POSITION], runs, table[t, RUN], table[t + 1, RUN]
            )  # fmt: skip
        for i in range(n):  # here and again below, so that the halves have the same bits
            for c in range(UNIT):
                y[i, c] *= inverse[i]
    if backward:
        for i in range(n):
            for c in range(UNIT):
                y[i, c] *= inverse[i]
        for t in range(count - 1, -1, -1):
            wide_backward_strip(
                table[t, COLUMNS], packed, table[t, VALUES], y, table[t, POSITION], runs, table[t, RUN], table[t + 1, RUN]
            )  # fmt: skip
    for i in range(n):
        for c in range(sides):
            x[c, column[i] if backward else i] = y[i, c]
