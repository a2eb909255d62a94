"""Synthetic problems: reproducible, shaped like the real ones, and consistent with the noise they state."""

import dataclasses

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.spatial.transform import Rotation

from sparselm.datasets import grid_se2, sphere_se3, street, torus_se3
from sparselm.datasets.bundle_adjustment import camera_coordinates, project
from sparselm.errors import ProblemError


@pytest.fixture(scope="module")
def scene():
    """As many cameras and points as ladybug-49."""
    return street(49, 7776, seed=0)


def _arrays(record):
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, np.ndarray):
            yield value
        elif dataclasses.is_dataclass(value):
            yield from _arrays(value)


def _same(first, second):
    pairs = zip(_arrays(first), _arrays(second), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


# -- streets


def test_street_shapes_and_types(scene):
    data = scene.data
    num_observations = len(data.pixels)
    assert data.cameras.shape == scene.cameras.shape == (49, 9)
    assert data.points.shape == scene.points.shape == (7776, 3)
    assert data.pixels.shape == (num_observations, 2)
    assert data.camera_index.shape == data.point_index.shape == scene.outlier.shape == (num_observations,)
    assert data.camera_index.dtype == data.point_index.dtype == np.int32
    assert data.cameras.dtype == data.points.dtype == data.pixels.dtype == np.float64


def test_street_is_reproducible():
    assert _same(street(20, 500, seed=3), street(20, 500, seed=3))
    assert not _same(street(20, 500, seed=3), street(20, 500, seed=4))


def test_street_observations_are_sorted_and_distinct(scene):
    key = scene.data.point_index.astype(np.int64) * len(scene.data.cameras) + scene.data.camera_index
    assert (np.diff(key) > 0).all()


@pytest.mark.parametrize(("num_cameras", "num_points"), [(4, 40), (5, 60), (8, 120), (49, 7776), (300, 9000)])
def test_street_counts(num_cameras, num_points):
    data = street(num_cameras, num_points, seed=1).data
    tracks = np.bincount(data.point_index, minlength=num_points)
    assert tracks.min() >= 2
    assert np.bincount(data.camera_index, minlength=num_cameras).min() >= 20


@pytest.mark.parametrize("exponent", [2.25, 2.47])
def test_track_lengths_follow_the_power_law(exponent):
    lengths = np.bincount(street(150, 20_000, seed=2, exponent=exponent).data.point_index)
    # maximum-likelihood exponent of the truncated law, by a fine grid
    support = np.arange(2, 31)
    grid = np.linspace(1.8, 3.0, 601)
    log_likelihood = [-a * np.log(lengths).mean() - np.log((support**-a).sum()) for a in grid]
    assert grid[np.argmax(log_likelihood)] == pytest.approx(exponent, abs=0.05)
    assert lengths.max() <= 30


def test_street_has_the_statistics_of_ladybug_49(scene):
    data = scene.data
    lengths = np.bincount(data.point_index)
    assert lengths.mean() == pytest.approx(4.10, rel=0.05)
    assert np.bincount(data.camera_index).mean() == pytest.approx(650, rel=0.05)
    assert np.median(lengths) == 3
    assert np.percentile(lengths, 90) == pytest.approx(8, abs=1)
    assert np.percentile(lengths, 99) == pytest.approx(17, abs=4)
    first = np.searchsorted(data.point_index, np.arange(7776))
    span = np.maximum.reduceat(data.camera_index, first) - np.minimum.reduceat(data.camera_index, first) + 1
    assert 5 <= np.median(span) <= 20
    assert 0.2 <= np.median(lengths / span) <= 0.6
    assert np.abs(data.cameras[:, 6] - 400.0).max() < 40.0
    assert np.abs(data.cameras[:, 7]).max() < 2e-6
    assert np.abs(data.cameras[:, 8]).max() < 2e-12


def test_covisible_neighbours_do_not_grow_with_the_problem():
    counts = []
    for num_cameras in (600, 1200):
        data = street(num_cameras, 50 * num_cameras, seed=4).data
        seen = csr_array((np.ones(len(data.pixels)), (data.camera_index, data.point_index)))
        counts.append((seen @ seen.T).nnz / num_cameras - 1)
    assert 70 < counts[0] < 170
    assert counts[1] == pytest.approx(counts[0], rel=0.15)


def test_the_second_lap_meets_the_first():
    """Some points are seen by cameras of both laps, so the camera graph has loops."""
    data = street(400, 20_000, seed=5).data
    first = np.searchsorted(data.point_index, np.arange(20_000))
    span = np.maximum.reduceat(data.camera_index, first) - np.minimum.reduceat(data.camera_index, first)
    assert (span > 150).mean() > 0.02


@pytest.mark.parametrize("num_cameras", [8, 49, 300])
def test_all_points_lie_in_front(num_cameras):
    """At the truth and at the start."""
    scene = street(num_cameras, 60 * num_cameras, seed=6)
    data = scene.data
    for cameras, points in ((scene.cameras, scene.points), (data.cameras, data.points)):
        P = camera_coordinates(cameras, points, data.camera_index, data.point_index)
        assert P[:, 2].max() < -0.2
    assert (np.abs(data.pixels) < (420.0, 610.0)).all()


def test_noise_is_what_was_asked_for(scene):
    data = scene.data
    error = project(scene.cameras, scene.points, data.camera_index, data.point_index) - data.pixels
    assert error.std() == pytest.approx(0.5, rel=0.02)
    exact = street(20, 500, pixel_noise=0.0, perturbation=0.0).data
    error = project(exact.cameras, exact.points, exact.camera_index, exact.point_index) - exact.pixels
    assert np.abs(error).max() < 1e-9


def test_the_start_is_some_pixels_off(scene):
    data = scene.data
    error = project(data.cameras, data.points, data.camera_index, data.point_index) - data.pixels
    assert np.isfinite(error).all()
    assert 4.0 < np.sqrt((error**2).mean()) < 20.0


def test_outliers_are_marked():
    scene = street(20, 2000, seed=7, outliers=0.1)
    data = scene.data
    assert scene.outlier.mean() == pytest.approx(0.1, abs=0.02)
    error = project(scene.cameras, scene.points, data.camera_index, data.point_index) - data.pixels
    length = np.linalg.norm(error, axis=1)
    assert length[~scene.outlier].max() < 3.5
    assert np.median(length[scene.outlier]) > 100.0


@pytest.mark.parametrize(
    "arguments", [(3, 100), (10, 10), (10, 100, 0, 2.25)], ids=["few cameras", "few points", "positional option"]
)
def test_street_refuses(arguments):
    with pytest.raises((ProblemError, TypeError)):
        street(*arguments)


@pytest.mark.parametrize("options", [{"outliers": 1.5}, {"laps": 0}, {"max_track": 1}])
def test_street_refuses_options(options):
    with pytest.raises(ProblemError, match="street"):
        street(10, 100, **options)


# -- pose graphs

GENERATORS = [
    pytest.param(lambda **o: grid_se2(400, **o), 3, id="grid"),
    pytest.param(lambda **o: sphere_se3(12, 15, **o), 6, id="sphere"),
    pytest.param(lambda **o: torus_se3(12, 20, **o), 6, id="torus"),
]


def _errors(graph, truth):
    """Zᵀ-side errors of the measurements in the tangent space, to first order, by SciPy's rotations."""
    i, j = truth[graph.edges[:, 0]], truth[graph.edges[:, 1]]
    if graph.world_dim == 2:
        c, s = np.cos(i[:, 2]), np.sin(i[:, 2])
        d = j[:, :2] - i[:, :2]
        moved = np.column_stack([c * d[:, 0] + s * d[:, 1], c * d[:, 1] - s * d[:, 0]])
        angle = graph.measured[:, 2] - (j[:, 2] - i[:, 2])
        return np.column_stack([graph.measured[:, :2] - moved, (angle + np.pi) % (2 * np.pi) - np.pi])
    R_i, R_j, Z = (Rotation.from_quat(q) for q in (i[:, 3:], j[:, 3:], graph.measured[:, 3:]))
    relative = R_i.inv() * R_j
    shift = relative.inv().apply(graph.measured[:, :3] - R_i.inv().apply(j[:, :3] - i[:, :3]))
    return np.column_stack([shift, (relative.inv() * Z).as_rotvec()])


@pytest.mark.parametrize(("make", "dim"), GENERATORS)
def test_pose_graph_shapes_and_types(make, dim):
    graph = make(seed=1)
    n, m = len(graph.poses), len(graph.edges)
    assert graph.poses.shape == (n, 3 if dim == 3 else 7)
    assert graph.measured.shape == (m, graph.poses.shape[1])
    assert graph.information.shape == (m, dim, dim)
    assert graph.edges.dtype == np.int32
    assert graph.has_vertex.all()
    assert not graph.fixed.any()
    assert np.isfinite(graph.poses).all()
    assert np.isfinite(graph.measured).all()
    assert m > n
    if dim == 6:
        np.testing.assert_allclose(np.linalg.norm(graph.poses[:, 3:], axis=1), 1.0, rtol=1e-14)
        np.testing.assert_allclose(np.linalg.norm(graph.measured[:, 3:], axis=1), 1.0, rtol=1e-14)
    else:
        assert (np.abs(graph.poses[:, 2]) <= np.pi).all()


@pytest.mark.parametrize(("make", "dim"), GENERATORS)
def test_pose_graphs_are_reproducible(make, dim):
    assert _same(make(seed=1), make(seed=1))
    assert not _same(make(seed=1), make(seed=2))


@pytest.mark.parametrize(("make", "dim"), GENERATORS)
def test_measurements_have_the_stated_covariance(make, dim):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((dim, dim))
    information = 1e4 * (A @ A.T + np.eye(dim))
    graph, truth = make(seed=1, information=information), make(seed=1, start="truth").poses
    whitened = _errors(graph, truth) @ np.linalg.cholesky(information)
    covariance = whitened.T @ whitened / len(whitened)
    assert np.abs(covariance - np.eye(dim)).max() < 0.25


@pytest.mark.parametrize(("make", "dim"), GENERATORS)
def test_odometry_satisfies_the_steps_exactly(make, dim):
    graph = make(seed=1)
    n = len(graph.poses)
    np.testing.assert_array_equal(graph.edges[: n - 1], np.column_stack([np.arange(n - 1), np.arange(1, n)]))
    assert np.abs(_errors(graph, graph.poses)[: n - 1]).max() < 1e-10
    assert np.abs(_errors(graph, graph.poses)[n - 1 :]).max() > 0.1


@pytest.mark.parametrize(("make", "dim"), GENERATORS)
def test_outliers_are_loop_closures(make, dim):
    graph, truth = make(seed=1, outliers=0.3), make(seed=1, start="truth").poses
    n = len(graph.poses)
    error = np.linalg.norm(_errors(graph, truth), axis=1)
    assert error[: n - 1].max() < 1.5
    assert (error[n - 1 :] > 1.5).mean() == pytest.approx(0.3, abs=0.12)


def test_the_walk_keeps_to_the_streets():
    poses = grid_se2(2000, seed=2, start="truth").poses
    step = np.diff(poses[:, :2], axis=0)
    np.testing.assert_array_equal(np.abs(step).sum(axis=1), 1.0)
    ahead = np.column_stack([np.cos(poses[:-1, 2]), np.sin(poses[:-1, 2])])
    np.testing.assert_allclose(ahead, step, atol=1e-15)
    assert np.ptp(poses[:, :2]) <= round(1.2 * np.sqrt(2000))


def test_loop_closures_of_the_walk_are_short_in_space_and_long_in_time():
    graph = grid_se2(2000, seed=2, start="truth", closures=0.25)
    i, j = graph.edges[1999:].T
    assert len(i) == 500
    assert (j - i >= 10).all()
    assert np.linalg.norm(graph.poses[i, :2] - graph.poses[j, :2], axis=1).max() <= 1.01


def test_surveys_lie_on_their_surfaces():
    position = sphere_se3(20, 30, radius=7.0, start="truth").poses[:, :3]
    np.testing.assert_allclose(np.linalg.norm(position, axis=1), 7.0, rtol=1e-14)
    position = torus_se3(20, 30, radius=6.0, tube=2.0, start="truth").poses[:, :3]
    from_middle = np.hypot(np.linalg.norm(position[:, :2], axis=1) - 6.0, position[:, 2])
    np.testing.assert_allclose(from_middle, 2.0, rtol=1e-13)


def test_the_torus_closes_on_itself():
    """The edges that wrap around measure as short a way as the others."""
    graph = torus_se3(12, 20, seed=0)
    closures = graph.measured[239:]
    assert np.linalg.norm(closures[:, :3], axis=1).max() < 2.0 * np.linalg.norm(closures[:, :3], axis=1).mean()


@pytest.mark.parametrize(
    "make",
    [
        lambda: grid_se2(1),
        lambda: sphere_se3(0, 10),
        lambda: torus_se3(5, 2),
        lambda: grid_se2(10, information=(1.0, 1.0)),
        lambda: grid_se2(10, information=(1.0, 1.0, -1.0)),
        lambda: sphere_se3(3, 5, information=np.ones((6, 6))),
        lambda: grid_se2(10, start="file"),
        lambda: grid_se2(10, outliers=2.0),
    ],
)
def test_pose_graphs_refuse(make):
    with pytest.raises(ProblemError):
        make()


def test_minimal_graphs():
    assert len(grid_se2(2).edges) == 1
    assert len(sphere_se3(1, 3).edges) == 2
    assert len(grid_se2(50, closures=0.0).edges) == 49
