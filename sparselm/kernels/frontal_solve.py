"""Solves with the factor of fronts: L y = b along the tree of supernodes, Lᵀ x = y back.

Each front has a vector of its rows. Forward, its pivots solve with their triangle, what they subtract from the rows below
is handed to the parent's vector; backward, the rows below are what the parent's vector has there. Up to eight right-hand
sides are done together: ``b`` and ``x`` are ``(q, n)`` by column of the matrix. What threads do is in the table of
``solve_schedule.py``.
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
from sparselm.kernels.schedule import FIRST, FRONT, KIND, NODE
from sparselm.kernels.solve_schedule import (
    BACK_COUNTER,
    BACK_SIGNAL,
    BACK_TARGET,
    BELOW,
    COUNTER,
    PART,
    SIGNAL,
    SOLVE_BLOCK,
    TARGET,
    TRIANGLE,
    is_cut,
    part_of,
)
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
    multiply_transposed_tile,
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
def _multiply(f, v, s, q, first, last, begin, end):
    """Subtract the product with pivots first … last from rows begin … end."""
    l, ld = f.nodes[s, PANEL], f.nodes[s, STRIDE]
    tall = TALL_BYTES // v.factor.itemsize
    for j in range(first, last, UNIT):
        columns = min(UNIT, last - j)
        for c in range(0, q, UPDATE_COLUMNS):
            sides = min(UPDATE_COLUMNS, q - c)
            y = f.nodes[s, VECTOR] + c * v.rows
            row = begin
            while row < end:
                a = l + j * ld + row
                if end - row > tall - UNIT:
                    multiply_tile(True, sides, v.fronts, y + row, v.rows, v.factor, a, ld, y + j, columns)
                    row += tall
                else:
                    multiply_tile(False, sides, v.fronts, y + row, v.rows, v.factor, a, ld, y + j, columns)
                    row += UNIT


@borrower
def _forward(f, v, s, q, first, last, end):
    """Solve with the triangle of pivots first … last, and subtract their product from the rows up to ``end``."""
    l, ld, p = f.nodes[s, PANEL], f.nodes[s, STRIDE], f.nodes[s, PIVOT]
    for j in range(first, last, UNIT):
        columns = min(UNIT, last - j)
        for c in range(q):
            y = f.nodes[s, VECTOR] + c * v.rows
            forward_tile(columns, v.factor, l + j * (ld + 1), ld, v.inverse, p + j, v.fronts, y + j)
        _multiply(f, v, s, q, j, j + columns, j + UNIT, end)


@borrower
def _multiply_transposed(f, v, s, q, first, last, begin):
    """Subtract the transposed product with the rows from ``begin`` on from pivots first … last."""
    l, ld = f.nodes[s, PANEL], f.nodes[s, STRIDE]
    rows = padded(f.nodes[s, WIDTH] + f.nodes[s, HEIGHT]) - begin
    for c in range(q):
        y = f.nodes[s, VECTOR] + c * v.rows
        for j in range(first, last, UNIT):
            multiply_transposed_tile(
                min(UNIT, last - j), v.fronts, y + j, v.factor, l + j * ld + begin, ld, y + begin, rows
            )  # fmt: skip


@borrower
def _backward(f, v, s, q, first, last, end):
    """Subtract the transposed product with the rows up to ``end`` below pivots first … last, and solve with the triangle."""
    l, ld, p = f.nodes[s, PANEL], f.nodes[s, STRIDE], f.nodes[s, PIVOT]
    for c in range(q):
        y = f.nodes[s, VECTOR] + c * v.rows
        for j in range(first + (last - first - 1) // UNIT * UNIT, first - 1, -UNIT):
            rows = padded(end) - j - UNIT
            backward_tile(min(UNIT, last - j), v.factor, l + j * (ld + 1), ld, rows, v.inverse, p + j, v.fronts, y + j)


@borrower
def _backward_front(f, v, s, q):
    """All pivots on the way back; of a large front block by block, as several threads do it."""
    w, m = f.nodes[s, WIDTH], f.nodes[s, WIDTH] + f.nodes[s, HEIGHT]
    if not is_cut(w, m):
        _backward(f, v, s, q, np.int64(0), w, m)
        return
    for first in range((w - 1) // SOLVE_BLOCK * SOLVE_BLOCK, -1, -SOLVE_BLOCK):
        last = min(first + SOLVE_BLOCK, w)
        if padded(last) < m:
            _multiply_transposed(f, v, s, q, first, last, padded(last))
        _backward(f, v, s, q, first, last, last)


@borrower
def _clear_padding(f, v, s, q):
    """0 behind the last row: it is multiplied, by 0, and must be finite."""
    m, ld = f.nodes[s, WIDTH] + f.nodes[s, HEIGHT], f.nodes[s, STRIDE]
    for c in range(q):
        clear(v.fronts, f.nodes[s, VECTOR] + c * v.rows + m, ld - m)


@borrower
def _hand_down(f, v, s, x):
    """What the pivots and the rows below have, to x and to the rows below the children's pivots."""
    w, p = f.nodes[s, WIDTH], f.nodes[s, PIVOT]
    for c in range(x.shape[0]):
        y = f.nodes[s, VECTOR] + c * v.rows
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


