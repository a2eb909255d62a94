"""The named problems state what they are: formulas against SciPy, stored optima against the independent solver."""

import numpy as np
import pytest
import scipy.optimize

import problems
from problems import bundle_adjustment, pose_graphs, reference
from problems.base import require_data
from problems.formula import Formula
from sparselm.residuals.base import OperandBlocks
from sparselm.testing import check_residual

SMALL = [name for name in problems.names("classical") if "1000" not in name] + problems.names("nist")


def _built(name):
    named = problems.get(name)
    if reason := named.why_unavailable():
        pytest.skip(reason)
    return named, named.build()


def _as_functions(problem):
    """Residual and Jacobian of a problem with one variable block, for SciPy."""
    (group,) = problem.residuals
    index = np.zeros(group.num_blocks, dtype=np.int32)
    width = problem.variables[0].manifold.ambient_dim
    r = np.empty((group.num_blocks, group.residual.dim))
    J = np.empty((*r.shape, width))

    def operands(x):
        return [OperandBlocks(x[None].copy(), index, np.empty((1, 0)))]

    def residual(x):
        group.residual.evaluate(operands(x), group.data, r)
        return np.nan_to_num(r.ravel(), nan=1e150, posinf=1e150, neginf=-1e150)

    def jacobian(x):
        group.residual.linearize(operands(x), group.data, np.arange(width, dtype=np.int32), r, J)
        return J.reshape(-1, width)

    return residual, jacobian, problem.variables[0].values[0]


@pytest.mark.parametrize("name", SMALL)
def test_minpack_finds_the_stored_optimum(name):
    named, problem = _built(name)
    residual, jacobian, start = _as_functions(problem)
    solution = scipy.optimize.least_squares(
        residual, start, jacobian, method="lm", x_scale="jac", ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=5000
    )
    assert named.is_optimal(solution.cost), (solution.cost, named.optimum)


@pytest.mark.parametrize("name", ["rosenbrock-chain-1000", "broyden-tridiagonal-1000", "wood"])
def test_formulas_keep_the_contract_of_residuals(name):
    _, problem = _built(name)
    check_residual(problem.residuals[0].residual)


def test_formula_with_data_keeps_the_contract_of_residuals():
    def line(slope, offset, given):
        return given[1] - slope[0] * given[0] - offset[0], slope[0] * offset[0] ** 2

    check_residual(Formula(line, (1, 1), 2, data_length=2))


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
