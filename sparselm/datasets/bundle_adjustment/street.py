"""Synthetic bundle adjustment with the statistics of the real "Ladybug" problems.

What is imitated, because it decides how fast solvers are and what they must cope with:

* Track lengths ℓ (cameras per point) follow a truncated power law, P(ℓ) ∝ ℓ^−α for 2 ≤ ℓ ≤ ℓ_max with α ≈ 2.25: half
  of the points are seen twice, a few thirty times. Tracks have gaps: cameras between the first and the last one often
  miss the point.
* The vehicle drives a figure of eight, more than once round, so the camera graph has loops and is no narrow band.
  The number of cameras that share points with a camera stays the same when the problem grows.
* The columns of the Jacobian are badly scaled: focal lengths around 400 pixels beside distortion coefficients around
  10⁻⁷ and 10⁻¹³.
* The start is off the way structure from motion is: cameras have drifted along the path and took the points they
  triangulated with them, so that revisited places do not meet; on top comes noise on every camera and point.

References
----------
S. Agarwal, N. Snavely, S. M. Seitz, R. Szeliski, "Bundle Adjustment in the Large", ECCV 2010 (the real problems).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from sparselm.datasets.bundle_adjustment.common import (
    Array,
    BoolArray,
    IndexArray,
    Noise,
    SyntheticBundleAdjustment,
    measure,
    perturb,
)
from sparselm.datasets.bundle_adjustment.tracks import (
    Lengths,
    check_counts,
    draw_lengths,
    fit_law,
    least_per_camera,
    lengths_adding_up,
    trim,
)
from sparselm.errors import ProblemError
from sparselm.io.bal import BundleAdjustmentData

# Half the image, in pixels, as in Ladybug.
_HALF_WIDTH, _HALF_HEIGHT = 410.0, 600.0

# Metres, say, between consecutive stations of the vehicle; depths are in the same unit.
_SPACING = 0.2
_MIN_LOOP = 32.0
_NEAREST, _SHALLOWEST, _DEEPEST = 0.5, 0.9, 60.0

# Cameras looked at for each point: those nearest to the camera in front of which it was placed.
_CANDIDATES = 112

# Of so few cameras nearly all may see a point, if a count of observations asks for it.
_FEW = 10

_CHUNK = 1 << 12
_MOST_ATTEMPTS = 40

# How far the start has drifted along the path (length units, radians), and what is independent on top.
_DRIFT = (0.03, 0.03, 0.03, 0.004, 0.004, 0.004)
_NOISE = Noise(point=0.01, reach=10.0, rotation=0.003, centre=0.01, focal=0.01, distortion=0.3)


def street(
    num_cameras: int,
    num_points: int,
    seed: int = 0,
    *,
    num_observations: int | None = None,
    exponent: float = 2.25,
    max_track: int = 30,
    laps: int = 2,
    pixel_noise: float = 0.5,
    outliers: float = 0.0,
    perturbation: float = 1.0,
) -> SyntheticBundleAdjustment:
    """A vehicle with two cameras drives a figure of eight along a street; points lie in front of the cameras.

    Parameters
    ----------
    num_cameras, num_points : int
        At least 4 and 40.
    seed : int
        The same arguments give the same arrays, bit for bit.
    num_observations : int, optional
        Exactly so many. By default as many as come from the track lengths, about 4.2 a point.
    exponent : float
        α of the track lengths.
    max_track : int
        Longest track drawn. For a wanted number of observations tracks may become longer, as long as neighbouring
        cameras go, and where that is not enough or too much, α changes until the mean length fits.
    laps : int
        Times the vehicle passes each place; a loop shorter than 32 length units is driven in part only.
    pixel_noise : float
        Standard deviation, pixels.
    outliers : float
        Fraction of observations replaced by a random pixel.
    perturbation : float
        How far off the start is; 0 starts at the truth, 1 about 10 pixels (root mean square) off.

    Returns
    -------
    SyntheticBundleAdjustment

    Raises
    ------
    ProblemError
        If the counts are too small or do not go together, or a fraction lies outside [0, 1].

    Examples
    --------
    >>> scene = street(num_cameras=20, num_points=500, seed=1)
    >>> scene.data.cameras.shape, scene.data.points.shape
    ((20, 9), (500, 3))
    >>> bool((np.bincount(scene.data.point_index) >= 2).all())
    True
    """
    check_counts("street", num_cameras, num_points, num_observations)
    if not 0.0 <= outliers <= 1.0 or laps < 1 or max_track < 2:
        raise ProblemError(f"street: outliers={outliers}, laps={laps}, max_track={max_track}; expected 0 … 1, ≥ 1, ≥ 2")
    rng = np.random.default_rng(seed)
    cameras, centres = _drive(rng, num_cameras, laps)
    neighbours = cKDTree(centres).query(centres, k=min(_CANDIDATES, num_cameras))[1]
    wanted = _wanted(rng, num_points, num_observations, exponent, max_track, neighbours.shape[1])
    points, anchor, camera_index, point_index = _draw_tracks(rng, cameras, neighbours, wanted)
    least = least_per_camera(num_cameras, num_points, num_observations)
    camera_index, point_index = _complete(cameras, points, camera_index, point_index, least)
    if num_observations is not None:
        scene = (cameras, points, anchor, neighbours)
        camera_index, point_index = _settle(rng, *scene, camera_index, point_index, num_observations, least)
    half_image = np.array([_HALF_WIDTH, _HALF_HEIGHT])
    pixels, outlier = measure(rng, cameras, points, camera_index, point_index, half_image, pixel_noise, outliers)
    start = perturb(rng, cameras, points, anchor, _bounded_walk(rng, num_cameras, 6) * _DRIFT, _NOISE, perturbation)
    data = BundleAdjustmentData(*start, camera_index, point_index, pixels)
    return SyntheticBundleAdjustment(data, cameras, points, outlier)


# -- the drive ---------------------------------------------------------------------------------------------------------


def _drive(rng: np.random.Generator, num_cameras: int, laps: int) -> tuple[Array, Array]:
    """Cameras (num_cameras, 9) and their centres: at each station one looks ahead and one to the left."""
    num_stations = -(-num_cameras // 2)
    per_lap = -(-num_stations // laps)
    station = np.arange(num_cameras) // 2
    loop = max(_MIN_LOOP, per_lap * _SPACING)
    where = (station % per_lap) * _SPACING + rng.normal(0.0, 0.1 * _SPACING, num_stations)[station]
    position, heading = _figure_of_eight(where, loop)
    lane = 0.1 * (station // per_lap) + rng.normal(0.0, 0.02, num_stations)[station]
    left = np.column_stack([-np.sin(heading), np.zeros(num_cameras), -np.cos(heading)])
    height = rng.normal(0.0, 0.02, num_cameras)
    centres = np.column_stack([position[:, 0], height, -position[:, 1]]) + lane[:, None] * left
    looking = heading + np.where(np.arange(num_cameras) % 2 == 0, 0.0, np.deg2rad(70.0))
    attitude = rng.normal(0.0, 0.01, (num_cameras, 3))
    # World: y up. Turning by φ about y takes the camera's axes x right, y up, −z ahead to a heading φ − 90° from −z.
    turn = Rotation.from_rotvec(np.column_stack([0 * looking, looking - np.pi / 2, 0 * looking]))
    world_from_camera = turn * Rotation.from_rotvec(attitude)
    camera_from_world = world_from_camera.inv()
    cameras = np.empty((num_cameras, 9))
    cameras[:, 0:3] = camera_from_world.as_rotvec()
    cameras[:, 3:6] = -camera_from_world.apply(centres)
    cameras[:, 6] = rng.normal(403.0, 3.0, num_cameras)
    cameras[:, 7] = rng.normal(-2.2e-7, 2e-7, num_cameras)
    cameras[:, 8] = rng.normal(1.4e-13, 2e-13, num_cameras)
    return cameras, centres


def _figure_of_eight(where: Array, loop: float) -> tuple[Array, Array]:
    """Positions ``(n, 2)`` and headings on Gerono's lemniscate (sin t, sin t cos t), by arc length."""
    t = np.linspace(0.0, 2.0 * np.pi, 4097)
    curve = np.column_stack([np.sin(t), np.sin(t) * np.cos(t)])
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(curve, axis=0).T))])
    scale = loop / arc[-1]
    at = np.interp(where / scale % arc[-1], arc, t)
    position = scale * np.column_stack([np.sin(at), np.sin(at) * np.cos(at)])
    return position, np.arctan2(np.cos(2.0 * at), np.cos(at))


