"""The contract of preconditioners, checked on small random problems against the dense Schur complement."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from sparselm.evaluator import Evaluator
from sparselm.linear_solvers.base import Failure, Precision
from sparselm.linear_solvers.schur.pcg import Form, SchurPCG, SchurPCGPlan
from sparselm.linearization import Linearization
from sparselm.preconditioners.base import AbstractPreconditioner
from sparselm.problem import Problem
from sparselm.structure import Structure
from sparselm.testing.linear_solvers import LinearBlocks, random_problem
from sparselm.threads import use_threads

Array = npt.NDArray[np.float64]

#: The problems that the check draws, and what is eliminated of them.
ELIMINATED: dict[str, tuple[str, ...]] = {
    "chain": (),
    "star": ("leaf",),
    "arrow": ("point",),
    "cameras": ("point",),
}

FORMS: tuple[Form, ...] = ("explicit", "implicit")

# How far M⁻¹ may be from symmetric and linear, relative to its norm in the basis where S is the identity.
_ROUNDING = 1e-9


def random_cameras(rng: np.random.Generator, *, isolated: bool = True) -> Problem:
    """A small linear problem of the shape of bundle adjustment: poses, intrinsics that they share, and points.

    Observations touch a pose, one of two intrinsics and a point, some of which are held; some touch a pose and a point
    alone; odometry connects poses, and there are priors of all three.

    Parameters
    ----------
    rng
    isolated
        Add variables that no residual touches, so that JᵀJ is singular.
    """
    problem = Problem()
    n, m = int(rng.integers(6, 10)), int(rng.integers(25, 40))
    pose = problem.add_variables("pose", rng.standard_normal((n, 6)))
    lens = problem.add_variables("lens", rng.standard_normal((2, 3)))
    point = problem.add_variables("point", rng.standard_normal((m, 3)))
    pose.fix([1])
    point.fix([3, 4])
    seen = rng.random((m, n)) < 0.5
    seen[np.arange(m), rng.integers(0, n, m)] = True
    of_point, of_pose = np.nonzero(seen)

    def residuals(dim: int, *operands: Any) -> None:
        dims = [operand.variables.manifold.ambient_dim for operand in operands]
        size = len(operands[0].index)
        data = (rng.standard_normal((size, dim, sum(dims))), rng.standard_normal((size, dim)))
        problem.add_residuals(LinearBlocks(dim, dims), *operands, data=data)

    residuals(2, pose[of_pose], lens[of_pose % 2], point[of_point])
    residuals(2, pose[of_pose[::5]], point[of_point[::5]])
    residuals(6, pose[np.arange(n - 1)], pose[np.arange(1, n)])
    residuals(6, pose[[0]])
    residuals(3, lens[:])
    residuals(3, point[::4])
    if isolated:
        problem.add_variables("alone", rng.standard_normal((2, 2)))
    return problem


def random_system(
    shape: str, rng: np.random.Generator, precision: Precision = "float64"
) -> tuple[Structure, Linearization]:
    """A problem of one of ``ELIMINATED``, and its linearisation."""
    problem = random_cameras(rng) if shape == "cameras" else random_problem(shape, rng)
    structure = Structure(problem)
    return structure, Evaluator(problem, structure, precision).linearize()


def dense_matrix(linearization: Linearization, damping: Array) -> Array:
    """JᵀJ + D, with the identity's row and column where D = +∞ holds a component."""
    J = linearization.jacobian().toarray().astype(np.float64)
    held = np.isinf(damping)
    J[:, held] = 0.0
    A: Array = J.T @ J + np.diag(np.where(held, 1.0, damping))
    return A


def dense_complement(A: Array, kept: npt.NDArray[np.integer]) -> Array:
    """A_kk − A_ke A_ee⁻¹ A_ek."""
    e = np.setdiff1d(np.arange(len(A)), kept)
    S: Array = A[np.ix_(kept, kept)] - A[np.ix_(kept, e)] @ np.linalg.solve(A[np.ix_(e, e)], A[np.ix_(e, kept)])
    return 0.5 * (S + S.T)


def apply_to_all(preconditioner: AbstractPreconditioner, plan: SchurPCGPlan) -> Array:
    """M⁻¹, column by column; rows and columns of held components are zero."""
    system = plan.system
    n = len(system.held)
    inverse = np.zeros((n, n))
    for column in np.flatnonzero(~system.held):
        inverse[:, column] = np.nan
        preconditioner.apply(plan.state, np.eye(n)[column], inverse[:, column])
    return inverse


def check_preconditioner(preconditioner: AbstractPreconditioner, rng: np.random.Generator | None = None) -> None:
    """Check a preconditioner against :class:`~sparselm.preconditioners.AbstractPreconditioner`; AssertionError if it fails.

    On random problems of several shapes (kept blocks of two to seven columns, some of which residual blocks connect
    directly, intrinsics that all blocks share, blocks held constant), for S formed by blocks and for S as a product, with D
    constant, spread over orders of magnitude and with components held by +∞, it checks that

    * M⁻¹ r is finite, 0 in held components, and all of it is written; r is left alone;
    * M⁻¹ is linear, symmetric and positive definite;
    * the numbers are the same to the last bit for one thread and for two;
    * conjugate gradients with it reach the dense solution;
    * another D, and a second plan that is used in between, change nothing;
    * with D = 0 and variables that nothing determines it returns a Failure that names a kept block, or none, or whatever
      state it likes, and works again afterwards.

    Parameters
    ----------
    preconditioner : AbstractPreconditioner
        An instance.
    rng : numpy.random.Generator, optional
        Where the problems come from; seeded with 0 by default.

    Examples
    --------
    >>> from sparselm.preconditioners import BlockJacobi
    >>> from sparselm.testing import check_preconditioner
    >>> check_preconditioner(BlockJacobi())
    """
    rng = rng or np.random.default_rng(0)
    for shape, eliminated in ELIMINATED.items():
        structure, linearization = random_system(shape, rng)
        for form in FORMS:
            check = _Check(preconditioner, shape, eliminated, form, structure, linearization)
            dampings = _dampings(structure.num_columns, rng)
            before = [check.keeps(damping, rng) for damping in dampings]
            check.singular(rng)
            check.require(np.array_equal(check.keeps(dampings[0], rng), before[0]), "earlier calls change what it does")