@borrower
def _do_forward(f, v, b, tasks, t):
    """Task t on the way forward."""
    kind, s, first, q = tasks[t, KIND], tasks[t, NODE], tasks[t, FIRST], b.shape[0]
    w, m = f.nodes[s, WIDTH], f.nodes[s, WIDTH] + f.nodes[s, HEIGHT]
    last = min(first + SOLVE_BLOCK, w)
    if kind == TRIANGLE:
        if first == 0:
            _gather(f, v, s, b)
        _forward(f, v, s, q, first, last, padded(last))
    elif kind == BELOW:
        begin, end = part_of(tasks[t, PART], padded(last), m)
        _multiply(f, v, s, q, first, last, begin, end)
    else:
        for k in range(s, s + 1 if kind == FRONT else first):
            w, m = f.nodes[k, WIDTH], f.nodes[k, WIDTH] + f.nodes[k, HEIGHT]
            _gather(f, v, k, b)
            _forward(f, v, k, q, np.int64(0), w, m)


@borrower
def _do_backward(f, v, x, tasks, t):
    """Task t on the way back."""
    kind, s, first, q = tasks[t, KIND], tasks[t, NODE], tasks[t, FIRST], x.shape[0]
    w = f.nodes[s, WIDTH]
    last = min(first + SOLVE_BLOCK, w)
    if kind == TRIANGLE:
        _backward(f, v, s, q, first, last, last)
        if first == 0:
            _hand_down(f, v, s, x)
    elif kind == BELOW:
        begin, end = part_of(tasks[t, PART], first, last)
        _multiply_transposed(f, v, s, q, begin, end, padded(last))
    else:
        for k in range((s + 1 if kind == FRONT else first) - 1, s - 1, -1):
            _backward_front(f, v, k, q)
            _hand_down(f, v, k, x)


@kernel
def solve(f, v, b, x, forward, backward, tasks, lanes, counters):
    """x ← (L Lᵀ)⁻¹ b by ``lanes`` threads, or one of the two halves.

    Without the way back, y = L⁻¹ b is left in the pivots of ``v.fronts``; without the way forward, it is taken from there.
    The last counter numbers the next task.
    """
    counters[:] = 0
    count = f.nodes.shape[0] - 1
    num_tasks = tasks.shape[0]
    queue, forward_done = counters.shape[0] - 1, 2 * count
    if not forward:
        counters[forward_done] = num_tasks
        for s in range(count):
            _clear_padding(f, v, s, b.shape[0])
    first = 0 if forward else num_tasks
    end = 2 * num_tasks if backward else num_tasks
    for _lane in prange(lanes):
        while True:
            t = first + fetch_add(counters, queue)
            if t >= end:
                break
            if t < num_tasks:
                wait_for(counters, tasks[t, COUNTER], tasks[t, TARGET])
                _do_forward(f, v, b, tasks, t)
                fetch_add(counters, tasks[t, SIGNAL])
                fetch_add(counters, forward_done)
            else:
                t = 2 * num_tasks - 1 - t
                wait_for(counters, tasks[t, BACK_COUNTER], tasks[t, BACK_TARGET])
                _do_backward(f, v, x, tasks, t)
                fetch_add(counters, tasks[t, BACK_SIGNAL])
