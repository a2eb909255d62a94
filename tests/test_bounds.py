"""Bounds: no point outside is ever evaluated, the optimum in them is found, and misuse is told."""

import tracemalloc
from dataclasses import dataclass, field

import numpy as np
import pytest
from damping_strategies import Dogleg
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares, lsq_linear
from small_problems import LinearBlocks, rosenbrock_problem
from test_memory import Jacobi, street_problem

import sparselm as slm
from sparselm import plugins
from sparselm.bounds import active, project_step, projected_gradient, step_limits
from sparselm.damping.base import AbstractDamping, StepVectors, damped_step
from sparselm.evaluator import Evaluator
from sparselm.model import QuadraticModel
from sparselm.report.json_report import describe_result
from sparselm.residuals.base import AbstractResidual
from sparselm.timing import PhaseClock

DAMPINGS = [example for name in plugins.names("damping") for example in plugins.load("damping", name).examples()]
# Marquardt's rule takes any decrease for a success, and may creep where residuals stay large.
THOROUGH = [slm.Nielsen(), slm.More(), Dogleg()]
SOLVERS = [slm.DenseCholesky(), slm.DenseQR(), slm.SuperLU(), slm.LSMR(), slm.LSQR()]
EXACT = {"function_tolerance": 0.0, "parameter_tolerance": 0.0, "gradient_tolerance": 1e-9, "max_iterations": 300}


@dataclass(frozen=True)
class Watched(AbstractResidual):
    """Another residual, with every row of its first operand at which it is evaluated or linearised."""

    inner: AbstractResidual
    seen: list = field(default_factory=list, compare=False)

    @property
    def dim(self):
        return self.inner.dim

    @property
    def manifolds(self):
        return self.inner.manifolds

    @property
    def data_shapes(self):
        return self.inner.data_shapes

    def evaluate(self, blocks, data, r):
        self.seen.append(blocks[0].values.copy())
        self.inner.evaluate(blocks, data, r)

    def linearize(self, blocks, data, columns, r, J):
        self.seen.append(blocks[0].values.copy())
        self.inner.linearize(blocks, data, columns, r, J)

    def assert_inside(self, lower, upper):
        points = np.array(self.seen)
        assert len(points) >= 3
        assert (points >= lower).all()
        assert (points <= upper).all()
        assert np.ptp(points, axis=0).max() > 0


@dataclass(frozen=True)
class Wavy(AbstractResidual):
    """r = A x + ½ sin(A x) − c: not linear, but with a unique minimum where A is square and regular."""

    rows: int
    width: int

    @property
    def dim(self):
        return self.rows

    @property
    def manifolds(self):
        return (slm.Euclidean(self.width),)

    @property
    def data_shapes(self):
        return ((self.rows, self.width), (self.rows,))

    def evaluate(self, blocks, data, r):
        y = np.einsum("nij,nj->ni", data[0], blocks[0].values[blocks[0].index])
        r[:] = y + 0.5 * np.sin(y) - data[1]

    def linearize(self, blocks, data, columns, r, J):
        self.evaluate(blocks, data, r)
        y = np.einsum("nij,nj->ni", data[0], blocks[0].values[blocks[0].index])
        full = (1.0 + 0.5 * np.cos(y))[:, :, None] * data[0]
        for component, column in enumerate(columns):
            if column >= 0:
                J[:, :, column] = full[:, :, component]


def linear_problem(rng, n, m, kind="plain"):
    """min ½‖A x − b‖² over a box, as a problem and as arrays."""
    A = rng.standard_normal((m, n))
    if kind == "correlated":
        A = np.abs(A)
    elif kind == "scaled":
        A = A * 10.0 ** rng.uniform(-3, 3, n)
    b = A @ rng.standard_normal(n) * 2.0 + rng.standard_normal(m)
    lower, upper = -rng.uniform(0, 1, n), rng.uniform(0, 1, n)
    problem = slm.Problem()
    x = problem.add_variables("x", np.zeros((1, n)), lower=lower, upper=upper)
    residual = Watched(LinearBlocks(m, (n,)))
    problem.add_residuals(residual, x, data=(A[None], b[None]))
    return problem, x, residual, A, b


