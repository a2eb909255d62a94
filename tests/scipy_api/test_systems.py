"""The linear systems against dense NumPy, and each against the others through whole runs."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import aslinearoperator

import sparselm as slm
from sparselm.linear_solvers.base import Failure
from sparselm.scipy_api.sparse_system import SparseSystem
from sparselm.scipy_api.systems import DenseSystem, IterativeSystem


def random_jacobian(m, n, density, seed):
    rng = np.random.default_rng(seed)
    J = np.where(rng.random((m, n)) < density, rng.standard_normal((m, n)), 0.0)
    J[:n] += np.eye(n)  # full rank, more or less
    return J, rng.standard_normal(m)


def check(system, J, r, seed):
    """Steps, displaced steps and other right-hand sides, for several D one after the other."""
    rng = np.random.default_rng(seed)
    n = J.shape[1]
    out = np.empty(n)
    for case in range(4):
        D = rng.random(n) * (case > 0)
        if case >= 2:
            D[rng.random(n) < 0.3] = np.inf
        free = np.isfinite(D)
        assert system.factorize(D.copy()) is None
        H = J[:, free].T @ J[:, free] + np.diag(D[free])
        displacement = np.where(free, 0.0, rng.standard_normal(n))
        for d in (None, displacement):
            system.step(d, out)
            residual = r if d is None else r + J @ d
            assert not out[~free].any()
            np.testing.assert_allclose(out[free], -np.linalg.solve(H, J[:, free].T @ residual), rtol=1e-6, atol=1e-8)
        b = rng.standard_normal(n)
        system.solve(b, out)
        assert not out[~free].any()
        tolerance = 1e-3 if isinstance(system, IterativeSystem) else 1e-6
        np.testing.assert_allclose(out[free], np.linalg.solve(H, b[free]), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("m", "n"), [(7, 3), (5, 5), (90, 70)])
def test_dense(m, n):
    J, r = random_jacobian(m, n, 1.0, 1)
    system = DenseSystem()
    system.prepare(J, r)
    check(system, J, r, 2)


@pytest.mark.parametrize(("m", "n"), [(7, 3), (40, 25)])
def test_iterative(m, n):
    J, r = random_jacobian(m, n, 0.5, 3)
    for made in (J, sp.csr_array(J), aslinearoperator(J)):
        system = IterativeSystem({"maxiter": 500})
        system.prepare(made, r)
        check(system, J, r, 4)


@pytest.mark.parametrize(("m", "n", "density"), [(7, 3, 0.9), (60, 40, 0.05), (300, 150, 0.02)])
def test_sparse(m, n, density):
    system = SparseSystem()
    for seed in (5, 6):  # the second has another pattern
        J, r = random_jacobian(m, n, density, seed)
        system.prepare(sp.csr_array(J), r)
        check(system, J, r, 7)
        system.prepare(sp.csr_array(2.0 * J), r)  # and this one the same
        check(system, 2.0 * J, r, 8)


def test_fewer_residuals_than_variables_need_damping():
    J, r = np.array([[1.0, 2.0, 0.0]]), np.array([3.0])
    for system, made in ((DenseSystem(), J), (SparseSystem(), sp.csr_array(J))):
        system.prepare(made, r)
        assert isinstance(system.factorize(np.zeros(3)), Failure)
        assert system.factorize(np.full(3, 0.5)) is None
        out = np.empty(3)
        system.step(None, out)
        np.testing.assert_allclose(out, -np.linalg.solve(J.T @ J + 0.5 * np.eye(3), J.T @ r), atol=1e-14)


def test_dependent_columns_are_told():
    J = np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    system = DenseSystem()
    system.prepare(J, np.ones(3))
    assert isinstance(system.factorize(np.zeros(2)), Failure)


def test_dense_steps_keep_digits_that_the_normal_equations_lose():
    """κ(J) = 10⁹: JᵀJ is singular in double precision."""
    rng = np.random.default_rng(9)
    U, V = np.linalg.qr(rng.standard_normal((20, 4)))[0], np.linalg.qr(rng.standard_normal((4, 4)))[0]
    J = U @ np.diag([1.0, 1e-3, 1e-6, 1e-9]) @ V.T
    x = np.array([1.0, -2.0, 3.0, 4.0])
    system = DenseSystem()
    system.prepare(J, -J @ x)
    assert system.factorize(np.zeros(4)) is None
    out = np.empty(4)
    system.step(None, out)
    np.testing.assert_allclose(out, x, rtol=1e-5)


def chain(n):
    """A sparse problem with outliers in the data and a scale of its own in each variable."""
    scale = np.logspace(-2, 2, n)
    target = np.sin(np.arange(n))
    target[:: max(2, n // 4)] += 5.0

    def fun(x):
        y = x / scale
        return np.concatenate((y - target, 3.0 * (y[1:] - y[:-1]) ** 2 + y[1:]))

    pattern = sp.vstack((sp.eye_array(n), sp.eye_array(n - 1, n) + sp.eye_array(n - 1, n, k=1)))
    return fun, np.ones(n) * scale, pattern, scale


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"x_scale": "jac"},
        {"x_scale": 2.5 * np.logspace(-2, 2, 30)},
        {"loss": "soft_l1", "f_scale": 0.5},
        {"bounds": (0.3, np.inf), "method": "dogbox"},
        {"jac": "3-point"},
        {"tr_solver": "lsmr"},
    ],
    ids=lambda options: "-".join(options),
)
def test_sparse_runs_end_where_dense_ones_do(options):
    fun, x0, pattern, scale = chain(30)
    if "bounds" in options:
        options = options | {"bounds": (0.3 * scale, np.inf)}
    tight = {"ftol": 1e-12, "xtol": 1e-12, "gtol": 1e-12}
    dense = slm.least_squares(fun, x0, **(tight | options | {"tr_solver": None}))
    sparse = slm.least_squares(fun, x0, jac_sparsity=pattern, **(tight | options))
    assert dense.success and sparse.success
    assert isinstance(dense.jac, np.ndarray) and sp.issparse(sparse.jac)
    np.testing.assert_allclose(sparse.x / scale, dense.x / scale, rtol=0, atol=1e-4)
    assert sparse.cost == pytest.approx(dense.cost, rel=1e-9)
    assert sparse.active_mask.tolist() == dense.active_mask.tolist()


def test_many_variables_take_one_factorisation_a_step_and_the_same_optimum():
    fun, x0, pattern, scale = chain(1500)
    result = slm.least_squares(fun, x0, jac_sparsity=pattern, x_scale="jac", ftol=1e-12)
    assert result.success
    assert abs(result.grad * scale).max() < 1e-4
    assert result.cost < 0.5 * (fun(x0) @ fun(x0))


def test_the_callers_matrix_is_left_as_it_is():
    """Rows out of order, with duplicates, in 64-bit indices."""
    J = sp.csr_array(
        (np.array([1.0, 2.0, 3.0, 4.0, 0.5]), np.array([1, 0, 1, 0, 0]), np.array([0, 2, 4, 5])), shape=(3, 2)
    )
    before = (J.indices.copy(), J.data.copy())
    dense = J.toarray()
    result = slm.least_squares(lambda x: dense @ x - 1.0, np.zeros(2), jac=lambda x: J)
    assert (J.indices == before[0]).all() and (J.data == before[1]).all()
    np.testing.assert_allclose(result.x, np.linalg.lstsq(dense, np.ones(3))[0], rtol=1e-8)


def test_blas_gets_its_threads_back():
    from threadpoolctl import threadpool_info

    def threads():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before = threads()
    inside = []

    def fun(x):
        inside.append(threads())
        return np.concatenate((x - 1.0, x[1:] * x[:-1]))

    slm.least_squares(fun, np.full(80, 2.0), max_nfev=3)
    assert threads() == before
    assert all(found == before for found in inside)


# -- many variables ----------------------------------------------------------------------------------------------------


def broyden(x):
    f = (3.0 - x) * x + 1.0
    f[1:] -= x[:-1]
    f[:-1] -= 2.0 * x[1:]
    return f


MANY = 1500
UNITS = np.logspace(-8.0, 8.0, MANY)


@pytest.mark.parametrize(
    ("fun", "unit"),
    [
        (broyden, 1.0),
        (lambda x: broyden(x / 1e9), 1e9),
        (lambda x: broyden(x * 1e9), 1e-9),
        (lambda x: 1e-9 * broyden(x), 1.0),
        (lambda x: 1e9 * broyden(x), 1.0),
        (lambda x: broyden(x / UNITS), UNITS),
    ],
)
@pytest.mark.parametrize("scale", ["jac", "unit"])
def test_units_do_not_matter_with_many_sparse_variables(fun, unit, scale):
    band = sp.eye_array(MANY) + sp.eye_array(MANY, k=1) + sp.eye_array(MANY, k=-1)
    start = -np.ones(MANY) * unit
    step = 1e-8 * unit / np.abs(start)
    x_scale = unit if scale == "unit" else "jac"
    result = slm.least_squares(fun, start, jac_sparsity=band, gtol=None, x_scale=x_scale, diff_step=step)
    assert result.success and result.nfev < 30
    assert result.cost < 1e-15 * 0.5 * fun(start) @ fun(start)


def test_a_column_that_is_zero_at_first_is_solved_for():
    def fun(x):
        f = 1e-9 * (x - 2.0)
        f[0] = 1e-9 * (x[0] * x[1] - 4.0)
        return f

    start = np.ones(MANY)
    start[1] = 0.0  # f_0 does not depend on x_0 there
    pattern = sp.lil_array(sp.eye_array(MANY))
    pattern[0, 1] = 1.0
    result = slm.least_squares(fun, start, jac_sparsity=pattern, gtol=None)
    np.testing.assert_allclose(result.x, 2.0, rtol=1e-6)


# -- patterns ----------------------------------------------------------------------------------------------------------


def test_a_pattern_that_is_changed_in_place_is_seen():
    system = SparseSystem()
    J = sp.csr_array(np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 4.0], [3.0, 0.0, 0.0]]))
    r, damping, found = np.arange(1.0, 5.0), np.full(3, 0.5), np.zeros(3)
    for columns in ([0, 1, 2, 0], [0, 1, 2, 1], [2, 1, 0, 0]):
        J.indices[:] = columns
        system.prepare(J, r)
        assert system.factorize(damping) is None
        system.step(None, found)
        dense = J.toarray()
        np.testing.assert_allclose(found, -np.linalg.solve(dense.T @ dense + np.diag(damping), dense.T @ r))


def test_a_negative_offset_of_scales_is_refused():
    with pytest.raises(slm.SolverError, match="scale_offset"):
        slm.Nielsen(scale_offset=-1.0)
