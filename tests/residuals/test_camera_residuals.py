"""Cameras against NumPy and complex steps, at the places where they are blind, and in problems with known optima."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import sparselm as slm
from sparselm.residuals.base import OperandBlocks

PINHOLE, FISHEYE, PAIR = slm.PinholeReprojection(), slm.FisheyeReprojection(), slm.StereoReprojection()
PERSPECTIVE = [PINHOLE, slm.SimpleRadialReprojection(), slm.RadialReprojection(), slm.OpenCVReprojection(), PAIR]
CAMERAS = [*PERSPECTIVE, FISHEYE]

# Of a lens with visible distortion, in each model's own order.
LENS = {
    "PinholeReprojection": [500.0, 520.0, 320.0, 240.0],
    "SimpleRadialReprojection": [500.0, 320.0, 240.0, -0.15],
    "RadialReprojection": [500.0, 320.0, 240.0, -0.2, 0.05],
    "OpenCVReprojection": [500.0, 520.0, 320.0, 240.0, -0.2, 0.05, 3e-3, -2e-3],
    "FisheyeReprojection": [300.0, 310.0, 320.0, 240.0, -0.03, 0.01, -4e-3, 7e-4],
    "StereoReprojection": [500.0, 520.0, 320.0, 240.0, 0.4],
}


def lens_of(residual):
    return np.array(LENS[type(residual).__name__])


# -- the cameras with NumPy --------------------------------------------------------------------------------------------


def project(residual, lens, P):
    """Pixels ``(n, dim)`` of points ``(n, 3)`` of the camera's frame; real or complex."""
    name = type(residual).__name__
    if name == "StereoReprojection":
        left, right = project(PINHOLE, lens[:4], P), project(PINHOLE, lens[:4], P - lens[4] * np.eye(3)[0])
        return np.stack([left[:, 0], right[:, 0], left[:, 1]], axis=1)
    if name in ("SimpleRadialReprojection", "RadialReprojection"):
        return project(slm.OpenCVReprojection(), np.concatenate([lens[[0, 0]], lens[1:], np.zeros(7 - len(lens))]), P)
    if name == "FisheyeReprojection":
        rho = np.sqrt(P[:, 0] ** 2 + P[:, 1] ** 2)
        theta = angle(rho, P[:, 2])
        distorted = theta * (1.0 + sum(k * theta ** (2 * n) for n, k in enumerate(lens[4:], start=1)))
        planar = (distorted / rho)[:, None] * P[:, :2]
    else:
        planar = P[:, :2] / P[:, 2:]
    if name == "OpenCVReprojection":
        k1, k2, p1, p2 = lens[4:]
        s, product = (planar**2).sum(axis=1)[:, None], planar.prod(axis=1)[:, None]
        tangential = 2.0 * product * [p1, p2] + (s + 2.0 * planar**2) * [p2, p1]
        planar = planar * (1.0 + k1 * s + k2 * s**2) + tangential
    K = np.array([[lens[0], 0.0, lens[2]], [0.0, lens[1], lens[3]]])
    return np.concatenate([planar, np.ones_like(planar[:, :1])], axis=1) @ K.T


def angle(rho, z):
    """atan2(ρ, z) to first order in the imaginary parts."""
    turned = np.arctan2(rho.real, z.real)
    if not np.iscomplexobj(rho):
        return turned
    return turned + 1j * (z.real * rho.imag - rho.real * z.imag) / (rho.real**2 + z.real**2)


def expected_jacobian(residual, pose, lens, point):
    """Complex steps along x·Exp(δ), the intrinsics and the point, in this order; ``(n, dim, 6 + k + 3)``."""
    R, t = Rotation.from_quat(pose[:, 3:]).as_matrix(), pose[:, :3]
    step, columns = 1e-40, []
    for e in step * 1j * np.eye(6):  # to first order Exp moves a point by v + ω × l before R and t
        moved = point + e[:3] + np.cross(e[3:], point)
        columns.append(project(residual, lens, np.einsum("nij,nj->ni", R, moved) + t))
    seen = np.einsum("nij,nj->ni", R, point) + t
    columns += [project(residual, lens + e, seen.astype(complex)) for e in step * 1j * np.eye(len(lens))]
    columns += [project(residual, lens, np.einsum("nij,nj->ni", R, point + e) + t) for e in step * 1j * np.eye(3)]
    return np.stack([column.imag / step for column in columns], axis=2)


# -- values and Jacobians ----------------------------------------------------------------------------------------------


def linearized(residual, poses, lens, points, measured):
    """r and J of blocks that have a pose and a point each, and one row of intrinsics together."""
    n = len(points)
    motions = np.zeros((n, 12))
    residual.prepare(0, poses, motions, derivatives=True)
    every, none = np.arange(n, dtype=np.int32), np.empty((n, 0))
    blocks = [
        OperandBlocks(poses, every, motions),
        OperandBlocks(lens[None], np.zeros(n, np.int32), none[:1]),
        OperandBlocks(points, every, none),
    ]
    r, J = np.full((n, residual.dim), np.nan), np.full((n, residual.dim, 9 + len(lens)), np.nan)
    residual.linearize(blocks, [measured], np.arange(J.shape[2], dtype=np.int32), r, J)
    evaluated = np.empty_like(r)
    residual.evaluate(blocks, [measured], evaluated)
    np.testing.assert_array_equal(evaluated, r)
    counted = residual.remarks(blocks, [measured])
    return r, J, counted["observations of a point behind its camera"]


