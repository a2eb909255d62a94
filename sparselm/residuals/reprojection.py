"""Reprojection error of a point in a camera: Snavely's model of the BAL files."""
# mypy: allow-untyped-defs

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import prange

from sparselm._jit import TASK, kernel, num_lanes, scalar
from sparselm.kernels.columns import scatter_columns
from sparselm.manifolds.base import AbstractManifold
from sparselm.manifolds.euclidean import Euclidean
from sparselm.residuals.base import AbstractResidual, OperandBlocks

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SnavelyReprojection(AbstractResidual):
    r"""r = f (1 + k₁ ‖p‖² + k₂ ‖p‖⁴) p − pixel, with P = Exp(ω) X + t (camera from world), p = −P_xy / P_z.

    Operands: camera ``[ω₁ ω₂ ω₃ t₁ t₂ t₃ f k₁ k₂]`` (angle-axis in radians, focal length in pixels) and point X in the
    world's units; data: the pixel, measured from the image centre, y up. The camera looks along −z: P_z > 0 is behind
    it, legal and only counted; a point in the camera's plane (P_z = 0) has no residual (NaN).

    With R = Exp(ω) and its left Jacobian J_l, ∂(R X)/∂ω = −[R X]× J_l; both depend on the camera alone and are prepared
    once per camera.

    References
    ----------
    Agarwal, Snavely, Seitz, Szeliski (2010), Bundle adjustment in the large, ECCV (the camera model of the data set).
    """

    @property
    def dim(self) -> int:
        return 2

    @property
    def manifolds(self) -> tuple[AbstractManifold, ...]:
        return (Euclidean(9), Euclidean(3))

    @property
    def data_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((2,),)

    def prepared_dims(self) -> tuple[int, ...]:
        return (18, 0)

    def prepare(self, operand: int, values: Array, out: Array, *, derivatives: bool) -> None:
        _prepare_cameras(values, 2 if derivatives else 1, out)

    def evaluate(self, blocks: Sequence[OperandBlocks], data: Sequence[Array], r: Array) -> None:
        camera, point = blocks
        _evaluate(camera.values, camera.prepared, camera.index, point.values, point.index, data[0], r)

    def linearize(
        self,
        blocks: Sequence[OperandBlocks],
        data: Sequence[Array],
        columns: npt.NDArray[np.int32],
        r: Array,
        J: Array,
    ) -> None:
        camera, point = blocks
        all_free = J.shape[2] == 12
        _linearize(
            camera.values, camera.prepared, camera.index, point.values, point.index, data[0], columns, all_free, r, J
        )

    def remarks(self, blocks: Sequence[OperandBlocks], data: Sequence[Array]) -> dict[str, int]:
        camera, point = blocks
        depth = np.empty(len(camera.index))
        _depths(camera.values, camera.prepared, camera.index, point.values, point.index, depth)
        return {"observations of a point behind its camera": int((depth > 0).sum())}

    def random_operands(self, rng: np.random.Generator, n: int) -> tuple[Array, ...]:
        """Cameras near the origin that look along −z at points 2 … 6 units away, rotations up to and past π."""
        cameras = np.zeros((n, 9))
        axis = rng.standard_normal((n, 3))
        angle = rng.choice([0.0, 1e-9, 1e-4, 0.5, 2.0, math.pi - 1e-7, 4.0], n)
        cameras[:, :3] = axis / np.linalg.norm(axis, axis=1, keepdims=True) * angle[:, None]
        cameras[:, 3:6] = rng.standard_normal((n, 3))
        cameras[:, 6:] = [400.0, -2e-2, 1e-2] * (1.0 + 0.1 * rng.standard_normal((n, 3)))
        in_camera = np.column_stack([rng.uniform(-1, 1, (n, 2)), -rng.uniform(2, 6, n)])
        rotations = np.zeros((n, 18))
        _prepare_cameras(cameras, 2, rotations)
        points = np.einsum("nji,nj->ni", rotations[:, :9].reshape(n, 3, 3), in_camera - cameras[:, 3:6])
        return cameras, points


@scalar
def _squared_series(squared):
    """sin θ/θ, (1 − cos θ)/θ² and (θ − sin θ)/θ³ from θ²; Taylor below θ = 0.5, where the last two cancel."""
    if squared > 0.25:
        theta = math.sqrt(squared)
        s, c = math.sin(theta), math.cos(theta)
        return s / theta, (1.0 - c) / squared, (theta - s) / (squared * theta)
    a = b = d = 0.0
    # Horner on Σ (−θ²)^k / (2k+1)!, (2k+2)!, (2k+3)!; the ninth term is below 1e-17 of the first at θ = 0.5.
    for k in range(8, -1, -1):
        n = 2.0 * k
        a = 1.0 - squared * a / ((n + 2.0) * (n + 3.0))
        b = 1.0 - squared * b / ((n + 3.0) * (n + 4.0))
        d = 1.0 - squared * d / ((n + 4.0) * (n + 5.0))
    return a, 0.5 * b, d / 6.0


