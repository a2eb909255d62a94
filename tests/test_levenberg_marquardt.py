"""The loop and its surroundings: statuses, limits, callbacks, reuse of an analysis, what is left untouched."""

import logging
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from small_problems import LinearBlocks, LogResidual, Rosenbrock, mixed_problem, rosenbrock_problem

import sparselm as slm


def test_rosenbrock_converges_and_reports():
    problem, x = rosenbrock_problem()
    result = slm.solve(problem, function_tolerance=0)
    np.testing.assert_allclose(result[x], [[1.0, 1.0]], atol=1e-9)
    np.testing.assert_array_equal(x.values, [[-1.2, 1.0]])  # the problem is left as it was
    assert result.status.converged
    assert result.success
    assert result.initial_cost == pytest.approx(12.1)
    assert result.iterations[0].cost == result.initial_cost
    assert result.iterations[-1].cost == result.final_cost
    assert result.num_iterations == result.num_accepted + result.num_rejected + result.num_invalid
    assert result.num_rejected > 0
    costs = [i.cost for i in result.iterations]
    assert costs == sorted(costs, reverse=True)
    text = str(result)
    assert len(text.splitlines()) <= 24
    for word in ("usable", "cost", "iterations", "solver", "time", "worst"):
        assert word in text
    problem.update(result)
    np.testing.assert_array_equal(x.values, result[x])


def test_phases_add_up_to_the_total():
    problem, _ = rosenbrock_problem(50)
    times = slm.solve(problem).times
    parts = times.read + times.analyze + times.linearize + times.linear_solve + times.evaluate + times.other
    assert parts == pytest.approx(times.total, abs=1e-9)
    assert times.other >= 0.0


def test_linear_problem_is_solved_in_the_least_squares_sense():
    rng = np.random.default_rng(8)
    problem = slm.Problem()
    x = problem.add_variables("x", rng.standard_normal((1, 4)))
    A, c = rng.standard_normal((20, 2, 4)), rng.standard_normal((20, 2))
    problem.add_residuals(LinearBlocks(2, (4,)), x[np.zeros(20, int)], data=(A, c))
    result = slm.solve(problem, function_tolerance=1e-15, parameter_tolerance=1e-14)
    expected = np.linalg.lstsq(A.reshape(-1, 4), c.ravel(), rcond=None)[0]
    np.testing.assert_allclose(result[x][0], expected, rtol=1e-9)


def test_invalid_trial_points_are_rejected_and_recovered_from():
    problem = slm.Problem()
    x = problem.add_variables("x", [[4.0], [30.0]])
    problem.add_residuals(LogResidual(), x)
    result = slm.solve(problem, function_tolerance=0, parameter_tolerance=1e-12)
    assert result.num_invalid > 0
    np.testing.assert_allclose(result[x], 1.0, atol=1e-6)
    invalid = next(i for i in result.iterations if not i.valid)
    assert math.isnan(invalid.trial_cost)
    assert not invalid.accepted


def test_a_bounded_loss_does_not_hide_an_infinite_residual():
    problem = slm.Problem()
    x = problem.add_variables("x", [[1.0]])
    data = (np.array([[[1.0]], [[1e200]]]), np.zeros((2, 1)))
    problem.add_residuals(LinearBlocks(1, (1,)), x[[0, 0]], data=data, loss=slm.Tukey(1.0))
    with pytest.raises(slm.NonFiniteStartError, match="overflows"):
        slm.solve(problem)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"max_iterations": 0}, slm.Status.MAX_ITERATIONS),
        ({"max_iterations": 3}, slm.Status.MAX_ITERATIONS),
        ({"time_limit": 0.0}, slm.Status.TIME_LIMIT),
        ({"gradient_tolerance": 1e9}, slm.Status.GRADIENT_TOLERANCE),
        ({"function_tolerance": 0.9}, slm.Status.FUNCTION_TOLERANCE),
        ({"parameter_tolerance": 10.0, "function_tolerance": 0.0}, slm.Status.PARAMETER_TOLERANCE),
        ({"callback": lambda i: i.iteration == 2}, slm.Status.STOPPED_BY_CALLBACK),
    ],
)
def test_every_way_to_stop_has_its_status(options, status):
    problem, _ = rosenbrock_problem()
    result = slm.solve(problem, **options)
    assert result.status is status
    assert result.message.startswith(status.message)


