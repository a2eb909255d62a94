# numba types the kernels below.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False
"""Rigid motions of the plane: poses of wheeled robots."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numba
import numpy as np
import numpy.typing as npt

from sparselm._jit import TASK, kernel
from sparselm.kernels.se2 import se2_between, se2_exp, se2_log, se2_right_jacobian_inverse
from sparselm.kernels.so2 import wrap_angle
from sparselm.manifolds._columns import ColumnManifold
from sparselm.manifolds.base import FREE, Array


@final
@dataclass(frozen=True)
class SE2(ColumnManifold):
    """Poses (x, y, θ), θ in (−π, π]; X ⊞ δ = X·Exp(δ), local(X, Y) = Log(X⁻¹·Y).

    X maps body to world coordinates, p_world = R(θ) p_body + (x, y). The tangent is (v_x, v_y, ω), translation first,
    in the body frame; fully coupled, so that a step with a turn moves along an arc.

    References
    ----------
    J. Solà, J. Deray, D. Atchuthan, "A micro Lie theory for state estimation in robotics", arXiv:1812.01537, 2018.
    """

    @property
    def ambient_dim(self) -> int:
        return 3

    @property
    def tangent_dim(self) -> int:
        return 3

    def retract_columns(self, x: Array, a: int, delta: Array, t: int, out: Array) -> None:
        _retract(x, a, delta, t, out)

    def local_columns(self, x: Array, y: Array, a: int, out: Array, t: int) -> None:
        _local(x, y, a, out, t)

    def plus_jacobian_columns(self, x: Array, a: int, out: Array, t: int) -> None:
        _plus_jacobian(x, a, out, t)

    def plus_jacobian_pattern(self) -> npt.NDArray[np.int8]:
        return np.array([[FREE, FREE, 0], [FREE, FREE, 0], [0, 0, 1]], dtype=np.int8)

    def local_jacobian_columns(self, x: Array, y: Array, a: int, out: Array, t: int) -> None:
        _local_jacobian(x, y, a, out, t)

    def project_columns(self, x: Array, a: int, out: Array) -> None:
        _project(x, a, out)

    def random(self, rng: np.random.Generator, n: int) -> Array:
        return np.column_stack([rng.standard_normal((n, 2)), rng.uniform(-math.pi, math.pi, n)])


@kernel
def _retract(x, a, delta, t, out):
    n = x.shape[0]
    for task in numba.prange((n + TASK - 1) // TASK):
        for p in range(task * TASK, min(n, (task + 1) * TASK)):
            c, s = math.cos(x[p, a + 2]), math.sin(x[p, a + 2])
            dx, dy, _ = se2_exp(delta[p, t], delta[p, t + 1], delta[p, t + 2])
            out[p, a] = x[p, a] + c * dx - s * dy
            out[p, a + 1] = x[p, a + 1] + s * dx + c * dy
            out[p, a + 2] = wrap_angle(x[p, a + 2] + delta[p, t + 2])


@kernel
def _local(x, y, a, out, t):
    n = x.shape[0]
    for task in numba.prange((n + TASK - 1) // TASK):
        for p in range(task * TASK, min(n, (task + 1) * TASK)):
            dx, dy, angle = se2_between(x[p, a], x[p, a + 1], x[p, a + 2], y[p, a], y[p, a + 1], y[p, a + 2])
            out[p, t], out[p, t + 1], out[p, t + 2] = se2_log(dx, dy, angle)


@kernel
def _plus_jacobian(x, a, out, t):
    """∂(X·Exp(δ))/∂δ = [R(θ), 0; 0, 1]."""
    n = x.shape[0]
    for task in numba.prange((n + TASK - 1) // TASK):
        for p in range(task * TASK, min(n, (task + 1) * TASK)):
            c, s = math.cos(x[p, a + 2]), math.sin(x[p, a + 2])
            out[p, a, t], out[p, a, t + 1], out[p, a, t + 2] = c, -s, 0.0
            out[p, a + 1, t], out[p, a + 1, t + 1], out[p, a + 1, t + 2] = s, c, 0.0
            out[p, a + 2, t], out[p, a + 2, t + 1], out[p, a + 2, t + 2] = 0.0, 0.0, 1.0


@kernel
def _local_jacobian(x, y, a, out, t):
    n = x.shape[0]
    for task in numba.prange((n + TASK - 1) // TASK):
        for p in range(task * TASK, min(n, (task + 1) * TASK)):
            dx, dy, angle = se2_between(x[p, a], x[p, a + 1], x[p, a + 2], y[p, a], y[p, a + 1], y[p, a + 2])
            vx, vy, w = se2_log(dx, dy, angle)
            j = se2_right_jacobian_inverse(vx, vy, w)
            for r in range(3):
                for c in range(3):
                    out[p, t + r, t + c] = j[3 * r + c]


@kernel
def _project(x, a, out):
    n = x.shape[0]
    for task in numba.prange((n + TASK - 1) // TASK):
        for p in range(task * TASK, min(n, (task + 1) * TASK)):
            out[p, a], out[p, a + 1] = x[p, a], x[p, a + 1]
            out[p, a + 2] = wrap_angle(x[p, a + 2])
