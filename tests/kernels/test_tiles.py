"""Register tiles against dense NumPy: every number of columns, and nothing touched beyond what is said."""

import numpy as np
import pytest

from sparselm._jit import serial_kernel
from sparselm._llvm import UNIT
from sparselm.kernels import tiles
from sparselm.kernels.tiles import TALL_BYTES, UPDATE_COLUMNS

DTYPES = [np.float64, np.float32]
DEPTHS = [0, 1, 2, 7, 8, 33]
ROWS = [*range(1, 18), 23, 24, 25, 31, 32, 33, 40, 63, 64, 65]


@serial_kernel
def update_tile(tall, columns, C, c, ldc, A, a, b, lda, k):
    if tall:
        tiles.update_tile(True, columns, C, c, ldc, A, a, b, lda, k)
    else:
        tiles.update_tile(False, columns, C, c, ldc, A, a, b, lda, k)


@serial_kernel
def multiply_tile(tall, columns, C, c, ldc, A, a, lda, b, k):
    if tall:
        tiles.multiply_tile(True, columns, C, c, ldc, A, a, lda, b, k)
    else:
        tiles.multiply_tile(False, columns, C, c, ldc, A, a, lda, b, k)


@serial_kernel
def solve_tile(tall, columns, L, c, a, b, t, ld, k, inverse, i):
    if tall:
        tiles.solve_tile(True, columns, L, c, a, b, t, ld, k, inverse, i)
    else:
        tiles.solve_tile(False, columns, L, c, a, b, t, ld, k, inverse, i)


@serial_kernel
def factor_tile(columns, L, c, a, ld, k, diagonal, tolerance, scale, inverse, i):
    return tiles.factor_tile(columns, L, c, a, ld, k, diagonal, tolerance, scale, inverse, i)


@serial_kernel
def forward_tile(columns, L, t, ld, inverse, i, X, x):
    tiles.forward_tile(columns, L, t, ld, inverse, i, X, x)


@serial_kernel
def backward_tile(columns, L, t, ld, rows, inverse, i, X, x):
    tiles.backward_tile(columns, L, t, ld, rows, inverse, i, X, x)


@serial_kernel
def multiply_transposed_tile(columns, X, x, L, b, ld, y, rows):
    tiles.multiply_transposed_tile(columns, X, x, L, b, ld, y, rows)


@serial_kernel
def clear(C, begin, count):
    tiles.clear(C, begin, count)


@serial_kernel
def add_block(rows, columns, C, c, ldc, A, a, lda):
    tiles.add_block(rows, columns, C, c, ldc, A, a, lda)


@serial_kernel
def copy_run(rows, C, c, A, a):
    tiles.copy_run(rows, C, c, A, a)


def window(array, start, rows, columns, ld):
    """A view of a matrix stored by columns in a flat array."""
    size = array.itemsize
    return np.lib.stride_tricks.as_strided(array[start:], (rows, columns), (size, ld * size))


def draw(rng, size, dtype):
    return rng.standard_normal(size).astype(dtype)


def close(actual, expected, dtype, scale=1.0):
    error = np.abs(actual.astype(np.float64) - expected).max(initial=0.0)
    assert error <= 64 * np.finfo(dtype).eps * scale * max(1.0, np.abs(expected).max(initial=0.0)), error


def untouched(before, after, start, rows, columns, ld):
    """All of an array but one block is as it was."""
    mask = np.ones(len(before), dtype=bool)
    for j in range(columns):
        mask[start + j * ld : start + j * ld + rows] = False
    assert np.array_equal(before[mask], after[mask])