def test_callback_may_raise_stop_iteration_and_sees_every_step():
    seen = []

    def callback(item):
        seen.append(item)
        if len(seen) == 4:
            raise StopIteration

    result = slm.solve(rosenbrock_problem()[0], callback=callback)
    assert result.status is slm.Status.STOPPED_BY_CALLBACK
    assert [i.iteration for i in seen] == [0, 1, 2, 3]
    assert tuple(seen) == result.iterations


def test_a_callback_can_stop_before_the_first_step():
    result = slm.solve(rosenbrock_problem()[0], callback=lambda item: True)
    assert result.num_iterations == 0
    assert result.status is slm.Status.STOPPED_BY_CALLBACK


def test_already_optimal_and_wholly_held_problems():
    problem, x = rosenbrock_problem()
    x.values = [[1.0, 1.0]]
    assert slm.solve(problem).status is slm.Status.GRADIENT_TOLERANCE
    x.values = [[5.0, 1.0]]
    x.fix()
    result = slm.solve(problem)
    assert result.status is slm.Status.GRADIENT_TOLERANCE
    assert result.sizes.num_parameters == 0
    assert result.final_cost == result.initial_cost > 0


def test_data_weights_masks_and_starts_change_without_a_new_analysis():
    rng = np.random.default_rng(1)
    problem = mixed_problem(rng)
    analysis = slm.analyze(problem, linear_solver=slm.DenseCholesky())
    a = problem.variables[0]
    for change in ("nothing", "data", "weight", "loss", "start", "hold more"):
        group = problem.residuals[0]
        if change == "data":
            group.set_data(tuple(rng.standard_normal(array.shape) for array in group.data))
        elif change == "weight":
            group.set_weight(information=rng.uniform(0.5, 2.0, group.num_blocks))
        elif change == "loss":
            group.loss = slm.Cauchy(0.7)
        elif change == "start":
            a.values = rng.standard_normal(a.values.shape)
        elif change == "hold more":
            a.fix([5])
        again = slm.solve(problem, analysis=analysis)
        fresh = slm.solve(problem, linear_solver=slm.DenseCholesky())
        assert again.final_cost == pytest.approx(fresh.final_cost, rel=1e-8), change
        np.testing.assert_array_equal(again[a][a.fixed], a.values[a.fixed])
    a.free([1])
    with pytest.raises(slm.ProblemError, match=r"'a': row 1 was held.*keep_held_columns"):
        slm.solve(problem, analysis=analysis)
    more = (np.ones((1, 2, 5)), np.ones((1, 2)))
    problem.add_residuals(LinearBlocks(2, (3, 2)), a[[0]], problem.variables[1][[1]], data=more)
    with pytest.raises(slm.ProblemError, match="analyze again"):
        slm.solve(problem, analysis=analysis)


def test_components_can_be_freed_where_their_columns_were_kept():
    problem = mixed_problem(np.random.default_rng(1))
    analysis = slm.analyze(problem, linear_solver=slm.DenseCholesky(), keep_held_columns=True)
    for _ in range(2):
        held = slm.solve(problem, analysis=analysis)
        assert held.final_cost == pytest.approx(slm.solve(problem).final_cost, rel=1e-8)
        problem.variables[0].free()
        problem.variables[1].free()


def test_worst_blocks_and_group_costs_account_for_the_cost():
    problem = mixed_problem(np.random.default_rng(6))
    result = slm.solve(problem)
    assert sum(result.group_costs.values()) == pytest.approx(result.final_cost, rel=1e-12)
    costs = [block.cost for block in result.worst_blocks]
    assert costs == sorted(costs, reverse=True)
    assert result.worst_blocks[0].operands.count("[") in (2, 3)


