"""Synthetic bundle adjustment with the statistics of community photographs, as in "Venice" and "Final".

What is imitated, because it decides how fast solvers are and what they must cope with:

* Photographs cluster: a few landmarks draw most visitors, who stand at a few viewpoints before each. Points lie on
  fronts and are seen from before these, most likely from near the first photograph; so cameras share points within a
  landmark, and a few wide photographs tie landmarks together.
* Popularity has a heavy tail: some photographs hold a hundred times the points of others, and some are hubs.
* Each photograph has a focal length (0.5 to 3 image widths), an image size and a distortion of its own.
* Track lengths follow a truncated power law, P(ℓ) ∝ ℓ^−α for ℓ ≥ 2.
* The start is off the way structure from motion is: landmarks and viewpoints were reconstructed apart and do not meet
  exactly; on top comes noise on every camera and point.

Points are numbered photograph by photograph, as if triangulated in this order. That one front hides another is not
modelled.

References
----------
S. Agarwal, N. Snavely, S. M. Seitz, R. Szeliski, "Bundle Adjustment in the Large", ECCV 2010 (the real problems).
"""

from __future__ import annotations

import numpy as np

from sparselm.datasets.bundle_adjustment.city import visit
from sparselm.datasets.bundle_adjustment.common import (
    Array,
    IndexArray,
    Noise,
    SyntheticBundleAdjustment,
    measure,
    perturb,
)
from sparselm.datasets.bundle_adjustment.sights import (
    Group,
    Points,
    Scene,
    draw_anchors,
    in_view,
    place_points,
    prepare,
    without_loners,
)
from sparselm.datasets.bundle_adjustment.tracks import (
    Lengths,
    add_up,
    assign_lengths,
    check_counts,
    check_determined,
    fit_law,
    least_per_camera,
    lengths_adding_up,
    trim,
)
from sparselm.errors import ProblemError
from sparselm.io.bal import BundleAdjustmentData
from sparselm.threads import serial_blas

# How far landmarks and, half as much on top, viewpoints have drifted (metres, radians).
_DRIFT = np.array([0.04, 0.04, 0.04, 0.002, 0.002, 0.002])


def photos(
    num_cameras: int,
    num_points: int,
    seed: int = 0,
    *,
    num_observations: int | None = None,
    exponent: float = 2.25,
    max_track: int = 60,
    pixel_noise: float = 0.5,
    outliers: float = 0.0,
    perturbation: float = 1.0,
) -> SyntheticBundleAdjustment:
    """Visitors photograph the landmarks of a city; points lie on fronts and are seen from before these.

    Parameters
    ----------
    num_cameras, num_points : int
        At least 4 and 40.
    seed : int
        The same arguments give the same arrays, bit for bit.
    num_observations : int, optional
        Exactly so many. By default as many as the track lengths come to, about 4.7 a point.
    exponent : float
        α of the track lengths.
    max_track : int
        Longest track drawn. For a wanted number of observations tracks may become longer, and where that is not enough
        or too much, α changes until the mean length fits.
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
    >>> scene = photos(num_cameras=16, num_points=500, num_observations=2000, seed=1)
    >>> scene.data.pixels.shape
    (2000, 2)
    """
    check_counts("photos", num_cameras, num_points, num_observations)
    if not 0.0 <= outliers <= 1.0 or max_track < 2:
        raise ProblemError(f"photos: outliers={outliers}, max_track={max_track}; expected 0 … 1, ≥ 2")
    rng = np.random.default_rng(seed)
    scene = prepare(*visit(rng, num_cameras))
    with serial_blas():  # thousands of small products, the same bits for any number of threads
        scene = without_loners(rng.spawn(1)[0], scene)
        points, groups, capacity = place_points(rng, scene, draw_anchors(rng, scene, num_points))
        lengths = _draw_lengths(rng, capacity, num_observations, exponent, max_track)
        check_determined("photos", num_cameras, num_points, int(lengths.sum()))
        camera_index = _choose(rng, scene, points, groups, lengths)
    point_index = np.repeat(np.arange(num_points, dtype=np.int32), lengths)
    least = least_per_camera(num_cameras, num_points, num_observations)
    if np.bincount(camera_index, minlength=num_cameras).min() < least:
        camera_index, point_index = _complete(rng, scene, points, camera_index, point_index, least)
    cameras, position = scene.photographs.cameras, points.position
    pixels, outlier = measure(
        rng, cameras, position, camera_index, point_index, scene.photographs.half_image, pixel_noise, outliers
    )
    start = perturb(rng, cameras, position, points.anchor, _drift(rng, scene), _noise(cameras), perturbation)
    data = BundleAdjustmentData(*start, camera_index, point_index, pixels)
    return SyntheticBundleAdjustment(data, cameras, position, outlier)


