"""Solvers that eliminate blocks, against dense NumPy: any graph of blocks, any choice of what is eliminated."""

import contextlib
import re

import numba
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import problems
import sparselm as slm
from sparselm import _jit
from sparselm.errors import SolverError
from sparselm.evaluator import Evaluator
from sparselm.linear_solvers import Failure
from sparselm.linear_solvers.schur.choice import MOST_COLUMNS, choose_eliminated, is_worthwhile
from sparselm.linear_solvers.schur.partition import Partition
from sparselm.structure import Structure
from sparselm.testing.linear_solvers import LinearBlocks

# Each with the error that its steps may have, relative, in the norm of JᵀJ + D.
ITERATED = {"tolerance": 1e-13, "max_iterations": 5000}
SOLVERS = [
    pytest.param(slm.SchurCholesky(), 1e-9, id="cholesky"),
    pytest.param(slm.SchurCholesky(precision="float32"), 1e-9, id="cholesky-float32"),
    pytest.param(slm.SchurPCG(form="explicit", **ITERATED), 1e-9, id="pcg-explicit"),
    pytest.param(slm.SchurPCG(**ITERATED), 1e-9, id="pcg-implicit"),
    pytest.param(slm.SchurPCG(form="explicit", precision="float32", **ITERATED), 1e-3, id="pcg-explicit-float32"),
    pytest.param(slm.SchurPCG(precision="float32", **ITERATED), 1e-3, id="pcg-implicit-float32"),
]

DIM = 3


def add_residuals(problem, rng, *operands, count=None, loss=None):
    """Linear residual blocks between rows drawn at random, or between those that are given."""
    if count is not None:
        operands = [v[rng.integers(0, rows, count)] for v, rows in operands]
    widths = [o.variables.manifold.ambient_dim for o in operands]
    n = len(operands[0].index)
    data = rng.standard_normal((n, DIM, sum(widths))), rng.standard_normal((n, DIM))
    problem.add_residuals(LinearBlocks(DIM, widths), *operands, data=data, loss=loss)


def random_graph(rng):
    """Poses, shared calibrations, points and landmarks in residual blocks of one to four of them.

    Points 0 … 2 are connected with one another, so they cannot be eliminated. Constant blocks and components make blocks of
    3 instead of 7 columns, and of 2 instead of 3.
    """
    problem = slm.Problem()
    num_poses, num_points, num_landmarks = (int(rng.integers(low, high)) for low, high in ((1, 6), (5, 14), (0, 8)))
    pose = problem.add_variables("pose", rng.standard_normal((num_poses, 7)))
    shared = problem.add_variables("shared", rng.standard_normal((2, 7)))
    point = problem.add_variables("point", rng.standard_normal((num_points, 3)))
    landmark = problem.add_variables("landmark", rng.standard_normal((max(num_landmarks, 1), 3)))
    for row in range(num_poses):
        if (kind := rng.random()) < 0.4:
            pose.fix([row], None if kind < 0.15 else [0, 2, 3, 6] if kind < 0.3 else [3, 4, 5, 6])
    for row in range(3, num_points):
        if (kind := rng.random()) < 0.3:
            point.fix([row], None if kind < 0.1 else [0] if kind < 0.2 else [2])
    poses, points, landmarks = (pose, num_poses), (point, num_points - 1), (landmark, num_landmarks)  # one point is unseen
    kinds = [
        ((poses, points), 0.8), ((poses, (shared, 2), points), 0.5), ((poses, (shared, 2), poses, points), 0.4),
        ((points, poses, poses), 0.3), (((point, 3), (point, 3)), 0.5), (((point, 3), poses, (point, 3)), 0.2),
        ((poses, poses), 0.4), ((poses,), 0.5), (((shared, 2),), 0.5), ((points,), 0.5),
    ]  # fmt: skip
    if num_landmarks:
        kinds += [((landmarks, (shared, 2)), 0.6), ((landmarks, poses), 0.5), ((landmarks,), 0.3)]
    chosen = [operands for operands, likely in kinds if rng.random() < likely] or [kinds[0][0]]
    for operands in chosen:
        loss = slm.Huber(0.5) if rng.random() < 0.3 else None
        add_residuals(problem, rng, *operands, count=int(rng.integers(1, 30)), loss=loss)
    return problem


