"""The plug-in SchurPCG against dense steps: forms, preconditioners, stopping rules, guesses, facts, failures."""

import functools

import numpy as np
import pytest

import sparselm as slm
from sparselm.datasets import street
from sparselm.errors import SolverError
from sparselm.evaluator import Evaluator
from sparselm.io.bal import to_problem
from sparselm.linear_solvers import Failure
from sparselm.linear_solvers.schur import SchurPCG
from sparselm.linear_solvers.schur.conjugate_gradients import ConjugateGradients, gains_little
from sparselm.preconditioners import BlockJacobi, ClusterJacobi, ClusterTridiagonal, PowerSeries, SchurJacobi
from sparselm.structure import Structure
from sparselm.testing.linear_solvers import LinearBlocks
from sparselm.testing.preconditioners import ELIMINATED, dense_matrix, random_system
from sparselm.threads import use_threads

FORMS = ["explicit", "implicit", "explicit float32", "implicit float32"]
PRECONDITIONERS = [BlockJacobi(), SchurJacobi(), PowerSeries(), ClusterJacobi(most=3), ClusterTridiagonal(most=2)]


def options(form):
    name, *precision = form.split()
    return {"form": name, "precision": precision[0] if precision else "float64"}


def is_rounded(form):
    """Whether steps are those of a J that is rounded once more."""
    return form == "implicit float32"


class System:
    """One of the random problems with a D that holds some components, and what dense NumPy makes of it."""

    def __init__(self, shape="cameras", seed=0, held=0.2, least=-2.0, precision="float64"):
        rng = np.random.default_rng(seed)
        self.structure, self.linearization = random_system(shape, rng, precision)
        n = self.structure.num_columns
        self.damping = 10.0 ** rng.uniform(least, 1.0, n)
        self.damping[rng.random(n) < held] = np.inf
        self.held = np.isinf(self.damping)
        self.A = dense_matrix(self.linearization, self.damping)
        self.rhs = -self.linearization.gradient
        self.step = self.solution(self.rhs)

    def solution(self, rhs):
        return np.linalg.solve(self.A, np.where(self.held, 0.0, rhs))

    def factorize(self, solver):
        system = solver.prepare(solver.analyze(self.structure), self.linearization)
        factor = solver.factorize(system, self.damping)
        assert not isinstance(factor, Failure)
        return factor

    def solve(self, solver, **arguments):
        factor, x = self.factorize(solver), np.full(len(self.rhs), np.nan)
        facts = solver.solve(factor, self.rhs, x, **arguments)
        return x, facts

    def error(self, x, exact=None):
        """Relative, in the norm of H + D."""
        exact = self.step if exact is None else exact
        return np.sqrt((x - exact) @ self.A @ (x - exact)) / np.sqrt(exact @ self.A @ exact)


@functools.cache
def system_of(form="implicit"):
    return System(precision=options(form)["precision"])


# -- solutions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", sorted(ELIMINATED))
@pytest.mark.parametrize("preconditioner", PRECONDITIONERS, ids=repr)
@pytest.mark.parametrize("form", ["explicit", "implicit"])
def test_equals_the_dense_step(form, preconditioner, shape):
    system = System(shape, seed=3)
    solver = SchurPCG(preconditioner, form=form, eliminate=ELIMINATED[shape], tolerance=1e-13, max_iterations=3000)
    factor = system.factorize(solver)
    rng = np.random.default_rng(1)
    for rhs in (system.rhs, rng.standard_normal(len(system.rhs))):
        x, given = np.full(len(rhs), np.nan), rhs.copy()
        solver.solve(factor, rhs, x)
        assert np.array_equal(rhs, given)
        assert not x[system.held].any()
        assert system.error(x, system.solution(rhs)) < 1e-9


@pytest.mark.parametrize("shape", ["arrow", "cameras"])
@pytest.mark.parametrize("preconditioner", PRECONDITIONERS, ids=repr)
@pytest.mark.parametrize(("form", "most"), [("explicit", 1e-9), ("implicit", 1e-4)])
def test_single_precision(form, most, preconditioner, shape):
    """The step is that of J as it is stored; only the implicit form rounds once more."""
    system = System(shape, seed=4, precision="float32")
    exact = System(shape, seed=4)
    assert 0.0 < exact.error(system.step) < 1e-4
    solver = SchurPCG(
        preconditioner, form=form, precision="float32", eliminate=ELIMINATED[shape], tolerance=1e-13, max_iterations=3000
    )
    assert system.error(system.solve(solver)[0]) < most


