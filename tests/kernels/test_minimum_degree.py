"""Minimum degree orders: permutations, stages, their trees and heights, and no fill where there need not be any."""

import numpy as np
import pytest
from block_graphs import SHAPES, dense_factor, dense_symbolic, distinct, edges, grid, inverse, neighbours
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparselm.kernels.elimination import column_heights, elimination_tree
from sparselm.kernels.minimum_degree import minimum_degree


def find_tree(pairs, sizes, stage=None, newest_first=False):
    """Order, parents and heights, or None for the latter two where there are dense rows."""
    n = len(sizes)
    order, parent = np.full((2, n), -7, dtype=np.int32)
    heights = np.full(n, -7, dtype=np.int64)
    stage = np.zeros(n, dtype=np.int32) if stage is None else stage.astype(np.int32)
    graph, sizes = neighbours(pairs, n), np.asarray(sizes, dtype=np.int32)
    complete = minimum_degree(*graph, sizes, stage, newest_first, order, parent, heights)
    return (order, parent, heights) if complete else (order, None, None)


def find(pairs, sizes, stage=None, newest_first=False):
    return find_tree(pairs, sizes, stage, newest_first)[0]


def check_tree(pairs, sizes, order, parent, heights):
    """Heights are those of a dense elimination, and the rows of a column below its parent are rows of its parent."""
    filled = dense_factor(pairs, order)
    expected, exact = dense_symbolic(pairs, sizes, order)
    assert np.array_equal(heights, exact)
    for k, p in enumerate(parent):
        below = k + 1 + np.flatnonzero(filled[k + 1 :, k])
        if p < 0:
            assert not len(below)
        else:
            assert k < p <= expected[k] or not filled[p, k]
            assert filled[below[below != p], p].all() and (below >= p).all()


def total_height(pairs, sizes, order):
    graph = neighbours(pairs, len(order))
    parent, heights = np.empty(len(order), dtype=np.int32), np.empty(len(order), dtype=np.int64)
    position = inverse(order)
    elimination_tree(*graph, order, position, parent)
    column_heights(*graph, np.asarray(sizes, dtype=np.int32), order, position, parent, heights)
    return heights.sum()


@settings(max_examples=200, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    n=st.integers(1, 60),
    stages=st.integers(1, 4),
    newest=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@example(shape="nothing", n=0, stages=1, newest=False, seed=0)
def test_every_node_once_and_stage_by_stage(shape, n, stages, newest, seed):
    rng = np.random.default_rng(seed)
    pairs = edges(shape, n, rng)
    sizes = rng.integers(1, 13, n)
    stage = rng.integers(0, stages, n)
    order = find(pairs, sizes, stage, newest)
    assert np.array_equal(np.sort(order), np.arange(n))
    assert (np.diff(stage[order]) >= 0).all()
    assert np.array_equal(find(pairs, sizes, stage, newest), order)


@settings(max_examples=300, deadline=None)
@given(
    shape=st.sampled_from([*SHAPES, "walk", "grid", "parts"]),
    n=st.integers(1, 80),
    stages=st.sampled_from([1, 1, 3]),
    largest=st.sampled_from([1, 6, 12]),
    newest=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@example(shape="nothing", n=0, stages=1, largest=1, newest=False, seed=0)
def test_trees_and_heights_are_exact(shape, n, stages, largest, newest, seed):
    rng = np.random.default_rng(seed)
    if shape == "grid":
        pairs, n = grid(n // 6 + 1, 6), 6 * (n // 6 + 1)
    elif shape == "walk":  # a chain with loops
        pairs = distinct(np.concatenate([edges("chain", n, rng), rng.integers(0, n, (n // 3, 2))]))
    elif shape == "parts":
        pairs = distinct(rng.integers(0, n, (2 * n, 2)))
        pairs = pairs[pairs[:, 0] % 3 == pairs[:, 1] % 3]
    else:
        pairs = edges(shape, n, rng)
    sizes = rng.integers(1, largest + 1, n)
    order, parent, heights = find_tree(pairs, sizes, rng.integers(0, stages, n), newest)
    if parent is None:
        assert np.bincount(pairs.ravel(), minlength=n).max() > 16
    else:
        check_tree(pairs, sizes, order, parent, heights)


def test_an_element_may_be_absorbed_by_a_node_outside_it():
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pairs = distinct(rng.integers(0, 150, (300, 2)))
        order, parent, heights = find_tree(pairs, np.ones(150))
        check_tree(pairs, np.ones(150, dtype=int), order, parent, heights)
        found += (parent != dense_symbolic(pairs, np.ones(150, dtype=int), order)[0]).sum()
    assert found > 0


@settings(max_examples=50, deadline=None)
@given(shape=st.sampled_from(["chain", "star", "forest"]), n=st.integers(1, 60), seed=st.integers(0, 2**32 - 1))
def test_forests_have_no_fill(shape, n, seed):
    pairs = edges(shape, n, np.random.default_rng(seed))
    _, heights = dense_symbolic(pairs, np.ones(n, dtype=int), find(pairs, np.ones(n)))
    assert heights.sum() == len(pairs)


def test_a_heavy_node_is_better_left():
    # a cycle 0 1 2 3: whoever goes first connects its neighbours, and these should not be the heavy pair
    pairs = np.array([(0, 1), (1, 2), (2, 3), (0, 3)])
    assert find(pairs, [10, 1, 10, 1])[0] in (0, 2)
    assert find(pairs, [1, 10, 1, 10])[0] in (1, 3)


def test_dense_rows_come_last_in_their_stage():
    n = 2000
    pairs = np.array([(hub, i) for hub in (0, 1) for i in range(2, n)])
    assert find(pairs, np.ones(n))[-2:].tolist() == [0, 1]
    stage = np.zeros(n, dtype=np.int32)
    stage[[5, 6]] = 1
    assert find(pairs, np.ones(n), stage)[-4:-2].tolist() == [0, 1]
    assert find_tree(pairs, np.ones(n))[1] is None


def test_long_chains():
    n = 100_000
    every = np.arange(n)
    pairs = np.stack([every[:-1], every[1:]], axis=1)
    order, parent, heights = find_tree(pairs, np.full(n, 3))
    assert total_height(pairs, np.full(n, 3), order) == 3 * (n - 1) == heights.sum()
    assert (parent[:-1] > np.arange(n - 1)).all() and parent[-1] == -1


@pytest.mark.parametrize("shape", [(60, 60), (12, 12, 12)])
def test_fill_of_grids_is_far_below_that_of_the_natural_order(shape):
    pairs, n = grid(*shape), int(np.prod(shape))
    natural = total_height(pairs, np.ones(n), np.arange(n, dtype=np.int32))
    for newest_first in (False, True):
        assert total_height(pairs, np.ones(n), find(pairs, np.ones(n), None, newest_first)) < 0.5 * natural


def test_lists_are_moved_together_where_there_is_no_room_left():
    rng = np.random.default_rng(0)
    n = 600
    pairs = distinct(rng.integers(0, n, (3000, 2)))  # fills in entirely, through thousands of elements
    order, parent, heights = find_tree(pairs, np.ones(n))
    assert np.array_equal(np.sort(order), np.arange(n))
    assert total_height(pairs, np.ones(n), order) < 0.5 * n * n / 2
    check_tree(pairs, np.ones(n, dtype=int), order, parent, heights)