# -- tracks ------------------------------------------------------------------------------------------------------------


def _draw_lengths(
    rng: np.random.Generator, capacity: Lengths, num_observations: int | None, exponent: float, max_track: int
) -> Lengths:
    """A track length for each point, at most its capacity: the law's, as far as there are photographs."""
    num_points, longest = len(capacity), int(np.percentile(capacity, 99))
    if num_observations is None:
        law = (exponent, min(max_track, longest))
        support = np.arange(2, law[1] + 1)
        weight = support ** -float(exponent)
        total = round(num_points * float(support @ weight / weight.sum()))
    else:
        total = num_observations
        law = fit_law(total / num_points, exponent, max_track, longest)
    lengths = assign_lengths(rng, lengths_adding_up(rng, num_points, total, *law), capacity)
    lengths = add_up(rng, lengths, total, capacity)
    if num_observations is not None and lengths.sum() != num_observations:
        raise ProblemError(
            f"photos: only {int(capacity.sum()):,} of {num_observations:,} observations are in view; ask for fewer "
            "observations, or for more cameras"
        )
    return lengths


def _choose(
    rng: np.random.Generator, scene: Scene, points: Points, groups: list[Group], lengths: Lengths
) -> IndexArray:
    """The camera of each observation, by point and camera: the anchor, and ℓ − 1 of those that show the point."""
    stop = np.cumsum(lengths)
    camera_index = np.empty(stop[-1], dtype=np.int32)
    for group in groups:
        view, weight = in_view(scene, points, group)
        weight *= scene.photographs.popularity[group.candidates]
        keys = np.where(view, rng.standard_exponential(view.shape) / weight, np.inf)
        own = lengths[group.rows]
        first = np.argsort(keys, axis=1)[:, : own.max() - 1]
        rows, columns = np.nonzero(np.arange(first.shape[1]) < own[:, None] - 1)
        cameras = np.concatenate([group.candidates[first[rows, columns]], points.anchor[group.rows]])
        rows = np.concatenate([rows, np.arange(len(own))])
        order = np.lexsort((cameras, rows))
        place = np.arange(len(rows)) + np.repeat(stop[group.rows] - np.cumsum(own), own)
        camera_index[place] = cameras[order]
    return camera_index


def _complete(
    rng: np.random.Generator,
    scene: Scene,
    points: Points,
    camera_index: IndexArray,
    point_index: IndexArray,
    least: int,
) -> tuple[IndexArray, IndexArray]:
    """Give cameras with few observations more of what they show, at the expense of others: the count stays."""
    num_observations, num_cameras = len(camera_index), len(scene.frames)
    count = np.bincount(camera_index, minlength=num_cameras)
    by_panel = np.split(np.argsort(points.panel, kind="stable"), np.cumsum(np.bincount(points.panel))[:-1])
    more_cameras, more_points = [camera_index], [point_index]
    for camera in np.flatnonzero(count < least):
        candidate = np.array([camera])
        shown = [panel[in_view(scene, points, Group(panel, candidate))[0][:, 0]] for panel in by_panel if panel.size]
        extra = np.setdiff1d(np.concatenate(shown), point_index[camera_index == camera])
        extra = rng.permutation(extra)[: least - count[camera]]
        more_cameras.append(np.full(len(extra), camera, dtype=np.int32))
        more_points.append(extra.astype(np.int32))
    camera_index, point_index = np.concatenate(more_cameras), np.concatenate(more_points)
    order = np.lexsort((camera_index, point_index))
    camera_index, point_index = camera_index[order], point_index[order]
    elsewhere = camera_index != points.anchor[point_index]
    excess = len(camera_index) - num_observations
    stays = trim(rng, camera_index, point_index, points.anchor, elsewhere, excess, least)
    return camera_index[stays], point_index[stays]


# -- the start ---------------------------------------------------------------------------------------------------------


def _drift(rng: np.random.Generator, scene: Scene) -> Array:
    """How far each camera was carried along and how it was turned: with its landmark, and with its viewpoint."""
    landmark, viewpoint = scene.photographs.landmark[:, 0], scene.photographs.viewpoint
    own = np.clip(rng.standard_normal((landmark.max() + 1, 6)), -3.0, 3.0)[landmark]
    nearer = np.clip(rng.standard_normal((viewpoint.max() + 1, 6)), -3.0, 3.0)[viewpoint]
    return _DRIFT * (own + 0.5 * nearer)


def _noise(cameras: Array) -> Noise:
    """Rotations are off by two pixels: a long lens tells its direction more exactly."""
    return Noise(point=0.005, reach=10.0, rotation=2.0 / cameras[:, 6:7], centre=0.03, focal=0.005, distortion=0.1)
