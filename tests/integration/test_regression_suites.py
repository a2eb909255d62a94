"""The classical test sets of nonlinear regression, with the options that their problems recommend."""

import pytest

import problems
import sparselm as slm
from problems import mgh, nist
from problems.minpack import minpack


@pytest.mark.parametrize("name", problems.names("nist"))
def test_nist_parameters_have_four_correct_digits(name):
    named = problems.get(name)
    if reason := named.why_unavailable():
        pytest.skip(reason)
    result = slm.solve(named.build(), **named.options)
    digits = nist.correct_digits(result["b"][0], named.certified())
    assert digits.min() >= 4.0, f"{digits.round(1)} digits; {result.message}"
    assert named.is_optimal(result.final_cost)


@pytest.mark.parametrize("scale", [1.0, 10.0])
@pytest.mark.parametrize("name", mgh.CASES)
def test_classical_minima_are_reached_where_minpack_reaches_them(name, scale):
    case = mgh.CASES[name]
    problem = case.problem(scale)
    result = slm.solve(problem, **problems.get(name).options)
    if not case.is_reached(2.0 * result.final_cost):
        assert scale > 1.0
        assert not case.is_reached(2.0 * minpack(problem).cost), (
            f"Σr² = {2.0 * result.final_cost:.6g}; {result.message}"
        )


@pytest.mark.parametrize("name", [name for name in problems.names("classical") if "1000" in name])
def test_sparse_classical_problems(name):
    named = problems.get(name)
    assert named.is_optimal(slm.solve(named.build(), **named.options).final_cost)


@pytest.mark.parametrize("name", problems.names("nist") + problems.names("classical"))
def test_default_damping_reaches_the_optimum_or_a_caveat_says_why_not(name):
    named = problems.get(name)
    if reason := named.why_unavailable():
        pytest.skip(reason)
    result = slm.solve(named.build(), **(named.options | {"damping": slm.Nielsen()}))
    assert named.is_optimal(result.final_cost) == (not named.caveat), result.message
