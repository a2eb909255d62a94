"""Points on the fronts of a city's landmarks, and which photographs show them.

A point is placed in one photograph, its anchor. Others that show it are sought for groups of points at a time, which come
from one patch of a front and from anchors near one another.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

from sparselm.datasets.bundle_adjustment.city import NUM_PANELS, Landmarks, Photographs, retake
from sparselm.datasets.bundle_adjustment.common import Array, BoolArray, IndexArray
from sparselm.datasets.bundle_adjustment.tracks import FEW_OBSERVATIONS, Lengths
from sparselm.errors import ProblemError

# A surface is recognised up to about 73° from its normal, within 300 metres, and not from nearer than half a metre.
_FACING = 0.3
_FARTHEST, _NEAREST = 300.0, 0.5
# Every ray to a point makes at least this angle (radians, 2°) with that of the photograph in which it was placed.
_PARALLAX = 0.035
# The distance at which photographs of a point become less likely, in parts of the distance to the point.
_NEARBY = 0.3

# Points that are treated together, the metres of surface from which they come, and the photographs looked at for them.
_TOGETHER = 512
_CELL = 4.0
_CANDIDATES = 256

# Points tried in each photograph to find out whether it overlaps with others, and how many of them others show at least.
_PROBES, _FEW_SHARED = 30, 3

_ROWS = 1 << 16
_MOST_ATTEMPTS = 40


class Scene(NamedTuple):
    """A city with what is looked up often.

    ``frames`` (num_cameras, 3, 4) are [R t]; ``half_tangent`` (num_cameras, 2) is up to which |p_x|, |p_y| a point is in
    the image; ``audience`` lists the photographs that may show each landmark.
    """

    landmarks: Landmarks
    photographs: Photographs
    frames: Array
    half_tangent: Array
    audience: list[npt.NDArray[np.intp]]


class Points(NamedTuple):
    """Points with the photograph in which each was placed, and the panel (landmark, number) on which it lies."""

    position: Array
    anchor: IndexArray
    panel: IndexArray


class Group(NamedTuple):
    """Points of one patch of surface, and the photographs, in order, among which others that show them are sought."""

    rows: npt.NDArray[np.intp]
    candidates: npt.NDArray[np.intp]


def prepare(landmarks: Landmarks, photographs: Photographs) -> Scene:
    """A scene, with the photographs near enough to each landmark and turned to it."""
    cameras = photographs.cameras
    frames = np.dstack([Rotation.from_rotvec(cameras[:, :3]).as_matrix(), cameras[:, 3:6]])
    half_tangent = photographs.half_image / cameras[:, 6:7]
    square = np.sum(half_tangent**2, axis=1)
    outwards = np.maximum(square * (cameras[:, 7] + cameras[:, 8] * square), 0.0) + 0.01
    half_tangent *= (1.0 - outwards)[:, None]  # so that distorted pixels are in the image, too
    audience = []
    for m in range(len(landmarks.size)):
        middle = landmarks.centre[m, 1] + (0.0, 0.5 * landmarks.height[m], 0.0)
        radius = np.hypot(1.2 * landmarks.size[m], 0.5 * landmarks.height[m])
        P = frames[:, :, :3] @ middle + frames[:, :, 3]
        audience.append(np.flatnonzero(_may_show(P, half_tangent, radius)))
    return Scene(landmarks, photographs, frames, half_tangent, audience)


def without_loners(rng: np.random.Generator, scene: Scene) -> Scene:
    """The scene with those photographs retaken that share hardly a point with others, or only within a few of their own."""
    n = len(scene.frames)
    anchor = np.repeat(np.arange(n, dtype=np.int32), _PROBES)
    position, panel = _place(rng, scene, anchor)
    points = Points(position, anchor, panel)
    shared = np.zeros(n, dtype=np.int64)
    pairs: list[npt.NDArray[np.int64]] = []
    counts: list[npt.NDArray[np.int64]] = []
    for group in _group(rng, scene, points, np.flatnonzero(panel >= 0)):
        view = in_view(scene, points, group)[0]
        rows, columns = np.nonzero(view)
        np.add.at(shared, anchor[group.rows[view.any(axis=1)]], 1)
        pair = anchor[group.rows[rows]] * np.int64(n) + group.candidates[columns]
        found, often = np.unique(pair, return_counts=True)
        pairs.append(found)
        counts.append(often)
    ends = np.divmod(np.concatenate(pairs), n)
    links = coo_array((np.concatenate(counts), ends), shape=(n, n)).tocsr()
    part = connected_components(links + links.T >= _FEW_SHARED, directed=False)[1]
    loners = np.flatnonzero((shared < _FEW_SHARED) | (part != np.bincount(part).argmax()))
    if not loners.size:
        return scene
    return prepare(scene.landmarks, retake(rng, scene.landmarks, scene.photographs, loners))


def _may_show(P: Array, half_tangent: Array, radius: float) -> BoolArray:
    """Whether part of a ball about P (in each camera's coordinates) may be in the image and near enough."""
    depth = np.maximum(-P[:, 2], 1e-9)
    near = np.linalg.norm(P, axis=1) < _FARTHEST + radius
    # The image's edge is a plane through the camera: its distance is less than the radius if the ball reaches in.
    beyond = (np.abs(P[:, :2]) - half_tangent * depth[:, None]) / np.sqrt(1.0 + half_tangent**2)
    seen: BoolArray = near & (P[:, 2] < radius) & (beyond < radius).all(axis=1)
    return seen


# -- points ------------------------------------------------------------------------------------------------------------


def draw_anchors(rng: np.random.Generator, scene: Scene, num_points: int) -> IndexArray:
    """The photograph in which each point is placed, in order: as popularity has it, and some in each."""
    popularity = scene.photographs.popularity
    n = len(popularity)
    sure = np.repeat(np.arange(n, dtype=np.int32), min(FEW_OBSERVATIONS, num_points // n))
    free = rng.choice(n, num_points - len(sure), p=popularity / popularity.sum()).astype(np.int32)
    anchor: IndexArray = np.sort(np.concatenate([sure, free]))
    return anchor


def place_points(rng: np.random.Generator, scene: Scene, anchor: IndexArray) -> tuple[Points, list[Group], Lengths]:
    """Points that two photographs at least show, in groups, and how many photographs may show each."""
    num_points = len(anchor)
    points = Points(np.empty((num_points, 3)), anchor, np.full(num_points, -1, dtype=np.int32))
    capacity = np.ones(num_points, dtype=np.int64)
    pending = np.arange(num_points)
    groups: list[Group] = []
    for attempt in range(_MOST_ATTEMPTS):
        for rows in np.split(pending, range(_ROWS, len(pending), _ROWS)):
            points.position[rows], points.panel[rows] = _place(rng, scene, points.anchor[rows])
        placed = pending[points.panel[pending] >= 0]
        for group in _group(rng, scene, points, placed):
            capacity[group.rows] = 1 + in_view(scene, points, group)[0].sum(axis=1)
            shown = group.rows[capacity[group.rows] > 1]
            if shown.size:
                groups.append(Group(shown, group.candidates))
        pending = pending[capacity[pending] < 2]
        if not pending.size:
            return points, groups, capacity
        if attempt >= _MOST_ATTEMPTS // 2:  # photographs of what no other shows: let others place their points
            happy = points.anchor[capacity > 1]
            if happy.size:
                points.anchor[pending] = rng.choice(happy, len(pending))
    raise ProblemError(f"photos: {len(pending)} points are in view of one camera only; ask for more cameras")


def _place(rng: np.random.Generator, scene: Scene, anchor: IndexArray) -> tuple[Array, IndexArray]:
    """A point of a landmark's surface in each photograph, and its panel; −1 where the ray missed."""
    landmarks, photographs = scene.landmarks, scene.photographs
    n = len(anchor)
    landmark = photographs.landmark[anchor, rng.integers(2, size=n)]
    frame, half, centre = scene.frames[anchor], scene.half_tangent[anchor], photographs.centres[anchor]
    middle = landmarks.centre[landmark, 1].copy()
    middle[:, 1] = 0.5 * landmarks.height[landmark]
    P = np.einsum("nij,nj->ni", frame[:, :, :3], middle) + frame[:, :, 3]
    depth = np.maximum(-P[:, 2:], 1.0)
    reach = np.column_stack([1.2 * landmarks.size[landmark], 0.6 * landmarks.height[landmark]]) / depth
    low = np.clip(P[:, :2] / depth - reach, -half, 0.9 * half)
    high = np.clip(P[:, :2] / depth + reach, low + 0.01 * half, half)
    ray = np.column_stack([rng.uniform(low, high), np.full(n, -1.0)])
    direction = np.einsum("nji,nj->ni", frame[:, :, :3], ray)
    # Where the ray meets the planes of the panels; of those met within their rectangle and not too obliquely, the nearest.
    normal, foot = landmarks.normal[landmark], landmarks.centre[landmark]
    slope = -np.einsum("ni,npi->np", direction, normal)
    height = np.einsum("npi,npi->np", centre[:, None] - foot, normal)
    slope = np.where(slope > 1e-9, slope, np.nan)
    along_ray = height / slope
    hit = centre[:, None] + along_ray[:, :, None] * direction[:, None]
    beside = np.einsum("npi,npi->np", hit - foot, landmarks.along[landmark])
    inside = (np.abs(beside) < landmarks.half_width[landmark]) & (along_ray > _NEAREST) & (hit[:, :, 1] > 0.0)
    inside &= hit[:, :, 1] < landmarks.height[landmark][:, None]
    inside &= slope > _FACING * np.linalg.norm(direction, axis=1, keepdims=True)
    along_ray[~inside] = np.inf
    panel = np.argmin(along_ray, axis=1)
    nearest = along_ray[np.arange(n), panel]
    missed = ~np.isfinite(nearest)
    # Sills and cornices: a hundredth of the distance off the plane, at the same pixel.
    nearest[missed] = 1.0
    position = centre + (nearest * (1.0 + 0.01 * np.clip(rng.standard_normal(n), -3.0, 3.0)))[:, None] * direction
    return position, np.where(missed, -1, NUM_PANELS * landmark + panel).astype(np.int32)


def _group(rng: np.random.Generator, scene: Scene, points: Points, rows: npt.NDArray[np.intp]) -> list[Group]:
    """Points that lie within four metres on one panel, placed from near viewpoints, and photographs of that patch."""
    landmarks = scene.landmarks
    landmark, number = np.divmod(points.panel[rows], NUM_PANELS)
    offset = points.position[rows] - landmarks.centre[landmark, number]
    beside = np.einsum("ni,ni->n", offset, landmarks.along[landmark, number])
    across, upwards = (np.floor(v / _CELL).astype(np.int64) for v in (beside, offset[:, 1]))
    cell = (points.panel[rows].astype(np.int64) << 24) + ((across + 2048) << 12) + upwards + 2048
    order = np.lexsort((scene.photographs.viewpoint[points.anchor[rows]], cell))
    changes = np.flatnonzero(np.diff(cell[order])) + 1
    groups = []
    for patch in np.split(rows[order], changes):
        for part in np.split(patch, range(_TOGETHER, len(patch), _TOGETHER)):
            if part.size:
                groups.append(Group(part, _candidates(rng, scene, points, part)))
    return groups


def _candidates(
    rng: np.random.Generator, scene: Scene, points: Points, rows: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """Photographs that may show some of the points, at most 256: rather popular ones, and near those that placed them."""
    landmark, number = divmod(int(points.panel[rows[0]]), NUM_PANELS)
    audience = scene.audience[landmark]
    position = points.position[rows]
    middle = position.mean(axis=0)
    radius = float(np.linalg.norm(position - middle, axis=1).max())
    frames, centres = scene.frames[audience], scene.photographs.centres[audience]
    sees = _may_show(frames[:, :, :3] @ middle + frames[:, :, 3], scene.half_tangent[audience], radius)
    sees &= (centres - middle) @ scene.landmarks.normal[landmark, number] > -radius
    found = audience[sees]
    if len(found) > _CANDIDATES:
        origin = scene.photographs.centres[points.anchor[rows]].mean(axis=0)
        weight = _attraction(np.sum((centres[sees] - origin) ** 2, axis=1), np.sum((origin - middle) ** 2))
        keys = rng.standard_exponential(len(found)) / (scene.photographs.popularity[found] * weight)
        found = np.sort(found[np.argpartition(keys, _CANDIDATES)[:_CANDIDATES]])
    return found


def _attraction(baseline_square: Array, distance_square: Array | float) -> Array:
    """How likely photographs of a point become with the distance from its anchor: 1, and a fourth at 0.3 of the depth."""
    attraction: Array = (1.0 + baseline_square / (_NEARBY**2 * distance_square)) ** -2
    return attraction


def in_view(scene: Scene, points: Points, group: Group) -> tuple[BoolArray, Array]:
    """Which candidates show which points of a group, and their attraction; both (points, candidates)."""
    photographs, candidates = scene.photographs, group.candidates
    X, anchor = points.position[group.rows], points.anchor[group.rows]
    centres, frames = photographs.centres[candidates], scene.frames[candidates]
    normal = scene.landmarks.normal.reshape(-1, 3)[points.panel[group.rows[0]]]
    homogeneous = np.column_stack([X, np.ones(len(X))])
    depth = -(homogeneous @ frames[:, 2].T)
    view = depth > _NEAREST
    for axis in (0, 1):
        view &= np.abs(homogeneous @ frames[:, axis].T) < depth * scene.half_tangent[candidates, axis]
    distance_square = _squares(X, centres)
    height = centres @ normal - (X @ normal)[:, None]
    view &= height > 0.0
    view &= height * height > _FACING**2 * distance_square
    view &= distance_square < _FARTHEST**2
    own_square = np.sum((X - photographs.centres[anchor]) ** 2, axis=1)[:, None]
    baseline_square = _squares(photographs.centres[anchor], centres)
    twice_dot = distance_square + own_square - baseline_square
    view &= (twice_dot < 0.0) | (twice_dot**2 < 4.0 * np.cos(_PARALLAX) ** 2 * own_square * distance_square)
    return view, _attraction(baseline_square, own_square)


def _squares(a: Array, b: Array) -> Array:
    """‖a_i − b_j‖², about a's mean, which keeps the difference of large numbers small."""
    origin = a.mean(axis=0)
    a, b = a - origin, b - origin
    squares: Array = np.sum(a * a, axis=1)[:, None] + np.sum(b * b, axis=1) - 2.0 * (a @ b.T)
    return squares