def test_single_precision_keeps_digits_of_points_that_are_hardly_determined():
    """Nearly dependent columns of the eliminated blocks: differences of H and W V⁻¹ Wᵀ in single precision lose them."""
    system = System("arrow", seed=5, held=0.0, precision="float32")
    point = next(layout for layout in system.structure.variables if layout.name == "point")
    for span in system.structure.spans:
        for operand in span.operands:
            if operand.layout is point and operand.width:
                J = system.linearization.blocks(span)
                last = operand.start + operand.width - 1
                J[:, :, last] = J[:, :, last - 1] + 1e-4 * J[:, :, last]
    system.damping[:] = 1e-9
    system.A = dense_matrix(system.linearization, system.damping)
    solver = SchurPCG(precision="float32", tolerance=1e-13, max_iterations=3000)
    x, _ = system.solve(solver)
    factor = system.factorize(solver)
    kept = factor.system.partition.columns
    exact = system.solution(system.rhs)
    assert np.abs(x - exact)[kept].max() < 1e-3 * np.abs(exact[kept]).max()


@pytest.mark.parametrize("form", FORMS)
def test_several_factors_of_one_plan(form):
    """New numbers of J and another D leave nothing of the old ones behind."""
    solver = SchurPCG(**options(form), tolerance=1e-12)
    first, rng = System(seed=6, precision=solver.jacobian_precision), np.random.default_rng(0)
    plan = solver.analyze(first.structure)
    for _ in range(2):
        values = first.linearization.values
        values[:] = rng.standard_normal(len(values))
        system = solver.prepare(plan, first.linearization)
        for held in (0.5, 0.0, 1.0):
            damping = np.where(rng.random(len(first.rhs)) < held, np.inf, rng.uniform(0.1, 1.0, len(first.rhs)))
            first.A, first.held = dense_matrix(first.linearization, damping), np.isinf(damping)
            x = np.full(len(damping), np.nan)
            rhs = rng.standard_normal(len(damping))
            solver.solve(solver.factorize(system, damping), rhs, x)
            bound = 1e-4 if is_rounded(form) else 1e-9
            np.testing.assert_allclose(x, first.solution(rhs), rtol=0, atol=bound * np.abs(rhs).max() / 0.1)


def test_everything_is_eliminated():
    problem = slm.Problem()
    x = problem.add_variables("x", np.zeros((4, 3)))
    rng = np.random.default_rng(0)
    problem.add_residuals(LinearBlocks(3, [3]), x[:], data=(rng.standard_normal((4, 3, 3)), rng.standard_normal((4, 3))))
    exact = slm.solve(problem, linear_solver=slm.DenseCholesky())
    for form in ("explicit", "implicit"):
        result = slm.solve(problem, linear_solver=SchurPCG(form=form))
        np.testing.assert_allclose(result[x], exact[x], rtol=0, atol=1e-8)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("preconditioner", [SchurJacobi(), ClusterTridiagonal(most=2)], ids=repr)
def test_numbers_do_not_depend_on_threads(form, preconditioner):
    problem = to_problem(street(12, 300, seed=1).data)
    structure = Structure(problem)
    solver = SchurPCG(preconditioner, **options(form), tolerance=1e-6)
    results = []
    for threads in (1, 2):
        with use_threads(threads):
            linearization = Evaluator(problem, structure, solver.jacobian_precision).linearize()
            factor = solver.factorize(solver.prepare(solver.analyze(structure), linearization), linearization.diagonal)
            x = np.empty(structure.num_columns)
            facts = solver.solve(factor, -linearization.gradient, x)
            results.append((x, facts))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


# -- stopping, guesses, facts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_larger_forcing_takes_fewer_iterations(form):
    cameras = system_of(form)
    counts, errors = [], []
    for forcing in (1e-6, 1e-3, 1e-1, 1.0):
        x, facts = cameras.solve(SchurPCG(BlockJacobi(), **options(form), forcing=forcing))
        counts.append(facts.inner_iterations)
        errors.append(cameras.error(x))
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[2] > counts[3] >= 1
    assert errors == sorted(errors)


