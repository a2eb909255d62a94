"""A pose graph: poses of a moving body in the plane or in space, relative measurements between them, and landmarks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from sparselm.errors import ProblemError

if TYPE_CHECKING:
    from sparselm.losses.base import AbstractLoss
    from sparselm.problem import Problem
    from sparselm.residuals.base import AbstractResidual, UnboundResidual
    from sparselm.variables import Variables

Array = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int32]
IdArray = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Points fixed in the world, and where poses saw them.

    Attributes
    ----------
    ids : (num_landmarks,) int64
        As in the file, ascending.
    positions : (num_landmarks, 2 or 3) float64
        World coordinates.
    has_vertex : (num_landmarks,) bool
        Which positions came from the file; the others were placed where the first pose that saw them put them.
    fixed : (num_landmarks,) bool
        Which are held constant.
    edges : (num_edges, 2) int32
        Pose row and landmark row of each observation.
    measured : (num_edges, 2 or 3) float64
        The landmark in the coordinates of the body (body-from-world applied to the position).
    information : (num_edges, k, k) float64
        Positive semi-definite, k = 2 or 3.
    """

    ids: IdArray
    positions: Array
    has_vertex: Mask
    fixed: Mask
    edges: IndexArray
    measured: Array
    information: Array

    def __post_init__(self) -> None:
        n, m, k = len(self.ids), len(self.edges), np.shape(self.positions)[-1]
        if k not in (2, 3):
            raise ProblemError(f"landmarks: positions have {k} columns, expected 2 (plane) or 3 (space)")
        _convert(self, "landmarks", ids=(n,), positions=(n, k), has_vertex=(n,), fixed=(n,))
        _convert(self, "landmarks", edges=(m, 2), measured=(m, k), information=(m, k, k))


@dataclass(frozen=True, eq=False)
class PoseGraph:
    """Poses and relative measurements, all in SE(2) or all in SE(3).

    Poses are world-from-body: ``[x, y, θ]`` with θ in (−π, π], or ``[tx ty tz qx qy qz qw]`` with a unit quaternion.

    Attributes
    ----------
    ids : (num_poses,) int64
        As in the file, ascending.
    poses : (num_poses, 3 or 7) float64
        World-from-body.
    has_vertex : (num_poses,) bool
        Which poses came from the file; the others were composed along a spanning tree.
    fixed : (num_poses,) bool
        Which are held constant.
    edges : (num_edges, 2) int32
        Rows i and j of each measurement.
    measured : (num_edges, 3 or 7) float64
        Pose of body j in the coordinates of body i, ``X_i⁻¹ X_j`` where it is exact.
    information : (num_edges, d, d) float64
        Inverse covariance, positive semi-definite; d = 3 ``(x, y, θ)`` or 6 ``(translation, rotation)``.
    landmarks : Landmarks, optional
    """

    ids: IdArray
    poses: Array
    has_vertex: Mask
    fixed: Mask
    edges: IndexArray
    measured: Array
    information: Array
    landmarks: Landmarks | None = None

    def __post_init__(self) -> None:
        n, m, width = len(self.ids), len(self.edges), np.shape(self.poses)[-1]
        if width not in (3, 7):
            raise ProblemError(f"pose graph: poses have {width} columns, expected 3 for SE(2) or 7 for SE(3)")
        d = 3 if width == 3 else 6
        _convert(self, "pose graph", ids=(n,), poses=(n, width), has_vertex=(n,), fixed=(n,))
        _convert(self, "pose graph", edges=(m, 2), measured=(m, width), information=(m, d, d))
        if self.landmarks is not None and self.landmarks.positions.shape[1] != self.world_dim:
            raise ProblemError(
                f"pose graph: landmarks of dimension {self.landmarks.positions.shape[1]}, "
                f"expected {self.world_dim} as the poses"
            )

    @property
    def world_dim(self) -> int:
        """2 for SE(2), 3 for SE(3)."""
        return 2 if self.poses.shape[1] == 3 else 3


_DTYPES: dict[str, type[np.generic]] = {
    "ids": np.int64,
    "has_vertex": np.bool_,
    "fixed": np.bool_,
    "edges": np.int32,
}


def _convert(owner: object, what: str, **shapes: tuple[int, ...]) -> None:
    for name, shape in shapes.items():
        array = np.ascontiguousarray(getattr(owner, name), dtype=_DTYPES.get(name, np.float64))
        if array.shape != shape:
            raise ProblemError(f"{what}: {name} has shape {array.shape}, expected {shape}")
        object.__setattr__(owner, name, array)


def check_graph(graph: PoseGraph) -> None:
    """Raise ProblemError unless ids ascend, indices are in range and numbers are finite."""
    _check_values("pose graph", graph)
    _check_edges("pose graph", graph.edges, (len(graph.ids), len(graph.ids)))
    if graph.landmarks is not None:
        _check_values("landmarks", graph.landmarks)
        _check_edges("landmarks", graph.landmarks.edges, (len(graph.ids), len(graph.landmarks.ids)))
        if len(np.intersect1d(graph.ids, graph.landmarks.ids)):
            raise ProblemError("pose graph: a pose and a landmark have the same id; ids must differ")


def _check_values(what: str, owner: PoseGraph | Landmarks) -> None:
    if (owner.ids[1:] <= owner.ids[:-1]).any():
        raise ProblemError(f"{what}: ids must ascend without repetition; sort them")
    values = owner.poses if isinstance(owner, PoseGraph) else owner.positions
    arrays = {"poses or positions": values, "measured": owner.measured, "information": owner.information}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0, 0])
            raise ProblemError(f"{what}: {name} in row {row} are not finite; correct or remove them")


