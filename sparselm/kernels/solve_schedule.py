"""Which thread may do what when in a solve by fronts: forward, and back in reverse.

Fronts and whole subtrees are tasks, as in a factorisation. The pivots of a large front are done in blocks: a task for the
block's triangle, then several for what is below it, which forward are parts of the rows and back parts of the block's
columns. Back, each task waits for other tasks than forward, but the order of the table, from the back, suits it.
"""

from __future__ import annotations

import numpy as np

from sparselm._jit import borrower, scalar, serial_kernel
from sparselm._llvm import UNIT
from sparselm.kernels.fronts import padded
from sparselm.kernels.schedule import FIRST, FRONT, KIND, NODE, SUBTRACT
from sparselm.kernels.schedule import SIGNAL as PLAIN_SIGNAL

# Pivots of a block, and the parts of what is below it.
SOLVE_BLOCK, PARTS = 128, 8

# Entries of a panel from which a front is cut: 60 µs to read it from memory; 16 tasks that wait take 10.
LARGE_PANEL = 150_000

# Kinds of tasks besides SUBTREES and FRONT: a block's triangle, and a part of what is below it.
TRIANGLE, BELOW = SUBTRACT + 1, SUBTRACT + 2

# Columns of the table after KIND, NODE and FIRST, which is a block's first pivot, or where a run of subtrees ends. A task
# waits for a counter to reach a target, and adds one to another when it is done.
PART, COUNTER, TARGET, SIGNAL, BACK_COUNTER, BACK_TARGET, BACK_SIGNAL = range(3, 10)
SOLVE_TASK_COLUMNS = 10


@borrower
def is_cut(w, m):
    """Whether a front of w pivots and m rows is done in blocks, by one thread or by several: it decides rounding."""
    return w > SOLVE_BLOCK and w * m >= LARGE_PANEL


@borrower
def part_of(part, begin, end):
    """Where a part of what is from ``begin`` to ``end`` begins and ends: parts are made of whole tiles."""
    tiles = (end - begin + UNIT - 1) // UNIT
    return begin + tiles * part // PARTS * UNIT, min(begin + tiles * (part + 1) // PARTS * UNIT, end)


@scalar
def _emit(tasks, at, kind, node, first, part, forward, back):
    """Write a task, as far as there is room; ``forward`` and ``back`` are counter, target and signal of either way."""
    if at < tasks.shape[0]:
        tasks[at, KIND] = kind
        tasks[at, NODE] = node
        tasks[at, FIRST] = first
        tasks[at, PART] = part
        for k in range(3):
            tasks[at, COUNTER + k] = forward[k]
            tasks[at, BACK_COUNTER + k] = back[k]
    return at + 1


@scalar
def _cut_front(tasks, at, s, w, m, counter, forward, back):
    """Tasks of a large front, which waits and signals as the triples say; how many tasks and counters there are then."""
    begin = forward[:2]
    for first in range(0, w, SOLVE_BLOCK):
        last = min(first + SOLVE_BLOCK, w)
        final = last == w
        parts = PARTS if padded(last) < m else 0
        # Four counters a block.
        triangle_done, parts_done, parts_done_back, triangle_done_back = counter, counter + 1, counter + 2, counter + 3
        counter += 4
        next_triangle_done_back = counter + 3
        signal = forward[2] if final and parts == 0 else triangle_done
        from_above = back[:2] if final else (next_triangle_done_back, 1)
        before = (parts_done_back, parts) if parts > 0 else from_above
        done = back[2] if first == 0 else triangle_done_back
        at = _emit(tasks, at, TRIANGLE, s, first, 0, (begin[0], begin[1], signal), (before[0], before[1], done))
        for part in range(parts):
            at = _emit(
                tasks, at, BELOW, s, first, part, (triangle_done, 1, forward[2] if final else parts_done),
                (from_above[0], from_above[1], parts_done_back),
            )  # fmt: skip
        begin = (parts_done, parts)
    return at, counter


@serial_kernel
def list_solve_tasks(plain, width, height, tasks):
    """Fill the table of tasks; returns how many tasks and how many counters there are.

    ``plain`` are the tasks of a factorisation without cuts. The first counters are those of the fronts, for children that
    are done; then come as many for fronts that are done on the way back, one for tasks that are done forward, one that
    nobody waits for, and those of blocks. A table that is too short is filled as far as it goes.
    """
    count = width.shape[0]
    forward_done, nobody = 2 * count, 2 * count + 1
    arrived = np.zeros(count + 1, np.int64)
    at = 0
    counter = 2 * count + 2
    for t in range(plain.shape[0]):
        s, above = plain[t, NODE], plain[t, PLAIN_SIGNAL]
        signal = above if above < count else nobody
        # Roots begin the way back when all is done forward.
        back = (count + above, 1) if above < count else (forward_done, tasks.shape[0])
        if plain[t, KIND] != FRONT:
            at = _emit(tasks, at, plain[t, KIND], s, plain[t, FIRST], 0, (nobody, 0, signal), (back[0], back[1], nobody))
            arrived[above] += 1
            continue
        w, m = width[s], width[s] + height[s]
        forward, done = (s, arrived[s], signal), (back[0], back[1], count + s)
        if is_cut(w, m):
            at, counter = _cut_front(tasks, at, s, w, m, counter, forward, done)
            arrived[above] += PARTS if padded(w) < m else 1
        else:
            at = _emit(tasks, at, FRONT, s, 0, 0, forward, done)
            arrived[above] += 1
    return at, counter


@serial_kernel
def parallel_entries(plain, width, height):
    """Entries of panels that other threads can read while one goes from a leaf to a root, on the path with the most.

    Of a front that is cut another thread reads half.
    """
    count = width.shape[0]
    longest = np.zeros(count + 1, np.int64)
    total = np.int64(0)
    for t in range(plain.shape[0]):
        s = plain[t, NODE]
        entries = np.int64(0)
        for k in range(s, s + 1 if plain[t, KIND] == FRONT else plain[t, FIRST]):
            entries += width[k] * (width[k] + height[k])
        total += entries
        if plain[t, KIND] == FRONT:
            if is_cut(width[s], width[s] + height[s]):
                entries //= 2
            entries += longest[s]
        above = plain[t, PLAIN_SIGNAL]
        longest[above] = max(longest[above], entries)
    return total - longest[count]
