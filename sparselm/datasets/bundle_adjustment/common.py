"""What all synthetic bundle adjustment shares: BAL's camera, noisy pixels, and the errors of a start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from sparselm.io.bal import BundleAdjustmentData

Array = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]

# Rows taken at a time, so that temporary arrays stay small beside the problem.
_ROWS = 1 << 17


@dataclass(frozen=True, eq=False)
class SyntheticBundleAdjustment:
    """A synthetic problem and the truth behind it.

    Attributes
    ----------
    data : BundleAdjustmentData
        The problem at its start; observations are sorted by point, then camera.
    cameras, points : (num_cameras, 9), (num_points, 3) float64
        The truth, in the same layout.
    outlier : (num_observations,) bool
        Which pixels are wrong on purpose.
    """

    data: BundleAdjustmentData
    cameras: Array
    points: Array
    outlier: BoolArray


# -- the camera --------------------------------------------------------------------------------------------------------


def camera_coordinates(cameras: Array, points: Array, camera_index: IndexArray, point_index: IndexArray) -> Array:
    """P = R X + t of each observation, ``(num_observations, 3)``; in front of the camera where P_z < 0."""
    P = np.empty((len(camera_index), 3))
    rotations = Rotation.from_rotvec(cameras[:, :3])
    for start in range(0, len(P), _ROWS):
        rows = slice(start, start + _ROWS)
        camera = camera_index[rows]
        P[rows] = rotations[camera].apply(points[point_index[rows]])
        P[rows] += cameras[camera, 3:6]
    return P


def project(cameras: Array, points: Array, camera_index: IndexArray, point_index: IndexArray) -> Array:
    """Pixels predicted for each observation, ``(num_observations, 2)``, by BAL's camera model."""
    pixels = np.empty((len(camera_index), 2))
    for start in range(0, len(pixels), _ROWS):
        rows = slice(start, start + _ROWS)
        P = camera_coordinates(cameras, points, camera_index[rows], point_index[rows])
        pixels[rows] = _to_pixels(P, cameras[camera_index[rows], 6:])
    return pixels


def _to_pixels(P: Array, intrinsics: Array) -> Array:
    p = -P[..., :2] / P[..., 2:]
    square = np.sum(p * p, axis=-1, keepdims=True)
    f, k1, k2 = intrinsics[..., 0:1], intrinsics[..., 1:2], intrinsics[..., 2:3]
    pixels: Array = f * (1.0 + square * (k1 + k2 * square)) * p
    return pixels


def measure(
    rng: np.random.Generator,
    cameras: Array,
    points: Array,
    camera_index: IndexArray,
    point_index: IndexArray,
    half_image: Array,
    pixel_noise: float,
    outliers: float,
) -> tuple[Array, BoolArray]:
    """Pixels with noise, and which of them are outliers, anywhere in the image.

    ``half_image`` ``(2,)`` or ``(num_cameras, 2)`` is half of an image's width and height, in pixels.
    """
    pixels = project(cameras, points, camera_index, point_index)
    for start in range(0, len(pixels), _ROWS):
        rows = pixels[start : start + _ROWS]
        rows += pixel_noise * rng.standard_normal(rows.shape)
    outlier = rng.random(len(pixels)) < outliers
    half = np.broadcast_to(half_image, (len(cameras), 2))[camera_index[outlier]]
    pixels[outlier] = rng.uniform(-1.0, 1.0, half.shape) * half
    return pixels, outlier


# -- the start ---------------------------------------------------------------------------------------------------------


class Noise(NamedTuple):
    """Standard deviations of what is independent at the start, at ``perturbation=1``.

    Attributes
    ----------
    point : float
        Per unit of the distance to the camera that places the point, which counts up to ``reach``.
    reach : float
        World units.
    rotation : float or (num_cameras, 1) float64
        Radians about each axis.
    centre : float
        World units along each axis.
    focal, distortion : float
        Relative.
    """

    point: float
    reach: float
    rotation: float | Array
    centre: float
    focal: float
    distortion: float


def perturb(
    rng: np.random.Generator,
    cameras: Array,
    points: Array,
    anchor: IndexArray,
    drift: Array,
    noise: Noise,
    amount: float,
) -> tuple[Array, Array]:
    """Cameras and points that drifted together, with independent noise on top.

    ``drift`` ``(num_cameras, 6)`` is how far each camera was carried along and how it was turned. A point goes with its
    anchor, the camera that places it. All errors are ``amount`` times what is stated.
    """
    n, m = len(cameras), len(points)
    shift, twist = amount * drift[:, :3], amount * drift[:, 3:]
    world_from_camera = Rotation.from_rotvec(cameras[:, :3]).inv()
    centres = -world_from_camera.apply(cameras[:, 3:6])
    moved = Rotation.from_rotvec(twist)
    start_points = np.empty((m, 3))
    for start in range(0, m, _ROWS):
        rows = slice(start, start + _ROWS)
        own = anchor[rows]
        arm = points[rows] - centres[own]
        depth = np.linalg.norm(arm, axis=1, keepdims=True)
        start_points[rows] = centres[own] + shift[own] + moved[own].apply(arm)
        start_points[rows] += amount * noise.point * np.minimum(depth, noise.reach) * clipped_normal(rng, arm.shape)
    noisy = moved * Rotation.from_rotvec(amount * noise.rotation * clipped_normal(rng, (n, 3)))
    camera_from_world = (noisy * world_from_camera).inv()
    start_centres = centres + shift + amount * noise.centre * clipped_normal(rng, (n, 3))
    start_cameras = cameras.copy()
    start_cameras[:, 0:3] = camera_from_world.as_rotvec()
    start_cameras[:, 3:6] = -camera_from_world.apply(start_centres)
    start_cameras[:, 6] *= 1.0 + amount * noise.focal * clipped_normal(rng, n)
    start_cameras[:, 7:] *= 1.0 + amount * noise.distortion * clipped_normal(rng, (n, 2))
    return start_cameras, start_points


def clipped_normal(rng: np.random.Generator, shape: int | tuple[int, ...]) -> Array:
    """Normal deviates within ±4, so that no point jumps behind a camera."""
    return np.clip(rng.standard_normal(shape), -4.0, 4.0)
