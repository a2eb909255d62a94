"""Numbers that describe a problem file, from its arrays alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from sparselm.cli.files import ProblemFile
    from sparselm.io import BundleAdjustmentData, PoseGraph

Array = npt.NDArray[np.float64]

# A matrix counts as singular where its smallest eigenvalue is below this part of its largest.
_SINGULAR = 1e-12

# Matrices whose eigenvalues are computed at a time.
_MATRICES = 1 << 12


def file_statistics(file: ProblemFile) -> dict[str, Any]:
    """Sizes and how they are spread, as JSON can hold them."""
    from sparselm.io import PoseGraph

    data = file.data
    return _pose_graph(data) if isinstance(data, PoseGraph) else _bundle_adjustment(data)


def _bundle_adjustment(data: BundleAdjustmentData) -> dict[str, Any]:
    per_camera = np.bincount(data.camera_index, minlength=len(data.cameras))
    per_point = np.bincount(data.point_index, minlength=len(data.points))
    return {
        "num_cameras": len(data.cameras),
        "num_points": len(data.points),
        "num_observations": len(data.pixels),
        "observations_per_camera": _spread(per_camera),
        "observations_per_point": _spread(per_point),
        "num_cameras_without_observations": int((per_camera == 0).sum()),
        "num_points_seen_less_than_twice": int((per_point < 2).sum()),
    }


def _pose_graph(graph: PoseGraph) -> dict[str, Any]:
    gap = np.abs(graph.ids[graph.edges[:, 1]] - graph.ids[graph.edges[:, 0]])
    degree = np.bincount(graph.edges.ravel(), minlength=len(graph.ids))
    statistics: dict[str, Any] = {
        "group": f"SE({graph.world_dim})",
        "num_poses": len(graph.ids),
        "num_edges": len(graph.edges),
        "num_loop_closures": int((gap != 1).sum()),
        "edges_per_pose": _spread(degree),
        "num_poses_without_vertex": int((~graph.has_vertex).sum()),
        "num_poses_fixed": int(graph.fixed.sum()),
    }
    if graph.landmarks is not None:
        seen = np.bincount(graph.landmarks.edges[:, 1], minlength=len(graph.landmarks.ids))
        statistics |= {
            "num_landmarks": len(graph.landmarks.ids),
            "num_sightings": len(graph.landmarks.edges),
            "sightings_per_landmark": _spread(seen),
            "num_landmarks_without_vertex": int((~graph.landmarks.has_vertex).sum()),
            "num_landmarks_fixed": int(graph.landmarks.fixed.sum()),
        }
    return statistics


def num_components(file: ProblemFile) -> int:
    """Parts of the problem that no measurement connects."""
    from sparselm.io import PoseGraph

    if isinstance(file.data, PoseGraph):
        from sparselm.io.spanning_tree import connected_components

        return int(connected_components(file.data).max(initial=-1)) + 1
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components as label

    data, num_cameras = file.data, len(file.data.cameras)
    num_nodes = num_cameras + len(data.points)
    ends = (data.camera_index, data.point_index + np.int64(num_cameras))
    links = coo_array((np.ones(len(data.pixels), dtype=np.int8), ends), shape=(num_nodes, num_nodes))
    return int(label(links.tocsr(), directed=False)[0])


def information_statistics(information: Array) -> dict[str, Any]:
    """The range of the eigenvalues of information matrices ``(n, d, d)``, and how many matrices are singular."""
    smallest, largest, num_singular = np.inf, 0.0, 0
    for start in range(0, len(information), _MATRICES):
        values = np.linalg.eigvalsh(information[start : start + _MATRICES])
        singular = values[:, 0] <= _SINGULAR * values[:, -1]
        num_singular += int(singular.sum())
        smallest = min(smallest, float(values[~singular, 0].min(initial=np.inf)))
        largest = max(largest, float(values[:, -1].max(initial=0.0)))
    return {
        "smallest_eigenvalue": smallest,
        "largest_eigenvalue": largest,
        "num_singular": num_singular,
        "all_alike": bool((information == information[:1]).all()),
    }


def _spread(counts: npt.NDArray[np.int64]) -> dict[str, float]:
    if not len(counts):
        return {"min": 0, "median": 0.0, "mean": 0.0, "max": 0}
    return {
        "min": int(counts.min()),
        "median": float(np.median(counts)),
        "mean": float(counts.mean()),
        "max": int(counts.max()),
    }