def _dampings(n: int, rng: np.random.Generator) -> list[Array]:
    spread = 10.0 ** rng.uniform(-3.0, 3.0, n)
    return [np.full(n, 0.1), spread, np.where(rng.random(n) < 0.3, np.inf, spread), np.full(n, np.inf)]


class _Check:
    """One preconditioner on one problem, with S in one form."""

    def __init__(
        self,
        preconditioner: AbstractPreconditioner,
        shape: str,
        eliminated: tuple[str, ...],
        form: Form,
        structure: Structure,
        linearization: Linearization,
    ) -> None:
        self._preconditioner = preconditioner
        self._where = f"{preconditioner!r} on a problem of shape {shape!r}, {form} form"
        self._linearization = linearization
        self._solver = SchurPCG(preconditioner, form=form, eliminate=eliminated, tolerance=1e-13, max_iterations=2000)
        self._plans = [self._solver.analyze(structure) for _ in range(2)]
        self.require(isinstance(preconditioner.describe(self._plans[0].preconditioner), str), "describe returns no string")
        for plan in self._plans:
            self._solver.prepare(plan, linearization)

    def keeps(self, damping: Array, rng: np.random.Generator) -> Array:
        """Check all but failures with one D; M⁻¹."""
        found = []
        for threads, plan in zip((1, min(2, numba.get_num_threads())), self._plans, strict=True):
            with use_threads(threads):
                factor = self._solver.factorize(plan, damping)
                self.require(not isinstance(factor, Failure), f"prepare returns {factor} for a positive definite S")
                found.append(apply_to_all(self._preconditioner, plan))
        plan = self._plans[0]  # the second one was used since
        A = dense_matrix(self._linearization, damping)
        self._is_an_inverse(found[0], dense_complement(A, plan.system.partition.columns), plan.system.held)
        self.require(np.array_equal(found[0], found[1]), "results depend on the number of threads, or on another plan")
        self._is_linear(plan, found[0], rng)
        self._solves(plan, A, np.isinf(damping), rng)
        return found[0]

    def _is_an_inverse(self, inverse: Array, S: Array, held: npt.NDArray[np.bool_]) -> None:
        self.require(bool(np.isfinite(inverse).all()), "apply leaves entries unwritten, or they are not finite")
        self.require(not inverse[held].any(), "apply writes something else than 0 where a component is held")
        if held.all():
            return
        free = np.ix_(~held, ~held)
        L = np.linalg.cholesky(S[free])
        scaled = L.T @ inverse[free] @ L
        size = float(np.linalg.norm(scaled, 2))
        error = float(np.linalg.norm(scaled - scaled.T, 2)) / size if size else 0.0
        self.require(error <= _ROUNDING, f"the inverse of M is not symmetric, by {error:.1e} of its norm")
        least = float(np.linalg.eigvalsh(0.5 * (scaled + scaled.T))[0])
        self.require(least > 0.0, f"the inverse of M is not positive definite: an eigenvalue is {least:.2e}")

    def _is_linear(self, plan: SchurPCGPlan, inverse: Array, rng: np.random.Generator) -> None:
        r = np.where(plan.system.held, 0.0, rng.standard_normal(len(inverse)))
        given, out = r.copy(), np.full(len(r), np.nan)
        self._preconditioner.apply(plan.state, r, out)
        self.require(np.array_equal(r, given), "apply changes its argument")
        bound = _ROUNDING * (np.abs(inverse) @ np.abs(r)).max(initial=0.0)
        self.require(bool((np.abs(out - inverse @ r) <= bound).all()), "apply is not linear")

    def _solves(self, plan: SchurPCGPlan, A: Array, held: npt.NDArray[np.bool_], rng: np.random.Generator) -> None:
        rhs, x = rng.standard_normal(len(A)), np.full(len(A), np.nan)
        facts = self._solver.solve(plan, rhs, x)
        exact = np.asarray(np.linalg.solve(A, np.where(held, 0.0, rhs)), dtype=np.float64)
        error = _energy(A, x - exact) / max(_energy(A, exact), np.finfo(float).tiny)
        self.require(
            error <= 1e-8,
            f"after {facts.inner_iterations} iterations of conjugate gradients the error is {error:.1e} of the solution",
        )

    def singular(self, rng: np.random.Generator) -> None:
        """Nothing determines the last variables, which are kept."""
        plan = self._plans[0]
        damping = np.ones(len(self._linearization.gradient))
        damping[-3:] = 0.0
        self.require(plan.system.factorize(damping) < 0, "the problem of this check is wrong")
        state = self._preconditioner.prepare(plan.preconditioner, plan.system)
        if isinstance(state, Failure):
            most = plan.system.partition.num_kept
            self.require(-1 <= state.block < most, f"{state} names no kept block: there are {most}")

    def require(self, condition: bool, message: str) -> None:
        if not condition:
            raise AssertionError(f"{self._where}: {message}")


def _energy(A: Array, x: Array) -> float:
    return math.sqrt(max(float(x @ A @ x), 0.0))
