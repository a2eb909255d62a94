"""Every registered preconditioner keeps the contract, and is what it says."""

from importlib.metadata import entry_points
from itertools import pairwise

import numpy as np
import pytest

from sparselm.errors import PluginError, SolverError
from sparselm.linear_solvers import Failure
from sparselm.linear_solvers.schur import SchurPCG
from sparselm.plugins import create
from sparselm.preconditioners import BlockJacobi, ClusterJacobi, ClusterTridiagonal, PowerSeries, SchurJacobi
from sparselm.testing import check_preconditioner
from sparselm.testing.preconditioners import (
    ELIMINATED,
    FORMS,
    apply_to_all,
    dense_complement,
    dense_matrix,
    random_system,
)

REGISTERED = {entry.name: entry.load() for entry in entry_points(group="sparselm.preconditioners")}


def test_all_preconditioners_are_registered():
    expected = {"block-jacobi", "schur-jacobi", "power-series", "cluster-jacobi", "cluster-tridiagonal"}
    assert expected <= set(REGISTERED)


# Clusters smaller than the problems, so that M is not all of S.
SMALL = [ClusterJacobi(most=2), ClusterTridiagonal(most=2), PowerSeries(order=0)]


@pytest.mark.parametrize("preconditioner", [*(cls() for _, cls in sorted(REGISTERED.items())), *SMALL], ids=repr)
def test_contract(preconditioner):
    check_preconditioner(preconditioner)


# -- the check finds faults --------------------------------------------------------------------------------------------


class _Faulty(BlockJacobi):
    """Block Jacobi with one fault."""

    def apply(self, state, r, out):
        super().apply(state, r, out)
        self.fault(r, out)


def _asymmetric(r, out):
    out[0] += 1e-3 * r[-1]


def _indefinite(r, out):
    out *= -1.0


def _nonlinear(r, out):
    out *= 1.0 + 1e-3 * np.abs(r).sum()


def _overwrites(r, out):
    r *= 0.5


def _unwritten(r, out):
    out[-1] = np.nan


def _moves_held(r, out):
    out[out == 0.0] = 1e-300


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (_asymmetric, "not symmetric"),
        (_indefinite, "not positive definite"),
        (_nonlinear, "not linear"),
        (_overwrites, "changes its argument"),
        (_unwritten, "unwritten"),
        (_moves_held, "component is held"),
    ],
)
def test_check_finds_faults(fault, message):
    cls = type("_Fault", (_Faulty,), {"fault": staticmethod(fault)})
    with pytest.raises(AssertionError, match=message):
        check_preconditioner(cls())


def test_check_finds_failures_that_name_no_kept_block():
    class Names(BlockJacobi):
        def prepare(self, plan, system):
            found = super().prepare(plan, system)
            return Failure(found.message, 1000) if isinstance(found, Failure) else found

    with pytest.raises(AssertionError, match="names no kept block"):
        check_preconditioner(Names())


def test_check_finds_state_kept_on_the_plug_in():
    class Keeps(BlockJacobi):
        def apply(self, state, r, out):
            super().apply(state, r, out)
            object.__setattr__(self, "calls", getattr(self, "calls", 0) + 1)
            out *= 1.0 + 1e-12 * self.calls

    with pytest.raises(AssertionError, match="threads, or on another plan"):
        check_preconditioner(Keeps())


# -- each is what it says ----------------------------------------------------------------------------------------------


def factorized(preconditioner, shape, form, seed=1, held=0.2):
    """M⁻¹, the dense S and H + D, both over the kept columns, and the plan."""
    rng = np.random.default_rng(seed)
    structure, linearization = random_system(shape, rng)
    damping = 10.0 ** rng.uniform(-1.0, 1.0, structure.num_columns)
    damping[rng.random(structure.num_columns) < held] = np.inf
    solver = SchurPCG(preconditioner, form=form, eliminate=ELIMINATED[shape], tolerance=1e-10)
    plan = solver.factorize(solver.prepare(solver.analyze(structure), linearization), damping)
    assert not isinstance(plan, Failure)
    columns = plan.system.partition.columns
    A = dense_matrix(linearization, damping)
    return apply_to_all(preconditioner, plan), dense_complement(A, columns), A[np.ix_(columns, columns)], plan, solver


def free_part(A, plan):
    free = ~plan.system.held
    return A[np.ix_(free, free)]


def block_diagonal(A, plan):
    first = plan.system.first
    blocks = np.zeros_like(A)
    for begin, end in pairwise(first):
        blocks[begin:end, begin:end] = A[begin:end, begin:end]
    return blocks


