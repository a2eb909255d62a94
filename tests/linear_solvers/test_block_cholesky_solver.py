"""The plug-in BlockCholesky: what goes beyond the contract of all linear solvers."""

import numba
import numpy as np
import pytest

import problems
import sparselm as slm
from sparselm.errors import SolverError
from sparselm.evaluator import Evaluator
from sparselm.linear_solvers import BlockCholesky, Failure
from sparselm.structure import Structure
from sparselm.testing.linear_solvers import SHAPES, LinearBlocks, random_problem

PRECISIONS = ["float64", "float32"]


def linearized(shape="grid", seed=0, isolated=True):
    problem = random_problem(shape, np.random.default_rng(seed), isolated=isolated)
    structure = Structure(problem)
    return structure, Evaluator(problem, structure).linearize()


def normal_matrix(linearization):
    J = linearization.jacobian().toarray()
    return J.T @ J


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("ordering", ["auto", "amd", "natural"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_option_solves_and_gives_the_determinant(shape, ordering, precision):
    structure, linearization = linearized(shape)
    rng = np.random.default_rng(1)
    solver = BlockCholesky(ordering=ordering, precision=precision)
    plan = solver.analyze(structure)
    system = solver.prepare(plan, linearization)
    H = normal_matrix(linearization)
    n = len(H)
    for held in (0.0, 0.3, 1.0, 0.0):
        damping = rng.uniform(0.5, 2.0, n)
        damping[rng.random(n) < held] = np.inf
        free = np.isfinite(damping)
        factor = solver.factorize(system, damping)
        rhs, x = rng.standard_normal(n), np.full(n, np.nan)
        kept = rhs.copy(), damping.copy()
        facts = solver.solve(factor, rhs, x)
        assert np.array_equal(rhs, kept[0]) and np.array_equal(damping, kept[1])
        A = H[np.ix_(free, free)] + np.diag(damping[free])
        np.testing.assert_allclose(x[free], np.linalg.solve(A, rhs[free]), rtol=1e-9, atol=1e-12)
        assert (x[~free] == 0.0).all()
        digits = 1e-11 if precision == "float64" else 1e-5
        assert solver.logdet(factor) == pytest.approx(np.linalg.slogdet(A)[1], rel=digits, abs=digits * n)
        assert facts.factor_nonzeros == plan.symbolic.nonzeros
        if precision == "float32":
            assert facts.inner_iterations <= 5
            reduced = np.where(free, rhs, 0.0)
            reduced[free] -= A @ x[free]
            assert facts.residual_norm == pytest.approx(np.abs(reduced).max(), abs=1e-13 * (1 + np.abs(H).max()))
    text = solver.describe(plan)
    assert f"nnz(L) {plan.symbolic.nonzeros}" in text and precision in text


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", ["grid", "mixed", "arrow"])
def test_failure_names_the_block_that_nothing_determines(shape, precision):
    structure, linearization = linearized(shape)
    solver = BlockCholesky(precision=precision)
    system = solver.prepare(solver.analyze(structure), linearization)
    damping = np.ones(structure.num_columns)
    damping[-3] = 0.0  # of two variables of two components without residuals, the first one's second
    failure = solver.factorize(system, damping)
    assert isinstance(failure, Failure)
    assert structure.describe_block(failure.block) == "alone[0]"
    assert "not positive definite" in failure.message
    # and works again
    factor = solver.factorize(system, np.ones(structure.num_columns))
    x = np.empty(structure.num_columns)
    solver.solve(factor, np.ones(len(x)), x)
    np.testing.assert_allclose((normal_matrix(linearization) + np.eye(len(x))) @ x, 1.0, rtol=0, atol=1e-10)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_negative_pivot_and_a_nan_are_failures(precision):
    structure, linearization = linearized(isolated=False)
    solver = BlockCholesky(precision=precision)
    system = solver.prepare(solver.analyze(structure), linearization)
    damping = np.ones(structure.num_columns)
    damping[3] = -1e6
    failure = solver.factorize(system, damping)
    assert isinstance(failure, Failure)
    assert failure.block == structure.block_of_column(3)
    damping[3] = np.nan
    failure = solver.factorize(system, damping)
    assert isinstance(failure, Failure) and "not finite" in failure.message
    system.numeric.store[0] = np.nan
    failure = solver.factorize(system, np.ones(structure.num_columns))
    assert isinstance(failure, Failure) and "not finite" in failure.message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ordering": "colamd"}, "BlockCholesky: ordering 'colamd', expected one of auto, amd, metis, natural"),
        ({"precision": "half"}, "BlockCholesky: precision 'half', expected float64 or float32"),
    ],
)
def test_unknown_options_are_refused(options, message):
    structure, _ = linearized()
    with pytest.raises(SolverError, match=message):
        BlockCholesky(**options).analyze(structure)