def linearized(problem, precision="float64"):
    structure = Structure(problem)
    return structure, Evaluator(problem, structure, precision).linearize()


def random_damping(structure, problem, rng, held=0.1):
    damping = 10.0 ** rng.uniform(-1.0, 1.0, structure.num_columns)
    damping[rng.random(len(damping)) < held] = np.inf
    constant = structure.held_columns(problem)
    if constant is not None:
        damping[constant] = np.inf
    return damping


def solve(solver, structure, linearization, damping, rhs):
    system = solver.prepare(solver.analyze(structure), linearization)
    factor = solver.factorize(system, damping)
    assert not isinstance(factor, Failure), factor
    x = np.full(len(rhs), np.nan)
    solver.solve(factor, rhs, x)
    return x


def check_step(linearization, damping, rhs, x, tolerance):
    """x is as near the solution as is said, in the norm of JᵀJ + D, and 0 where it is held."""
    free = np.isfinite(damping)
    J = linearization.jacobian().toarray()[:, free]
    A = J.T @ J + np.diag(damping[free])
    exact = np.linalg.solve(A, rhs[free])
    error = x[free] - exact
    assert (x[~free] == 0.0).all()
    assert np.sqrt(error @ A @ error) <= tolerance * np.sqrt(exact @ A @ exact)


def graph_of_single_couplings(rng):
    """Poses, calibrations of another size and points; no pair of them twice in a residual block, nor in two."""
    problem = slm.Problem()
    num_poses, num_points = int(rng.integers(1, 6)), int(rng.integers(1, 14))
    pose = problem.add_variables("pose", rng.standard_normal((num_poses, 7)))
    point = problem.add_variables("point", rng.standard_normal((num_points, 3)))
    a, e = np.nonzero(rng.random((num_poses, num_points)) < rng.uniform(0.2, 1.0))
    if not len(a):
        a, e = np.zeros((2, 1), dtype=int)
    mix = rng.permutation(len(a))
    operands = [pose[a[mix]], point[e[mix]]]
    if rng.random() < 0.5:  # a calibration of its own for each pose
        shared = problem.add_variables("shared", rng.standard_normal((num_poses, 3)))
        operands.insert(int(rng.integers(0, 3)), shared[a[mix]])
    add_residuals(problem, rng, *operands)
    if rng.random() < 0.5:
        add_residuals(problem, rng, (pose, num_poses), (pose, num_poses), count=3)
        add_residuals(problem, rng, (point, num_points), count=5)
    return problem


@pytest.mark.parametrize(("solver", "tolerance"), SOLVERS)
@pytest.mark.parametrize("graph", [random_graph, graph_of_single_couplings])
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_steps_are_those_of_the_whole_system(solver, tolerance, graph, seed):
    rng = np.random.default_rng(seed)
    problem = graph(rng)
    structure, linearization = linearized(problem, solver.jacobian_precision)
    exact = linearized(problem)[1]
    if not structure.num_columns:
        return
    system = solver.prepare(solver.analyze(structure), linearization)
    for held in (0.0, 0.2):
        damping = random_damping(structure, problem, rng, held)
        factor = solver.factorize(system, damping)
        assert not isinstance(factor, Failure), factor
        for rhs in (-linearization.gradient, rng.standard_normal(structure.num_columns)):
            x = np.full(len(rhs), np.nan)
            solver.solve(factor, rhs, x)
            check_step(exact, damping, rhs, x, tolerance)


@pytest.mark.parametrize(("solver", "tolerance"), SOLVERS)
def test_kernels_of_known_sizes_give_the_same_steps(solver, tolerance, monkeypatch):
    """Those that larger problems take."""
    monkeypatch.setattr(_jit, "FEW", 0)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        problem = graph_of_single_couplings(rng)
        structure, linearization = linearized(problem, solver.jacobian_precision)
        damping = random_damping(structure, problem, rng)
        rhs = -linearization.gradient
        check_step(linearized(problem)[1], damping, rhs, solve(solver, structure, linearization, damping, rhs), tolerance)


