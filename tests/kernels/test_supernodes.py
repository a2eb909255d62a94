"""Supernodes: which blocks they have, their rows and those of their parents, and places of the matrix's blocks."""

import numpy as np
import pytest
from block_graphs import SHAPES, check_postorder, dense_factor, edges, grid, neighbours
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparselm.kernels.front_table import CHILD, ENTRY, HEIGHT, PANEL, PIVOT, RUN, STRIDE, VECTOR, WIDTH
from sparselm.kernels.multifrontal import (
    COLUMN_POSITION,
    COLUMNS,
    LENGTH,
    OWN,
    PLACE,
    ROW_POSITION,
    ROWS,
    SOURCE,
    THEIRS,
)
from sparselm.kernels.supernodes import front_cost, merge_supernodes
from sparselm.linear_solvers.block_cholesky.symbolic import _arrange, build_symbolic
from sparselm.linear_solvers.block_graph import make_graph
from sparselm.linear_solvers.ordering import find_ordering

ALL_SHAPES = [*SHAPES, "grid"]


def draw_graph(shape, n, seed, largest):
    """Blocks, edges, and the symbolic factorisation of one graph."""
    rng = np.random.default_rng(seed)
    pairs = grid(int(np.sqrt(n)), int(np.sqrt(n))) if shape == "grid" else edges(shape, n, rng)
    n = int(np.sqrt(n)) ** 2 if shape == "grid" else n
    sizes = rng.integers(1, largest + 1, n).astype(np.int32)
    turned = rng.random(len(pairs)) < 0.5  # either end may come first
    first, second = np.where(turned, pairs.T[::-1], pairs.T).astype(np.int32)
    graph = make_graph(sizes, first, second)
    choice = ["amd", "natural", rng.permutation(n)][int(rng.integers(3))]
    last = rng.integers(0, 3, n) if rng.random() < 0.3 else None
    return pairs, sizes, find_ordering(graph.indptr, graph.indices, sizes, choice, last), graph


drawn = given(
    shape=st.sampled_from(ALL_SHAPES),
    n=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    largest=st.sampled_from([1, 6, 12]),
)


@settings(max_examples=150, deadline=None)
@drawn
@example(shape="nothing", n=0, seed=0, largest=1)
def test_supernodes_are_connected_and_cost_less(shape, n, seed, largest):
    _, sizes, ordering, _ = draw_graph(shape, n, seed, largest)
    n = len(sizes)
    node, above = np.full((2, n), -7, dtype=np.int32)
    width, height = np.full((2, n), -7, dtype=np.int64)
    count = merge_supernodes(ordering.order, sizes, ordering.parent, ordering.heights, node, above, width, height)
    above, width, height = above[:count], width[:count], height[:count]
    size = sizes[ordering.order]
    assert np.array_equal(np.unique(node), np.arange(count))
    assert np.array_equal(width, np.bincount(node, weights=size, minlength=count))
    last = np.zeros(count, dtype=int)
    last[node] = np.arange(n)  # the last to write
    assert (np.diff(last) > 0).all()
    assert np.array_equal(height, ordering.heights[last])
    inner = np.flatnonzero(last[node] != np.arange(n))
    assert np.array_equal(node[ordering.parent[inner]], node[inner])  # all but the last have their parent in it
    assert np.array_equal(above, np.where(ordering.parent[last] >= 0, node[ordering.parent[last]], -1))
    cost = sum(front_cost(w, h) for w, h in zip(width, height, strict=True))
    assert cost <= sum(front_cost(w, h) for w, h in zip(size, ordering.heights, strict=True)) * (1 + 1e-12)
    for s, p in enumerate(above):  # columns of the same structure are never apart
        children = np.flatnonzero(above == p)
        assert p < 0 or len(children) > 1 or height[s] < width[p] + height[p]

    new = _arrange(sizes, ordering)
    number = np.full(count, -7)
    number[node] = new.owner[new.position[ordering.order]]
    assert np.array_equal(np.sort(number), np.arange(count))
    assert np.array_equal(new.above[number], np.where(above >= 0, number[above], -1))
    assert np.array_equal(new.width[number], width) and np.array_equal(new.height[number], height)
    assert np.array_equal(np.sort(new.order), np.arange(n))
    assert np.array_equal(new.position[new.order], np.arange(n))
    assert np.array_equal(new.head, np.searchsorted(new.owner, np.arange(count + 1)))
    assert (np.diff(new.owner) >= 0).all()
    check_postorder(new.above)
    before = np.argsort(ordering.order)[new.order]
    for s in range(count):
        assert (np.diff(before[new.head[s] : new.head[s + 1]]) > 0).all()  # positions keep their order
        children = np.flatnonzero(new.above == s)
        assert not len(children) or new.height[children[-1]] == new.height[children].max()
        assert (np.diff(np.argsort(number)[children[:-1]]) > 0).all()


