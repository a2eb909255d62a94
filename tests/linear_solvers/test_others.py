"""What the contract does not cover: accuracy, stopping, limits, and the choice of a solver."""

import dataclasses

import numpy as np
import pytest

import sparselm.linear_solvers.auto as auto
from sparselm.errors import SolverError
from sparselm.evaluator import Evaluator
from sparselm.linear_solvers import LSMR, LSQR, BlockCholesky, Cholmod, DenseCholesky, DenseQR, Failure, SuperLU
from sparselm.problem import Problem
from sparselm.structure import Structure
from sparselm.testing.linear_solvers import LinearBlocks, random_problem


def linearized(problem):
    structure = Structure(problem)
    return structure, Evaluator(problem, structure).linearize()


def step(solver, structure, linearization, damping, rhs=None, **options):
    factor = solver.factorize(solver.prepare(solver.analyze(structure), linearization), damping)
    assert not isinstance(factor, Failure), factor
    x = np.empty(structure.num_columns)
    facts = solver.solve(factor, -linearization.gradient if rhs is None else rhs, x, **options)
    return x, facts


def lauchli(epsilon, n=4):
    """Columns (1, ε e_i): κ(J) ≈ √n/ε; in JᵀJ, 1 + ε² rounds to 1 for ε below 10⁻⁸, and the matrix is singular."""
    problem = Problem()
    x = problem.add_variables("x", np.zeros((1, n)))
    A = np.vstack([np.ones(n), epsilon * np.eye(n)])
    problem.add_residuals(LinearBlocks(n + 1, (n,)), x[:], data=(A[None], (A @ np.arange(1.0, n + 1))[None]))
    return problem


@pytest.mark.parametrize("solver", [DenseQR(), LSMR(1e-15, 100), LSQR(1e-15, 100)])
def test_methods_on_J_keep_the_digits_that_normal_equations_lose(solver):
    structure, linearization = linearized(lauchli(1e-9))
    x, _ = step(solver, structure, linearization, np.zeros(4))
    np.testing.assert_allclose(x, [1, 2, 3, 4], rtol=1e-5)
    direct = DenseCholesky()
    system = direct.prepare(direct.analyze(structure), linearization)
    assert isinstance(direct.factorize(system, np.zeros(4)), Failure)


def test_dense_qr_names_the_dependent_block():
    problem = random_problem("grid", np.random.default_rng(0), isolated=True)
    structure, linearization = linearized(problem)
    solver = DenseQR()
    system = solver.prepare(solver.analyze(structure), linearization)
    failure = solver.factorize(system, np.zeros(structure.num_columns))
    assert structure.describe_block(failure.block).startswith("alone[")


@pytest.mark.parametrize("cls", [LSMR, LSQR])
def test_tolerance_bounds_the_scaled_residual(cls):
    structure, linearization = linearized(random_problem("grid", np.random.default_rng(5), isolated=False))
    damping = np.full(structure.num_columns, 1e-4)
    J = linearization.jacobian().toarray()
    H = J.T @ J + np.diag(damping)
    scale = 1.0 / np.sqrt(np.diagonal(H))
    counts = []
    for tolerance in (0.3, 1e-2, 1e-5, 1e-9):
        for rhs in (-linearization.gradient, np.random.default_rng(0).standard_normal(len(H))):
            x, facts = step(cls(), structure, linearization, damping, rhs, tolerance=tolerance)
            residual = np.linalg.norm(scale * (rhs - H @ x))
            assert residual <= 1.01 * tolerance * np.linalg.norm(scale * rhs)
            assert facts.residual_norm == pytest.approx(residual, rel=1e-2, abs=1e-12)
        counts.append(facts.inner_iterations)
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


@pytest.mark.parametrize("cls", [LSMR, LSQR])
def test_an_exact_guess_ends_at_once_and_a_limit_holds(cls):
    structure, linearization = linearized(random_problem("arrow", np.random.default_rng(5), isolated=False))
    damping = np.ones(structure.num_columns)
    exact, _ = step(DenseCholesky(), structure, linearization, damping)
    for rhs in (-linearization.gradient, -linearization.gradient + np.eye(len(exact))[0] * 1e-12):
        x, facts = step(cls(), structure, linearization, damping, rhs, tolerance=1e-6, guess=exact)
        assert facts.inner_iterations <= 1
        np.testing.assert_allclose(x, exact, rtol=1e-5, atol=1e-8)
    _, facts = step(cls(max_iterations=3), structure, linearization, damping, tolerance=1e-12)
    assert facts.inner_iterations == 3


def test_options_out_of_range_are_refused():
    structure = Structure(random_problem("grid", np.random.default_rng(0)))
    for solver in (
        LSMR(tolerance=1.0),
        LSQR(max_iterations=0),
        DenseCholesky(max_columns=3),
        DenseQR(max_entries=10),
        SuperLU(ordering="colamd"),
    ):
        with pytest.raises(SolverError):
            solver.analyze(structure)


def test_superlu_refuses_indefinite_and_names_the_block():
    structure, linearization = linearized(random_problem("grid", np.random.default_rng(0), isolated=False))
    solver = SuperLU()
    system = solver.prepare(solver.analyze(structure), linearization)
    damping = np.ones(structure.num_columns)
    damping[2] = -1e9
    failure = solver.factorize(system, damping)
    assert isinstance(failure, Failure)
    assert failure.block == structure.block_of_column(2)
    damping[2] = np.nan
    assert isinstance(solver.factorize(system, damping), Failure)
    damping[2] = 1.0
    assert not isinstance(solver.factorize(system, damping), Failure)


def test_options_are_frozen():
    for cls in (BlockCholesky, Cholmod, SuperLU, LSMR, LSQR, DenseCholesky, DenseQR):
        instance = cls()
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(instance, dataclasses.fields(cls)[0].name, None)
        assert instance == cls()


def chain(n):
    problem = Problem()
    x = problem.add_variables("x", np.zeros((n, 3)))
    data = (np.ones((n - 1, 3, 6)), np.ones((n - 1, 3)))
    problem.add_residuals(LinearBlocks(3, (3, 3)), x[np.arange(n - 1)], x[np.arange(1, n)], data=data)
    return Structure(problem)


def test_choice_by_size_and_memory(monkeypatch):
    for n, expected in [(8, DenseQR), (25, DenseCholesky), (200, BlockCholesky)]:
        solver, reason, _ = auto.choose_linear_solver(chain(n))
        assert isinstance(solver, expected)
        assert str(3 * n) in reason
    monkeypatch.setattr(auto, "_memory", lambda: 1_000_000)
    assert isinstance(auto.choose_linear_solver(chain(200))[0], BlockCholesky)  # though dense it would not fit
    monkeypatch.setattr(auto, "_memory", lambda: 10_000)
    solver, reason, _ = auto.choose_linear_solver(chain(200))
    assert isinstance(solver, LSMR)
    assert "GiB" in reason