def chain_problem(n, rng):
    """Odometry of n variables, with some loops among the first ones."""
    problem = slm.Problem()
    x = problem.add_variables("x", np.zeros((n, 3)))
    first = np.concatenate([np.arange(n - 1), [0, 3, 7, 11]])
    second = np.concatenate([np.arange(1, n), [20, 15, 28, 24]])
    data = (rng.standard_normal((len(first), 3, 6)), rng.standard_normal((len(first), 3)))
    problem.add_residuals(LinearBlocks(3, (3, 3)), x[first], x[second], data=data)
    problem.add_residuals(LinearBlocks(3, (3,)), x[:1], data=(np.eye(3)[None], np.zeros((1, 3))))
    return problem


def test_a_longer_problem_keeps_the_order_of_a_shorter_one():
    solver = BlockCholesky(ordering="amd")
    rng = np.random.default_rng(0)
    plan = solver.analyze(Structure(chain_problem(40, rng)))
    for n in (43, 60):
        problem = chain_problem(n, rng)
        structure = Structure(problem)
        longer = solver.analyze(structure, previous=plan)
        wanted = np.append(plan.symbolic.ordering.order, np.arange(len(plan.symbolic.order), n))
        given = BlockCholesky(ordering="amd").analyze(structure)
        assert np.array_equal(np.sort(longer.symbolic.order), np.arange(n))
        if n == 43:  # one can see them in it
            at = np.argsort(longer.symbolic.ordering.order)
            assert (at[[40, 41, 42]] > at[39]).all() and wanted[-1] == n - 1
        assert longer.symbolic.flops <= 2.0 * given.symbolic.flops
        linearization = Evaluator(problem, structure).linearize()
        factor = solver.factorize(solver.prepare(longer, linearization), np.ones(3 * n))
        x = np.empty(3 * n)
        solver.solve(factor, np.ones(3 * n), x)
        np.testing.assert_allclose((normal_matrix(linearization) + np.eye(3 * n)) @ x, 1.0, rtol=0, atol=1e-11)
        plan = longer
    # a plan of a longer problem, or of another solver, is passed over
    shorter = Structure(chain_problem(40, rng))
    for other in (plan, object()):
        fresh = solver.analyze(shorter, previous=other)
        assert np.array_equal(fresh.symbolic.order, solver.analyze(shorter).symbolic.order)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["sphere-180", "grid-100", "sphere-2500", "g2o-m3500"])
def test_solves_have_the_same_bits_on_any_number_of_threads(name, precision):
    named = problems.get(name)
    if named.why_unavailable():
        pytest.skip(named.why_unavailable())
    threads = (1, min(2, numba.config.NUMBA_NUM_THREADS))
    problem = named.build()
    options = named.options | {"max_iterations": 3, "linear_solver": BlockCholesky(precision=precision)}
    one, two = (slm.solve(problem, **(options | {"num_threads": n})) for n in threads)
    assert one.final_cost == two.final_cost < one.initial_cost
    for variables in problem.variables:
        assert np.array_equal(one[variables], two[variables])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["street-8", "grid-100", "sphere-180"])
def test_optima(name, precision):
    named = problems.get(name)
    if named.why_unavailable():
        pytest.skip(named.why_unavailable())
    result = slm.solve(named.build(), **(named.options | {"linear_solver": BlockCholesky(precision=precision)}))
    assert result.success and named.is_optimal(result.final_cost)