def tile_rows(tall, dtype):
    return TALL_BYTES // np.dtype(dtype).itemsize if tall else UNIT


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("columns", "tall"), [*((n, False) for n in range(1, UPDATE_COLUMNS + 1)), (UPDATE_COLUMNS, True)]
)
def test_update_tile(columns, tall, dtype):
    rng = np.random.default_rng(columns)
    rows = tile_rows(tall, dtype)
    for k in DEPTHS:
        ldc, lda = rows + 5, rows + columns + 9
        C, A = draw(rng, ldc * columns + 20, dtype), draw(rng, lda * k + rows + 30, dtype)
        c, a, b = 3, 5, 7  # nothing is aligned
        before = C.copy()
        update_tile(tall, columns, C, c, ldc, A, a, b, lda, k)
        left, right = (window(A, at, m, k, lda).astype(float) for at, m in ((a, rows), (b, columns)))
        close(window(C, c, rows, columns, ldc), window(before, c, rows, columns, ldc) - left @ right.T, dtype)
        untouched(before, C, c, rows, columns, ldc)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tall", [True, False])
@pytest.mark.parametrize("columns", range(1, UPDATE_COLUMNS + 1))
def test_multiply_tile(columns, tall, dtype):
    rng = np.random.default_rng(columns)
    rows = tile_rows(tall, dtype)
    for k in range(9):
        ldc, lda = rows + k + 6, rows + 3
        C, A = draw(rng, ldc * columns + 20, dtype), draw(rng, lda * k + rows + 30, dtype)
        b, c, a = 1, k + 3, 5
        before = C.copy()
        multiply_tile(tall, columns, C, c, ldc, A, a, lda, b, k)
        product = window(A, a, rows, k, lda).astype(float) @ window(before, b, k, columns, ldc)
        close(window(C, c, rows, columns, ldc), window(before, c, rows, columns, ldc) - product, dtype)
        untouched(before, C, c, rows, columns, ldc)


def spd(rng, n):
    G = rng.standard_normal((n, n))
    return G @ G.T + n * np.eye(n)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("columns", "tall"), [*((n, False) for n in range(1, UNIT + 1)), (UNIT, True)])
def test_solve_tile(columns, tall, dtype):
    rng = np.random.default_rng(columns)
    rows = tile_rows(tall, dtype)
    for k in DEPTHS:
        ld = UNIT + rows + 3
        L = draw(rng, ld * (k + columns) + 20, dtype)
        b, a = 2, 2 + UNIT  # rows of the diagonal tile, and of the one that is solved
        t, c = b + k * ld, a + k * ld
        T = np.linalg.cholesky(spd(rng, columns))
        # what stands above the diagonal of T is not read
        window(L, t, columns, columns, ld)[:] = np.where(np.tri(columns, dtype=bool), T, np.nan)
        inverse = np.concatenate([[np.nan] * 3, 1.0 / T.diagonal(), [np.nan]]).astype(dtype)
        before = L.copy()
        solve_tile(tall, columns, L, c, a, b, t, ld, k, inverse, 3)
        left, right = (window(before, at, m, k, ld).astype(float) for at, m in ((a, rows), (b, columns)))
        reduced = window(before, c, rows, columns, ld) - left @ right.T
        close(window(L, c, rows, columns, ld), np.linalg.solve(T, reduced.T).T, dtype, scale=4.0)
        mask = np.isnan(before)
        assert np.array_equal(np.isnan(L), mask)
        untouched(np.where(mask, 0, before), np.where(mask, 0, L), c, rows, columns, ld)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", range(1, UNIT + 1))
def test_factor_tile(columns, dtype):
    rng = np.random.default_rng(columns)
    for k in DEPTHS:
        ld = UNIT + 5
        L = draw(rng, ld * (k + columns) + 20, dtype)
        a = 2
        c = a + k * ld
        A = window(L, a, UNIT, k, ld).astype(float)
        M = spd(rng, UNIT) + A @ A.T
        window(L, c, UNIT, columns, ld)[:] = np.where(np.tri(UNIT, columns, dtype=bool), M[:, :columns], np.nan)
        diagonal = np.concatenate([[np.nan] * 3, M.diagonal()[:columns], [np.nan] * 8]).astype(dtype)
        inverse = np.full(columns + 12, 7.0, dtype=dtype)
        before = L.copy()
        failed = factor_tile(columns, L, c, a, ld, k, diagonal, dtype(0), dtype(np.nan), inverse, 3)
        assert failed == 0
        T = np.linalg.cholesky(M - A @ A.T)[:, :columns]
        lower = np.tri(UNIT, columns, dtype=bool)
        close(window(L, c, UNIT, columns, ld)[lower], T[lower], dtype, scale=4.0)
        close(inverse[3 : 3 + columns], 1 / T.diagonal(), dtype, scale=4.0)
        assert (np.delete(inverse, np.s_[3 : 3 + columns]) == 7.0).all()
        untouched(np.nan_to_num(before), np.nan_to_num(L), c, UNIT, columns, ld)


