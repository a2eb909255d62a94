"""Elimination trees, postorders and heights against dense symbolic elimination."""

import numpy as np
import pytest
from block_graphs import SHAPES, check_postorder, dense_symbolic, edges, inverse, neighbours
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparselm.kernels.elimination import column_heights, elimination_tree, factor_sizes, postorder


def analyse(indptr, indices, sizes, order):
    n = len(order)
    position = inverse(order)
    parent = np.empty(n, dtype=np.int32)
    heights = np.empty(n, dtype=np.int64)
    elimination_tree(indptr, indices, order, position, parent)
    column_heights(indptr, indices, sizes, order, position, parent, heights)
    return parent, heights


@settings(max_examples=150, deadline=None)
@given(shape=st.sampled_from(SHAPES), n=st.integers(1, 30), seed=st.integers(0, 2**32 - 1))
@example(shape="nothing", n=0, seed=0)
def test_tree_and_heights_are_those_of_a_dense_elimination(shape, n, seed):
    rng = np.random.default_rng(seed)
    pairs = edges(shape, n, rng)
    sizes = rng.integers(1, 13, n).astype(np.int32)
    order = rng.permutation(n).astype(np.int32)
    graph = neighbours(pairs, n)
    parent, heights = analyse(*graph, sizes, order)
    expected_parent, expected_heights = dense_symbolic(pairs, sizes, order)
    assert np.array_equal(parent, expected_parent)
    assert np.array_equal(heights, expected_heights)
    k, h = sizes[order], heights
    nonzeros, flops = factor_sizes(sizes, order, heights)
    assert nonzeros == (k * (k + 1) // 2 + k * h).sum()
    assert flops == pytest.approx((k**3 / 3 + k * k * h + k * h * h).sum())

    post = np.empty(n, dtype=np.int32)
    postorder(parent, heights, post)
    parent_after, heights_after = analyse(*graph, sizes, order[post])
    assert np.array_equal(heights_after, heights[post])  # the fill stays
    number = inverse(post)
    assert np.array_equal(parent_after, np.where(parent[post] < 0, -1, number[parent[post]]))
    check_postorder(parent_after)
    for v in set(parent_after[parent_after >= 0]):  # the highest child stands beside its parent
        assert heights_after[v - 1] == heights_after[parent_after == v].max()
    again = np.empty(n, dtype=np.int32)
    postorder(parent_after, heights_after, again)
    assert np.array_equal(again, np.arange(n))


def test_equal_weights_keep_children_ascending():
    parent = np.array([4, 3, 4, 4, -1, 6, -1], dtype=np.int32)
    post = np.empty(7, dtype=np.int32)
    postorder(parent, np.zeros(7), post)
    assert post.tolist() == [0, 2, 1, 3, 4, 5, 6]


@pytest.mark.parametrize("forward", [True, False])
def test_long_chains(forward):
    n = 100_000
    every = np.arange(n, dtype=np.int32)
    indptr, indices = neighbours(np.stack([every[:-1], every[1:]], axis=1), n)
    order = every if forward else every[::-1].copy()
    parent, heights = analyse(indptr, indices, np.full(n, 3, dtype=np.int32), order)
    assert np.array_equal(parent, np.append(every[1:], -1))
    assert np.array_equal(heights, np.append(np.full(n - 1, 3), 0))
    post = np.empty(n, dtype=np.int32)
    postorder(parent, heights, post)
    assert np.array_equal(post, every)
