"""How the built-in manifolds lend their kernels to a product: every method works on a range of columns.

A point of a product is a row whose columns are shared out among its factors. NumPy slices of such rows are not
contiguous, and a kernel compiled for another memory layout is another compilation. So the built-in kernels take whole
C-contiguous arrays and the column at which their own numbers begin; a manifold alone is the case of column 0.
"""

from __future__ import annotations

from abc import abstractmethod

from sparselm.errors import ProblemError
from sparselm.manifolds.base import AbstractManifold, Array


class ColumnManifold(AbstractManifold):
    """A manifold whose points are columns ``a : a + ambient_dim``, and tangents ``t : t + tangent_dim``, of wider rows.

    Jacobians are the block of those rows and columns in ``(n, rows, columns)``; nothing else is written.
    """

    @abstractmethod
    def retract_columns(self, x: Array, a: int, delta: Array, t: int, out: Array) -> None:
        """Write ``x ⊞ δ`` into columns a of out (which may be x)."""

    @abstractmethod
    def local_columns(self, x: Array, y: Array, a: int, out: Array, t: int) -> None:
        """Write the δ with ``x ⊞ δ = y`` into columns t of out."""

    @abstractmethod
    def plus_jacobian_columns(self, x: Array, a: int, out: Array, t: int) -> None:
        """Write ``∂(x ⊞ δ)/∂δ`` at δ = 0 into rows a and columns t of out."""

    @abstractmethod
    def local_jacobian_columns(self, x: Array, y: Array, a: int, out: Array, t: int) -> None:
        """Write ``∂ local(x, y ⊞ δ)/∂δ`` at δ = 0 into rows t and columns t of out."""

    @abstractmethod
    def project_columns(self, x: Array, a: int, out: Array) -> None:
        """Write the nearest point into columns a of out (which may be x)."""

    def retract(self, x: Array, delta: Array, out: Array) -> None:
        self.retract_columns(x, 0, delta, 0, out)

    def local(self, x: Array, y: Array, out: Array) -> None:
        self.local_columns(x, y, 0, out, 0)

    def plus_jacobian(self, x: Array, out: Array) -> None:
        self.plus_jacobian_columns(x, 0, out, 0)

    def local_jacobian(self, x: Array, y: Array, out: Array) -> None:
        self.local_jacobian_columns(x, y, 0, out, 0)

    def project(self, x: Array, out: Array) -> None:
        self.project_columns(x, 0, out)


def check_dim(name: str, dim: int) -> None:
    """Raise where a manifold is given no dimension."""
    if dim < 1:
        raise ProblemError(f"{name}: dim is {dim}, expected at least 1.")