@settings(max_examples=150, deadline=None)
@drawn
@example(shape="nothing", n=0, seed=0, largest=1)
def test_rows_and_places_are_exact(shape, n, seed, largest):
    pairs, sizes, ordering, graph = draw_graph(shape, n, seed, largest)
    s_ = build_symbolic(graph, ordering)
    n, count = len(sizes), s_.num_supernodes
    assert np.array_equal(np.sort(s_.order), np.arange(n))
    pattern, before = dense_factor(pairs, s_.order), dense_factor(pairs, ordering.order)
    assert pattern.sum() == before.sum()  # another order of the same tree
    nodes = s_.fronts.nodes
    position = np.argsort(s_.order)
    starts = np.append(0, np.cumsum(sizes))
    assert np.array_equal(s_.offsets, np.append(0, np.cumsum(sizes[s_.order])))
    columns = [np.arange(starts[v], starts[v + 1]) for v in s_.order]
    assert np.array_equal(s_.column, np.concatenate([np.zeros(0, int), *columns]))

    def scalars(blocks):
        return np.concatenate([np.zeros(0, int), *(np.arange(s_.offsets[k], s_.offsets[k + 1]) for k in blocks)])

    panel, vector, scalar_rows = 0, 0, []
    for s in range(count):
        pivots = np.arange(s_.head[s], s_.head[s + 1])
        rows = s_.rows[s_.row_ptr[s] : s_.row_ptr[s + 1]]
        below = pattern[:, pivots].any(axis=1)
        below[pivots] = False
        assert np.array_equal(rows, np.flatnonzero(below))
        scalar_rows.append(scalars([*pivots, *rows]))
        w, h, stride = nodes[s, [WIDTH, HEIGHT, STRIDE]]
        assert w == sizes[s_.order[pivots]].sum() and h == sizes[s_.order[rows]].sum()
        assert stride % 8 == 0 and w + h <= stride < w + h + 8
        assert nodes[s, PANEL] == panel and nodes[s, PIVOT] == s_.offsets[pivots[0]] and nodes[s, VECTOR] == vector
        assert np.array_equal(s_.pivot_row[s_.offsets[pivots[0]] :][:w], vector + np.arange(w))
        panel += w * stride
        vector += stride
    assert s_.factor_size == panel and s_.num_rows == vector

    for s in range(count):  # runs: every row of the update matrix, and the same row of the parent's front
        for child in s_.fronts.children[nodes[s, CHILD] : nodes[s + 1, CHILD]]:
            runs = s_.fronts.runs[nodes[child, RUN] : nodes[child + 1, RUN]]
            own = np.concatenate([np.arange(r[OWN], r[OWN] + r[LENGTH]) for r in runs])
            theirs = np.concatenate([np.arange(r[THEIRS], r[THEIRS] + r[LENGTH]) for r in runs])
            rows = scalar_rows[child][nodes[child, WIDTH] :]
            assert np.array_equal(own, np.arange(len(rows)))
            assert np.array_equal(scalar_rows[s][theirs], rows)
            assert (runs[1:, THEIRS] > runs[:-1, THEIRS] + runs[:-1, LENGTH]).all()  # no two could be one
    listed = s_.fronts.children
    assert len(np.unique(listed)) == len(listed)
    for s in set(range(count)) - set(listed.tolist()):  # a root
        assert nodes[s, HEIGHT] == 0

    used, targets = np.zeros(s_.store_size, int), np.zeros(s_.factor_size, int)
    where, seen = {}, set()
    for s in range(count):
        for entry in s_.fronts.entries[nodes[s, ENTRY] : nodes[s + 1, ENTRY]]:
            row, column = (int(np.searchsorted(s_.offsets, entry[c])) for c in (ROW_POSITION, COLUMN_POSITION))
            assert s_.offsets[row] == entry[ROW_POSITION] and s_.offsets[column] == entry[COLUMN_POSITION]
            assert s_.head[s] <= column < s_.head[s + 1] and row >= column
            assert entry[ROWS] == sizes[s_.order[row]] and entry[COLUMNS] == sizes[s_.order[column]]
            extent = entry[ROWS] * entry[COLUMNS]
            used[entry[SOURCE] : entry[SOURCE] + extent] += 1
            c = entry[COLUMN_POSITION] - nodes[s, PIVOT]
            r = np.flatnonzero(scalar_rows[s] == entry[ROW_POSITION])[0]
            assert entry[PLACE] == c * nodes[s, STRIDE] + r
            at = nodes[s, PANEL] + entry[PLACE]
            for j in range(entry[COLUMNS]):
                targets[at + j * nodes[s, STRIDE] :][: entry[ROWS]] += 1
            where[row, column] = entry[SOURCE]
            seen.add((row, column))
    assert (used == 1).all() and targets.max(initial=0) <= 1
    assert len(where) == len(s_.fronts.entries) == n + graph.num_edges
    for v in range(n):
        assert s_.edge_source[graph.num_edges + v] == where[position[v], position[v]]
        assert not s_.edge_turned[graph.num_edges + v]
    for e in range(graph.num_edges):
        a, b = graph.ends(e)
        row, column = max(position[a], position[b]), min(position[a], position[b])
        assert s_.edge_source[e] == where[row, column]
        assert s_.edge_turned[e] == (s_.order[column] > s_.order[row])


@pytest.mark.parametrize("largest", [1, 12])
def test_stages_stay_above_what_they_wait_for(largest):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pairs = edges("sparse", 30, rng)
        sizes = rng.integers(1, largest + 1, 30).astype(np.int32)
        graph = make_graph(sizes, *pairs.T.astype(np.int32))
        stage = rng.integers(0, 3, 30)
        s_ = build_symbolic(graph, find_ordering(graph.indptr, graph.indices, sizes, "amd", stage))
        row, column = np.nonzero(dense_factor(pairs, s_.order))
        assert (stage[s_.order[row]] >= stage[s_.order[column]]).all()


def test_columns_of_the_same_structure_are_one_supernode():
    n = 30
    pairs = np.array([(i, j) for i in range(n) for j in range(i + 1, n)])
    graph = make_graph(np.full(n, 3, dtype=np.int32), *pairs.T.astype(np.int32))
    s_ = build_symbolic(graph, find_ordering(*neighbours(pairs, n), graph.sizes))
    assert s_.num_supernodes == 1
    assert s_.nonzeros == 90 * 91 // 2
