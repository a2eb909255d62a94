"""Elimination trees, postorders and heights against dense symbolic elimination."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparselm.kernels.elimination import column_heights, elimination_tree, postorder

SHAPES = ["sparse", "dense", "chain", "arrow", "star", "forest", "nothing"]


def edges(shape, n, rng):
    if shape == "chain":
        pairs = [(i, i + 1) for i in range(n - 1)]
    elif shape == "arrow":
        pairs = [(i, n - 1) for i in range(n - 1)] + [(i, i + 1) for i in range(n - 1)]
    elif shape == "star":
        pairs = [(0, i) for i in range(1, n)]
    elif shape == "forest":
        pairs = [(i, int(rng.integers(i + 1, n))) for i in range(n - 1) if rng.random() < 0.8]
    else:
        density = {"sparse": 0.15, "dense": 1.0, "nothing": 0.0}[shape]
        pairs = [(i, j) for i in range(n) for j in range(i + 1, n) if rng.random() < density]
    return np.array(sorted({(min(p), max(p)) for p in pairs}), dtype=np.int32).reshape(-1, 2)


def neighbours(pairs, n):
    rows = np.concatenate([pairs[:, 0], pairs[:, 1]])
    columns = np.concatenate([pairs[:, 1], pairs[:, 0]])
    indptr = np.append(0, np.cumsum(np.bincount(rows, minlength=n))).astype(np.int64)
    return indptr, columns[np.argsort(rows, kind="stable")].astype(np.int32)


def inverse(order):
    position = np.empty_like(order)
    position[order] = np.arange(len(order), dtype=order.dtype)
    return position


def analyse(indptr, indices, sizes, order):
    n = len(order)
    position = inverse(order)
    parent = np.empty(n, dtype=np.int32)
    heights = np.empty(n, dtype=np.int64)
    elimination_tree(indptr, indices, order, position, parent)
    column_heights(indptr, indices, sizes, order, position, parent, heights)
    return parent, heights


def dense_symbolic(pairs, sizes, order):
    """Parents and heights by elimination in a dense matrix."""
    n = len(sizes)
    filled = np.eye(n, dtype=bool)
    filled[pairs[:, 0], pairs[:, 1]] = filled[pairs[:, 1], pairs[:, 0]] = True
    filled = filled[np.ix_(order, order)]
    parent, heights = np.full(n, -1), np.zeros(n, dtype=int)
    for k in range(n):
        below = k + 1 + np.flatnonzero(filled[k + 1 :, k])
        filled[np.ix_(below, below)] = True
        heights[k] = sizes[order[below]].sum()
        parent[k] = below[0] if len(below) else -1
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

    post = np.empty(n, dtype=np.int32)
    postorder(parent, heights, post)
    parent_after, heights_after = analyse(*graph, sizes, order[post])
    assert np.array_equal(heights_after, heights[post])  # the fill stays
    number = inverse(post)
    assert np.array_equal(parent_after, np.where(parent[post] < 0, -1, number[parent[post]]))
    _check_postorder(parent_after, heights_after)
    again = np.empty(n, dtype=np.int32)
    postorder(parent_after, heights_after, again)
    assert np.array_equal(again, np.arange(n))


def _check_postorder(parent, weight):
    n = len(parent)
    count = np.ones(n, dtype=int)
    for v in range(n):
        if parent[v] >= 0:
            assert parent[v] > v
            count[parent[v]] += count[v]
    for v in range(n):
        child = v - 1
        while child > v - count[v]:  # children stand one after the other, each behind its own subtree
            assert parent[child] == v
            child -= count[child]
        if count[v] > 1:
            assert weight[v - 1] == weight[np.flatnonzero(parent == v)].max()


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
