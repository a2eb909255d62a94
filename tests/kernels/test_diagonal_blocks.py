"""Block-diagonal matrices against dense NumPy: blocks of any sizes, gaps between them, held components."""

import numpy as np
import pytest

from sparselm.kernels.diagonal_blocks import add_to_diagonal, invert_blocks, mirror_blocks, multiply_blocks
from sparselm.threads import use_threads

SIZES = [np.array([], int), np.array([3]), np.array([1, 6, 2, 9, 1, 3]), np.tile([4, 1, 7], 60)]


class Blocks:
    """Symmetric positive definite blocks by columns in a flat array, in an order of their own, NaN between them."""

    def __init__(self, sizes, seed=0):
        rng = np.random.default_rng(seed)
        self.first = np.append(0, np.cumsum(sizes)).astype(np.int64)
        self.values = []
        for size in sizes:
            root = rng.standard_normal((size, size))
            self.values.append(root @ root.T + np.eye(size))
        self.place = np.zeros(len(sizes), dtype=np.int64)
        at = 2
        for k in rng.permutation(len(sizes)):
            self.place[k] = at
            at += sizes[k] ** 2 + rng.integers(0, 3)
        self.memory = np.full(at + 1, np.nan)
        self.taken = np.zeros(len(self.memory), dtype=bool)
        for place, value in zip(self.place, self.values, strict=True):
            self.memory[place : place + value.size] = value.ravel(order="F")
            self.taken[place : place + value.size] = True

    def __iter__(self):
        """Each block as it now stands."""
        for place, value in zip(self.place, self.values, strict=True):
            yield self.memory[place : place + value.size].reshape(value.shape, order="F")

    def clear_upper(self):
        """Leave NaN where only the lower triangle is there."""
        for block in self:
            block[np.triu_indices(len(block), 1)] = np.nan

    def keeps_gaps(self):
        return np.isnan(self.memory[~self.taken]).all()

    @property
    def vector(self):
        return np.random.default_rng(7).standard_normal(int(self.first[-1]))


@pytest.fixture(params=SIZES, ids=len)
def blocks(request):
    return Blocks(request.param)


def test_inverse_reads_the_lower_triangle(blocks):
    blocks.clear_upper()
    bad = np.ones(len(blocks.place), dtype=bool)
    invert_blocks(blocks.first, blocks.place, blocks.memory, bad)
    assert not bad.any()
    for inverse, value in zip(blocks, blocks.values, strict=True):
        np.testing.assert_allclose(inverse, np.linalg.inv(value), rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(inverse, inverse.T)
    assert blocks.keeps_gaps()


def test_blocks_that_are_not_positive_definite_are_told():
    blocks = Blocks(SIZES[-1])
    indefinite = [0, 70, 179]
    for k, block in enumerate(blocks):
        if k in indefinite:
            block[-1, -1] = -1.0
    nan = list(blocks)[100]
    nan[0, 0] = np.nan
    bad = np.zeros(len(blocks.place), dtype=bool)
    invert_blocks(blocks.first, blocks.place, blocks.memory, bad)
    assert np.flatnonzero(bad).tolist() == sorted([*indefinite, 100])


def test_zero_is_not_positive_definite():
    bad = np.zeros(1, dtype=bool)
    invert_blocks(np.array([0, 2]), np.array([0]), np.zeros(4), bad)
    assert bad.all()


def test_product(blocks):
    x, out = blocks.vector, np.full(int(blocks.first[-1]), np.nan)
    multiply_blocks(blocks.first, blocks.place, blocks.memory, x, out)
    for k, value in enumerate(blocks.values):
        own = slice(blocks.first[k], blocks.first[k + 1])
        np.testing.assert_allclose(out[own], value @ x[own], rtol=1e-12, atol=1e-12)


def test_mirror(blocks):
    blocks.clear_upper()
    mirror_blocks(blocks.first, blocks.place, blocks.memory)
    for block, value in zip(blocks, blocks.values, strict=True):
        np.testing.assert_array_equal(block, np.tril(value) + np.tril(value, -1).T)
    assert blocks.keeps_gaps()


def test_damping_is_added_and_infinity_makes_the_identity(blocks):
    rng = np.random.default_rng(1)
    damping = np.where(rng.random(int(blocks.first[-1])) < 0.4, np.inf, rng.random(int(blocks.first[-1])))
    add_to_diagonal(blocks.first, blocks.place, damping, blocks.memory)
    for k, (block, value) in enumerate(zip(blocks, blocks.values, strict=True)):
        own = damping[blocks.first[k] : blocks.first[k + 1]]
        held = np.isinf(own)
        expected = value + np.diag(np.where(held, 0.0, own))
        expected[held] = expected[:, held] = 0.0
        expected[held, held] = 1.0
        np.testing.assert_array_equal(block, expected)
    assert blocks.keeps_gaps()


def test_numbers_do_not_depend_on_threads():
    results = []
    for threads in (1, 2):
        with use_threads(threads):
            blocks = Blocks(SIZES[-1])
            invert_blocks(blocks.first, blocks.place, blocks.memory, np.zeros(len(blocks.place), dtype=bool))
            out = np.empty(int(blocks.first[-1]))
            multiply_blocks(blocks.first, blocks.place, blocks.memory, blocks.vector, out)
        results.append((blocks.memory[blocks.taken], out))
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
