"""Losses of single residuals: SciPy's costs, gradients, Jacobians and optima."""

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp
from scipy.sparse.linalg import aslinearoperator

import sparselm as slm

T = np.linspace(0.0, 3.0, 40)
Y = 1.5 + 2.0 * np.exp(-1.3 * T) + 0.05 * np.sin(40.0 * T)
Y[::9] += np.array([4.0, -3.0, 5.0, 6.0, -2.0])


def fun(p):
    return p[0] + p[1] * np.exp(-p[2] * T) - Y


def jac(p):
    e = np.exp(-p[2] * T)
    return np.column_stack((np.ones_like(T), e, -p[1] * T * e))


def cubic_root(z):
    t = 1.0 + z
    return np.array([3.0 * (np.cbrt(t) - 1.0), t ** (-2 / 3), -2 / 3 * t ** (-5 / 3)])


LOSSES = ["linear", "soft_l1", "huber", "cauchy", "arctan", cubic_root]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: getattr(loss, "__name__", str(loss)))
@pytest.mark.parametrize("f_scale", [0.1, 1.0, 7.0])
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array, aslinearoperator])
def test_cost_gradient_and_jacobian_at_a_point(loss, f_scale, kind):
    options = {"loss": loss, "f_scale": f_scale, "max_nfev": 1}
    ours = slm.least_squares(fun, [1.0, 1.0, 1.0], lambda p: kind(jac(p)), **options)
    theirs = scipy.optimize.least_squares(fun, [1.0, 1.0, 1.0], jac, **options)
    assert ours.cost == pytest.approx(theirs.cost, rel=1e-14)
    np.testing.assert_allclose(ours.grad, theirs.grad, rtol=1e-12)
    np.testing.assert_allclose(ours.jac @ np.eye(3), theirs.jac, rtol=1e-12)
    np.testing.assert_array_equal(ours.fun, fun(ours.x))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: getattr(loss, "__name__", str(loss)))
def test_optima(loss):
    options = {"loss": loss, "f_scale": 0.2, "ftol": 1e-12, "xtol": 1e-12, "gtol": 1e-12}
    ours = slm.least_squares(fun, [1.0, 1.0, 1.0], jac, **options)
    theirs = scipy.optimize.least_squares(fun, [1.0, 1.0, 1.0], jac, **options)
    assert ours.success
    assert ours.cost <= theirs.cost * (1.0 + 1e-9)
    np.testing.assert_allclose(ours.x, theirs.x, rtol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 0.1])
@pytest.mark.parametrize("loss", ["huber", "soft_l1", "cauchy", "arctan"])
def test_rows_that_turn_inlier_do_not_end_the_run(loss, scale):
    """At the start most rows are outliers, whose weight in the model is 1e-8."""

    def rosenbrock(x):
        return np.array([10.0 * (x[1] - x[0] ** 2), 1.0 - x[0]])

    starts = np.random.default_rng(0).uniform(-2.0, 2.0, (20, 2))
    for start in [[-1.2, 1.0], *starts]:
        result = slm.least_squares(rosenbrock, start, loss=loss, f_scale=scale)
        assert result.success and result.cost < 1e-10


@pytest.mark.parametrize("loss", ["huber", "cauchy", "arctan"])
def test_a_line_through_outliers_ends_at_a_stationary_point(loss):
    t = np.linspace(0.0, 10.0, 20)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        y = 1.0 + 2.0 * t + 0.1 * rng.standard_normal(20)
        y[rng.choice(20, 5, replace=False)] += rng.normal(0.0, 20.0, 5)
        result = slm.least_squares(lambda p, y=y: p[0] + p[1] * t - y, [0.0, 0.0], loss=loss, f_scale=0.2)
        assert result.success and np.abs(result.grad).max() < 1e-3
