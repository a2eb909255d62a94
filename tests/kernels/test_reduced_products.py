"""Products with the Schur complement against dense NumPy: by its blocks, through J, and the diagonal that is taken off."""

import numpy as np
import pytest

from sparselm.gather import make_gather
from sparselm.kernels.reduced_products import (
    GATHER,
    SCATTER,
    WHOLE,
    implicit_product,
    projected_diagonal,
    sum_lanes,
    symmetric_product,
)
from sparselm.threads import use_threads

# -- by blocks ---------------------------------------------------------------------------------------------------------


class Rows:
    """A random symmetric matrix of blocks and its lower triangle as rows of blocks; NaN wherever nothing should be read."""

    def __init__(self, sizes, density, seed=0):
        rng = np.random.default_rng(seed)
        n = len(sizes)
        self.first = np.append(0, np.cumsum(sizes)).astype(np.int64)
        S = rng.standard_normal((self.first[-1], self.first[-1]))
        self.dense = np.zeros_like(S)
        high, low = np.nonzero(np.tril(rng.random((n, n)) < density, -1))
        pieces, self.below, self.diagonal = [np.full(3, np.nan)], np.zeros(len(high), np.int64), np.zeros(n, np.int64)
        at = 3

        def store(block):
            nonlocal at
            pieces.append(np.append(block.ravel(order="F"), np.nan))
            at += block.size + 1
            return at - block.size - 1

        for q, (a, b) in enumerate(zip(high, low, strict=True)):
            rows, columns = self._own(a), self._own(b)
            self.dense[rows, columns] = S[rows, columns]
            self.dense[columns, rows] = S[rows, columns].T
            self.below[q] = store(S[rows, columns])
        for a in range(n):
            own = self._own(a)
            block = S[own, own] + S[own, own].T
            self.dense[own, own] = block
            self.diagonal[a] = store(np.where(np.tri(len(block), dtype=bool), block, np.nan))
        self.S = np.concatenate(pieces)
        self.high, self.low = high.astype(np.int32), low.astype(np.int32)
        self.row_ptr = np.append(0, np.cumsum(np.bincount(high, minlength=n))).astype(np.int64)
        self.column_ptr = np.append(0, np.cumsum(np.bincount(low, minlength=n))).astype(np.int64)
        self.column_order = np.argsort(low, kind="stable").astype(np.int32)

    def _own(self, a):
        return slice(self.first[a], self.first[a + 1])

    def multiply(self, k, x):
        y = np.full(len(x), np.nan)
        symmetric_product(k)(
            self.row_ptr, self.high, self.low, self.below, self.column_ptr, self.column_order, self.diagonal, self.first,
            self.S, x, y,
        )  # fmt: skip
        return y


@pytest.mark.parametrize(
    ("k", "sizes", "density"),
    [
        (0, [], 0.5),
        (0, [5], 0.5),
        (0, [1, 6, 3, 9, 2, 2, 7] * 6, 0.3),
        (0, [6] * 40, 0.2),
        (6, [6] * 40, 0.2),
        (6, [6] * 3, 0),
    ],
)
def test_symmetric_product(k, sizes, density):
    rows = Rows(np.array(sizes, dtype=int), density)
    x = np.random.default_rng(1).standard_normal(int(rows.first[-1]))
    y = rows.multiply(k, x)
    np.testing.assert_allclose(y, rows.dense @ x, rtol=1e-11, atol=1e-11)
    with use_threads(1):
        np.testing.assert_array_equal(rows.multiply(k, x), y)


# -- through J ---------------------------------------------------------------------------------------------------------

DIM, D = 2, 3  # of the small problems of other tests, as most widths below are: kernels are compiled once


