"""Misuse that must be told, and odd but legal problems that must work."""

import os
import signal
from dataclasses import dataclass

import numpy as np
import pytest
from small_problems import LinearBlocks, Rosenbrock, rosenbrock_problem

import sparselm as slm
from sparselm.evaluator import Evaluator
from sparselm.structure import Structure


def ring(manifold, index_i, index_j, n=6):
    problem = slm.Problem()
    pose = problem.add_variables("pose", manifold.random(np.random.default_rng(1), n), manifold=manifold)
    measured = manifold.random(np.random.default_rng(2), len(index_i))
    problem.add_residuals(slm.Between(manifold), pose[index_i], pose[index_j], data=measured)
    return problem


def test_an_analysis_of_another_problem_is_refused():
    i = np.arange(6, dtype=np.int32)
    j = np.roll(i, 1).copy()
    analysis = slm.analyze(ring(slm.SE2(), i, j))
    with pytest.raises(slm.ProblemError, match="analyze again"):
        slm.solve(ring(slm.SE3(), i, j), analysis=analysis)

    def two_groups(which):
        problem = slm.Problem()
        variables = [problem.add_variables(name, np.ones((6, 2))) for name in ("a", "b")]
        problem.add_residuals(Rosenbrock(), variables[which][i])
        return problem

    with pytest.raises(slm.ProblemError, match="analyze again"):
        slm.solve(two_groups(1), analysis=slm.analyze(two_groups(0)))


def test_classes_and_names_in_place_of_instances_are_refused():
    problem, x = rosenbrock_problem()
    for loss in (slm.Huber, "huber"):
        with pytest.raises(slm.ProblemError, match=r"instance such as slm.Huber\(1.0\)"):
            problem.add_residuals(Rosenbrock(), x, loss=loss)
    with pytest.raises(slm.ProblemError, match=r"instance such as slm.SE3\(\)"):
        problem.add_variables("pose", np.zeros((1, 7)), manifold=slm.SE3)
    with pytest.raises(slm.ProblemError, match="variables or variables"):
        problem.add_residuals(Rosenbrock(), np.zeros((1, 2)))
    with pytest.raises(slm.ProblemError, match="needs an operand"):
        problem.add_residuals(Rosenbrock())
    with pytest.raises(slm.SolverError, match="num_threads"):
        slm.solve(problem, num_threads=1.0)
    with pytest.raises(slm.SolverError, match="function_tolerance = -1"):
        slm.solve(problem, function_tolerance=-1)
    with pytest.raises(slm.SolverError, match="time_limit = nan"):
        slm.solve(problem, time_limit=float("nan"))
    for options in ({"initial_radius": 0.0}, {"initial_radius": float("nan")}, {"min_radius": -1.0}):
        with pytest.raises(slm.SolverError, match="Nielsen"):
            slm.Nielsen(**options)


def test_a_refused_change_leaves_what_was_there():
    problem = slm.Problem()
    q = problem.add_variables("q", [[0.0, 0.0, 0.0, 1.0]], manifold=slm.SO3())
    with pytest.raises(slm.ProblemError):
        q.values = np.zeros((1, 4))
    np.testing.assert_array_equal(q.values, [[0.0, 0.0, 0.0, 1.0]])
    with pytest.raises(ValueError, match="read-only"):
        q.values[0, 0] = np.nan
    group = problem.add_residuals(slm.Prior(slm.SO3()), q, data=q.values.copy(), information=4.0)
    with pytest.raises(slm.ProblemError):
        group.set_weight(information=-1.0)
    assert group.sqrt_information.ravel() == [2.0]
    other, _ = rosenbrock_problem()
    with pytest.raises(slm.ProblemError, match="of another problem"):
        problem.update(slm.solve(other))


def test_an_index_spoiled_after_it_was_checked_is_found():
    i = np.arange(6, dtype=np.int32)
    j = np.roll(i, 1).copy()
    problem = ring(slm.SE2(), i, j)
    i[2] = 2**30
    with pytest.raises(slm.ProblemError, match=r"index\[2\]"):
        slm.solve(problem)


def test_index_and_row_forms():
    _, x = rosenbrock_problem(4)
    np.testing.assert_array_equal(x[np.int64(3)].index, [3])
    np.testing.assert_array_equal(x[np.array([True, False, True, False])].index, [0, 2])
    assert x[[]].index.dtype == np.int32
    x.fix(np.array([[0, 1], [2, 2]]))
    np.testing.assert_array_equal(x.fixed[:, 0], [True, True, True, False])


def test_groups_without_blocks():
    problem, x = rosenbrock_problem()
    x.fix([0], components=[0])
    problem.add_residuals(Rosenbrock(), x[[]])
    assert slm.solve(problem).success
    empty = slm.Problem()
    empty.add_residuals(Rosenbrock(), empty.add_variables("x", np.ones((2, 2)))[[]])
    assert slm.solve(empty).final_cost == 0.0
    assert Evaluator(empty, Structure(empty)).linearize().jacobian().shape == (0, 4)


def test_a_variable_that_cancels_itself():
    """An edge from a pose to itself has A ≈ −B: diag JᵀJ is 0 up to rounding, and must not come out below."""
    i = np.array([0, 1, 2, 3, 4, 5], np.int32)
    problem = ring(slm.SE3(), i, np.array([0, 2, 3, 4, 5, 1], np.int32))
    lin = Evaluator(problem, Structure(problem)).linearize()
    assert (lin.diagonal >= 0.0).all()
    for solver in (slm.SuperLU(), slm.DenseCholesky(), slm.LSMR()):
        result = slm.solve(problem, linear_solver=solver)
        assert result.status.converged
        assert result.final_cost < 0.5 * result.initial_cost


