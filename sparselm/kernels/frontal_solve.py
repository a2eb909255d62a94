"""Solves with the factor of fronts: L y = b along the tree of supernodes, Lᵀ x = y back.

Each front has a vector of its rows. Forward, its pivots solve with their triangle, what they subtract from the rows below
is handed to the parent's vector; backward, the rows below are what the parent's vector has there. Up to eight right-hand
sides are done together: ``b`` and ``x`` are ``(q, n)`` by column of the matrix.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from sparselm._jit import borrower, kernel
from sparselm._llvm import UNIT
from sparselm.kernels.front_table import CHILD, HEIGHT, PANEL, PIVOT, RUN, STRIDE, VECTOR, WIDTH
from sparselm.kernels.fronts import padded
from sparselm.kernels.multifrontal import LENGTH, OWN, THEIRS
from sparselm.kernels.schedule import COUNTER, FIRST, FRONT, KIND, NODE, SIGNAL, TARGET
from sparselm.kernels.tasks import fetch_add, wait_for
from sparselm.kernels.tiles import (
    TALL_BYTES,
    UPDATE_COLUMNS,
    add_block,
    backward_tile,
    clear,
    copy_run,
    forward_tile,
    multiply_tile,
)


@borrower
def _gather(f, v, s, b):
    """The front's vector: the right-hand side in its pivots, and what its children hand on."""
    w, ld, p = f.nodes[s, WIDTH], f.nodes[s, STRIDE], f.nodes[s, PIVOT]
    for c in range(b.shape[0]):
        y = f.nodes[s, VECTOR] + c * v.rows
        for r in range(w):
            v.fronts[y + r] = b[c, v.column[p + r]]
        clear(v.fronts, y + w, ld - w)
        for e in range(f.nodes[s, CHILD], f.nodes[s + 1, CHILD]):
            child = f.children[e]
            below = c * v.rows + f.nodes[child, VECTOR] + f.nodes[child, WIDTH]
            for a in range(f.nodes[child, RUN], f.nodes[child + 1, RUN]):
                add_block(f.runs[a, LENGTH], 1, v.fronts, y + f.runs[a, THEIRS], 0, v.fronts, below + f.runs[a, OWN], 0)


@borrower
def _forward(f, v, s, q):
    w, m = f.nodes[s, WIDTH], f.nodes[s, WIDTH] + f.nodes[s, HEIGHT]
    l, ld, p = f.nodes[s, PANEL], f.nodes[s, STRIDE], f.nodes[s, PIVOT]
    tall = TALL_BYTES // v.factor.itemsize
    for j in range(0, w, UNIT):
        columns = min(UNIT, w - j)
        for c in range(q):
            y = f.nodes[s, VECTOR] + c * v.rows
            forward_tile(columns, v.factor, l + j * (ld + 1), ld, v.inverse, p + j, v.fronts, y + j)
        for c in range(0, q, UPDATE_COLUMNS):
            sides = min(UPDATE_COLUMNS, q - c)
            y = f.nodes[s, VECTOR] + c * v.rows
            row = j + UNIT
            while row < m:
                a = l + j * ld + row
                if m - row > tall - UNIT:
                    multiply_tile(True, sides, v.fronts, y + row, v.rows, v.factor, a, ld, y + j, columns)
                    row += tall
                else:
                    multiply_tile(False, sides, v.fronts, y + row, v.rows, v.factor, a, ld, y + j, columns)
                    row += UNIT


@borrower
def _backward(f, v, s, x):
    w, m = f.nodes[s, WIDTH], f.nodes[s, WIDTH] + f.nodes[s, HEIGHT]
    l, ld, p = f.nodes[s, PANEL], f.nodes[s, STRIDE], f.nodes[s, PIVOT]
    for c in range(x.shape[0]):
        y = f.nodes[s, VECTOR] + c * v.rows
        clear(v.fronts, y + m, ld - m)
        for j in range((w - 1) // UNIT * UNIT, -1, -UNIT):
            columns = min(UNIT, w - j)
            rows = padded(m) - j - UNIT
            backward_tile(columns, v.factor, l + j * (ld + 1), ld, rows, v.inverse, p + j, v.fronts, y + j)
        for r in range(w):
            x[c, v.column[p + r]] = v.fronts[y + r]
        for e in range(f.nodes[s, CHILD], f.nodes[s + 1, CHILD]):
            child = f.children[e]
            below = c * v.rows + f.nodes[child, VECTOR] + f.nodes[child, WIDTH]
            for a in range(f.nodes[child, RUN], f.nodes[child + 1, RUN]):
                copy_run(f.runs[a, LENGTH], v.fronts, below + f.runs[a, OWN], v.fronts, y + f.runs[a, THEIRS])


class Solve(NamedTuple):
    """What a solve reads, and its workspace."""

    factor: np.ndarray  #: panels
    inverse: np.ndarray  #: (n,) reciprocal diagonal of the factor
    column: np.ndarray  #: (n,) column of the matrix at each scalar position
    rows: int  #: of all fronts
    fronts: np.ndarray  #: (q · rows,) the fronts' vectors


@kernel
def solve(f, v, b, x, forward, backward, tasks, lanes, counters):
    """x ← (L Lᵀ)⁻¹ b by ``lanes`` threads, or one of the two halves; ``tasks`` without stages.

    Without the way back, y = L⁻¹ b is left in the pivots of ``v.fronts``; without the way forward, it is taken from there.
    """
    counters[:] = 0
    num_tasks = tasks.shape[0]
    roots = f.nodes.shape[0] - 1
    queue, done = 2 * roots + 2, 2 * roots + 1
    first = 0 if forward else num_tasks
    end = 2 * num_tasks if backward else num_tasks
    for _lane in prange(lanes):
        while True:
            t = first + fetch_add(counters, queue)
            if t >= end:
                break
            if t < num_tasks:
                wait_for(counters, tasks[t, COUNTER], tasks[t, TARGET])
                s = tasks[t, NODE]
                for k in range(s, s + 1 if tasks[t, KIND] == FRONT else tasks[t, FIRST]):
                    _gather(f, v, k, b)
                    _forward(f, v, k, b.shape[0])
                fetch_add(counters, tasks[t, SIGNAL])
                fetch_add(counters, done)
                continue
            t = 2 * num_tasks - 1 - t
            # The tasks in reverse: each waits for the front that it signalled before, roots for the way forward.
            above = tasks[t, SIGNAL]
            if above < roots:
                wait_for(counters, roots + 1 + above, 1)
            elif forward:
                wait_for(counters, done, num_tasks)
            s = tasks[t, NODE]
            for k in range((s + 1 if tasks[t, KIND] == FRONT else tasks[t, FIRST]) - 1, s - 1, -1):
                _backward(f, v, k, x)
            if tasks[t, KIND] == FRONT:
                fetch_add(counters, roots + 1 + s)
