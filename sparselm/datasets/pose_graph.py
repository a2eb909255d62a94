"""Synthetic pose graphs: a body moves, measures each step, and recognises places where it was before.

Three shapes that the literature measures on: a walk along the streets of a grid in the plane (as "Manhattan" and
"M3500"), and surveys ring by ring of a sphere and of a torus in space (as "sphere2500" and "torus3D"). Every measured
relative pose is ``Z = X_i⁻¹ X_j Exp(η)`` with η ~ N(0, Ω⁻¹) in the tangent space, Ω being the information matrix that
the graph states: without outliers the cost at the optimum is near half the number of residuals less free variables.

References
----------
E. Olson, J. Leonard, S. Teller, "Fast iterative alignment of pose graphs with poor initial estimates", ICRA 2006 (the
walk on a grid).
M. Kaess, A. Ranganathan, F. Dellaert, "iSAM: Incremental smoothing and mapping", T-RO 24, 2008 (the sphere).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from sparselm.errors import ProblemError
from sparselm.io.pose_graph import PoseGraph

Array = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int32]
Start = Literal["odometry", "truth"]


def grid_se2(
    num_poses: int,
    seed: int = 0,
    *,
    closures: float = 0.5,
    information: npt.ArrayLike = (400.0, 400.0, 2500.0),
    outliers: float = 0.0,
    start: Start = "odometry",
) -> PoseGraph:
    """A walk in steps of 1 along the streets of a square city, with loop closures between neighbouring places.

    Parameters
    ----------
    num_poses : int
        At least 2. The city's side grows with its square root, so that streets are crossed about equally often.
    seed : int
        The same arguments give the same graph, bit for bit.
    closures : float
        Loop closures per pose, where the walk has as many: between poses at most 1 apart and 10 steps or more.
    information : (3,) or (3, 3) array_like
        Ω of (x, y, θ), or its diagonal.
    outliers : float
        Fraction of loop closures that measure another pose than they say.
    start : {"odometry", "truth"}
        What ``poses`` holds: the measured steps added up from the first pose on, or the truth.

    Returns
    -------
    PoseGraph
        In SE(2); nothing is held constant.

    Examples
    --------
    >>> graph = grid_se2(100, seed=0)
    >>> graph.poses.shape, graph.world_dim
    ((100, 3), 2)
    """
    _check_count("grid_se2", num_poses)
    rng = np.random.default_rng(seed)
    poses = _walk(rng, num_poses)
    pairs = cKDTree(poses[:, :2]).query_pairs(1.01, output_type="ndarray")
    pairs = pairs[np.abs(pairs[:, 1] - pairs[:, 0]) >= 10]
    wanted = min(round(closures * num_poses), len(pairs))
    pairs = np.sort(pairs[rng.choice(len(pairs), wanted, replace=False)], axis=1)
    edges = np.concatenate([_steps(num_poses), pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]])
    return _measure(rng, poses, edges, information, outliers, start)


def sphere_se3(
    num_rings: int = 50,
    poses_per_ring: int = 50,
    seed: int = 0,
    *,
    radius: float = 50.0,
    information: npt.ArrayLike = (25.0, 25.0, 25.0, 2500.0, 2500.0, 2500.0),
    outliers: float = 0.0,
    start: Start = "odometry",
) -> PoseGraph:
    """A survey of a sphere in one spiral; each pose also measures the one a ring above it.

    Parameters
    ----------
    num_rings, poses_per_ring : int
        The number of poses is their product; at least 1 and 3.
    seed : int
        The same arguments give the same graph, bit for bit.
    radius : float
        Of the sphere.
    information : (6,) or (6, 6) array_like
        Ω of (translation, rotation), or its diagonal.
    outliers : float
        Fraction of loop closures that measure another pose than they say.
    start : {"odometry", "truth"}
        What ``poses`` holds: the measured steps composed from the first pose on, or the truth.

    Returns
    -------
    PoseGraph
        In SE(3); nothing is held constant.

    Examples
    --------
    >>> graph = sphere_se3(10, 12, seed=0)
    >>> graph.poses.shape, len(graph.edges)
    ((120, 7), 227)
    """
    count = num_rings * poses_per_ring
    _check_count("sphere_se3", count, num_rings, poses_per_ring)
    turn = np.arange(count) / poses_per_ring
    latitude = np.pi * ((turn + 0.5) / (num_rings + 0.5) - 0.5)
    longitude = 2.0 * np.pi * turn
    outward = _spherical(latitude, longitude)
    poses = _survey(radius * outward, outward, longitude)
    closure = np.arange(count - poses_per_ring, dtype=np.int32)
    edges = np.concatenate([_steps(count), np.column_stack([closure, closure + poses_per_ring])])
    return _measure(np.random.default_rng(seed), poses, edges, information, outliers, start)


def torus_se3(
    num_rings: int = 50,
    poses_per_ring: int = 100,
    seed: int = 0,
    *,
    radius: float = 6.0,
    tube: float = 2.0,
    information: npt.ArrayLike = (400.0, 400.0, 400.0, 2500.0, 2500.0, 2500.0),
    outliers: float = 0.0,
    start: Start = "odometry",
) -> PoseGraph:
    """A survey of a torus in one spiral around its tube; it closes on itself in both directions.

    Parameters
    ----------
    num_rings, poses_per_ring : int
        Turns around the tube and poses in each; the number of poses is their product; at least 1 and 3.
    seed : int
        The same arguments give the same graph, bit for bit.
    radius, tube : float
        Of the circle in the middle of the tube, and of the tube.
    information : (6,) or (6, 6) array_like
        Ω of (translation, rotation), or its diagonal.
    outliers : float
        Fraction of loop closures that measure another pose than they say.
    start : {"odometry", "truth"}
        What ``poses`` holds: the measured steps composed from the first pose on, or the truth.

    Returns
    -------
    PoseGraph
        In SE(3); nothing is held constant.

    Examples
    --------
    >>> graph = torus_se3(10, 12, seed=0)
    >>> graph.poses.shape, len(graph.edges)
    ((120, 7), 239)
    """
    count = num_rings * poses_per_ring
    _check_count("torus_se3", count, num_rings, poses_per_ring)
    turn = np.arange(count) / poses_per_ring
    around_tube, around_axis = 2.0 * np.pi * turn, 2.0 * np.pi * turn / num_rings
    outward = _spherical(around_tube, around_axis)
    middle = radius * _spherical(0.0 * around_axis, around_axis)
    poses = _survey(middle + tube * outward, outward, around_axis)
    closure = np.arange(count, dtype=np.int32)
    edges = np.column_stack([closure, (closure + poses_per_ring) % count])
    return _measure(
        np.random.default_rng(seed), poses, np.concatenate([_steps(count), edges]), information, outliers, start
    )


# -- where the body goes -----------------------------------------------------------------------------------------------


def _walk(rng: np.random.Generator, num_poses: int) -> Array:
    """Steps of 1 on a grid, straight on mostly; walls reflect. The heading is that of the next step."""
    side = max(3, round(1.2 * np.sqrt(num_poses)))
    turns = rng.choice([0, 1, -1], size=num_poses, p=[0.7, 0.15, 0.15])
    heading = np.cumsum(turns) % 4
    step = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])[heading]
    free = np.concatenate([[[0, 0]], np.cumsum(step, axis=0)])
    place = side - np.abs(free % (2 * side) - side)  # a triangle wave: folded back between 0 and side
    step = np.diff(place, axis=0)
    return np.column_stack([place[:-1], np.arctan2(step[:, 1], step[:, 0])]).astype(np.float64)


def _spherical(latitude: Array, longitude: Array) -> Array:
    return np.column_stack(
        [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)]
    )


def _survey(position: Array, outward: Array, longitude: Array) -> Array:
    """Poses with x towards growing longitude and z outward."""
    east = np.column_stack([-np.sin(longitude), np.cos(longitude), np.zeros_like(longitude)])
    world_from_body = np.stack([east, np.cross(outward, east), outward], axis=2)
    return np.column_stack([position, Rotation.from_matrix(world_from_body).as_quat()])


def _steps(count: int) -> IndexArray:
    first = np.arange(count - 1, dtype=np.int32)
    return np.column_stack([first, first + np.int32(1)])


# -- what it measures --------------------------------------------------------------------------------------------------


def _measure(
    rng: np.random.Generator,
    poses: Array,
    edges: npt.NDArray[np.integer],
    information: npt.ArrayLike,
    outliers: float,
    start: Start,
) -> PoseGraph:
    """The graph of noisy relative poses; its first edges are the steps, the others loop closures."""
    if not 0.0 <= outliers <= 1.0 or start not in ("odometry", "truth"):
        raise ProblemError(f"outliers={outliers!r}, start={start!r}; expected 0 … 1, and 'odometry' or 'truth'")
    n, m = len(poses), len(edges)
    plane = poses.shape[1] == 3
    compose, between, exponential = (
        (_compose_se2, _between_se2, _exp_se2) if plane else (_compose_se3, _between_se3, _exp_se3)
    )
    omega = _information(information, 3 if plane else 6)
    # Ω = LLᵀ, so η = L⁻ᵀ ξ has the covariance Ω⁻¹
    noise = np.linalg.solve(np.linalg.cholesky(omega).T, rng.standard_normal((len(omega), m))).T
    seen = edges[:, 1].copy()
    wrong = (rng.random(m) < outliers) & (np.arange(m) >= n - 1)
    seen[wrong] = rng.integers(0, n, int(wrong.sum()))
    measured = compose(between(poses[edges[:, 0]], poses[seen]), exponential(noise))
    return PoseGraph(
        ids=np.arange(n),
        poses=poses if start == "truth" else _add_up(poses[0], measured[: n - 1]),
        has_vertex=np.ones(n, dtype=np.bool_),
        fixed=np.zeros(n, dtype=np.bool_),
        edges=edges.astype(np.int32),
        measured=measured,
        information=np.repeat(omega[None], m, axis=0),
    )


def _information(information: npt.ArrayLike, dim: int) -> Array:
    omega = np.array(information, dtype=np.float64)
    if omega.shape == (dim,):
        omega = np.diag(omega)
    if omega.shape != (dim, dim) or not np.allclose(omega, omega.T) or not (np.linalg.eigvalsh(omega) > 0).all():
        raise ProblemError(f"information is {information!r}, expected ({dim},) or ({dim}, {dim}), positive definite")
    return omega


def _check_count(name: str, count: int, num_rings: int = 1, poses_per_ring: int = 3) -> None:
    if count < 2 or num_rings < 1 or poses_per_ring < 3:
        raise ProblemError(
            f"{name}: too few poses; expected at least 2, in at least 1 ring of at least 3 where it has rings"
        )


def _add_up(first: Array, steps: Array) -> Array:
    """Poses X_0 = first, X_{k+1} = X_k Z_k, without a loop over k."""
    if len(first) == 3:
        heading = np.concatenate([[first[2]], first[2] + np.cumsum(steps[:, 2])])
        moved = _turn(heading[:-1], steps[:, :2])
        position = np.concatenate([[first[:2]], first[:2] + np.cumsum(moved, axis=0)])
        return np.column_stack([position, _wrap(heading)])
    rotation = np.concatenate([[first[3:]], steps[:, 3:]])
    shift = 1
    while shift < len(rotation):  # after each round, row k holds the product of its last 2·shift factors
        rotation[shift:] = _multiply(rotation[:-shift], rotation[shift:])
        rotation /= np.linalg.norm(rotation, axis=1, keepdims=True)
        shift *= 2
    position = np.cumsum(np.concatenate([[first[:3]], _rotate(rotation[:-1], steps[:, :3])]), axis=0)
    return np.column_stack([position, rotation])


# -- SE(2) -------------------------------------------------------------------------------------------------------------


def _wrap(angle: Array) -> Array:
    """Into (−π, π]."""
    wrapped: Array = np.pi - (np.pi - angle) % (2.0 * np.pi)
    return wrapped


def _turn(angle: Array, v: Array) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.column_stack([c * v[:, 0] - s * v[:, 1], s * v[:, 0] + c * v[:, 1]])


def _compose_se2(x: Array, y: Array) -> Array:
    return np.column_stack([x[:, :2] + _turn(x[:, 2], y[:, :2]), _wrap(x[:, 2] + y[:, 2])])


def _between_se2(x: Array, y: Array) -> Array:
    return np.column_stack([_turn(-x[:, 2], y[:, :2] - x[:, :2]), _wrap(y[:, 2] - x[:, 2])])


def _exp_se2(d: Array) -> Array:
    """(V ρ, θ) with V ρ = (sin θ / θ) ρ + ((1 − cos θ) / θ) ρ turned by 90°."""
    theta = d[:, 2]
    along = np.sinc(theta / np.pi)
    across = 0.5 * theta * np.sinc(theta / (2.0 * np.pi)) ** 2
    return np.column_stack([along * d[:, 0] - across * d[:, 1], across * d[:, 0] + along * d[:, 1], _wrap(theta)])


# -- SE(3) -------------------------------------------------------------------------------------------------------------


def _multiply(p: Array, q: Array) -> Array:
    """Quaternions (x, y, z, w)."""
    vector = p[:, 3:] * q[:, :3] + q[:, 3:] * p[:, :3] + np.cross(p[:, :3], q[:, :3])
    return np.column_stack([vector, p[:, 3] * q[:, 3] - np.sum(p[:, :3] * q[:, :3], axis=1)])


def _rotate(q: Array, v: Array) -> Array:
    twice = 2.0 * np.cross(q[:, :3], v)
    return v + q[:, 3:] * twice + np.cross(q[:, :3], twice)


def _compose_se3(x: Array, y: Array) -> Array:
    return np.column_stack([x[:, :3] + _rotate(x[:, 3:], y[:, :3]), _multiply(x[:, 3:], y[:, 3:])])


def _between_se3(x: Array, y: Array) -> Array:
    back = x[:, 3:] * (-1.0, -1.0, -1.0, 1.0)
    relative = _multiply(back, y[:, 3:])
    relative *= np.where(relative[:, 3:] < 0.0, -1.0, 1.0)  # of the two quaternions, the one with w ≥ 0
    return np.column_stack([_rotate(back, y[:, :3] - x[:, :3]), relative])


def _exp_se3(d: Array) -> Array:
    """(V ρ, exp ω) with V ρ = ρ + b ω×ρ + c ω×(ω×ρ), b = (1 − cos θ)/θ², c = (θ − sin θ)/θ³."""
    rho, omega = d[:, :3], d[:, 3:]
    theta = np.linalg.norm(omega, axis=1, keepdims=True)
    b = 0.5 * np.sinc(theta / (2.0 * np.pi)) ** 2
    large = np.maximum(theta, 1e-2)
    c = np.where(theta > 1e-2, (large - np.sin(large)) / large**3, 1.0 / 6.0 - theta**2 / 120.0)
    across = np.cross(omega, rho)
    half = 0.5 * theta
    quaternion = np.column_stack([0.5 * np.sinc(half / np.pi) * omega, np.cos(half)])
    return np.column_stack([rho + b * across + c * np.cross(omega, across), quaternion])
