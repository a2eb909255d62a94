"""The damped system as a least-squares problem, and what solvers that only multiply by J and Jᵀ have in common.

(JᵀJ + D) x = −Jᵀr are the normal equations of

    min_y ‖A y − c‖,    A = [J; √D] S,    c = [−r; 0],    x = S y,    S = diag(JᵀJ + D)^(−1/2),

all columns of A having norm 1. Working on A keeps the condition number κ(A), where JᵀJ + D has its square. Only such a
right-hand side comes with a c: it is recognised by comparing it with the gradient. Any other b is solved for by conjugate
gradients on S (JᵀJ + D) S, which is what LSQR amounts to in exact arithmetic.

A component with D = +∞, and one with neither residuals nor damping, has S = 0, so that its x is exactly 0.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator, cg

from sparselm.errors import SolverError
from sparselm.linear_solvers.base import AbstractLinearSolver, Failure, Need, SolveFacts
from sparselm.threads import serial_blas

if TYPE_CHECKING:
    from sparselm.linearization import Linearization
    from sparselm.structure import Structure

Array = npt.NDArray[np.float64]

# ‖Aᵀ(c − A y)‖ cannot be brought below about this fraction of ‖A‖ ‖c‖ in double precision.
ROUNDING = 1e-15

# ‖A‖_F of what a typical run sees of A: columns have norm 1, and k steps see about √(2k) of them.
EXPECTED_NORM = 8.0


@dataclass(frozen=True, slots=True)
class Run:
    """What a method returns: y, steps taken, ‖ρ‖, ‖Aᵀρ‖, and estimates of ‖A‖_F and κ(A)."""

    y: Array
    iterations: int
    residual_norm: float
    gradient_norm: float
    norm: float
    condition: float


# Takes A, c, atol and the largest number of steps.
Method = Callable[[LinearOperator, Array, float, int], Run]


@dataclass(frozen=True, slots=True)
class RightHandSide:
    """What a right-hand side asks for: c to approximate, ‖S b‖, and whether a c exists at all."""

    c: Array
    norm: float
    least_squares: bool


class DampedLeastSquares:
    """A and its adjoint on buffers made once; one for each plan.

    Attributes
    ----------
    scale, root : (num_columns,)
        Diagonals of S and √D S.
    held : (num_columns,) bool
        Where D = +∞.
    """

    def __init__(self, structure: Structure) -> None:
        m, n = structure.num_rows, structure.num_columns
        self.num_rows, self.num_columns = m, n
        self.shape = (m + n, n)
        self.linearization: Linearization | None = None
        self.scale: Array = np.zeros(n)
        self.root: Array = np.zeros(n)
        self.held = np.zeros(n, dtype=bool)
        self._column: Array = np.zeros(n)
        self._product: Array = np.zeros(m + n)
        self._c: Array = np.zeros(m + n)
        self.operator = LinearOperator(self.shape, matvec=self.multiply, rmatvec=self.adjoint, dtype=np.float64)

    def set_damping(self, damping: Array) -> bool:
        """Take in D; False where the diagonal of JᵀJ + D is not finite but for held components."""
        lin = self.linearization
        assert lin is not None
        np.isinf(damping, out=self.held)
        np.copyto(self.root, damping)
        self.root[self.held] = 0.0
        np.add(lin.diagonal, self.root, out=self.scale)
        if not np.isfinite(self.scale.sum()):
            return False
        self.scale[self.held | (self.scale == 0.0)] = np.inf
        np.sqrt(self.scale, out=self.scale)
        np.reciprocal(self.scale, out=self.scale)
        np.sqrt(self.root, out=self.root)
        self.root *= self.scale
        return True

    def multiply(self, y: Array) -> Array:
        """A y, in a buffer that the next call overwrites."""
        assert self.linearization is not None
        y = y.ravel()
        np.multiply(self.scale, y, out=self._column)
        self.linearization.jvp(self._column, self._product[: self.num_rows])
        np.multiply(self.root, y, out=self._product[self.num_rows :])
        return self._product

    def adjoint(self, u: Array) -> Array:
        """Aᵀ u, a new array: the methods keep the first one."""
        assert self.linearization is not None
        u = np.ascontiguousarray(u).ravel()
        out = np.empty(self.num_columns)
        self.linearization.vjp(u[: self.num_rows], out)
        out *= self.scale
        np.multiply(self.root, u[self.num_rows :], out=self._column)
        out += self._column
        return out

    def normal_product(self, y: Array) -> Array:
        """AᵀA y."""
        return self.adjoint(self.multiply(y))

    def right_hand_side(self, rhs: Array) -> RightHandSide:
        """Find out whether b = −Jᵀr, up to components that are held."""
        lin = self.linearization
        assert lin is not None
        np.add(rhs, lin.gradient, out=self._column)
        self._column *= self.scale
        least_squares = not self._column.any()
        np.multiply(rhs, self.scale, out=self._column)
        norm = float(np.sqrt(self._column @ self._column))
        np.negative(lin.residual, out=self._c[: self.num_rows])
        self._c[self.num_rows :] = 0.0
        return RightHandSide(self._c, norm, least_squares)

    def shift(self, c: Array, guess: Array | None) -> tuple[Array, Array | None]:
        """c − A y₀ and y₀ for a guess x₀ = S y₀; c and None without one."""
        if guess is None:
            return c, None
        start = np.divide(guess, self.scale, out=np.zeros(self.num_columns), where=self.scale > 0.0)
        c -= self.multiply(start)
        return c, start

    def unscale(self, y: Array, out: Array) -> None:
        """Write x = S y."""
        np.multiply(self.scale, y, out=out)

    def conjugate_gradients(
        self, rhs: Array, tolerance: float, max_iterations: int, guess: Array | None
    ) -> tuple[Array, int, float]:
        """Solve S (JᵀJ + D) S y = S b; returns y, the number of iterations and the residual norm."""
        count = 0

        def step(_: Array) -> None:
            nonlocal count
            count += 1

        start = None if guess is None else self.shift(self._c, guess)[1]
        b = rhs * self.scale
        operator = LinearOperator((self.num_columns,) * 2, matvec=self.normal_product, dtype=np.float64)
        y, _ = cg(operator, b, x0=start, rtol=tolerance, atol=0.0, maxiter=max_iterations, callback=step)
        return y, count, float(np.linalg.norm(b - self.normal_product(y)))

    def minimise(
        self, method: Method, rhs: Array, out: Array, tolerance: float, max_iterations: int, guess: Array | None
    ) -> SolveFacts:
        """Solve (JᵀJ + D) x = b to ‖S (b − (JᵀJ + D) x)‖ ≤ tolerance ‖S b‖ and write x.

        The methods stop by estimates of their own: ‖Aᵀρ‖ ≤ atol ‖A‖ ‖ρ‖, where ρ = c − A y and ‖A‖ is the Frobenius norm
        of what they have seen of A. They are started with an ``atol`` for a guess of it, and once more with the right
        one if they stopped too early.
        """
        target = self.right_hand_side(rhs)
        if target.norm == 0.0:
            out[:] = 0.0
            return SolveFacts(inner_iterations=0, residual_norm=0.0)
        if not target.least_squares:
            y, count, residual_norm = self.conjugate_gradients(rhs, tolerance, max_iterations, guess)
            self.unscale(y, out)
            return SolveFacts(inner_iterations=count, residual_norm=residual_norm)
        c, start = self.shift(target.c, guess)
        y = np.zeros(self.num_columns) if start is None else start
        goal = tolerance * target.norm
        scale = EXPECTED_NORM * float(np.sqrt(c @ c))
        count = 0
        while count < max_iterations:
            run = method(self.operator, c, max(goal / scale, ROUNDING) if scale else ROUNDING, max_iterations - count)
            y += run.y
            count += run.iterations
            if run.gradient_norm <= goal or run.iterations == 0 or goal <= ROUNDING * run.norm * run.residual_norm:
                break
            c -= self.multiply(run.y)
            scale = 2.0 * run.norm * run.residual_norm
        self.unscale(y, out)
        return SolveFacts(inner_iterations=count, residual_norm=run.gradient_norm, condition_hint=run.condition)


@dataclass(frozen=True)
class AbstractLeastSquaresSolver(AbstractLinearSolver):
    """The four verbs of a solver that is a method for min ‖A y − c‖; its subclasses are the methods."""

    tolerance: float = 1e-2
    max_iterations: int = 500

    needs: ClassVar[frozenset[Need]] = frozenset({Need.OPERATOR})

    @staticmethod
    @abstractmethod
    def run(operator: LinearOperator, c: Array, atol: float, max_iterations: int) -> Run:
        """Approximate min ‖A y − c‖ from y = 0 until ‖Aᵀρ‖ ≤ atol ‖A‖ ‖ρ‖."""

    def analyze(self, structure: Structure, previous: Any = None) -> DampedLeastSquares:
        """Allocate the vectors."""
        if not 0.0 <= self.tolerance < 1.0 or self.max_iterations < 1:
            raise SolverError(f"{self!r}: expected 0 ≤ tolerance < 1 and max_iterations ≥ 1")
        return DampedLeastSquares(structure)

    def prepare(self, plan: DampedLeastSquares, linearization: Linearization) -> DampedLeastSquares:
        """Keep the linearisation to multiply by."""
        plan.linearization = linearization
        return plan

    def factorize(self, system: DampedLeastSquares, damping: Array) -> DampedLeastSquares | Failure:
        """Scale the columns of [J; √D]."""
        if not system.set_damping(damping):
            return Failure("JᵀJ + D has an entry that is not finite")
        return system

    def solve(
        self,
        factor: DampedLeastSquares,
        rhs: Array,
        out: Array,
        *,
        tolerance: float | None = None,
        guess: Array | None = None,
    ) -> SolveFacts:
        """Iterate, from the guess if there is one."""
        with serial_blas():  # its threads, waiting for the next norm, would keep a processor from the products with J
            return factor.minimise(
                self.run, rhs, out, self.tolerance if tolerance is None else tolerance, self.max_iterations, guess
            )

    def describe(self, plan: DampedLeastSquares) -> str:
        """Size and tolerance."""
        return (
            f"{type(self).__name__} on a {plan.num_rows} × {plan.num_columns} operator, tolerance {self.tolerance:g}, "
            f"at most {self.max_iterations} steps"
        )
