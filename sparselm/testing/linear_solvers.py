"""The contract of linear solvers, checked on small random problems of every shape against dense NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from sparselm.errors import SolverError
from sparselm.evaluator import Evaluator
from sparselm.linear_solvers.base import AbstractLinearSolver, Array, Failure, Precision, SolveFacts
from sparselm.linearization import Linearization
from sparselm.manifolds.base import AbstractManifold
from sparselm.manifolds.euclidean import Euclidean
from sparselm.problem import Problem
from sparselm.residuals.base import AbstractResidual, OperandBlocks
from sparselm.structure import Structure
from sparselm.variables import Selection

IndexArray = npt.NDArray[np.int32]

# What random_problem can draw.
SHAPES = ("chain", "star", "grid", "arrow", "mixed", "twice")


class LinearBlocks(AbstractResidual):
    """r = A_1 x_1 + … + A_k x_k − b, with A ``(n, dim, Σ dims)`` and b ``(n, dim)`` as data."""

    def __init__(self, dim: int, dims: Sequence[int]) -> None:
        self._dim = dim
        self._dims = tuple(dims)

    @property
    def dim(self) -> int:
        """Length of a block's residual."""
        return self._dim

    @property
    def manifolds(self) -> tuple[AbstractManifold, ...]:
        """Euclidean ones."""
        return tuple(Euclidean(k) for k in self._dims)

    @property
    def data_shapes(self) -> tuple[tuple[int, ...], ...]:
        """A and b."""
        return ((self._dim, sum(self._dims)), (self._dim,))

    def evaluate(self, blocks: Sequence[OperandBlocks], data: Sequence[Array], r: Array) -> None:
        """Write A x − b."""
        x = np.concatenate([block.values[block.index] for block in blocks], axis=1)
        r[:] = np.einsum("nij,nj->ni", data[0], x) - data[1]

    def linearize(
        self, blocks: Sequence[OperandBlocks], data: Sequence[Array], columns: IndexArray, r: Array, J: Array
    ) -> None:
        """Write A x − b and the free columns of A."""
        self.evaluate(blocks, data, r)
        for component, column in enumerate(columns):
            if column >= 0:
                J[:, :, column] = data[0][:, :, component]