def test_forcing_is_the_rule_of_nash_and_sofer():
    """The last iteration is the first one where i (Q_i − Q_{i−1})/Q_i ≤ η, Q from iterates that are stopped by number."""
    cameras = system_of()
    eta = 0.05
    count = cameras.solve(SchurPCG(BlockJacobi(), forcing=eta))[1].inner_iterations
    model = [0.0]
    for i in range(1, count + 1):
        x, facts = cameras.solve(SchurPCG(BlockJacobi(), tolerance=0.0, max_iterations=i))
        assert facts.inner_iterations == i
        # The eliminated part is exact, so that the model of all columns and that of S differ by a constant.
        model.append(0.5 * x @ cameras.A @ x - cameras.rhs[~cameras.held] @ x[~cameras.held])
    x, _ = cameras.solve(SchurPCG(BlockJacobi(), tolerance=1e300))
    model[0] = 0.5 * x @ cameras.A @ x - cameras.rhs[~cameras.held] @ x[~cameras.held]
    Q = np.array(model) - model[0]
    stops = [i for i in range(1, count + 1) if i * (Q[i] - Q[i - 1]) / Q[i] <= eta]
    assert stops == [count]


@pytest.mark.parametrize(("eta", "fewest"), [(0.5, 16), (0.1, 80)])
def test_later_iterations_are_judged_by_an_eighth_of_them(eta, fewest):
    n, rng = 300, np.random.default_rng(0)
    S, b, x, gradients = 10.0 ** rng.uniform(0.0, 5.0, n), rng.standard_normal(n), np.empty(n), ConjugateGradients(n)

    def iterate(**stop):
        outcome = gradients.solve(
            lambda p, out: np.multiply(S, p, out=out), lambda r, z: np.copyto(z, r), b, x, tolerance=0.0, **stop
        )
        return outcome.iterations, 0.5 * x @ (S * x) - b @ x

    count, _ = iterate(forcing=eta, max_iterations=n)
    Q = [0.0, *(iterate(forcing=None, max_iterations=i)[1] for i in range(1, count + 1))]
    last = [max(1, i // 8) for i in range(count + 1)]
    stops = [i for i in range(1, count + 1) if i / last[i] * (Q[i] - Q[i - last[i]]) / Q[i] <= eta]
    assert stops == [count] and count >= fewest
    assert gains_little(Q, eta) and not gains_little(Q[:-1], eta)


@pytest.mark.parametrize("form", FORMS)
def test_tolerance_is_of_the_reduced_residual(form):
    cameras = system_of(form)
    norms = []
    for tolerance in (1e-1, 1e-4, 1e-8):
        solver = SchurPCG(**options(form), tolerance=tolerance)
        factor, x = cameras.factorize(solver), np.empty(len(cameras.rhs))
        facts = solver.solve(factor, cameras.rhs, x)
        assert facts.residual_norm <= tolerance * np.linalg.norm(factor.reduced)
        residual = np.where(cameras.held, 0.0, cameras.rhs) - cameras.A @ x
        if not is_rounded(form):
            # Eliminated equations are met exactly, and those of the kept columns are S's.
            kept = factor.system.partition.columns
            assert np.linalg.norm(residual[kept]) == pytest.approx(facts.residual_norm, rel=1e-6, abs=1e-12)
            np.testing.assert_allclose(np.delete(residual, kept), 0.0, atol=1e-11)
        norms.append(facts.residual_norm)
        asked = np.empty(len(x))
        assert SchurPCG(**options(form)).solve(factor, cameras.rhs, asked, tolerance=tolerance) == facts
        np.testing.assert_array_equal(asked, x)
    assert norms == sorted(norms, reverse=True)


@pytest.mark.parametrize("form", FORMS)
def test_guess(form):
    cameras = system_of(form)
    solver = SchurPCG(**options(form), tolerance=1e-6)
    far = cameras.solve(solver)[1]
    given = cameras.step.copy()
    given[cameras.held] = 7.0  # is not looked at
    near, facts = cameras.solve(solver, guess=given)
    assert (given[cameras.held] == 7.0).all()
    assert facts.inner_iterations < far.inner_iterations
    assert not facts.conjugate_residual
    assert cameras.error(near) < 1e-4
    bad, facts = cameras.solve(solver, guess=cameras.step + np.random.default_rng(0).standard_normal(len(given)))
    assert facts.inner_iterations > 1
    assert cameras.error(bad) < 1e-4


@pytest.mark.parametrize("preconditioner", PRECONDITIONERS, ids=repr)
@pytest.mark.parametrize("form", FORMS)
def test_the_residual_is_conjugate_to_the_step(form, preconditioner):
    """δᵀ((H + D) δ + g) = 0, however early the iterations stop: what the predicted reduction is computed from."""
    cameras = system_of(form)
    for forcing in (0.5, 0.01):
        x, facts = cameras.solve(SchurPCG(preconditioner, **options(form), forcing=forcing))
        assert facts.conjugate_residual == (not is_rounded(form))
        free = ~cameras.held
        product = x @ cameras.A @ x - cameras.rhs[free] @ x[free]
        assert abs(product) <= (1e-5 if is_rounded(form) else 1e-10) * (x @ cameras.A @ x)


def test_iterations_are_limited():
    cameras = system_of()
    facts = cameras.solve(SchurPCG(tolerance=1e-14, max_iterations=2))[1]
    assert facts.inner_iterations == 2


def test_nothing_to_do():
    gradients = ConjugateGradients(3)
    x = np.ones(3)

    def multiply(p, out):
        np.multiply(p, 2.0, out=out)

    outcome = gradients.solve(multiply, multiply, np.zeros(3), x, forcing=0.1, tolerance=0.0, max_iterations=5)
    assert (outcome.iterations, outcome.residual_norm, outcome.converged) == (0, 0.0, True)
    assert not x.any()


def test_stops_where_the_matrix_is_not_positive_definite():
    S = np.diag([1.0, -1.0, 2.0])
    gradients, x = ConjugateGradients(3), np.empty(3)

    def multiply(p, out):
        np.matmul(S, p, out=out)

    def nothing(r, z):
        np.copyto(z, r)

    outcome = gradients.solve(multiply, nothing, np.array([0.0, 1.0, 0.0]), x, forcing=0.1, tolerance=0.0, max_iterations=5)
    assert outcome.iterations == 0 and not outcome.converged
    assert not x.any()


# -- failures and errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_failure_names_an_eliminated_block(form):
    solver = SchurPCG(**options(form), eliminate=["alone"])
    structure, linearization = random_system("arrow", np.random.default_rng(0), solver.jacobian_precision)
    system = solver.prepare(solver.analyze(structure), linearization)
    damping = np.ones(structure.num_columns)
    damping[-1] = 0.0
    failure = solver.factorize(system, damping)
    assert structure.describe_block(failure.block) == "alone[1]"
    damping[0] = np.nan
    assert "not finite" in solver.factorize(system, damping).message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"form": "dense"}, "form 'dense', expected explicit or implicit"),
        ({"precision": "float16"}, "precision 'float16', expected float64 or float32"),
        ({"preconditioner": "power-series"}, r"must be an instance such as slm.SchurJacobi\(\)"),
        ({"preconditioner": PowerSeries}, "must be an instance"),
        ({"forcing": 0.0}, "forcing > 0"),
        ({"forcing": np.nan}, "forcing > 0"),
        ({"tolerance": -1.0}, "tolerance ≥ 0"),
        ({"max_iterations": 0}, "max_iterations ≥ 1"),
        ({"eliminate": ["pointe"]}, "there are no variables 'pointe'"),
    ],
)
def test_options_are_checked(arguments, words):
    cameras = system_of()
    with pytest.raises(SolverError, match=words):
        SchurPCG(**arguments).analyze(cameras.structure)


