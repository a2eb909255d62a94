"""Residuals as NumPy functions: the contract, the derivatives of each scheme, what is refused, and known optima."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_models import between_se2, between_se3, snavely

import sparselm as slm
from problems.bundle_adjustment import SYNTHETIC
from problems.pose_graphs import SYNTHETIC as POSE_GRAPHS
from sparselm.errors import ProblemError
from sparselm.io import bal, g2o
from sparselm.residuals.base import OperandBlocks
from sparselm.residuals.batch import CHUNK
from sparselm.testing import check_residual
from sparselm.threads import use_threads


def waves(x, y, measured):
    """Analytic and smooth at the scale of 1."""
    return np.stack((np.sin(x[:, 0] * y[:, 1]) - measured, np.exp(0.3 * x[:, 1]) + y[:, 0] * x[:, 2]), axis=1)


def waves_jacobian(x, y, measured):
    c = np.cos(x[:, 0] * y[:, 1])
    zero = np.zeros(len(x))
    first = np.stack((c * y[:, 1], zero, zero, zero, 0.3 * np.exp(0.3 * x[:, 1]), y[:, 0]), axis=1)
    second = np.stack((zero, c * x[:, 0], x[:, 2], zero), axis=1)
    return first.reshape(-1, 2, 3), second.reshape(-1, 2, 2)


def one_wave(x, y, measured):
    assert x.shape == (3,) and y.shape == (2,) and np.shape(measured) == ()
    return [np.sin(x[0] * y[1]) - measured, np.exp(0.3 * x[1]) + y[0] * x[2]]


def one_waves_jacobian(x, y, measured):
    return tuple(part[0] for part in waves_jacobian(x[None], y[None], measured))


WAVES = (slm.Euclidean(3), slm.Euclidean(2))
SCHEMES = ["complex", "central", "forward", None]


def bound(fun, dim, manifolds, data_shapes=(), **options):
    return slm.BatchResidual(fun, dim, **options).bind(manifolds, data_shapes)


def linearized(residual, points, data=(), columns=None):
    """r and J at points that are all rows of their variables."""
    n = len(points[0])
    index = np.arange(n, dtype=np.int32)
    blocks = [OperandBlocks(np.ascontiguousarray(x, dtype=float), index, np.zeros((n, 0))) for x in points]
    if columns is None:
        columns = np.arange(sum(m.tangent_dim for m in residual.manifolds), dtype=np.int32)
    r, J = np.full((n, residual.dim), np.nan), np.full((n, residual.dim, int((columns >= 0).sum())), np.nan)
    residual.linearize(blocks, data, columns, r, J)
    return r, J


# -- the contract -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jac", ["complex", "central", None, waves_jacobian])
def test_contract(jac):
    check_residual(bound(waves, 2, WAVES, ((),), jac=jac))


@pytest.mark.parametrize("jac", ["complex", "central", None, one_waves_jacobian])
def test_contract_of_functions_of_one_block(jac):
    check_residual(bound(one_wave, 2, WAVES, ((),), jac=jac, vectorized=False), n=40)


def test_contract_of_forward_differences():
    """On a linear function: elsewhere they are no better than the square root of rounding, which the contract refuses."""
    matrix = np.random.default_rng(12).standard_normal((3, 2))

    def linear(x, y, measured):
        return sum(x[:, k : k + 1] * matrix[k] for k in range(3)) - 2.0 * y - measured[:, None]

    check_residual(bound(linear, 2, WAVES, ((),), jac="forward"))


POSES = slm.Product(slm.Euclidean(1), slm.SE2())


@pytest.mark.parametrize("manifold", [slm.SE2(), slm.SO3(), slm.SE3(), slm.Sphere(3), POSES], ids=repr)
@pytest.mark.parametrize("jac", ["complex", "central", None])
def test_contract_on_manifolds(manifold, jac):
    rng = np.random.default_rng(5)
    matrix = rng.standard_normal((manifold.ambient_dim, 3))

    def fun(x, y, weight):
        return np.sin(sum(x[:, k : k + 1] * matrix[k] for k in range(len(matrix)))) * (y[:, -1:] + weight)

    check_residual(bound(fun, 3, (manifold, manifold), ((3,),), jac=jac))


@pytest.mark.parametrize("jac", SCHEMES)
def test_a_single_row_among_many_has_the_same_bits(jac):
    """NumPy sums a lone row, which is in both memory orders, in another order than many."""

    def fun(x):
        return np.stack(((x * x).sum(axis=1), np.einsum("ij,ij->i", x[:, ::2], np.cos(x[:, 1::2]))), axis=1)

    residual = bound(fun, 2, (slm.Euclidean(8),), jac=jac)
    x = np.random.default_rng(0).standard_normal((50, 8)) * 10.0 ** np.arange(-4, 4)
    r, J = linearized(residual, [x])
    for b in range(len(x)):
        own_r, own_J = linearized(residual, [x[b : b + 1]])
        assert np.array_equal(own_r[0], r[b]) and np.array_equal(own_J[0], J[b])


@pytest.mark.parametrize("jac", SCHEMES)
def test_more_blocks_than_a_chunk_and_threads(jac):
    n = CHUNK + 77
    rng = np.random.default_rng(1)
    x, y, measured = rng.standard_normal((n, 3)), rng.standard_normal((n, 2)), rng.standard_normal(n)
    residual = bound(waves, 2, WAVES, ((),), jac=jac)
    with use_threads(2):
        r, J = linearized(residual, [x, y], [measured])
    for part in (slice(0, 1000), slice(1000, n)):
        with use_threads(1):
            own_r, own_J = linearized(residual, [x[part], y[part]], [measured[part]])
        assert np.array_equal(own_r, r[part]) and np.array_equal(own_J, J[part])


def test_no_blocks_and_no_free_columns():
    residual = bound(waves, 2, WAVES, ((),))
    r, J = linearized(residual, [np.zeros((0, 3)), np.zeros((0, 2))], [np.zeros(0)])
    assert r.shape == (0, 2) and J.shape == (0, 2, 5)
    r, J = linearized(residual, [np.ones((4, 3)), np.ones((4, 2))], [np.ones(4)], np.full(5, -1, dtype=np.int32))
    assert np.isfinite(r).all() and J.shape == (4, 2, 0)


@pytest.mark.parametrize(("jac", "calls"), [("complex", 1), ("forward", 1), ("central", 2)])
def test_held_columns_cost_no_call(jac, calls):
    counted = []

    def fun(x, y, measured):
        counted.append(len(x))
        return waves(x, y, measured)

    residual = bound(fun, 2, WAVES, ((),), jac=jac)
    rng = np.random.default_rng(2)
    points, data = [rng.standard_normal((10, 3)), rng.standard_normal((10, 2))], [rng.standard_normal(10)]
    _, J = linearized(residual, points, data)
    counted.clear()
    _, held = linearized(residual, points, data, np.array([-1, 1, -1, -1, 0], dtype=np.int32))
    assert counted == [10] * (1 + 2 * calls)
    assert np.array_equal(held, J[:, :, [4, 1]])


# -- derivatives --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("jac", "tolerance"), [("complex", 1e-14), (None, 1e-14), ("central", 1e-9), ("forward", 1e-6)])
def test_schemes_against_the_closed_form(jac, tolerance):
    rng = np.random.default_rng(3)
    x, y, measured = rng.standard_normal((200, 3)), rng.standard_normal((200, 2)), rng.standard_normal(200)
    r, J = linearized(bound(waves, 2, WAVES, ((),), jac=jac), [x, y], [measured])
    assert np.array_equal(r, waves(x, y, measured))
    expected = np.concatenate(waves_jacobian(x, y, measured), axis=2)
    np.testing.assert_allclose(J, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(("jac", "tolerance"), [("complex", 1e-11), (None, 1e-11), ("central", 1e-6), ("forward", 2e-4)])
def test_badly_scaled_cameras_lose_no_digits(jac, tolerance):
    """Focal lengths near 400 px beside distortion coefficients of 10⁻⁷ and 10⁻¹³; per column of each block."""
    reference = slm.SnavelyReprojection()
    cameras, points = reference.random_operands(np.random.default_rng(4), 500)
    cameras[:, 7:] = [-2e-7, 1e-13]
    cameras[:, :3] = 0.3 * np.sin(cameras[:, 3:6])
    R, pixels = np.zeros((500, 18)), np.full((500, 2), 30.0)
    reference.prepare(0, cameras, R, derivatives=True)
    points = np.einsum("nji,nj->ni", R[:, :9].reshape(-1, 3, 3), [0.7, 0.5, -3.0] * (1.0 + 0.1 * np.sin(points)))
    points -= np.einsum("nji,nj->ni", R[:, :9].reshape(-1, 3, 3), cameras[:, 3:6])
    index = np.arange(500, dtype=np.int32)
    blocks = [OperandBlocks(cameras, index, R), OperandBlocks(points, index, np.zeros((500, 0)))]
    r, expected = np.empty((500, 2)), np.empty((500, 2, 12))
    reference.linearize(blocks, [pixels], np.arange(12, dtype=np.int32), r, expected)
    residual = bound(snavely, 2, (slm.Euclidean(9), slm.Euclidean(3)), ((2,),), jac=jac)
    _, J = linearized(residual, [cameras, points], [pixels])
    size = np.abs(expected).max(axis=1, keepdims=True)
    assert (np.abs(J - expected) / size).max() < tolerance


@settings(max_examples=60, deadline=None)
@given(
    scale=st.floats(-12, 9).map(lambda e: 10.0**e),
    size=st.floats(-6, 6).map(lambda e: 10.0**e),
    sign=st.sampled_from([-1.0, 1.0]),
)
def test_central_steps_fit_the_scale_at_which_the_residual_bends(scale, size, sign):
    """r = size·exp(−x/scale) and r = size·scale/x near x = scale: relative errors, whatever the unit of x."""

    def fun(x):
        return size * np.stack((np.exp(-x[:, 0] / scale), scale / x[:, 0]), axis=1)

    x = sign * scale * np.linspace(0.5, 1.5, 7)[:, None]
    _, J = linearized(bound(fun, 2, (slm.Euclidean(1),), jac="central"), [x])
    expected = size / scale * np.stack((-np.exp(-x[:, 0] / scale), -((scale / x[:, 0]) ** 2)), axis=1)
    assert (np.abs(J[:, :, 0] - expected).max(axis=1) <= 2e-7 * np.abs(expected).max(axis=1)).all()


@pytest.mark.parametrize("origin", [0.0, 4e5, -6e6])
def test_central_steps_far_from_the_origin(origin):
    """Positions in metres on a national grid, ranges of some metres: the step is not a part of the coordinate."""

    def distance(p, q):
        return np.sqrt(((p - q) ** 2).sum(axis=1))

    rng = np.random.default_rng(6)
    p = origin + rng.standard_normal((100, 2))
    q = p + 3.0 + rng.random((100, 2))
    _, J = linearized(bound(distance, 1, (slm.Euclidean(2), slm.Euclidean(2)), jac="central"), [p, q])
    direction = (p - q) / distance(p, q)[:, None]
    np.testing.assert_allclose(J[:, 0], np.hstack((direction, -direction)), atol=1e-9 if origin == 0.0 else 1e-4)


def test_a_function_may_return_its_operand():
    x = np.random.default_rng(7).standard_normal((20, 3))
    for jac in SCHEMES:
        r, J = linearized(bound(lambda x: x, 3, (slm.Euclidean(3),), jac=jac), [x])
        assert np.array_equal(r, x)
        np.testing.assert_allclose(J, np.broadcast_to(np.eye(3), J.shape), atol=1e-7)


# -- which scheme -------------------------------------------------------------------------------------------------------


def _keeps_the_real_part(x):
    return np.asarray(x, dtype=float)[:, :1] ** 2


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: np.linalg.norm(x, axis=1),
        lambda x: np.abs(x[:, 0]) * x[:, 1],
        lambda x: x[:, 0] ** 2 + 1e-2 * np.abs(x[:, 1]),
        lambda x: np.arctan2(x[:, 0], x[:, 1]),
        lambda x: x.real[:, 0] * x[:, 1],
        lambda x: np.conj(x[:, 0]) * x[:, 1],
        lambda x: np.hypot(x[:, 0], x[:, 1]),
        lambda x: np.floor(x[:, 0]) + x[:, 1],
        lambda x: [float(v) for v in x[:, 0]] * x[:, 1],
        _keeps_the_real_part,
    ],
)
@pytest.mark.parametrize("start", [0.0, 1.0])
def test_functions_that_are_not_analytic_get_central_differences(fun, start):
    x = start * (1.0 + np.random.default_rng(8).random((30, 3)))
    residual, central = (bound(fun, 1, (slm.Euclidean(3),), jac=jac) for jac in (None, "central"))
    r, J = linearized(residual, [x])
    expected_r, expected = linearized(central, [x])
    assert np.array_equal(J, expected, equal_nan=True) and np.array_equal(r, expected_r)
    later = 1.0 + np.random.default_rng(9).random((30, 3))
    assert np.array_equal(linearized(residual, [later])[1], linearized(central, [later])[1])


def test_the_choice_waits_for_blocks_that_are_finite():
    residual = bound(lambda x: np.sqrt(x[:, 0]) / (x[:, 0] - 1.0), 1, (slm.Euclidean(1),))
    _, J = linearized(residual, [np.full((5, 1), np.nan)])
    assert np.isnan(J).all()
    _, J = linearized(residual, [np.full((5, 1), 4.0)])
    assert J[0, 0, 0] == pytest.approx(1.0 / 12.0 - 2.0 / 9.0, rel=1e-15)


def test_the_choice_of_a_scheme_holds_for_later_linearisations():
    seen = []

    def fun(x):
        seen.append(x.dtype.kind)
        return x**2

    residual = bound(fun, 1, (slm.Euclidean(1),))
    linearized(residual, [np.ones((5, 1))])
    seen.clear()
    linearized(residual, [np.ones((5, 1))])
    assert seen == ["f", "c"]


# -- what a function may do and what not --------------------------------------------------------------------------------


def test_operands_and_data_are_read_only():
    def spoil_operand(x, y):
        x -= y
        return x

    def spoil_data(x, y):
        y -= x
        return y

    for fun in (spoil_operand, spoil_data):
        for vectorized in (True, False):
            with pytest.raises(ValueError, match="read-only"):
                linearized(
                    bound(fun, 2, (slm.Euclidean(2),), ((2,),), vectorized=vectorized), [np.ones((3, 2))], [np.ones((3, 2))]
                )


@pytest.mark.parametrize(
    ("fun", "dim", "message"),
    [
        (lambda x: (x[:, 0], x[:, 1]), 2, r"returned a tuple of 2, expected an array of shape \(9, 2\).*np\.stack"),
        (lambda x: x.T, 3, r"returned shape \(3, 9\), expected \(9, 3\) = \(n, dim\)"),
        (lambda x: x, 2, r"returned shape \(9, 3\), expected \(9, 2\)"),
        (lambda x: x.sum(), 1, r"returned shape \(\), expected \(9, 1\)"),
        (lambda x: None, 1, "returned NoneType, expected an array"),
        (lambda x: np.array(["a"] * 9), 1, "returned <U1, expected an array"),
        (lambda x: x + 1j, 3, "returned complex128 for real operands"),
    ],
)
def test_outcomes_of_a_wrong_shape_or_type_are_told(fun, dim, message):
    fun.__name__ = "mistaken"
    with pytest.raises(ProblemError, match=f"fun 'mistaken' of BatchResidual {message}"):
        linearized(bound(fun, dim, (slm.Euclidean(3),)), [np.ones((9, 3))])


def test_outcomes_of_functions_of_one_block_are_checked_too():
    for fun, message in [(lambda x: x[:2], r"\(2,\), expected \(3,\) = \(dim,\)"), (lambda x: [1, [2]], "ragged list")]:
        with pytest.raises(ProblemError, match=message):
            linearized(bound(fun, 3, (slm.Euclidean(3),), vectorized=False), [np.ones((9, 3))])


@pytest.mark.parametrize(
    ("jac", "message"),
    [
        (lambda x, y: (np.ones((5, 1, 2)),), "returned 1 parts, expected a tuple of 2 arrays"),
        (lambda x, y: np.ones((5, 1, 4)), "returned ndarray, expected a tuple of 2 arrays"),
        (lambda x, y: (np.ones((5, 1, 2)), x), r"returned float64 of shape \(5, 2\) for operand 1.*\(5, 1, 2\) = \(n, d"),
        (lambda x, y: (np.ones((5, 1, 2)), None), "returned NoneType for operand 1"),
    ],
)
def test_jacobians_of_a_wrong_shape_are_told(jac, message):
    residual = bound(lambda x, y: (x * y).sum(axis=1), 1, (slm.Euclidean(2), slm.Euclidean(2)), jac=jac)
    with pytest.raises(ProblemError, match=f"jac 'lambda' of BatchResidual {message}"):
        linearized(residual, [np.ones((5, 2)), np.ones((5, 2))])


def test_a_complex_step_on_a_function_that_drops_it_is_told():
    with pytest.raises(ProblemError, match=r"returned float64 for a complex operand.*jac='central'"):
        linearized(bound(lambda x: np.abs(x), 2, (slm.Euclidean(2),), jac="complex"), [np.ones((5, 2))])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("sin", 1), {}, "takes a function, got 'sin'"),
        ((np.sin, 0), {}, "'sin': dim must be"),
        ((np.sin, 2.0), {}, "'sin': dim must be"),
        ((np.sin, 1, "exact"), {}, "jac must be a function, one of 'complex', 'central', 'forward', or None, got 'exact'"),
    ],
)
def test_arguments_are_checked(arguments, options, message):
    with pytest.raises(ProblemError, match=message):
        slm.BatchResidual(*arguments, **options)


def test_arguments_that_the_function_does_not_take_are_told_when_the_group_is_added():
    problem = slm.Problem()
    x = problem.add_variables("x", np.ones((4, 3)))
    with pytest.raises(ProblemError, match=r"'waves' .*\(x, y, measured\).*with 1 operands and 1 data arrays: missing.*"):
        problem.add_residuals(slm.BatchResidual(waves, 2), x, data=np.ones(4))
    with pytest.raises(ProblemError, match="operand 1 is None"):
        problem.add_residuals(slm.BatchResidual(waves, 2), x, None, data=np.ones(4))
    with pytest.raises(ProblemError, match="jac 'lambda'"):
        problem.add_residuals(slm.BatchResidual(lambda x: x, 3, jac=lambda x, y: x), x)


def test_names():
    problem = slm.Problem()
    x = problem.add_variables("x", np.ones((4, 1)))
    functions = [np.sin, functools.partial(lambda x, k: k * x, k=2.0), lambda x: x, lambda x: x]
    names = [problem.add_residuals(slm.BatchResidual(fun, 1), x).name for fun in functions]
    assert names == ["sin", "lambda", "lambda-2", "lambda-3"]


def test_exceptions_of_the_user_arrive_untouched():
    class Own(Exception):
        pass

    def fail(x):
        raise Own("mine")

    problem = slm.Problem()
    x = problem.add_variables("x", np.ones((4, 1)))
    problem.add_residuals(slm.BatchResidual(fail, 1), x)
    with pytest.raises(Own, match="mine"):
        slm.solve(problem)


@pytest.mark.parametrize("jac", ["complex", "central", None])
def test_wild_trial_points_are_invalid_steps_without_warnings(jac):
    """r = log(x) − 1 from afar: full steps go to negative x, where there is no logarithm."""
    problem = slm.Problem()
    x = problem.add_variables("x", [[20.0]])
    problem.add_residuals(slm.BatchResidual(lambda x: np.log(x) - 1.0, 1, jac), x)
    result = slm.solve(problem)
    assert any(not iteration.accepted for iteration in result.iterations[1:])
    assert result[x][0, 0] == pytest.approx(np.e, rel=1e-6)


# -- known optima -------------------------------------------------------------------------------------------------------


def solved(problem):
    return slm.solve(problem, max_iterations=300, function_tolerance=1e-12)


@pytest.mark.parametrize("jac", ["complex", "central", None])
def test_bundle_adjustment_reaches_the_optimum_of_the_built_in_residual(jac):
    data = SYNTHETIC["street-8"]()
    expected = solved(bal.to_problem(data)).final_cost
    found = solved(bal.to_problem(data, residual=slm.BatchResidual(snavely, 2, jac)))
    assert found.final_cost == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("name", "fun"), [("grid-100", between_se2), ("sphere-180", between_se3)])
def test_pose_graphs_reach_the_optimum_of_between(name, fun):
    expected = g2o.to_problem(POSE_GRAPHS[name](), slm.Between)[0]
    (poses,), (group,) = expected.variables, expected.residuals
    problem = slm.Problem()
    own = problem.add_variables("pose", poses.values, manifold=poses.manifold)
    own.fix(poses.fixed.all(axis=1))
    problem.add_residuals(
        slm.BatchResidual(fun, group.residual.dim),
        *(own[operand.index] for operand in group.operands),
        data=group.data,
        sqrt_information=group.sqrt_information,
    )
    np.testing.assert_allclose(slm.evaluate(problem).gradient, slm.evaluate(expected).gradient, rtol=1e-6, atol=1e-5)
    assert solved(problem).final_cost == pytest.approx(solved(expected).final_cost, rel=1e-9)


def test_a_black_box_of_one_block_solves():
    """Exponential decay fitted through a Python loop."""

    def decay(curve, time, measured):
        value, steps = curve[0], 200
        for _ in range(steps):
            value -= curve[1] * value * time / steps
        return value - measured

    time = np.linspace(0.0, 3.0, 12)
    problem = slm.Problem()
    curve = problem.add_variables("curve", [[1.0, 0.1]])
    measured = 2.0 * (1.0 - 0.7 * time / 200) ** 200
    residual = slm.BatchResidual(decay, 1, jac="central", vectorized=False)
    problem.add_residuals(residual, curve[np.zeros(12, int)], data=(time, measured))
    np.testing.assert_allclose(slm.solve(problem)[curve], [[2.0, 0.7]], rtol=1e-6)