@dataclass(frozen=True)
class HalfNaN(LinearBlocks):
    """Linear, but the derivative by component 0 is not a number."""

    def linearize(self, blocks, data, columns, r, J):
        super().linearize(blocks, data, columns, r, J)
        if columns[0] >= 0:
            J[:, :, columns[0]] = np.nan


@pytest.mark.parametrize("solver", [slm.DenseCholesky(), slm.SuperLU(), slm.DenseQR(), slm.LSMR(tolerance=1e-10)])
def test_a_held_component_may_have_no_derivative(solver):
    rng = np.random.default_rng(0)
    problem = slm.Problem()
    x = problem.add_variables("x", rng.standard_normal((3, 2)))
    data = (rng.standard_normal((12, 2, 2)), rng.standard_normal((12, 2)))
    problem.add_residuals(HalfNaN(2, (2,)), x[np.arange(12) % 3], data=data)
    x.fix(components=[0])
    kept = slm.analyze(problem, linear_solver=solver, keep_held_columns=True)
    result = slm.solve(problem, analysis=kept)
    assert result.final_cost == pytest.approx(slm.solve(problem, linear_solver=solver).final_cost, rel=1e-9)
    assert result.sizes.num_parameters == 3
    assert result.sizes.num_variable_blocks == 3


def test_held_rows_keep_their_bits():
    i = np.arange(6, dtype=np.int32)
    problem = ring(slm.SE3(), i, np.roll(i, 1).copy())
    pose = problem.variables[0]
    pose.fix([0, 3])
    result = slm.solve(problem, max_iterations=7, function_tolerance=0)
    np.testing.assert_array_equal(result[pose][[0, 3]], pose.values[[0, 3]])


def test_a_solve_that_starts_at_the_optimum_is_usable():
    problem, x = rosenbrock_problem()
    problem.residuals[0].set_weight(information=1e8)
    x.values = [[1.0 + 1e-16, 1.0 + 2e-16]]
    extra = (np.ones((1, 1, 2)), np.array([[7.0]]))
    problem.add_residuals(LinearBlocks(1, (2,)), x, data=extra)
    tight = {"function_tolerance": 0.0, "parameter_tolerance": 0.0, "gradient_tolerance": 0.0, "max_iterations": 500}
    problem.update(slm.solve(problem, **tight))
    again = slm.solve(problem, **tight)
    assert again.status is slm.Status.STALLED
    assert again.success


def test_ctrl_c_wins_over_convergence():
    def press(item):
        if item.iteration == 1:
            os.kill(os.getpid(), signal.SIGINT)

    problem, _ = rosenbrock_problem()
    result = slm.solve(problem, callback=press, function_tolerance=1e9)
    assert result.status is slm.Status.INTERRUPTED
    problem.variables[0].values = [[1.0, 1.0]]
    result = slm.solve(problem, callback=lambda item: os.kill(os.getpid(), signal.SIGINT))
    assert result.status is slm.Status.INTERRUPTED


def test_evaluate_gives_what_a_solve_would_see():
    rng = np.random.default_rng(3)
    problem = slm.Problem()
    x = problem.add_variables("x", rng.standard_normal((4, 2)))
    x.fix([1])
    A, c = rng.standard_normal((9, 3, 2)), rng.standard_normal((9, 3))
    index = rng.integers(0, 4, 9)
    problem.add_residuals(LinearBlocks(3, (2,)), x[index], data=(A, c), sqrt_information=2.0, loss=slm.Huber(0.5), name="g")
    found = slm.evaluate(problem)
    r = 2.0 * (np.einsum("nij,nj->ni", A, x.values[index]) - c)
    np.testing.assert_allclose(found.residuals["g"], r, rtol=1e-12)
    assert found.cost == pytest.approx(slm.solve(problem, max_iterations=0).initial_cost, rel=1e-14)
    assert found.block_costs["g"].sum() == pytest.approx(found.cost, rel=1e-14)
    assert found.jacobian.shape == (27, 6)
    assert found.gradient.shape == (6,)


def test_options_of_the_wrong_kind_are_refused_by_name():
    from sparselm import plugins

    for options in ({"initial_radius": "abc"}, {"initial_radius": True}, {"min_gain_ratio": None}):
        with pytest.raises(slm.PluginError, match="expected a number such as"):
            plugins.create("damping", "nielsen", options)
    with pytest.raises(slm.PluginError, match="expected a whole number"):
        plugins.create("linear_solvers", "lsmr", {"max_iterations": 2.5})
    assert plugins.create("linear_solvers", "lsmr", {"max_iterations": 20.0}).max_iterations == 20
    with pytest.raises(slm.PluginError, match="needs 2 numbers"):
        plugins.parse_loss("tolerant")


def test_residuals_at_a_step_leave_the_point_alone():
    from sparselm.model import QuadraticModel
    from sparselm.timing import PhaseClock

    problem, x = rosenbrock_problem(3)
    structure = Structure(problem)
    evaluator = Evaluator(problem, structure)
    model = QuadraticModel(evaluator, slm.DenseCholesky(), slm.DenseCholesky().analyze(structure), PhaseClock())
    model.start()
    out, delta = np.empty(structure.num_rows), np.full(structure.num_columns, 0.25)
    assert model.residuals_at(delta, out)
    moved = x.values + 0.25
    expected = np.column_stack([10.0 * (moved[:, 1] - moved[:, 0] ** 2), 1.0 - moved[:, 0]])
    np.testing.assert_allclose(out, expected.ravel(), rtol=1e-12)
    np.testing.assert_array_equal(evaluator.point[0], x.values)
