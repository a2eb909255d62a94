# numba types the kernels below.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False
"""Unit vectors: directions, bearings, plane normals, gravity.

Let x = (u, c) ∈ S^n ⊂ R^{n+1}, u the first n components and c the last. The reflection that exchanges x and −e (e the
last unit vector, the north pole) has, in its first n columns, an orthonormal basis of the tangent space at x,

    B(x) = [I − κ u uᵀ; −uᵀ],    κ = 1/(1 + c) = (1 − c)/|u|²,

which is the basis at the pole carried along the great circle to x. It is smooth except at the south pole −e, where no
basis can be (a hairy ball has a tuft); there B = [I; 0] is taken. The second form of κ is used for c < 0, where the
first one cancels. Steps follow great circles:

    x ⊞ δ = cos θ · x + (sin θ/θ) B(x) δ,     θ = |δ|
    local(x, y) = (θ/s) p,                    p = B(x)ᵀ y,  s = |p| = sin θ,  θ = atan2(s, x·y) ∈ [0, π].

With p̂ = p/s, M = B(x)ᵀ B(y) and g = B(y)ᵀ x the derivative of local(x, y ⊞ d) at d = 0 is

    (θ/s) M + p̂ [(cos θ − θ/s) p̂ᵀ M − s gᵀ],

from dθ = cos θ ds − sin θ d(x·y). It grows without bound as y approaches −x, where all great circles meet again.

References
----------
P.-A. Absil, R. Mahony, R. Sepulchre, "Optimization Algorithms on Matrix Manifolds", Princeton University Press, 2008
(the exponential map of the sphere).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self, final

import numba
import numpy as np

from sparselm._jit import TASK, kernel, scalar
from sparselm.manifolds._columns import ColumnManifold, check_dim
from sparselm.manifolds.base import Array


@final
@dataclass(frozen=True)
class Sphere(ColumnManifold):
    """The unit sphere S^dim in R^{dim+1}, with great circles for steps; ``Sphere()`` holds directions in space.

    A point where the tangent basis cannot be smooth is the south pole, (0, …, 0, −1): retraction, local and Jacobians
    are right there too, but components of δ mean other directions than beside it. Between antipodes local returns
    (π, 0, …, 0), one of many answers, and its Jacobian is not finite.

    Parameters
    ----------
    dim : int
        Dimension of the surface; points have dim + 1 numbers.

    Raises
    ------
    ProblemError
        Where dim is below 1.
    """

    dim: int = 2

    def __post_init__(self) -> None:
        check_dim("Sphere", self.dim)

    @property
    def ambient_dim(self) -> int:
        return self.dim + 1

    @property
    def tangent_dim(self) -> int:
        return self.dim

    def retract_columns(self, x: Array, a: int, delta: Array, t: int, out: Array) -> None:
        _retract(x, a, delta, t, self.dim, out)

    def local_columns(self, x: Array, y: Array, a: int, out: Array, t: int) -> None:
        _local(x, y, a, self.dim, out, t)

    def plus_jacobian_columns(self, x: Array, a: int, out: Array, t: int) -> None:
        _plus_jacobian(x, a, self.dim, out, t)

    def local_jacobian_columns(self, x: Array, y: Array, a: int, out: Array, t: int) -> None:
        _local_jacobian(x, y, a, self.dim, out, t)

    def project_columns(self, x: Array, a: int, out: Array) -> None:
        _project(x, a, self.dim, out)

    def random(self, rng: np.random.Generator, n: int) -> Array:
        x = rng.standard_normal((n, self.dim + 1))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return x

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(1), cls(2), cls(5))


@scalar
def _kappa(x, p, a, dim):
    """Return κ of the tangent basis at row p; 0 at the south pole."""
    last = x[p, a + dim]
    if last >= 0.0:
        return 1.0 / (1.0 + last)
    square = _dot(x, p, a, x, p, a, dim)
    # Below this the square has lost digits to underflow.
    return (1.0 - last) / square if square > 1e-290 else 0.0


@scalar
def _dot(x, p, a, y, q, b, length):
    """Return the product of ``length`` numbers of row p of x, from column a, and of row q of y, from column b."""
    total = 0.0
    for k in range(length):
        total += x[p, a + k] * y[q, b + k]
    return total


@scalar
def _normalize(x, p, a, length, out):
    """Write ``length`` numbers of row p of x, from column a, divided by their norm; out may be x."""
    scale = 1.0 / math.sqrt(_dot(x, p, a, x, p, a, length))
    for k in range(length):
        out[p, a + k] = x[p, a + k] * scale


@scalar
def _sine_part(x, y, p, a, dim, out, q, t):
    """Write B(x)ᵀ y = v − u (κ u·v + d), with y = (v, d), into row q of out; return its length, x·y and u·v."""
    along = _dot(x, p, a, y, p, a, dim)
    factor = _kappa(x, p, a, dim) * along + y[p, a + dim]
    for k in range(dim):
        out[q, t + k] = y[p, a + k] - x[p, a + k] * factor
    length = math.sqrt(_dot(out, q, t, out, q, t, dim))
    return length, along + x[p, a + dim] * y[p, a + dim], along


@kernel
def _retract(x, a, delta, t, dim, out):
    n = x.shape[0]
    for task in numba.prange((n + TASK - 1) // TASK):
        for p in range(task * TASK, min(n, (task + 1) * TASK)):
            theta = math.sqrt(_dot(delta, p, t, delta, p, t, dim))
            cosine = math.cos(theta)
            # Where the square underflows sin θ/θ is 1 to the last bit.
            sinc = math.sin(theta) / theta if theta != 0.0 else 1.0
            along = _dot(x, p, a, delta, p, t, dim)
            factor = cosine - sinc * _kappa(x, p, a, dim) * along
            for k in range(dim):
                out[p, a + k] = factor * x[p, a + k] + sinc * delta[p, t + k]
            out[p, a + dim] = cosine * x[p, a + dim] - sinc * along
            _normalize(out, p, a, dim + 1, out)


@kernel
def _local(x, y, a, dim, out, t):
    n = x.shape[0]
    for task in numba.prange((n + TASK - 1) // TASK):
        for p in range(task * TASK, min(n, (task + 1) * TASK)):
            s, cosine, _ = _sine_part(x, y, p, a, dim, out, p, t)
            if s > 0.0:
                scale = math.atan2(s, cosine) / s
                for k in range(dim):
                    out[p, t + k] *= scale
            elif cosine < 0.0:
                out[p, t] = math.pi


@kernel
def _plus_jacobian(x, a, dim, out, t):
    """B(x)."""
    n = x.shape[0]
    for task in numba.prange((n + TASK - 1) // TASK):
        for p in range(task * TASK, min(n, (task + 1) * TASK)):
            kappa = _kappa(x, p, a, dim)
            for c in range(dim):
                for r in range(dim):
                    out[p, a + r, t + c] = (1.0 if r == c else 0.0) - kappa * x[p, a + r] * x[p, a + c]
                out[p, a + dim, t + c] = -x[p, a + c]


@kernel
def _local_jacobian(x, y, a, dim, out, t):
    n = x.shape[0]
    for task in numba.prange((n + TASK - 1) // TASK):
        p_hat = np.empty((1, dim))
        for p in range(task * TASK, min(n, (task + 1) * TASK)):
            kx, ky = _kappa(x, p, a, dim), _kappa(y, p, a, dim)
            s, cosine, along = _sine_part(x, y, p, a, dim, p_hat, 0, 0)
            ratio = math.atan2(s, cosine) / s if s > 0.0 else (1.0 if cosine > 0.0 else np.inf)
            for k in range(dim):
                p_hat[0, k] = p_hat[0, k] / s if s > 0.0 else 0.0
            for c in range(dim):
                # Column c of B(y) is (e_c − κ_y v_c v, −v_c): uc is its first part times u, gc its product with x.
                vc = y[p, a + c]
                uc = x[p, a + c] - ky * vc * along
                gc = uc - vc * x[p, a + dim]
                radial = 0.0
                for r in range(dim):
                    m = (1.0 if r == c else 0.0) - ky * vc * y[p, a + r] - x[p, a + r] * (kx * uc - vc)
                    out[p, t + r, t + c] = ratio * m
                    radial += p_hat[0, r] * m
                radial = (cosine - ratio) * radial - s * gc if s > 0.0 else 0.0
                for r in range(dim):
                    out[p, t + r, t + c] += p_hat[0, r] * radial


@kernel
def _project(x, a, dim, out):
    n = x.shape[0]
    for task in numba.prange((n + TASK - 1) // TASK):
        for p in range(task * TASK, min(n, (task + 1) * TASK)):
            _normalize(x, p, a, dim + 1, out)