@pytest.mark.parametrize("form", FORMS)
def test_five_kept_operands(form):
    problem = slm.Problem()
    rng = np.random.default_rng(0)
    x, y = (problem.add_variables(name, rng.standard_normal((8, 2))) for name in ("x", "y"))
    dims = [2] * 6
    data = (rng.standard_normal((30, 3, 12)), rng.standard_normal((30, 3)))
    operands = [x[rng.integers(0, 8, 30)] for _ in range(5)]
    problem.add_residuals(LinearBlocks(3, dims), *operands, y[rng.integers(0, 8, 30)], data=data)
    structure = Structure(problem)
    damping = np.full(structure.num_columns, 0.1)
    solver = SchurPCG(**options(form), eliminate=["y"], tolerance=1e-13, max_iterations=2000)
    linearization = Evaluator(problem, structure, solver.jacobian_precision).linearize()
    factor = solver.factorize(solver.prepare(solver.analyze(structure), linearization), damping)
    step = np.empty(structure.num_columns)
    solver.solve(factor, -linearization.gradient, step)
    exact = np.linalg.solve(dense_matrix(linearization, damping), -linearization.gradient)
    np.testing.assert_allclose(step, exact, rtol=0, atol=(1e-4 if is_rounded(form) else 1e-9) * np.abs(exact).max())