def one_tile(M, columns, tolerance, scale, dtype=np.float64):
    """The factor of the first columns of M (UNIT, UNIT), the bits of pivots that failed, and reciprocal pivots."""
    L = np.zeros(UNIT * UNIT + 8, dtype=dtype)
    window(L, 0, UNIT, columns, UNIT)[:] = np.tril(M)[:, :columns]
    diagonal, inverse = np.zeros(UNIT, dtype=dtype), np.zeros(UNIT, dtype=dtype)
    diagonal[:] = M.diagonal()
    failed = factor_tile(columns, L, 0, 0, UNIT, 0, diagonal, dtype(tolerance), dtype(scale), inverse, 0)
    return np.tril(window(L, 0, UNIT, columns, UNIT)), [j for j in range(64) if failed >> j & 1], inverse


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", range(UNIT))
def test_pivots_that_are_too_small(p, dtype):
    rng = np.random.default_rng(p)
    M = spd(rng, UNIT)
    L = np.linalg.cholesky(M)
    for pivot in (0.0, -1.0, np.nan):
        N = M.copy()
        N[p, p] = L[p, :p] @ L[p, :p] + pivot * (1 if p else M[0, 0])
        if p and pivot == 0.0:
            N[p, p] -= 1e-5 * N[p, p]  # not saved by rounding
        T, failed, inverse = one_tile(N, UNIT, 0.0, np.nan, dtype)
        assert failed == list(range(p, UNIT))  # what depends on it is NaN, which is no good pivot either
        close(T[:, :p], L[:, :p], dtype, scale=4.0)
        assert np.isnan(T[p:, p]).all() and np.isnan(inverse[p:]).all()
    # replaced by the entry that it comes from
    N = M.copy()
    N[p, :] = N[:, p] = L[:, : max(p, 1)] @ L[0, : max(p, 1)] if p else M[0]  # row p repeats row 0
    if p:
        N[p, p] = M[0, 0]
        T, failed, _ = one_tile(N, UNIT, 1e-4 if dtype == np.float32 else 1e-12, 1.0, dtype)
        assert failed == [p]
        N[p, p] = M[0, 0] + L[0, 0] ** 2
        close(T @ T.T, N, dtype, scale=4.0)
    # or by one where that entry is not positive
    for entry in (0.0, -2.0):
        N = M.copy()
        N[p, :] = N[:, p] = 0.0
        N[p, p] = entry
        T, failed, inverse = one_tile(N, UNIT, 1e-12, 1.0, dtype)
        assert failed == [p]
        close(np.array([inverse[p], T[p, p]]), np.ones(2), dtype)  # of float32 roots the last bit is open
        N[p, p] = 1.0
        close(T @ T.T, N, dtype, scale=4.0)


