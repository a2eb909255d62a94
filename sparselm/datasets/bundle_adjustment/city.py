"""A city of landmarks and the photographs that visitors took of them: where they stood, with which camera, at what.

A landmark is a front of three panels, the outer two turned away by 40°; visitors stand before it. Landmarks form a
tree: each but the first stands beside an earlier one and looks about the same way, and three wide photographs from far
before the two show both, which ties the reconstruction together (two at least, or the scale of one side would be free).

The world's y axis points up. Lengths are in metres, say.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from sparselm.datasets.bundle_adjustment.common import Array

Integers = npt.NDArray[np.int64]

NUM_PANELS = 3

_PHOTOGRAPHS_PER_LANDMARK = 40
_FEWEST_OF_A_LANDMARK = 6
_BRIDGES = 3
_PHOTOGRAPHS_PER_VIEWPOINT = 15
_PANEL_TURN = np.deg2rad(40.0)

# Long and short edge in pixels, and how common that is.
_FORMATS = np.array([[640, 480], [800, 600], [1024, 768], [1600, 1200], [2048, 1536], [2592, 1944], [3008, 2000]])
_FORMAT_SHARE = (0.12, 0.08, 0.3, 0.15, 0.15, 0.12, 0.08)
_UPRIGHT = 0.3


class Landmarks(NamedTuple):
    """Fronts of three panels: rectangles that stand on the ground.

    Attributes
    ----------
    parent : (n,) int64
        The earlier landmark beside which each stands; −1 for the first.
    front : (n, 3) float64
        Where the front looks, a horizontal unit vector.
    size, height : (n,) float64
        About half the width of the front, and its height.
    centre, normal, along : (n, 3, 3) float64
        Of each panel: the middle of its foot, outward normal, and horizontal direction.
    half_width : (n, 3) float64
        Of each panel.
    """

    parent: Integers
    front: Array
    size: Array
    height: Array
    centre: Array
    normal: Array
    along: Array
    half_width: Array


class Photographs(NamedTuple):
    """Who stood where.

    Attributes
    ----------
    cameras : (n, 9) float64
        In BAL's layout.
    centres : (n, 3) float64
    half_image : (n, 2) float64
        Half of the image's width and height, pixels.
    landmark : (n, 2) int64
        What is photographed; the second differs from the first where two landmarks are shown.
    viewpoint : (n,) int64
        Photographs of one viewpoint were taken from near one another.
    popularity : (n,) float64
        How readily features of the photograph are matched, a heavy tail; its mean is 1.
    """

    cameras: Array
    centres: Array
    half_image: Array
    landmark: Integers
    viewpoint: Integers
    popularity: Array


def build(rng: np.random.Generator, num_landmarks: int) -> Landmarks:
    """Place landmarks, each beside an earlier one, at least 55 from all others."""
    n = num_landmarks
    parent = np.full(n, -1)
    place, angle = np.zeros((n, 2)), np.zeros(n)
    size, height = rng.uniform(8.0, 16.0, n), rng.uniform(10.0, 25.0, n)
    for m in range(1, n):
        distance = np.zeros(1)
        while distance.min() < 55.0:
            parent[m] = rng.integers(m)
            angle[m] = angle[parent[m]] + np.clip(rng.normal(0.0, 0.25), -0.6, 0.6)
            side = 0.5 * (angle[m] + angle[parent[m]]) + rng.choice([-1.0, 1.0]) * np.deg2rad(rng.uniform(60.0, 120.0))
            place[m] = place[parent[m]] + rng.uniform(60.0, 100.0) * np.array([np.cos(side), np.sin(side)])
            distance = np.linalg.norm(place[:m] - place[m], axis=1)
    foot = np.column_stack([place[:, 0], np.zeros(n), place[:, 1]])
    normal = np.stack([_level(angle + turn) for turn in (-_PANEL_TURN, 0.0, _PANEL_TURN)], axis=1)
    along = np.stack([-normal[..., 2], 0.0 * normal[..., 1], normal[..., 0]], axis=-1)
    half_width = size[:, None] * (0.45, 0.6, 0.45)
    centre = np.repeat(foot[:, None], NUM_PANELS, axis=1)
    for outer, sign in ((0, -1.0), (2, 1.0)):  # from the corner of the middle panel outwards
        centre[:, outer] += sign * (half_width[:, 1, None] * along[:, 1] + half_width[:, outer, None] * along[:, outer])
    return Landmarks(parent, normal[:, 1], size, height, centre, normal, along, half_width)


def _level(angle: Array) -> Array:
    """Horizontal unit vectors."""
    return np.column_stack([np.cos(angle), np.zeros(len(angle)), np.sin(angle)])


def visit(rng: np.random.Generator, num_cameras: int) -> tuple[Landmarks, Photographs]:
    """A city of about a landmark for forty photographs, and its photographs in random order."""
    landmarks = build(rng, max(1, num_cameras // _PHOTOGRAPHS_PER_LANDMARK))
    bridged = np.repeat(np.arange(1, len(landmarks.parent)), _BRIDGES)
    shown = _shares(rng, num_cameras - len(bridged), len(landmarks.parent))
    centres, target, viewpoint = _stand_before(rng, landmarks, shown)
    far_centres, far_target = _stand_between(rng, landmarks, bridged)
    n, num_bridges = num_cameras, len(bridged)
    focal = np.clip(1.1 * np.exp(0.4 * rng.standard_normal(n)), 0.5, 3.0)  # in long edges of the image
    popularity = np.minimum(rng.pareto(1.6, n) + 0.25, 20.0)
    upright = rng.random(n) < _UPRIGHT
    bridge = np.arange(n) >= n - num_bridges
    upright[bridge] = False
    focal[bridge] = rng.uniform(0.5, 0.6, num_bridges)
    popularity[bridge] = np.maximum(popularity[bridge], rng.uniform(1.0, 5.0, num_bridges))
    formats = _FORMATS[rng.choice(len(_FORMATS), n, p=_FORMAT_SHARE)].astype(np.float64)
    half_image = 0.5 * np.where(upright[:, None], formats[:, ::-1], formats)
    centres, target = np.concatenate([centres, far_centres]), np.concatenate([target, far_target])
    cameras = np.empty((n, 9))
    camera_from_world = _look(rng, centres, target).inv()
    cameras[:, 0:3] = camera_from_world.as_rotvec()
    cameras[:, 3:6] = -camera_from_world.apply(centres)
    cameras[:, 6] = focal * formats[:, 0]
    # A lens moves the corner of the image by some percent, whatever its focal length.
    corner = np.linalg.norm(half_image, axis=1) / cameras[:, 6]
    cameras[:, 7] = np.clip(rng.normal(-0.03, 0.03, n), -0.12, 0.06) / corner**2
    cameras[:, 8] = np.clip(rng.normal(0.0, 0.005, n), -0.01, 0.01) / corner**4
    own = np.concatenate([shown, landmarks.parent[bridged]])
    landmark = np.column_stack([own, np.concatenate([shown, bridged])])
    far_viewpoint = bridged + (viewpoint.max() + 1)
    everything = Photographs(
        cameras,
        centres,
        half_image,
        landmark,
        np.concatenate([viewpoint, far_viewpoint]),
        popularity / popularity.mean(),
    )
    order = rng.permutation(n)
    return landmarks, Photographs._make(array[order] for array in everything)


def retake(
    rng: np.random.Generator, landmarks: Landmarks, photographs: Photographs, which: npt.NDArray[np.intp]
) -> Photographs:
    """Some photographs taken anew from the same places, with the widest lens, of the whole landmark."""
    cameras, centres = photographs.cameras.copy(), photographs.centres[which]
    middle = landmarks.centre[photographs.landmark[which, 0], 1].copy()
    middle[:, 1] = 0.5 * landmarks.height[photographs.landmark[which, 0]]
    camera_from_world = _look(rng, centres, middle).inv()
    cameras[which, 0:3] = camera_from_world.as_rotvec()
    cameras[which, 3:6] = -camera_from_world.apply(centres)
    wider = photographs.half_image[which].max(axis=1) / cameras[which, 6]
    cameras[which, 6:] *= np.column_stack([wider, wider**2, wider**4])  # corners are distorted as much as before
    return photographs._replace(cameras=cameras)


def _shares(rng: np.random.Generator, num_photographs: int, num_landmarks: int) -> Integers:
    """The landmark of each photograph: Zipf's law with exponent 0.8, and at least six (or all) of each."""
    sure = np.repeat(np.arange(num_landmarks), min(_FEWEST_OF_A_LANDMARK, num_photographs // num_landmarks))
    share = np.arange(1.0, num_landmarks + 1) ** -0.8
    free = rng.choice(num_landmarks, num_photographs - len(sure), p=share / share.sum())
    return np.concatenate([sure, free])


def _stand_before(rng: np.random.Generator, landmarks: Landmarks, shown: Integers) -> tuple[Array, Array, Integers]:
    """Where photographers stand, what they aim at, and their viewpoints: clusters of unequal size before a landmark."""
    num_landmarks, n = len(landmarks.size), len(shown)
    num_viewpoints = 1 + np.bincount(shown, minlength=num_landmarks) // _PHOTOGRAPHS_PER_VIEWPOINT
    first = np.concatenate([[0], np.cumsum(num_viewpoints)])
    total = first[-1]
    own = np.repeat(np.arange(num_landmarks), num_viewpoints)
    angle = np.clip(rng.normal(0.0, np.deg2rad(28.0), total), -1.0, 1.0)
    distance = landmarks.size[own] * (1.2 + np.exp(rng.normal(-0.2, 0.6, total)).clip(0.1, 4.0))
    # Squared uniform deviates: the k-th of K viewpoints is taken with probability ∝ about 1/√k.
    viewpoint = first[shown] + (num_viewpoints[shown] * rng.random(n) ** 2).astype(np.int64)
    spread = 0.12 * distance[viewpoint]
    ahead, aside = landmarks.front[shown], landmarks.along[shown, 1]
    out = distance[viewpoint] * np.cos(angle[viewpoint]) + np.clip(
        spread * rng.standard_normal(n), -2 * spread, 2 * spread
    )
    out = np.maximum(out, 1.1 * landmarks.size[shown])
    off = distance[viewpoint] * np.sin(angle[viewpoint]) + spread * rng.standard_normal(n)
    centres = landmarks.centre[shown, 1] + out[:, None] * ahead + off[:, None] * aside
    centres[:, 1] = 1.7 + 3.0 * np.abs(rng.standard_normal(n))
    # Any panel that faces the photographer, the middle one more often.
    facing = np.einsum("npi,npi->np", landmarks.normal[shown], centres[:, None] - landmarks.centre[shown])
    facing /= np.linalg.norm(centres[:, None] - landmarks.centre[shown], axis=2)
    score = np.where(facing > 0.4, facing * (0.6, 1.0, 0.6), 0.0) + 1e-9
    panel = np.argmin(rng.exponential(size=score.shape) / score, axis=1)
    beside = 0.4 * landmarks.half_width[shown, panel] * np.clip(rng.standard_normal(n), -2.0, 2.0)
    target = landmarks.centre[shown, panel] + beside[:, None] * landmarks.along[shown, panel]
    target[:, 1] = landmarks.height[shown] * rng.uniform(0.2, 0.7, n)
    return centres, target, viewpoint


def _stand_between(rng: np.random.Generator, landmarks: Landmarks, bridged: Integers) -> tuple[Array, Array]:
    """Where the photographers of a landmark and its parent stand, far before the two, and what they aim at."""
    n = len(bridged)
    one, other = landmarks.centre[landmarks.parent[bridged], 1], landmarks.centre[bridged, 1]
    gap = np.linalg.norm(other - one, axis=1, keepdims=True)
    ahead = landmarks.front[landmarks.parent[bridged]] + landmarks.front[bridged]
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    target = 0.5 * (one + other) + rng.normal(0.0, 2.0, (n, 3))
    target[:, 1] = rng.uniform(4.0, 8.0, n)
    aside = np.column_stack([-ahead[:, 2], np.zeros(n), ahead[:, 0]])
    centres = 0.5 * (one + other) + gap * (
        rng.uniform(0.9, 1.4, (n, 1)) * ahead + rng.uniform(-0.2, 0.2, (n, 1)) * aside
    )
    centres[:, 1] = 1.7 + 3.0 * np.abs(rng.standard_normal(n))
    return centres, target


def _look(rng: np.random.Generator, centres: Array, target: Array) -> Rotation:
    """World-from-camera rotations of cameras that look at targets, level but for about 2°."""
    back = centres - target
    back /= np.linalg.norm(back, axis=1, keepdims=True)
    right = np.column_stack([back[:, 2], np.zeros(len(back)), -back[:, 0]])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    up = np.cross(back, right)
    level = Rotation.from_matrix(np.stack([right, up, back], axis=2))
    roll = np.zeros((len(back), 3))
    roll[:, 2] = np.deg2rad(2.0) * rng.standard_normal(len(back))
    return level * Rotation.from_rotvec(roll)
