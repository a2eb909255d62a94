"""Strips of a factor: what they hold, against a dense factor, and that each comes before those it hands on to."""

import numpy as np
import pytest
import scipy.sparse as sp
from block_graphs import SHAPES, edges
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparselm._llvm import UNIT
from sparselm.kernels.strips import COLUMNS, MOST_ZEROS, POSITION, RUN, VALUES
from sparselm.linear_solvers.block_cholesky import factorize


def unpack(strips, packed, n):
    """L D⁻¹ by position, and whether an entry is stored."""
    L, stored = np.eye(n), np.eye(n, dtype=bool)
    for t in range(len(strips.table) - 1):
        p, columns, v = (int(strips.table[t, k]) for k in (POSITION, COLUMNS, VALUES))
        for j in range(columns):
            for i in range(j + 1, columns):
                L[p + i, p + j], stored[p + i, p + j] = packed[v], True
                v += 1
        for begin, rows in strips.runs[strips.table[t, RUN] : strips.table[t + 1, RUN]]:
            at = slice(begin, begin + rows), slice(p, p + columns)
            assert not stored[at].any()
            L[at], stored[at] = packed[v : v + rows * columns].reshape(columns, rows).T, True
            v += rows * columns
        assert v == strips.table[t + 1, VALUES]
    return L, stored


@settings(max_examples=100, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    n=st.integers(1, 40),
    largest=st.sampled_from([1, 3, 6, 12, 20]),
    ordering=st.sampled_from(["amd", "natural"]),
    seed=st.integers(0, 2**32 - 1),
)
@example(shape="nothing", n=3, largest=1, ordering="amd", seed=0)
def test_strips_hold_the_exact_factor(shape, n, largest, ordering, seed):
    rng = np.random.default_rng(seed)
    pairs = edges(shape, n, rng)
    sizes = rng.integers(1, largest + 1, n)
    place = np.append(0, np.cumsum(sizes))
    A = np.zeros((place[-1], place[-1]))
    for a, b in pairs:
        A[place[a] : place[a + 1], place[b] : place[b + 1]] = rng.standard_normal((sizes[a], sizes[b]))
    A += A.T + np.diag(1.0 + 2.0 * np.abs(A).sum(axis=0) + 2.0 * np.abs(A).sum(axis=1))
    F = factorize(sp.csc_array(A), sizes, ordering=ordering)
    numeric = F._numeric
    symbolic, strips = numeric.symbolic, numeric.symbolic.strips
    table, N = strips.table, len(A)

    columns = table[:-1, COLUMNS]
    assert ((columns >= 1) & (columns <= UNIT)).all() and ((strips.runs[:, 1] >= 1) & (strips.runs[:, 1] <= UNIT)).all()
    covered = np.concatenate([np.arange(p, p + c) for p, c in table[:-1, [POSITION, COLUMNS]]])
    assert np.array_equal(np.sort(covered), np.arange(N))
    number = np.empty(N, dtype=int)  # of the strip at each position
    for t, (p, c) in enumerate(table[:-1, [POSITION, COLUMNS]]):
        number[p : p + c] = t
    for t in range(len(table) - 1):
        for begin, rows in strips.runs[table[t, RUN] : table[t + 1, RUN]]:
            assert (number[begin : begin + rows] > t).all()

    L, stored = unpack(strips, numeric._numbers.packed, N)
    dense = np.linalg.cholesky(A[np.ix_(symbolic.column, symbolic.column)])
    np.testing.assert_allclose(L, dense / np.diag(dense), rtol=0, atol=1e-13)
    exact = symbolic.ordering.nonzeros
    assert exact <= stored.sum() <= exact + MOST_ZEROS * (len(table) - 1)
    assert table[-1, VALUES] == stored.sum() - N


@pytest.mark.parametrize("sides", [1, 2, 3, 8, 11])
@pytest.mark.parametrize("n", [1, 5, 8, 9, 64])
def test_dense_matrices_are_one_chain_of_strips(n, sides):
    rng = np.random.default_rng(n)
    G = rng.standard_normal((n, n))
    A = G @ G.T + n * np.eye(n)
    F = factorize(sp.csc_array(A), n)
    table = F._numeric.symbolic.strips.table
    assert len(table) - 1 == -(-n // UNIT) and table[:-1, POSITION].tolist() == sorted(table[:-1, POSITION])
    b = rng.standard_normal((n, sides))
    np.testing.assert_allclose(F.solve(b), np.linalg.solve(A, b), rtol=0, atol=1e-13)
    np.testing.assert_allclose(np.linalg.cholesky(A) @ F.solve_lower(b), b, rtol=0, atol=1e-12)
