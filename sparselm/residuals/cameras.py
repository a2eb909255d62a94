"""Reprojection errors of cameras whose pose, intrinsics and points are variables of their own.

Poses are camera-from-world: X = (R, t) maps a point l of the world to P = R l + t in the camera's frame, which looks along
+z, x to the right and y down. A camera model m(c, P) with intrinsics c gives pixels from the top left corner of the image.
With G = ∂m/∂P (see :mod:`sparselm.kernels.cameras`) and H = G R, a step X·Exp(δ), δ = (v, ω), moves P by R (v + ω × l) to
first order, so that the residual r = m(c, R l + t) − measured has

    ∂r/∂v = ∂r/∂l = H,    row i of ∂r/∂ω = l × H_i,    ∂r/∂c = ∂m/∂c.

Images of one camera share its row of intrinsics; what is known of them is held by ``Variables.fix(components=…)``.
"""

# numba types the kernels: annotations would be a second, unchecked truth.
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numba import prange

from sparselm._jit import TASK, kernel, num_lanes, scalar, serial_kernel
from sparselm.kernels.cameras import (
    FISHEYE,
    OPENCV,
    PINHOLE,
    RADIAL,
    SIMPLE_RADIAL,
    STEREO,
    fisheye,
    opencv,
    pinhole,
    radial,
    simple_radial,
    stereo,
)
from sparselm.kernels.columns import NO_COLUMNS, NO_JACOBIAN, all_free, scatter_columns
from sparselm.kernels.so3 import quat_to_matrix
from sparselm.manifolds.base import AbstractManifold
from sparselm.manifolds.euclidean import Euclidean
from sparselm.manifolds.se3 import SE3
from sparselm.residuals.base import AbstractResidual, Array, IndexArray, OperandBlocks


class _Reprojection(AbstractResidual):
    """What all cameras share: operands, the motion [R, t] prepared once per pose, and the loop, made for a model."""

    @property
    @abstractmethod
    def _model(self) -> int:
        """Which of the models of :mod:`sparselm.kernels.cameras`."""

    @property
    @abstractmethod
    def _usual(self) -> tuple[float, ...]:
        """Intrinsics of a usual camera, around which the contract tests look."""

    @property
    def dim(self) -> int:
        return 2

    @property
    def manifolds(self) -> tuple[AbstractManifold, ...]:
        return (SE3(), Euclidean(len(self._usual)), Euclidean(3))

    @property
    def data_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.dim,),)

    def prepared_dims(self) -> tuple[int, ...]:
        return (12, 0, 0)

    def prepare(self, operand: int, values: Array, out: Array, *, derivatives: bool) -> None:
        _prepare_motions(values, out)

    def evaluate(self, blocks: Sequence[OperandBlocks], data: Sequence[Array], r: Array) -> None:
        self._run(blocks, data, NO_COLUMNS, r, NO_JACOBIAN)

    def linearize(
        self, blocks: Sequence[OperandBlocks], data: Sequence[Array], columns: IndexArray, r: Array, J: Array
    ) -> None:
        self._run(blocks, data, columns, r, J)

    def _run(
        self, blocks: Sequence[OperandBlocks], data: Sequence[Array], columns: IndexArray, r: Array, J: Array
    ) -> None:
        pose, lens, point = blocks
        _loop_of(self._model)(
            pose.prepared, pose.index, lens.values, lens.index, point.values, point.index, data[0], columns, r, J
        )

    def remarks(self, blocks: Sequence[OperandBlocks], data: Sequence[Array]) -> dict[str, int]:
        pose, _, point = blocks
        behind = _count_behind(pose.prepared, pose.index, point.values, point.index)
        return {"observations of a point behind its camera": int(behind)}

    def random_operands(self, rng: np.random.Generator, n: int) -> tuple[Array, ...]:
        """Points 2 … 6 units before their camera; of each five one is on the optical axis or close to it, one behind."""
        poses = SE3().random(rng, n)
        intrinsics = np.array(self._usual) * (1.0 + 0.1 * rng.standard_normal((n, len(self._usual))))
        seen = np.column_stack([rng.uniform(-1.0, 1.0, (n, 2)), rng.uniform(2.0, 6.0, n)])
        seen[::5, :2] *= rng.choice([0.0, 1e-9, 1e-4, 1e-2], (len(seen[::5]), 1))
        seen[1::5, 2] *= -1.0
        motions = np.empty((n, 12))
        _prepare_motions(poses, motions)
        points = np.einsum("nji,nj->ni", motions[:, :9].reshape(n, 3, 3), seen - poses[:, :3])
        return poses, intrinsics, points


