"""Problem × linear solver × damping: every combination that makes sense meets the known optimum."""

import math

import numba
import numpy as np
import pytest

import problems
import sparselm as slm
from sparselm import plugins

SMALL = ["street-8", "grid-100", "grid-100-uncoupled", "sphere-180", "torus-240-uncoupled"]
CLASSICAL = ["rosenbrock", "helical-valley", "powell-singular", "wood", "bard", "kowalik-osborne", "wood-1000"]
DIRECT = ["block-cholesky", "cholmod", "superlu", "dense-cholesky", "dense-qr"]


def build(name: str) -> tuple[problems.NamedProblem, slm.Problem]:
    named = problems.get(name)
    reason = named.why_unavailable()
    if reason:
        pytest.skip(reason)
    return named, named.build()


def make_solver(name: str):
    if name == "cholmod":
        pytest.importorskip("sksparse", reason="the extra 'cholmod' is not installed")
    return plugins.create("linear_solvers", name)


def check_optimum(named: problems.NamedProblem, result: slm.Result) -> None:
    assert result.success or result.final_cost <= 1e-20
    assert named.optimum is not None
    assert named.is_optimal(result.final_cost), f"{result.final_cost!r}, expected {named.optimum!r}; {result.message}"


@pytest.mark.parametrize(
    ("solver", "damping"), [(s, "nielsen") for s in DIRECT] + [("superlu", d) for d in ("fixed", "marquardt")]
)
@pytest.mark.parametrize("name", SMALL)
def test_small_problems(name, solver, damping):
    named, problem = build(name)
    if damping == "fixed":
        # Undamped steps diverge from a poor start: give it a good one.
        problem.update(slm.solve(problem, linear_solver=slm.DenseCholesky(), max_iterations=15))
    options = named.options | {"damping": plugins.create("damping", damping)}
    result = slm.solve(problem, linear_solver=make_solver(solver), **options)
    check_optimum(named, result)


@pytest.mark.parametrize("damping", ["nielsen", "marquardt"])
@pytest.mark.parametrize("name", CLASSICAL)
def test_classical_problems(name, damping):
    named, problem = build(name)
    result = slm.solve(problem, **(named.options | {"damping": plugins.create("damping", damping)}))
    check_optimum(named, result)


@pytest.mark.parametrize("solver", ["lsmr", "lsqr"])
@pytest.mark.parametrize("name", ["street-8", "grid-100", "sphere-180"])
def test_iterative_solvers_come_close(name, solver):
    named, problem = build(name)
    result = slm.solve(problem, linear_solver=make_solver(solver), max_iterations=300, function_tolerance=1e-9)
    assert result.inner_iterations > result.num_iterations
    assert named.optimum is not None
    assert result.final_cost <= named.optimum * (1 + 1e-3)


@pytest.mark.parametrize("name", [n for n in problems.names("pose-graph") if n.startswith("g2o-")])
def test_public_pose_graphs(name):
    """With the default options: tolerances of Ceres are enough for 1e-6 of the optimum."""
    named, problem = build(name)
    result = slm.solve(problem)
    assert result.status.converged
    assert result.final_cost == pytest.approx(named.optimum, rel=1e-6)


@pytest.mark.parametrize("solver", ["cholmod", "superlu"])
def test_ladybug_49(solver):
    _, problem = build("bal-ladybug-49")
    costs = []

    def enough(item):
        costs.append(item.cost)
        return item.cost <= 13344.25

    result = slm.solve(
        problem, linear_solver=make_solver(solver), max_iterations=200, function_tolerance=0, callback=enough
    )
    assert result.initial_cost == pytest.approx(8.509125e5, rel=1e-6)
    assert 13344.23 <= result.final_cost <= 13344.25
    assert costs == sorted(costs, reverse=True)
    assert result.initial_remarks == {"observations of a point behind its camera": 31}


@pytest.mark.parametrize("loss", ["huber:1.0", "soft-l1:1.0", "cauchy:2.0"])
def test_outliers_do_not_move_a_robust_optimum(loss):
    """Gross errors in one pixel in fifty move the least-squares optimum far, the robust one hardly."""
    from sparselm import datasets

    made = datasets.street(12, 300, seed=5, outliers=0.02)
    data = made.data

    def solve(parsed):
        problem = slm.Problem()
        camera = problem.add_variables("camera", data.cameras)
        point = problem.add_variables("point", data.points)
        camera.fix([0])
        operands = camera[data.camera_index], point[data.point_index]
        problem.add_residuals(slm.SnavelyReprojection(), *operands, data=data.pixels, loss=parsed)
        return slm.solve(problem, max_iterations=200), problem

    robust, problem = solve(plugins.parse_loss(loss))
    plain, _ = solve(None)
    inlier = ~made.outlier

    def inlier_error(result):
        values = [result[v] for v in problem.variables]
        clean = slm.Problem()
        camera, point = clean.add_variables("camera", values[0]), clean.add_variables("point", values[1])
        clean.add_residuals(
            slm.SnavelyReprojection(), camera[data.camera_index[inlier]], point[data.point_index[inlier]],
            data=data.pixels[inlier],
        )  # fmt: skip
        cost = slm.solve(clean, max_iterations=0).initial_cost
        return math.sqrt(2 * cost / inlier.sum())

    assert inlier_error(robust) < 0.5 * inlier_error(plain)


def test_fixed_seed_costs_do_not_depend_on_the_thread_count():
    _, problem = build("street-20")
    threads = (1, min(2, numba.config.NUMBA_NUM_THREADS))
    results = [slm.solve(problem, linear_solver=slm.DenseCholesky(), num_threads=n, max_iterations=5) for n in threads]
    assert results[0].initial_cost == results[1].initial_cost
    np.testing.assert_allclose(results[0].final_cost, results[1].final_cost, rtol=1e-9)