def test_kept_block_that_a_residual_block_touches_twice():
    """Its two halves cancel in H, but not in what each of them would take off the diagonal of S."""
    problem = slm.Problem()
    rng = np.random.default_rng(0)
    x, y = (problem.add_variables(name, rng.standard_normal((4, 3))) for name in ("x", "y"))
    A = rng.standard_normal((12, 2, 9))
    A[:, :, 6:] = -A[:, :, :3]
    index = np.repeat(np.arange(4), 3)
    data = (A, rng.standard_normal((12, 2)))
    problem.add_residuals(LinearBlocks(2, [3, 3, 3]), x[index], y[np.tile(np.arange(4), 3)], x[index], data=data)
    structure = Structure(problem)
    linearization = Evaluator(problem, structure).linearize()
    damping = np.full(structure.num_columns, 1e-3)
    solver = SchurPCG(eliminate=["y"], tolerance=1e-13)
    factor = solver.factorize(solver.prepare(solver.analyze(structure), linearization), damping)
    assert not isinstance(factor, Failure)
    step = np.empty(structure.num_columns)
    solver.solve(factor, -linearization.gradient, step)
    exact = np.linalg.solve(dense_matrix(linearization, damping), -linearization.gradient)
    np.testing.assert_allclose(step, exact, rtol=1e-9, atol=1e-9 * np.abs(exact).max())


def test_describe():
    cameras = system_of()
    solver = SchurPCG(ClusterJacobi(most=3), form="explicit", eliminate=["point"])
    text = solver.describe(solver.analyze(cameras.structure))
    assert "of point are eliminated" in text and "explicit Schur complement" in text
    assert "clusters of at most 3" in text and "float64" in text
    solver = SchurPCG(precision="float32")
    assert "implicit" in (text := solver.describe(solver.analyze(cameras.structure)))
    assert "SchurJacobi" in text and "float32" in text


# -- bundle adjustment -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene():
    return to_problem(street(30, 600, seed=2).data)


@pytest.fixture(scope="module")
def direct_cost(scene):
    return slm.solve(scene, linear_solver=slm.SchurCholesky(), max_iterations=50).final_cost


@pytest.mark.parametrize("form", FORMS)
def test_reaches_the_cost_of_the_direct_solver(form, scene, direct_cost):
    result = slm.solve(scene, linear_solver=SchurPCG(**options(form)), max_iterations=100)
    assert result.success
    assert result.final_cost == pytest.approx(direct_cost, rel=1e-4)
    assert result.inner_iterations > 0


@pytest.mark.parametrize("preconditioner", PRECONDITIONERS[1:], ids=repr)
@pytest.mark.parametrize("form", ["explicit", "implicit"])
def test_fewer_iterations_than_block_jacobi(form, preconditioner, scene):
    """On a street, with the damping that the first step has."""
    structure = Structure(scene)
    linearization = Evaluator(scene, structure).linearize()
    damping = np.maximum(linearization.diagonal, 1e-6) * 1e-4
    counts = []
    for own in (BlockJacobi(), preconditioner):
        solver = SchurPCG(own, form=form, tolerance=1e-6, max_iterations=5000)
        factor = solver.factorize(solver.prepare(solver.analyze(structure), linearization), damping)
        x = np.empty(structure.num_columns)
        counts.append(solver.solve(factor, -linearization.gradient, x).inner_iterations)
    assert counts[1] < counts[0] < 5000


def test_a_solve_stores_the_jacobian_as_the_solver_asks(scene):
    seen = []

    class Watched(SchurPCG):
        def prepare(self, plan, linearization):
            seen.append(linearization.values.dtype)
            return super().prepare(plan, linearization)

    for precision in ("float64", "float32"):
        slm.solve(scene, linear_solver=Watched(precision=precision), max_iterations=1)
    assert seen == [np.float64, np.float32]
