"""(JᵀJ + D) δ = −Jᵀr for a whole Jacobian: dense by QR, or by LSMR; the sparse direct one has a file of its own.

A system takes in J and r once for each point, D as often as the damping asks, and gives the step that minimises

    ‖r + J (d + δ)‖² + ‖√D δ‖²

over the components that D leaves free (D = +∞ holds one), d being a displacement that is given, such as that of components
which met a bound. Other right-hand sides, which Moré's iteration needs, take ``solve``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import dgeqrf, dgeqrf_lwork, dormqr, dtrtrs
from scipy.sparse.linalg import LinearOperator, aslinearoperator, cg, lsmr

from sparselm.linear_solvers.base import Failure, SolveFacts
from sparselm.threads import serial_blas

Array = npt.NDArray[np.float64]
Jacobian = Any  # a dense array, a csr_array, or a LinearOperator

# Entries below which OpenBLAS starts no threads anyway, and operations from which they pay.
SMALL_MATRIX, SERIAL_FLOPS = 4096, 1e9

EPS = float(np.finfo(np.float64).eps)


class AbstractSystem(ABC):
    """One linear system for one call of ``least_squares``; it owns its workspace."""

    @abstractmethod
    def prepare(self, J: Jacobian, r: Array) -> None:
        """Take in J and r at a new point."""

    @abstractmethod
    def factorize(self, damping: Array) -> Failure | None:
        """Take in D; +∞ holds a component, whose δ is then 0."""

    @abstractmethod
    def step(self, displacement: Array | None, out: Array) -> SolveFacts:
        """Write δ as stated at the top of this file; no displacement where None."""

    @abstractmethod
    def solve(self, rhs: Array, out: Array) -> SolveFacts:
        """Solve (JᵀJ + D) x = rhs for the free components; x is 0 elsewhere."""


class DenseSystem(AbstractSystem):
    """QR of J once, then of [R; √D] for each D: JᵀJ, whose condition number is that of J squared, is never formed.

    References
    ----------
    Å. Björck, "Numerical Methods for Least Squares Problems", SIAM, 1996, sections 2.4.1 and 6.6.5.
    """

    def prepare(self, J: Jacobian, r: Array) -> None:
        """Q R = J, and Qᵀ r."""
        m, n = J.shape
        self._rank_rows = min(m, n)
        packed, tau = _qr(np.asfortranarray(J))
        self._R: Array = np.triu(packed[: self._rank_rows])
        self._qtr: Array = _apply_q_transposed(packed, tau, r)[: self._rank_rows]
        self._num_rows = m

    def factorize(self, damping: Array) -> Failure | None:
        """QR of [R; √D] without the columns held; of R itself where D is 0."""
        held = np.isinf(damping)
        self._free: Any = slice(None) if not held.any() else np.flatnonzero(~held)
        R, d = self._R[:, self._free], damping[self._free]
        n = len(d)
        if d.any():
            R = np.vstack((R, np.diag(np.sqrt(d))))
        if R.shape[0] < n:
            return Failure("JᵀJ is singular: there are fewer residuals than variables")
        norms = np.sqrt(np.einsum("ij,ij->j", R, R))
        self._packed, self._tau = _qr(np.asfortranarray(R))
        diagonal = np.abs(np.diagonal(self._packed))[:n]
        # Rounding alone leaves this much on the diagonal of a column that depends on those before it.
        if not (diagonal > EPS * max(self._num_rows, n) * norms).all():
            return Failure("[J; √D] has linearly dependent columns")
        return None

    def step(self, displacement: Array | None, out: Array) -> SolveFacts:
        """R⁻¹ Qᵀ [−(Qᵀr + R d); 0]."""
        c = np.zeros(len(self._packed))
        c[: self._rank_rows] = self._qtr if displacement is None else self._qtr + self._R @ displacement
        n = len(self._tau)
        out[:] = 0.0
        out[self._free] = -self._triangular(_apply_q_transposed(self._packed, self._tau, c)[:n], transposed=False)
        return SolveFacts()

    def solve(self, rhs: Array, out: Array) -> SolveFacts:
        """R⁻¹ R⁻ᵀ b."""
        out[:] = 0.0
        out[self._free] = self._triangular(self._triangular(rhs[self._free], transposed=True), transposed=False)
        return SolveFacts()

    def _triangular(self, b: Array, *, transposed: bool) -> Array:
        n = len(self._tau)
        if n == 0:
            return b
        x: Array = dtrtrs(self._packed[:n], b, lower=0, trans=int(transposed))[0]
        return x


def _qr(matrix: Array) -> tuple[Array, Array]:
    """Packed QR factors, on one thread where more would not pay."""
    m, n = matrix.shape
    if n == 0:  # LAPACK's wrapper refuses it
        return matrix, np.zeros(0)
    lwork = max(1, int(dgeqrf_lwork(m, n)[0]))
    with serial_blas() if m * n >= SMALL_MATRIX and m * n * n <= SERIAL_FLOPS else nullcontext():
        packed, tau, _, _ = dgeqrf(matrix, lwork=lwork)
    return packed, tau


def _apply_q_transposed(packed: Array, tau: Array, c: Array) -> Array:
    """Qᵀ c."""
    column = np.asfortranarray(c[:, None])
    if not len(tau):
        return c
    product: Array = dormqr("L", "T", packed[:, : len(tau)], tau, column, 64 * max(1, len(tau)))[0]
    return product[:, 0]


class IterativeSystem(AbstractSystem):
    """LSMR on [J; √D] S, S = (diag JᵀJ + D)^(−1/2) scaling columns: nothing is formed or factorised.

    Parameters
    ----------
    options
        Of :func:`scipy.sparse.linalg.lsmr`; its ``damp`` adds to D.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = dict(options)
        # Looser than that, steps are too inexact for the last digits; SciPy makes up for it by searching in a plane.
        self._options.setdefault("atol", 1e-10)
        self._options.setdefault("btol", 1e-10)
        self._damp = float(self._options.pop("damp", 0.0))

    def prepare(self, J: Jacobian, r: Array) -> None:
        """Keep both, and look at the columns where J has them."""
        self._J, self._r = aslinearoperator(J), r
        self._diagonal = squared_column_norms(J)

    def factorize(self, damping: Array) -> Failure | None:
        """Keep D."""
        held = np.isinf(damping)
        self._root = np.where(held, 0.0, damping) + self._damp**2
        scale = np.sqrt(self._diagonal + self._root)
        self._scale = np.divide(1.0, scale, out=np.zeros_like(scale), where=~held & (scale > 0.0))
        self._root = np.sqrt(self._root) * self._scale
        return None

    def step(self, displacement: Array | None, out: Array) -> SolveFacts:
        """Minimise by LSMR."""
        m, n = self._J.shape
        c = np.zeros(m + n)
        c[:m] = -self._r if displacement is None else -(self._r + self._J.matvec(displacement))
        operator = LinearOperator((m + n, n), matvec=self._multiply, rmatvec=self._adjoint, dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):  # where an iterate is exact
            found = lsmr(operator, c, **self._options)
        np.multiply(self._scale, found[0], out=out)
        return SolveFacts(inner_iterations=int(found[2]), residual_norm=float(found[3]))

    def solve(self, rhs: Array, out: Array) -> SolveFacts:
        """Conjugate gradients on S (JᵀJ + D) S, to the few digits that the next λ needs."""
        n = len(rhs)
        normal = LinearOperator((n, n), matvec=lambda y: self._adjoint(self._multiply(y)), dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            y, _ = cg(normal, self._scale * rhs, rtol=1e-4)
        np.multiply(self._scale, y, out=out)
        return SolveFacts()

    def _multiply(self, y: Array) -> Array:
        y = y.ravel()
        return np.concatenate((self._J.matvec(self._scale * y), self._root * y))

    def _adjoint(self, u: Array) -> Array:
        u, m = u.ravel(), self._J.shape[0]
        found: Array = self._scale * self._J.rmatvec(u[:m]) + self._root * u[m:]
        return found


def squared_column_norms(J: Jacobian) -> Array:
    """diag JᵀJ; ones for an operator, which has no columns to look at."""
    if isinstance(J, np.ndarray):
        dense: Array = np.einsum("ij,ij->j", J, J)
        return dense
    if isinstance(J, LinearOperator):
        return np.ones(J.shape[1])
    sparse = np.bincount(J.indices, weights=J.data * J.data, minlength=J.shape[1])
    return np.asarray(sparse, dtype=np.float64)
