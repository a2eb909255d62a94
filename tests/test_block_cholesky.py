"""Block Cholesky factorisations of SciPy matrices against dense LAPACK, and by their backward errors."""

import os
import threading
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numba
import numpy as np
import pytest
import scipy.sparse as sp
from block_graphs import SHAPES, distinct, edges, grid
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial import Delaunay
from threadpoolctl import threadpool_limits

from sparselm.errors import SolverError, SparselmError
from sparselm.io.g2o import read_g2o
from sparselm.kernels.front_table import PANEL, STRIDE, WIDTH
from sparselm.kernels.schedule import FRONT, SUBTREES
from sparselm.kernels.solve_schedule import TRIANGLE
from sparselm.kernels.strips import solve_strips
from sparselm.linear_solvers.block_cholesky import NotPositiveDefiniteError, analyze, factorize
from sparselm.linear_solvers.block_cholesky import numeric as numeric_module
from sparselm.linear_solvers.block_cholesky import strips as strips_module
from sparselm.threads import use_threads

PRECISIONS = ["float64", "float32"]
PATHS = ["strips", "fronts"]
TWO = min(2, numba.config.NUMBA_NUM_THREADS)


@pytest.fixture(autouse=True, scope="module")
def _one_thread_of_blas():
    """NumPy's own factorisations are small: threads of BLAS would wait for one another."""
    with threadpool_limits(1, user_api="blas"):
        yield


