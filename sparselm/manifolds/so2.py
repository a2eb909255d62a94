# numba types the kernels below.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False
"""Rotations of the plane, as one angle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numba
import numpy as np
import numpy.typing as npt

from sparselm._jit import TASK, kernel
from sparselm.kernels.so2 import wrap_angle
from sparselm.manifolds._columns import ColumnManifold
from sparselm.manifolds.base import Array


@final
@dataclass(frozen=True)
class SO2(ColumnManifold):
    """An angle θ in radians, kept in (−π, π]; θ ⊞ δ = wrap(θ + δ), and local is the shorter way round.

    Where two angles are half a turn apart, local returns +π.
    """

    @property
    def ambient_dim(self) -> int:
        return 1

    @property
    def tangent_dim(self) -> int:
        return 1

    def retract_columns(self, x: Array, a: int, delta: Array, t: int, out: Array) -> None:
        _wrapped_sum(x, a, 1.0, delta, t, out, a)

    def local_columns(self, x: Array, y: Array, a: int, out: Array, t: int) -> None:
        _wrapped_sum(y, a, -1.0, x, a, out, t)

    def plus_jacobian_columns(self, x: Array, a: int, out: Array, t: int) -> None:
        out[:, a, t] = 1.0

    def plus_jacobian_pattern(self) -> npt.NDArray[np.int8]:
        return np.ones((1, 1), dtype=np.int8)

    def local_jacobian_columns(self, x: Array, y: Array, a: int, out: Array, t: int) -> None:
        out[:, t, t] = 1.0

    def project_columns(self, x: Array, a: int, out: Array) -> None:
        _wrapped_sum(x, a, 0.0, x, a, out, a)

    def random(self, rng: np.random.Generator, n: int) -> Array:
        return rng.uniform(-math.pi, math.pi, (n, 1))


@kernel
def _wrapped_sum(x, a, sign, y, b, out, c):
    """Write wrap(x + sign·y), one column of each; sign 0 wraps x."""
    n = x.shape[0]
    for task in numba.prange((n + TASK - 1) // TASK):
        for p in range(task * TASK, min(n, (task + 1) * TASK)):
            out[p, c] = wrap_angle(x[p, a] + sign * y[p, b])
