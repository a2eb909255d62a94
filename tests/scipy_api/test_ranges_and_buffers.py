"""Tiny and huge numbers, no variables, and functions that write into the same array at each call."""

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp

import sparselm as slm

START = [-1.2, 1.0]


def rosenbrock(x):
    return np.array([10.0 * (x[1] - x[0] ** 2), 1.0 - x[0]])


def rosenbrock_jacobian(x):
    return np.array([[-20.0 * x[0], 10.0], [-1.0, 0.0]])


# -- numbers near the ends of their range ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["trf", "dogbox", "lm"])
@pytest.mark.parametrize("unit", [1e-155, 1e-150, 1e-140, 1e-100])
def test_a_jacobian_whose_square_overflows_ends_the_run(method, unit):
    """The first difference step, 1.5e-8, is so long that J means nothing."""
    with np.errstate(all="ignore"):
        result = slm.least_squares(
            lambda x: rosenbrock(x / unit), [-1.2 * unit, unit], method=method, max_nfev=1000
        )
    assert result.status == 0 and not result.success
    assert "No step reduces the cost" in result.message


@pytest.mark.parametrize("unit", [1e-160, 1e-100, 1e-34, 1e34, 1e150])
def test_residuals_may_be_tiny_or_huge(unit):
    usual = slm.least_squares(lambda x: unit * rosenbrock(x), START)
    assert usual.success
    result = slm.least_squares(lambda x: unit * rosenbrock(x), START, gtol=None)
    assert result.success
    np.testing.assert_allclose(result.x, [1.0, 1.0], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-300, 1e-155, 1e160, 1e200, 1e300, [1e-200, 1e200], [1.0, 1e200]])
def test_scales_may_be_tiny_or_huge(scale):
    result = slm.least_squares(rosenbrock, START, x_scale=scale)
    assert result.success
    np.testing.assert_allclose(result.x, [1.0, 1.0], rtol=1e-6)
    if np.ndim(scale) == 0:
        assert result.nfev == slm.least_squares(rosenbrock, START, x_scale=1.0).nfev


@pytest.mark.parametrize("x_scale", [None, "jac", 2.0])
@pytest.mark.parametrize("method", ["trf", "dogbox", "lm"])
def test_no_variables(method, x_scale):
    ours = slm.least_squares(lambda x: np.ones(3), [], method=method, x_scale=x_scale)
    theirs = scipy.optimize.least_squares(lambda x: np.ones(3), [], method=method)
    assert (ours.status, ours.message, ours.success) == (theirs.status, theirs.message, theirs.success)
    assert ours.x.shape == (0,) and ours.cost == 1.5
    assert slm.least_squares(lambda x: np.ones(3), [], gtol=None).x.shape == (0,)


# -- arrays that are used again ----------------------------------------------------------------------------------------


class Reusing:
    """A function that writes into the same array at each call."""

    def __init__(self, function, dtype=float):
        self.function, self.buffer = function, np.zeros(2, dtype=dtype)

    def __call__(self, x):
        self.buffer[:] = self.function(x)
        return self.buffer


def listed(function, points):
    """All values before any is looked at, unlike map."""
    return [function(point) for point in points]


@pytest.mark.parametrize("workers", [None, listed])
@pytest.mark.parametrize("sparsity", [None, np.array([[1, 1], [1, 0]])])
@pytest.mark.parametrize("jac", ["2-point", "3-point", "cs"])
def test_fun_may_return_one_buffer(jac, sparsity, workers):
    fun = Reusing(rosenbrock, complex if jac == "cs" else float)
    wrapped = fun if jac != "cs" else lambda x: fun(x) if np.iscomplexobj(x) else fun(x).real
    ours = slm.least_squares(wrapped, START, jac, jac_sparsity=sparsity, workers=workers)
    plain = slm.least_squares(rosenbrock, START, jac, jac_sparsity=sparsity)
    assert ours.success and (ours.nfev, ours.njev) == (plain.nfev, plain.njev)
    np.testing.assert_array_equal(ours.x, plain.x)
    assert ours.fun is not fun.buffer


@pytest.mark.parametrize("store", [np.array, sp.csr_array])
def test_fun_and_jac_may_share_a_buffer(store):
    """J is written at each evaluation of f, also at those that are rejected."""
    J = store(np.ones((2, 2)))
    entries = J.data if sp.issparse(J) else J.ravel()

    def write(x):
        entries[:] = rosenbrock_jacobian(x).ravel()

    def fun(x):
        write(x)
        return rosenbrock(x)

    def jac(x):
        write(x)
        return J

    ours = slm.least_squares(fun, START, jac)
    plain = slm.least_squares(rosenbrock, START, lambda x: store(rosenbrock_jacobian(x)))
    assert ours.nfev == plain.nfev
    np.testing.assert_allclose(ours.x, plain.x, rtol=1e-12)
