"""Which thread may do what when: fronts cut into tasks, and places for their update matrices.

Whole subtrees of little work are one task each; the fronts above them are a task each, or, where they are large, several
tasks in stages. A front waits for its own counter, at which every task that completes a child adds one.

Update matrices live from the end of their front to the assembly of its parent. Those inside a subtree lie in an arena of
the thread that works on it, those above in one arena for all; the places in both are settled beforehand. The matrix of a
front lies at one end of the stretch that its subtree may use, those of its children at the other end, and so on in turns:
what lies at the near end of a child's stretch is dead when the front is assembled. One after the other, children take no
more than a stack would; at the same time, each gets a stretch of its own.
"""

from __future__ import annotations

import numpy as np

from sparselm._jit import scalar, serial_kernel
from sparselm.kernels.fronts import BLOCK, padded
from sparselm.kernels.supernodes import front_cost

# Kinds of tasks: a run of supernodes; one front; and the stages of a large front.
SUBTREES, FRONT, ASSEMBLE, FACTOR, SOLVE, SUBTRACT = range(6)

# Rows and columns of the part of a large front that is one task, and the most parts along a side: where fronts are larger,
# parts are, and the table of tasks grows with the rows of a front and not with their third power.
CHUNK, MOST_CHUNKS = 128, 32

# Nanoseconds of work up to which a front is not worth cutting, and below which a task is not worth taking.
LARGE, SMALL = 60_000.0, 20_000.0

# Subtrees per thread, at least: fewer stay in the caches of a thread for longer, more end at the same time. Measured with
# two threads from 2 to 48 on pose graphs; 4 were the fastest, 24 up to 1.7 times slower.
SUBTREES_PER_THREAD = 4.0


