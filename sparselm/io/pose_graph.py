"""A pose graph: poses of a moving body in the plane or in space, relative measurements between them, and landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparselm.errors import ProblemError

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
