"""Every registered damping strategy keeps the contract, and so does one of another make."""

import pytest
from damping_strategies import Dogleg
from small_problems import rosenbrock_problem

import sparselm as slm
from sparselm import plugins
from sparselm.testing import check_damping

STRATEGIES = [example for name in plugins.names("damping") for example in plugins.load("damping", name).examples()]


@pytest.mark.parametrize("damping", [*STRATEGIES, Dogleg()], ids=repr)
def test_contract(damping):
    check_damping(damping)


@pytest.mark.parametrize("damping", [slm.More(), Dogleg()], ids=repr)
@pytest.mark.parametrize("solver", [slm.DenseCholesky(), slm.SuperLU(), slm.DenseQR()], ids=repr)
def test_trust_regions_converge_through_the_same_loop(damping, solver):
    problem, x = rosenbrock_problem(3)
    result = slm.solve(problem, damping=damping, linear_solver=solver, function_tolerance=0)
    assert abs(result[x] - 1.0).max() < 1e-6
    assert result.num_iterations < 60


@pytest.mark.parametrize("bad", [{"factor": 1.0}, {"initial_lambda": 0.0}, {"initial_lambda": float("nan")}])
def test_options_that_make_no_sense_are_refused(bad):
    with pytest.raises(slm.SolverError):
        slm.Marquardt(**bad)
    with pytest.raises(slm.SolverError):
        slm.Fixed(lambda_=-1.0)
    with pytest.raises(slm.SolverError):
        slm.More(initial_radius=0.0)
