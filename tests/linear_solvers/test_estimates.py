"""What linear solvers are predicted to take, and the choice that follows from it."""

import dataclasses

import numpy as np
import pytest

import sparselm.linear_solvers.auto as auto
import sparselm.linear_solvers.estimates as estimates
import sparselm.linear_solvers.schur.cholesky as cholesky
from sparselm import driver
from sparselm.datasets.bundle_adjustment import street
from sparselm.evaluator import Evaluator
from sparselm.io import bal
from sparselm.linear_solvers import BlockCholesky, SchurCholesky, SchurPCG
from sparselm.linear_solvers.schur.choice import choose_eliminated
from sparselm.linear_solvers.schur.symbolic import find_symbolic
from sparselm.linearization import Linearization
from sparselm.problem import Problem
from sparselm.structure import Structure
from sparselm.testing.linear_solvers import LinearBlocks


@pytest.fixture(scope="module")
def problem():
    return bal.to_problem(street(40, 1500, num_observations=9000).data, None, None)


@pytest.fixture(scope="module")
def structure(problem):
    return Structure(problem)


def linear(operands, num_blocks):
    """Residual blocks of one row over (variables, index) pairs."""
    widths = tuple(v.manifold.tangent_dim for v, _ in operands)
    data = (np.ones((num_blocks, 1, sum(widths))), np.ones((num_blocks, 1)))
    return LinearBlocks(1, widths), [v[index] for v, index in operands], data


def with_points(num_kept_operands, num_points=500):
    """Points, each seen by three residual blocks with as many kept operands."""
    problem, rng = Problem(), np.random.default_rng(0)
    x = problem.add_variables("x", np.zeros((20, 2)))
    points = problem.add_variables("point", np.zeros((num_points, 3)))
    operands = [(x, (i + rng.integers(0, 3, 3 * num_points) * 6) % 20) for i in range(num_kept_operands)]
    block, selected, data = linear([*operands, (points, np.arange(3 * num_points) % num_points)], 3 * num_points)
    problem.add_residuals(block, *selected, data=data)
    return Structure(problem)


# -- counts -------------------------------------------------------------------------------------------------------------