@final
@dataclass(frozen=True)
class PinholeReprojection(_Reprojection):
    """r = (f_x x/z + c_x, f_y y/z + c_y) − pixel, with (x, y, z) = R l + t: a camera without distortion.

    Operands: pose X = (R, t) on SE3, camera-from-world; intrinsics ``[f_x f_y c_x c_y]`` in pixels; point l in the world.
    Data: the pixel (u, v), u to the right and v down from the top left corner of the image. COLMAP's PINHOLE.

    Notes
    -----
    The camera looks along +z. A point behind it (z < 0) is projected through the centre; that is legal and only counted. A
    point in the camera's plane (z = 0) has no residual (NaN). So it is with all cameras here but the fisheye.

    Images of one camera share a row of intrinsics: give ``intrinsics[0]``, or an index with repetitions. Components that
    are known are held: ``intrinsics.fix(components=[2, 3])`` for the principal point.
    """

    _model = PINHOLE
    _usual = (400.0, 420.0, 320.0, 240.0)


@final
@dataclass(frozen=True)
class SimpleRadialReprojection(_Reprojection):
    """r = f (1 + k s) (p, q) + (c_x, c_y) − pixel, with (p, q) = (x/z, y/z), s = p² + q² and (x, y, z) = R l + t.

    Intrinsics ``[f c_x c_y k]``, in pixels but k, which has no unit; COLMAP's SIMPLE_RADIAL. Poses, points, data and what
    is not in front of the camera as in :class:`PinholeReprojection`.
    """

    _model = SIMPLE_RADIAL
    _usual = (400.0, 320.0, 240.0, -2e-2)


@final
@dataclass(frozen=True)
class RadialReprojection(_Reprojection):
    """r = f (1 + k₁ s + k₂ s²) (p, q) + (c_x, c_y) − pixel, with (p, q) = (x/z, y/z), s = p² + q², (x, y, z) = R l + t.

    Intrinsics ``[f c_x c_y k₁ k₂]``, in pixels but the k, which have no unit; COLMAP's RADIAL. Poses, points, data and what
    is not in front of the camera as in :class:`PinholeReprojection`.
    """

    _model = RADIAL
    _usual = (400.0, 320.0, 240.0, -2e-2, 1e-2)


@final
@dataclass(frozen=True)
class OpenCVReprojection(_Reprojection):
    """Radial and tangential distortion with two coefficients each, as in OpenCV.

    r = (f_x p′ + c_x, f_y q′ + c_y) − pixel, where with (p, q) = (x/z, y/z), s = p² + q² and (x, y, z) = R l + t

        p′ = (1 + k₁ s + k₂ s²) p + 2 p₁ p q + p₂ (s + 2 p²),
        q′ = (1 + k₁ s + k₂ s²) q + p₁ (s + 2 q²) + 2 p₂ p q.

    Intrinsics ``[f_x f_y c_x c_y k₁ k₂ p₁ p₂]``, the first four in pixels, the others without unit; COLMAP's OPENCV. Poses,
    points, data and what is not in front of the camera as in :class:`PinholeReprojection`.
    """

    _model = OPENCV
    _usual = (400.0, 420.0, 320.0, 240.0, -2e-2, 1e-2, 1e-3, -2e-3)


@final
@dataclass(frozen=True)
class FisheyeReprojection(_Reprojection):
    """r = (f_x x θ_d/ρ + c_x, f_y y θ_d/ρ + c_y) − pixel, where ρ = √(x² + y²), θ = atan2(ρ, z), (x, y, z) = R l + t and

        θ_d = θ (1 + k₁ θ² + k₂ θ⁴ + k₃ θ⁶ + k₄ θ⁸).

    Intrinsics ``[f_x f_y c_x c_y k₁ k₂ k₃ k₄]``, the first four in pixels, the others without unit; COLMAP's OPENCV_FISHEYE.
    Poses, points and data as in :class:`PinholeReprojection`.

    Notes
    -----
    θ is the angle from the optical axis, from 0 to π. On the axis before the camera the projection and its derivatives are
    smooth, and exact. In the camera's plane and behind it (θ ≥ π/2) points are projected as everywhere: lenses of more than
    180° see them. Those behind are counted and told all the same. Only the camera's centre, and the axis behind it, which
    would be seen all round the rim, have no residual (NaN).

    References
    ----------
    J. Kannala, S. Brandt, "A generic camera model and calibration method for conventional, wide-angle, and fish-eye
    lenses", IEEE PAMI 28 (8), 2006.
    """

    _model = FISHEYE
    _usual = (400.0, 420.0, 320.0, 240.0, -2e-2, 1e-2, -3e-3, 1e-3)


@final
@dataclass(frozen=True)
class StereoReprojection(_Reprojection):
    """r = (f_x x/z + c_x, f_x (x − b)/z + c_x, f_y y/z + c_y) − (u_left, u_right, v), with (x, y, z) = R l + t.

    A rectified pair: two equal pinhole cameras side by side, the right one at x = b in the frame of the left one.

    Operands: pose X = (R, t) of the *left* camera on SE3, camera-from-world; intrinsics ``[f_x f_y c_x c_y b]``, in pixels
    but the baseline b, which has the unit of the world; point l in the world. Data: ``(u_left, u_right, v)`` in pixels, in
    the order of GTSAM's StereoPoint2; a point before the cameras has u_left > u_right. What is not in front of the cameras
    as in :class:`PinholeReprojection`.

    Notes
    -----
    Where b and the scale of the world are both free, one of them must be known: hold b, or two poses.
    """

    _model = STEREO
    _usual = (400.0, 420.0, 320.0, 240.0, 0.3)

    @property
    def dim(self) -> int:
        return 3