def standing_at_the_origin(n):
    return np.tile([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], (n, 1))


def looking_at(seen, rng):
    """Poses anywhere, and the points of the world that they see at ``seen`` in their frames."""
    poses = slm.SE3().random(rng, len(seen))
    return poses, Rotation.from_quat(poses[:, 3:]).inv().apply(seen - poses[:, :3])


@pytest.mark.parametrize("residual", CAMERAS, ids=repr)
def test_against_numpy(residual):
    rng, n, lens = np.random.default_rng(1), 60, lens_of(residual)
    seen = np.column_stack([rng.uniform(-2.0, 2.0, (n, 2)), rng.uniform(1.0, 5.0, n)])
    seen[::6, 2] *= -1.0
    poses, points = looking_at(seen, rng)
    measured = rng.uniform(0.0, 600.0, (n, residual.dim))
    r, J, num_behind = linearized(residual, poses, lens, points, measured)
    assert num_behind == 10
    np.testing.assert_allclose(r, project(residual, lens, seen) - measured, rtol=0.0, atol=1e-10)
    expected = expected_jacobian(residual, poses, lens, points)
    np.testing.assert_allclose(J, expected, rtol=1e-11, atol=1e-12 * np.abs(expected).max())


@settings(max_examples=60, deadline=None)
@given(
    theta=st.floats(-9.0, math.log10(math.pi - 1e-3)).map(lambda exponent: 10.0**exponent),
    azimuth=st.floats(0.0, 2.0 * math.pi),
    distance=st.floats(0.1, 100.0),
)
def test_fisheye_at_any_angle_from_its_axis(theta, azimuth, distance):
    lens = lens_of(FISHEYE)
    around = np.array([math.cos(azimuth), math.sin(azimuth)])
    seen = distance * np.array([[*(math.sin(theta) * around), math.cos(theta)]])
    pose = standing_at_the_origin(1)
    r, J, num_behind = linearized(FISHEYE, pose, lens, seen, np.zeros((1, 2)))
    distorted = theta * (1.0 + lens[4:] @ theta ** np.array([2, 4, 6, 8]))
    np.testing.assert_allclose(r[0], lens[:2] * distorted * around + lens[2:4], rtol=1e-14, atol=1e-13)
    assert num_behind == (seen[0, 2] < 0.0)
    expected = expected_jacobian(FISHEYE, pose, lens, seen)
    size = np.abs(expected).max(axis=1, keepdims=True)
    assert np.all(np.abs(J - expected) <= 1e-11 * size + 1e-200)  # complex steps underflow where y is 1e-300


def test_fisheye_on_its_axis():
    """Where θ = ρ/z to first order, it is a pinhole camera."""
    axis, lens = np.array([[0.0, 0.0, 2.0]]), lens_of(FISHEYE)
    r, J, _ = linearized(FISHEYE, standing_at_the_origin(1), lens, axis, np.zeros((1, 2)))
    plain, expected, _ = linearized(PINHOLE, standing_at_the_origin(1), lens[:4], axis, np.zeros((1, 2)))
    np.testing.assert_array_equal(r, plain)
    np.testing.assert_array_equal(np.delete(J, range(10, 14), axis=2), expected)
    np.testing.assert_array_equal(J[:, :, 10:14], 0.0)


def test_where_a_camera_is_blind():
    points = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [1.0, 2.0, 1e-30]])
    poses = standing_at_the_origin(4)
    for residual in PERSPECTIVE:
        r, _, num_behind = linearized(residual, poses, lens_of(residual), points, np.zeros((4, residual.dim)))
        assert np.isnan(r).all(axis=1).tolist() == [True, True, False, False]
        assert num_behind == 1
    r, J, _ = linearized(FISHEYE, poses, lens_of(FISHEYE), points, np.zeros((4, 2)))
    assert np.isnan(r).any(axis=1).tolist() == [False, True, True, False]
    assert np.isfinite(J[[0, 3]]).all()
    np.testing.assert_allclose(r[0], project(FISHEYE, lens_of(FISHEYE), points[:1])[0], rtol=1e-14)
    np.testing.assert_allclose(r[3], r[0], rtol=1e-14)


