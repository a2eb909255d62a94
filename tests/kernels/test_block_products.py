"""Sums of small products against dense NumPy: every size of C, and nothing touched beyond it."""

import numba
import numpy as np
import pytest
from numba import types

from sparselm._llvm_sums import accumulators
from sparselm.kernels.block_products import MARGIN, sum_products

SIZES = range(1, 18)
DTYPES = {np.float64: types.float64, np.float32: types.float32}
ARGUMENTS = "C, c, ldc, H, h, ldh, A, a, next_a, lda, I, B, b, next_b, ldb, J, begin, end"


def cases(seed):
    """d, ka, kb, sign, and how many entries are fetched ahead: every ka and every kb once, 9 × 9 and 1 × 1 besides."""
    rng = np.random.default_rng(seed)
    sizes = [*zip(SIZES, rng.permutation(SIZES).tolist(), strict=True), (9, 9), (1, 1)]
    for number, (ka, kb) in enumerate(sizes):
        d = 1 + number % 6
        fetched = (d * ka, d * kb) if number % 3 == 0 else (0, 0)
        yield d, ka, kb, (number + seed) % 2, *fetched


def compile_cases(chosen, dtype, of_factors):
    """One compiled function of all cases, told apart by their number: sizes are literals in a call.

    Compiled one by one they took twice as long.
    """
    lines = [f"def run(case, {ARGUMENTS}):"]
    for number, case in enumerate(chosen):
        lines += [f"    if case == {number}:", f"        sum_products({', '.join(map(str, case))}, {ARGUMENTS})"]
    space = {"sum_products": sum_products}
    exec("\n".join(lines), space)
    array, items, i = types.Array(DTYPES[dtype], 1, "C"), types.Array(types.int32, 1, "C"), types.int64
    block = (types.Array(DTYPES[of_factors], 1, "C"), i, i, i, items)
    signature = (i, array, i, i, array, i, i, *block, *block, i, i)
    return numba.njit(signature, fastmath={"contract", "nsz"})(space["run"])


class Blocks:
    """Matrices ``(n, rows, columns)`` by columns in a flat array, NaN between columns, between matrices and at the ends."""

    def __init__(self, rng, n, rows, columns, dtype, start):
        self.start = start
        self.ld = rows + int(rng.integers(0, 4))
        self.next = columns * self.ld + int(rng.integers(0, 5))
        self.values = rng.standard_normal((n, rows, columns)).astype(dtype)
        self.memory = np.full(start + n * self.next + 3, np.nan, dtype=dtype)
        for number, value in enumerate(self.values):
            for column in range(columns):
                at = start + number * self.next + column * self.ld
                self.memory[at : at + rows] = value[:, column]


@pytest.mark.parametrize("ka", SIZES)
def test_accumulators_take_each_entry_once(ka):
    for kb in SIZES:
        taken = np.zeros((ka, kb), dtype=int)
        for part in accumulators(ka, kb):
            if part.along:
                taken[part.row, part.column : part.column + part.lanes] += 1
            else:
                taken[part.row : part.row + part.lanes, part.column] += 1
        assert (taken == 1).all()
    assert len(accumulators(9, 9)) == 11


@pytest.mark.parametrize(
    ("seed", "dtype", "of_factors"),
    [(0, np.float64, np.float64), (0, np.float32, np.float32), (1, np.float64, np.float32)],
)
def test_sums_are_those_of_dense_products(seed, dtype, of_factors):
    chosen = list(cases(seed))
    run = compile_cases(chosen, dtype, of_factors)
    rng = np.random.default_rng(seed)
    for number, (d, ka, kb, negative, *_) in enumerate(chosen):
        A, B = (Blocks(rng, n, k, d, of_factors, start) for n, k, start in ((5, ka, 3), (7, kb, 2)))
        for length, start in ((9, "another"), (4, "zero"), (1, "itself"), (0, "another"), (0, "zero"), (0, "itself")):
            begin = int(rng.integers(0, 3))
            I, J = (rng.integers(0, n, begin + length + MARGIN).astype(np.int32) for n in (5, 7))
            H = Blocks(rng, 2, ka, kb, dtype, 4)
            C = rng.standard_normal(H.next + 20).astype(dtype)
            c, ldc = 5, H.ld
            expected = np.zeros((ka, kb))
            if start == "another":
                h = H.start + H.next  # the second of two
                expected += H.values[1]
            elif start == "itself":
                h = H.start
                expected += H.values[0]
                C, c = H.memory, H.start
            else:
                h = -1
            before = C.copy()
            for t in range(begin, begin + length):
                product = A.values[I[t]].astype(float) @ B.values[J[t]].T.astype(float)
                expected += -product if negative else product
            run(
                number, C, c, ldc, H.memory, h, H.ld, A.memory, A.start, A.next, A.ld, I,
                B.memory, B.start, B.next, B.ld, J, begin, begin + length,
            )  # fmt: skip
            own = c + np.arange(ka)[:, None] + ldc * np.arange(kb)
            error = np.abs(C[own] - expected).max()
            assert error <= 64 * np.finfo(dtype).eps * max(1.0, np.abs(expected).max()), (d, ka, kb, start, length)
            before[own] = C[own]
            assert np.array_equal(before, C, equal_nan=True), (d, ka, kb, start, length)


@pytest.mark.parametrize("precisions", [(np.float64, np.float32, np.float32), (np.float32, np.float32, np.float64)])
def test_mixed_sums_and_factors_of_a_higher_precision_are_refused(precisions):
    @numba.njit
    def run(C, H, A, I):
        sum_products(1, 1, 1, 0, 0, 0, C, 0, 1, H, -1, 1, A, 0, 1, 1, I, A, 0, 1, 1, I, 0, 1)

    with pytest.raises(numba.TypingError, match="sum_products"):
        run(*(np.zeros(1, dtype=dtype) for dtype in precisions), np.zeros(1, dtype=np.int32))