def wavy_problem(rng, n, width, chance=0.7):
    """n independent rows; each component bounded below, above, on both sides, or not."""
    A = np.eye(width) + 0.3 * rng.standard_normal((n, width, width))
    c = 2.0 * rng.standard_normal((n, width))
    start = rng.standard_normal((n, width))
    lower = np.where(rng.random((n, width)) < chance, start - rng.uniform(0, 1, (n, width)), -np.inf)
    upper = np.where(rng.random((n, width)) < chance, start + rng.uniform(0, 1, (n, width)), np.inf)
    touching = rng.random((n, width)) < 0.2
    start = np.where(touching & np.isfinite(lower), lower, start)
    problem = slm.Problem()
    x = problem.add_variables("x", start, lower=lower, upper=upper)
    residual = Watched(Wavy(width, width))
    problem.add_residuals(residual, x, data=(A, c))
    return problem, x, residual


def optimality(problem, result):
    """‖x − P(x − g)‖∞ at a result, computed afresh, of problems with one variable group that is free."""
    (x,) = problem.variables
    problem.update(result)
    g = slm.evaluate(problem).gradient.reshape(x.values.shape)
    lower = np.full(g.shape, -np.inf) if x.lower is None else x.lower
    upper = np.full(g.shape, np.inf) if x.upper is None else x.upper
    return abs(x.values - np.clip(x.values - g, lower, upper)).max()


# -- flat arrays --------------------------------------------------------------------------------------------------------

FINITE = st.floats(-1e300, 1e300)


@given(st.lists(st.tuples(FINITE, FINITE, FINITE, st.floats(allow_nan=False)), min_size=1, max_size=20))
def test_a_projected_step_stays_inside_as_rounded(rows):
    numbers = np.array(rows)
    lower, x, upper = np.sort(numbers[:, :3], axis=1).T.copy()
    delta = numbers[:, 3].copy()
    before = delta.copy()
    changed = project_step(x, delta, lower, upper)
    assert changed == (delta != before).any()
    with np.errstate(over="ignore"):
        assert (lower <= x + delta).all()
        assert (x + delta <= upper).all()
        inside = (before >= lower - x) & (before <= upper - x) & (x + before >= lower) & (x + before <= upper)
    assert (delta[inside] == before[inside]).all()
    assert not project_step(x, delta, lower, upper)


def test_rounding_alone_would_leave_the_bounds():
    rng = np.random.default_rng(0)
    x, upper = rng.standard_normal(10_000), rng.uniform(4, 5, 10_000)
    naive = x + (upper - x)
    assert (naive > upper).any()
    up = step_limits(x, np.full_like(x, -np.inf), upper)[1]
    assert (x + up <= upper).all()
    with np.errstate(invalid="ignore"):
        assert ((upper - up) - x < 1e-14).all()


def test_projected_gradient_and_active():
    rng = np.random.default_rng(1)
    lower, upper = -rng.uniform(0, 1, 500), rng.uniform(0, 1, 500)
    lower[:100], upper[50:150] = -np.inf, np.inf
    g = 2.0 * rng.standard_normal(500)
    x = np.clip(rng.standard_normal(500), lower, upper)
    assert np.allclose(projected_gradient(x, g, lower, upper), x - np.clip(x - g, lower, upper), rtol=0, atol=1e-15)
    assert (projected_gradient(x, g, lower, upper)[50:100] == g[50:100]).all()
    held = active(x, g, lower, upper)
    assert held.any()
    on_a_bound = (x == lower) | (x == upper)
    assert (held == on_a_bound & (np.clip(x - g, lower, upper) == x)).all()
    one = np.ones(1)
    assert active(one, 0.0 * one, one, one).all()
    assert not active(one, 0.0 * one, one, 2.0 * one).any()
    # Where x is large, x − (x − g) has lost all of a small g.
    assert projected_gradient(np.array([1e20]), one, np.array([0.0]), np.array([np.inf])) == 1.0


