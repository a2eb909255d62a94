"""Kernels of the Schur complement against dense NumPy, and those of its pattern against lists and sets.

Kernels for blocks of known sizes are compiled for some sizes only, and those for any sizes run as Python for all of them.
"""

import math

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparselm._jit import TASK
from sparselm.gather import PIECE, make_gather
from sparselm.kernels import schur
from sparselm.kernels.block_products import MARGIN
from sparselm.kernels.gather import counting_sort
from sparselm.kernels.schur_pattern import count_neighbours, count_pairs, first_kept, list_neighbours, place_pairs

# Sizes of eliminated blocks, and (dim, k, d), with whether they are compiled, and whether for these sizes or for any.
ELIMINATED = [*((d, False) for d in range(1, 7)), (2, True), (3, True)]
PLAIN, ANY, SIZED = "any sizes, Python", "any sizes", "known sizes"
COUPLED = [
    *((1 + (k + d) % 4, k, d, PLAIN) for k in range(1, 10) for d in range(1, 7)),
    *((2, 6, 3, how) for how in (ANY, SIZED)), *((3, 7, 2, how) for how in (ANY, SIZED)),
]  # fmt: skip


def runner(kernel, compiled):
    return kernel if compiled else kernel._function


def coupled_runner(factory, sizes, how):
    return runner(factory(*(sizes if how == SIZED else (0,) * len(sizes))), how != PLAIN)


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * max(1.0, np.abs(expected).max(initial=0.0)))


def some_held(rng, n, d):
    """Damping in which a third of the blocks hold a component or all of them."""
    damping = rng.uniform(0.1, 1.0, (n, d))
    damping[::3][rng.random((len(damping[::3]), d)) < 0.5] = np.inf
    return damping


def inverse_factors(V, damping):
    """L_e⁻¹ dense, with zeros where components are held."""
    inverse = np.zeros_like(V)
    for e, (matrix, d) in enumerate(zip(V, damping, strict=True)):
        free = np.flatnonzero(np.isfinite(d))
        L = np.linalg.cholesky(matrix[np.ix_(free, free)] + np.diag(d[free]))
        inverse[e][np.ix_(free, free)] = np.linalg.inv(L)
    return inverse


def packed(matrices):
    """Lower triangles by rows."""
    return np.ascontiguousarray(matrices[:, *np.tril_indices(matrices.shape[1])])


def random_blocks(rng, n, d):
    """V by columns with NaN above the diagonal, and dense; not positive definite without damping."""
    A = rng.standard_normal((n, d, max(1, d - 1)))
    V = A @ A.transpose(0, 2, 1)
    lower = np.where(np.tri(d, dtype=bool), V, np.nan)
    return np.ascontiguousarray(lower.transpose(0, 2, 1)).reshape(n, d * d), V