class Span:
    """Residual blocks of an eliminated operand and kept ones of ``widths``, their J with columns of nobody between them.

    Some rows of the eliminated operand are not eliminated (number −1), some rows are touched by no residual block, and some
    kept blocks are not kept: they begin in the tail of the vectors.
    """

    def __init__(self, widths, seed=0, num_lanes=4, sized=True):
        rng = np.random.default_rng(seed)
        self.widths = widths
        self.sized = sized
        n, m, num_rows = 90, 12, 14
        self.index = rng.integers(0, m, n).astype(np.int32)
        self.columns_total = 20
        width = D + sum(widths) + 3
        self.J = rng.standard_normal((n, DIM, width))
        starts = 1 + np.cumsum([0, D, *widths])
        self.at_e, self.starts = 1, starts[1:-1]
        self.number = np.full(num_rows, -1, dtype=np.int32)
        eliminated = rng.permutation(m)[:9]
        self.number[eliminated] = rng.permutation(9).astype(np.int32)
        tail = self.columns_total
        self.kept, self.column = [], []
        for k in widths:
            self.kept.append(rng.integers(0, 4, n).astype(np.int32))
            column = rng.integers(0, self.columns_total - k + 1, 4).astype(np.int64)
            column[3] = tail
            self.column.append(column)
        ptr = np.append(0, np.cumsum(np.bincount(self.index, minlength=num_rows)))
        self.order = np.argsort(self.index, kind="stable").astype(np.int32)
        self.rows = np.unique(self.index).astype(np.int32)
        self.ptr = np.append(ptr[self.rows], n).astype(np.int64)
        self.lane_row = np.searchsorted(self.ptr, np.arange(num_lanes + 1) * (n / num_lanes)).astype(np.int64)
        self.lane_row[-1] = len(self.rows)
        self.x = np.append(rng.standard_normal(self.columns_total), np.zeros(max(widths)))
        self.inverse = np.zeros((9, D * (D + 1) // 2))
        self.L = []
        for e in range(9):
            root = rng.standard_normal((D, D))
            own = self.number[self.index] == e
            J_e = self.J[own][:, :, self.at_e : self.at_e + D].reshape(-1, D)
            L = np.linalg.cholesky(J_e.T @ J_e + root @ root.T + 0.1 * np.eye(D))
            self.L.append(L)
            self.inverse[e] = np.linalg.inv(L)[np.tril_indices(D)]

    @property
    def dense_kept(self):
        """J_k over the columns, ``(n DIM, columns)``."""
        dense = np.zeros((len(self.J), DIM, len(self.x)))
        for k, start, index, column in zip(self.widths, self.starts, self.kept, self.column, strict=True):
            for b in range(len(self.J)):
                at = column[index[b]]
                dense[b, :, at : at + k] += self.J[b, :, start : start + k]
        return dense[:, :, : self.columns_total].reshape(-1, self.columns_total)

    @property
    def dense_eliminated(self):
        dense = np.zeros((len(self.J), DIM, 9, D))
        for b, e in enumerate(self.number[self.index]):
            if e >= 0:
                dense[b, :, e] = self.J[b, :, self.at_e : self.at_e + D]
        return dense.reshape(-1, 9 * D)

    @property
    def V_inverse(self):
        inverse = np.zeros((9 * D, 9 * D))
        for e, L in enumerate(self.L):
            inverse[e * D : (e + 1) * D, e * D : (e + 1) * D] = np.linalg.inv(L @ L.T)
        return inverse

    def basis(self, dtype):
        Q = np.zeros((len(self.J), DIM, D), dtype=dtype)
        for b, e in enumerate(self.number[self.index]):
            if e >= 0:
                Q[b] = self.J[b, :, self.at_e : self.at_e + D] @ np.linalg.inv(self.L[e]).T
        return Q

    def run(self, mode, w, y, *, with_x=True, Q=None):
        J = self.J if Q is None else self.J.astype(Q.dtype)
        E, at_e = (J, self.at_e) if Q is None else (Q, 0)
        spare = 4 - len(self.widths)
        sizes = (DIM, D, *self.widths, *[0] * spare) if self.sized else (0,) * 6
        indices = (*self.kept, *[self.order] * spare)[:4]
        columns = (*self.column, *[self.ptr] * spare)[:4]
        places = np.zeros((0, 0), dtype=np.int64)
        if not self.sized:
            places = np.stack([column[index] for column, index in zip(self.column, self.kept, strict=True)])
        implicit_product(*sizes, int(Q is not None))(
            mode, with_x, self.lane_row, self.rows, self.ptr, self.order, int(np.diff(self.ptr).max()), self.number,
            self.inverse, J, E, at_e, self.starts, np.array(self.widths), places, *indices, *columns, self.x, w, w, y,
        )  # fmt: skip

    def workspace(self):
        return np.zeros((9, D)), np.zeros((len(self.lane_row) - 1, len(self.x)))


def summed(y):
    out = np.full(y.shape[1], np.nan)
    sum_lanes(y, out)
    assert not y.any()
    return out


CASES = [((6,), True), ((6, 3), True), ((1, 2, 3, 4), True), ((6,), False), ((1, 2, 3, 4, 5), False)]


@pytest.fixture(scope="module", params=CASES, ids=str)
def span(request):
    widths, sized = request.param
    return Span(widths, sized=sized)


def test_whole_product(span):
    w, y = span.workspace()
    span.run(WHOLE, w, y)
    J, E = span.dense_kept, span.dense_eliminated
    expected = J.T @ (J @ span.x[: span.columns_total] - E @ (span.V_inverse @ (E.T @ (J @ span.x[: span.columns_total]))))
    np.testing.assert_allclose(summed(y)[: span.columns_total], expected, rtol=1e-10, atol=1e-10)
    assert not w.any()


def test_gather_and_scatter_are_its_parts(span):
    w, y = span.workspace()
    w[:] = 1.0
    span.run(GATHER, w, y)
    J, E = span.dense_kept, span.dense_eliminated
    v = J @ span.x[: span.columns_total]
    np.testing.assert_allclose(w - 1.0, (E.T @ v).reshape(9, D), rtol=1e-10, atol=1e-10)
    assert not y.any()
    u = np.random.default_rng(5).standard_normal((9, D))
    span.run(SCATTER, u, y)
    np.testing.assert_allclose(summed(y)[: span.columns_total], J.T @ (v - E @ u.ravel()), rtol=1e-10, atol=1e-10)
    span.run(SCATTER, u, y, with_x=False)
    np.testing.assert_allclose(summed(y)[: span.columns_total], -J.T @ (E @ u.ravel()), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("lanes", [1, 3, 16])
def test_lanes_change_nothing_but_rounding(lanes):
    few, many = Span((6,)), Span((6,), num_lanes=lanes)
    results = []
    for span in (few, many):
        w, y = span.workspace()
        span.run(WHOLE, w, y)
        results.append(summed(y)[: span.columns_total])
    np.testing.assert_allclose(*results, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("sized", [True, False])
def test_the_orthonormal_basis_gives_the_same_product(sized):
    span = Span((6, 3), sized=sized)
    w, y = span.workspace()
    span.run(WHOLE, w, y)
    exact = summed(y)[: span.columns_total]
    Q = span.basis(np.float32)
    span.run(WHOLE, w, y, Q=Q)
    np.testing.assert_allclose(summed(y)[: span.columns_total], exact, rtol=0, atol=1e-5 * np.abs(exact).max())
    span.run(GATHER, w, y, Q=Q)
    v = span.dense_kept @ span.x[: span.columns_total]
    expected = np.zeros((9, D))
    for b, e in enumerate(span.number[span.index]):
        if e >= 0:
            expected[e] += v.reshape(-1, DIM)[b] @ Q[b]
    np.testing.assert_allclose(w, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


# -- the diagonal ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(DIM, 6, D), (0, 0, 0)])
@pytest.mark.parametrize("repeats", [1, 40])
def test_projected_diagonal(repeats, sizes):
    """With few residual blocks, and with so many of each kept block that its sum is cut into pieces."""
    span = Span((6,))
    take = np.tile(np.arange(len(span.J)), repeats)
    J, index, kept, k = span.J[take], span.index[take], span.kept[0][take], 6
    gather = make_gather(kept, 4)
    assert (gather.num_slots > 0) == (repeats > 1)
    place = np.array([40, -1, 2, 80])
    A = np.random.default_rng(3).standard_normal(120)
    expected = A.copy()
    for b in range(len(J)):
        e, at = span.number[index[b]], place[kept[b]]
        if e >= 0 and at >= 0:
            J_k = J[b, :, span.starts[0] : span.starts[0] + k]
            Q = J[b, :, span.at_e : span.at_e + D] @ np.linalg.inv(span.L[e]).T
            expected[at : at + k * k] -= (J_k.T @ Q @ Q.T @ J_k).ravel()
    results = []
    for threads in (1, 2):
        out, partial = A.copy(), np.zeros((gather.num_slots, k * k))
        with use_threads(threads):
            projected_diagonal(*sizes)(
                gather.order, gather.piece_row, gather.piece_ptr, gather.piece_slot, gather.split_row, gather.split_ptr,
                gather.task_ptr, J, int(span.starts[0]), span.at_e, k, D, index, span.number,
                span.inverse, place, partial, out,
            )  # fmt: skip
        results.append(out)
    np.testing.assert_allclose(results[0], expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())
    np.testing.assert_array_equal(*results)


# -- small ones --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 5000])
def test_lanes_are_summed_in_order_and_cleared(n):
    parts = np.random.default_rng(0).standard_normal((16, n))
    expected = np.zeros(n)
    for part in parts:
        expected += part
    np.testing.assert_array_equal(summed(parts), expected)
