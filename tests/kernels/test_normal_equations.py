"""JᵀJ assembled from blocks against dense NumPy."""

import tracemalloc

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparselm import _jit
from sparselm.evaluator import Evaluator
from sparselm.linear_solvers.normal_equations import BlockPattern, NormalEquations
from sparselm.linear_solvers.ordering import find_ordering
from sparselm.problem import Problem
from sparselm.structure import Structure
from sparselm.testing.linear_solvers import SHAPES, LinearBlocks, random_problem


def linearized(problem):
    structure = Structure(problem)
    return structure, Evaluator(problem, structure).linearize()


def dense_normal_matrix(linearization):
    J = linearization.jacobian().toarray()
    return J.T @ J


def lower_triangle(normal, dense):
    return np.tril(normal.dense()) if dense else normal.lower().toarray()


def random_order(structure, rng):
    return rng.permutation(structure.num_blocks).astype(np.int32)


def block_maxima(matrix, starts):
    return np.maximum.reduceat(np.maximum.reduceat(np.abs(matrix), starts, axis=0), starts, axis=1)


@settings(max_examples=60, deadline=None)
@given(shape=st.sampled_from(SHAPES), seed=st.integers(0, 2**32 - 1), dense=st.booleans())
def test_assembled_blocks_are_those_of_the_dense_product(shape, seed, dense):
    rng = np.random.default_rng(seed)
    structure, linearization = linearized(random_problem(shape, rng))
    normal = NormalEquations(BlockPattern(structure), random_order(structure, rng), dense=dense)
    normal.assemble(linearization)
    expected = np.tril(dense_normal_matrix(linearization)[np.ix_(normal.column, normal.column)])
    starts = np.append(0, np.cumsum(np.diff(structure.block_columns)[normal.order]))[:-1]
    error = block_maxima(lower_triangle(normal, dense) - expected, starts)
    # Beside the block's own size: sums cancel, so the rounding is that of its rows and columns.
    norms = np.sqrt(block_maxima(np.diag(np.diagonal(expected)), starts).diagonal())
    assert (error <= 1e-12 * np.maximum(block_maxima(expected, starts), norms[:, None] * norms)).all()


@settings(max_examples=20, deadline=None)
@given(shape=st.sampled_from(SHAPES), seed=st.integers(0, 2**32 - 1))
def test_columns_are_sorted_and_start_on_the_diagonal(shape, seed):
    rng = np.random.default_rng(seed)
    structure = Structure(random_problem(shape, rng))
    normal = NormalEquations(BlockPattern(structure), random_order(structure, rng))
    for j in range(normal.size):
        rows = normal.indices[normal.indptr[j] : normal.indptr[j + 1]]
        assert rows[0] == j
        assert (np.diff(rows) > 0).all()
        assert normal.diagonal_index[j] == normal.indptr[j]


def hub_problem(num_blocks, rng):
    """Everything touches one of two variables: sums of thousands of products, in several tasks and pieces."""
    problem = Problem()
    hub, leaf = (
        problem.add_variables("hub", rng.standard_normal((2, 3))),
        problem.add_variables("leaf", rng.standard_normal((3, 3))),
    )
    problem.add_residuals(
        LinearBlocks(3, (3, 3)),
        hub[rng.integers(0, 2, num_blocks)],
        leaf[rng.integers(0, 3, num_blocks)],
        data=(rng.standard_normal((num_blocks, 3, 6)), rng.standard_normal((num_blocks, 3))),
    )
    return problem


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
@pytest.mark.parametrize("few", [0, _jit.FEW])
@pytest.mark.parametrize("shape", ["hub", "grid", "twice"])
def test_bits_do_not_depend_on_the_number_of_threads(shape, few, monkeypatch):
    """With kernels of known sizes, that larger problems take, and with those for any."""
    monkeypatch.setattr(_jit, "FEW", few)
    rng = np.random.default_rng(1)
    problem = hub_problem(20_000, rng) if shape == "hub" else random_problem(shape, rng)
    structure, linearization = linearized(problem)
    normal = NormalEquations(BlockPattern(structure), random_order(structure, rng))
    values = []
    before = numba.get_num_threads()
    try:
        for threads in (1, 2, 2):
            numba.set_num_threads(threads)
            normal.assemble(linearization)
            values.append(normal.values.copy())
    finally:
        numba.set_num_threads(before)
    assert np.array_equal(values[0], values[1])
    assert np.array_equal(values[0], values[2])
    H = dense_normal_matrix(linearization)[np.ix_(normal.column, normal.column)]
    np.testing.assert_allclose(normal.lower().toarray(), np.tril(H), rtol=0, atol=1e-12 * np.abs(H).max())