# -- points and tracks -------------------------------------------------------------------------------------------------


def _wanted(
    rng: np.random.Generator,
    num_points: int,
    num_observations: int | None,
    exponent: float,
    max_track: int,
    num_candidates: int,
) -> Lengths:
    """The track length wanted for each point."""
    longest = max(2, num_candidates // 2)  # more are hardly ever in view at once
    if num_observations is None:
        return draw_lengths(rng, num_points, exponent, min(max_track, longest))
    longest = max(longest, min(num_candidates - 1, _FEW))
    law = fit_law(num_observations / num_points, exponent, max_track, longest)
    return lengths_adding_up(rng, num_points, num_observations, *law)


def _draw_tracks(
    rng: np.random.Generator, cameras: Array, neighbours: npt.NDArray[np.intp], wanted: Lengths
) -> tuple[Array, IndexArray, IndexArray, IndexArray]:
    """Place points and choose who sees them: points, anchors, and the camera and point of each observation.

    Each point is placed in the image of one camera, its anchor, and seen by the anchor and ℓ − 1 others. It is placed
    anew until ℓ cameras have it in view; after some rounds two will do.
    """
    num_points = len(wanted)
    anchor = rng.permutation(np.arange(num_points, dtype=np.int32) % np.int32(len(cameras)))
    points = np.empty((num_points, 3))
    chosen_cameras, chosen_points = [], []
    pending = np.arange(num_points)
    for attempt in range(_MOST_ATTEMPTS):
        rejected = []
        for part in np.split(pending, range(_CHUNK, len(pending), _CHUNK)):
            points[part] = _place(rng, cameras[anchor[part]])
            candidates = neighbours[anchor[part]]
            view = _in_view(cameras, candidates, points[part]) & _apart(candidates, anchor[part, None])
            enough = view.sum(axis=1) >= np.where(attempt < _MOST_ATTEMPTS // 2, wanted[part], 2) - 1
            rejected.append(part[~enough])
            part, candidates, view = part[enough], candidates[enough], view[enough]
            rank = _order_of_choice(rng, candidates, anchor[part], view)
            rows, columns = np.nonzero(rank < wanted[part, None] - 1)
            chosen_cameras += [anchor[part], candidates[rows, columns]]
            chosen_points += [part, part[rows]]
        pending = np.concatenate(rejected)
        if not pending.size:
            break
    else:
        raise ProblemError(f"street: {len(pending)} points are in view of one camera only; ask for more cameras")
    return points, anchor, np.concatenate(chosen_cameras), np.concatenate(chosen_points)


def _place(rng: np.random.Generator, cameras: Array) -> Array:
    """One point in front of each camera; half of them nearer than 1.5, one in a hundred beyond 27."""
    depth = np.minimum(_SHALLOWEST * (1.0 - rng.random(len(cameras))) ** (-1.0 / 1.35), _DEEPEST)
    half_image = np.array([0.95 * _HALF_WIDTH, 0.7 * _HALF_HEIGHT]) / cameras[:, 6:7]
    ray = rng.uniform(-1.0, 1.0, (len(cameras), 2)) * half_image
    P = np.column_stack([depth[:, None] * ray, -depth])
    points: Array = Rotation.from_rotvec(-cameras[:, :3]).apply(P - cameras[:, 3:6])
    return points


def _in_view(cameras: Array, candidates: npt.NDArray[np.intp], points: Array) -> BoolArray:
    """Which of each point's candidate cameras have it in their image, near enough and not too near; (n, candidates)."""
    frame = np.dstack([Rotation.from_rotvec(cameras[:, :3]).as_matrix(), cameras[:, 3:6]])
    homogeneous = np.column_stack([points, np.ones(len(points))])
    P = np.einsum("pcij,pj->ipc", frame[candidates], homogeneous, optimize=False)
    depth = -P[2]
    reach = depth / cameras[:, 6][candidates]
    view: BoolArray = (depth > _NEAREST) & (depth < _DEEPEST)
    view &= np.abs(P[0]) < _HALF_WIDTH * reach
    view &= np.abs(P[1]) < _HALF_HEIGHT * reach
    return view


def _apart(cameras: npt.NDArray[Any], anchor: IndexArray) -> BoolArray:
    """Whether cameras stand elsewhere than the anchor: the station's other camera gives no baseline."""
    elsewhere: BoolArray = cameras // 2 != anchor // 2
    return elsewhere


def _order_of_choice(
    rng: np.random.Generator, candidates: npt.NDArray[np.intp], anchor: IndexArray, view: BoolArray
) -> npt.NDArray[np.intp]:
    """Rank of each candidate in a random order where near stations tend to come first; those without a view are last.

    Tracks are local, but a view is often missed in between, and a second lap may join at once.
    """
    gap = np.abs(candidates - anchor[:, None])
    score = (1.0 + np.minimum(gap, 40) / 4.0) ** 1.5 * rng.exponential(size=view.shape)
    score[~view] = np.inf
    rank = np.empty(view.shape, dtype=np.intp)
    np.put_along_axis(rank, np.argsort(score, axis=1), np.arange(view.shape[1])[None, :], axis=1)
    rank[~view] = view.shape[1]
    return rank


def _complete(
    cameras: Array, points: Array, camera_index: IndexArray, point_index: IndexArray, minimum: int
) -> tuple[IndexArray, IndexArray]:
    """Give cameras with few observations more of what they have in view, then sort by point and camera."""
    count = np.bincount(camera_index, minlength=len(cameras))
    for camera in np.flatnonzero(count < minimum):
        view = _in_view(cameras, np.full((len(points), 1), camera), points)[:, 0]
        view[point_index[camera_index == camera]] = False
        extra = np.flatnonzero(view)[: minimum - count[camera]]
        camera_index = np.concatenate([camera_index, np.full(len(extra), camera)])
        point_index = np.concatenate([point_index, extra])
    return _sorted(camera_index, point_index)


def _sorted(camera_index: IndexArray, point_index: IndexArray) -> tuple[IndexArray, IndexArray]:
    order = np.lexsort((camera_index, point_index))
    return camera_index[order].astype(np.int32), point_index[order].astype(np.int32)


def _settle(
    rng: np.random.Generator,
    cameras: Array,
    points: Array,
    anchor: IndexArray,
    neighbours: npt.NDArray[np.intp],
    camera_index: IndexArray,
    point_index: IndexArray,
    num_observations: int,
    least: int,
) -> tuple[IndexArray, IndexArray]:
    """Exactly the wanted number of observations: points that were seen too rarely are made up for by others."""
    num_cameras = len(cameras)
    while missing := max(num_observations - len(camera_index), 0):
        added_cameras, added_points = [], []
        taken = point_index.astype(np.int64) * num_cameras + camera_index  # ascending
        order = rng.permutation(len(points))
        for part in np.split(order, range(_CHUNK, len(order), _CHUNK)):
            candidates = neighbours[anchor[part]]
            key = part[:, None] * np.int64(num_cameras) + candidates
            found = np.minimum(np.searchsorted(taken, key), len(taken) - 1)
            view = _in_view(cameras, candidates, points[part]) & _apart(candidates, anchor[part, None])
            view &= taken[found] != key
            rows, columns = np.nonzero(_order_of_choice(rng, candidates, anchor[part], view) == 0)
            added_cameras.append(candidates[rows, columns][:missing])
            added_points.append(part[rows][:missing])
            missing -= len(added_points[-1])
            if not missing:
                break
        if not sum(map(len, added_points)):
            raise ProblemError(
                f"street: only {len(camera_index):,} of {num_observations:,} observations are in view of neighbouring "
                "cameras; ask for fewer observations or more cameras"
            )
        camera_index, point_index = _sorted(
            np.concatenate([camera_index, *added_cameras]), np.concatenate([point_index, *added_points])
        )
    excess = len(camera_index) - num_observations
    apart = _apart(camera_index, anchor[point_index])
    stays = trim(rng, camera_index, point_index, anchor, apart, excess, least)
    return camera_index[stays], point_index[stays]


# -- the start ---------------------------------------------------------------------------------------------------------


def _bounded_walk(rng: np.random.Generator, n: int, width: int) -> Array:
    """Random walks with a pull back to zero (correlated over about 100 steps), of unit variance."""
    keep = 0.99
    noise = rng.standard_normal((n, width))
    walk: Array = lfilter([np.sqrt(1.0 - keep**2)], [1.0, -keep], noise, axis=0)
    return np.clip(walk, -4.0, 4.0)