def assert_inverse(inverse, M, plan):
    product = free_part(inverse, plan) @ free_part(M, plan)
    np.testing.assert_allclose(product, np.eye(len(product)), rtol=0, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", sorted(ELIMINATED))
def test_block_jacobi_inverts_the_diagonal_blocks_of_H(shape, form):
    inverse, _, H, plan, _ = factorized(BlockJacobi(), shape, form)
    assert_inverse(inverse, block_diagonal(H, plan), plan)
    series = factorized(PowerSeries(order=0), shape, form)[0]
    np.testing.assert_array_equal(series, inverse)


@pytest.mark.parametrize(
    ("shape", "form"), [*((shape, "explicit") for shape in ELIMINATED), ("arrow", "implicit"), ("chain", "implicit")]
)
def test_schur_jacobi_inverts_the_diagonal_blocks_of_S(shape, form):
    inverse, S, _, plan, _ = factorized(SchurJacobi(), shape, form)
    assert_inverse(inverse, block_diagonal(S, plan), plan)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("form", FORMS)
def test_power_series_is_the_sum_of_its_terms(form, order):
    inverse, S, H, plan, _ = factorized(PowerSeries(order), "arrow", form)
    B = free_part(block_diagonal(H, plan), plan)
    E = B - free_part(S, plan)
    terms = [np.linalg.inv(B)]
    for _ in range(order):
        terms.append(np.linalg.solve(B, E @ terms[-1]))
    np.testing.assert_allclose(free_part(inverse, plan), sum(terms), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_power_series_of_high_order_is_the_inverse(form):
    errors = []
    for order in (2, 20, 400):
        inverse, S, _, plan, _ = factorized(PowerSeries(order), "arrow", form)
        product = free_part(inverse, plan) @ free_part(S, plan)
        errors.append(np.abs(product - np.eye(len(product))).max())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-6


@pytest.mark.parametrize("preconditioner", [ClusterJacobi(most=1000), ClusterTridiagonal(most=1000)], ids=repr)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", ["arrow", "cameras"])
def test_one_cluster_is_the_inverse(shape, form, preconditioner):
    inverse, S, _, plan, solver = factorized(preconditioner, shape, form)
    assert_inverse(inverse, S, plan)
    x = np.empty(plan.system.partition.structure.num_columns)
    assert solver.solve(plan, np.ones(len(x)), x).inner_iterations == 1


@pytest.mark.parametrize("form", FORMS)
def test_clusters_of_one_block_are_schur_jacobi(form):
    inverse, S, _, plan, _ = factorized(ClusterJacobi(most=1), "cameras", form)
    assert_inverse(inverse, block_diagonal(S, plan), plan)


@pytest.mark.parametrize("preconditioner", [cls() for _, cls in sorted(REGISTERED.items())], ids=repr)
@pytest.mark.parametrize("form", FORMS)
def test_failure_names_the_variable_that_nothing_determines(form, preconditioner):
    structure, linearization = random_system("cameras", np.random.default_rng(2))
    solver = SchurPCG(preconditioner, form=form, eliminate=["point"])
    system = solver.prepare(solver.analyze(structure), linearization)
    damping = np.ones(structure.num_columns)
    damping[-1] = 0.0
    failure = solver.factorize(system, damping)
    assert isinstance(failure, Failure)
    assert structure.describe_block(failure.block) == "alone[1]"
    assert "not positive definite" in failure.message
    assert not isinstance(solver.factorize(system, np.ones(structure.num_columns)), Failure)


# -- options and names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("power-series", {"order": -1}, "order is -1"),
        ("cluster-jacobi", {"most": 0}, "most is 0"),
        ("cluster-tridiagonal", {"most": 0}, "most is 0"),
    ],
)
def test_options_are_checked(name, options, words):
    with pytest.raises(SolverError, match=words):
        create("preconditioners", name, options)


def test_created_by_name():
    assert create("preconditioners", "power-series", {"order": 2}) == PowerSeries(order=2)
    solver = create("linear_solvers", "schur-pcg", {"preconditioner": "cluster-jacobi", "form": "explicit"})
    assert solver == SchurPCG(ClusterJacobi(), form="explicit")
    given = ClusterJacobi(most=3)
    assert create("linear_solvers", "schur-pcg", {"preconditioner": given}).preconditioner is given
    with pytest.raises(PluginError, match="power-series"):
        create("linear_solvers", "schur-pcg", {"preconditioner": "magic"})
    with pytest.raises(PluginError, match=r"preconditioner = 3, expected one of block-jacobi"):
        create("linear_solvers", "schur-pcg", {"preconditioner": 3})
