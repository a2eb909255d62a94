"""The named problems state what they are: formulas against SciPy, stored optima against the independent solver."""

import numpy as np
import pytest

import problems
import sparselm as slm
from problems import bundle_adjustment, mgh, nist, pose_graphs, reference
from problems.base import require_data
from problems.minpack import minpack
from sparselm.testing import check_residual

SMALL = [name for name in problems.names("classical") if "1000" not in name] + problems.names("nist")


def _built(name):
    named = problems.get(name)
    if reason := named.why_unavailable():
        pytest.skip(reason)
    return named, named.build()


@pytest.mark.parametrize("name", SMALL)
def test_minpack_finds_the_stored_optimum(name):
    named, problem = _built(name)
    solution = minpack(problem)
    assert named.is_optimal(solution.cost), (solution.cost, named.optimum)


@pytest.mark.parametrize("name", SMALL)
def test_jacobians_agree_with_differences(name):
    _, problem = _built(name)
    report = slm.check_residual(problem, quiet=True)
    assert report.ok, str(report)


@pytest.mark.parametrize("name", ["rosenbrock-chain-1000", "broyden-tridiagonal-1000", "wood"])
def test_residual_functions_keep_the_contract_of_residuals(name):
    _, problem = _built(name)
    check_residual(problem.residuals[0].residual)


@pytest.mark.parametrize("name", ["meyer", "wood", "rosenbrock-chain-1000", "broyden-tridiagonal-1000"])
def test_starts_are_scaled(name):
    named, problem = _built(name)
    farther = named.build(scale=10.0)
    np.testing.assert_allclose(farther.variables[0].values, 10.0 * problem.variables[0].values)
    assert farther.residuals[0].num_blocks == problem.residuals[0].num_blocks


def test_copies_are_independent():
    one = mgh.CASES["bard"].problem(2.0)
    three = mgh.CASES["bard"].problem(2.0, copies=3)
    assert three.residuals[0].num_blocks == 3 * one.residuals[0].num_blocks
    assert slm.evaluate(three).cost == pytest.approx(3 * slm.evaluate(one).cost)
    gradient = slm.evaluate(one).gradient
    np.testing.assert_allclose(slm.evaluate(three).gradient, np.tile(gradient, 3), rtol=1e-12)


def test_digits_are_counted():
    certified = np.array([1.0, -200.0, 3e-5, 4.0])
    found = np.array([1.0, -200.0 * (1 + 1e-4), -3e-5, 4.0 * (1 - 1e-7)])
    np.testing.assert_allclose(nist.correct_digits(found, certified), [11.0, 4.0, 0.0, 7.0], atol=1e-6)


@pytest.mark.parametrize("dataset", nist.MODELS)
def test_certified_parameters_give_the_certified_sum_of_squares(dataset):
    named, problem = _built(f"nist-{dataset.lower()}-1")
    certified = named.certified()
    problem.variables[0].values = certified[None]
    assert 2.0 * slm.evaluate(problem).cost == pytest.approx(nist.MODELS[dataset][1], rel=1e-3, abs=1e-20)


@pytest.mark.parametrize("name", ["street-8", "grid-100", "sphere-180", "torus-240"])
def test_independent_solver_finds_the_stored_optimum(name):
    named = problems.get(name)
    if name in bundle_adjustment.SYNTHETIC:
        cost = reference.bundle_adjustment_optimum(bundle_adjustment.SYNTHETIC[name]())
    else:
        cost = reference.pose_graph_optimum(pose_graphs.SYNTHETIC[name]())
    assert cost == pytest.approx(named.optimum, rel=1e-10)


def test_front_variant_drops_ten_points():
    named = problems.get("bal-ladybug-49-front")
    if reason := named.why_unavailable():
        pytest.skip(reason)
    data = bundle_adjustment.ladybug_49()
    front = bundle_adjustment.without_points_behind(data)
    assert len(data.points) - len(front.points) == 10
    assert len(front.cameras) == 49
    assert np.bincount(front.point_index).min() >= 2


def test_names_and_kinds():
    kinds = {problems.get(name).kind for name in problems.names()}
    assert kinds == {"bundle-adjustment", "pose-graph", "classical", "nist"}
    assert sum(len(problems.names(kind)) for kind in kinds) == len(problems.names()) == len(set(problems.names()))
    for name in ("bal-ladybug-49", "g2o-torus3d-uncoupled", "nist-thurber-1", "street-1000", "helical-valley"):
        assert problems.get(name).name == name


def test_unknown_name_suggests_close_ones():
    with pytest.raises(KeyError, match="did you mean rosenbrock"):
        problems.get("rosenbrok")


def test_data_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("SPARSELM_DATA", raising=False)
    assert problems.data_path("nist/BoxBOD.dat") is None
    assert "needs nist/BoxBOD.dat" in problems.get("nist-boxbod-1").why_unavailable()
    assert problems.get("rosenbrock").why_unavailable() is None
    with pytest.raises(FileNotFoundError, match="SPARSELM_DATA"):
        require_data("nist/BoxBOD.dat")
    monkeypatch.setenv("SPARSELM_DATA", str(tmp_path))
    assert problems.data_path("a.txt") is None
    (tmp_path / "a.txt").write_text("")
    assert problems.data_path("a.txt") == tmp_path / "a.txt"


def test_optimality_is_relative_and_two_sided():
    box = problems.get("nist-boxbod-1")
    assert box.is_optimal(box.optimum * (1 + 0.9 * box.tolerance))
    assert not box.is_optimal(box.optimum * (1 + 1.1 * box.tolerance))
    assert not box.is_optimal(0.9 * box.optimum)
    assert problems.get("rosenbrock").is_optimal(1e-20)
    assert not problems.get("rosenbrock").is_optimal(1e-3)


def test_everything_without_data_builds():
    for name in problems.names():
        named = problems.get(name)
        if named.needs_data is None and name != "street-1000":
            problem = named.build()
            assert all(np.isfinite(variables.values).all() for variables in problem.variables)
