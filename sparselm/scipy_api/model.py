"""The quadratic model of one vector function f: Rⁿ → Rᵐ at a point in a box, as the loop and damping strategies see it.

A step that leaves the box is cut there, component by component; those that were cut stay where the bound is, the others
are solved for once more given that, until no further one leaves. Components on a bound out of which −g points are held.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator

from sparselm import bounds
from sparselm.damping.base import StepFailure, Trial
from sparselm.linear_solvers.base import Failure, SolveFacts
from sparselm.model import Outcome
from sparselm.scipy_api.losses import ScalarLoss
from sparselm.scipy_api.systems import AbstractSystem, Array, Jacobian, squared_column_norms
from sparselm.threads import quiet_dot

# Steps solved for anew after components met their bounds, within one trial.
MAX_PROJECTIONS = 10

Method = Literal["trf", "dogbox", "lm"]


class VectorFunction:
    """f and J of the caller, counted and checked.

    Parameters
    ----------
    fun
        f(x).
    """

    def __init__(self, fun: Callable[[Any], Any]) -> None:
        self._fun = fun
        self._jac: Callable[[Array, npt.NDArray[Any]], Any] | None = None
        self._shape: tuple[int, ...] | None = None
        self.nfev = 0
        self.njev = 0

    def derive_by(self, jac: Callable[[Array, npt.NDArray[Any]], Any]) -> None:
        """Take J(x, f), f being f(x): an array, a sparse array or a LinearOperator."""
        self._jac = jac

    def residuals(self, x: Array) -> npt.NDArray[Any]:
        """f(x) in the precision that it has."""
        self.nfev += 1
        f = np.atleast_1d(self._fun(x.copy()))
        if f.ndim != 1:
            raise ValueError(f"`fun` must return at most 1-d array_like. f0.shape: {f.shape}")
        if np.iscomplexobj(f):
            raise ValueError("`fun` must return real residuals: stack the real and imaginary parts of complex ones.")
        if self._shape is not None and f.shape != self._shape:
            raise ValueError(f"`fun` returned residuals of shape {f.shape}, and {self._shape} at the initial point.")
        self._shape = f.shape
        return f if np.issubdtype(f.dtype, np.floating) else f.astype(np.float64)

    def jacobian(self, x: Array, f: npt.NDArray[Any]) -> Jacobian:
        """J(x), of float64: dense, sorted rows of int32 indices, or an operator."""
        self.njev += 1
        assert self._jac is not None
        J = self._jac(x.copy(), f)
        if sp.issparse(J):
            J = _sorted_rows(J)
        elif not isinstance(J, LinearOperator):
            J = np.atleast_2d(np.asarray(J, dtype=np.float64))
        if J.shape != (len(f), len(x)):
            raise ValueError(f"The return value of `jac` has wrong shape: expected {(len(f), len(x))}, actual {J.shape}.")
        return J


def _sorted_rows(J: Any) -> sp.csr_array:
    rows = sp.csr_array(J, dtype=np.float64)
    if not rows.has_canonical_format:
        rows = rows.copy()  # what is put in order must not be the caller's
        rows.sum_duplicates()
    if rows.nnz < 2**31 and rows.indices.dtype != np.int32:
        index = (rows.indices.astype(np.int32), rows.indptr.astype(np.int32))
        rows = sp.csr_array((rows.data, *index), shape=rows.shape)
    return rows


class VectorModel:
    """m(δ) = ½‖f + Jδ‖² around x.

    Implements :class:`sparselm.damping.base.Model`, and what the loop asks of a model.

    Parameters
    ----------
    function
    system
        Solves for steps.
    loss
        None for plain least squares.
    lower, upper : (n,)
    scale : (n,) or None
        What ``diagonal`` reports instead of diag JᵀJ, with J before the loss, so that damping is measured in units of the
        caller's ``x_scale``.
    method
        Decides what first-order optimality means.
    """

    def __init__(
        self,
        function: VectorFunction,
        system: AbstractSystem,
        loss: ScalarLoss | None,
        lower: Array,
        upper: Array,
        scale: Array | None,
        method: Method,
    ) -> None:
        self.function = function
        self.lower, self.upper = lower, upper
        self._system = system
        self._loss = loss
        self._scale = scale
        self._method = method
        self._bounded = bool(np.isfinite(lower).any() or np.isfinite(upper).any())

    # -- the point ------------------------------------------------------------------------------------------------------

    def place(self, x: Array, f: npt.NDArray[Any], J: Jacobian) -> None:
        """Stand at x, where f and J are known."""
        self.x, self.f_raw = x, f
        self.f: Array = f.astype(np.float64)
        self._corrected = self.f
        # Damping is measured by J before the loss: the rows of outliers are scaled by 10⁻⁸, and one that turns inlier would
        # make D jump by 10⁸ against a radius that stays, which looks like a step too short to matter.
        self._lengths = squared_column_norms(J)
        if self._loss is None:
            self._cost = half_square(self.f)
        else:
            self._cost, rows, factor = self._loss.correction(self.f)
            J, self._corrected = scale_rows(J, rows), factor * self.f
        if not math.isfinite(self._cost):
            raise ValueError("Residuals are not finite in the initial point, or so large that the cost overflows.")
        self.J = J
        self._gradient: Array = J.rmatvec(self._corrected) if isinstance(J, LinearOperator) else J.T @ self._corrected
        if not np.isfinite(self._gradient).all():
            columns = np.flatnonzero(~np.isfinite(self._gradient))[:5].tolist()
            raise ValueError(
                f"The Jacobian is not finite at its evaluation {self.function.njev}, though the residuals are: look at "
                f"columns {columns} (at most 5 are named)."
            )
        self._columns = self._lengths if self._loss is None else squared_column_norms(J)
        self._held = bounds.active(x, self._gradient, self.lower, self.upper) if self._bounded else None
        self._reduced = self._gradient if self._held is None else np.where(self._held, 0.0, self._gradient)
        self._down, self._up = bounds.step_limits(x, self.lower, self.upper)
        self._prepared = False

    def start(self) -> None:
        """Nothing: the caller has placed it."""

    def try_step(self, step: Trial | StepFailure) -> Outcome:
        """Evaluate f at the trial point."""
        nan = math.nan
        if step.failed:
            return Outcome(False, nan, nan, nan, nan, step.failure.message)
        step_norm = math.sqrt(self.squared_norm(step.delta))
        if not math.isfinite(step_norm):
            return Outcome(False, nan, nan, nan, nan, "the step is not finite")
        self._trial_x = self.x + step.delta
        if self._bounded:
            # x + (u − x) may be rounded to the number below u, which is not on the bound.
            np.copyto(self._trial_x, self.upper, where=step.delta >= self._up)
            np.copyto(self._trial_x, self.lower, where=step.delta <= self._down)
        self._trial_f = self.function.residuals(self._trial_x)
        if not np.isfinite(self._trial_f).all():
            return Outcome(False, nan, nan, nan, step_norm, "residuals are not finite")
        f = self._trial_f.astype(np.float64)
        cost = half_square(f) if self._loss is None else self._loss.cost(f)
        if not math.isfinite(cost):
            return Outcome(False, nan, nan, nan, step_norm, "the cost is not finite")
        reduction = self._cost - cost
        if step.predicted > 0.0:
            gain_ratio = reduction / step.predicted
        else:
            gain_ratio = 1.0 if reduction == step.predicted == 0.0 else -math.inf
        return Outcome(True, cost, reduction, gain_ratio, step_norm)

    def accept(self) -> None:
        """Move to the trial point and take J there."""
        self.place(self._trial_x, self._trial_f, self.function.jacobian(self._trial_x, self._trial_f))

    # -- norms ----------------------------------------------------------------------------------------------------------

    @property
    def cost(self) -> float:
        return self._cost

    @property
    def gradient(self) -> Array:
        """Jᵀf, 0 at active bounds."""
        return self._reduced

    @property
    def full_gradient(self) -> Array:
        """Jᵀf."""
        return self._gradient

    @property
    def diagonal(self) -> Array:
        return self._lengths if self._scale is None else self._scale

    def gradient_max_norm(self) -> float:
        """First-order optimality: ‖g‖∞ without bounds.

        With bounds, "trf" multiplies each g_i by the distance to the bound that −g_i points at (Coleman, Li); "dogbox"
        leaves out components on such a bound.
        """
        g = np.abs(self._gradient)
        if self._bounded and self._method == "trf":
            distance = np.where(self._gradient < 0.0, self.upper - self.x, self.x - self.lower)
            g *= np.where(np.isfinite(distance), distance, 1.0)
        elif self._held is not None:
            g[self._held] = 0.0
        return float(g.max(initial=0.0))

    def cosine(self) -> float:
        """The largest cosine between a column of J and f; 0 where f is 0."""
        norm = math.sqrt(half_square(self._corrected) * 2.0)
        lengths = norm * np.sqrt(self._columns)
        cosines = np.divide(np.abs(self._gradient), lengths, out=np.zeros_like(lengths), where=lengths > 0.0)
        cosines[~np.isfinite(lengths)] = 1.0  # not known: the square of a column overflows
        return float(cosines.max(initial=0.0))

    def point_norm(self) -> float:
        return math.sqrt(self.squared_norm(self.x))

    def largest_change(self, delta: Array) -> float:
        """max |δ_i| / |x_i|."""
        moved = delta != 0.0
        with np.errstate(divide="ignore", over="ignore"):
            return float((np.abs(delta[moved]) / np.abs(self.x[moved])).max(initial=0.0))

    def squared_norm(self, v: Array) -> float:
        return quiet_dot(v, v)

    # -- the model ------------------------------------------------------------------------------------------------------

    def new_vector(self) -> Array:
        return np.zeros(len(self.lower))

    def factorize(self, damping: Array) -> Any | Failure:
        if self._held is not None:
            damping[self._held] = np.inf
        if not self._prepared:
            self._system.prepare(self.J, self._corrected)
            self._prepared = True
        failure = self._system.factorize(damping)
        return self._system if failure is None else failure

    def solve(
        self, factor: Any, rhs: Array, out: Array, *, tolerance: float | None = None, guess: Array | None = None
    ) -> SolveFacts:
        if np.array_equal(rhs, -self._reduced):
            return self._system.step(None, out)
        return self._system.solve(rhs, out)

    def project(self, delta: Array) -> bool:
        return self._bounded and bounds.project_step(self.x, delta, self.lower, self.upper)

    def confine(self, damping: Array, rhs: Array, delta: Array, facts: SolveFacts) -> SolveFacts | Failure:
        """Hold components that the step takes out of the box at their bounds, and solve for the others given that."""
        for _ in range(MAX_PROJECTIONS):
            if not self.project(delta):
                break
            # A component at its limit that may move is one that was cut.
            np.copyto(damping, np.inf, where=(delta >= self._up) | (delta <= self._down))
            fixed = np.isinf(damping)
            if fixed.all():
                break
            displacement = np.where(fixed, delta, 0.0)
            if (failure := self._system.factorize(damping)) is not None:
                return failure
            facts = self._system.step(displacement, delta)
            delta += displacement
        self.project(delta)
        return facts

    def jvp(self, v: Array, out: Array) -> None:
        out[:] = self.J @ v

    def vjp(self, u: Array, out: Array) -> None:
        out[:] = self.J.rmatvec(u) if isinstance(self.J, LinearOperator) else self.J.T @ u

    def predicted_reduction(self, delta: Array) -> float:
        self.project(delta)
        Jd = self.J @ delta
        return -quiet_dot(self._gradient, delta) - 0.5 * quiet_dot(Jd, Jd)

    def damped_reduction(self, delta: Array, damping: Array) -> float:
        return 0.5 * quiet_dot(delta, np.where(delta != 0.0, damping, 0.0) * delta - self._gradient)

    def residuals_at(self, delta: Array, out: Array) -> bool:
        out[:] = self.function.residuals(self.x + delta)
        return bool(np.isfinite(out).all())


def half_square(f: Array) -> float:
    """½‖f‖², infinite where it overflows."""
    with np.errstate(over="ignore"):
        return 0.5 * quiet_dot(f, f)


def scale_rows(J: Jacobian, factor: Array) -> Jacobian:
    """diag(factor) J, a new matrix."""
    if isinstance(J, LinearOperator):
        return LinearOperator(
            J.shape,
            matvec=lambda v: factor * J.matvec(v).ravel(),
            rmatvec=lambda u: J.rmatvec(factor * u.ravel()),
            dtype=np.float64,
        )
    if isinstance(J, np.ndarray):
        return factor[:, None] * J
    data = J.data * np.repeat(factor, np.diff(J.indptr))
    return sp.csr_array((data, J.indices, J.indptr), shape=J.shape)