def _check_edges(what: str, edges: IndexArray, counts: tuple[int, int]) -> None:
    wrong = ((edges < 0) | (edges >= counts)).any(axis=1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ProblemError(f"{what}: edge {row} joins rows {edges[row].tolist()}, expected rows below {counts}")


def with_poses(graph: PoseGraph, poses: Array, positions: Array | None = None) -> PoseGraph:
    """The same measurements with other (optimised) poses, and landmark positions if they are given."""
    if np.shape(poses) != graph.poses.shape:
        raise ProblemError(f"with_poses: poses have shape {np.shape(poses)}, expected {graph.poses.shape}")
    landmarks = graph.landmarks
    if positions is not None:
        if landmarks is None or np.shape(positions) != landmarks.positions.shape:
            expected = "none, for there are no landmarks" if landmarks is None else landmarks.positions.shape
            raise ProblemError(f"with_poses: positions have shape {np.shape(positions)}, expected {expected}")
        landmarks = replace(landmarks, positions=positions, has_vertex=np.ones(len(landmarks.ids), dtype=np.bool_))
    return replace(graph, poses=poses, has_vertex=np.ones(len(graph.ids), dtype=np.bool_), landmarks=landmarks)


def to_problem(
    graph: PoseGraph,
    residual_class: type[AbstractResidual] | UnboundResidual | None = None,
    start: Literal["file", "spanning-tree"] = "file",
    loss: AbstractLoss | None = None,
) -> tuple[Problem, list[str]]:
    """The least squares problem of moving poses until they agree with the measurements.

    Parameters
    ----------
    graph : PoseGraph
    residual_class : subclass of AbstractResidual, or residual function, optional
        Of two poses and a measured one; a class is built by its ``for_operands``. By default
        :class:`sparselm.residuals.between.Between`.
    start : {"file", "spanning-tree"}
        Poses to start from: the graph's own, or those composed along a spanning tree from the poses held constant.
    loss : AbstractLoss, optional
        Of the measurements between poses; landmark sightings have none.

    Returns
    -------
    problem : Problem
        With variables "pose" and, where there are any, "landmark", and residual groups "between" and "landmark".
    notes : list of str
        What was decided here: in each connected component without a pose held constant, the pose with the lowest id is,
        since nothing else determines where the component is; landmarks that nobody sees are held too.
    """
    from sparselm.io.spanning_tree import first_seen_positions, spanning_tree_poses
    from sparselm.manifolds.se2 import SE2
    from sparselm.manifolds.se3 import SE3
    from sparselm.problem import Problem

    if start not in ("file", "spanning-tree"):
        raise ProblemError(f"start is {start!r}, expected 'file' or 'spanning-tree'")
    if residual_class is None:
        from sparselm.residuals.between import Between

        residual_class = Between
    check_graph(graph)
    manifold = SE2() if graph.world_dim == 2 else SE3()
    tree = start == "spanning-tree"
    values = spanning_tree_poses(graph, known=graph.fixed) if tree else graph.poses
    problem = Problem()
    poses = problem.add_variables("pose", values, manifold=manifold)
    held, notes = _held_poses(graph)
    poses.fix(held)
    if len(graph.edges):
        problem.add_residuals(
            residual_class.for_operands((manifold, manifold)),
            poses[graph.edges[:, 0]],
            poses[graph.edges[:, 1]],
            data=graph.measured,
            information=graph.information,
            loss=loss,
            name="between",
        )
    if graph.landmarks is not None:
        seen = first_seen_positions(values, graph.landmarks)
        keep = graph.landmarks.fixed[:, None] | np.isnan(seen) | (not tree)
        notes += _add_landmarks(problem, poses, graph.landmarks, np.where(keep, graph.landmarks.positions, seen))
    return problem, notes


def _held_poses(graph: PoseGraph) -> tuple[Mask, list[str]]:
    """Poses to hold constant: those of the file, and the lowest id of each component that has none of them."""
    from sparselm.io.spanning_tree import connected_components

    component = connected_components(graph)
    _, lowest = np.unique(component, return_index=True)
    anchored = np.zeros(len(lowest), dtype=np.bool_)
    anchored[component[graph.fixed]] = True
    added = lowest[~anchored]
    held = graph.fixed.copy()
    held[added] = True
    if not len(added):
        return held, []
    named = ", ".join(map(str, graph.ids[added[:5]].tolist()))
    more = f" and {len(added) - 5} more" if len(added) > 5 else ""
    one = len(lowest) == 1
    why = "nothing else fixes the frame" if one else "the lowest id of each component that nothing else fixes"
    return held, [f"held constant: pose{'s' if len(added) > 1 else ''} {named}{more} ({why})"]


def _add_landmarks(problem: Problem, poses: Variables, landmarks: Landmarks, positions: Array) -> list[str]:
    from sparselm.residuals.landmark import Landmark

    points = problem.add_variables("landmark", positions)
    unseen = np.bincount(landmarks.edges[:, 1], minlength=len(landmarks.ids)) == 0
    points.fix(landmarks.fixed | unseen)
    if len(landmarks.edges):
        problem.add_residuals(
            Landmark.for_operands((poses.manifold, points.manifold)),
            poses[landmarks.edges[:, 0]],
            points[landmarks.edges[:, 1]],
            data=landmarks.measured,
            information=landmarks.information,
            name="landmark",
        )
    count = int((unseen & ~landmarks.fixed).sum())
    return [f"held constant: {count} landmarks that no pose sees"] if count else []