# -- loops -------------------------------------------------------------------------------------------------------------
#
# One loop evaluates and linearises: two would be optimised apart, and their residuals differ in the last bit.


@functools.cache
def _loop_of(model):
    """Kernel that writes r and, where there is one, J, of a camera model: numba drops the branches of all others."""

    @kernel
    def run(motions, pose_index, intrinsics, lens_index, points, point_index, measured, columns, r, J):
        num_blocks, dim = r.shape
        linearizing = J.shape[0] > 0
        direct = all_free(columns, J.shape[2])
        lanes = num_lanes(num_blocks, TASK)
        for lane in prange(lanes):
            local = np.empty((dim, columns.size))
            for b in range(lane * num_blocks // lanes, (lane + 1) * num_blocks // lanes):
                k = lens_index[b]
                x, y, z = _see(motions, pose_index[b], points, point_index[b])
                if model == PINHOLE:
                    seen, gradients, slopes = pinhole(intrinsics, k, x, y, z)
                elif model == SIMPLE_RADIAL:
                    seen, gradients, slopes = simple_radial(intrinsics, k, x, y, z)
                elif model == RADIAL:
                    seen, gradients, slopes = radial(intrinsics, k, x, y, z)
                elif model == OPENCV:
                    seen, gradients, slopes = opencv(intrinsics, k, x, y, z)
                elif model == FISHEYE:
                    seen, gradients, slopes = fisheye(intrinsics, k, x, y, z)
                elif model == STEREO:
                    seen, gradients, slopes = stereo(intrinsics, k, x, y, z)
                for i in range(len(seen)):
                    r[b, i] = seen[i] - measured[b, i]
                if linearizing:
                    block = J[b] if direct else local
                    _jacobian(motions, pose_index[b], points, point_index[b], gradients, slopes, block)
                    if not direct:
                        scatter_columns(local, columns, J[b])

    return run


@kernel
def _prepare_motions(poses, out):
    """out ← [R, t] of each pose, R row by row."""
    num_poses = poses.shape[0]
    for task in prange((num_poses + TASK - 1) // TASK):
        for m in range(task * TASK, min(num_poses, (task + 1) * TASK)):
            rotation = quat_to_matrix(poses[m, 3], poses[m, 4], poses[m, 5], poses[m, 6])
            for k in range(9):
                out[m, k] = rotation[k]
            for k in range(3):
                out[m, 9 + k] = poses[m, k]


@serial_kernel
def _count_behind(motions, pose_index, points, point_index):
    """Number of blocks whose point has z < 0."""
    count = 0
    for b in range(pose_index.shape[0]):
        _, _, z = _see(motions, pose_index[b], points, point_index[b])
        count += z < 0.0
    return count


# -- one block ---------------------------------------------------------------------------------------------------------


@scalar
def _see(motions, m, points, k):
    """The point in the camera's frame, R l + t."""
    x, y, z = points[k, 0], points[k, 1], points[k, 2]
    return (
        motions[m, 0] * x + motions[m, 1] * y + motions[m, 2] * z + motions[m, 9],
        motions[m, 3] * x + motions[m, 4] * y + motions[m, 5] * z + motions[m, 10],
        motions[m, 6] * x + motions[m, 7] * y + motions[m, 8] * z + motions[m, 11],
    )


@scalar
def _jacobian(motions, m, points, k, gradients, slopes, block):
    """Write rows [H_i, l × H_i, ∂m_i/∂c, H_i]; ``gradients`` and ``slopes`` are the rows of G and of ∂m/∂c."""
    x, y, z = points[k, 0], points[k, 1], points[k, 2]
    for i in range(len(gradients)):
        gx, gy, gz = gradients[i]
        hx = gx * motions[m, 0] + gy * motions[m, 3] + gz * motions[m, 6]
        hy = gx * motions[m, 1] + gy * motions[m, 4] + gz * motions[m, 7]
        hz = gx * motions[m, 2] + gy * motions[m, 5] + gz * motions[m, 8]
        block[i, 0], block[i, 1], block[i, 2] = hx, hy, hz
        block[i, 3], block[i, 4], block[i, 5] = y * hz - z * hy, z * hx - x * hz, x * hy - y * hx
        num_intrinsics = len(slopes[i])
        for j in range(num_intrinsics):
            block[i, 6 + j] = slopes[i][j]
        block[i, 6 + num_intrinsics], block[i, 7 + num_intrinsics], block[i, 8 + num_intrinsics] = hx, hy, hz