def test_the_right_camera_of_a_pair_is_a_pinhole_camera_beside_the_left_one():
    rng = np.random.default_rng(2)
    seen = np.column_stack([rng.uniform(-1.0, 1.0, (9, 2)), rng.uniform(1.0, 5.0, 9)])
    poses, points = looking_at(seen, rng)
    lens = lens_of(PAIR)
    r, J, _ = linearized(PAIR, poses, lens, points, np.zeros((9, 3)))
    left, left_J, _ = linearized(PINHOLE, poses, lens[:4], points, np.zeros((9, 2)))
    right, right_J, _ = linearized(PINHOLE, poses - [lens[4], *np.zeros(6)], lens[:4], points, np.zeros((9, 2)))
    np.testing.assert_allclose(r, np.column_stack([left[:, 0], right[:, 0], left[:, 1]]), rtol=1e-13)
    without_baseline = np.delete(J, 10, axis=2)
    np.testing.assert_allclose(without_baseline[:, [0, 2]], left_J, rtol=1e-13)
    np.testing.assert_allclose(without_baseline[:, 1], right_J[:, 0], rtol=1e-12, atol=1e-10)


# -- problems ----------------------------------------------------------------------------------------------------------


def scene(residual, num_images=6, num_points=30):
    """Images round a cloud of points, all of one camera: poses, lens, points, the two index arrays and exact pixels."""
    rng, lens = np.random.default_rng(3), lens_of(residual)
    points = rng.uniform(-1.0, 1.0, (num_points, 3))
    poses = np.empty((num_images, 7))
    turn = rng.uniform(-0.5, 0.5, (num_images, 3)) + np.linspace(0.0, 2.0, num_images)[:, None] * [0.0, 1.0, 0.0]
    poses[:, 3:] = Rotation.from_rotvec(turn).as_quat()
    poses[:, :3] = rng.uniform([-0.3, -0.3, 2.7], [0.3, 0.3, 3.3], (num_images, 3))
    image, point = (index.reshape(-1) for index in np.mgrid[:num_images, :num_points])
    seen = Rotation.from_quat(poses[image, 3:]).apply(points[point]) + poses[image, :3]
    return poses, lens, points, image, point, project(residual, lens, seen)


def disturbed(poses, size, rng):
    out = np.empty_like(poses)
    slm.SE3().retract(poses, size * rng.standard_normal((len(poses), 6)), out)
    return out


def solved(problem):
    """Down to rounding, by a solver that compiles nothing for the sizes of the blocks."""
    return slm.solve(
        problem, linear_solver=slm.DenseQR(), function_tolerance=0.0, parameter_tolerance=0.0, max_iterations=60
    )


@pytest.mark.parametrize("residual", CAMERAS, ids=repr)
def test_bundle_adjustment_finds_the_exact_pixels(residual):
    """Held are the first pose, the principal point, and the baseline of a pair: pixels alone have no scale."""
    rng = np.random.default_rng(4)
    poses, lens, points, image, point, pixels = scene(residual)
    held = np.flatnonzero([x in (320.0, 240.0) or (residual == PAIR and x == lens[4]) for x in lens])
    disturbance = 1.0 + 0.03 * rng.standard_normal(len(lens))
    disturbance[held] = 1.0
    problem = slm.Problem()
    pose = problem.add_variables("pose", np.vstack([poses[:1], disturbed(poses[1:], 0.02, rng)]), manifold=slm.SE3())
    camera = problem.add_variables("camera", [lens * disturbance])
    landmark = problem.add_variables("point", points + 0.02 * rng.standard_normal(points.shape))
    pose.fix([0])
    camera.fix(components=held)
    problem.add_residuals(residual, pose[image], camera[0], landmark[point], data=pixels)
    assert slm.check_residual(problem).ok
    result = solved(problem)
    assert result.final_cost < 1e-16
    np.testing.assert_array_equal(result[camera][0, held], lens[held])
    np.testing.assert_allclose(result[camera][0], lens, rtol=1e-5)
    if residual == PAIR:
        np.testing.assert_allclose(result[landmark], points, atol=1e-8)


@pytest.mark.parametrize("free", ["pose", "point"])
def test_one_operand_alone(free):
    """Resection and intersection: poses from known points, points from known poses."""
    rng = np.random.default_rng(6)
    poses, lens, points, image, point, pixels = scene(PINHOLE)
    problem = slm.Problem()
    camera = problem.add_variables("camera", [lens])
    camera.fix()
    if free == "pose":
        pose = problem.add_variables("pose", disturbed(poses, 0.1, rng), manifold=slm.SE3())
        landmark = problem.add_variables("point", points)
        landmark.fix()
    else:
        pose = problem.add_variables("pose", poses, manifold=slm.SE3())
        landmark = problem.add_variables("point", points + 0.1 * rng.standard_normal(points.shape))
        pose.fix()
    problem.add_residuals(PINHOLE, pose[image], camera[0], landmark[point], data=pixels)
    assert slm.check_residual(problem).ok
    result = solved(problem)
    assert result.final_cost < 1e-16
    difference = np.empty((len(poses), 6))
    slm.SE3().local(poses, result[pose], difference)
    np.testing.assert_allclose(difference, 0.0, atol=1e-9)
    np.testing.assert_allclose(result[landmark], points, atol=1e-9)
