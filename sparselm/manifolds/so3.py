# numba types the kernels below.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False
"""Rotations of space, as unit quaternions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numba
import numpy as np

from sparselm._jit import TASK, kernel
from sparselm.kernels.so3 import quat_multiply, quat_normalize, so3_exp, so3_log, so3_right_jacobian_inverse
from sparselm.manifolds._columns import ColumnManifold
from sparselm.manifolds.base import Array


@final
@dataclass(frozen=True)
class SO3(ColumnManifold):
    """Unit quaternions (x, y, z, w); q ⊞ δ = q·Exp(δ), local(p, q) = Log(p⁻¹·q), a rotation vector of length ≤ π.

    δ is in radians, in the rotated (body) frame. q and −q are the same rotation, and neither sign is preferred: a small
    step gives a quaternion near the one it started from. Every retraction normalises: rounding does not build up over
    iterations.

    References
    ----------
    J. Solà, J. Deray, D. Atchuthan, "A micro Lie theory for state estimation in robotics", arXiv:1812.01537, 2018.
    """

    @property
    def ambient_dim(self) -> int:
        return 4

    @property
    def tangent_dim(self) -> int:
        return 3

    def retract_columns(self, x: Array, a: int, delta: Array, t: int, out: Array) -> None:
        _retract(x, a, delta, t, out)

    def local_columns(self, x: Array, y: Array, a: int, out: Array, t: int) -> None:
        _local(x, y, a, out, t)

    def plus_jacobian_columns(self, x: Array, a: int, out: Array, t: int) -> None:
        _plus_jacobian(x, a, out, t)

    def local_jacobian_columns(self, x: Array, y: Array, a: int, out: Array, t: int) -> None:
        _local_jacobian(x, y, a, out, t)

    def project_columns(self, x: Array, a: int, out: Array) -> None:
        _project(x, a, out)

    def random(self, rng: np.random.Generator, n: int) -> Array:
        return random_quaternions(rng, n)


def random_quaternions(rng: np.random.Generator, n: int) -> Array:
    """Unit quaternions, uniform over the rotations and over both signs; ``(n, 4)``."""
    q = rng.standard_normal((n, 4))
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    return q


@kernel
def _retract(x, a, delta, t, out):
    n = x.shape[0]
    for task in numba.prange((n + TASK - 1) // TASK):
        for p in range(task * TASK, min(n, (task + 1) * TASK)):
            dx, dy, dz, dw = so3_exp(delta[p, t], delta[p, t + 1], delta[p, t + 2])
            qx, qy, qz, qw = quat_multiply(x[p, a], x[p, a + 1], x[p, a + 2], x[p, a + 3], dx, dy, dz, dw)
            out[p, a], out[p, a + 1], out[p, a + 2], out[p, a + 3] = quat_normalize(qx, qy, qz, qw)


@kernel
def _local(x, y, a, out, t):
    n = x.shape[0]
    for task in numba.prange((n + TASK - 1) // TASK):
        for p in range(task * TASK, min(n, (task + 1) * TASK)):
            qx, qy, qz, qw = quat_multiply(
                -x[p, a], -x[p, a + 1], -x[p, a + 2], x[p, a + 3], y[p, a], y[p, a + 1], y[p, a + 2], y[p, a + 3]
            )
            out[p, t], out[p, t + 1], out[p, t + 2] = so3_log(qx, qy, qz, qw)


@kernel
def _plus_jacobian(x, a, out, t):
    """∂(q·Exp(δ))/∂δ = ½ ∂(q·(δ, 0))/∂δ."""
    n = x.shape[0]
    for task in numba.prange((n + TASK - 1) // TASK):
        for p in range(task * TASK, min(n, (task + 1) * TASK)):
            hx, hy, hz, hw = 0.5 * x[p, a], 0.5 * x[p, a + 1], 0.5 * x[p, a + 2], 0.5 * x[p, a + 3]
            out[p, a, t], out[p, a, t + 1], out[p, a, t + 2] = hw, -hz, hy
            out[p, a + 1, t], out[p, a + 1, t + 1], out[p, a + 1, t + 2] = hz, hw, -hx
            out[p, a + 2, t], out[p, a + 2, t + 1], out[p, a + 2, t + 2] = -hy, hx, hw
            out[p, a + 3, t], out[p, a + 3, t + 1], out[p, a + 3, t + 2] = -hx, -hy, -hz


@kernel
def _local_jacobian(x, y, a, out, t):
    n = x.shape[0]
    for task in numba.prange((n + TASK - 1) // TASK):
        for p in range(task * TASK, min(n, (task + 1) * TASK)):
            qx, qy, qz, qw = quat_multiply(
                -x[p, a], -x[p, a + 1], -x[p, a + 2], x[p, a + 3], y[p, a], y[p, a + 1], y[p, a + 2], y[p, a + 3]
            )
            wx, wy, wz = so3_log(qx, qy, qz, qw)
            j = so3_right_jacobian_inverse(wx, wy, wz)
            for r in range(3):
                for c in range(3):
                    out[p, t + r, t + c] = j[3 * r + c]


@kernel
def _project(x, a, out):
    n = x.shape[0]
    for task in numba.prange((n + TASK - 1) // TASK):
        for p in range(task * TASK, min(n, (task + 1) * TASK)):
            out[p, a], out[p, a + 1], out[p, a + 2], out[p, a + 3] = quat_normalize(
                x[p, a], x[p, a + 1], x[p, a + 2], x[p, a + 3]
            )