def test_eliminated_blocks_are_not_connected():
    """The graphs above have what they are meant to have."""
    seen = set()
    for seed in range(30):
        problem = random_graph(np.random.default_rng(seed))
        structure = Structure(problem)
        choice = choose_eliminated(structure)
        for span in structure.spans:
            eliminated = np.zeros(span.num_blocks, dtype=int)
            for operand in span.operands:
                if operand.width:
                    eliminated += choice.eliminated[operand.layout.block[operand.index]]
            assert (eliminated <= 1).all()
            seen |= {f"{len(span.operands)} operands", f"{len(span.shared) > 0} shared"}
        sizes = np.diff(structure.block_columns)
        seen |= {f"eliminated {k}" for k in sizes[choice.eliminated]} | {f"kept {k}" for k in sizes[~choice.eliminated]}
        seen |= set(choice.names)
        problem = graph_of_single_couplings(np.random.default_rng(seed))
        structure = Structure(problem)
        parts = Partition(structure, choose_eliminated(structure)).eliminated
        seen |= {f"{len(part.couplings)} sizes without Y" for part in parts if part.through is not None}
    assert {"1 sizes without Y", "2 sizes without Y"} <= seen
    assert {"4 operands", "True shared", "eliminated 2", "eliminated 3", "kept 7", "kept 3", "point", "landmark"} <= seen


# -- large sums, and threads ---------------------------------------------------------------------------------------------


def large_problem(rng):
    """Two poses that thousands of points see, some others, and odometry: sums in several tasks, and in pieces."""
    problem = slm.Problem()
    pose = problem.add_variables("pose", rng.standard_normal((6, 7)))
    point = problem.add_variables("point", rng.standard_normal((3000, 3)))
    every = np.arange(3000)
    for index in (0 * every, 0 * every + 1, rng.integers(1, 6, 3000)):
        add_residuals(problem, rng, pose[index], point[every])
    add_residuals(problem, rng, pose[:-1], pose[1:])
    return problem


@contextlib.contextmanager
def threads(count):
    before = numba.get_num_threads()
    numba.set_num_threads(count)
    try:
        yield
    finally:
        numba.set_num_threads(before)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
@pytest.mark.parametrize(("solver", "tolerance"), SOLVERS)
def test_bits_do_not_depend_on_the_threads_of_analysis_or_solve(solver, tolerance):
    rng = np.random.default_rng(0)
    structure, linearization = linearized(large_problem(rng))
    damping, rhs = rng.uniform(0.5, 2.0, structure.num_columns), rng.standard_normal(structure.num_columns)
    steps = []
    for of_analysis in (1, 2):
        with threads(of_analysis):
            plan = solver.analyze(structure)
        for of_solve in (1, 2):
            with threads(of_solve):
                factor = solver.factorize(solver.prepare(plan, linearization), damping)
                steps.append(np.full(len(rhs), np.nan))
                solver.solve(factor, rhs, steps[-1])
    assert all(np.array_equal(steps[0], step) for step in steps[1:])
    J = linearization.jacobian()
    A = (J.T @ J + sp.diags_array(damping)).tocsc()
    error = steps[0] - sp.linalg.spsolve(A, rhs)
    assert np.sqrt(error @ (A @ error)) <= tolerance * np.sqrt(steps[0] @ (A @ steps[0]))


# -- failures ------------------------------------------------------------------------------------------------------------


def seen_and_unseen(rng):
    """Poses and points, of which the last ones are in no residual block."""
    problem = slm.Problem()
    pose = problem.add_variables("pose", rng.standard_normal((4, 7)))
    point = problem.add_variables("point", rng.standard_normal((9, 3)))
    add_residuals(problem, rng, (pose, 3), (point, 8), count=60)
    add_residuals(problem, rng, pose[:3])
    return linearized(problem)


@pytest.mark.parametrize(("solver", "tolerance"), SOLVERS)
@pytest.mark.parametrize(
    ("column", "damping", "block"),
    [(21 + 2, 0.0, "pose[3]"), (28 + 24 + 1, 0.0, "point[8]"), (7 + 3, -1e5, "pose[1]"), (28 + 5, -1e5, "point[1]")],
)
def test_failures_name_the_block_that_is_not_positive_definite(solver, tolerance, column, damping, block):
    rng = np.random.default_rng(3)
    structure, linearization = seen_and_unseen(rng)
    system = solver.prepare(solver.analyze(structure), linearization)
    D = np.ones(structure.num_columns)
    D[column] = damping
    failure = solver.factorize(system, D)
    assert isinstance(failure, Failure)
    assert structure.describe_block(failure.block) == block
    assert "not positive definite" in failure.message
    # and works again
    D[column] = 1.0
    x = solve(solver, structure, linearization, D, np.ones(len(D)))
    check_step(linearization, D, np.ones(len(D)), x, tolerance)


