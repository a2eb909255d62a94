"""Spanning trees, components and problems made from pose graphs."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
import pytest

from sparselm.errors import ProblemError
from sparselm.io.g2o import Landmarks, PoseGraph, connected_components, spanning_tree_poses, to_problem


def matrix(pose):
    """The homogeneous matrix of a pose."""
    if len(pose) == 3:
        c, s = np.cos(pose[2]), np.sin(pose[2])
        return np.array([[c, -s, pose[0]], [s, c, pose[1]], [0, 0, 1]])
    x, y, z, w = pose[3:]
    T = np.eye(4)
    T[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    T[:3, 3] = pose[:3]
    return T


def random_motions(rng, n, world_dim):
    if world_dim == 2:
        return np.column_stack([rng.standard_normal((n, 2)), rng.uniform(-np.pi, np.pi, n)])
    q = rng.standard_normal((n, 4))
    return np.column_stack([rng.standard_normal((n, 3)), q / np.linalg.norm(q, axis=1, keepdims=True)])


def random_graph(rng, world_dim, num_poses, num_edges, landmarks=None):
    ids = np.sort(rng.permutation(5 * num_poses)[:num_poses]) - 10
    first = rng.integers(0, num_poses, num_edges)
    edges = np.column_stack([first, (first + rng.integers(1, num_poses, num_edges)) % num_poses])
    d = 3 if world_dim == 2 else 6
    return PoseGraph(
        ids,
        random_motions(rng, num_poses, world_dim),
        np.ones(num_poses, dtype=bool),
        np.zeros(num_poses, dtype=bool),
        edges,
        random_motions(rng, num_edges, world_dim),
        np.tile(np.eye(d), (num_edges, 1, 1)),
        landmarks,
    )


def reference_tree(graph, known):
    """Breadth first with Python's own data structures and homogeneous matrices."""
    ids = graph.ids.tolist()
    links = [[] for _ in ids]
    for e, (i, j) in enumerate(graph.edges.tolist()):
        Z = matrix(graph.measured[e])
        links[i].append((abs(ids[i] - ids[j]), ids[j], e, j, Z))
        links[j].append((abs(ids[i] - ids[j]), ids[i], e, i, np.linalg.inv(Z)))
    placed = {row: matrix(graph.poses[row]) for row in np.flatnonzero(known)}
    queue = deque(placed)
    for root in [None, *range(len(ids))]:
        if root is not None and root not in placed:
            placed[root] = matrix(graph.poses[root])
            queue.append(root)
        while queue:
            row = queue.popleft()
            for _, _, _, other, Z in sorted(links[row], key=lambda link: link[:3]):
                if other not in placed:
                    placed[other] = placed[row] @ Z
                    queue.append(other)
    return np.array([placed[row] for row in range(len(ids))])


@pytest.mark.parametrize("world_dim", [2, 3])
@pytest.mark.parametrize("num_edges", [6, 12, 40])
def test_spanning_tree_against_reference(world_dim: int, num_edges: int) -> None:
    rng = np.random.default_rng(num_edges)
    for trial in range(5):
        graph = random_graph(rng, world_dim, 12, num_edges)
        known = rng.random(12) < 0.2 * trial
        poses = spanning_tree_poses(graph, known)
        np.testing.assert_allclose([matrix(pose) for pose in poses], reference_tree(graph, known), atol=1e-12)
        assert poses[known].tobytes() == graph.poses[known].tobytes()
        if world_dim == 2:
            assert (np.abs(poses[:, 2]) <= np.pi).all()
    assert spanning_tree_poses(graph).tobytes() == spanning_tree_poses(graph, np.zeros(12, dtype=bool)).tobytes()


def test_long_chain_keeps_unit_quaternions() -> None:
    n, rng = 100_000, np.random.default_rng(0)
    graph = PoseGraph(
        np.arange(n),
        np.tile([0.0, 0, 0, 0, 0, 0, 1], (n, 1)),
        np.zeros(n, dtype=bool),
        np.zeros(n, dtype=bool),
        np.column_stack([np.arange(n - 1), np.arange(1, n)]),
        random_motions(rng, n - 1, 3),
        np.tile(np.eye(6), (n - 1, 1, 1)),
    )
    poses = spanning_tree_poses(graph)
    np.testing.assert_allclose(np.linalg.norm(poses[:, 3:], axis=1), 1, atol=1e-15)


