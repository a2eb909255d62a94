"""Fronts: partial Cholesky factorisations against dense NumPy, whole and in stages."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from sparselm._jit import serial_kernel
from sparselm._llvm import UNIT
from sparselm.kernels import fronts, schedule
from sparselm.kernels.fronts import BLOCK
from sparselm.kernels.schedule import (
    ASSEMBLE,
    CHUNK,
    COLUMN,
    COUNTER,
    FACTOR,
    FIRST,
    KIND,
    ROW,
    SIGNAL,
    SOLVE,
    SUBTRACT,
    TARGET,
    TASK_COLUMNS,
)

DTYPES = [np.float64, np.float32]
WIDTHS = [*range(1, 10), 15, 16, 17, 24, 31, 40, 95, 96, 97, 103, 104, 191, 192, 193, 200]
HEIGHTS = [0, 1, 2, 7, 8, 9, 16, 17, 33, 64]
MARGIN = 64


@pytest.fixture(autouse=True, scope="module")
def _one_thread_of_blas():
    """NumPy's own factorisations are small: threads of BLAS would wait for one another."""
    with threadpool_limits(1, user_api="blas"):
        yield


@serial_kernel
def factor_front(L, l, ld, w, m, U, u, ldu, diagonal, tolerance, scale, inverse, bad, p):
    fronts.factor_front(L, l, ld, w, m, U, u, ldu, diagonal, tolerance, scale, inverse, bad, p)


@serial_kernel
def factor_block(L, l, ld, first, last, end, diagonal, tolerance, scale, inverse, bad, p):
    fronts.factor_block(L, l, ld, first, last, end, diagonal, tolerance, scale, inverse, bad, p)


@serial_kernel
def solve_block(L, l, ld, first, last, begin, end, inverse, p):
    fronts.solve_block(L, l, ld, first, last, begin, end, inverse, p)


@serial_kernel
def subtract_products(C, c, ldc, A, a, lda, k, row_begin, row_end, column_begin, column_end):
    fronts.subtract_products(C, c, ldc, A, a, lda, k, row_begin, row_end, column_begin, column_end)


def pad(rows):
    return -(-rows // UNIT) * UNIT


def spd(rng, n):
    G = rng.standard_normal((n, n))
    return G @ G.T + n * np.eye(n)


class Front:
    """A front in arrays of its own, at odd places, with NaN above the diagonal and numbers all around."""

    def __init__(self, M, w, dtype=np.float64, tolerance=0.0, scale=np.nan, extra=0):
        self.M, self.w, self.m, self.dtype = M, w, len(M), dtype
        m, h = self.m, self.m - w
        self.l, self.u, self.p = 5, 11, 3
        self.ld, self.ldu = pad(m) + extra * UNIT, pad(h) + extra * UNIT
        self.L = np.full(self.l + self.ld * w + MARGIN, 7.0, dtype=dtype)
        self.U = np.full(self.u + self.ldu * h + MARGIN, 7.0, dtype=dtype)
        self.panel = self.L[self.l : self.l + self.ld * w].reshape(w, self.ld).T
        self.update = self.U[self.u : self.u + self.ldu * h].reshape(h, self.ldu).T
        self.panel[:m] = np.where(np.tri(m, w, dtype=bool), M[:, :w], np.nan)
        self.panel[m:] = 0.0
        self.update[:h] = np.where(np.tri(h, dtype=bool), M[w:, w:], np.nan)
        self.update[h:] = 0.0
        self.diagonal, self.inverse = np.zeros((2, w + self.p + UNIT), dtype=dtype)
        self.diagonal[self.p : self.p + w] = M.diagonal()[:w]
        self.bad = np.zeros(w + 2 * self.p, dtype=bool)
        self.tolerance, self.scale = dtype(tolerance), dtype(scale)

    def factor(self):
        factor_front(
            self.L, self.l, self.ld, self.w, self.m, self.U, self.u, self.ldu, self.diagonal, self.tolerance,
            self.scale, self.inverse, self.bad, self.p,
        )  # fmt: skip
        return self

    def lower(self):
        """L11 over L21, and U, with zeros above their diagonals."""
        return np.tril(self.panel[: self.m]).astype(float), np.tril(self.update[: self.m - self.w]).astype(float)

    def surroundings(self):
        """What stands before and behind the front's own arrays."""
        return np.concatenate([
            self.L[: self.l], self.L[self.l + self.panel.size :], self.U[: self.u], self.U[self.u + self.update.size :],
        ])  # fmt: skip


def check(front, M):
    """L and U are those of M."""
    w = front.w
    L, U = front.lower()
    full = np.linalg.cholesky(M)
    bound = 30 * np.finfo(front.dtype).eps * np.abs(M).max()
    np.testing.assert_allclose(L, full[:, :w], rtol=0, atol=bound)
    np.testing.assert_allclose(U, np.tril(M[w:, w:] - full[w:, :w] @ full[w:, :w].T), rtol=0, atol=bound)
    inverse = front.inverse[front.p : front.p + w]
    np.testing.assert_allclose(inverse * L.diagonal(), 1.0, rtol=0, atol=8 * np.finfo(front.dtype).eps)
    assert (front.surroundings() == 7.0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("w", WIDTHS)
def test_front(w, dtype):
    rng = np.random.default_rng(w)
    for h in HEIGHTS:
        M = spd(rng, w + h)
        front = Front(M, w, dtype, extra=h % 2).factor()
        check(front, M)
        assert not front.bad.any()


def test_padded():
    for rows in range(70):
        assert fronts.padded(rows) == pad(rows)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0, 1, 7, 8, 50, 95, 96, 99, 109])