@pytest.mark.parametrize(("solver", "tolerance"), SOLVERS)
@pytest.mark.parametrize("column", [3, 28 + 5])
def test_what_is_not_a_number_is_a_failure(solver, tolerance, column):
    structure, linearization = seen_and_unseen(np.random.default_rng(3))
    plan = solver.analyze(structure)
    D = np.ones(structure.num_columns)
    D[column] = np.nan
    failure = solver.factorize(solver.prepare(plan, linearization), D)
    assert isinstance(failure, Failure) and "not finite" in failure.message
    span = structure.spans[0]
    for bad in (np.nan, np.inf):
        linearization.blocks(span)[0, 0, 0 if column < 28 else 8] = bad
        linearization.update_gradient(None)
        failure = solver.factorize(solver.prepare(plan, linearization), np.ones(structure.num_columns))
        assert isinstance(failure, Failure) and "not finite" in failure.message


# -- what is eliminated --------------------------------------------------------------------------------------------------


def bundle(rng, num_cameras=4, num_points=12):
    """Cameras of 9 columns and points."""
    problem = slm.Problem()
    camera = problem.add_variables("camera", rng.standard_normal((num_cameras, 9)))
    point = problem.add_variables("point", rng.standard_normal((num_points, 3)))
    add_residuals(problem, rng, (camera, num_cameras), (point, num_points), count=60)
    return problem, camera, point


def chosen(problem, names=None):
    structure = Structure(problem)
    choice = choose_eliminated(structure, names)
    eliminated = np.append(choice.eliminated, False)  # rows without columns have block −1
    return choice, {layout.name: np.flatnonzero(eliminated[layout.block]).tolist() for layout in structure.variables}


def test_points_are_eliminated_in_bundle_adjustment():
    problem, *_ = bundle(np.random.default_rng(0))
    choice, rows = chosen(problem)
    assert choice.names == ("point",) and rows == {"camera": [], "point": list(range(12))}
    assert is_worthwhile(Structure(problem), choice)
    why = "their blocks are small and no residual block connects two of them"
    assert choice.reason == f"12 blocks of point are eliminated, 36 of 72 columns: {why}"


def test_landmarks_are_eliminated_and_connected_poses_are_not():
    rng = np.random.default_rng(0)
    problem = slm.Problem()
    pose = problem.add_variables("pose", rng.standard_normal((30, 3)))
    landmark = problem.add_variables("landmark", rng.standard_normal((8, 2)))
    add_residuals(problem, rng, pose[:-1], pose[1:])
    add_residuals(problem, rng, (pose, 30), (landmark, 8), count=50)
    choice, rows = chosen(problem)
    assert choice.names == ("landmark",) and rows == {"pose": [], "landmark": list(range(8))}
    assert not is_worthwhile(Structure(problem), choice)  # 16 of 106 columns


def test_two_groups_are_eliminated_unless_they_are_connected():
    rng = np.random.default_rng(0)
    problem, camera, point = bundle(rng)
    line = problem.add_variables("line", rng.standard_normal((7, 4)))
    add_residuals(problem, rng, (camera, 4), (line, 7), count=30)
    choice, rows = chosen(problem)
    assert choice.names == ("point", "line") and len(rows["point"]) == 12 and len(rows["line"]) == 7
    add_residuals(problem, rng, line[:1], point[:1])
    choice, rows = chosen(problem)
    assert choice.names == ("point",) and not rows["line"]  # the one with more columns
    choice, rows = chosen(problem, ["line"])
    assert choice.names == ("line",) and not rows["point"] and choice.reason.endswith(": as asked")
    with pytest.raises(SolverError, match="'line' cannot be eliminated: residual blocks connect it with 'point', which is"):
        chosen(problem, ("line", "point"))