@pytest.mark.parametrize("columns", range(1, UNIT + 1))
def test_only_the_columns_of_the_tile_are_tested(columns):
    M = np.eye(UNIT)
    M[columns:, columns:] = -1.0
    assert one_tile(M, columns, 0.0, np.nan)[1] == []
    M[columns - 1, columns - 1] = -1.0
    assert one_tile(M, columns, 0.0, np.nan)[1] == [columns - 1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", range(1, UNIT + 1))
def test_forward_tile(columns, dtype):
    rng = np.random.default_rng(columns)
    ld = UNIT + 3
    L = draw(rng, ld * columns + 20, dtype)
    T = np.linalg.cholesky(spd(rng, UNIT))[:, :columns]
    window(L, 2, UNIT, columns, ld)[:] = np.where(np.tri(UNIT, columns, dtype=bool), T, np.nan)
    inverse = np.concatenate([[np.nan], 1 / T.diagonal(), [np.nan]]).astype(dtype)
    X = draw(rng, 30, dtype)
    before = X.copy()
    forward_tile(columns, L, 2, ld, inverse, 1, X, 5)
    y = np.linalg.solve(T[:columns], before[5 : 5 + columns].astype(float))
    close(X[5 : 5 + columns], y, dtype)
    close(X[5 + columns : 5 + UNIT], before[5 + columns : 5 + UNIT] - T[columns:] @ y, dtype)
    untouched(before, X, 5, UNIT, 1, 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", range(1, UNIT + 1))
def test_backward_tile(columns, dtype):
    rng = np.random.default_rng(columns)
    for rows in range(0, 80, UNIT):
        ld = UNIT + rows + 3
        L, X = draw(rng, ld * columns + 30, dtype), draw(rng, rows + 30, dtype)
        T = np.linalg.cholesky(spd(rng, UNIT))[:, :columns]
        window(L, 2, UNIT, columns, ld)[:] = np.where(np.tri(UNIT, columns, dtype=bool), T, np.nan)
        inverse = np.concatenate([[np.nan], 1 / T.diagonal(), [np.nan]]).astype(dtype)
        before = X.copy()
        backward_tile(columns, L, 2, ld, rows, inverse, 1, X, 5)
        below = window(L, 2, UNIT + rows, columns, ld)[columns:].astype(float)
        reduced = before[5 : 5 + columns] - below.T @ before[5 + columns : 5 + UNIT + rows]
        close(X[5 : 5 + columns], np.linalg.solve(T[:columns].T, reduced), dtype, scale=8.0)
        untouched(before, X, 5, columns, 1, 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", range(1, UNIT + 1))
def test_multiply_transposed_tile(columns, dtype):
    rng = np.random.default_rng(columns)
    for rows in range(0, 80, UNIT):
        ld = rows + 3
        L, X = draw(rng, ld * columns + 30, dtype), draw(rng, rows + 40, dtype)
        before = X.copy()
        multiply_transposed_tile(columns, X, 5, L, 2, ld, 20, rows)
        expected = before[5 : 5 + columns] - window(L, 2, rows, columns, ld).T.astype(float) @ before[20 : 20 + rows]
        close(X[5 : 5 + columns], expected, dtype, scale=8.0)
        untouched(before, X, 5, columns, 1, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_clear(dtype):
    for begin, count in ((0, 0), (0, 7), (3, 1), (5, 40), (9, 0)):
        C = np.full(50, np.nan, dtype=dtype)
        clear(C, begin, count)
        assert (C[begin : begin + count] == 0.0).all()
        assert np.isnan(np.delete(C, np.s_[begin : begin + count])).all()


@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("target", DTYPES)
def test_add_block(target, source):
    rng = np.random.default_rng(0)
    for rows in (0, *ROWS):
        for columns in range(9):
            ldc, lda = rows + int(rng.integers(0, 4)), rows + int(rng.integers(0, 4))
            # the arrays end with the blocks: nothing behind them may be read or written either
            C = draw(rng, 3 + ldc * max(columns - 1, 0) + rows, target)
            A = draw(rng, 5 + lda * max(columns - 1, 0) + rows, source)
            before = C.copy()
            add_block(rows, columns, C, 3, ldc, A, 5, lda)
            if rows and columns:
                expected = window(before, 3, rows, columns, ldc) + window(A, 5, rows, columns, lda).astype(target)
                assert np.array_equal(window(C, 3, rows, columns, ldc), expected)
            untouched(before, C, 3, rows, columns, ldc)


@pytest.mark.parametrize("dtype", DTYPES)
def test_copy_run(dtype):
    rng = np.random.default_rng(0)
    for rows in (0, *ROWS):
        C, A = draw(rng, 3 + rows, dtype), draw(rng, 5 + rows, dtype)
        C = np.concatenate([C, draw(rng, 20, dtype)])
        before = C.copy()
        copy_run(rows, C, 3, A, 5)
        assert np.array_equal(C[3 : 3 + rows], A[5:])
        untouched(before, C, 3, rows, 1, 0)