@contextmanager
def solving_by(path):
    """Solves as with small factors, or as with large ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strips_module, "MOST_ENTRIES", 10**9 if path == "strips" else 0)
        yield


# -- matrices ----------------------------------------------------------------------------------------------------------


def ranges(sizes):
    starts = np.append(0, np.cumsum(sizes))
    return [np.arange(a, b) for a, b in pairwise(starts)]


def random_pairs(shape, n, rng):
    if shape == "grid":
        return grid(max(int(np.sqrt(n)), 1), -(-n // max(int(np.sqrt(n)), 1)))
    if shape == "dense rows":
        hubs = rng.integers(0, n, 2)
        return distinct(np.concatenate([edges("chain", n, rng), [(h, i) for h in hubs for i in range(n)]]))
    if shape == "disconnected":
        pairs = edges("dense", n, rng)
        return pairs[pairs[:, 0] // 4 == pairs[:, 1] // 4]
    return edges(shape, n, rng)


def spd_blocks(pairs, sizes, rng, kind="good"):
    """A dense positive definite matrix with blocks at the pairs: a sum of squares over pairs, and a diagonal."""
    place = ranges(sizes)
    A = np.zeros((sum(sizes), sum(sizes)))
    for a, b in pairs:
        at = np.concatenate([place[a], place[b]])
        G = rng.standard_normal((max(sizes[a], sizes[b]), len(at)))
        A[np.ix_(at, at)] += G.T @ G
    if kind == "dependent":  # condition number of about 1e12
        return A + 1e-11 * max(1.0, np.abs(A).max()) * np.eye(len(A))
    A += np.eye(len(A)) * (1.0 + 0.1 * np.abs(A).max())
    if kind == "scaled":
        D = np.repeat(10.0 ** rng.uniform(-7.0, 7.0, len(sizes)), sizes)
        A = D[:, None] * A * D
    return A


def compress(major, minor, data, count):
    """``data, indices, indptr`` of entries sorted by ``major`` only: in any order within, and none summed."""
    order = np.argsort(major, kind="stable")
    return data[order], minor[order].astype(np.int32), np.append(0, np.cumsum(np.bincount(major, minlength=count)))


def dress(A, rng):
    """The matrix in one of the many ways that SciPy has to store it, its upper triangle being whatever it likes."""
    n = len(A)
    upper = rng.choice(["there", "absent", "spoilt"])
    B = np.where(np.tri(n, dtype=bool), A, {"there": A, "absent": 0.0, "spoilt": np.where(A == 0, 0, np.nan)}[upper])
    format = str(rng.choice(["csc", "csr", "bsr"]))
    if format == "bsr":
        r, c = (int(rng.choice([k for k in (1, 2, 3, 4, 5, 6) if n % k == 0])) for _ in range(2))
        tiles = B.reshape(n // r, r, n // c, c).swapaxes(1, 2)
        row, column = np.nonzero((tiles != 0).any(axis=(2, 3)))
    else:
        tiles, r = B, 1
        row, column = np.nonzero(B)
    values = tiles[row, column]
    if rng.random() < 0.5:  # some are there twice
        twice = np.flatnonzero(rng.random(len(row)) < 0.3)
        values[twice] *= 0.5
        row, column = np.append(row, row[twice]), np.append(column, column[twice])
        values = np.concatenate([values, values[twice]])
    if rng.random() < 0.5:
        shuffled = rng.permutation(len(row))
        row, column, values = row[shuffled], column[shuffled], values[shuffled]
    kind = "array" if rng.random() < 0.5 else "matrix"
    major, minor = (column, row) if format == "csc" else (row, column)
    return getattr(sp, f"{format}_{kind}")(compress(major, minor, values, n // r), shape=(n, n))


def largest_sum(A):
    """‖A‖∞"""
    return abs(A).sum(axis=1).max() if A.shape[0] else 0.0


def check_backward(A, x, b, factor=1.0):
    """‖b − A x‖∞ ≤ 1e-14 √n (‖A‖∞ ‖x‖∞ + ‖b‖∞), side by side."""
    x, b = (v.reshape(A.shape[0], v.size // max(A.shape[0], 1)).T for v in (x, b))
    for solution, side in zip(x, b, strict=True):
        error = np.abs(side - A @ solution).max(initial=0.0)
        scale = largest_sum(A) * np.abs(solution).max(initial=0.0) + np.abs(side).max(initial=0.0)
        assert error <= factor * 1e-14 * np.sqrt(A.shape[0]) * scale, error / scale


def scalar_order(F):
    """Column of the matrix at each scalar position of the factor."""
    place = ranges(F.analysis.block_sizes)
    return np.concatenate([np.zeros(0, int), *(place[v] for v in F.analysis.order)])


def check_against_lapack(F, A, logdet=True):
    """L, by its inverse, and log det of a well conditioned matrix."""
    order = scalar_order(F)
    L = np.linalg.cholesky(A[np.ix_(order, order)])
    P = np.eye(len(A))[order]
    inverse = F.solve_lower(np.eye(len(A)))
    expected = np.linalg.solve(L, P)
    np.testing.assert_allclose(inverse, expected, rtol=0, atol=1e-11 * np.abs(expected).max())
    back = F.solve_upper(np.eye(len(A)))
    np.testing.assert_allclose(back, expected.T, rtol=0, atol=1e-11 * np.abs(expected).max())
    assert F.logdet() == pytest.approx(np.linalg.slogdet(A)[1], rel=1e-12, abs=1e-10)


# -- random matrices ---------------------------------------------------------------------------------------------------


@settings(max_examples=250, deadline=None)
@given(
    shape=st.sampled_from([*SHAPES, "grid", "dense rows", "disconnected"]),
    n=st.integers(1, 30),
    largest=st.sampled_from([1, 3, 6, 12]),
    kind=st.sampled_from(["good", "scaled", "dependent"]),
    ordering=st.sampled_from(["auto", "amd", "natural", "given"]),
    threads=st.sampled_from([1, TWO]),
    path=st.sampled_from(PATHS),
    seed=st.integers(0, 2**32 - 1),
)
@example(shape="nothing", n=1, largest=1, kind="good", ordering="auto", threads=1, path="strips", seed=0)
def test_random_matrices(shape, n, largest, kind, ordering, threads, path, seed):
    with solving_by(path):
        check_random_matrix(shape, n, largest, kind, ordering, threads, np.random.default_rng(seed))


def check_random_matrix(shape, n, largest, kind, ordering, threads, rng):
    pairs = random_pairs(shape, n, rng)
    n = max(n, int(pairs.max(initial=0)) + 1)
    sizes = rng.integers(1, largest + 1, n)
    A = spd_blocks(pairs, sizes, rng, kind)
    if ordering == "given":
        ordering = rng.permutation(n)
    F = factorize(dress(A, rng), sizes, ordering=ordering, num_threads=threads)
    for sides in ((), (1,), (2,), (7,), (8,), (20,)):
        b = rng.standard_normal((len(A), *sides))
        x = F.solve(b)
        assert x.shape == b.shape and x.dtype == np.float64
        check_backward(A, x, b)
    assert np.array_equal(np.sort(F.analysis.order), np.arange(n))
    assert F.num_perturbed == 0 and len(F.perturbed_blocks) == 0
    if kind == "good":
        check_against_lapack(F, A)
        b = rng.standard_normal(len(A))
        np.testing.assert_allclose(F.solve(b), np.linalg.solve(A, b), rtol=0, atol=1e-12 * np.abs(b).max())
    d = rng.uniform(0.0, 1.0, len(A))
    F.redamp(d)
    check_backward(A + np.diag(d), F.solve(b := d + 1.0), b)
    F.redamp(None)
    check_backward(A, F.solve(b), b)
    B = spd_blocks(pairs, sizes, rng, kind)
    if np.array_equal(A != 0, B != 0):
        G = factorize(sp.csc_array(A), sizes)
        G.refactorize(sp.csc_array(B))
        assert np.array_equal(G.solve(b), factorize(sp.csc_array(B), sizes).solve(b))


@settings(max_examples=60, deadline=None)
@given(shape=st.sampled_from([*SHAPES, "grid", "dense rows"]), n=st.integers(2, 25), seed=st.integers(0, 2**32 - 1))
def test_the_block_at_which_it_breaks_down(shape, n, seed):
    rng = np.random.default_rng(seed)
    pairs = random_pairs(shape, n, rng)
    n = max(n, int(pairs.max(initial=0)) + 1)
    sizes = rng.integers(1, 7, n)
    A = spd_blocks(pairs, sizes, rng)
    good = sp.csc_array(A)
    for column in rng.integers(0, len(A), 3):
        A[column, column] -= 2.0 * A[column, column]
    F = factorize(good, sizes)
    with pytest.raises(NotPositiveDefiniteError) as caught:
        F.refactorize(sp.csc_array(A))
    order = scalar_order(F)
    S = A[np.ix_(order, order)]
    for k in range(len(A)):  # dense elimination
        if S[k, k] <= 0:
            break
        S[k + 1 :, k + 1 :] -= np.outer(S[k + 1 :, k], S[k, k + 1 :]) / S[k, k]
    block = int(np.repeat(np.arange(n), sizes)[order[k]])
    assert caught.value.block == block
    assert f"block {block} ({sizes[block]} columns)" in str(caught.value)
    assert isinstance(caught.value, np.linalg.LinAlgError) and isinstance(caught.value, SparselmError)
    for use in (F.solve, F.solve_lower, F.solve_upper, lambda _: F.logdet()):
        with pytest.raises(SolverError, match="the last factorisation failed"):
            use(np.ones(len(A)))
    F.refactorize(good)
    check_backward(good, F.solve(np.ones(len(A))), np.ones(len(A)))


@settings(max_examples=80, deadline=None)
@given(
    shape=st.sampled_from([*SHAPES, "grid", "dense rows"]),
    n=st.integers(1, 25),
    precision=st.sampled_from(PRECISIONS),
    path=st.sampled_from(PATHS),
    seed=st.integers(0, 2**32 - 1),
)
def test_damping_and_held_components(shape, n, precision, path, seed):
    with solving_by(path):
        check_damping(shape, n, precision, np.random.default_rng(seed))


def check_damping(shape, n, precision, rng):
    pairs = random_pairs(shape, n, rng)
    n = max(n, int(pairs.max(initial=0)) + 1)
    A = spd_blocks(pairs, sizes := rng.integers(1, 7, n), rng)
    d = 10.0 ** rng.uniform(-3.0, 3.0, len(A))
    d[rng.random(len(A)) < 0.3] = 0.0
    d[rng.random(len(A)) < rng.choice([0.0, 0.3, 1.0])] = np.inf
    free = np.isfinite(d)
    F = factorize(dress(A, rng), sizes, damping=d, precision=precision)
    reduced = A[np.ix_(free, free)] + np.diag(d[free])
    for b in (rng.standard_normal(len(A)), rng.standard_normal((len(A), 9))):
        kept = b.copy()
        x = F.solve(b)
        assert np.array_equal(b, kept)
        assert (x[~free] == 0.0).all()
        check_backward(reduced, x[free], b[free])
        if precision == "float64":
            halves = F.solve_upper(F.solve_lower(b))
            assert np.array_equal(halves, x)
    # the determinant is that of the components that are free
    digits = 1e-12 if precision == "float64" else 1e-5
    assert F.logdet() == pytest.approx(np.linalg.slogdet(reduced)[1], rel=digits, abs=10 * digits * len(A))
    F.redamp(None)  # nothing is held any more, and the matrix is still there
    check_backward(A, F.solve(b), b)


@settings(max_examples=60, deadline=None)
@given(shape=st.sampled_from([*SHAPES, "grid"]), n=st.integers(1, 25), seed=st.integers(0, 2**32 - 1))
def test_float32_with_refinement_is_as_good_as_float64(shape, n, seed):
    rng = np.random.default_rng(seed)
    pairs = random_pairs(shape, n, rng)
    n = max(n, int(pairs.max(initial=0)) + 1)
    A = spd_blocks(pairs, sizes := rng.integers(1, 7, n), rng, "dependent")
    # a condition number of at most 1e5
    A += 1e-5 * np.linalg.norm(A, 2) * np.eye(len(A))
    F = factorize(dress(A, rng), sizes, precision="float32")
    exact = factorize(sp.csc_array(A), sizes)
    b = rng.standard_normal((len(A), 3))
    x = F.solve(b)
    check_backward(A, x, b)
    np.testing.assert_allclose(x, exact.solve(b), rtol=0, atol=1e-10 * np.abs(x).max())
    rough = F.solve(b, refine=0)
    assert np.abs(rough - x).max() <= 0.3 * np.abs(x).max()
    refined = exact.solve(b, refine=2)
    check_backward(A, refined, b, factor=0.1)
    assert np.abs(refined - exact.solve(b)).max() <= 1e-10 * np.abs(x).max()


# -- matrices as collections have them ---------------------------------------------------------------------------------


def laplacian(*shape):
    """Of a grid, with a boundary that is held."""
    n = int(np.prod(shape))
    pairs = grid(*shape)
    A = sp.coo_array((-np.ones(len(pairs)), tuple(pairs.T)), shape=(n, n))
    return (A + A.T + 2 * len(shape) * sp.eye_array(n)).tocsc()


def finite_elements(num_points, k, rng):
    """Random element matrices on a triangulation, k unknowns a point."""
    triangles = Delaunay(rng.random((num_points, 2))).simplices
    G = rng.standard_normal((len(triangles), 3 * k, 3 * k))
    elements = G.transpose(0, 2, 1) @ G
    at = (triangles[:, :, None] * k + np.arange(k)).reshape(len(triangles), -1)
    rows, columns = np.repeat(at, 3 * k, axis=1), np.tile(at, 3 * k)
    n = num_points * k
    A = sp.coo_array((elements.ravel(), (rows.ravel(), columns.ravel())), shape=(n, n)).tocsc()
    return A + 1e-3 * sp.eye_array(n, format="csc")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("block_sizes", [1, 2, 3])
@pytest.mark.parametrize("name", ["plane", "space", "elements"])
@pytest.mark.parametrize("path", PATHS)
def test_matrices_of_collections(path, name, block_sizes, precision):
    with solving_by(path):
        check_matrix_of_a_collection(name, block_sizes, precision, np.random.default_rng(block_sizes))


def check_matrix_of_a_collection(name, block_sizes, precision, rng):
    A = {
        "plane": lambda: laplacian(24, 36),
        "space": lambda: laplacian(6, 9, 12),
        "elements": lambda: finite_elements(300, block_sizes, rng),
    }[name]()
    x = rng.standard_normal((A.shape[0], 3))
    b = A @ x
    for matrix in (A, A.tocsr(), sp.tril(A, format="csc"), sp.csr_matrix(sp.tril(A)), A.tobsr((block_sizes, 3))):
        F = factorize(matrix, block_sizes, precision=precision)
        check_backward(A, F.solve(b), b)
    dense = A.toarray()
    if precision == "float64":
        order = scalar_order(F)
        L = np.linalg.cholesky(dense[np.ix_(order, order)])
        np.testing.assert_allclose(
            F.solve_upper(np.eye(len(L)))[:, :5],
            np.linalg.solve(L.T, np.eye(len(L)))[np.argsort(order), :5],
            rtol=0,
            atol=1e-10,
        )
        assert F.analysis.nonzeros >= np.count_nonzero(np.abs(L) > 1e-14)


@pytest.mark.parametrize("path", PATHS)
def test_other_right_hand_sides(path):
    A = laplacian(9, 8)
    with solving_by(path):
        F = factorize(A, 2)
    b = np.arange(72 * 20, dtype=np.float64).reshape(72, 20) % 17
    x = F.solve(b)
    assert x.flags.c_contiguous
    for other in (
        np.asfortranarray(b),
        b.astype(int),
        b.astype(np.float32),
        b.tolist(),
        np.repeat(b, 2, axis=1)[:, ::2],
    ):
        assert np.array_equal(F.solve(other), x)
    for k in range(20):
        alone, together = F.solve(b[:, k]), F.solve(b[:, : k + 1])
        np.testing.assert_allclose(alone, x[:, k], rtol=1e-13)
        assert np.array_equal(together, x[:, : k + 1] if k > 1 or path == "fronts" else F.solve(b[:, :2])[:, : k + 1])
        assert np.array_equal(alone, together[:, -1]) or (k > 1 and path == "strips")
    assert F.solve(b[:, :0]).shape == (72, 0)
    assert F.solve_lower(b[:, :0]).shape == (72, 0)
    assert np.array_equal(F.solve_upper(F.solve_lower(b)), x)


# -- semi-definite matrices --------------------------------------------------------------------------------------------


def graph_laplacian(pairs, n, k, rng):
    """A pose graph without a prior: Σ w (x_i − x_j)², the same for k components."""
    weights = rng.uniform(0.5, 2.0, len(pairs))
    A = sp.coo_array((-weights, tuple(pairs.T)), shape=(n, n))
    A = A + A.T
    return sp.kron(sp.diags_array(-A.sum(axis=1)) + A, sp.eye_array(k)).tocsc()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("k", [1, 3, 6])
def test_consistent_singular_systems(k, parts, precision):
    rng = np.random.default_rng(k)
    one = grid(9, 9)
    pairs = np.concatenate([one + 81 * part for part in range(parts)])
    n = 81 * parts
    A = graph_laplacian(pairs, n, k, rng)
    F = factorize(A, k, precision=precision, pivot_tolerance=1e-12 if precision == "float64" else 1e-5)
    order = F.analysis.order
    ends = [v for i, v in enumerate(order) if v // 81 not in order[i + 1 :] // 81]
    assert F.num_perturbed == parts * k
    assert F.perturbed_blocks.tolist() == ends  # the last one of each part
    b = A @ rng.standard_normal((n * k, 3))
    x = F.solve(b)
    assert np.abs(b - A @ x).max() <= 1e-12 * np.abs(b).max()
    held = x.reshape(n, k, 3)[ends]
    assert np.abs(held).max() <= (1e-12 if precision == "float64" else 1e-5) * np.abs(x).max()
    with pytest.raises(NotPositiveDefiniteError):
        factorize(A - 1e-6 * sp.eye_array(n * k), k)


def test_rows_of_zeros():
    A = np.diag([2.0, 0.0, 3.0, 0.0])
    A[0, 2] = A[2, 0] = 1.0
    F = factorize(sp.csc_array(A + 0.0), pivot_tolerance=1e-12)
    assert sorted(F.perturbed_blocks) == [1, 3] and F.num_perturbed == 2
    np.testing.assert_allclose(F.solve([3.0, 0.0, 4.0, 0.0]), [1, 0, 1, 0], rtol=0, atol=1e-15)
    with pytest.raises(NotPositiveDefiniteError):
        factorize(sp.csc_array(A))
    G = factorize(sp.csc_array((4, 4)), 2, pivot_tolerance=0.0)
    assert G.num_perturbed == 4 and G.logdet() == 0.0


# -- other values, other patterns --------------------------------------------------------------------------------------


def test_refactorize_reads_values_of_the_same_pattern_only():
    rng = np.random.default_rng(0)
    A = finite_elements(60, 2, rng)
    b = rng.standard_normal(120)
    F = factorize(A, 2)
    first = F.solve(b)
    B = A.copy()
    B.data *= 3.0
    F.refactorize(B)
    check_backward(B, F.solve(b), b)
    d = np.full(120, 2.0)
    F.refactorize(A, damping=d)
    check_backward(A + 2.0 * sp.eye_array(120), F.solve(b), b)
    F.refactorize(A)
    assert np.array_equal(F.solve(b), first)
    assert np.array_equal(F.analysis.factorize(A).solve(b), first)
    one_more = A + sp.csc_array(([1.0], ([119], [0])), (120, 120))
    others = [A.tocsr(), sp.tril(A, format="csc"), A[:-2, :-2].tocsc(), A.toarray(), one_more, A.astype(complex)]
    for other in others:
        message = "complex" if np.iscomplexobj(other) else "another pattern"
        with pytest.raises(SolverError, match=message):
            F.refactorize(other)
        with pytest.raises(SolverError, match=message):
            F.analysis.factorize(other)
        assert np.array_equal(F.solve(b), first)  # the factor is as it was
    for damping in (-1.0, np.ones(7)):
        with pytest.raises(SolverError, match="damping"):
            F.refactorize(B, damping=damping)
        with pytest.raises(SolverError, match="damping"):
            F.redamp(damping)
        assert np.array_equal(F.solve(b), first)
    F.redamp(2.0)
    check_backward(A + 2.0 * sp.eye_array(120), F.solve(b), b)
    F.redamp(np.inf)
    assert not F.solve(b).any()
    F.redamp(None)
    assert np.array_equal(F.solve(b), first)
    A.data[:] = 0.0  # ours, not the factor's
    F.redamp(None)
    assert np.array_equal(F.solve(b), first)


def test_block_rows_of_another_shape_are_another_pattern():
    B = sp.bsr_array(np.kron(np.eye(2), [[2.0, 1.0], [1.0, 2.0]]), blocksize=(2, 2))
    F = factorize(B, 2)
    C = sp.bsr_array((np.ones((2, 2, 1)), B.indices, B.indptr), shape=(4, 4))
    with pytest.raises(SolverError, match="another pattern"):
        F.refactorize(C)


def test_arrays_longer_than_what_is_in_use():
    A = sp.csc_array(np.diag([1.0, 2.0, 4.0]))
    A.data, A.indices = np.append(A.data, np.full(500, np.nan)), np.append(A.indices, np.zeros(500, np.int32))
    F = factorize(A)
    np.testing.assert_allclose(F.solve(np.ones(3)), [1.0, 0.5, 0.25], rtol=1e-15)
    F.refactorize(A)
    np.testing.assert_allclose(F.solve(np.ones(3)), [1.0, 0.5, 0.25], rtol=1e-15)


# -- orders ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_last_blocks_are_last(seed):
    rng = np.random.default_rng(seed)
    n = 40
    A = spd_blocks(edges("sparse", n, rng), sizes := rng.integers(1, 5, n), rng)
    for last in (rng.random(n) < 0.2, rng.integers(0, 4, n)):
        F = factorize(sp.csc_array(A), sizes, last=last)
        order = scalar_order(F)
        stage = np.repeat(last, sizes)[order].astype(int)
        L = np.linalg.cholesky(A[np.ix_(order, order)])
        row, column = np.nonzero(np.abs(L) > 1e-13)
        assert (stage[row] >= stage[column]).all()
        check_against_lapack(F, A)


def test_given_orders():
    rng = np.random.default_rng(0)
    n = 30
    A = spd_blocks(edges("sparse", n, rng), sizes := rng.integers(1, 5, n), rng)
    matrix = sp.csc_array(A)
    for ordering in ("natural", rng.permutation(n)):
        analysis = analyze(matrix, sizes, ordering=ordering)
        assert analysis.ordering == ("natural" if isinstance(ordering, str) else "given")
        wanted = np.arange(n) if isinstance(ordering, str) else ordering
        # whoever depends on whom, the wanted order has it
        place = ranges(sizes)
        columns = np.concatenate([place[v] for v in wanted])
        L = np.linalg.cholesky(A[np.ix_(columns, columns)])
        block = np.repeat(wanted, sizes[wanted])
        row, column = np.nonzero(np.abs(L) > 1e-13)
        at = np.argsort(analysis.order)
        assert (at[block[row]] >= at[block[column]]).all()
        check_against_lapack(analysis.factorize(matrix), A)


def test_an_analysis_can_be_extended():
    rng = np.random.default_rng(0)
    n, more = 200, 10
    pairs = grid(10, 20)
    sizes = np.full(n + more, 3)
    A = spd_blocks(pairs, sizes[:n], rng)
    new = np.stack([np.arange(n - 1, n + more - 1), np.arange(n, n + more)], axis=1)
    B = spd_blocks(np.concatenate([pairs, new, [(0, n + more - 1)]]), sizes, rng)
    first = analyze(sp.csc_array(A), 3, ordering="amd")
    second = analyze(sp.csc_array(B), 3, previous=first)
    order = np.append(first.order, np.arange(n, n + more))
    assert second.ordering == "amd"
    assert second.nonzeros == analyze(sp.csc_array(B), 3, ordering=order).nonzeros
    check_against_lapack(second.factorize(sp.csc_array(B)), B)
    # again from there; the same matrix extends itself
    assert np.array_equal(analyze(sp.csc_array(B), 3, previous=second).order, second.order)
    # blocks that touch everything old in turn are better ordered anew
    many = distinct(np.concatenate([pairs, rng.integers(0, n, (400, 2))]))
    C = sp.csc_array(spd_blocks(many, sizes[:n], rng))
    third = analyze(C, 3, previous=first)
    assert third.flops <= analyze(C, 3, ordering=first.order).flops
    with pytest.raises(SolverError, match="a graph of 200 blocks does not extend one of 210"):
        analyze(sp.csc_array(A), 3, previous=second)
    empty = analyze(sp.csc_array((0, 0)))
    G = analyze(sp.csc_array(A), 3, previous=empty).factorize(sp.csc_array(A))
    check_backward(A, G.solve(np.ones(600)), np.ones(600))


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_the_smallest_ones():
    F = factorize(sp.csc_array((0, 0)))
    assert F.solve(np.zeros(0)).shape == (0,) and F.solve(np.zeros((0, 3))).shape == (0, 3)
    assert F.logdet() == 0.0 and F.analysis.nonzeros == 0 and F.analysis.num_supernodes == 0
    assert factorize(sp.csc_array((0, 0)), np.zeros(0, int)).solve_lower(np.zeros(0)).shape == (0,)
    F = factorize(sp.csr_array([[4.0]]))
    assert F.solve([2.0]).tolist() == [0.5] and F.logdet() == pytest.approx(np.log(4.0))
    assert F.solve_lower([2.0]).tolist() == [1.0]
    d = np.linspace(1.0, 9.0, 1000)
    for block_sizes in (1, 8):
        F = factorize(sp.diags_array(d).tocsc(), block_sizes)
        np.testing.assert_allclose(F.solve(d), 1.0, rtol=1e-15)
        assert F.logdet() == pytest.approx(np.log(d).sum(), rel=1e-14)
    F = factorize(sp.diags_array([1e308] * 3).tocsc())  # the sum of which is not finite
    np.testing.assert_allclose(F.solve(np.full(3, 1e308)), 1.0, rtol=1e-15)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("ordering", ["amd", "natural"])
def test_long_chains(ordering, precision):
    n = 100_000
    A = sp.diags_array([-np.ones(2 * n - 2), np.full(2 * n, 2.5), -np.ones(2 * n - 2)], offsets=[-2, 0, 2]).tocsc()
    F = factorize(A, 2, ordering=ordering, precision=precision)
    b = np.random.default_rng(0).standard_normal(2 * n)
    check_backward(A, F.solve(b), b)
    assert F.logdet() == pytest.approx(
        2 * n * np.log(2.0) + 2 * np.log(4 / 3), rel=1e-12 if precision == "float64" else 1e-6
    )


def test_more_than_two_to_the_31_entries():
    # a chain of blocks of 1000: fronts of 1000 pivots and as many rows below, but for the last
    n, k = 1500, 1000
    every = np.arange(n) * k
    rows, columns = np.concatenate([every, every[1:]]), np.concatenate([every, every[:-1]])
    A = sp.csc_matrix((np.ones(len(rows)), (rows, columns)), shape=(n * k, n * k))
    analysis = analyze(A, k, ordering="natural")
    assert analysis.nonzeros == n * (k * (k + 1) // 2) + (n - 1) * k * k > 2**31
    nodes = analysis._symbolic.fronts.nodes
    assert nodes.dtype == np.int64
    panel = [int(w) * int(stride) for w, stride in nodes[:-1, [WIDTH, STRIDE]]]
    assert nodes[:, PANEL].tolist() == np.cumsum([0, *panel], dtype=object).tolist()
    source = analysis._symbolic.edge_source
    assert source.dtype == np.int64 and np.array_equal(np.sort(source), np.arange(2 * n - 1) * k * k)
    factor, store = sum(panel), (2 * n - 1) * k * k
    assert 8 * (factor + store) < analysis.memory < 8.1 * (factor + store)
    target = analysis._target
    assert target.max() == (2 * n - 2) * k * k > 2**31 and target.min() == 0


def test_memory_is_what_is_allocated():
    A = laplacian(60, 60)
    F = factorize(sp.kron(A, sp.eye_array(3)).tocsc(), 3, num_threads=1)
    F.solve(np.ones(A.shape[0] * 3))
    numeric = F._numeric
    arrays = [*numeric._numbers, numeric._damping, numeric._held, numeric._solve_numbers.fronts, numeric._vector]
    allocated = sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
    assert F.analysis.memory == pytest.approx(allocated, rel=0.02)


# -- threads -----------------------------------------------------------------------------------------------------------


def large_matrix(name, rng):
    """A matrix, its block sizes, and which tasks it has."""
    if name == "dense":
        G = rng.standard_normal((1500, 1500))
        return sp.csc_matrix(np.tril(G @ G.T + 100.0 * np.eye(1500))), 6
    if name == "small":
        pairs, n, k = grid(8, 8), 64, 6
    elif name == "grid" or "SPARSELM_DATA" not in os.environ:
        pairs, n, k = (grid(60, 60), 3600, 6) if name in ("grid", "sphere2500") else (grid(4, 900), 3600, 3)
    else:
        path = Path(os.environ["SPARSELM_DATA"]) / "g2o" / f"{name}.g2o.xz"
        if not path.exists():
            pytest.skip(f"{path.name} is not there")
        graph = read_g2o(path)
        pairs, n, k = distinct(graph.edges), len(graph.ids), 3 if name == "M3500" else 6
    low, high = pairs.T
    G = rng.standard_normal((len(pairs), k, k))
    rows = np.concatenate([high, np.arange(n)])
    order = np.lexsort((np.concatenate([low, np.arange(n)]), rows))
    degree = np.bincount(pairs.ravel(), minlength=n)
    diagonal = np.eye(k) * (1.0 + 4.0 * k * degree)[:, None, None]
    data = np.concatenate([G, diagonal])[order]
    indptr = np.append(0, np.cumsum(np.bincount(rows, minlength=n)))
    return sp.bsr_matrix((data, np.concatenate([low, np.arange(n)])[order], indptr), shape=(n * k, n * k)), k


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["small", "grid", "dense", "sphere2500", "M3500"])
@pytest.mark.parametrize("path", PATHS)
def test_bits_do_not_depend_on_threads(path, name, precision, monkeypatch):
    monkeypatch.setattr(numeric_module, "SERIAL", 0.0)  # of small matrices and solves too
    monkeypatch.setattr(numeric_module, "SERIAL_SOLVE", 0)
    with solving_by(path):
        check_bits(name, precision)


def check_bits(name, precision):
    A, k = large_matrix(name, np.random.default_rng(0))
    n = A.shape[0]
    b = np.random.default_rng(1).standard_normal((n, 3))
    analysis = analyze(A, k)
    kinds = set(analysis._symbolic.tasks[:, 0].tolist())
    assert name != "dense" or not kinds & {SUBTREES, FRONT}
    one = analysis.factorize(A, precision=precision, num_threads=1)
    two = analysis.factorize(A, precision=precision, num_threads=TWO)
    expected = (one.solve(b), one.solve_lower(b), one.logdet())
    full = A + sp.tril(A, -1).T
    check_backward(full.tocsr(), expected[0], b)
    for _ in range(3):
        two.redamp(None)
        assert np.array_equal(two.solve(b), expected[0])
        assert np.array_equal(two.solve_lower(b), expected[1])
        assert two.logdet() == expected[2]
    bad = A.copy()
    bad.data[len(bad.data) // 2] += -1.0e6 * np.abs(bad.data).max()
    blocks = []
    for F in (one, two):
        with pytest.raises(NotPositiveDefiniteError) as caught:
            F.refactorize(bad)
        blocks.append(caught.value.block)
    assert blocks[0] == blocks[1]


def test_bits_do_not_depend_on_the_threads_of_the_analysis():
    """Large fronts within a thread's subtree are done as those that several threads work on."""
    k, rng = 6, np.random.default_rng(4)
    cliques, blocks = 6, 84
    pairs = [np.array([(i, j) for i in range(blocks) for j in range(i)]) + c * blocks for c in range(cliques)]
    n = cliques * blocks + 8
    hub = np.array([(i, c * blocks + 3) for i in range(n - 8, n) for c in range(cliques)])
    A = sp.csc_array(spd_blocks(np.concatenate([*pairs, hub]), [k] * n, rng))
    b = rng.standard_normal((n * k, 3))
    results = []
    for threads in (1, TWO):
        with solving_by("fronts"), use_threads(threads):
            F = factorize(A, k)
            assert TWO == 1 or threads == 1 or TRIANGLE in F._numeric.symbolic.solve_schedule.tasks[:, 0]
            results.append((F.solve(b), F.solve(b[:, 0]), F.solve_lower(b), F.solve_upper(b), F.logdet()))
    for one, two in zip(*results, strict=True):
        assert np.array_equal(one, two)