def random_problem(shape: str, rng: np.random.Generator, *, isolated: bool = True) -> Problem:
    """A small random linear least-squares problem whose blocks connect its variables in the given shape.

    Parameters
    ----------
    shape
        One of ``SHAPES``: odometry in a chain, one variable that all blocks touch, a grid, points seen by a few cameras,
        two residual groups over variables of several sizes with held components, and blocks that use a variable twice.
    isolated
        Add variables that no residual touches, so that JᵀJ is singular.
    """
    problem = Problem()
    n = int(rng.integers(5, 12))

    def variables(name: str, count: int, dim: int) -> Any:
        return problem.add_variables(name, rng.standard_normal((count, dim)))

    def residuals(dim: int, *operands: Selection) -> None:
        dims = [operand.variables.manifold.ambient_dim for operand in operands]
        size = len(operands[0].index)
        data = (rng.standard_normal((size, dim, sum(dims))), rng.standard_normal((size, dim)))
        problem.add_residuals(LinearBlocks(dim, dims), *operands, data=data)

    every = np.arange(n)
    if shape == "chain":
        x = variables("x", n, 3)
        residuals(3, x[every[:-1]], x[every[1:]])
        residuals(3, x[rng.permutation(n)[: n // 2]], x[rng.permutation(n)[: n // 2]])
        residuals(3, x[:1])
    elif shape == "star":
        hub, leaf = variables("hub", 1, 7), variables("leaf", n, 2)
        residuals(4, hub[np.zeros(600, int)], leaf[rng.integers(0, n, 600)])
    elif shape == "grid":
        x = variables("x", n * 3, 2)
        right, down = np.arange(n * 3 - 3), np.arange(n * 3)[np.arange(n * 3) % 3 < 2]
        residuals(2, x[right], x[right + 3])
        residuals(2, x[down + 1], x[down])
        residuals(2, x[[0, n]])
    elif shape == "arrow":
        camera, point = variables("camera", 3, 6), variables("point", n, 3)
        residuals(2, camera[np.tile(np.arange(3), n)], point[np.repeat(every, 3)])
        residuals(6, camera[:])
        residuals(3, point[every[::2]])
    elif shape == "mixed":
        a, b, c = variables("a", n, 1), variables("b", n, 4), variables("c", 3, 7)
        a.fix([0, 2])
        b.fix([1], [0, 3])
        b.fix([2, 3], [1])
        c.fix([1])
        third = rng.integers(0, 3, 3 * n)
        residuals(3, a[rng.integers(0, n, 3 * n)], b[rng.integers(0, n, 3 * n)], c[third])
        residuals(3, c[third], b[rng.integers(0, n, 3 * n)])
        residuals(3, a[:])
        residuals(3, b[:])
    else:
        x, y = variables("x", n, 3), variables("y", n, 2)
        x.fix([1], [2])
        residuals(3, x[rng.integers(0, 3, 4 * n)], y[rng.integers(0, n, 4 * n)], x[rng.integers(0, 3, 4 * n)])
        residuals(3, x[every], x[every])
        residuals(3, y[:], x[:])
    if isolated:
        variables("alone", 2, 2)
    return problem


def check_linear_solver(
    solver: AbstractLinearSolver,
    rng: np.random.Generator | None = None,
    *,
    tolerance: float = 1e-12,
    fails_when_singular: bool = True,
) -> None:
    """Check a linear solver against :class:`~sparselm.linear_solvers.base.AbstractLinearSolver`; AssertionError if it fails.

    On random problems of each of ``SHAPES`` (residual blocks over one to three variables of 1 to 7 components, several
    residual groups, components held constant, a variable used twice by a block, variables without residuals) it checks
    that, for damping constant, spread over twelve orders of magnitude, and with components held by +∞,

    * x solves (JᵀJ + D) x = b for b = −Jᵀr and for any other b, several times with one factor;
    * held components of x are exactly 0, all of ``out`` is written, and D and b are left alone;
    * a tolerance and a guess may be given;
    * another D, new values of J, and a second plan of the same solver that is used in between change nothing;
    * with D = 0 and variables that nothing determines it returns a Failure, or else a finite x, and works again
      afterwards.

    J is stored in the precision that the solver asks for, and JᵀJ is that of this J. x is judged by its backward error in
    the scaling that gives JᵀJ + D a diagonal of ones,
    ‖S (b − (JᵀJ + D) x)‖ ≤ tolerance (‖S (JᵀJ + D) S‖ ‖S⁻¹ x‖ + ‖S b‖).

    Parameters
    ----------
    solver : AbstractLinearSolver
        An instance; iterative ones with options that make them iterate to the ``tolerance``. Shapes for which its
        ``analyze`` raises SolverError are passed over, but not all may be.
    rng : numpy.random.Generator, optional
        Where the problems come from; seeded with 0 by default.
    tolerance : float
        Backward error to allow.
    fails_when_singular : bool
        Whether a singular system must give a Failure, as a direct solver's must.

    Examples
    --------
    >>> from sparselm.linear_solvers import DenseCholesky
    >>> from sparselm.testing import check_linear_solver
    >>> check_linear_solver(DenseCholesky())
    """
    rng = rng or np.random.default_rng(0)
    precision = solver.jacobian_precision
    _require(solver, "any shape", precision in get_args(Precision), f"jacobian_precision is {precision!r}")
    solved = 0
    for shape in SHAPES:
        problem = random_problem(shape, rng)
        structure = Structure(problem)
        try:
            plans = [solver.analyze(structure), solver.analyze(structure)]
        except SolverError:
            continue
        solved += 1
        _require(solver, shape, isinstance(solver.describe(plans[0]), str), "describe does not return a string")
        check = _Check(solver, shape, structure, tolerance)
        for _ in range(2):
            for group in problem.residuals:
                group.set_data(tuple(rng.standard_normal(array.shape) for array in group.data))
            linearization = Evaluator(problem, structure, precision).linearize()
            systems = [solver.prepare(plan, linearization) for plan in plans]
            for number, damping in enumerate(_dampings(structure.num_columns, rng)):
                check.solves(systems[number % 2], linearization, damping, rng)
            check.singular(systems[0], fails_when_singular)
            check.solves(systems[0], linearization, np.ones(structure.num_columns), rng)
    _require(solver, "any shape", solved > 0, "analyze raises SolverError for every problem")


def _dampings(n: int, rng: np.random.Generator) -> Iterator[Array]:
    yield np.full(n, 1e-3)
    yield 10.0 ** rng.uniform(-6.0, 6.0, n)
    some_held = np.where(rng.random(n) < 0.3, np.inf, 10.0 ** rng.uniform(-3.0, 3.0, n))
    yield some_held
    yield some_held  # the other plan
    yield np.full(n, 1e9)
    yield np.full(n, np.inf)
    yield np.full(n, 1e-6)


class _Check:
    """One solver on one problem."""

    def __init__(self, solver: AbstractLinearSolver, shape: str, structure: Structure, tolerance: float) -> None:
        self._solver = solver
        self._shape = shape
        self._structure = structure
        self._tolerance = tolerance

    def solves(self, system: Any, linearization: Linearization, damping: Array, rng: np.random.Generator) -> None:
        n = len(damping)
        given = damping.copy()
        factor = self._solver.factorize(system, damping)
        self._require(not isinstance(factor, Failure), f"factorize returns {factor} for a positive definite matrix")
        J = linearization.jacobian().toarray().astype(np.float64)
        free = np.isfinite(damping)
        H = (J.T @ J)[np.ix_(free, free)] + np.diag(damping[free])
        unit = np.zeros(n)
        unit[rng.integers(n)] = 1.0
        last: Array | None = None
        for rhs in (-linearization.gradient, rng.standard_normal(n), unit, -linearization.gradient):
            x = self._solve(factor, rhs)
            self._require(bool((x[~free] == 0.0).all()), "a component held by +inf is not 0")
            error = _backward_error(H, x[free], rhs[free])
            self._require(error <= self._tolerance, f"backward error {error:.2e}, allowed {self._tolerance:.2e}")
            last = x
        x = self._solve(factor, rhs, tolerance=1e-3, guess=last)
        error = _backward_error(H, x[free], rhs[free])
        self._require(error <= 1e-3, f"backward error {error:.2e} from an exact guess with tolerance 1e-3")
        self._require(np.array_equal(damping, given), "the damping is changed")

    def _solve(self, factor: Any, rhs: Array, **options: Any) -> Array:
        out = np.full(len(rhs), np.nan)
        given = rhs.copy()
        facts = self._solver.solve(factor, rhs, out, **options)
        self._require(isinstance(facts, SolveFacts), f"solve returns {facts!r}, expected SolveFacts")
        self._require(np.array_equal(rhs, given), "solve changes the right-hand side")
        self._require(bool(np.isfinite(out).all()), "solve leaves entries unwritten, or they are not finite")
        return out

    def singular(self, system: Any, must_fail: bool) -> None:
        factor = self._solver.factorize(system, np.zeros(self._structure.num_columns))
        if isinstance(factor, Failure):
            self._require(-1 <= factor.block < self._structure.num_blocks, f"{factor} names no variable block")
            return
        self._require(not must_fail, "factorize returns no Failure for a singular matrix")
        self._solve(factor, np.ones(self._structure.num_columns))

    def _require(self, condition: bool, message: str) -> None:
        _require(self._solver, self._shape, condition, message)


def _backward_error(H: Array, x: Array, rhs: Array) -> float:
    if not len(x):
        return 0.0
    scale = 1.0 / np.sqrt(np.diagonal(H))
    size = np.linalg.norm(H * scale * scale[:, None], 2) * np.linalg.norm(x / scale) + np.linalg.norm(scale * rhs)
    return float(np.linalg.norm(scale * (rhs - H @ x)) / size) if size else 0.0


def _require(solver: AbstractLinearSolver, shape: str, condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(f"{solver!r} on a problem of shape {shape!r}: {message}")
