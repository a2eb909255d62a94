"""Schedules: update matrices never overlap while they live, tasks wait for all they need, and no part is missed."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparselm.kernels.fronts import BLOCK
from sparselm.kernels.schedule import (
    ASSEMBLE,
    CHUNK,
    COLUMN,
    COUNTER,
    FACTOR,
    FIRST,
    FRONT,
    KIND,
    LARGE,
    NODE,
    ROW,
    SIGNAL,
    SOLVE,
    SUBTRACT,
    SUBTREES,
    TARGET,
    TASK_COLUMNS,
    find_subtrees,
    list_tasks,
    place_updates,
)
from sparselm.kernels.supernodes import front_cost


def pad(rows):
    return -(-rows // 8) * 8


def draw_tree(n, bushy, rng):
    """Parents of a random forest in postorder."""
    above = np.full(n, -1, dtype=np.int32)
    roots = []
    for s in range(n):
        count = min(int(rng.geometric(bushy)) - 1, len(roots))
        for child in roots[len(roots) - count :]:
            above[child] = s
        del roots[len(roots) - count :]
        roots.append(s)
    return above


def children_of(above):
    child = np.argsort(above, kind="stable").astype(np.int32)
    return np.searchsorted(above[child], np.arange(len(above) + 1)).astype(np.int64), child


def draw_local(above, rng):
    """Some whole subtrees."""
    size = np.ones(len(above), dtype=int)
    for s, p in enumerate(above):
        if p >= 0:
            size[p] += size[s]
    return size <= rng.integers(0, max(len(above) // 2, 2))


def place(above, height, local):
    start = np.full(len(above), -1, dtype=np.int64)
    arenas = np.full(2, -1, dtype=np.int64)
    place_updates(above, height, local, *children_of(above), start, arenas)
    return start, arenas


def check_places(above, height, local):
    """No two update matrices that may live at the same time have an entry in common.

    One lives from the assembly of its front to the end of its parent's. In the common arena any two may, unless one is
    of a front below the other's children: that one is gone before the other's front is assembled. In an arena of a
    thread only a subtree's own matrices are alive, in the order in which its fronts are done.
    """
    n = len(above)
    start, (own, common) = place(above, height, local)
    size = np.array([pad(h) * h for h in height], dtype=np.int64)
    inner = local & (above >= 0)
    inner[inner] = local[above[inner]]
    end = start + size
    assert (start >= 0).all()
    assert (end[inner] <= own).all() and (end[~inner] <= common).all()
    ancestors = []
    for s in reversed(range(n)):
        ancestors.append({above[s]} | ancestors[n - 1 - above[s]] if above[s] >= 0 else set())
    ancestors.reverse()
    outside = np.flatnonzero(~inner & (size > 0))
    for at, i in enumerate(outside):
        for j in outside[at + 1 :]:
            if j in ancestors[i] and above[i] != j:
                continue
            assert end[i] <= start[j] or end[j] <= start[i], (i, j)
    alive = []
    for s in range(n):
        if not local[s]:
            continue
        if inner[s] and size[s]:
            for k in alive:
                assert end[k] <= start[s] or end[s] <= start[k], (k, s)
        alive = [k for k in alive if above[k] != s]
        if inner[s] and size[s]:
            alive.append(s)
        if not inner[s]:
            assert not alive


drawn = given(n=st.integers(1, 60), bushy=st.floats(0.2, 0.9), seed=st.integers(0, 2**32 - 1))


@settings(max_examples=250, deadline=None)
@drawn
@example(n=0, bushy=0.5, seed=0)
def test_update_matrices_do_not_overlap(n, bushy, seed):
    rng = np.random.default_rng(seed)
    above = draw_tree(n, bushy, rng)
    height = rng.integers(0, rng.choice([3, 30, 200]), n)
    height[above < 0] = 0
    for local in (np.zeros(n, dtype=bool), np.ones(n, dtype=bool), draw_local(above, rng)):
        check_places(above, height, local)


@pytest.mark.parametrize("local", [True, False])
def test_long_chains_take_two_matrices(local):
    n = 100_000
    above = np.append(np.arange(1, n), -1).astype(np.int32)
    height = np.random.default_rng(0).integers(1, 40, n)
    height[-1] = 0
    start, arenas = place(above, height, np.full(n, local))
    size = (height + 7) // 8 * 8 * height
    assert arenas[0 if local else 1] == (size[1:] + size[:-1]).max()
    assert arenas[1 if local else 0] == 0
    end = start + size
    assert ((end[1:] <= start[:-1]) | (end[:-1] <= start[1:])).all()


def test_children_that_come_one_after_the_other_take_no_more_than_a_stack():
    rng = np.random.default_rng(0)
    for _ in range(50):
        above = draw_tree(40, 0.4, rng)
        height = rng.integers(0, 40, 40)
        height[above < 0] = 0
        _, (own, _) = place(above, height, np.ones(40, dtype=bool))
        stack, most = [], 0
        for s in range(40):
            size = pad(height[s]) * height[s]
            most = max(most, sum(k for _, k in stack) + size)
            stack = [(k, held) for k, held in stack if above[k] != s]
            stack.append((s, size))
        assert own <= most


def tasks_of(above, width, height, local, cut):
    count, counters = list_tasks(above, width, height, local, cut, np.empty((0, TASK_COLUMNS), dtype=np.int64))
    tasks = np.full((count, TASK_COLUMNS), -7, dtype=np.int64)
    assert list_tasks(above, width, height, local, cut, tasks) == (count, counters)
    return tasks, counters


def check_waits(tasks, counters, count):
    """Each task waits for all that ever signal its counter, and they come before it in the list."""
    assert tasks.min(initial=0) >= 0
    assert tasks[:, [COUNTER, SIGNAL]].max(initial=0) < counters
    total = np.bincount(tasks[:, SIGNAL], minlength=counters)
    waited = tasks[:, COUNTER] != count  # nobody waits for roots; tasks that wait for nothing name their counter
    assert (tasks[~waited, TARGET] == 0).all()
    assert np.array_equal(tasks[waited, TARGET], total[tasks[waited, COUNTER]])
    last = np.full(counters, -1)
    np.maximum.at(last, tasks[:, SIGNAL], np.arange(len(tasks)))
    assert (last[tasks[waited, COUNTER]] < np.flatnonzero(waited)).all()
    return total


def check_stages(tasks, w, m):
    """The stages of one large front: each entry of the lower triangle once in each, and one stage after the other."""
    blocks = list(range(0, w, BLOCK))
    stages = [t[0] for t in np.split(tasks, np.flatnonzero(np.diff(tasks[:, COUNTER])) + 1)]
    kinds = [(ASSEMBLE, 0)]
    for first in blocks:
        last = min(first + BLOCK, w)
        kinds.append((FACTOR, first))
        if pad(last) < m:
            kinds.append((SOLVE, first))
        if last < m:
            kinds.append((SUBTRACT, first))
    assert [(t[KIND], t[FIRST]) for t in stages] == kinds
    assert all(a[SIGNAL] == b[COUNTER] for a, b in pairwise(stages))
    for kind, first in kinds:
        part = tasks[(tasks[:, KIND] == kind) & (tasks[:, FIRST] == first)]
        assert len(np.unique(part[:, [COUNTER, TARGET, SIGNAL]], axis=0)) == 1
        last = min(first + BLOCK, w)
        if kind == ASSEMBLE:
            assert np.array_equal(part[:, COLUMN], np.arange(0, m, CHUNK))
        elif kind == FACTOR:
            assert len(part) == 1
        elif kind == SOLVE:
            assert np.array_equal(part[:, ROW], np.arange(pad(last), m, CHUNK))
        else:
            done = np.zeros((m, m), dtype=np.int8)
            for row, column in part[:, [ROW, COLUMN]]:
                end = w if column < w else m
                done[row : row + CHUNK, column : min(column + CHUNK, end)] += 1
            lower = np.tri(m, dtype=bool)
            lower[:, :last] = False
            assert (done[lower] == 1).all() and done.max() <= 1
            assert not done[:, :last].any()


def check_tasks(above, width, height, local, cut):
    count = len(above)
    tasks, counters = tasks_of(above, width, height, local, cut)
    total = check_waits(tasks, counters, count)
    done = np.zeros(count, dtype=int)
    ends = [np.flatnonzero(tasks[:, SIGNAL] == p) for p in range(count + 1)]
    for task in tasks[tasks[:, KIND] == SUBTREES]:
        nodes = np.arange(task[NODE], task[FIRST])
        done[nodes] += 1
        assert local[nodes].all() and task[TARGET] == 0
        outside = above[nodes][(above[nodes] >= task[FIRST]) | (above[nodes] < 0)]
        target = count if (outside < 0).all() else outside[0]
        assert (np.where(outside < 0, count, outside) == target).all() and task[SIGNAL] == target
        missing = np.isin(above, nodes) & ~np.isin(np.arange(count), nodes)
        assert not missing.any()  # whole subtrees
    for s in np.flatnonzero(~local):
        own = tasks[(tasks[:, NODE] == s) & (tasks[:, KIND] != SUBTREES)]
        large = cut and front_cost(width[s], height[s]) > LARGE
        assert set(own[:, KIND]) == {FRONT} if not large else FRONT not in own[:, KIND]
        target = above[s] if above[s] >= 0 else count
        assert own[0, COUNTER] == s and own[-1, SIGNAL] == target
        children = np.flatnonzero(above == s)
        assert total[s] >= min(len(children), 1) and len(ends[s]) == total[s] == own[0, TARGET]
        done[s] += 1
        if large:
            check_stages(own, width[s], width[s] + height[s])
        else:
            assert len(own) == 1
    assert (done == 1).all()
    return tasks


@settings(max_examples=100, deadline=None)
@drawn
@example(n=0, bushy=0.5, seed=0)
def test_tasks(n, bushy, seed):
    rng = np.random.default_rng(seed)
    above = draw_tree(n, bushy, rng)
    width = rng.integers(1, rng.choice([3, 40, 400, 800]), n)
    height = rng.integers(0, rng.choice([3, 40, 400]), n)
    height[above < 0] = 0
    local = np.zeros(n, dtype=bool)
    work = find_subtrees(above, width, height, 2, local)
    assert work == pytest.approx(sum(front_cost(w, h) for w, h in zip(width, height, strict=True)))
    for p, s in zip(above, range(n), strict=True):
        assert p < 0 or local[s] or not local[p]
    for kind in (local, draw_local(above, rng), np.zeros(n, dtype=bool)):
        check_tasks(above, width, height, kind, True)
        check_tasks(above, width, height, kind, False)


@pytest.mark.parametrize("height", range(12))
@pytest.mark.parametrize("width", [480, 481, 487, 500])
def test_few_rows_below_a_large_front(width, height):
    above = np.array([1, -1], dtype=np.int32)
    tasks = check_tasks(above, np.array([width, 3]), np.array([height, 0]), np.zeros(2, dtype=bool), True)
    assert SUBTRACT in tasks[:, KIND]


@pytest.mark.parametrize("local", [True, False])
def test_long_chains(local):
    n = 100_000
    above = np.append(np.arange(1, n), -1).astype(np.int32)
    width = np.full(n, 3)
    height = np.append(width[1:], 0)
    marks = np.zeros(n, dtype=bool)
    work = find_subtrees(above, width, height, 2, marks)
    assert marks.sum() == pytest.approx(n / 8, rel=0.01) and work > 0
    tasks, counters = tasks_of(above, width, height, marks if local else np.zeros(n, dtype=bool), True)
    check_waits(tasks, counters, n)
    covered = np.where(tasks[:, KIND] == SUBTREES, tasks[:, FIRST] - tasks[:, NODE], 1)
    assert covered.sum() == n
    assert counters == n + 2
