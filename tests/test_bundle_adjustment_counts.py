"""Synthetic bundle adjustment of wanted size: exact counts, statistics of photographs, and problems that can be solved."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

import sparselm as slm
from sparselm.datasets import photos, street
from sparselm.datasets.bundle_adjustment import camera_coordinates, project, tracks
from sparselm.errors import ProblemError
from sparselm.io import read_bal, write_bal
from sparselm.io.bal import to_problem

STYLES = pytest.mark.parametrize("make", [street, photos])


@pytest.fixture(scope="module")
def album():
    """Photographs of ten landmarks, with the mean track of venice-1778."""
    return photos(400, 40_000, seed=1, num_observations=201_200)


def _arrays(scene):
    return [*dataclasses.asdict(scene.data).values(), scene.cameras, scene.points, scene.outlier]


def _rays(scene):
    """Unit vectors from each observation's point to its camera, at the truth."""
    data = scene.data
    centres = -Rotation.from_rotvec(scene.cameras[:, :3]).inv().apply(scene.cameras[:, 3:6])
    rays = centres[data.camera_index] - scene.points[data.point_index]
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def _widest_angle_to_first(scene):
    """For each point, the widest angle between the ray of its first observation and another, radians."""
    rays, point_index = _rays(scene), scene.data.point_index
    first = np.searchsorted(point_index, np.arange(len(scene.points)))
    sine = np.linalg.norm(np.cross(rays, rays[first][point_index]), axis=1)
    return np.arcsin(np.maximum.reduceat(sine, first).clip(0.0, 1.0))


def _shared(data):
    seen = csr_array((np.ones(len(data.pixels)), (data.camera_index, data.point_index)))
    return seen @ seen.T


# -- track lengths


@pytest.mark.parametrize("mean", [2.0, 2.5, 4.1, 5.0, 9.0])
@pytest.mark.parametrize("longest", [16, 56, 400])
def test_the_law_has_the_wanted_mean(mean, longest):
    exponent, max_track = tracks.fit_law(mean, 2.25, 30, longest)
    support = np.arange(2, max_track + 1)
    probability = support**-exponent / (support**-exponent).sum()
    assert support @ probability == pytest.approx(min(mean, 0.5 * (2 + longest)), abs=1e-6)
    assert max_track <= longest


def test_tracks_become_longer_before_the_exponent_changes():
    exponent, max_track = tracks.fit_law(5.0, 2.25, 30, 400)
    assert 60 < max_track < 120
    assert exponent == pytest.approx(2.25, abs=0.01)
    assert tracks.fit_law(4.1, 2.25, 30, 400)[1] == 30


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 60), st.integers(1, 500), st.floats(0.0, 1.0), st.floats(0.0, 4.0), st.integers(0, 1000))
def test_lengths_add_up(max_track, num_points, part, exponent, seed):
    total = round(num_points * (2 + part * (max_track - 2)))
    lengths = tracks.lengths_adding_up(np.random.default_rng(seed), num_points, total, exponent, max_track)
    assert lengths.sum() == total
    assert lengths.min() >= 2 and lengths.max() <= max_track


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(2, 30), st.integers(2, 30)), min_size=1, max_size=60), st.integers(0, 1000))
def test_lengths_go_where_there_is_room(pairs, seed):
    lengths, capacity = (np.array(column) for column in zip(*pairs, strict=True))
    given_out = tracks.assign_lengths(np.random.default_rng(seed), lengths, capacity)
    assert (given_out <= capacity).all() and (given_out >= 2).all()
    # Longest first is the best that can be done: in order of size, no length is smaller than it must be.
    best = np.minimum(np.sort(lengths), np.sort(capacity))
    if (np.sort(lengths) <= np.sort(capacity)).all():
        assert sorted(given_out) == sorted(lengths)
    assert given_out.sum() <= best.sum()


# -- both styles


@STYLES
@pytest.mark.parametrize("counts", [(4, 60, 140), (16, 800, 3200), (49, 2000, 8200), (90, 3000, 15_000)])
def test_counts_are_exact(make, counts):
    num_cameras, num_points, num_observations = counts
    data = make(num_cameras, num_points, seed=2, num_observations=num_observations).data
    assert (len(data.cameras), len(data.points), len(data.pixels)) == counts
    least = 20 if num_points >= 20 * num_cameras else 10
    assert np.bincount(data.camera_index, minlength=num_cameras).min() >= least


@STYLES
def test_generation_is_reproducible(make):
    first, second, third = (make(30, 900, seed=seed, num_observations=3900) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(_arrays(first), _arrays(second), strict=True))
    assert not np.array_equal(first.data.pixels, third.data.pixels)


@STYLES
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_small_problems_are_well_posed(make, data):
    num_cameras = data.draw(st.integers(5, 30))
    num_points = data.draw(st.integers(20 * num_cameras, 25 * num_cameras))
    num_observations = round(num_points * data.draw(st.floats(2.4, 0.15 * num_cameras + 2.1)))
    try:
        scene = make(num_cameras, num_points, seed=data.draw(st.integers(0, 999)), num_observations=num_observations)
    except ProblemError:  # some albums of few photographs overlap too little for long tracks
        reject()
    made = scene.data
    assert len(made.pixels) == num_observations
    key = made.point_index.astype(np.int64) * num_cameras + made.camera_index
    assert (np.diff(key) > 0).all()
    assert np.bincount(made.point_index, minlength=num_points).min() >= 2
    assert np.bincount(made.camera_index, minlength=num_cameras).min() >= (20 if make is photos else 10)
    assert connected_components(_shared(made))[0] == 1
    assert _widest_angle_to_first(scene).min() > (0.017 if make is photos else 1e-5)
    for cameras, points in ((scene.cameras, scene.points), (made.cameras, made.points)):
        assert camera_coordinates(cameras, points, made.camera_index, made.point_index)[:, 2].max() < -0.2
    error = project(made.cameras, made.points, made.camera_index, made.point_index) - made.pixels
    assert 2.0 < np.sqrt((error**2).sum(axis=1).mean()) < 40.0


