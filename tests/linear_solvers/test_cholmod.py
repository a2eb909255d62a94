"""CHOLMOD: options, failures, and the library around it."""

import logging
import sys
from importlib.util import find_spec

import numpy as np
import pytest

import sparselm.linear_solvers.cholmod as module
from sparselm.errors import MissingDependencyError, SolverError
from sparselm.evaluator import Evaluator
from sparselm.linear_solvers import Cholmod, Failure
from sparselm.structure import Structure
from sparselm.testing.linear_solvers import random_problem

needs_cholmod = pytest.mark.skipif(find_spec("sksparse") is None, reason="scikit-sparse is not installed")


def linearized(shape="grid", seed=0, isolated=True):
    problem = random_problem(shape, np.random.default_rng(seed), isolated=isolated)
    structure = Structure(problem)
    return structure, Evaluator(problem, structure).linearize()


@needs_cholmod
@pytest.mark.parametrize("ordering", ["auto", "amd", "metis", "nesdis", "natural"])
@pytest.mark.parametrize("mode", ["auto", "simplicial", "supernodal"])
def test_every_ordering_and_mode_solves(ordering, mode):
    structure, linearization = linearized()
    solver = Cholmod(ordering=ordering, mode=mode)
    plan = solver.analyze(structure)
    factor = solver.factorize(solver.prepare(plan, linearization), np.ones(structure.num_columns))
    x = np.empty(structure.num_columns)
    facts = solver.solve(factor, -linearization.gradient, x)
    J = linearization.jacobian().toarray()
    expected = np.linalg.solve(J.T @ J + np.eye(len(x)), -linearization.gradient)
    np.testing.assert_allclose(x, expected, rtol=1e-10, atol=1e-12)
    assert facts.factor_nonzeros == plan.nonzeros
    assert f"nnz(L) {plan.nonzeros}" in solver.describe(plan)


@needs_cholmod
def test_long_factorisations_get_the_best_of_several_orders(monkeypatch):
    monkeypatch.setattr(module, "MORE_ORDERS_FLOPS", 0.0)
    structure, _ = linearized("grid", seed=4)
    flops = {name: Cholmod(ordering=name).analyze(structure).flops for name in ("amd", "metis")}
    plan = Cholmod().analyze(structure)
    assert plan.flops == min(flops.values()) == flops[plan.ordering]


@needs_cholmod
@pytest.mark.parametrize("mode", ["simplicial", "supernodal"])
@pytest.mark.parametrize("shape", ["grid", "mixed"])
def test_failure_names_the_block_that_nothing_determines(mode, shape):
    structure, linearization = linearized(shape)
    solver = Cholmod(mode=mode)
    system = solver.prepare(solver.analyze(structure), linearization)
    damping = np.ones(structure.num_columns)
    damping[-3] = 0.0  # of two variables of two components without residuals, the first one's second
    failure = solver.factorize(system, damping)
    assert isinstance(failure, Failure)
    assert structure.describe_block(failure.block) == "alone[0]"


@needs_cholmod
@pytest.mark.parametrize("mode", ["simplicial", "supernodal"])
def test_a_negative_pivot_and_a_nan_are_failures(mode):
    structure, linearization = linearized(isolated=False)
    solver = Cholmod(mode=mode)
    system = solver.prepare(solver.analyze(structure), linearization)
    damping = np.ones(structure.num_columns)
    damping[3] = -1e6
    failure = solver.factorize(system, damping)
    assert isinstance(failure, Failure)
    assert failure.block == structure.block_of_column(3)
    damping[3] = np.nan
    assert isinstance(solver.factorize(system, damping), Failure)


@needs_cholmod
@pytest.mark.parametrize("options", [{"ordering": "random"}, {"mode": "both"}])
def test_unknown_options_are_refused(options):
    structure, _ = linearized()
    with pytest.raises(SolverError, match="expected"):
        Cholmod(**options).analyze(structure)


def test_missing_library_names_the_remedy(monkeypatch):
    structure, _ = linearized()
    monkeypatch.setitem(sys.modules, "sksparse", None)
    monkeypatch.setitem(sys.modules, "sksparse.cholmod", None)
    module._backend.cache_clear()
    try:
        with pytest.raises(MissingDependencyError, match=r"sparselm\[cholmod\]"):
            Cholmod().analyze(structure)
    finally:
        module._backend.cache_clear()


@needs_cholmod
def test_reference_blas_is_told_once(monkeypatch, caplog):
    structure, _ = linearized()
    monkeypatch.setattr(module, "_reference_blas", lambda: "/lib/libblas.so.3")
    module._backend.cache_clear()
    try:
        with caplog.at_level(logging.WARNING, logger="sparselm"):
            Cholmod().analyze(structure)
            Cholmod().analyze(structure)
    finally:
        module._backend.cache_clear()
    assert sum("reference BLAS" in record.message for record in caplog.records) == 1
