"""The tasks of a solve by fronts: all are done, each after what it reads, however threads are timed."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_schedule import draw_local, draw_tree

from sparselm.kernels.schedule import FIRST, FRONT, KIND, NODE, SUBTREES, TASK_COLUMNS, list_tasks
from sparselm.kernels.solve_schedule import (
    BACK_COUNTER,
    BACK_SIGNAL,
    BACK_TARGET,
    BELOW,
    COUNTER,
    PART,
    PARTS,
    SIGNAL,
    SOLVE_BLOCK,
    SOLVE_TASK_COLUMNS,
    TARGET,
    TRIANGLE,
    is_cut,
    list_solve_tasks,
    parallel_entries,
    part_of,
)


def solve_tasks(above, width, height, local):
    """Tasks without cuts, those of a solve, and the number of counters of these."""
    plain = np.zeros((len(above), TASK_COLUMNS), dtype=np.int64)
    plain = plain[: list_tasks(above, width, height, local, False, plain)[0]]
    count, counters = list_solve_tasks(plain, width, height, np.empty((0, SOLVE_TASK_COLUMNS), dtype=np.int64))
    tasks = np.full((count, SOLVE_TASK_COLUMNS), -1, dtype=np.int64)
    assert list_solve_tasks(plain, width, height, tasks) == (count, counters)
    return plain, tasks, counters


def run(order, waits, signals, counters, threads, rng):
    """The order in which tasks end, with threads that take the next one and finish at random."""
    active, ended, taken = [], [], 0
    while len(ended) < len(order):
        while len(active) < threads and taken < len(order):
            active.append(order[taken])
            taken += 1
        ready = [t for t in active if counters[waits[t][0]] >= waits[t][1]]
        assert ready, "all threads wait"
        t = ready[rng.integers(len(ready))]
        active.remove(t)
        counters[signals[t]] += 1
        ended.append(t)
    return ended


def fronts_of(task):
    return range(task[NODE], task[FIRST] if task[KIND] == SUBTREES else task[NODE] + 1)


def check_order(tasks, ended, above, back):
    """A task ends after all of the fronts, and of the blocks of its own front, that it takes numbers from."""
    when = {t: place for place, t in enumerate(ended)}
    of_front = {}
    for t, task in enumerate(tasks):
        for s in fronts_of(task):
            of_front.setdefault(s, []).append(t)
    assert sorted(of_front) == list(range(len(above)))
    for s, own in of_front.items():
        if above[s] >= 0:
            for t in own:
                for u in of_front[above[s]]:
                    assert t == u or (when[u] < when[t] if back else when[t] < when[u])
        for t in own:
            for u in own:
                later = tasks[u, FIRST] > tasks[t, FIRST] or (
                    tasks[u, FIRST] == tasks[t, FIRST] and (tasks[u, KIND], tasks[t, KIND]) == (BELOW, TRIANGLE)
                )
                assert not later or (when[u] < when[t] if back else when[t] < when[u])


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(0, 25),
    bushy=st.floats(0.2, 0.9),
    widest=st.sampled_from([8, 300, 900]),
    threads=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
@example(n=1, bushy=0.5, widest=900, threads=3, seed=1)
def test_tasks_wait_for_what_they_read(n, bushy, widest, threads, seed):
    rng = np.random.default_rng(seed)
    above = draw_tree(n, bushy, rng)
    width = rng.integers(1, widest + 1, n)
    height = rng.integers(0, rng.choice([2, 9, 900]), n)
    height[above < 0] = 0
    _, tasks, num_counters = solve_tasks(above, width, height, draw_local(above, rng))
    counters = np.zeros(num_counters, dtype=np.int64)
    ended = run(range(len(tasks)), tasks[:, [COUNTER, TARGET]], tasks[:, SIGNAL], counters, threads, rng)
    check_order(tasks, ended, above, back=False)
    counters[2 * n] = len(tasks)
    back = range(len(tasks) - 1, -1, -1)
    ended = run(back, tasks[:, [BACK_COUNTER, BACK_TARGET]], tasks[:, BACK_SIGNAL], counters, threads, rng)
    check_order(tasks, ended, above, back=True)


@pytest.mark.parametrize(("w", "h"), [(500, 0), (500, 3), (500, 4), (512, 1), (129, 2000), (128, 3000), (100, 1)])
def test_blocks_of_a_front(w, h):
    width, height = np.array([w]), np.array([h])
    plain, tasks, _ = solve_tasks(np.array([-1], dtype=np.int32), width, height, np.zeros(1, dtype=bool))
    if not is_cut(w, w + h):
        assert tasks[:, KIND].tolist() == [FRONT]
        assert parallel_entries(plain, width, height) == 0
        return
    assert parallel_entries(plain, width, height) == w * (w + h) - w * (w + h) // 2
    seen = np.zeros((w + h, w), dtype=int)
    for task in tasks:
        first = task[FIRST]
        last = min(first + SOLVE_BLOCK, w)
        below = -(-last // 8) * 8
        if task[KIND] == TRIANGLE:
            seen[first:below, first:last] += 1
            continue
        begin, end = part_of(task[PART], below, w + h)
        assert 0 <= task[PART] < PARTS and (begin - below) % 8 == 0
        seen[begin:end, first:last] += 1
        columns = part_of(task[PART], first, last)
        seen[below:, columns[0] : columns[1]] += 10
    assert set(seen[np.tril_indices(w + h, 0, w)].tolist()) <= {1, 11}


@settings(max_examples=100, deadline=None)
@given(n=st.integers(0, 40), bushy=st.floats(0.2, 0.9), seed=st.integers(0, 2**32 - 1))
def test_entries_beside_the_longest_path(n, bushy, seed):
    rng = np.random.default_rng(seed)
    above = draw_tree(n, bushy, rng)
    width, height = rng.integers(1, 9, n), rng.integers(0, 30, n)
    plain, _, _ = solve_tasks(above, width, height, np.zeros(n, dtype=bool))
    entries = width * (width + height)

    def longest(s):
        return entries[s] + max((longest(c) for c in np.flatnonzero(above == s)), default=0)

    expected = sum(entries) - max((longest(s) for s in np.flatnonzero(above < 0)), default=0)
    assert parallel_entries(plain, width, height) == expected
