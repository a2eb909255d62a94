"""Poses composed along a breadth-first spanning tree of a pose graph, and the graph's connected components.

Neighbours are visited by |Δid|: ids count time, so the tree prefers odometry, which is short and reliable, to loop
closures, which may be wrong.
"""

# numba types the kernels: annotations would be a second, unchecked truth.
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sparselm._jit import serial_kernel
from sparselm.io.pose_graph import Array, IndexArray, Landmarks, Mask, PoseGraph
from sparselm.kernels.se3 import se3_compose, se3_inverse
from sparselm.kernels.so3 import quat_normalize


def spanning_tree_poses(graph: PoseGraph, known: Mask | None = None) -> Array:
    """Poses that agree with the measurements of a breadth-first spanning tree.

    Parameters
    ----------
    graph : PoseGraph
        Its own poses matter only where they are kept.
    known : (num_poses,) bool, optional
        Poses to keep; the search starts from all of them at once. By default none. In a component without any, the pose
        with the lowest id is kept.

    Returns
    -------
    (num_poses, 3 or 7) float64
        World-from-body: along an edge (i, j) with measurement Z, ``X_j = X_i Z`` or ``X_i = X_j Z⁻¹``.
    """
    indptr, neighbours, edge_of = _adjacency(graph)
    known = np.zeros(len(graph.ids), dtype=np.bool_) if known is None else np.ascontiguousarray(known, dtype=np.bool_)
    order, parent_edge = _breadth_first(indptr, neighbours, edge_of, known)
    poses = graph.poses.copy()
    compose = _compose_se2 if graph.world_dim == 2 else _compose_se3
    compose(order, parent_edge, graph.edges, graph.measured, poses)
    return poses


def first_seen_positions(poses: Array, landmarks: Landmarks) -> Array:
    """World positions ``(num_landmarks, 2 or 3)`` by the first sighting of each landmark; NaN for unseen ones."""
    positions = np.full_like(landmarks.positions, np.nan)
    rows, first = np.unique(landmarks.edges[:, 1], return_index=True)
    pose, z = poses[landmarks.edges[first, 0]], landmarks.measured[first]
    if z.shape[1] == 2:
        c, s = np.cos(pose[:, 2]), np.sin(pose[:, 2])
        turned = np.column_stack([c * z[:, 0] - s * z[:, 1], s * z[:, 0] + c * z[:, 1]])
        positions[rows] = pose[:, :2] + turned
    else:
        twice = 2 * np.cross(pose[:, 3:6], z)
        positions[rows] = pose[:, :3] + z + pose[:, 6:] * twice + np.cross(pose[:, 3:6], twice)
    return positions


def connected_components(graph: PoseGraph) -> IndexArray:
    """The component ``(num_poses,)`` int32 of each pose, numbered from 0 by their lowest ids.

    Poses that see one landmark are connected, even where that leaves a turn about it undetermined.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components as label

    num_nodes, edges = len(graph.ids), graph.edges
    if graph.landmarks is not None:
        seen = graph.landmarks.edges + np.array([0, num_nodes], dtype=np.int32)
        edges = np.concatenate([edges, seen])
        num_nodes += len(graph.landmarks.ids)
    links = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(num_nodes, num_nodes))
    labels = label(links.tocsr(), directed=False)[1][: len(graph.ids)]
    # number the components by first appearance, whatever order they were found in
    _, first, component = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[component].astype(np.int32)


def _adjacency(graph: PoseGraph) -> tuple[npt.NDArray[np.int64], IndexArray, IndexArray]:
    """CSR lists of neighbours, each by |Δid|, then id, then the place of the edge in the file."""
    head = np.concatenate([graph.edges[:, 0], graph.edges[:, 1]])
    tail = np.concatenate([graph.edges[:, 1], graph.edges[:, 0]])
    edge_of = np.tile(np.arange(len(graph.edges), dtype=np.int32), 2)
    # Differences of int64 may need 64 bits and a sign: modulo 2⁶⁴ the larger minus the smaller is exact.
    near, far = graph.ids[np.minimum(head, tail)], graph.ids[np.maximum(head, tail)]
    gap = far.astype(np.uint64) - near.astype(np.uint64)
    order = np.lexsort((edge_of, tail, gap, head))
    indptr = np.zeros(len(graph.ids) + 1, dtype=np.int64)
    np.cumsum(np.bincount(head, minlength=len(graph.ids)), out=indptr[1:])
    return indptr, tail[order], edge_of[order]


@serial_kernel
def _breadth_first(indptr, neighbours, edge_of, known):
    """Order of the visits, and for each row the edge that led to it, −1 at the rows where the search started."""
    num_rows = known.shape[0]
    order = np.empty(num_rows, np.int32)
    parent_edge = np.full(num_rows, -1, np.int32)
    visited = known.copy()
    end = 0
    for row in range(num_rows):
        if known[row]:
            order[end] = row
            end += 1
    begin = 0
    for root in range(-1, num_rows):  # −1: first whatever the known rows reach
        if root >= 0:
            if visited[root]:
                continue
            visited[root] = True
            order[end] = root
            end += 1
        while begin < end:
            row = order[begin]
            begin += 1
            for entry in range(indptr[row], indptr[row + 1]):
                neighbour = neighbours[entry]
                if not visited[neighbour]:
                    visited[neighbour] = True
                    parent_edge[neighbour] = edge_of[entry]
                    order[end] = neighbour
                    end += 1
    return order, parent_edge


@serial_kernel
def _compose_se2(order, parent_edge, edges, measured, poses):
    for row in order:
        edge = parent_edge[row]
        if edge < 0:
            continue
        x, y, angle = measured[edge, 0], measured[edge, 1], measured[edge, 2]
        parent = edges[edge, 0]
        if parent == row:  # from j to i: by the inverse
            parent = edges[edge, 1]
            c, s = np.cos(angle), np.sin(angle)
            x, y, angle = -c * x - s * y, s * x - c * y, -angle
        c, s = np.cos(poses[parent, 2]), np.sin(poses[parent, 2])
        poses[row, 0] = poses[parent, 0] + c * x - s * y
        poses[row, 1] = poses[parent, 1] + s * x + c * y
        turned = poses[parent, 2] + angle
        if turned > np.pi:
            turned -= 2 * np.pi
        elif turned <= -np.pi:
            turned += 2 * np.pi
        poses[row, 2] = turned


@serial_kernel
def _compose_se3(order, parent_edge, edges, measured, poses):
    for row in order:
        edge = parent_edge[row]
        if edge < 0:
            continue
        z = measured[edge]
        parent = edges[edge, 0]
        motion = (z[0], z[1], z[2], z[3], z[4], z[5], z[6])
        if parent == row:
            parent = edges[edge, 1]
            motion = se3_inverse(*motion)
        p = poses[parent]
        tx, ty, tz, qx, qy, qz, qw = se3_compose(p[0], p[1], p[2], p[3], p[4], p[5], p[6], *motion)
        # along a chain of 10⁵ products the norm would drift
        qx, qy, qz, qw = quat_normalize(qx, qy, qz, qw)
        out = poses[row]
        out[0], out[1], out[2], out[3], out[4], out[5], out[6] = tx, ty, tz, qx, qy, qz, qw
