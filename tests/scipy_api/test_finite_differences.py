"""Difference schemes against exact Jacobians, on random patterns, with bounds, in other precisions."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import sparselm as slm
from sparselm.scipy_api.finite_differences import DifferencedJacobian, FiniteDifferences, make_sparsity

SCHEMES = ("2-point", "3-point", "cs")
ACCURACY = {"2-point": 1e-6, "3-point": 1e-8, "cs": 1e-14}


class Function:
    """f_i = Σ_j P_ij sin(x_j + i), with a record of where it was evaluated."""

    def __init__(self, pattern):
        self.pattern = np.asarray(pattern, dtype=float)
        self.points = []

    def __call__(self, x):
        self.points.append(x)
        return (self.pattern * np.sin(x + np.arange(len(self.pattern))[:, None])).sum(axis=1)

    def jacobian(self, x):
        return self.pattern * np.cos(x + np.arange(len(self.pattern))[:, None])


def patterns():
    return st.tuples(st.integers(1, 12), st.integers(1, 9), st.integers(0, 2**32 - 1), st.floats(0.05, 1.0)).map(
        lambda p: np.random.default_rng(p[2]).random((p[0], p[1])) < p[3]
    )


def no_bounds(n):
    return np.full(n, -np.inf), np.full(n, np.inf)


@settings(max_examples=60, deadline=None)
@given(patterns(), st.sampled_from(SCHEMES))
def test_sparse_differences_equal_the_exact_jacobian(pattern, scheme):
    f, n = Function(pattern), pattern.shape[1]
    x = np.linspace(-2.0, 3.0, n)
    J = FiniteDifferences(f, scheme, None, *no_bounds(n), make_sparsity(pattern))(x, f(x))
    assert J.indptr.tolist() == sp.csr_array(pattern).indptr.tolist()
    np.testing.assert_allclose(J.toarray(), f.jacobian(x), rtol=0, atol=ACCURACY[scheme])


@settings(max_examples=60, deadline=None)
@given(patterns())
def test_columns_of_one_colour_share_no_row_and_no_column_is_forgotten(pattern):
    s = make_sparsity(pattern)
    assert sorted(s.column) == list(range(pattern.shape[1]))
    for first, last in zip(s.column_ptr[:-1], s.column_ptr[1:], strict=True):
        assert pattern[:, s.column[first:last]].sum(axis=1).max() <= 1


def test_more_than_64_colours():
    pattern = np.zeros((3, 150), dtype=bool)
    pattern[1] = True
    s = make_sparsity(pattern)
    assert s.num_colours == 150
    f, x = Function(pattern), np.linspace(0.0, 1.0, 150)
    J = FiniteDifferences(f, "cs", None, *no_bounds(150), s)(x, f(x))
    np.testing.assert_allclose(J.toarray(), f.jacobian(x), rtol=0, atol=1e-14)


def test_bundle_adjustment_takes_as_many_colours_as_a_row_has_entries():
    rng = np.random.default_rng(5)
    camera, point = np.repeat(np.arange(6), 20), np.tile(np.arange(20), 6)
    camera, point = camera[keep := rng.random(120) < 0.7], point[keep]
    columns = np.hstack((9 * camera[:, None] + np.arange(9), 54 + 3 * point[:, None] + np.arange(3)))
    rows = np.repeat(np.arange(len(camera)), 12)
    assert make_sparsity(sp.coo_array((np.ones(len(rows)), (rows, columns.ravel())))).num_colours == 12


@settings(max_examples=80, deadline=None)
@given(
    patterns(),
    st.sampled_from(SCHEMES),
    st.booleans(),
    st.sampled_from([1e-12, 1e-9, 1e-7, 3e-6, 0.1, np.inf]),
    st.sampled_from([1e-12, 1e-9, 1e-7, 3e-6, 0.1, np.inf]),
)
def test_no_evaluation_leaves_the_bounds(pattern, scheme, sparse, below, above):
    f, n = Function(pattern), pattern.shape[1]
    x = np.linspace(-2.0, 3.0, n)
    lower, upper = x - below, x + above
    J = FiniteDifferences(f, scheme, None, lower, upper, make_sparsity(pattern) if sparse else None)(x, f(x))
    for point in f.points:
        assert (point.real >= lower).all() and (point.real <= upper).all()
    # Room for a step of length h leaves an error of rounding / h.
    room = min(max(below, above), 1.0)
    tolerance = ACCURACY[scheme] if scheme == "cs" else ACCURACY[scheme] + 1e-14 / room
    np.testing.assert_allclose(J.toarray() if sparse else J, f.jacobian(x), rtol=0, atol=tolerance)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_at_a_bound(scheme):
    f = Function(np.ones((4, 3)))
    lower, upper = np.array([1.0, -np.inf, 0.5]), np.array([np.inf, 2.0, 1.0])
    x = np.array([1.0, 2.0, 1.0])
    J = FiniteDifferences(f, scheme, None, lower, upper)(x, f(x))
    assert all((p.real >= lower).all() and (p.real <= upper).all() for p in f.points)
    np.testing.assert_allclose(J, f.jacobian(x), rtol=0, atol=10 * ACCURACY[scheme])


def test_steps_are_relative_to_x_where_asked_for():
    differences = FiniteDifferences(None, "2-point", 1e-3, *no_bounds(3))
    h = differences.steps(np.array([-20.0, 0.5, 0.0]), np.ones(2))
    np.testing.assert_allclose(h, [-0.02, 5e-4, np.finfo(float).eps ** 0.5])


def test_steps_grow_with_the_coarser_precision_of_f():
    differences = FiniteDifferences(None, "2-point", None, *no_bounds(1))
    single = differences.steps(np.array([3.0]), np.ones(2, dtype=np.float32))
    assert single[0] == pytest.approx(3.0 * np.finfo(np.float32).eps ** 0.5)


def test_steps_of_small_parameters_that_matter_get_shorter():
    """x² t⁵ at x = 10⁻⁷, t = 1000: a step of 1.5·10⁻⁸ is no derivative."""
    t = np.linspace(500.0, 1000.0, 5)

    def f(x):
        return x[0] ** 2 * t**5

    x = np.array([1e-7])
    exact = 2.0 * x[0] * t**5
    jacobian = DifferencedJacobian(FiniteDifferences(f, "2-point", None, *no_bounds(1)))
    first, second = (jacobian(x, f(x))[:, 0] for _ in range(2))
    assert abs(first / exact - 1.0).min() > 0.05
    assert abs(second / exact - 1.0).max() < 1e-4  # h = 10⁻³ √ε

    def with_another(x):
        return x[0] + f(x[1:])

    # A parameter of usual size next to it tells more of the units of f.
    x = np.array([1.0, 1e-7])
    jacobian = DifferencedJacobian(FiniteDifferences(with_another, "2-point", None, *no_bounds(2)))
    second = [jacobian(x, with_another(x))[:, 1] for _ in range(2)][1]
    assert abs(second / exact - 1.0).max() < 1e-6


@pytest.mark.parametrize(("scheme", "tolerance"), [("2-point", 1e-4), ("3-point", 1e-7)])
@pytest.mark.parametrize("offset", [1e-6, 1e-9, 0.0])
def test_steps_near_a_solution_stay_above_rounding(scheme, tolerance, offset):
    """f nearly vanishes there while its terms do not, and one parameter is nearly 0."""
    t = np.linspace(0.0, 4.0, 30)

    def f(b):
        return b[0] * np.exp(-b[1] * t) + b[2] - 2.5 * np.exp(-1.3 * t)

    def lone(x):
        return np.exp(x) - 1.0

    x = np.array([2.5 + offset, 1.3, offset])
    jacobian = DifferencedJacobian(FiniteDifferences(f, scheme, None, *no_bounds(3)))
    for _ in range(3):
        np.testing.assert_allclose(jacobian(x, f(x))[:, 2], 1.0, rtol=tolerance)
    result = slm.least_squares(f, x, scheme)
    np.testing.assert_allclose(result.jac[:, 2], 1.0, rtol=tolerance)
    jacobian = DifferencedJacobian(FiniteDifferences(lone, scheme, None, *no_bounds(1)))
    x = np.array([offset])
    for _ in range(3):
        np.testing.assert_allclose(jacobian(x, lone(x)), np.exp(offset), rtol=tolerance)


def test_workers_get_the_points_and_may_return_a_list():
    seen = []

    def mapping(function, points):
        points = list(points)
        seen.append(len(points))
        return [function(p) for p in points]

    pattern = np.eye(6) + np.eye(6, k=1)
    f, x = Function(pattern), np.arange(6.0)
    J = FiniteDifferences(f, "3-point", None, *no_bounds(6), make_sparsity(pattern), mapping)(x, f(x))
    assert seen == [4]
    np.testing.assert_allclose(J.toarray(), f.jacobian(x), rtol=0, atol=1e-8)
