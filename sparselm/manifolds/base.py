"""What a manifold is: a retraction, its inverse, and their Jacobians, over batches of points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: An entry of :meth:`AbstractManifold.plus_jacobian_pattern` that depends on the point.
FREE = 2
IndexArray = npt.NDArray[np.int32]


class AbstractManifold(ABC):
    """A manifold M of dimension ``tangent_dim`` whose points are stored as ``ambient_dim`` numbers.

    All methods are batched over ``n`` points and write into ``out`` (C-contiguous float64). A retraction satisfies
    ``x ⊞ 0 = x`` and ``∂(x ⊞ δ)/∂δ`` of full rank at 0; ``local`` is its inverse, ``x ⊞ local(x, y) = y``.

    Two manifolds are equal when they describe the same set with the same retraction; frozen dataclasses get that free.
    """

    @property
    @abstractmethod
    def ambient_dim(self) -> int:
        """Numbers stored for a point."""

    @property
    @abstractmethod
    def tangent_dim(self) -> int:
        """Degrees of freedom."""

    @abstractmethod
    def retract(self, x: Array, delta: Array, out: Array) -> None:
        """Write ``x ⊞ δ``; x ``(n, ambient_dim)``, delta ``(n, tangent_dim)``, out ``(n, ambient_dim)`` (may be x)."""

    @abstractmethod
    def local(self, x: Array, y: Array, out: Array) -> None:
        """Write the δ with ``x ⊞ δ = y``; out ``(n, tangent_dim)``."""

    @abstractmethod
    def plus_jacobian(self, x: Array, out: Array) -> None:
        """Write ``∂(x ⊞ δ)/∂δ`` at δ = 0; out ``(n, ambient_dim, tangent_dim)``."""

    def plus_jacobian_pattern(self) -> npt.NDArray[np.int8]:
        """What is known of ``plus_jacobian`` at every point, ``(ambient_dim, tangent_dim)``: 0, 1 or FREE an entry.

        Entries that are always 0 or always 1 are said to be so; derivatives of residual functions leave them out.
        """
        return np.full((self.ambient_dim, self.tangent_dim), FREE, dtype=np.int8)

    @abstractmethod
    def local_jacobian(self, x: Array, y: Array, out: Array) -> None:
        """Write ``∂ local(x, y ⊞ δ)/∂δ`` at δ = 0; out ``(n, tangent_dim, tangent_dim)``."""

    @abstractmethod
    def project(self, x: Array, out: Array) -> None:
        """Write the point of M nearest to x (a normalised quaternion, a wrapped angle); NaN where there is none."""

    @abstractmethod
    def random(self, rng: np.random.Generator, n: int) -> Array:
        """``(n, ambient_dim)`` points spread over M (over a unit-sized part of it where M is unbounded)."""

    def additive(self) -> IndexArray:
        """``(ambient_dim,)``: the t with ``(x ⊞ δ)_a = x_a + δ_t`` for all x and δ, −1 where there is none.

        Components that have one can be bounded. None has, unless a manifold says so.
        """
        return np.full(self.ambient_dim, -1, dtype=np.int32)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """Instances on which the contract tests check the class; override where the constructor takes arguments."""
        make: Any = cls
        return (make(),)
