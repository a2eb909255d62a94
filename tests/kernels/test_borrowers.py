"""Arithmetic of helpers that are called by kernels with reassociation."""

import numba
import numpy as np
import pytest

from sparselm._jit import FASTMATH, borrower, inlined


def scale(y, d):
    for i in range(y.shape[0]):
        y[i] = (y[i] * d[i]) * d[i]


@pytest.mark.parametrize("decorator", [borrower, inlined])
def test_borrowers_are_strict_in_kernels_that_are_not(decorator):
    helper = decorator(scale)

    @numba.njit(fastmath=FASTMATH, error_model="numpy")
    def kernel(y, d):
        helper(y, d)

    rng = np.random.default_rng(0)
    y, d = rng.standard_normal((2, 1000))
    expected = (y * d) * d
    kernel(y, d)
    assert np.array_equal(y, expected)
