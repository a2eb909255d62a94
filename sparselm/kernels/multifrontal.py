"""The multifrontal Cholesky factorisation: fronts assembled and eliminated along the tree of supernodes.

The front of supernode s takes in the entries of the matrix in its pivots' columns, and the update matrices of its
children; its pivots are eliminated; what is left is its own update matrix.

References
----------
I. S. Duff, J. K. Reid, "The multifrontal solution of indefinite sparse symmetric linear equations", ACM TOMS 9(3), 1983;
J. W. H. Liu, "The multifrontal method for sparse matrix solution: theory and practice", SIAM Review 34(1), 1992.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from sparselm._jit import borrower, kernel, serial_kernel
from sparselm._llvm import UNIT
from sparselm.kernels.front_table import (
    CHILD,
    COMMON,
    ENTRY,
    HEIGHT,
    PANEL,
    PIVOT,
    RUN,
    STRIDE,
    UPDATE,
    UPDATE_STRIDE,
    WIDTH,
)
from sparselm.kernels.fronts import BLOCK, factor_block, factor_front, padded, solve_block, subtract_products
from sparselm.kernels.schedule import (
    ASSEMBLE,
    COLUMN,
    COUNTER,
    FACTOR,
    FIRST,
    FRONT,
    KIND,
    NODE,
    ROW,
    SIGNAL,
    SOLVE,
    SUBTREES,
    TARGET,
    chunk_of,
)
from sparselm.kernels.strips import pack_strips
from sparselm.kernels.tasks import fetch_add, wait_for
from sparselm.kernels.tiles import add_block, clear

# Columns of the table of runs: a first row of the update matrix, the row of the parent's front it is, and how many.
OWN, THEIRS, LENGTH = range(3)

# Columns of the table of entries: start in the store and in the panel, extent, and scalar positions of the first row and
# column.
SOURCE, PLACE, ROWS, COLUMNS, ROW_POSITION, COLUMN_POSITION = range(6)


class Fronts(NamedTuple):
    """The symbolic factorisation, as the numeric kernels read it; in scalar rows and columns."""

    nodes: np.ndarray  #: (s + 1, 12) int64, by supernode
    children: np.ndarray  #: int32, of each supernode, ascending
    runs: np.ndarray  #: (r, 3) int32
    entries: np.ndarray  #: (e, 6) int64


class Numbers(NamedTuple):
    """What the factorisation reads and writes."""

    store: np.ndarray  #: blocks of the matrix
    damping: np.ndarray  #: (n,) added to the diagonal, by position
    held: np.ndarray  #: (n,) bool, rows and columns replaced by the identity's; of length 0 where there are none
    tolerance: np.floating  #: pivots ≤ tolerance · diagonal entry are too small …
    scale: np.floating  #: … and are replaced by scale · diagonal entry
    factor: np.ndarray  #: panels
    packed: np.ndarray  #: the same by strips, where there are any
    work: np.ndarray  #: the common arena, then one for each thread
    diagonal: np.ndarray  #: (n,) diagonal of the matrix
    inverse: np.ndarray  #: (n,) reciprocal diagonal of the factor
    bad: np.ndarray  #: (n,) bool, pivots that were too small


@borrower
def _scatter(f, v, s, begin, end):
    """Zero columns begin … end of the panel, and put there what the matrix and the damping have."""
    ld, l, p = f.nodes[s, STRIDE], f.nodes[s, PANEL], f.nodes[s, PIVOT]
    held = v.held.shape[0] > 0
    clear(v.factor, l + begin * ld, (end - begin) * ld)
    for e in range(f.nodes[s, ENTRY], f.nodes[s + 1, ENTRY]):
        rows, source, target = f.entries[e, ROWS], f.entries[e, SOURCE], l + f.entries[e, PLACE]
        column = f.entries[e, COLUMN_POSITION] - p
        first, last = max(0, begin - column), min(f.entries[e, COLUMNS], end - column)
        if not held:
            add_block(rows, last - first, v.factor, target + first * ld, ld, v.store, source + first * rows, rows)
            continue
        for c in range(first, last):
            if not v.held[p + column + c]:
                for r in range(rows):
                    if not v.held[f.entries[e, ROW_POSITION] + r]:
                        v.factor[target + c * ld + r] = v.store[source + c * rows + r]
    for c in range(begin, end):
        at = l + c * (ld + 1)
        if held and v.held[p + c]:
            v.factor[at] = 1.0
        else:
            v.factor[at] += v.damping[p + c]
        v.diagonal[p + c] = v.factor[at]


@borrower
def _add_update(f, v, child, source, s, u, begin, end):
    """Add the update matrix of a child, at ``source``, to columns begin … end of its parent's front.

    The parent's update matrix is at ``u``. Blocks on the diagonal are added whole: nobody reads what is above it.
    """
    lds = f.nodes[child, UPDATE_STRIDE]
    w, l, ld, ldu = f.nodes[s, WIDTH], f.nodes[s, PANEL], f.nodes[s, STRIDE], f.nodes[s, UPDATE_STRIDE]
    u -= w * (ldu + 1)
    last = f.nodes[child + 1, RUN]
    for a in range(f.nodes[child, RUN], last):
        own, theirs = f.runs[a, OWN], f.runs[a, THEIRS]
        first, stop = max(begin, theirs), min(end, theirs + f.runs[a, LENGTH])
        if first >= stop:
            continue
        pivots = min(stop, w) - first
        beyond = max(first, w)
        for b in range(a, last):
            row, length = f.runs[b, THEIRS], f.runs[b, LENGTH]
            q = source + f.runs[b, OWN] + (own - theirs) * lds
            if pivots > 0:
                add_block(length, pivots, v.factor, l + first * ld + row, ld, v.work, q + first * lds, lds)
            if beyond < stop:
                skip = max(0, w - row)
                add_block(
                    length - skip, stop - beyond, v.work, u + beyond * ldu + row + skip, ldu, v.work,
                    q + skip + beyond * lds, lds,
                )  # fmt: skip


@borrower
def _assemble(f, v, s, arena, begin, end):
    """Columns begin … end of a front; ``arena`` is where that of this thread begins."""
    w, ldu = f.nodes[s, WIDTH], f.nodes[s, UPDATE_STRIDE]
    u = f.nodes[s, UPDATE] + (0 if f.nodes[s, COMMON] else arena)
    _scatter(f, v, s, min(begin, w), min(end, w))
    for c in range(max(0, begin - w), end - w):
        above = c - c % UNIT
        clear(v.work, u + c * ldu + above, ldu - above)
    for q in range(f.nodes[s, CHILD], f.nodes[s + 1, CHILD]):
        child = f.children[q]
        _add_update(f, v, child, f.nodes[child, UPDATE] + (0 if f.nodes[child, COMMON] else arena), s, u, begin, end)


@borrower
def _do_front(f, v, z, s, arena):
    w, m = f.nodes[s, WIDTH], f.nodes[s, WIDTH] + f.nodes[s, HEIGHT]
    _assemble(f, v, s, arena, np.int64(0), m)
    u = f.nodes[s, UPDATE] + (0 if f.nodes[s, COMMON] else arena)
    factor_front(
        v.factor, f.nodes[s, PANEL], f.nodes[s, STRIDE], w, m, v.work, u, f.nodes[s, UPDATE_STRIDE], v.diagonal, v.tolerance,
        v.scale, v.inverse, v.bad, f.nodes[s, PIVOT],
    )  # fmt: skip
    pack_strips(z, s, v.factor, f.nodes[s, STRIDE], v.inverse, v.packed)


@borrower
def _do_stage(f, v, kind, s, first, row, column):
    """A part of a large front, whose update matrix lies in the common arena."""
    w, m = f.nodes[s, WIDTH], f.nodes[s, WIDTH] + f.nodes[s, HEIGHT]
    L, l, ld, p = v.factor, f.nodes[s, PANEL], f.nodes[s, STRIDE], f.nodes[s, PIVOT]
    last = min(first + BLOCK, w)
    k, chunk = last - first, chunk_of(m)
    if kind == ASSEMBLE:
        _assemble(f, v, s, np.int64(0), column, min(column + chunk, m))
    elif kind == FACTOR:
        factor_block(L, l, ld, first, last, padded(last), v.diagonal, v.tolerance, v.scale, v.inverse, v.bad, p)
    elif kind == SOLVE:
        solve_block(L, l, ld, first, last, row, min(row + chunk, m), v.inverse, p)
    elif column < w:
        end = min(column + chunk, w)
        subtract_products(L, l, ld, L, l + first * ld, ld, k, row, min(row + chunk, m), column, end)
    else:
        row, column, r = row - w, column - w, m - w
        u, ldu, a = f.nodes[s, UPDATE], f.nodes[s, UPDATE_STRIDE], l + first * ld + w
        end = min(column + chunk, r)
        subtract_products(v.work, u, ldu, L, a, ld, k, row, min(row + chunk, r), column, end)


@kernel
def factorize(f, v, z, tasks, lanes, common_size, arena_size, counters):
    """All tasks, by ``lanes`` threads; the last counter numbers the next task."""
    counters[:] = 0
    v.bad[:] = False
    num_tasks = tasks.shape[0]
    queue = counters.shape[0] - 1
    for lane in prange(lanes):
        arena = common_size + lane * arena_size
        while True:
            t = fetch_add(counters, queue)
            if t >= num_tasks:
                break
            wait_for(counters, tasks[t, COUNTER], tasks[t, TARGET])
            kind, s = tasks[t, KIND], tasks[t, NODE]
            if kind == SUBTREES:
                for k in range(s, tasks[t, FIRST]):
                    _do_front(f, v, z, k, arena)
            elif kind == FRONT:
                _do_front(f, v, z, s, arena)
            else:
                _do_stage(f, v, kind, s, tasks[t, FIRST], tasks[t, ROW], tasks[t, COLUMN])
            fetch_add(counters, tasks[t, SIGNAL])
    for t in range(num_tasks):
        if tasks[t, KIND] == ASSEMBLE and tasks[t, COLUMN] == 0:  # once for each large front
            s = tasks[t, NODE]
            pack_strips(z, s, v.factor, f.nodes[s, STRIDE], v.inverse, v.packed)


@serial_kernel
def multiply(f, v, column, x, y):
    """y ← (A + D) x by column of the matrix, with A from the store, and held rows and columns the identity's."""
    held = v.held.shape[0] > 0
    for p in range(column.shape[0]):
        j = column[p]
        y[j] = x[j] if held and v.held[p] else v.damping[p] * x[j]
    for e in range(f.entries.shape[0]):
        source, rows = f.entries[e, SOURCE], f.entries[e, ROWS]
        row, first = f.entries[e, ROW_POSITION], f.entries[e, COLUMN_POSITION]
        for c in range(f.entries[e, COLUMNS]):
            if held and v.held[first + c]:
                continue
            j = column[first + c]
            total = 0.0
            for r in range(c if row == first else 0, rows):
                if held and v.held[row + r]:
                    continue
                i = column[row + r]
                value = v.store[source + c * rows + r]
                y[i] += value * x[j]
                if i != j:
                    total += value * x[i]
            y[j] += total
