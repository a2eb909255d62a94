"""Reprojection without lens distortion, in NumPy: a residual needs no compiler."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from sparselm.manifolds.base import AbstractManifold
from sparselm.manifolds.euclidean import Euclidean
from sparselm.residuals.base import AbstractResidual, OperandBlocks


class PinholeReprojection(AbstractResidual):
    """r = f p − pixel with P = Exp(ω) X + t (camera from world) and p = −P_xy / P_z.

    Operands: a camera ``[ω, t, f, k1, k2]`` whose distortion k1, k2 is taken for zero, and a point; data: the pixel.
    """

    @property
    def dim(self) -> int:
        return 2

    @property
    def manifolds(self) -> tuple[AbstractManifold, ...]:
        return Euclidean(9), Euclidean(3)

    @property
    def data_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((2,),)

    def evaluate(self, blocks: Sequence[OperandBlocks], data: Sequence[np.ndarray], r: np.ndarray) -> None:
        camera, _, P = _in_camera(blocks)
        r[:] = -camera[:, 6:7] * P[:, :2] / P[:, 2:] - data[0]

    def linearize(
        self,
        blocks: Sequence[OperandBlocks],
        data: Sequence[np.ndarray],
        columns: np.ndarray,
        r: np.ndarray,
        J: np.ndarray,
    ) -> None:
        self.evaluate(blocks, data, r)
        camera, rotated, P = _in_camera(blocks)
        focal, depth = camera[:, 6], P[:, 2]
        by_P = np.zeros((len(P), 2, 3))
        by_P[:, 0, 0] = by_P[:, 1, 1] = -focal / depth
        by_P[:, :, 2] = (focal / depth**2)[:, None] * P[:, :2]
        whole = np.zeros((len(P), 2, 12))
        whole[:, :, 0:3] = -_product(_product(by_P, _skew(rotated)), _left_jacobian(camera[:, :3]))
        whole[:, :, 3:6] = by_P
        whole[:, :, 6] = -P[:, :2] / depth[:, None]
        whole[:, :, 9:12] = _product(by_P, Rotation.from_rotvec(camera[:, :3]).as_matrix())
        J[:, :, columns[columns >= 0]] = whole[:, :, columns >= 0]

    def random_operands(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, ...]:
        """Cameras that look at points 3 to 6 units ahead."""
        camera = np.zeros((n, 9))
        camera[:, :3] = rng.standard_normal((n, 3))
        camera[:, 3:6] = rng.standard_normal((n, 3))
        camera[:, 6] = rng.uniform(1.0, 2.0, n)
        ahead = np.column_stack([rng.uniform(-1, 1, (n, 2)), -rng.uniform(3, 6, n)])
        return camera, Rotation.from_rotvec(camera[:, :3]).inv().apply(ahead - camera[:, 3:6])


def _in_camera(blocks: Sequence[OperandBlocks]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cameras, R X and R X + t of each block."""
    cameras, points = (block.values[block.index] for block in blocks)
    rotated = _product(Rotation.from_rotvec(cameras[:, :3]).as_matrix(), points[:, :, None])[:, :, 0]
    return cameras, rotated, rotated + cameras[:, 3:6]


def _skew(v: np.ndarray) -> np.ndarray:
    zero = np.zeros(len(v))
    x, y, z = v.T
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)


def _left_jacobian(omega: np.ndarray) -> np.ndarray:
    """I + (1 − cos θ)/θ² [ω]× + (θ − sin θ)/θ³ [ω]×²."""
    theta = np.linalg.norm(omega, axis=1)
    safe = np.where(theta < 1e-3, 1.0, theta)
    b = np.where(theta < 1e-3, 0.5 - theta**2 / 24, (1 - np.cos(safe)) / safe**2)
    c = np.where(theta < 1e-3, 1 / 6 - theta**2 / 120, (safe - np.sin(safe)) / safe**3)
    cross = _skew(omega)
    return np.eye(3) + b[:, None, None] * cross + c[:, None, None] * _product(cross, cross)


def _product(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Matrix products, block by block, with the same rounding for one block as for many (unlike ``A @ B``)."""
    return A[:, :, 0, None] * B[:, None, 0] + A[:, :, 1, None] * B[:, None, 1] + A[:, :, 2, None] * B[:, None, 2]