@pytest.mark.parametrize(("d", "compiled"), ELIMINATED)
def test_factor_blocks(d, compiled):
    rng = np.random.default_rng(d)
    n = TASK + 5 if compiled else 30
    given_V, V = random_blocks(rng, n, d)
    damping = some_held(rng, n, d)
    held = np.isinf(damping)
    given_V.reshape(n, d, d)[held[:, :, None] | held[:, None, :]] = np.nan  # what is held is not looked at
    inverse = np.full((n, d * (d + 1) // 2), np.nan)
    bad = np.full(-(-n // TASK), 7)
    runner(schur.factor_blocks(d), compiled)(given_V, damping, inverse, bad)
    assert (bad == -1).all()
    close(inverse, packed(inverse_factors(V, damping)))


@pytest.mark.parametrize("pivot", [0.0, -1.0, math.nan])
def test_blocks_that_are_not_positive_definite_are_told(pivot):
    n, d = 2 * TASK + 5, 3
    V = np.tile(np.eye(d).ravel(), (n, 1))
    damping = np.ones((n, d))
    for e, component in ((4, 0), (9, 2), (2 * TASK, 1)):
        V[e, component * (d + 1)] = pivot
        damping[e] = 0.0
    inverse, bad = np.empty((n, d * (d + 1) // 2)), np.empty(3, dtype=np.int64)
    schur.factor_blocks(d)(V, damping, inverse, bad)
    assert bad.tolist() == [4, -1, 2 * TASK]
    good = np.delete(np.arange(n), [4, 9, 2 * TASK])
    close(inverse[good], packed(np.tile(np.eye(d) / math.sqrt(2.0), (len(good), 1, 1))))
    damping[[4, 9, 2 * TASK]] = np.inf  # all held: nothing of them has to be positive
    schur.factor_blocks(d)(V, damping, inverse, bad)
    assert (bad == -1).all() and (inverse[[4, 9, 2 * TASK]] == 0.0).all()


def lower_inverses(rng, n, d):
    """Any triangles will do where factors are only multiplied with, some of them with a held component."""
    dense = np.tril(rng.standard_normal((n, d, d)))
    dense[1, 0, :] = dense[1, :, 0] = 0.0
    return packed(dense), dense


@pytest.mark.parametrize(("dim", "k", "d", "how"), COUPLED)
def test_couple(dim, k, d, how):
    rng = np.random.default_rng([dim, k, d])
    num_blocks, num_slots, stride = 25, 10, k * d + 3
    inverse, dense = lower_inverses(rng, 4, d)
    eliminated = np.sort(rng.integers(0, 4, num_slots)).astype(np.int32)
    at_e, at_k = (2, d + 3) if k % 2 else (k + 1, 0)
    J = np.full((num_blocks, dim, k + d + 4), np.nan)
    J_e, J_k = (rng.standard_normal((num_blocks, dim, width)) for width in (d, k))
    J[:, :, at_e : at_e + d], J[:, :, at_k : at_k + k] = J_e, J_k
    run = coupled_runner(schur.couple, (dim, k, d), how)
    for accumulate in (False, True):
        slots = np.arange(1, num_slots) if not accumulate else np.sort(rng.integers(0, num_slots, 30))
        blocks = rng.integers(0, num_blocks, len(slots))
        cuts = np.searchsorted(slots, [0, 3, 4, num_slots])  # no slot in two tasks
        Y = rng.standard_normal(2 + num_slots * stride)
        expected = Y.copy()
        places = (np.arange(num_slots) * stride)[:, None, None] + np.arange(k)[:, None] + k * np.arange(d)
        if not accumulate:
            expected[places[1:]] = 0.0
            Y[places[1:]] = np.nan
        for b, s in zip(blocks, slots, strict=True):
            expected[places[s]] += J_k[b].T @ J_e[b] @ dense[eliminated[s]].T
        run(
            cuts, blocks.astype(np.int32), slots.astype(np.int32), eliminated, J, at_e, at_k, k, d, inverse, stride,
            accumulate, Y,
        )  # fmt: skip
        close(Y, expected)


@pytest.mark.parametrize(("d", "compiled"), ELIMINATED)
def test_products_with_inverse_factors(d, compiled):
    rng = np.random.default_rng(d)
    n = TASK + 5 if compiled else 30
    column = (rng.permutation(n) * (d + 1) + 2).astype(np.int64)
    inverse, dense = lower_inverses(rng, n, d)
    b = rng.standard_normal(n * (d + 1) + 3)
    own = column[:, None] + np.arange(d)
    expected = np.einsum("nij,nj->ni", dense, b[own])
    b[column[1]] = np.inf  # of the held component
    c = np.full((n, d), np.nan)
    runner(schur.forward_blocks(d), compiled)(inverse, column, b, c)
    close(c, expected)
    x = b.copy()
    b[own] = np.einsum("nji,nj->ni", dense, c)
    runner(schur.backward_blocks(d), compiled)(inverse, column, c, x)
    close(x, b)
    assert x[column[1]] == 0.0

    w, z, outcome = rng.standard_normal((n, d)), rng.standard_normal((n, d)), np.full((n, d), np.nan)
    runner(schur.subtract_forward(d), compiled)(inverse, w, c, outcome)
    close(outcome, c - np.einsum("nij,nj->ni", dense, w))
    for both in (False, True):
        outcome = z.copy()
        runner(schur.apply_inverses(d), compiled)(inverse, outcome, both)
        own = np.einsum("nij,nj->ni", dense, z) if both else z
        close(outcome, np.einsum("nji,nj->ni", dense, own))


@pytest.mark.parametrize(("dim", "k", "d", "how"), COUPLED)
def test_subtract_kept_and_eliminated(dim, k, d, how):
    rng = np.random.default_rng([dim, k, d])
    num_eliminated, num_kept = (40, 3) if how == PLAIN else (3 * PIECE, 5)
    # the first kept block is coupled with every eliminated one: a list that is summed in pieces
    e, a = np.nonzero((rng.random((num_eliminated, num_kept)) < 0.2) | (np.arange(num_kept) == 0))
    stride = k * d + 2
    first = (np.arange(num_kept + 1) * (k + 1) + 1).astype(np.int64)
    Y = rng.standard_normal(len(e) * stride)
    blocks = Y[(np.arange(len(e)) * stride)[:, None, None] + np.arange(k)[:, None] + k * np.arange(d)]
    x, z = rng.standard_normal(first[-1] + 1), rng.standard_normal((num_eliminated, d))
    own = first[:-1, None] + np.arange(k)

    given = z.copy()
    expected = z.copy()
    np.subtract.at(expected, e, np.einsum("nkd,nk->nd", blocks, x[own[a]]))
    cuts = np.searchsorted(e, [0, 7, 8, num_eliminated])
    eliminated, kept = e.astype(np.int32), a.astype(np.int32)
    coupled_runner(schur.subtract_kept, (k, d), how)(cuts, eliminated, kept, first, Y, stride, k, x, z)
    close(z, expected)

    g = make_gather(kept, num_kept)
    assert len(g.split_row) == (how != PLAIN)
    expected = x.copy()
    np.subtract.at(expected, own[a], np.einsum("nkd,nd->nk", blocks, given[e]))
    partial = np.full((g.num_slots, k), np.nan)
    coupled_runner(schur.subtract_eliminated, (k, d), how)(
        g.order, g.piece_row, g.piece_ptr, g.piece_slot, g.split_row, g.split_ptr, g.task_ptr, eliminated, first, Y, stride,
        given, partial, x,
    )  # fmt: skip
    close(x, expected)


@pytest.mark.parametrize("how", [ANY, SIZED])
@pytest.mark.parametrize(("d", "ka", "kb"), [(3, 6, 6), (2, 7, 7), (2, 7, 1), (2, 1, 7)])
def test_subtract_pairs_in_whole_and_in_pieces(d, ka, kb, how):
    rng = np.random.default_rng([d, ka, kb])
    stride_a, stride_b = (-(-k * d // 8) * 8 for k in (ka, kb))
    num_slots, num_sums, area = 30, 11, ka * kb
    Y_a, Y_b = (rng.standard_normal(num_slots * stride) for stride in (stride_a, stride_b))
    counts = rng.integers(0, 40, num_sums)
    counts[[2, 9]] = 0
    end = np.cumsum(counts)
    begin = end - counts
    left, right = rng.integers(0, num_slots, (2, end[-1] + MARGIN)).astype(np.int32)
    target = (rng.permutation(num_sums) * (area + 2) + 3).astype(np.int64)
    source = (rng.permutation(num_sums) * (area + 1) + 1).astype(np.int64)
    source[[1, 2, 5]] = -1
    H, S = rng.standard_normal((2, num_sums * (area + 2) + 9))
    within = np.arange(ka)[:, None] + ka * np.arange(kb)
    expected = S.copy()
    for p in range(num_sums):
        total = H[source[p] + within] if source[p] >= 0 else np.zeros((ka, kb))
        for t in range(begin[p], end[p]):
            a = Y_a[left[t] * stride_a :][: ka * d].reshape(d, ka).T
            b = Y_b[right[t] * stride_b :][: kb * d].reshape(d, kb).T
            total = total - a @ b.T
        expected[target[p] + within] = total
    sizes = d, ka, kb, stride_a, stride_b
    run = coupled_runner(schur.subtract_pairs, sizes, how)
    task_ptr = np.array([0, 3, 3, 4, 10, num_sums])
    counter = np.full(8, 5)
    for lanes in (1, 2, 7):
        whole = S.copy()
        run(task_ptr, begin, end, left, right, target, source, H, Y_a, Y_b, sizes, whole, lanes, counter)
        close(whole, expected)

    # the same sums, the first seven of them cut into pieces of eight pairs
    pieces = [(s, p) for p in range(7) for s in range(begin[p], end[p], 8)]
    at = np.array([s for s, _ in pieces])
    stop = np.minimum(at + 8, end[[p for _, p in pieces]])
    split_ptr = np.searchsorted([p for _, p in pieces], np.arange(8))
    partial = np.full(len(pieces) * area, np.nan)
    places, none = np.arange(len(pieces)) * area, np.full(len(pieces), -1)
    run(np.array([0, len(at)]), at, stop, left, right, places, none, H, Y_a, Y_b, sizes, partial, 2, counter)
    apart = whole.copy()
    apart[target[:7, None, None] + within] = np.nan
    schur.add_partial_sums(split_ptr, partial, area, source[:7], H, target[:7], apart)
    close(apart, expected)


# -- through J and Q: where each slot has one residual block ---------------------------------------------------------------


@pytest.mark.parametrize(("dim", "k", "d", "how"), COUPLED)
def test_orthogonalize_and_products_through_j_and_q(dim, k, d, how):
    rng = np.random.default_rng([dim, k, d])
    num_eliminated, num_kept = (40, 3) if how == PLAIN else (3 * PIECE, 5)
    e, a = np.nonzero((rng.random((num_eliminated, num_kept)) < 0.2) | (np.arange(num_kept) == 0))
    eliminated, kept = e.astype(np.int32), a.astype(np.int32)
    blocks = rng.permutation(len(e)).astype(np.int32)  # the residual block of each slot
    at_e, at_k = (1, d + 2) if k % 2 else (k + 1, 1)
    J = np.full((len(e) + 2, dim, k + d + 4), np.nan)
    J_e, J_k = (rng.standard_normal((len(J), dim, width)) for width in (d, k))
    J[:, :, at_e : at_e + d], J[:, :, at_k : at_k + k] = J_e, J_k
    inverse, dense = lower_inverses(rng, num_eliminated, d)
    index = np.full(len(J), num_eliminated, dtype=np.int32)  # a row that is not eliminated
    index[blocks] = eliminated
    number = np.append(np.arange(num_eliminated), -1).astype(np.int32)
    Q = np.full((len(J), dim, d), np.nan)
    coupled_runner(schur.orthogonalize, (dim, d), how)(J, at_e, index, number, inverse, Q)
    close(Q[blocks], np.einsum("nic,nrc->nir", J_e[blocks], dense[e]))
    assert (Q[len(e) :] == 0.0).all()

    Y = np.einsum("nik,nic->nkc", J_k[blocks], Q[blocks])
    first = (np.arange(num_kept + 1) * (k + 1) + 1).astype(np.int64)
    own = first[:-1, None] + np.arange(k)
    x, z = rng.standard_normal(first[-1] + 1), rng.standard_normal((num_eliminated, d))
    given = z.copy()
    expected = z.copy()
    np.subtract.at(expected, e, np.einsum("nkc,nk->nc", Y, x[own[a]]))
    cuts = np.searchsorted(e, [0, 7, 8, num_eliminated])
    coupled_runner(schur.subtract_kept_through, (dim, k, d), how)(
        cuts, eliminated, kept, blocks, first, J, at_k, k, Q, x, z
    )
    close(z, expected)

    g = make_gather(kept, num_kept)
    assert len(g.split_row) == (how != PLAIN)
    expected = x.copy()
    np.subtract.at(expected, own[a], np.einsum("nkc,nc->nk", Y, given[e]))
    partial = np.full((g.num_slots, k), np.nan)
    coupled_runner(schur.subtract_eliminated_through, (dim, k, d), how)(
        g.order, g.piece_row, g.piece_ptr, g.piece_slot, g.split_row, g.split_ptr, g.task_ptr, eliminated, blocks, first, J,
        at_k, Q, given, partial, x,
    )  # fmt: skip
    close(x, expected)


@pytest.mark.parametrize("how", [ANY, SIZED])
@pytest.mark.parametrize(
    ("dim", "d", "ka", "kb", "precision"),
    [(2, 3, 9, 9, np.float64), (2, 3, 9, 9, np.float32), (3, 2, 9, 1, np.float64), (1, 1, 1, 9, np.float64),
     (3, 6, 7, 17, np.float64)],
)  # fmt: skip
def test_subtract_projected_pairs(dim, d, ka, kb, precision, how):
    rng = np.random.default_rng([dim, d, ka, kb])
    n, num_sums, area, width, at_a, at_b = 30, 11, ka * kb, ka + kb + 3, 2, ka + 2
    J, Q = rng.standard_normal((n, dim, width)).astype(precision), rng.standard_normal((n, dim, d))
    J[:, :, :2] = J[:, :, -1] = np.nan
    counts = rng.integers(0, 40, num_sums)
    counts[2] = 0
    end = np.cumsum(counts)
    begin = end - counts
    left, right = rng.integers(0, n, (2, end[-1] + MARGIN)).astype(np.int32)
    target, source = (rng.permutation(num_sums) * (area + 2) + 3 for _ in range(2))
    source[[1, 2, 5]] = -1
    H, S = rng.standard_normal((2, num_sums * (area + 2) + 9))
    within = np.arange(ka)[:, None] + ka * np.arange(kb)
    expected = S.copy()
    for p in range(num_sums):
        total = H[source[p] + within] if source[p] >= 0 else np.zeros((ka, kb))
        for i, j in zip(left[begin[p] : end[p]], right[begin[p] : end[p]], strict=True):
            total = total - J[i, :, at_a : at_a + ka].T @ Q[i] @ Q[j].T @ J[j, :, at_b : at_b + kb]
        expected[target[p] + within] = total
    coupled_runner(schur.subtract_projected_pairs, (dim, width, d, ka, kb), how)(
        np.array([0, 3, 3, 4, 10, num_sums]), begin, end, left, right, target, source, H, J, at_a, at_b, Q, (ka, kb), S, 2,
        np.full(8, 5),
    )  # fmt: skip
    close(S, expected)


# -- the pattern ---------------------------------------------------------------------------------------------------------


class Graph:
    """Random couplings in the form that the kernels take, and in lanes that are cut anywhere."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.rng = rng
        self.num_eliminated, self.num_kept = rng.integers(0, 12), int(rng.integers(1, 9))
        e, k = np.nonzero(rng.random((self.num_eliminated, self.num_kept)) < rng.random())
        self.eliminated, self.kept = e.astype(np.int32), k.astype(np.int32)
        self.ptr = np.searchsorted(e, np.arange(self.num_eliminated + 1))
        self.by_ptr, self.by_order = counting_sort(self.kept, self.num_kept)
        cuts = np.sort(rng.integers(0, self.num_kept + 1, rng.integers(0, 4)))
        self.lane_ptr = np.concatenate([[0], cuts, [self.num_kept]])
        self.lists = [self.kept[begin:end].tolist() for begin, end in zip(self.ptr[:-1], self.ptr[1:], strict=True)]

    @property
    def arguments(self):
        return self.lane_ptr, self.by_ptr, self.by_order, self.eliminated, self.ptr, self.kept

    def marks(self):
        return np.zeros((len(self.lane_ptr) - 1, self.num_kept), dtype=np.int32)

    def pairs(self):
        return {(a, b) for blocks in self.lists for a in blocks for b in blocks if b < a}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_neighbours_are_those_of_the_lists(seed):
    graph = Graph(seed)
    counts = np.full(graph.num_kept, -1)
    count_neighbours(*graph.arguments, graph.marks(), counts)
    expected = graph.pairs()
    assert counts.tolist() == [sum(a == high for high, _ in expected) for a in range(graph.num_kept)]
    row_ptr = np.append(0, np.cumsum(counts))
    high, low = np.full((2, row_ptr[-1]), -1, dtype=np.int32)
    list_neighbours(*graph.arguments, row_ptr, graph.marks(), high, low)
    assert sorted(zip(high.tolist(), low.tolist(), strict=True)) == sorted(expected)
    assert (np.diff(high) >= 0).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_pairs_of_each_block_are_those_of_the_lists(seed):
    graph = Graph(seed)
    rng, n = graph.rng, graph.num_kept
    # blocks of the complement that are none of this graph's, too
    others = {(a, b) for a in range(n) for b in range(a) if rng.random() < 0.2}
    blocks = sorted(graph.pairs() | others)
    row_ptr = np.searchsorted([a for a, _ in blocks], np.arange(n + 1))
    low = np.array([b for _, b in blocks], dtype=np.int32)
    numbers = rng.permutation(len(blocks) + n).astype(np.int32)
    number, own = numbers[: len(blocks)].copy(), numbers[len(blocks) :]
    number[rng.random(len(blocks)) < 0.2] = -1  # left out
    turned = rng.random(len(numbers)) < 0.5
    turned[own] = False
    slot = rng.permutation(len(graph.kept)).astype(np.int32)
    expected = [[] for _ in numbers]
    for e, kept in enumerate(graph.lists):
        slot_of = dict(zip(kept, slot[graph.ptr[e] : graph.ptr[e + 1]].tolist(), strict=True))
        for a in kept:
            expected[own[a]].append((slot_of[a], slot_of[a]))
            for b in kept:
                if b < a:
                    which = number[blocks.index((a, b))]
                    pair = (slot_of[a], slot_of[b])
                    if which >= 0:
                        expected[which].append(pair[::-1] if turned[which] else pair)
    counts = np.zeros(len(numbers), dtype=np.int64)
    rows = row_ptr, low, number
    count_pairs(*graph.arguments, *rows, own, graph.marks(), counts)
    assert counts.tolist() == [len(some) for some in expected]
    ptr = np.append(0, np.cumsum(counts))
    left, right = np.full((2, ptr[-1] + MARGIN), -7, dtype=np.int32)
    fill = ptr[:-1].copy()
    place_pairs(*graph.arguments, slot, *rows, turned, own, graph.marks(), fill, left, right)
    assert np.array_equal(fill, ptr[1:])
    found = list(zip(left[: ptr[-1]].tolist(), right[: ptr[-1]].tolist(), strict=True))
    assert found == [pair for some in expected for pair in some]
    assert (left[ptr[-1] :] == -7).all() and (right[ptr[-1] :] == -7).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_first_kept(seed):
    graph = Graph(seed)
    n, rng = graph.num_kept, graph.rng
    given = np.concatenate([np.arange(len(graph.kept)), rng.integers(0, max(1, len(graph.kept)), 9)])
    if not len(graph.kept):
        given = given[:0]
    rng.shuffle(given)  # in any order, some of them twice
    first, second = np.full((2, graph.num_eliminated), n, dtype=np.int32)
    first_kept(graph.eliminated[given], graph.kept[given], first, second)
    for blocks, lowest, next_one in zip(graph.lists, first, second, strict=True):
        assert [lowest, next_one] == sorted([*blocks, n, n])[:2]


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
def test_a_long_list_is_summed_alike_by_one_and_two_threads():
    rng = np.random.default_rng(0)
    k, d, n = 7, 2, 20 * PIECE
    kept = rng.integers(0, 2, n).astype(np.int32)
    g = make_gather(kept, 2)
    Y, z = rng.standard_normal(n * k * d), rng.standard_normal((n, d))
    first, eliminated = np.array([0, k, 2 * k]), np.arange(n, dtype=np.int32)
    results = []
    before = numba.get_num_threads()
    try:
        for threads in (1, 2):
            numba.set_num_threads(threads)
            x, partial = np.zeros(2 * k), np.empty((g.num_slots, k))
            schur.subtract_eliminated(k, d)(
                g.order, g.piece_row, g.piece_ptr, g.piece_slot, g.split_row, g.split_ptr, g.task_ptr, eliminated, first, Y,
                k * d, z, partial, x,
            )  # fmt: skip
            results.append(x)
    finally:
        numba.set_num_threads(before)
    assert np.array_equal(*results)
