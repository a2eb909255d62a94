"""slm.check_residual: right Jacobians pass on real problems, and every planted error is found where it is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy_models import snavely
from small_problems import AmbientRotation

import sparselm as slm
from problems.base import DATA_VARIABLE, require_data
from problems.bundle_adjustment import SYNTHETIC, ladybug_49
from problems.pose_graphs import SYNTHETIC as POSE_GRAPHS
from sparselm.errors import ProblemError
from sparselm.io import bal, g2o
from sparselm.residuals._comparison import compare_jacobians
from sparselm.residuals.base import AbstractResidual

STREET = SYNTHETIC["street-8"]()


def checked(what, **options):
    return slm.check_residual(what, quiet=True, **options)


@dataclass(frozen=True)
class Planted(AbstractResidual):
    """Another residual whose Jacobian has one fault, in all blocks or in those of one pixel."""

    inner: AbstractResidual
    fault: str
    component: int = 0
    column: int = 0
    only_at: tuple[float, ...] | None = None

    @property
    def dim(self):
        return self.inner.dim

    @property
    def manifolds(self):
        return self.inner.manifolds

    @property
    def data_shapes(self):
        return self.inner.data_shapes

    def prepared_dims(self):
        return self.inner.prepared_dims()

    def prepare(self, operand, values, out, *, derivatives):
        self.inner.prepare(operand, values, out, derivatives=derivatives)

    def evaluate(self, blocks, data, r):
        self.inner.evaluate(blocks, data, r)

    def linearize(self, blocks, data, columns, r, J):
        self.inner.linearize(blocks, data, columns, r, J)
        at = slice(None) if self.only_at is None else np.flatnonzero((data[0] == self.only_at).all(axis=1))
        i, k = self.component, self.column
        other = k - 1 if k else 1
        entry = J[at, i, k]
        if self.fault == "wrong sign":
            J[at, i, k] = -entry
        elif self.fault == "factor":
            J[at, i, k] = 1.0001 * entry
        elif self.fault == "zero":
            J[at, i, k] = 0.0
        elif self.fault == "not finite":
            J[at, i, k] = np.nan
        elif self.fault == "swapped columns":
            J[at, :, k], J[at, :, other] = J[at, :, other].copy(), J[at, :, k].copy()
        elif self.fault == "of its neighbour":
            J[at, i, k] = J[at, i, other]


FAULTS = ["wrong sign", "factor", "zero", "not finite", "swapped columns", "of its neighbour"]


def poses(name, residual):
    return g2o.to_problem(POSE_GRAPHS[name](), residual)[0]


def shifted(problem):
    """A problem away from its start, where edges of odometry have no error."""
    rng = np.random.default_rng(3)
    for variables in problem.variables:
        moved = np.empty_like(variables.values)
        variables.manifold.retract(
            variables.values, 0.1 * rng.standard_normal((len(moved), variables.manifold.tangent_dim)), moved
        )
        variables.values = moved
    return problem


# -- right Jacobians ----------------------------------------------------------------------------------------------------

RIGHT = {
    "bundle adjustment": lambda: bal.to_problem(STREET),
    "bundle adjustment, robust": lambda: bal.to_problem(STREET, loss=slm.Huber(1.0)),
    "bundle adjustment, NumPy": lambda: bal.to_problem(STREET, residual=slm.BatchResidual(snavely, 2)),
    "bundle adjustment, NumPy, central": lambda: bal.to_problem(STREET, residual=slm.BatchResidual(snavely, 2, "central")),
    "SE(2)": lambda: poses("grid-100", slm.Between),
    "SE(2), shifted": lambda: shifted(poses("grid-100", slm.Between)),
    "SE(3)": lambda: poses("sphere-180", slm.Between),
    "SE(3), uncoupled, shifted": lambda: shifted(poses("sphere-180", slm.BetweenUncoupled)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_jacobians_pass(name):
    report = checked(RIGHT[name](), num_blocks=140, tolerance=1e-3 if "central" in name else 1e-6)
    assert report.ok, str(report)
    (group,) = report.groups
    assert group.num_sampled == 140 and group.num_not_finite == group.num_kinks == group.num_untold == 0


@pytest.mark.skipif(f"not __import__('os').environ.get({DATA_VARIABLE!r})", reason="needs data")
def test_badly_scaled_cameras_of_real_data_pass():
    """f near 400, k₁ near −2e-7, k₂ near 1e-13; some points stand behind their cameras."""
    require_data("bal/problem-49-7776-pre.txt.bz2")
    problem = bal.to_problem(ladybug_49())
    report = checked(problem, num_blocks=3000)
    assert report.ok, str(report)
    assert report.groups[0].num_untold < 30
    for column in range(12):
        problem = bal.to_problem(ladybug_49(), residual=Planted(slm.SnavelyReprojection(), "factor", 1, column))
        worst = checked(problem).groups[0].worst
        assert (worst.component, 9 * worst.operand + worst.tangent) == (1, column)


# -- planted errors -----------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    fault=st.sampled_from(FAULTS),
    component=st.integers(0, 1),
    column=st.integers(0, 11),
    seed=st.integers(0, 1000),
)
def test_planted_errors_are_found_in_bundle_adjustment(fault, component, column, seed):
    planted = Planted(slm.SnavelyReprojection(), fault, component, column)
    report = checked(bal.to_problem(STREET, residual=planted), seed=seed, num_blocks=50)
    assert not report.ok
    worst = report.groups[0].worst
    found = 9 * worst.operand + worst.tangent
    if fault == "swapped columns":
        assert found in (column, column - 1 if column else 1)
    else:
        assert (worst.component, found) == (component, column)
    index = (STREET.camera_index, STREET.point_index)[worst.operand]
    assert (worst.variables, worst.row) == (("camera", "point")[worst.operand], index[worst.block])
    assert worst.relative_error < 1.1e-4 if fault == "factor" else worst.relative_error > 1e-3


@settings(max_examples=20, deadline=None)
@given(fault=st.sampled_from(["wrong sign", "factor", "not finite"]), column=st.integers(0, 11), component=st.integers(0, 5))
def test_planted_errors_are_found_on_manifolds(fault, column, component):
    assume(component < 3 or column % 6 >= 3)  # rotations do not depend on translations: there is nothing to spoil
    problem = shifted(poses("sphere-180", planted_between(fault, component, column)))
    worst = checked(problem).groups[0].worst
    assert worst.relative_error > 5e-5
    assert (worst.component, 6 * worst.operand + worst.tangent) == (component, column)


def planted_between(fault, component, column):
    """A stand-in for a residual class, as files want it."""

    class Class:
        @staticmethod
        def for_operands(manifolds):
            return Planted(slm.Between.for_operands(manifolds), fault, component, column)

    return Class


def test_an_error_in_a_single_block_is_found_there():
    block = 17
    residual = Planted(slm.SnavelyReprojection(), "factor", 1, 10, only_at=tuple(STREET.pixels[block]))
    report = checked(bal.to_problem(STREET, residual=residual), num_blocks=10**6)
    worst = report.groups[0].worst
    assert (worst.block, worst.component, worst.operand, worst.tangent) == (block, 1, 1, 1)
    assert (worst.variables, worst.row) == ("point", STREET.point_index[block])
    assert worst.given == pytest.approx(1.0001 * worst.numeric, rel=1e-7)


@settings(max_examples=80, deadline=None)
@given(
    scale=st.floats(-9, 6).map(lambda e: 10.0**e),
    size=st.floats(-9, 9).map(lambda e: 10.0**e),
    sign=st.sampled_from([-1.0, 1.0]),
    seed=st.integers(0, 1000),
)
def test_any_unit_of_variables_and_residuals(scale, size, sign, seed):
    """r = size (exp(−u), u³ + sin u) in u = x/scale near 1, beside a variable that hardly matters."""
    u = sign * np.random.default_rng(seed).uniform(0.5, 1.5, (20, 1))

    def fun(x, y):
        u = x[:, 0] / scale
        return size * np.stack((np.exp(-u), u**3 + np.sin(u) + 0.0 * y[:, 0]), axis=1)

    def jac(x, y, factor):
        u = x[:, 0] / scale
        first = size / scale * np.stack((-np.exp(-u), factor * (3 * u**2 + np.cos(u))), axis=1)
        return first[:, :, None], np.zeros((len(x), 2, 1))

    for factor in (1.0, 1.0001):
        problem = slm.Problem()
        x = problem.add_variables("x", scale * u)
        y = problem.add_variables("y", 1e-13 * u)
        residual = slm.BatchResidual(fun, 2, lambda x, y, factor=factor: jac(x, y, factor))
        (group,) = checked(problem_with(problem, residual, x, y)).groups
        assert group.ok == (factor == 1.0), str(group.worst)
        assert group.num_kinks == 0
    assert (group.worst.component, group.worst.operand, group.worst.tangent) == (1, 0, 0)


def problem_with(problem, residual, *operands, **options):
    problem.add_residuals(residual, *operands, **options)
    return problem


@pytest.mark.parametrize("manifold", [slm.SO3(), slm.Euclidean(4)], ids=repr)
def test_ambient_jacobians_are_checked_in_the_tangent_space_of_the_variables(manifold):
    problem = slm.Problem()
    q = problem.add_variables("q", slm.SO3().random(np.random.default_rng(1), 30), manifold=manifold)
    assert checked(problem_with(problem, AmbientRotation(), q[::2])).ok
    report = checked(problem.add_residuals(AmbientRotation(slope=1.5001), q[::2]))
    assert not report.ok and report.groups[0].worst.relative_error == pytest.approx(1e-4 / 1.5001, rel=1e-3)
    assert report.groups[0].worst.row == 2 * report.groups[0].worst.block


# -- kinks, noise, and what is not finite -------------------------------------------------------------------------------


def one_group(fun, x, dim=1, jac=None):
    problem = slm.Problem()
    residual = slm.BatchResidual(fun, dim, jac)
    problem.add_residuals(residual, problem.add_variables("x", x))
    return problem


def signs(x):
    with np.errstate(all="ignore"):
        return (x / np.abs(x))[:, None, :] if x.shape[1] == 1 else (x / np.linalg.norm(x, axis=1)[:, None])[:, None, :]


@pytest.mark.parametrize("jac", [signs, lambda x: np.ones((len(x), 1, 1)), "central"])
def test_kinks_are_told_apart(jac):
    """|x| has no derivative at 0, whatever a Jacobian says; next to it, it has."""
    (group,) = checked(one_group(lambda x: np.abs(x), [[0.0], [1.0], [2.0], [1e-8], [3.0]], jac=jac)).groups
    assert group.ok and group.num_kinks == 1 and group.num_not_finite == group.num_untold == 0


def test_errors_beside_kinks_are_found():
    (group,) = checked(one_group(lambda x: np.abs(x), [[0.0], [1.0], [-1e-6]], jac=lambda x: np.ones((3, 1, 1)))).groups
    assert not group.ok and group.num_kinks == 1 and (group.worst.block, group.worst.numeric) == (2, pytest.approx(-1.0))


def test_the_kink_of_a_distance_leaves_its_other_blocks():
    x = np.random.default_rng(2).standard_normal((20, 3))
    x[7] = 0.0
    (group,) = checked(one_group(lambda x: np.linalg.norm(x, axis=1), x, jac=signs)).groups
    assert group.ok and group.num_kinks == 1 and group.num_not_finite == 0


def test_corners_of_a_small_part_are_no_errors():
    """A slope of 1000 with a kink of 1 in it: J = 1000 is right nowhere near the kink but wrong by 10⁻³ beside it."""
    (group,) = checked(
        one_group(lambda x: 1e3 * x + np.abs(x), [[0.0], [1.0]], jac=lambda x: 1e3 + np.sign(x)[:, None])
    ).groups
    assert group.ok and group.num_kinks == 1


@pytest.mark.parametrize("jac", ["complex", "central", lambda x: 0.5 / np.sqrt(x)[:, None]])
def test_blocks_that_are_not_finite_are_told_apart(jac):
    (group,) = checked(one_group(lambda x: np.sqrt(x), [[-1.0], [4.0], [9.0]], jac=jac)).groups
    assert group.ok and group.num_not_finite == 1 and group.num_kinks == group.num_untold == 0


def test_the_edge_of_a_domain_cannot_be_told():
    """x^1.5 at 0 has a derivative on one side only."""
    (group,) = checked(one_group(lambda x: x**1.5, [[0.0], [4.0]], jac=lambda x: 1.5 * np.sqrt(x)[:, None])).groups
    assert group.ok and group.num_untold == 1 and group.num_not_finite == 0


def test_a_report_in_which_nothing_was_compared_is_not_ok():
    report = checked(one_group(lambda x: np.sqrt(x), [[-1.0], [-2.0]], jac="central"))
    assert not report.ok and report.groups[0].worst is None and report.groups[0].num_not_finite == 2
    assert "nothing could be compared" in str(report)


@pytest.mark.parametrize("noise", [1e-13, 1e-10, 1e-7])
def test_noise_of_a_black_box_is_not_blamed_on_the_jacobian(noise):
    """As of an integrator with a tolerance: differences lose digits, and know it."""

    def fun(x):
        return np.sin(x) + noise * np.sin(1e15 * x)

    x = np.random.default_rng(4).uniform(-1.0, 1.0, (100, 1))
    (group,) = checked(one_group(fun, x, jac=lambda x: np.cos(x)[:, :, None])).groups
    assert group.ok, str(group.worst)
    (group,) = checked(one_group(fun, x, jac=lambda x: 1.1 * np.cos(x)[:, :, None])).groups
    assert not group.ok


def test_digits_lost_in_a_difference_of_large_numbers_are_not_blamed_on_the_jacobian():
    """Ranges of some metres between points 10⁷ m from the origin."""
    rng = np.random.default_rng(5)
    p = 1e7 + rng.standard_normal((100, 2))
    problem = slm.Problem()
    x, y = problem.add_variables("x", p), problem.add_variables("y", p + 1.0 + rng.random((100, 2)))
    distance = slm.BatchResidual(lambda x, y: np.sqrt(((x - y) ** 2).sum(axis=1)), 1, "complex")
    assert checked(problem_with(problem, distance, x, y)).ok


# -- the comparison, the report, misuse ---------------------------------------------------------------------------------


def test_comparison():
    given = np.array([1.0, 1.1, 0.0, 0.0, np.nan, 3.0, -2.0]).reshape(7, 1, 1)
    expected = np.array([1.0, 1.0, 0.0, 1e-9, 1.0, np.nan, 2.0]).reshape(7, 1, 1)
    errors = np.array([1e-9, 1e-9, 0.0, 1e-8, 1.0, np.inf, 0.0]).reshape(7, 1, 1)
    found = compare_jacobians(given, expected, errors).ravel()
    np.testing.assert_allclose(found, [0.0, 0.1 / 1.1, 0.0, 0.0, np.inf, np.nan, 2.0], rtol=1e-12)


def test_the_table_names_the_worst_entry(capsys):
    problem = bal.to_problem(STREET, residual=Planted(slm.SnavelyReprojection(), "wrong sign", 1, 7))
    report = slm.check_residual(problem)
    worst, printed = report.groups[0].worst, capsys.readouterr().out
    assert printed == f"{report}\n" and "WRONG" in printed
    assert f"block {worst.block}, ∂r[1]/∂δ[7] of operand 0 = camera[{worst.row}]: Jacobian {worst.given:.10g}" in printed
    slm.check_residual(problem, quiet=True)
    assert capsys.readouterr().out == ""


def test_the_table_counts_what_was_not_compared(capsys):
    slm.check_residual(one_group(lambda x: np.abs(np.sqrt(x)), [[-1.0], [0.0], [1.0]], jac="central"))
    printed = capsys.readouterr().out
    assert "3 of 3" in printed and "1 of these blocks where the residual is not finite" in printed


def test_groups_are_checked_one_by_one():
    problem = slm.Problem()
    x = problem.add_variables("x", np.linspace(1.0, 2.0, 50)[:, None])
    right = problem.add_residuals(slm.Prior(slm.Euclidean(1)), x, data=np.zeros((50, 1)), name="right")
    wrong = problem.add_residuals(slm.BatchResidual(np.sin, 1, lambda x: np.sin(x)[:, None]), x, name="wrong")
    report = checked(problem)
    assert [(group.group, group.ok) for group in report.groups] == [("right", True), ("wrong", False)]
    assert not report.ok and checked(right).ok and not checked(wrong).ok


def test_samples_are_of_a_seed_and_the_problem_is_left_alone():
    problem = bal.to_problem(STREET)
    before = [v.values.copy() for v in problem.variables]
    problem.variables[0].fix()
    reports = [checked(problem, num_blocks=30, seed=seed, tolerance=-1.0) for seed in (0, 0, 1)]
    assert reports[0] == reports[1] != reports[2]
    assert all(np.array_equal(v.values, x) for v, x in zip(problem.variables, before, strict=True))
    with pytest.raises(dataclasses.FrozenInstanceError):
        reports[0].groups = ()


def test_a_group_without_blocks_is_right():
    problem = slm.Problem()
    x = problem.add_variables("x", np.zeros((3, 2)))
    (group,) = checked(problem_with(problem, slm.Prior(slm.Euclidean(2)), x[[]], data=np.zeros((0, 2)))).groups
    assert group.ok and group.num_sampled == 0


def test_misuse():
    with pytest.raises(ProblemError, match=r"got Prior; a residual alone is checked by sparselm\.testing"):
        slm.check_residual(slm.Prior(slm.SE2()))
    with pytest.raises(ProblemError, match="no residual groups"):
        slm.check_residual(slm.Problem())
    with pytest.raises(ProblemError, match="num_blocks must be at least 1, got 0"):
        slm.check_residual(bal.to_problem(STREET), num_blocks=0)