def test_read_only_right_hand_sides():
    A = laplacian(6, 6)
    F = factorize(A, 2)
    b = np.ones((72 // 2, 2))
    expected = F.solve(b)
    b.flags.writeable = False
    compiled = len(solve_strips.dispatcher.signatures)
    assert np.array_equal(F.solve(b), expected) and np.array_equal(F.solve(b[:, 0]), expected[:, 0])
    assert len(solve_strips.dispatcher.signatures) == compiled


def test_two_python_threads_at_once():
    matrices = [large_matrix(name, np.random.default_rng(7))[0] for name in ("dense", "grid")]
    right = [np.random.default_rng(2).standard_normal(A.shape[0]) for A in matrices]
    expected = [factorize(A, 6).solve(b) for A, b in zip(matrices, right, strict=True)]
    wrong = []

    def work(which):
        F = factorize(matrices[which], 6)
        for _ in range(5):
            F.refactorize(matrices[which])
            if not np.array_equal(F.solve(right[which]), expected[which]):
                wrong.append(which)

    threads = [threading.Thread(target=work, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# -- misuse ------------------------------------------------------------------------------------------------------------


def few_rows_below(w, h, rng):
    """Two large fronts of w columns, that share h rows."""
    A = np.zeros((2 * w + h, 2 * w + h))
    for k in range(2):
        at = np.r_[k * w : (k + 1) * w, 2 * w : 2 * w + h]
        G = rng.standard_normal((w + h, w + h))
        A[np.ix_(at, at)] += G @ G.T / w + np.eye(w + h)
    return A


@pytest.mark.parametrize(("w", "h"), [(421, 3), (425, 7), (425, 8), (424, 1), (431, 1), (480, 5)])
def test_large_fronts_with_few_rows_below(w, h):
    A = few_rows_below(w, h, np.random.default_rng(w))
    F = factorize(sp.csc_matrix(A), [w, w, h])
    b = np.ones(len(A))
    check_backward(A, F.solve(b), b)
    assert F.logdet() == pytest.approx(np.linalg.slogdet(A)[1], rel=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("row", "column", "message"),
    [
        (5, 4, "the diagonal block 2"),
        (7, 7, "the diagonal block 3"),
        (8, 1, "the block in block row 4 and block column 0"),
    ],
)
def test_numbers_that_are_not_finite(row, column, message, value):
    A = sp.csc_array(np.eye(10) * 20.0 + 1.0)
    F = factorize(A, 2)
    B = A.copy()
    B[row, column] = value
    with pytest.raises(SolverError, match=f"not finite in {message}"):
        F.refactorize(B)
    with pytest.raises(SolverError, match="the last factorisation failed"):
        F.solve(np.ones(10))
    with pytest.raises(SolverError, match="not finite"):
        factorize(B, 2, pivot_tolerance=1e-12)
    B = A.copy()
    B[column, row] = value  # above the diagonal nobody looks
    if row != column:
        F.refactorize(B)
        check_backward(A, F.solve(np.ones(10)), np.ones(10))


I6 = sp.eye_array(6, format="csc")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: factorize(np.eye(6)), "a matrix of kind ndarray, expected a SciPy sparse matrix of format csc"),
        (lambda: factorize(I6.tocoo()), "a matrix of kind coo"),
        (lambda: factorize(sp.csc_array((6, 5))), r"shape \(6, 5\), expected a square one"),
        (lambda: factorize(sp.csr_array(np.ones(6))), r"shape \(6,\), expected a square one"),
        (lambda: factorize(I6 * 1j), "complex"),
        (lambda: factorize(I6, 4), "block_sizes = 4, expected a divisor of the 6 columns"),
        (lambda: factorize(I6, 0), "block_sizes = 0"),
        (lambda: factorize(I6, -2), "block_sizes = -2"),
        (lambda: factorize(I6, 2.0), "block_sizes has type float64"),
        (lambda: factorize(I6, [2, 2.5, 1.5]), "block_sizes has type float64"),
        (lambda: factorize(I6, [3, 4]), r"block_sizes has shape \(2,\), least 3 and sum 7"),
        (lambda: factorize(I6, [6, 0]), "least 0 and sum 6"),
        (lambda: factorize(I6, [[3, 3]]), r"shape \(1, 2\)"),
        (lambda: factorize(I6, []), r"block_sizes has shape \(0,\)"),
        (lambda: factorize(I6, 2, ordering="colamd"), "expected auto, amd, metis, natural or an array of the 3 block"),
        (lambda: factorize(I6, 2, ordering=[0, 1]), r"the ordering has shape \(2,\)"),
        (lambda: factorize(I6, 2, ordering=[0, 1, 1]), "block 1 2 times and lacks block 2"),
        (lambda: factorize(I6, 2, last=[True]), r"last has shape \(1,\)"),
        (lambda: factorize(I6, 2, last=[0.0, 1.0, 0.0]), "expected .* bool or int"),
        (lambda: factorize(I6, damping=np.ones(5)), r"damping has shape \(5,\), expected \(6,\)"),
        (lambda: factorize(I6, damping=np.ones((6, 1))), r"damping has shape \(6, 1\), expected \(6,\), or one number"),
        (lambda: analyze(I6, previous=analyze(I6), ordering="amd"), "leave out ordering and last, or previous"),
        (lambda: analyze(I6, previous=analyze(I6), last=[1] * 6), "leave out ordering and last, or previous"),
        (lambda: factorize(sp.triu(I6 + sp.csc_array(np.ones((6, 6)))).tocsc()), "the lower triangle is what is read"),
        (lambda: factorize(I6, damping=np.full(6, -1.0)), "negative or NaN"),
        (lambda: factorize(I6, damping=np.full(6, -np.inf)), "negative or NaN"),
        (lambda: factorize(I6, damping=np.full(6, np.nan)), "negative or NaN"),
        (lambda: factorize(I6, precision="float16"), "precision 'float16', expected 'float64' or 'float32'"),
        (lambda: factorize(I6, pivot_tolerance=-1.0), "pivot_tolerance = -1.0, expected None or a number in"),
        (lambda: factorize(I6, pivot_tolerance=1.0), "pivot_tolerance = 1.0"),
        (lambda: factorize(I6, pivot_tolerance=np.nan), "pivot_tolerance = nan"),
        (lambda: factorize(I6, num_threads=0), "num_threads = 0"),
        (lambda: factorize(I6, num_threads=10**6), "num_threads = 1000000"),
        (lambda: factorize(I6).solve(np.ones(5)), r"side has shape \(5,\).* expected \(6,\) or \(6, k\), real"),
        (lambda: factorize(I6).solve(np.ones((2, 6))), r"shape \(2, 6\)"),
        (lambda: factorize(I6).solve(np.ones((6, 2, 2))), r"shape \(6, 2, 2\)"),
        (lambda: factorize(I6).solve(1.0), r"shape \(\)"),
        (lambda: factorize(I6).solve(np.ones(6) * 1j), "type complex128"),
        (lambda: factorize(I6).solve_lower(np.ones(5)), r"shape \(5,\)"),
        (lambda: factorize(I6).solve_upper(np.ones(5)), r"shape \(5,\)"),
    ],
)  # fmt: skip
def test_misuse_is_told(call, message):
    with pytest.raises(SolverError, match=message):
        call()


def test_one_factor_in_two_python_threads():
    A = sp.kron(laplacian(30, 30), sp.eye_array(3)).tocsc()
    F = factorize(A, 3)
    b = np.random.default_rng(5).standard_normal((A.shape[0], 2))
    expected = F.solve(b[:, 0]), F.solve(b[:, 1])
    wrong = []

    def work(side):
        for _ in range(50):
            if not np.array_equal(F.solve(b[:, side]), expected[side]):
                wrong.append(side)

    threads = [threading.Thread(target=work, args=(side,)) for side in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