def test_misuse_is_told_before_the_first_iteration():
    problem, x = rosenbrock_problem()
    with pytest.raises(slm.SolverError, match=r"instance such as slm.Cholmod\(\)"):
        slm.solve(problem, linear_solver=slm.DenseCholesky)
    with pytest.raises(slm.SolverError, match="instance such as"):
        slm.solve(problem, damping="nielsen")
    with pytest.raises(slm.SolverError, match="num_threads = 1000"):
        slm.solve(problem, num_threads=1000)
    with pytest.raises(slm.ProblemError, match="no variables"):
        slm.solve(slm.Problem())
    with pytest.raises(slm.ProblemError, match=r"index\[1\] = 7, expected 0 … 0"):
        x[[0, 7]]
    with pytest.raises(slm.ProblemError, match="1-D array of integers"):
        x[[0.5]]
    with pytest.raises(slm.ProblemError, match="another problem"):
        slm.Problem().add_residuals(Rosenbrock(), x)
    with pytest.raises(slm.ProblemError, match=r"operand 0 is on Euclidean\(dim=3\), expected Euclidean\(dim=2\)"):
        problem.add_residuals(Rosenbrock(), problem.add_variables("y", np.zeros((2, 3))))
    with pytest.raises(slm.ProblemError, match="positive semi-definite"):
        problem.add_residuals(Rosenbrock(), x, information=np.diag([1.0, -1.0]))
    with pytest.raises(slm.ProblemError, match="not both"):
        problem.add_residuals(Rosenbrock(), x, information=1.0, sqrt_information=1.0)
    with pytest.raises(slm.ProblemError, match=r"expected \(\), \(1,\), \(2, 2\) or \(1, 2, 2\)"):
        problem.add_residuals(Rosenbrock(), x, information=np.ones(3))
    with pytest.raises(slm.ProblemError, match="row 0 is not finite"):
        problem.add_variables("z", [[np.inf]])
    with pytest.raises(slm.ProblemError, match="no nearest point"):
        problem.add_variables("q", [[0.0, 0.0, 0.0, 0.0]], manifold=slm.SO3())


@pytest.mark.parametrize("solver", [slm.DenseCholesky(), slm.SuperLU()], ids=repr)
def test_two_solves_at_once_in_two_threads_equal_each_alone(solver):
    problems = [rosenbrock_problem(200)[0], mixed_problem(np.random.default_rng(3))]
    alone = [slm.solve(p, linear_solver=solver, num_threads=1) for p in problems]
    together: list = [None, None]

    def work(slot):
        for _ in range(3):
            together[slot] = slm.solve(problems[slot], linear_solver=solver, num_threads=1)

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        assert other.final_cost == pytest.approx(one.final_cost, rel=1e-12)
        assert other.num_iterations == one.num_iterations


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("layer", ["omp", "workqueue", "tbb"])
def test_threading_layers_take_solves_from_several_threads(layer):
    done = run_python(
        """
        import threading
        from small_problems import rosenbrock_problem
        import sparselm as slm
        problem = rosenbrock_problem(2000)[0]
        try:
            alone = slm.solve(problem)
        except ValueError as error:
            if "threading layer" in str(error):
                print("absent")
                raise SystemExit
            raise
        found = []
        threads = [threading.Thread(target=lambda: found.append(slm.solve(problem))) for _ in range(2)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert len(found) == 2
        for result in found:
            assert abs(result.final_cost - alone.final_cost) <= 1e-12 * alone.initial_cost
            assert result.num_iterations == alone.num_iterations
        import numba
        print(numba.threading_layer())
        """,
        NUMBA_THREADING_LAYER=layer,
    )
    assert done.returncode == 0, done.stderr
    if "absent" in done.stdout:
        pytest.skip(f"numba's threading layer {layer} is not installed here")
    assert done.stdout.strip() == layer


def test_a_solve_inside_a_spawned_process_works(tmp_path):
    script = tmp_path / "spawned.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing
            from small_problems import rosenbrock_problem
            import sparselm as slm

            def work(_):
                return slm.solve(rosenbrock_problem(5)[0], function_tolerance=0).final_cost

            if __name__ == "__main__":
                work(0)
                with multiprocessing.get_context("spawn").Pool(2) as pool:
                    print(max(pool.map(work, range(2))))
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-18


def test_ctrl_c_ends_with_the_best_iterate_and_a_second_one_raises():
    def press(item):
        if item.iteration == 6:
            os.kill(os.getpid(), signal.SIGINT)

    result = slm.solve(rosenbrock_problem()[0], callback=press)
    assert result.status is slm.Status.INTERRUPTED
    assert result.num_iterations == 6
    assert result.final_cost < result.initial_cost
    assert result.success
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def press_twice(item):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        slm.solve(rosenbrock_problem()[0], callback=press_twice)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_invalid_steps_are_logged(caplog):
    problem = slm.Problem()
    x = problem.add_variables("x", [[30.0]])
    problem.add_residuals(LogResidual(), x)
    with caplog.at_level(logging.INFO, logger="sparselm"):
        slm.solve(problem)
    assert "is invalid: 1 blocks are not finite" in caplog.text