def test_a_pivot_that_is_not_positive(p, dtype):
    w, h = 110, 20
    M = spd(np.random.default_rng(p), w + h)
    full = np.linalg.cholesky(M)
    for entry in (-1.0, np.nan):
        N = M.copy()
        N[p, p] = full[p, :p] @ full[p, :p] + entry
        front = Front(N, w, dtype).factor()
        assert front.bad.argmax() == front.p + p
        L, U = front.lower()
        np.testing.assert_allclose(L[:, :p], full[:, :p], rtol=0, atol=30 * np.finfo(dtype).eps * np.abs(M).max())
        assert np.isnan(L[p:, p]).all()
        assert np.isnan(U[np.tril_indices(h)]).all()
        assert np.array_equal(np.flatnonzero(front.bad), front.p + np.arange(p, w))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lost", [[0], [7, 8], [94, 95, 96, 97], [3, 60, 104, 109]])
def test_replaced_pivots(lost, dtype):
    w, h = 110, 20
    rng = np.random.default_rng(w)
    # rows that depend on the ones before them, two by two the same; the first row cannot but be zero
    G = rng.standard_normal((w + h, w + h))
    M = G @ G.T + w * np.eye(w + h)
    for p in lost:
        source = p - 1 if p - 1 not in lost else (p - 2 if p > 1 and p - 2 not in lost else 20)
        if p == 0:
            M[0], M[:, 0] = 0.0, 0.0
        else:
            M[p] = M[source]
            M[:, p] = M[:, source]
    front = Front(M, w, dtype, tolerance=1e-12 if dtype == np.float64 else 1e-4, scale=1.0).factor()
    assert np.array_equal(np.flatnonzero(front.bad), front.p + np.array(lost))
    L, U = front.lower()
    product = L @ L.T
    product[w:, w:] += U + np.tril(U, -1).T
    expected = M.copy()
    for p in lost:
        expected[p, p] = L[p, :p] @ L[p, :p] + (M[p, p] if p else 1.0)
    np.testing.assert_allclose(product, expected, rtol=0, atol=50 * np.finfo(dtype).eps * np.abs(M).max())


def run_stages(front, rng):
    """The tasks of a large front, in any order that their counters allow."""
    w, m = front.w, front.m
    room = np.zeros((4000, TASK_COLUMNS), dtype=np.int64)
    count, ends, last_counter = schedule._cut_large_front(room, 0, 0, w, m, 0, 2, 1)
    tasks = room[:count]
    counters = np.zeros(last_counter + 1, dtype=np.int64)
    pending = list(range(count))
    while pending:
        ready = [t for t in pending if counters[tasks[t, COUNTER]] >= tasks[t, TARGET]]
        assert ready
        t = ready[rng.integers(len(ready))]
        pending.remove(t)
        kind, first, row, column = tasks[t, [KIND, FIRST, ROW, COLUMN]]
        last = min(first + BLOCK, w)
        start = front.l + first * front.ld
        if kind == FACTOR:
            factor_block(
                front.L, front.l, front.ld, first, last, pad(last), front.diagonal, front.tolerance, front.scale,
                front.inverse, front.bad, front.p,
            )  # fmt: skip
        elif kind == SOLVE:
            solve_block(front.L, front.l, front.ld, first, last, row, min(row + CHUNK, m), front.inverse, front.p)
        elif kind == SUBTRACT and column < w:
            subtract_products(
                front.L, front.l, front.ld, front.L, start, front.ld, last - first, row, min(row + CHUNK, m), column,
                min(column + CHUNK, w),
            )  # fmt: skip
        elif kind == SUBTRACT:
            subtract_products(
                front.U, front.u, front.ldu, front.L, start + w, front.ld, last - first, row - w,
                min(row - w + CHUNK, m - w), column - w, min(column - w + CHUNK, m - w),
            )  # fmt: skip
        else:
            assert kind == ASSEMBLE
        counters[tasks[t, SIGNAL]] += 1
    assert counters[1] == ends


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("w", [1, 40, 90, 93, 96, 97, 100, 192, 300, 301])
def test_stages_have_the_same_bits(w, dtype):
    rng = np.random.default_rng(w)
    for h in (0, 1, 3, 4, 7, 8, 9, 130, 257):
        M = spd(rng, w + h)
        whole, cut = Front(M, w, dtype).factor(), Front(M, w, dtype)
        run_stages(cut, rng)
        assert all(np.array_equal(a, b) for a, b in zip(whole.lower(), cut.lower(), strict=True)), h
        assert np.array_equal(whole.inverse, cut.inverse)
        assert (cut.surroundings() == 7.0).all()


def test_stages_mark_the_same_pivots():
    M = spd(np.random.default_rng(0), 330)
    M[150, 150] = -1.0
    whole, cut = Front(M, 300).factor(), Front(M, 300)
    run_stages(cut, np.random.default_rng(1))
    assert np.array_equal(whole.bad, cut.bad) and whole.bad.argmax() == whole.p + 150
