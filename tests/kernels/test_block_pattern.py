"""Blocks of scalar matrices, and where their entries go, against dense masks."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparselm.kernels.block_pattern import find_blocks, neighbours, number_blocks


def pairs_of(matrix, sizes):
    """High and low blocks as they are found, and how many."""
    n = len(sizes)
    offsets, block = np.full(n + 1, -7, dtype=np.int64), np.full(matrix.shape[0], -7, dtype=np.int32)
    number_blocks(sizes, offsets, block)
    assert np.array_equal(offsets, np.append(0, np.cumsum(sizes)))
    assert np.array_equal(block, np.repeat(np.arange(n), sizes))
    high, low = np.full((2, max(matrix.nnz, 1)), -7, dtype=np.int32)
    count = find_blocks(matrix.indptr, matrix.indices, matrix.format == "csc", block, n, high, low)
    return high[: max(count, 0)], low[: max(count, 0)], count


@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(1, 12),
    largest=st.sampled_from([1, 3, 7]),
    density=st.sampled_from([0.05, 0.3, 1.0]),
    whole=st.booleans(),
    triangle=st.booleans(),
    kind=st.sampled_from(["csc", "csr"]),
    seed=st.integers(0, 2**32 - 1),
)
@example(n=0, largest=1, density=1.0, whole=True, triangle=True, kind="csc", seed=0)
def test_pairs_are_those_of_the_lower_triangle(n, largest, density, whole, triangle, kind, seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, largest + 1, n).astype(np.int32)
    block = np.repeat(np.arange(n), sizes)
    blocks = rng.random((n, n)) < density
    mask = (blocks | blocks.T | np.eye(n, dtype=bool))[np.ix_(block, block)]
    if not whole:  # columns of a block that differ
        mask &= rng.random(mask.shape) < 0.7
    mask = np.tril(mask) if triangle else mask
    matrix = sp.csc_array(mask.astype(float)).asformat(kind)
    for begin, end in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):  # sorted or not
        if rng.random() < 0.2:
            rng.shuffle(matrix.indices[begin:end])
    high, low, count = pairs_of(matrix, sizes)
    assert (high > low).all()
    found = np.zeros((n, n), dtype=int)
    np.add.at(found, (high, low), 1)
    rows, columns = np.nonzero(np.tril(mask))
    expected = np.zeros((n, n), dtype=int)
    expected[block[rows], block[columns]] = 1
    assert np.array_equal(found, np.tril(expected, -1))
    major = low if kind == "csc" else high
    assert (np.diff(major) >= 0).all() and count == len(high)


@pytest.mark.parametrize("index", [-1, 6])
def test_an_index_out_of_range_is_told(index):
    matrix = sp.csc_array(np.tril(np.ones((6, 6))))
    matrix.indices[8] = index
    assert pairs_of(matrix, np.full(2, 3, dtype=np.int32))[2] == -1


def test_neighbours_of_both_ends():
    rng = np.random.default_rng(0)
    first, second = np.nonzero(np.triu(rng.random((20, 20)) < 0.3, 1))
    indptr, indices = np.empty(21, dtype=np.int64), np.empty(2 * len(first), dtype=np.int32)
    neighbours(first.astype(np.int32), second.astype(np.int32), indptr, indices)
    for v in range(20):
        expected = np.concatenate([second[first == v], first[second == v]])
        assert np.array_equal(np.sort(indices[indptr[v] : indptr[v + 1]]), np.sort(expected))