@settings(max_examples=20, deadline=None)
@given(shape=st.sampled_from(SHAPES), seed=st.integers(0, 2**32 - 1), dense=st.booleans())
def test_damping_is_added_held_and_taken_back(shape, seed, dense):
    rng = np.random.default_rng(seed)
    structure, linearization = linearized(random_problem(shape, rng))
    normal = NormalEquations(BlockPattern(structure), random_order(structure, rng), dense=dense)
    normal.assemble(linearization)
    plain = lower_triangle(normal, dense)
    for damping in (
        rng.random(normal.size),
        np.where(rng.random(normal.size) < 0.4, np.inf, 1.0),
        np.zeros(normal.size),
    ):
        assert normal.set_damping(damping)
        D = damping[normal.column]
        free = np.isfinite(D)
        expected = plain * (free[:, None] & free) + np.diag(np.where(free, D, 1.0))
        assert np.array_equal(lower_triangle(normal, dense), expected)
        rhs = rng.standard_normal(normal.size)
        assert np.array_equal(normal.permute(rhs), np.where(free, rhs[normal.column], 0.0))
    assert not normal.set_damping(np.full(normal.size, np.nan))


@settings(max_examples=30, deadline=None)
@given(shape=st.sampled_from(SHAPES), seed=st.integers(0, 2**32 - 1))
def test_factor_sizes_are_those_of_a_dense_elimination(shape, seed):
    rng = np.random.default_rng(seed)
    structure = Structure(random_problem(shape, rng))
    pattern = BlockPattern(structure)
    amd = find_ordering(pattern.graph.indptr, pattern.graph.indices, pattern.sizes, "amd")
    assert pattern.factor_sizes(amd.order) == (amd.nonzeros, amd.flops)
    for order in (random_order(structure, rng), amd.order):
        assert sorted(order) == list(range(structure.num_blocks))
        normal = NormalEquations(pattern, order)
        filled = _pattern(normal)
        for j in range(normal.size):
            below = j + np.flatnonzero(filled[j:, j])
            filled[np.ix_(below, below)] = 1.0
        nonzeros, flops = pattern.factor_sizes(order)
        counts = np.tril(filled).sum(axis=0)
        assert nonzeros == counts.sum()
        assert 0.5 * (counts**2).sum() <= flops + 1 <= 2.0 * (counts**2).sum() + 2


def _pattern(normal):
    pattern = np.zeros((normal.size, normal.size))
    columns = np.repeat(np.arange(normal.size), np.diff(normal.indptr))
    pattern[normal.indices, columns] = 1.0
    return pattern


def test_block_at_and_unpermute_undo_the_order():
    rng = np.random.default_rng(3)
    structure = Structure(random_problem("mixed", rng))
    normal = NormalEquations(BlockPattern(structure), random_order(structure, rng))
    for position, column in enumerate(normal.column):
        assert normal.block_at(position) == structure.block_of_column(int(column))
    x, out = rng.standard_normal(normal.size), np.empty(normal.size)
    normal.unpermute(x, out)
    assert np.array_equal(out[normal.column], x)


def test_assembly_allocates_nothing_proportional_to_the_problem():
    structure, linearization = linearized(hub_problem(20_000, np.random.default_rng(0)))
    normal = NormalEquations(BlockPattern(structure), np.arange(structure.num_blocks, dtype=np.int32))
    normal.assemble(linearization)
    normal.set_damping(np.ones(normal.size))
    tracemalloc.start()
    try:
        normal.assemble(linearization)
        normal.set_damping(np.ones(normal.size))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000