# -- stating bounds -----------------------------------------------------------------------------------------------------


def test_forms_of_bounds():
    problem = slm.Problem()
    x = problem.add_variables("x", np.ones((4, 3)), lower=0.5, upper=[np.inf, 2.0, np.inf])
    assert x.lower.shape == x.upper.shape == (4, 3)
    assert (x.lower == 0.5).all()
    assert x.upper[3].tolist() == [np.inf, 2.0, np.inf]
    with pytest.raises(ValueError, match="read-only"):
        x.lower[0, 0] = 9.0
    given = np.zeros((4, 3))
    x.lower = given
    given[:] = 7.0
    assert (x.lower == 0.0).all()
    x.lower, x.upper = None, np.inf
    assert x.lower is None
    assert x.upper is None
    column = problem.add_variables("y", [1.0, 2.0, 3.0], lower=[0.0, 1.0, 2.0])
    assert column.lower.shape == (3, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lower": [0.0, 0.0]}, r"variables 'x': lower has shape \(2,\), expected \(\), \(3,\) or \(4, 3\)"),
        ({"upper": [1.0, np.nan, 1.0]}, "upper of row 0, component 1 is NaN"),
        ({"lower": 2.0, "upper": [3.0, 3.0, 1.0]}, r"row 0, component 2 has lower = 2.0 above upper = 1.0 \(4 such"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(arguments, message):
    problem = slm.Problem()
    with pytest.raises(slm.ProblemError, match=message):
        problem.add_variables("x", np.ones((4, 3)), **arguments)
    assert problem.variables == []


@pytest.mark.parametrize("manifold", [slm.SO3(), slm.SE2(), slm.SE3(), slm.Sphere(), slm.SO2()], ids=repr)
def test_curved_components_cannot_be_bounded(manifold):
    problem = slm.Problem()
    values = manifold.random(np.random.default_rng(0), 3)
    with pytest.raises(slm.ProblemError, match=r"variables 'pose': upper of component 0 is 1.0 in row 0.*Euclidean"):
        problem.add_variables("pose", values, manifold, upper=1.0)
    assert problem.add_variables("pose", values, manifold, lower=-np.inf, upper=np.inf).upper is None


def test_only_euclidean_factors_of_a_product_can_be_bounded():
    manifold = slm.Product(slm.SO3(), slm.Product(slm.Euclidean(2), slm.SE2()))
    assert manifold.additive().tolist() == [-1, -1, -1, -1, 3, 4, -1, -1, -1]
    values = manifold.random(np.random.default_rng(0), 5)
    lower = np.full((5, 9), -np.inf)
    lower[2, 4] = -100.0
    x = slm.Problem().add_variables("x", values, manifold, lower=lower)
    lower[3, 7] = 0.0
    with pytest.raises(slm.ProblemError, match=r"'x': lower of component 7 is 0.0 in row 3"):
        x.lower = lower


def test_a_start_outside_is_refused_by_solve_with_the_remedy():
    problem, x = rosenbrock_problem(3)
    values = x.values.copy()
    values[2, 1] = 4.0
    x.values = values
    x.upper = [np.inf, 3.0]
    with pytest.raises(slm.ProblemError, match=r"'x': row 2, component 1 starts at 4.0, outside.*\[-inf, 3.0\].*np.clip"):
        slm.solve(problem)
    x.fix([2])  # a held value outside has no remedy by itself either
    with pytest.raises(slm.ProblemError, match="outside its bounds"):
        slm.solve(problem)
    x.lower = -9.0
    x.values = np.clip(x.values, x.lower, x.upper)
    assert slm.solve(problem).success
    x.lower, x.upper = 1.0, 0.0  # crossed for a moment is no error, to solve so is
    with pytest.raises(slm.ProblemError, match=r"lower = 1.0 above upper = 0.0"):
        slm.solve(problem)


# -- solving ------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 5), st.sampled_from(THOROUGH))
def test_no_point_outside_is_evaluated_and_the_result_is_optimal(seed, n, width, damping):
    problem, x, residual = wavy_problem(np.random.default_rng(seed), n, width)
    result = slm.solve(problem, damping=damping, linear_solver=slm.DenseCholesky(), **EXACT)
    lower = np.full((n, width), -np.inf) if x.lower is None else x.lower
    upper = np.full((n, width), np.inf) if x.upper is None else x.upper
    points = np.array(residual.seen)
    assert (points >= lower).all()
    assert (points <= upper).all()
    found = optimality(problem, result)
    assert found < 1e-6
    assert abs(result.gradient_max_norm - found) < 1e-9


@pytest.mark.parametrize("damping", DAMPINGS, ids=repr)
def test_every_strategy_keeps_inside(damping):
    problem, x, residual = wavy_problem(np.random.default_rng(5), 30, 4)
    result = slm.solve(problem, damping=damping, linear_solver=slm.DenseCholesky(), **EXACT)
    residual.assert_inside(x.lower, x.upper)
    assert result.final_cost < result.initial_cost
    assert result.num_at_bounds == ((result[x] == x.lower) | (result[x] == x.upper)).sum() > 10


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@pytest.mark.parametrize("kind", ["plain", "correlated", "scaled"])
def test_linear_problems_end_where_lsq_linear_does(kind, solver):
    rng = np.random.default_rng(3)
    problem, x, residual, A, b = linear_problem(rng, 25, 40, kind)
    result = slm.solve(problem, linear_solver=solver, **EXACT)
    expected = lsq_linear(A, b, (x.lower[0], x.upper[0]), method="bvls", tol=1e-14)
    residual.assert_inside(x.lower, x.upper)
    assert result.final_cost <= expected.cost * (1 + 1e-9)
    assert abs(A @ (result[x][0] - expected.x)).max() < 1e-5 * np.linalg.norm(b)
    at_bounds = (result[x] == x.lower) | (result[x] == x.upper)
    assert (at_bounds[0] == (expected.active_mask != 0)).all()
    assert result.num_at_bounds == at_bounds.sum() > 5


@pytest.mark.parametrize("kind", ["plain", "correlated", "scaled"])
def test_active_sets_are_found_within_a_step_not_one_by_one(kind):
    problem, x, _, A, b = linear_problem(np.random.default_rng(4), 120, 200, kind)
    result = slm.solve(problem, linear_solver=slm.DenseCholesky(), function_tolerance=1e-12)
    expected = lsq_linear(A, b, (x.lower[0], x.upper[0]), method="bvls", tol=1e-14, max_iter=2000)
    assert result.num_at_bounds > 30
    # Clipping steps takes 3, 30 and 5 iterations here. What comes after the optimum is left to rounding.
    assert min(i.iteration for i in result.iterations if i.cost <= expected.cost * (1 + 1e-9)) <= 2


@pytest.mark.parametrize("seed", range(4))
def test_nonlinear_problems_end_where_scipy_does(seed):
    problem, x, _ = wavy_problem(np.random.default_rng(seed), 1, 12)
    A, c = (data[0] for data in problem.residuals[0].data)
    start = np.clip(x.values[0], np.nextafter(x.lower[0], 99), np.nextafter(x.upper[0], -99))
    expected = least_squares(
        lambda z: A @ z + 0.5 * np.sin(A @ z) - c, start, bounds=(x.lower[0], x.upper[0]), ftol=1e-14, xtol=1e-14, gtol=1e-14
    )
    result = slm.solve(problem, **EXACT)
    assert np.isclose(result.final_cost, expected.cost, rtol=1e-7)
    assert np.allclose(result[x][0], expected.x, atol=1e-5)


def test_a_bound_is_left_where_the_cost_falls_inwards():
    problem, x = rosenbrock_problem()
    x.values = [[0.0, 1.0]]
    x.lower = [0.0, 1.0]  # the start is on both, the optimum (1, 1) on the second only
    result = slm.solve(problem, **EXACT)
    assert np.allclose(result[x], 1.0, atol=1e-8)
    x.upper = [0.5, np.inf]
    result = slm.solve(problem, **EXACT)
    assert result[x][0].tolist() == [0.5, 1.0]
    assert result.num_at_bounds == 2


def test_a_box_corner_that_is_optimal_needs_no_iteration():
    problem, x = rosenbrock_problem()
    x.lower, x.upper = [1.5, -np.inf], [2.0, 2.25]
    x.values = [[1.5, 2.25]]
    result = slm.solve(problem)
    assert result.status is slm.Status.GRADIENT_TOLERANCE
    assert result.num_iterations == 0
    assert result.gradient_max_norm == 0.0
    assert slm.evaluate(problem).gradient.tolist() == [[0.5, 0.0]][0]


def test_equal_bounds_hold_like_fix():
    problem, x, _ = wavy_problem(np.random.default_rng(7), 5, 3, chance=0.0)
    held = np.zeros((5, 3), dtype=bool)
    held[[0, 2, 4], [1, 0, 2]] = True
    x.lower = np.where(held, x.values, -np.inf)
    x.upper = np.where(held, x.values, np.inf)
    bounded = slm.solve(problem, **EXACT)
    assert (bounded[x][held] == x.values[held]).all()
    x.lower = x.upper = None
    for row, component in np.argwhere(held):
        x.fix([row], [component])
    fixed = slm.solve(problem, **EXACT)
    assert np.allclose(bounded[x], fixed[x], atol=1e-8)
    assert bounded.num_at_bounds == 3


def test_bounds_change_between_solves_of_one_analysis():
    problem, x = rosenbrock_problem(3)
    analysis = slm.analyze(problem)
    free = slm.solve(problem, analysis=analysis)
    x.upper = [0.5, np.inf]
    low = slm.solve(problem, analysis=analysis)
    assert (low[x][:, 0] == 0.5).all()
    x.upper = [[0.25, np.inf], [np.inf, np.inf], [0.75, np.inf]]
    mixed = slm.solve(problem, analysis=analysis, **EXACT)
    assert np.allclose(mixed[x], [[0.25, 0.0625], [1.0, 1.0], [0.75, 0.5625]], atol=1e-6)
    assert mixed.sizes.num_bounded_parameters == mixed.num_at_bounds == 2
    x.upper = None
    again = slm.solve(problem, analysis=analysis)
    assert (again[x] == free[x]).all()
    assert [i.cost for i in again.iterations] == [i.cost for i in free.iterations]
    assert again.sizes.num_bounded_parameters == again.num_at_bounds == 0


def test_bounds_that_are_never_met_change_no_bit():
    problem, x = rosenbrock_problem(3)
    free = slm.solve(problem)
    x.lower, x.upper = -1e9, 1e9
    bounded = slm.solve(problem)
    assert (bounded[x] == free[x]).all()
    assert [i.gradient_max_norm for i in bounded.iterations] == [i.gradient_max_norm for i in free.iterations]


def test_a_component_cut_by_its_bound_lands_on_it_exactly():
    rng = np.random.default_rng(8)
    start, upper = rng.uniform(-1e3, -1, (500, 1)), rng.uniform(0, 1e-3, (500, 1))
    up = step_limits(start, np.full_like(start, -np.inf), upper)[1]
    assert (start + up < upper).any()
    problem = slm.Problem()
    x = problem.add_variables("x", start, upper=upper)
    problem.add_residuals(slm.Prior(slm.Euclidean(1)), x, data=np.full((500, 1), 10.0))
    result = slm.solve(problem, max_iterations=1)
    assert (result[x] == upper).all()


@pytest.mark.parametrize("seed", [0, 3, 8, 12, 14, 18])
def test_a_step_minimises_the_damped_model_in_the_box(seed):
    rng = np.random.default_rng(seed)
    problem, x, _, A, b = linear_problem(rng, 20, 30)
    corner = rng.random((1, 20)) < 0.4
    x.values = np.where(corner, np.where(rng.random((1, 20)) < 0.5, x.lower, x.upper), 0.0)
    analysis = slm.analyze(problem, linear_solver=slm.DenseCholesky())
    model = QuadraticModel(Evaluator(problem, analysis.structure), analysis.linear_solver, analysis.plan, PhaseClock())
    model.start()
    vectors = StepVectors.take(model)
    D = 10.0 ** rng.uniform(0, 3, 20)
    vectors.damping[:] = D
    trial = damped_step(model, vectors, None)
    start, lower, upper = x.values[0], x.lower[0], x.upper[0]
    wide, rhs = np.vstack([A, np.diag(np.sqrt(D))]), np.concatenate([b - A @ start, np.zeros(20)])
    room = (np.minimum(lower - start, -1e-300), np.maximum(upper - start, 1e-300))
    expected = lsq_linear(wide, rhs, room, method="bvls", tol=1e-14).x
    assert np.allclose(trial.delta, expected, atol=1e-9)
    g = A.T @ (A @ start - b)
    freed = active(start, g, lower, upper) & (abs(expected) > 1e-6)
    assert freed.any() or seed not in (0, 3)


def test_optimality_is_measured_by_the_projected_gradient():
    problem, x, _ = wavy_problem(np.random.default_rng(9), 10, 3)
    result = slm.solve(problem, max_iterations=0)
    g = slm.evaluate(problem).gradient.reshape(10, 3)
    expected = abs(x.values - np.clip(x.values - g, x.lower, x.upper)).max()
    assert np.isclose(result.gradient_max_norm, expected, rtol=1e-12)
    assert expected < 0.9 * abs(g).max()


def test_the_norm_of_a_step_is_that_of_the_shortened_one():
    problem = slm.Problem()
    x = problem.add_variables("x", [[0.0]], upper=1.0)
    problem.add_residuals(slm.Prior(slm.Euclidean(1)), x, data=[[10.0]])
    result = slm.solve(problem, damping=Dogleg())
    assert result.iterations[1].step_norm == 1.0
    assert result[x] == 1.0


@dataclass(frozen=True)
class Root(AbstractResidual):
    """r = 1 + √x, whose derivative is infinite at 0."""

    @property
    def dim(self):
        return 1

    @property
    def manifolds(self):
        return (slm.Euclidean(1),)

    def evaluate(self, blocks, data, r):
        r[:] = 1.0 + np.sqrt(blocks[0].values[blocks[0].index])

    def linearize(self, blocks, data, columns, r, J):
        self.evaluate(blocks, data, r)
        with np.errstate(divide="ignore"):
            J[:, 0, :] = 0.5 / np.sqrt(blocks[0].values[blocks[0].index])


def test_an_infinite_derivative_at_a_bound_is_told():
    problem = slm.Problem()
    x = problem.add_variables("x", [[2.0]], lower=0.0)
    problem.add_residuals(Root(), x)
    result = slm.solve(problem)
    assert result[x] == 0.0
    assert result.status is slm.Status.NON_FINITE_JACOBIAN


# -- together with the rest ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [False, True], ids=["no columns", "columns kept"])
def test_held_components_and_bounds(keep):
    problem, x, residual = wavy_problem(np.random.default_rng(11), 40, 4, chance=0.5)
    x.fix([0, 3])
    x.fix([5, 6, 7], components=[1])
    x.fix([8, 9], components=[0, 3])
    analysis = slm.analyze(problem, keep_held_columns=keep)
    assert analysis.structure.num_columns == (160 if keep else 145)
    result = slm.solve(problem, analysis=analysis, **EXACT)
    residual.assert_inside(x.lower, x.upper)
    assert (result[x][x.fixed] == x.values[x.fixed]).all()
    bounded = np.isfinite(x.lower) | np.isfinite(x.upper)
    assert result.sizes.num_bounded_parameters == (bounded & ~x.fixed).sum()
    A, c = problem.residuals[0].data
    y = np.einsum("nij,nj->ni", A, result[x])
    g = np.einsum("nij,ni->nj", (1.0 + 0.5 * np.cos(y))[:, :, None] * A, y + 0.5 * np.sin(y) - c)
    error = projected_gradient(result[x], g, x.lower, x.upper)
    assert abs(error[~x.fixed]).max() < 1e-6
    assert abs(error[x.fixed]).max() > 1e-2


@pytest.mark.parametrize("loss", [slm.Huber(0.3), slm.Cauchy(0.5), slm.Tukey(3.0)], ids=repr)
def test_losses_and_bounds(loss):
    problem, x, residual = wavy_problem(np.random.default_rng(12), 20, 3)
    problem.residuals[0].loss = loss
    result = slm.solve(problem, **EXACT)
    residual.assert_inside(x.lower, x.upper)
    assert optimality(problem, result) < 1e-6
    assert result.num_at_bounds > 5


def test_product_manifold_with_a_bounded_factor():
    manifold = slm.Product(slm.SO3(), slm.Euclidean(2), slm.SO2())
    rng = np.random.default_rng(13)
    start, target = manifold.random(rng, 8), manifold.random(rng, 8)
    start[:, 4:6], target[:, 4:6] = 0.0, [3.0, -0.25]
    problem = slm.Problem()
    upper = np.array([np.inf] * 4 + [1.0, 1.0] + [np.inf])
    x = problem.add_variables("x", start, manifold, lower=-upper, upper=upper)
    residual = Watched(slm.Prior(manifold))
    problem.add_residuals(residual, x, data=target)
    result = slm.solve(problem, **EXACT)
    residual.assert_inside(x.lower, x.upper)
    assert (result[x][:, 4] == 1.0).all()
    assert result.num_at_bounds == 8
    assert np.isclose(result.final_cost, 0.5 * 8 * 2.0**2)


def test_several_groups_of_variables_some_bounded():
    rng = np.random.default_rng(14)
    problem = slm.Problem()
    a = problem.add_variables("a", np.zeros((3, 2)))
    b = problem.add_variables("b", np.zeros((4, 3)), lower=-0.1, upper=0.1)
    c = problem.add_variables("c", np.zeros((2, 1)), upper=0.05)
    b.fix([1])
    a.fix([0], components=[1])
    n = 60
    index = [rng.integers(0, len(v), n) for v in (a, b, c)]
    data = (rng.standard_normal((n, 2, 6)), rng.standard_normal((n, 2)))
    problem.add_residuals(LinearBlocks(2, (2, 3, 1)), *(v[i] for v, i in zip((a, b, c), index, strict=True)), data=data)
    result = slm.solve(problem, **EXACT)
    flat = np.zeros((2 * n, 20))
    place = [2 * index[0], 6 + 3 * index[1], 18 + index[2]]
    for block in range(n):
        columns = np.concatenate([first[block] + np.arange(w) for first, w in zip(place, (2, 3, 1), strict=True)])
        flat[2 * block : 2 * block + 2, columns] = data[0][block]
    free = np.ones(20, dtype=bool)
    free[[1, 9, 10, 11]] = False
    bounds = np.array([[-np.inf] * 6 + [-0.1] * 12 + [-np.inf] * 2, [np.inf] * 6 + [0.1] * 12 + [0.05] * 2])[:, free]
    expected = lsq_linear(flat[:, free], data[1].ravel(), bounds, method="bvls", tol=1e-14)
    found = np.concatenate([result[v].ravel() for v in (a, b, c)])
    assert np.allclose(found[free], expected.x, atol=1e-7)
    assert (found[~free] == 0.0).all()
    assert result.num_at_bounds == (expected.active_mask != 0).sum() > 3
    assert result.sizes.num_bounded_parameters == 11


@dataclass(frozen=True)
class Reckless(AbstractDamping):
    """Twelve times the damped step, whatever bounds say, with a look at the residuals there."""

    def start(self, model):
        return StepVectors.take(model), np.zeros(0), [1.0]

    def step(self, model, state):
        vectors, _, scale = state
        vectors.damping[:] = 1e-3
        trial = damped_step(model, vectors, state)
        out = np.zeros(60)
        trial.delta[:] *= 12.0 * scale[0]
        assert model.residuals_at(trial.delta, out)
        return trial

    def judge(self, trial, actual_reduction, state):
        state[2][0] = 1.0 if actual_reduction > 0 else 0.3 * state[2][0]
        return actual_reduction > 0, state

    def invalid(self, state):
        return state

    def value(self, state):
        return state[2][0]


def test_a_strategy_that_ignores_bounds_cannot_leave_them():
    problem, x, residual = wavy_problem(np.random.default_rng(15), 20, 3)
    result = slm.solve(problem, damping=Reckless(), max_iterations=15)
    residual.assert_inside(x.lower, x.upper)
    assert result.num_accepted > 2
    assert result.num_at_bounds > 10


def test_one_and_two_threads_agree_to_the_bit():
    problem = street_problem(slm.Huber(1.0))
    camera, point = problem.variables
    focal = camera.values[:, 6]
    camera.lower = np.where(np.arange(9) == 6, np.median(focal) * 0.995, -np.inf)
    camera.upper = np.where(np.arange(9) == 6, np.median(focal) * 1.005, np.inf)
    camera.values = np.clip(camera.values, camera.lower, camera.upper)
    point.lower = point.values - 0.02
    runs = [slm.solve(problem, num_threads=threads, max_iterations=4, linear_solver=Jacobi()) for threads in (1, 2)]
    assert runs[0].num_at_bounds > 1000
    assert [i.cost for i in runs[0].iterations] == [i.cost for i in runs[1].iterations]
    for variables in problem.variables:
        assert (runs[0][variables] == runs[1][variables]).all()


def test_inner_iterations_of_every_solve_of_a_step_are_counted():
    problem, *_ = linear_problem(np.random.default_rng(16), 20, 40)
    seen = []

    @dataclass(frozen=True)
    class Counted(slm.linear_solvers.base.AbstractLinearSolver):
        needs = slm.LSMR.needs
        inner = slm.LSMR()

        def analyze(self, structure, previous=None):
            return self.inner.analyze(structure)

        def prepare(self, plan, linearization):
            return self.inner.prepare(plan, linearization)

        def factorize(self, system, damping):
            return self.inner.factorize(system, damping)

        def solve(self, factor, rhs, out, *, tolerance=None, guess=None):
            facts = self.inner.solve(factor, rhs, out, tolerance=tolerance, guess=guess)
            seen.append(facts.inner_iterations)
            return facts

    result = slm.solve(problem, linear_solver=Counted())
    assert len(seen) > result.num_iterations
    assert result.inner_iterations == sum(seen)


def test_report():
    problem, x = rosenbrock_problem(2)
    plain = slm.solve(problem)
    assert "bound" not in str(plain)
    x.upper = [0.5, np.inf]
    result = slm.solve(problem)
    assert result.num_at_bounds == 2
    assert "2 of 2 bounded parameters at a bound" in str(result)
    report = describe_result(result)
    assert report["num_at_bounds"] == report["num_bounded_parameters"] == 2


def test_no_allocation_in_proportion_between_iterations():
    problem = street_problem()
    point = problem.variables[1]
    point.lower, point.upper = point.values - 0.01, point.values + 0.01
    peaks = []

    def watch(item):
        if item.iteration == 2:
            tracemalloc.start()
        elif item.iteration == 8:
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            return True
        return False

    result = slm.solve(problem, linear_solver=Jacobi(), callback=watch, function_tolerance=0, parameter_tolerance=0)
    assert result.num_iterations == 8
    assert result.num_at_bounds > 1000
    # Temporaries of a chunk of the 24,000 bounded numbers; were the solver's rounds to keep some, there would be more.
    assert result.sizes.num_bounded_parameters == 24_000
    assert peaks[0] < 20 * 8 * 24_000