@kernel
def _prepare_cameras(cameras, halves, out):
    """out ← [R, J_l] of each camera’s angle-axis, row-major 3×3 each; R alone where ``halves`` is 1."""
    n = cameras.shape[0]
    for task in prange((n + TASK - 1) // TASK):
        for k in range(task * TASK, min(n, (task + 1) * TASK)):
            x, y, z = cameras[k, 0], cameras[k, 1], cameras[k, 2]
            a, b, d = _squared_series(x * x + y * y + z * z)
            # R = I + a [ω]× + b [ω]×²,  J_l = I + b [ω]× + d [ω]×²
            for half in range(halves):
                first = a if half == 0 else b
                second = b if half == 0 else d
                o = 9 * half
                out[k, o + 0] = 1.0 - second * (y * y + z * z)
                out[k, o + 1] = second * x * y - first * z
                out[k, o + 2] = second * x * z + first * y
                out[k, o + 3] = second * x * y + first * z
                out[k, o + 4] = 1.0 - second * (x * x + z * z)
                out[k, o + 5] = second * y * z - first * x
                out[k, o + 6] = second * x * z - first * y
                out[k, o + 7] = second * y * z + first * x
                out[k, o + 8] = 1.0 - second * (x * x + y * y)


@kernel
def _depths(cameras, rotations, camera_index, points, point_index, depth):
    """depth ← P_z, the third camera coordinate of each observed point."""
    n = camera_index.shape[0]
    for task in prange((n + TASK - 1) // TASK):
        for b in range(task * TASK, min(n, (task + 1) * TASK)):
            c, p = camera_index[b], point_index[b]
            depth[b] = cameras[c, 5]
            for j in range(3):
                depth[b] += rotations[c, 6 + j] * points[p, j]


@kernel
def _evaluate(cameras, rotations, camera_index, points, point_index, pixels, r):
    n = camera_index.shape[0]
    for task in prange((n + TASK - 1) // TASK):
        for b in range(task * TASK, min(n, (task + 1) * TASK)):
            c, p = camera_index[b], point_index[b]
            X, Y, Z = points[p, 0], points[p, 1], points[p, 2]
            x = rotations[c, 0] * X + rotations[c, 1] * Y + rotations[c, 2] * Z + cameras[c, 3]
            y = rotations[c, 3] * X + rotations[c, 4] * Y + rotations[c, 5] * Z + cameras[c, 4]
            z = rotations[c, 6] * X + rotations[c, 7] * Y + rotations[c, 8] * Z + cameras[c, 5]
            inverse = -1.0 / z if z != 0.0 else np.nan
            u, v = x * inverse, y * inverse
            s = u * u + v * v
            scale = cameras[c, 6] * (1.0 + s * (cameras[c, 7] + cameras[c, 8] * s))
            r[b, 0] = scale * u - pixels[b, 0]
            r[b, 1] = scale * v - pixels[b, 1]


@kernel
def _linearize(cameras, rotations, camera_index, points, point_index, pixels, columns, all_free, r, J):
    n = camera_index.shape[0]
    lanes = num_lanes(n, TASK)
    for lane in prange(lanes):
        local = np.empty((2, 12))
        for b in range(lane * n // lanes, (lane + 1) * n // lanes):
            out = J[b] if all_free else local
            c, p = camera_index[b], point_index[b]
            X, Y, Z = points[p, 0], points[p, 1], points[p, 2]
            rx = rotations[c, 0] * X + rotations[c, 1] * Y + rotations[c, 2] * Z
            ry = rotations[c, 3] * X + rotations[c, 4] * Y + rotations[c, 5] * Z
            rz = rotations[c, 6] * X + rotations[c, 7] * Y + rotations[c, 8] * Z
            z = rz + cameras[c, 5]
            inverse = -1.0 / z if z != 0.0 else np.nan
            u, v = (rx + cameras[c, 3]) * inverse, (ry + cameras[c, 4]) * inverse
            s = u * u + v * v
            focal, k1, k2 = cameras[c, 6], cameras[c, 7], cameras[c, 8]
            distortion = 1.0 + s * (k1 + k2 * s)
            scale = focal * distortion
            r[b, 0] = scale * u - pixels[b, 0]
            r[b, 1] = scale * v - pixels[b, 1]
            # ∂r/∂(u, v), symmetric
            slope = 2.0 * focal * (k1 + 2.0 * k2 * s)
            uu, uv, vv = scale + slope * u * u, slope * u * v, scale + slope * v * v
            # ∂r/∂P: ∂u/∂P = (inverse, 0, u·inverse), ∂v/∂P = (0, inverse, v·inverse)
            for i in range(2):
                du = uu if i == 0 else uv
                dv = uv if i == 0 else vv
                gx, gy, gz = du * inverse, dv * inverse, (du * u + dv * v) * inverse
                # g · (d × RX) = d · (RX × g) with d = J_l dω
                hx, hy, hz = ry * gz - rz * gy, rz * gx - rx * gz, rx * gy - ry * gx
                for j in range(3):
                    out[i, j] = hx * rotations[c, 9 + j] + hy * rotations[c, 12 + j] + hz * rotations[c, 15 + j]
                    out[i, 9 + j] = gx * rotations[c, j] + gy * rotations[c, 3 + j] + gz * rotations[c, 6 + j]
                out[i, 3], out[i, 4], out[i, 5] = gx, gy, gz
                w = u if i == 0 else v
                out[i, 6] = distortion * w
                out[i, 7] = focal * s * w
                out[i, 8] = focal * s * s * w
            if not all_free:
                scatter_columns(local, columns, J[b])