def test_of_a_connected_group_the_others_are_eliminated():
    rng = np.random.default_rng(0)
    problem, _, point = bundle(rng)
    add_residuals(problem, rng, point[[3, 5]], point[[5, 7]])
    add_residuals(problem, rng, point[[9]], point[[9]])  # with itself: not a block that stands alone, either
    choice, rows = chosen(problem)
    assert rows["point"] == [0, 1, 2, 4, 6, 8, 10, 11]
    point.fix([5])  # what is constant connects nothing
    choice, rows = chosen(problem)
    assert rows["point"] == [0, 1, 2, 3, 4, 6, 7, 8, 10, 11]
    add_residuals(problem, rng, point[:], point[np.roll(np.arange(12), 1)])
    point.free()
    choice, rows = chosen(problem)
    assert choice.names == () and not rows["point"]
    with pytest.raises(SolverError, match="'point' cannot be eliminated: residual blocks connect every one of its blocks"):
        chosen(problem, ("point",))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("points",), "eliminate: there are no variables 'points', expected some of camera, point"),
        (("camera",), f"'camera' cannot be eliminated: its blocks have 9 columns, expected at most {MOST_COLUMNS}"),
        ("point", "eliminate: expected a sequence of names such as ('point',), got the string 'point'"),
    ],
)
@pytest.mark.parametrize(("solver", "tolerance"), SOLVERS)
def test_choices_that_are_refused(solver, tolerance, names, message):
    problem, *_ = bundle(np.random.default_rng(0))
    with pytest.raises(SolverError, match=re.escape(message)):
        type(solver)(eliminate=names).analyze(Structure(problem))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ordering": "colamd"}, "SchurCholesky: ordering 'colamd', expected one of auto, amd, metis, natural"),
        ({"precision": "half"}, "SchurCholesky: precision 'half', expected float64 or float32"),
    ],
)
def test_unknown_options_are_refused(options, message):
    problem, *_ = bundle(np.random.default_rng(0))
    with pytest.raises(SolverError, match=message):
        slm.SchurCholesky(**options).analyze(Structure(problem))


@pytest.mark.parametrize(("solver", "tolerance"), SOLVERS)
def test_nothing_eliminated_and_everything_eliminated(solver, tolerance):
    rng = np.random.default_rng(5)
    nothing = slm.Problem()
    pose = nothing.add_variables("pose", rng.standard_normal((5, 7)))
    add_residuals(nothing, rng, pose[:], pose[[1, 2, 3, 4, 0]])
    everything = slm.Problem()
    point = everything.add_variables("point", rng.standard_normal((5, 3)))
    add_residuals(everything, rng, point[:])
    add_residuals(everything, rng, point[:3])
    for problem, names, text in ((nothing, (), "nothing is eliminated"), (everything, ("point",), "5 blocks of point are")):
        structure, linearization = linearized(problem)
        assert choose_eliminated(structure).names == names
        assert not is_worthwhile(structure, choose_eliminated(structure))
        assert text in solver.describe(solver.analyze(structure))
        damping = random_damping(structure, problem, rng)
        for rhs in (-linearization.gradient, np.ones(structure.num_columns)):
            check_step(linearization, damping, rhs, solve(solver, structure, linearization, damping, rhs), tolerance)
    structure, linearization = linearized(nothing)
    unasked = type(solver)(eliminate=())
    assert unasked.describe(unasked.analyze(structure)).startswith("nothing is eliminated, as asked; ")


# -- precision, and a real problem ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_single_precision_is_refined(seed):
    rng = np.random.default_rng(seed)
    problem = random_graph(rng)
    structure, linearization = linearized(problem)
    damping, solver = random_damping(structure, problem, rng), slm.SchurCholesky(precision="float32")
    factor = solver.factorize(solver.prepare(solver.analyze(structure), linearization), damping)
    rhs, x = -linearization.gradient, np.full(structure.num_columns, np.nan)
    facts = solver.solve(factor, rhs, x)
    check_step(linearization, damping, rhs, x, 1e-9)
    assert facts.inner_iterations <= 5 and facts.residual_norm <= 1e-9 * (1.0 + np.abs(rhs).max())


@pytest.mark.parametrize(("precision", "most"), [("float64", 13344.25), ("float32", 13345.0)])
def test_bundle_adjustment_comes_near_the_optimum(precision, most):
    named = problems.get("bal-ladybug-49")
    if named.why_unavailable():
        pytest.skip(named.why_unavailable())
    solver = slm.SchurCholesky(precision=precision)
    result = slm.solve(named.build(), linear_solver=solver, function_tolerance=0.0, max_iterations=100)
    assert result.final_cost <= most