@STYLES
@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((3, 100, 250), "at least 4 and 40"),
        ((10, 100, 150), "fewer points or more observations"),
        ((10, 100, 1001), "more cameras or fewer observations"),
        ((60, 100, 300), "do not determine these, expected at least 417"),
        ((10, 1000, 9900), "are in view"),
    ],
)
def test_counts_that_do_not_go_together(make, counts, words):
    with pytest.raises(ProblemError, match=words):
        make(*counts[:2], num_observations=counts[2])


@STYLES
@pytest.mark.parametrize("options", [{"outliers": -0.1}, {"max_track": 1}])
def test_options_out_of_range(make, options):
    with pytest.raises(ProblemError, match=make.__name__):
        make(10, 200, **options)


@STYLES
def test_files_hold_what_was_generated(make, tmp_path):
    data = make(8, 200, seed=5, num_observations=700).data
    for name in ("scene.txt", "scene.txt.bz2", "scene.npz"):
        write_bal(tmp_path / name, data)
        again = read_bal(tmp_path / name)
        for field in dataclasses.fields(data):
            np.testing.assert_array_equal(getattr(again, field.name), getattr(data, field.name))


# -- photographs


def test_tracks_of_photographs(album):
    lengths = np.bincount(album.data.point_index)
    assert lengths.mean() == 5.03
    assert np.median(lengths) == 3
    assert np.percentile(lengths, 90) == pytest.approx(9, abs=1)
    assert 30 <= np.percentile(lengths, 99) <= 60
    assert (lengths == 2).mean() == pytest.approx(0.44, abs=0.02)


def test_popularity_of_photographs_has_a_heavy_tail(album):
    counts = np.sort(np.bincount(album.data.camera_index))
    n = len(counts)
    gini = (2 * np.arange(1, n + 1) - n - 1) @ counts / (n * counts.sum())
    assert 0.3 < gini < 0.55
    assert counts[-n // 10 :].sum() > 0.25 * counts.sum()
    assert counts[-1] > 5 * np.median(counts)


def test_photographs_cluster_and_hang_together(album):
    """Those of a landmark share many points with one another, few with the others; bridges have two cameras or more."""
    shared = _shared(album.data)
    assert 0.1 < shared.nnz / 400**2 < 0.6
    assert connected_components(shared >= 10)[0] == 1


def test_every_photograph_has_a_camera_of_its_own(album):
    focal = album.cameras[:, 6]
    assert focal.min() >= 320.0 and focal.max() <= 9100.0
    assert len(np.unique(focal)) > 390
    assert np.percentile(focal, 90) > 3 * np.percentile(focal, 10)
    assert np.ptp(album.cameras[:, 7]) > 0.05
    # Distortion is one-to-one in the image: r (1 + k1 r² + k2 r⁴) still rises at the outermost observation.
    data = album.data
    P = camera_coordinates(album.cameras, album.points, data.camera_index, data.point_index)
    square = (P[:, 0] ** 2 + P[:, 1] ** 2) / P[:, 2] ** 2
    k1, k2 = album.cameras[data.camera_index, 7], album.cameras[data.camera_index, 8]
    assert (1.0 + 3.0 * k1 * square + 5.0 * k2 * square**2).min() > 0.4
    assert (np.abs(data.pixels) < 1504.0 + 5.0).all()


def test_noise_and_outliers_of_photographs(album):
    data = album.data
    error = project(album.cameras, album.points, data.camera_index, data.point_index) - data.pixels
    assert error.std() == pytest.approx(0.5, rel=0.01)
    scene = photos(12, 400, seed=3, outliers=0.1)
    data = scene.data
    error = project(scene.cameras, scene.points, data.camera_index, data.point_index) - data.pixels
    assert scene.outlier.mean() == pytest.approx(0.1, abs=0.02)
    assert np.linalg.norm(error[~scene.outlier], axis=1).max() < 3.5
    exact = photos(12, 400, pixel_noise=0.0, perturbation=0.0).data
    error = project(exact.cameras, exact.points, exact.camera_index, exact.point_index) - exact.pixels
    assert np.abs(error).max() < 1e-8


@pytest.mark.parametrize("counts", [(16, 400, 1600), (100, 2500, 12_000)])
def test_photographs_are_solved_down_to_the_noise(counts):
    num_cameras, num_points, num_observations = counts
    result = slm.solve(to_problem(photos(num_cameras, num_points, seed=1, num_observations=num_observations).data))
    freedom = 2 * num_observations - 9 * num_cameras - 3 * num_points + 7
    assert result.status.converged and result.num_iterations <= 30
    assert 2.0 * result.final_cost == pytest.approx(0.25 * freedom, rel=6.0 / np.sqrt(freedom))