def test_counts_of_bundle_adjustment(problem, structure):
    n = estimates.count_elimination(structure, choose_eliminated(structure))
    tracks = np.bincount(problem.residuals[0].operands[1].index)
    assert (n.num_kept, n.kept_columns, n.kept_area) == (40, 360, 40 * 81)
    assert n.eliminated == ((1500, 3),)
    assert (n.couplings, n.residual_blocks, n.basis_entries) == (9000, 9000, 9000 * 2 * 3)
    assert n.places == 0
    assert n.pairs == sum(int(t) * (int(t) + 1) // 2 for t in tracks)
    assert n.pair_flops == sum((9.0 * t) ** 2 * 3 for t in tracks)


def test_counts_beyond_32_and_64_bits():
    """400 million observations of 60 million points by 100 000 cameras."""
    observations, cameras, points = 400_000_000, 100_000, 60_000_000
    n = estimates.EliminationCounts(
        num_values=24 * observations, num_blocks=cameras + points, diagonal_entries=81 * cameras + 9 * points,
        num_kept=cameras, kept_columns=9 * cameras, kept_area=81 * cameras, eliminated=((points, 3),),
        couplings=observations, residual_blocks=observations, basis_entries=6 * observations, places=0,
        pairs=observations**2, pair_flops=1e20,
    )  # fmt: skip
    assert n.num_values > 2**31
    implicit, bound = estimates.implicit_estimate(n), estimates.bounded_estimate(n)
    assert 15e9 < implicit.memory < 40e9
    assert estimates.screening_memory(n) > 8 * observations**2 > 2**60
    assert bound.memory > 16 * bound.factor_nonzeros == 16 * (900_000 * 900_001 // 2)
    assert bound.nonzeros > 2**38
    assert bound.flops == 900_000**3 / 3
    assert "bounds" in bound.note
    assert all(type(getattr(bound, name)) is int for name in ("memory", "nonzeros", "factor_nonzeros"))


def test_sums_of_counts_do_not_overflow():
    assert estimates.sum_exactly(np.full(9, 2**62)) == 9 * 2**62
    assert estimates.sum_exactly(np.array([3, 2**32 - 1, 2**40 + 5])) == 3 + 2**32 - 1 + 2**40 + 5


@pytest.mark.parametrize(("num_values", "wanted"), [(2**31 - 1, np.int32), (2**31, np.int64), (9_600_000_000, np.int64)])
def test_index_type_follows_the_counts(num_values, wanted):
    structure = object.__new__(Structure)  # a real one would take 77 GB
    structure.num_values, structure.num_rows, structure.num_columns = num_values, 800_000_000, 180_900_000
    assert structure.index_dtype is wanted


# -- memory and work ----------------------------------------------------------------------------------------------------


def reachable_arrays(*roots):
    """The arrays that objects hold, by identity, but for those of a structure or a linearisation."""
    seen, arrays, left = set(), {}, list(roots)
    while left:
        item = left.pop()
        if id(item) in seen or isinstance(item, Linearization | Structure | type):
            continue
        seen.add(id(item))
        if isinstance(item, np.ndarray):
            while isinstance(item.base, np.ndarray):
                item = item.base
            arrays[id(item)] = item
        elif isinstance(item, dict):
            left.extend(item.values())
        elif isinstance(item, list | tuple):
            left.extend(item)
        elif type(item).__module__.startswith("sparselm"):
            left.extend(getattr(item, "__dict__", {}).values())
            if dataclasses.is_dataclass(item):
                left.extend(getattr(item, f.name) for f in dataclasses.fields(item))
    return arrays


def held_bytes(plan, structure):
    own = reachable_arrays(plan)
    shared = reachable_arrays(structure.spans, structure.variables, structure.block_columns)
    return sum(own[key].nbytes for key in own.keys() - shared.keys())


@pytest.mark.parametrize(
    ("name", "solver"),
    [
        ("schur-cholesky", SchurCholesky()),
        ("schur-pcg", SchurPCG()),
        ("schur-pcg, explicit", SchurPCG(form="explicit")),
        ("block-cholesky", BlockCholesky()),
    ],
)
def test_memory_is_that_of_the_arrays_held(problem, structure, name, solver):
    predicted = {e.solver: e for e in estimates.estimate_solvers(structure)}[name]
    plan = solver.analyze(structure)
    linearization = Evaluator(problem, structure).linearize()
    damping = linearization.diagonal + 1.0
    for _ in range(2):  # the second time, the diagonal blocks come with the gradient
        factor = solver.factorize(solver.prepare(plan, linearization), damping)
        solver.solve(factor, linearization.gradient, np.zeros(structure.num_columns))
    held = held_bytes(plan, structure) + sum(blocks.nbytes for blocks in linearization._diagonal_blocks.values())
    assert predicted.memory == pytest.approx(held, rel=0.25)


def test_figures_are_those_of_the_factorisation(structure):
    found = {e.solver: e for e in estimates.estimate_solvers(structure)}
    numeric = SchurCholesky().analyze(structure).numeric
    assert list(found) == ["schur-cholesky", "schur-pcg", "schur-pcg, explicit", "block-cholesky"]
    assert found["schur-cholesky"].factor_nonzeros == numeric.symbolic.nonzeros
    assert found["schur-cholesky"].flops == numeric.symbolic.flops
    assert found["schur-cholesky"].num_columns == 360
    assert found["schur-pcg, explicit"].nonzeros == len(SchurPCG(form="explicit").analyze(structure).system.S)
    assert found["schur-pcg"].flops == 4 * structure.num_values


def test_too_many_pairs_are_bounded_and_not_sought(structure, monkeypatch):
    exact = estimates.estimate_solvers(structure)[0]
    monkeypatch.setattr(estimates, "MOST_PAIRS", 1000)
    monkeypatch.setattr(estimates, "find_symbolic", None)
    bound, implicit, _ = estimates.estimate_solvers(structure)
    assert (bound.solver, implicit.solver) == ("schur-cholesky", "schur-pcg")
    assert "bounds" in bound.note
    assert bound.memory >= exact.memory - 8 * 2**20  # but for arenas
    assert bound.factor_nonzeros >= exact.factor_nonzeros
    assert bound.flops >= exact.flops


# -- the choice ---------------------------------------------------------------------------------------------------------


def test_bundle_adjustment_is_eliminated_and_analysed_once(problem, structure, monkeypatch):
    chosen = auto.choose_linear_solver(structure)
    assert isinstance(chosen.linear_solver, SchurCholesky)
    assert "blocks of point leaves a Schur complement of 360 columns" in chosen.reason
    assert "operations" in chosen.reason
    monkeypatch.setattr(cholesky, "find_symbolic", None)  # would be called were it not handed over
    analysis = driver.analyze(problem)
    assert isinstance(analysis.linear_solver, SchurCholesky)
    assert analysis.plan.numeric.symbolic.size == 360


def test_what_another_structure_found_is_not_used(structure):
    found = find_symbolic(with_points(1))
    assert SchurCholesky().analyze(structure, found).numeric.symbolic.size == 360


@pytest.mark.parametrize("sought", [True, False])
def test_memory_decides(structure, monkeypatch, sought):
    counts, calls = estimates.count_elimination(structure, choose_eliminated(structure)), []
    needed = estimates.estimate_solvers(structure)[0].memory if sought else estimates.screening_memory(counts)
    monkeypatch.setattr(auto, "find_symbolic", lambda *given: calls.append(given) or find_symbolic(*given))
    monkeypatch.setattr(auto, "_memory", lambda: 2 * needed)
    assert isinstance(auto.choose_linear_solver(structure)[0], SchurCholesky if sought else SchurPCG)
    calls.clear()
    monkeypatch.setattr(auto, "_memory", lambda: 2 * needed - 2)
    solver, reason, _ = auto.choose_linear_solver(structure)
    assert solver == SchurPCG()
    assert ("about" if sought else "at least") in reason
    assert "GiB of the machine's" in reason
    assert len(calls) == sought


@pytest.mark.parametrize(("seconds", "sought"), [("FACTOR_SECONDS", True), ("FORM_SECONDS", False)])
def test_work_decides(structure, monkeypatch, seconds, sought):
    monkeypatch.setattr(auto, seconds, 1.0)
    solver, reason, _ = auto.choose_linear_solver(structure)
    assert solver == SchurPCG()
    assert f"would take {'about' if sought else 'at least'}" in reason
    assert "operations, so that" in reason


@pytest.mark.parametrize(("kept", "places"), [(4, 0), (5, 5 * 1500)])
def test_places_are_listed_beyond_four_kept_operands(kept, places):
    structure = with_points(kept)
    choice = choose_eliminated(structure, ["point"])
    n = estimates.count_elimination(structure, choice)
    assert n.places == places
    (terms,) = SchurPCG(eliminate=["point"]).analyze(structure).system._terms
    assert terms.places.size == places


def test_residual_blocks_with_many_kept_operands(monkeypatch):
    wide = with_points(5)
    assert isinstance(auto.choose_linear_solver(wide)[0], SchurCholesky)
    monkeypatch.setattr(auto, "_memory", lambda: 10_000)
    assert isinstance(auto.choose_linear_solver(wide)[0], SchurPCG)


def test_few_columns_or_few_eliminated_ones_are_left_to_block_cholesky():
    assert isinstance(auto.choose_linear_solver(with_points(1, num_points=300))[0], BlockCholesky)
    problem = Problem()
    n = 1000
    poses = problem.add_variables("pose", np.zeros((n, 3)))
    landmarks = problem.add_variables("landmark", np.zeros((n // 2, 2)))
    every = np.arange(n - 1)
    for pair in ([(poses, every), (poses, every + 1)], [(poses, every), (landmarks, every // 2)]):
        block, selected, data = linear(pair, n - 1)
        problem.add_residuals(block, *selected, data=data)
    assert choose_eliminated(Structure(problem)).names == ("landmark",)
    assert isinstance(auto.choose_linear_solver(Structure(problem))[0], BlockCholesky)