@scalar
def chunk_of(m):
    """Rows and columns of the parts of a front of m rows."""
    return max(CHUNK, padded((m + MOST_CHUNKS - 1) // MOST_CHUNKS))


@serial_kernel
def find_subtrees(above, width, height, threads, local):
    """Mark the supernodes that are done within a subtree; returns the predicted nanoseconds for all."""
    count = above.shape[0]
    work = np.zeros(count)
    total = 0.0
    for s in range(count):
        own = front_cost(width[s], height[s])
        total += own
        work[s] += own
        if above[s] >= 0:
            work[above[s]] += work[s]
    most = max(SMALL, total / (SUBTREES_PER_THREAD * threads))
    for s in range(count):
        local[s] = work[s] <= most
    return total


@serial_kernel
def place_updates(above, height, local, child_ptr, child, start, arena_sizes):
    """Where each update matrix starts in its arena: that of the thread for ``start[s]`` within a subtree, or the common one.

    ``arena_sizes`` becomes the entries of a thread's arena and of the common one. A matrix inside a subtree lies in the
    thread's, the one that a subtree leaves behind in the common one.
    """
    count = above.shape[0]
    size = np.empty(count, np.int64)  # of the own matrix
    need = np.empty(count, np.int64)  # of the stretch
    origin = np.zeros(count, np.int64)
    far = np.zeros(count, np.bool_)  # the own matrix lies at the end of the stretch
    inner = np.zeros(count, np.int64)  # what a subtree needs of the thread's arena
    arena_sizes[:] = 0
    for s in range(count):
        size[s] = padded(height[s]) * height[s]
        leaves = local[s] and (above[s] < 0 or not local[above[s]])
        own = 0 if leaves else size[s]
        if local[s]:
            needed = own
            before = 0
            for q in range(child_ptr[s], child_ptr[s + 1]):
                needed = max(needed, before + need[child[q]])
                before += size[child[q]]
            needed = max(needed, own + before)
            if leaves:
                inner[s] = needed
                arena_sizes[0] = max(arena_sizes[0], needed)
                needed = size[s]
            need[s] = needed
        else:
            slack = np.int64(0)
            total = np.int64(0)
            for q in range(child_ptr[s], child_ptr[s + 1]):
                slack = max(slack, need[child[q]] - size[child[q]])
                total += need[child[q]]
            need[s] = max(size[s], max(0, size[s] - slack) + total)
    for s in range(count - 1, -1, -1):
        if above[s] < 0:
            origin[s] = arena_sizes[1]
            arena_sizes[1] += need[s]
        start[s] = origin[s] + need[s] - size[s] if far[s] else origin[s]
        if local[s]:
            begin, end, at_end = origin[s], origin[s] + need[s], not far[s]
            if above[s] < 0 or not local[above[s]]:
                begin, end = 0, inner[s]
            for q in range(child_ptr[s], child_ptr[s + 1]):
                c = child[q]
                far[c] = at_end
                origin[c] = end - need[c] if at_end else begin
                if at_end:
                    end -= size[c]
                else:
                    begin += size[c]
        else:
            # The child with the most room before its own matrix comes next to the matrix of s, and shares that room.
            chosen = -1
            slack = np.int64(-1)
            total = np.int64(0)
            for q in range(child_ptr[s], child_ptr[s + 1]):
                c = child[q]
                total += need[c]
                if need[c] - size[c] > slack:
                    slack = need[c] - size[c]
                    chosen = c
            cursor = origin[s] if far[s] else origin[s] + max(0, size[s] - max(0, slack))
            for turn in range(3):
                for q in range(child_ptr[s], child_ptr[s + 1]):
                    c = child[q]
                    if (turn == (2 if far[s] else 0) and c == chosen) or (turn == 1 and c != chosen):
                        origin[c] = cursor
                        cursor += need[c]
                        far[c] = not far[s]


# Columns of the table of tasks.
KIND, NODE, FIRST, ROW, COLUMN, COUNTER, TARGET, SIGNAL = range(8)
TASK_COLUMNS = 8


@scalar
def _emit(tasks, at, kind, node, first, row, column, counter, target, signal):
    if at < tasks.shape[0]:
        tasks[at, KIND] = kind
        tasks[at, NODE] = node
        tasks[at, FIRST] = first
        tasks[at, ROW] = row
        tasks[at, COLUMN] = column
        tasks[at, COUNTER] = counter
        tasks[at, TARGET] = target
        tasks[at, SIGNAL] = signal
    return at + 1


@scalar
def _cut_large_front(tasks, at, s, w, m, arrived, counter, signal):
    """Tasks of one large front from number ``at`` on; how many tasks there are then, and how many of them end it."""
    chunk = chunk_of(m)
    before, target = s, arrived
    begin = at
    for column in range(0, m, chunk):
        at = _emit(tasks, at, ASSEMBLE, s, 0, 0, column, before, target, counter)
    for first in range(0, w, BLOCK):
        last = min(first + BLOCK, w)
        final = last == w
        before, target, counter = counter, at - begin, counter + 1
        begin = at
        below = padded(last)
        at = _emit(tasks, at, FACTOR, s, first, 0, 0, before, target, signal if last == m else counter)
        if last == m:
            continue
        before, target, counter = counter, at - begin, counter + 1
        begin = at
        if below < m:  # otherwise the last diagonal tile has the few rows below the pivots too
            for row in range(below, m, chunk):
                at = _emit(tasks, at, SOLVE, s, first, row, 0, before, target, counter)
            before, target, counter = counter, at - begin, counter + 1
            begin = at
        for column in range(last, w, chunk):
            for row in range(column, m, chunk):
                at = _emit(tasks, at, SUBTRACT, s, first, row, column, before, target, counter)
        for column in range(w, m, chunk):
            for row in range(column, m, chunk):
                at = _emit(tasks, at, SUBTRACT, s, first, row, column, before, target, signal if final else counter)
    return at, at - begin, counter


@serial_kernel
def list_tasks(above, width, height, local, cut, tasks):
    """Fill the table of tasks; returns how many tasks and how many counters there are.

    Counter s is that of front s, the one after those of all fronts that of roots, which nobody waits for; the rest
    stand between the stages of large fronts, which are made where ``cut``. A table that is too short is filled as far as it
    goes.
    """
    count = above.shape[0]
    arrived = np.zeros(count + 1, np.int64)
    at = 0
    counter = count + 1
    begin = 0  # first supernode of the subtrees that the next task is to do
    collected = 0.0
    for s in range(count):
        if not local[s]:
            begin = s + 1
            continue
        collected += front_cost(width[s], height[s])
        if above[s] >= 0 and local[above[s]]:
            continue
        signal = above[s] if above[s] >= 0 else count
        # Small neighbours under one parent go together; the next supernode begins the next subtree.
        if collected < SMALL and s + 1 < count and local[s + 1] and _root_of(above, local, s + 1) == above[s]:
            continue
        at = _emit(tasks, at, SUBTREES, begin, s + 1, 0, 0, count, 0, signal)
        arrived[signal] += 1
        begin = s + 1
        collected = 0.0
    for s in range(count):
        if local[s]:
            continue
        w, h = width[s], height[s]
        signal = above[s] if above[s] >= 0 else count
        if cut and front_cost(w, h) > LARGE:
            at, ends, counter = _cut_large_front(tasks, at, s, w, w + h, arrived[s], counter, signal)
            arrived[signal] += ends
        else:
            at = _emit(tasks, at, FRONT, s, 0, 0, 0, s, arrived[s], signal)
            arrived[signal] += 1
    return at, counter + 1


@scalar
def _root_of(above, local, s):
    """The parent of the root of the subtree that s is in."""
    while above[s] >= 0 and local[above[s]]:
        s = above[s]
    return above[s]