def three_components():
    """Poses 0-1, 2-3 and 4 alone; rows are in the order of their ids 10, 11, …"""
    graph = random_graph(np.random.default_rng(0), 2, 5, 2)
    return replace(graph, ids=np.arange(10, 15), edges=np.array([[1, 0], [2, 3]], dtype=np.int32))


def seen_by(rows, points, world_dim=2):
    n, m = max(points) + 1, len(rows)
    return Landmarks(
        np.arange(100, 100 + n),
        np.zeros((n, world_dim)),
        np.ones(n, dtype=bool),
        np.zeros(n, dtype=bool),
        np.column_stack([rows, points]),
        np.ones((m, world_dim)),
        np.tile(np.eye(world_dim), (m, 1, 1)),
    )


def test_components_are_numbered_by_lowest_id() -> None:
    graph = three_components()
    assert connected_components(graph).tolist() == [0, 0, 1, 1, 2]
    assert connected_components(replace(graph, landmarks=seen_by([0, 4], [0, 0]))).tolist() == [0, 0, 1, 1, 0]


def held_rows(variables):
    return [] if variables.fixed is None else np.flatnonzero(variables.fixed.all(axis=1)).tolist()


def test_one_pose_of_each_free_component_is_held() -> None:
    graph = three_components()
    problem, notes = to_problem(graph)
    assert held_rows(problem.variables[0]) == [0, 2, 4]
    assert notes == ["held constant: poses 10, 12, 14 (the lowest id of each component that nothing else fixes)"]
    problem, notes = to_problem(replace(graph, fixed=np.array([False, True, False, False, False])))
    assert held_rows(problem.variables[0]) == [1, 2, 4]
    assert notes == ["held constant: poses 12, 14 (the lowest id of each component that nothing else fixes)"]
    problem, notes = to_problem(replace(graph, fixed=np.ones(5, dtype=bool)))
    assert held_rows(problem.variables[0]) == [0, 1, 2, 3, 4]
    assert notes == []


def test_notes_name_a_few_poses_and_count_the_rest() -> None:
    one = random_graph(np.random.default_rng(1), 3, 3, 9)
    assert to_problem(one)[1] == [f"held constant: pose {one.ids[0]} (nothing else fixes the frame)"]
    graph = random_graph(np.random.default_rng(1), 3, 9, 1)
    (note,) = to_problem(replace(graph, edges=np.array([[0, 1]], dtype=np.int32)))[1]
    assert " and 3 more " in note


@pytest.mark.parametrize("world_dim", [2, 3])
def test_problem_of_poses_and_landmarks(world_dim: int) -> None:
    landmarks = seen_by([0, 1, 3], [0, 0, 2], world_dim)
    graph = random_graph(np.random.default_rng(2), world_dim, 4, 8, landmarks)
    problem, notes = to_problem(graph)
    assert [variables.name for variables in problem.variables] == ["pose", "landmark"]
    assert [group.name for group in problem.residuals] == ["between", "landmark"]
    assert [group.num_blocks for group in problem.residuals] == [8, 3]
    assert held_rows(problem.variables[1]) == [1]
    assert notes[1:] == ["held constant: 1 landmarks that no pose sees"]
    np.testing.assert_allclose(problem.variables[0].values, graph.poses, atol=1e-15)


@pytest.mark.parametrize("world_dim", [2, 3])
def test_start_from_a_spanning_tree(world_dim: int) -> None:
    graph = random_graph(np.random.default_rng(3), world_dim, 6, 20, seen_by([2, 5], [0, 0], world_dim))
    graph = replace(graph, fixed=np.arange(6) == 4)
    problem, notes = to_problem(graph, start="spanning-tree")
    poses, points = problem.variables
    np.testing.assert_allclose(poses.values, spanning_tree_poses(graph, graph.fixed), atol=1e-14)
    seen = matrix(poses.values[2]) @ np.ones(world_dim + 1)
    np.testing.assert_allclose(points.values[0], seen[:world_dim], atol=1e-13)
    assert notes == []
    with pytest.raises(ProblemError, match="expected 'file' or 'spanning-tree'"):
        to_problem(graph, start="random")  # type: ignore[arg-type]


def test_other_residuals_of_two_poses() -> None:
    from sparselm.residuals.between import BetweenUncoupled

    graph = random_graph(np.random.default_rng(4), 3, 6, 20)
    problem, _ = to_problem(graph, residual_class=BetweenUncoupled)
    assert isinstance(problem.residuals[0].residual, BetweenUncoupled)
