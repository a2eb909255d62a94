# numba types the kernels below.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False
"""Rigid motions of space: camera and robot poses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numba
import numpy as np
import numpy.typing as npt

from sparselm._jit import TASK, kernel, scalar
from sparselm.kernels.se3 import se3_between, se3_compose, se3_exp, se3_log, se3_right_jacobian_inverse
from sparselm.kernels.so3 import quat_normalize, quat_to_matrix
from sparselm.manifolds._columns import ColumnManifold
from sparselm.manifolds.base import FREE, Array
from sparselm.manifolds.so3 import SO3, random_quaternions


@final
@dataclass(frozen=True)
class SE3(ColumnManifold):
    """Poses (tx, ty, tz, qx, qy, qz, qw), unit quaternion; X ⊞ δ = X·Exp(δ), local(X, Y) = Log(X⁻¹·Y).

    X maps body to world coordinates, p_world = R(q) p_body + t (or world to body: the group does not care, the residual
    says). The tangent is (v, w), translation first, in the body frame, w in radians with |w| ≤ π from local. The
    retraction is fully coupled; the decoupled pose, t + v with q·Exp(w), is ``Product(Euclidean(3), SO3())``.

    References
    ----------
    J. Solà, J. Deray, D. Atchuthan, "A micro Lie theory for state estimation in robotics", arXiv:1812.01537, 2018.
    """

    @property
    def ambient_dim(self) -> int:
        return 7

    @property
    def tangent_dim(self) -> int:
        return 6

    def retract_columns(self, x: Array, a: int, delta: Array, t: int, out: Array) -> None:
        _retract(x, a, delta, t, out)

    def local_columns(self, x: Array, y: Array, a: int, out: Array, t: int) -> None:
        _local(x, y, a, out, t)

    def plus_jacobian_columns(self, x: Array, a: int, out: Array, t: int) -> None:
        _translation_jacobian(x, a, out, t)
        SO3().plus_jacobian_columns(x, a + 3, out, t + 3)

    def plus_jacobian_pattern(self) -> npt.NDArray[np.int8]:
        pattern = np.zeros((7, 6), dtype=np.int8)
        pattern[:3, :3] = pattern[3:, 3:] = FREE
        return pattern

    def local_jacobian_columns(self, x: Array, y: Array, a: int, out: Array, t: int) -> None:
        _local_jacobian(x, y, a, out, t)

    def project_columns(self, x: Array, a: int, out: Array) -> None:
        out[:, a : a + 3] = x[:, a : a + 3]
        SO3().project_columns(x, a + 3, out)

    def random(self, rng: np.random.Generator, n: int) -> Array:
        return np.column_stack([rng.standard_normal((n, 3)), random_quaternions(rng, n)])


@scalar
def _six(v, p, c):
    return v[p, c], v[p, c + 1], v[p, c + 2], v[p, c + 3], v[p, c + 4], v[p, c + 5]


@scalar
def _seven(v, p, c):
    return v[p, c], v[p, c + 1], v[p, c + 2], v[p, c + 3], v[p, c + 4], v[p, c + 5], v[p, c + 6]


@kernel
def _retract(x, a, delta, t, out):
    n = x.shape[0]
    for task in numba.prange((n + TASK - 1) // TASK):
        for p in range(task * TASK, min(n, (task + 1) * TASK)):
            step = se3_exp(*_six(delta, p, t))
            tx, ty, tz, qx, qy, qz, qw = se3_compose(*_seven(x, p, a), *step)
            out[p, a], out[p, a + 1], out[p, a + 2] = tx, ty, tz
            out[p, a + 3], out[p, a + 4], out[p, a + 5], out[p, a + 6] = quat_normalize(qx, qy, qz, qw)


@kernel
def _local(x, y, a, out, t):
    n = x.shape[0]
    for task in numba.prange((n + TASK - 1) // TASK):
        for p in range(task * TASK, min(n, (task + 1) * TASK)):
            tangent = se3_log(*se3_between(*_seven(x, p, a), *_seven(y, p, a)))
            for r in range(6):
                out[p, t + r] = tangent[r]


@kernel
def _translation_jacobian(x, a, out, t):
    """∂(t + R V v)/∂v = R at δ = 0, and the zeros beside and below it; the quaternion's block is SO3's."""
    n = x.shape[0]
    for task in numba.prange((n + TASK - 1) // TASK):
        for p in range(task * TASK, min(n, (task + 1) * TASK)):
            rotation = quat_to_matrix(x[p, a + 3], x[p, a + 4], x[p, a + 5], x[p, a + 6])
            for r in range(3):
                for c in range(3):
                    out[p, a + r, t + c] = rotation[3 * r + c]
                    out[p, a + r, t + 3 + c] = 0.0
            for r in range(3, 7):
                for c in range(3):
                    out[p, a + r, t + c] = 0.0


@kernel
def _local_jacobian(x, y, a, out, t):
    n = x.shape[0]
    for task in numba.prange((n + TASK - 1) // TASK):
        for p in range(task * TASK, min(n, (task + 1) * TASK)):
            tangent = se3_log(*se3_between(*_seven(x, p, a), *_seven(y, p, a)))
            diagonal, corner = se3_right_jacobian_inverse(*tangent)
            for r in range(3):
                for c in range(3):
                    out[p, t + r, t + c] = diagonal[3 * r + c]
                    out[p, t + r, t + 3 + c] = corner[3 * r + c]
                    out[p, t + 3 + r, t + c] = 0.0
                    out[p, t + 3 + r, t + 3 + c] = diagonal[3 * r + c]
