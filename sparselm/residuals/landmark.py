"""A landmark seen from a pose: its position in the body's frame, against the measured one.

Poses are world-from-body: X maps coordinates in the body's frame to the world, p_world = R p_body + t. A landmark l in
the world stands at p = Rᵀ (l − t) in the body's frame. Under a step X·Exp(δ), δ = (v, ω), t moves by R v and Rᵀ to
(I − [ω]×) Rᵀ to first order, so that p moves by −v − ω × p = −v + [p]× ω.
"""

# numba types the kernels: annotations would be a second, unchecked truth.
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self, final

import numpy as np
from numba import prange

from sparselm._jit import TASK, kernel, num_lanes, scalar
from sparselm.errors import ProblemError
from sparselm.kernels.columns import NO_COLUMNS, NO_JACOBIAN, all_free, scatter_columns
from sparselm.kernels.so3 import quat_rotate_inverse, quat_to_matrix
from sparselm.manifolds.base import AbstractManifold
from sparselm.manifolds.euclidean import Euclidean
from sparselm.manifolds.se2 import SE2
from sparselm.manifolds.se3 import SE3
from sparselm.residuals.base import AbstractResidual, Array, IndexArray, OperandBlocks


@final
@dataclass(frozen=True)
class Landmark(AbstractResidual):
    """A point in a pose's frame minus its measurement.

    r = Rᵀ (l − t) − z, and with p = Rᵀ (l − t):

        ∂r/∂δ = [−I, [p]×] in SE(3),    [−I, (p_y, −p_x)ᵀ] in SE(2),    ∂r/∂l = Rᵀ.

    Parameters
    ----------
    manifold : SE2 or SE3
        The manifold of the pose X = (R, t), world-from-body. The landmark l is in the world, on Euclidean(2) or (3).

    Raises
    ------
    ProblemError
        If the manifold is neither SE2 nor SE3.

    Notes
    -----
    Data: ``measured``, one row per block, the position z of the landmark in the body's frame, of length 2 or 3, in the
    unit of the poses. The residual has that length.
    """

    manifold: AbstractManifold

    def __post_init__(self) -> None:
        if not isinstance(self.manifold, SE2 | SE3):
            raise ProblemError(f"residual Landmark sees points from poses, SE2() or SE3(), got {self.manifold!r}")

    @property
    def dim(self) -> int:
        return 3 if isinstance(self.manifold, SE3) else 2

    @property
    def manifolds(self) -> tuple[AbstractManifold, ...]:
        return (self.manifold, Euclidean(self.dim))

    @property
    def data_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.dim,),)

    def evaluate(self, blocks: Sequence[OperandBlocks], data: Sequence[Array], r: Array) -> None:
        self._run(blocks, data, NO_COLUMNS, r, NO_JACOBIAN)

    def linearize(
        self, blocks: Sequence[OperandBlocks], data: Sequence[Array], columns: IndexArray, r: Array, J: Array
    ) -> None:
        self._run(blocks, data, columns, r, J)

    def _run(
        self, blocks: Sequence[OperandBlocks], data: Sequence[Array], columns: IndexArray, r: Array, J: Array
    ) -> None:
        pose, point = blocks
        loop: Callable[..., None] = _loop_se3 if isinstance(self.manifold, SE3) else _loop_se2
        loop(pose.values, pose.index, point.values, point.index, data[0], columns, r, J)

    @classmethod
    def for_operands(cls, manifolds: tuple[AbstractManifold, ...]) -> Self:
        for example in cls.examples():
            if example.manifolds == manifolds:
                return example
        got = ", ".join(repr(manifold) for manifold in manifolds)
        raise ProblemError(
            f"residual Landmark takes a pose and a point, (SE2(), Euclidean(2)) or (SE3(), Euclidean(3)), "
            f"the operands are ({got})"
        )

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return cls(SE2()), cls(SE3())


# -- loops -------------------------------------------------------------------------------------------------------------
#
# One loop evaluates and linearises: two would be optimised apart, and their residuals differ in the last bit.


@kernel
def _loop_se2(poses, pose_index, points, point_index, measured, columns, r, J):
    num_blocks = r.shape[0]
    linearizing = J.shape[0] > 0
    direct = all_free(columns, J.shape[2])
    lanes = num_lanes(num_blocks, TASK)
    for lane in prange(lanes):
        local = np.empty((2, 5))
        for b in range(lane * num_blocks // lanes, (lane + 1) * num_blocks // lanes):
            px, py, c, s = _see_se2(poses, pose_index[b], points, point_index[b])
            r[b, 0] = px - measured[b, 0]
            r[b, 1] = py - measured[b, 1]
            if linearizing:
                block = J[b] if direct else local
                block[0, 0], block[0, 1], block[0, 2], block[0, 3], block[0, 4] = -1.0, 0.0, py, c, s
                block[1, 0], block[1, 1], block[1, 2], block[1, 3], block[1, 4] = 0.0, -1.0, -px, -s, c
                if not direct:
                    scatter_columns(local, columns, J[b])


@kernel
def _loop_se3(poses, pose_index, points, point_index, measured, columns, r, J):
    num_blocks = r.shape[0]
    linearizing = J.shape[0] > 0
    direct = all_free(columns, J.shape[2])
    lanes = num_lanes(num_blocks, TASK)
    for lane in prange(lanes):
        local = np.empty((3, 9))
        for b in range(lane * num_blocks // lanes, (lane + 1) * num_blocks // lanes):
            px, py, pz = _see_se3(poses, pose_index[b], points, point_index[b])
            r[b, 0] = px - measured[b, 0]
            r[b, 1] = py - measured[b, 1]
            r[b, 2] = pz - measured[b, 2]
            if linearizing:
                block = J[b] if direct else local
                _jacobian_se3(poses, pose_index[b], px, py, pz, block)
                if not direct:
                    scatter_columns(local, columns, J[b])


# -- one block ---------------------------------------------------------------------------------------------------------


@scalar
def _see_se2(poses, i, points, k):
    """The landmark in the body's frame, and cosine and sine of the body's angle."""
    c, s = math.cos(poses[i, 2]), math.sin(poses[i, 2])
    x, y = points[k, 0] - poses[i, 0], points[k, 1] - poses[i, 1]
    return c * x + s * y, c * y - s * x, c, s


@scalar
def _see_se3(poses, i, points, k):
    """The landmark in the body's frame."""
    return quat_rotate_inverse(
        poses[i, 3],
        poses[i, 4],
        poses[i, 5],
        poses[i, 6],
        points[k, 0] - poses[i, 0],
        points[k, 1] - poses[i, 1],
        points[k, 2] - poses[i, 2],
    )


@scalar
def _jacobian_se3(poses, i, px, py, pz, block):
    """Write [−I, [p]×, Rᵀ] (3 × 9)."""
    rotation = quat_to_matrix(poses[i, 3], poses[i, 4], poses[i, 5], poses[i, 6])
    for row in range(3):
        for column in range(3):
            block[row, column] = -1.0 if row == column else 0.0
            block[row, 6 + column] = rotation[3 * column + row]
    block[0, 3], block[0, 4], block[0, 5] = 0.0, -pz, py
    block[1, 3], block[1, 4], block[1, 5] = pz, 0.0, -px
    block[2, 3], block[2, 4], block[2, 5] = -py, px, 0.0
