"""User-written residuals for which nothing is built in meet the optimum of an independent formulation.

The other formulation is SciPy's: NumPy functions, rotations by ``scipy.spatial.transform``, poses as rotation vectors and
translations or directions as angles, differences for derivatives, its trust-region solver. Or it is a closed form.
"""

import math

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

import sparselm as slm

PATIENT = {"max_iterations": 300, "function_tolerance": 1e-14}


def scipy_cost(fun, x0) -> float:
    return least_squares(fun, x0, x_scale="jac", ftol=1e-11, xtol=1e-13, gtol=1e-13, max_nfev=200).cost


def rotation_vectors(quaternions):
    return Rotation.from_quat(quaternions).as_rotvec()


# -- cameras with shared intrinsics, alone and in a rig -----------------------------------------------------------------


@slm.residual(dim=2)
def reprojection(rig, point, intrinsics, pixel, camera_in_rig=None):
    """Poses are world from rig and rig from camera; the reference camera is the rig itself. Pixels."""
    p = slm.math.se3_transform_inverse(rig, point)
    if camera_in_rig is not None:
        p = slm.math.se3_transform_inverse(camera_in_rig, p)
    fx, fy, cx, cy, k1, k2 = intrinsics
    x, y = slm.math.distort_radial(slm.math.project_pinhole(p), k1, k2)
    return fx * x + cx - pixel[0], fy * y + cy - pixel[1]


@slm.residual(dim=2)
def reprojection_from_world(camera, point, intrinsics, pixel):
    """The same for poses that are camera from world."""
    fx, fy, cx, cy, k1, k2 = intrinsics
    p = slm.math.project_pinhole(slm.math.se3_transform(camera, point))
    x, y = slm.math.distort_radial(p, k1, k2)
    return fx * x + cx - pixel[0], fy * y + cy - pixel[1]


@slm.residual(dim=6)
def intrinsics_prior(intrinsics, expected, sigma):
    a, b, c, d, e, f = intrinsics
    return (
        (a - expected[0]) / sigma[0], (b - expected[1]) / sigma[1], (c - expected[2]) / sigma[2],
        (d - expected[3]) / sigma[3], (e - expected[4]) / sigma[4], (f - expected[5]) / sigma[5],
    )  # fmt: skip


@slm.residual(dim=6)
def pose_prior(pose, measured):
    """Translation difference in the world, and the rotation vector of q_measured⁻¹·q."""
    q = slm.math.quaternion_multiply(slm.math.quaternion_conjugate(measured[3:]), pose[3:])
    return (*slm.math.subtract(pose[:3], measured[:3]), *slm.math.so3_log(q))


class Rig:
    """Five poses of a rig before 25 points: a reference camera, and one 0.4 m beside it that is turned by 0.2 rad.

    The start is off by centimetres and hundredths of a radian, 20 pixels in focal length and 5 in the principal point.
    """

    expected = np.array([[500.0, 500.0, 320.0, 240.0, 0.0, 0.0]])
    sigma = np.array([[20.0, 20.0, 10.0, 10.0, 0.1, 0.1]])
    pose_weight = np.array([100.0, 100.0, 100.0, 200.0, 200.0, 200.0])

    def __init__(self, *, cameras: int) -> None:
        rng = np.random.default_rng(3)
        truth = np.array([512.0, 508.0, 325.0, 236.0, -0.11, 0.03])
        centres = np.column_stack([np.linspace(-1.0, 1.0, 5), rng.normal(0.0, 0.3, (5, 2))])
        turns = Rotation.from_rotvec(rng.normal(0.0, 0.08, (5, 3)))
        self.points = np.column_stack([rng.uniform(-2.0, 2.0, (25, 2)), rng.uniform(4.0, 8.0, 25)])
        mount_turn, mount_centre = Rotation.from_rotvec([0.0, 0.2, 0.02]), np.array([0.4, 0.0, 0.05])
        self.rig_index, self.point_index = (a.ravel().astype(np.int32) for a in np.mgrid[:5, :25])
        in_rig = turns[self.rig_index].inv().apply(self.points[self.point_index] - centres[self.rig_index])
        seen = [in_rig, mount_turn.inv().apply(in_rig - mount_centre)][:cameras]
        self.pixels = [self.project(p, truth) + rng.normal(0.0, 0.3, (125, 2)) for p in seen]
        self.rigs = np.column_stack([centres, turns.as_quat()])
        self.mount = np.concatenate([mount_centre, mount_turn.as_quat()])[None]
        self.start_rigs = self.moved(rng, self.rigs)
        self.start_mount = self.moved(rng, self.mount)
        self.start_points = self.points + rng.normal(0.0, 0.1, self.points.shape)

    @staticmethod
    def project(p, intrinsics):
        xy = p[:, :2] / p[:, 2:]
        s = (xy**2).sum(axis=1, keepdims=True)
        return intrinsics[:2] * xy * (1.0 + intrinsics[4] * s + intrinsics[5] * s**2) + intrinsics[2:4]

    @staticmethod
    def moved(rng, poses):
        turned = Rotation.from_quat(poses[:, 3:]) * Rotation.from_rotvec(rng.normal(0.0, 0.02, (len(poses), 3)))
        return np.column_stack([poses[:, :3] + rng.normal(0.0, 0.05, (len(poses), 3)), turned.as_quat()])

    def problem(self, *, from_world: bool = False) -> slm.Problem:
        problem = slm.Problem()
        intrinsics = problem.add_variables("intrinsics", self.expected)
        points = problem.add_variables("point", self.start_points)
        zeros = np.zeros(len(self.rig_index), dtype=np.int32)
        operands = points[self.point_index], intrinsics[zeros]
        if from_world:
            turns = Rotation.from_quat(self.start_rigs[:, 3:]).inv()
            inverse = np.column_stack([-turns.apply(self.start_rigs[:, :3]), turns.as_quat()])
            cameras = problem.add_variables("camera", inverse, manifold=slm.SE3())
            problem.add_residuals(reprojection_from_world, cameras[self.rig_index], *operands, data=self.pixels[0])
        else:
            rigs = problem.add_variables("rig", self.start_rigs, manifold=slm.SE3())
            problem.add_residuals(reprojection, rigs[self.rig_index], *operands, data=self.pixels[0])
            # Two poses that are known a little: what the world is, and how large.
            problem.add_residuals(
                pose_prior, rigs[[0, 4]], data=self.rigs[[0, 4]], sqrt_information=np.diag(self.pose_weight)
            )
        if len(self.pixels) == 2:
            mount = problem.add_variables("mount", self.start_mount, manifold=slm.SE3())
            problem.add_residuals(reprojection, rigs[self.rig_index], *operands, mount[zeros], data=self.pixels[1])
        problem.add_residuals(intrinsics_prior, intrinsics, data=(self.expected, self.sigma))
        return problem

    def scipy_residuals(self, x, *, anchored: bool = True):
        """Of x: rotation vectors and translations of the rigs and of the mount, points, intrinsics."""
        poses, points, intrinsics = x[:36].reshape(6, 6), x[36:111].reshape(25, 3), x[111:]
        turns = Rotation.from_rotvec(poses[:, :3])
        i, j = self.rig_index, self.point_index
        in_rig = turns[i].inv().apply(points[j] - poses[i, 3:])
        seen = [in_rig, turns[5].inv().apply(in_rig - poses[5, 3:])]
        parts = [self.project(p, intrinsics) - pixels for p, pixels in zip(seen, self.pixels, strict=False)]
        parts.append((intrinsics - self.expected[0]) / self.sigma[0])
        if anchored:
            ends = [0, 4]
            parts.append((poses[ends, 3:] - self.rigs[ends, :3]) * self.pose_weight[:3])
            error = Rotation.from_quat(self.rigs[ends, 3:]).inv() * turns[ends]
            parts.append(error.as_rotvec() * self.pose_weight[3:])
        return np.concatenate([part.ravel() for part in parts])

    def scipy_start(self):
        poses = np.concatenate([self.start_rigs, self.start_mount])
        moved = np.column_stack([rotation_vectors(poses[:, 3:]), poses[:, :3]])
        return np.concatenate([moved.ravel(), self.start_points.ravel(), self.expected[0]])


@pytest.mark.parametrize("cameras", [1, 2])
def test_shared_intrinsics(cameras):
    """With two cameras the second group has the camera's pose in the rig as an operand; the first leaves it out."""
    scene = Rig(cameras=cameras)
    problem = scene.problem()
    independent = scipy_cost(scene.scipy_residuals, scene.scipy_start())
    result = slm.solve(problem, **PATIENT)
    assert result.initial_cost == pytest.approx(0.5 * np.sum(scene.scipy_residuals(scene.scipy_start()) ** 2), rel=1e-9)
    assert result.final_cost == pytest.approx(independent, rel=1e-6)
    # Noise of 0.3 pixels leaves ½·0.3² for each of 250 numbers a camera less 105 unknowns and 6 of the mount.
    expected = 0.5 * 0.3**2 * (250 * cameras - 105 - 6 * (cameras - 1))
    assert 0.7 < result.final_cost / expected < 1.4


def test_camera_from_world_is_the_same_problem():
    """Without priors on poses the optimum is the same whether camera from world or world from camera moves."""
    scene = Rig(cameras=1)
    independent = scipy_cost(lambda x: scene.scipy_residuals(x, anchored=False), scene.scipy_start())
    problem = scene.problem(from_world=True)
    problem.variables[2].fix([0])
    result = slm.solve(problem, **PATIENT)
    assert result.final_cost == pytest.approx(independent, rel=1e-6)


# -- ranges to beacons of unknown place ---------------------------------------------------------------------------------


@slm.residual(dim=3)
def odometry(first, second, measured):
    """Log(Z⁻¹·X_i⁻¹·X_j); poses are world from robot, metres and radians."""
    return slm.math.se2_log(slm.math.se2_between(measured, slm.math.se2_between(first, second)))


@slm.residual(dim=1)
def distance(pose, beacon, measured):
    return math.hypot(pose[0] - beacon[0], pose[1] - beacon[1]) - measured


class RangeOnly:
    """Forty poses on a figure of eight, four beacons; 0.1 m noise of ranges, and one in twelve too long by metres."""

    weight = np.diag([20.0, 20.0, 50.0])
    scale, sigma = 1.5, 0.1

    def __init__(self) -> None:
        rng = np.random.default_rng(11)
        t = np.linspace(0.0, 2.0 * np.pi, 40)
        x, y = 10.0 * np.sin(t), 5.0 * np.sin(2.0 * t)
        heading = np.arctan2(10.0 * np.cos(2.0 * t), 10.0 * np.cos(t))
        truth = np.column_stack([x, y, heading])
        beacons = np.array([[-8.0, 9.0], [9.0, 8.0], [7.0, -9.0], [-9.0, -7.0]])
        self.measured = self.between(truth[:-1], truth[1:]) + rng.normal(0.0, 1.0, (39, 3)) / np.diag(self.weight)
        self.start = [truth[0]]
        for x, y, turn in self.measured:
            a, b, theta = self.start[-1]
            c, s = np.cos(theta), np.sin(theta)
            self.start.append(np.array([a + c * x - s * y, b + s * x + c * y, theta + turn]))
        self.start = np.array(self.start)
        self.pose_index, self.beacon_index = (a.ravel().astype(np.int32) for a in np.mgrid[:40, :4])
        difference = truth[self.pose_index, :2] - beacons[self.beacon_index]
        self.ranges = np.hypot(*difference.T) + rng.normal(0.0, self.sigma, 160)
        self.ranges[::12] += rng.uniform(2.0, 6.0, 14)
        self.start_beacons = beacons + rng.normal(0.0, 1.0, (4, 2))

    @staticmethod
    def between(a, b):
        c, s = np.cos(a[:, 2]), np.sin(a[:, 2])
        dx, dy = (b - a)[:, 0], (b - a)[:, 1]
        turn = (b - a)[:, 2]
        return np.column_stack([c * dx + s * dy, -s * dx + c * dy, np.arctan2(np.sin(turn), np.cos(turn))])

    def problem(self) -> slm.Problem:
        problem = slm.Problem()
        poses = problem.add_variables("pose", self.start, manifold=slm.SE2())
        poses.fix([0])
        beacons = problem.add_variables("beacon", self.start_beacons)
        problem.add_residuals(odometry, poses[:-1], poses[1:], data=self.measured, sqrt_information=self.weight)
        problem.add_residuals(
            distance, poses[self.pose_index], beacons[self.beacon_index], data=self.ranges,
            loss=slm.Huber(self.scale), sqrt_information=1.0 / self.sigma,
        )  # fmt: skip
        return problem

    def scipy_residuals(self, x):
        """Plain squares with the same cost: Log by complex numbers, and √ρ(r²) in place of a range's r."""
        poses = np.concatenate([self.start[:1], x[:117].reshape(39, 3)])
        beacons = x[117:].reshape(4, 2)
        error = self.between(self.measured, self.between(poses[:-1], poses[1:]))
        # v with ∫₀¹ exp(iωs) ds · v = translation; the integral is exp(iω/2) sin(ω/2)/(ω/2)
        omega = error[:, 2]
        z = (error[:, 0] + 1j * error[:, 1]) * np.exp(-0.5j * omega) / np.sinc(omega / (2.0 * np.pi))
        log = np.column_stack([z.real, z.imag, omega]) @ self.weight.T
        difference = poses[self.pose_index, :2] - beacons[self.beacon_index]
        r = (np.hypot(*difference.T) - self.ranges) / self.sigma
        c = self.scale
        far = np.sqrt(np.maximum(2.0 * c * np.abs(r) - c * c, c * c))
        return np.concatenate([log.ravel(), np.where(np.abs(r) <= c, r, far)])


def test_range_only_slam():
    scene = RangeOnly()
    problem = scene.problem()
    x0 = np.concatenate([scene.start[1:].ravel(), scene.start_beacons.ravel()])
    result = slm.solve(problem, **PATIENT)
    assert result.initial_cost == pytest.approx(0.5 * np.sum(scene.scipy_residuals(x0) ** 2), rel=1e-9)
    assert result.final_cost == pytest.approx(scipy_cost(scene.scipy_residuals, x0), rel=1e-6)
    assert result.final_cost < 0.5 * result.initial_cost


# -- rotations and directions -------------------------------------------------------------------------------------------


@slm.residual(dim=3)
def turned(rotation, before, after):
    """R a − b."""
    return slm.math.subtract(slm.math.rotate_quaternion(rotation, before), after)


def test_alignment_of_vectors_has_a_closed_form():
    """Wahba's problem on SO(3), weighted: SciPy solves it by a singular value decomposition."""
    rng = np.random.default_rng(1)
    before = rng.normal(size=(30, 3))
    after = Rotation.from_rotvec([0.3, -1.0, 2.0]).apply(before) + rng.normal(0.0, 0.1, (30, 3))
    weights = rng.uniform(0.5, 2.0, 30)
    best, distance = Rotation.align_vectors(after, before, weights)
    problem = slm.Problem()
    rotation = problem.add_variables("rotation", [[0.0, 0.0, 0.0, 1.0]], manifold=slm.SO3())
    problem.add_residuals(turned, rotation[np.zeros(30, dtype=int)], data=(before, after), information=weights)
    result = slm.solve(problem, **PATIENT)
    assert result.final_cost == pytest.approx(0.5 * distance**2, rel=1e-6)
    assert (Rotation.from_quat(result[rotation][0]).inv() * best).magnitude() < 1e-6


@slm.residual(dim=3)
def to_direction(direction, measured):
    return slm.math.subtract(direction, measured)


def test_mean_direction_has_a_closed_form():
    """½ Σ ‖g − dᵢ‖² on the sphere is least at g = Σ d/‖Σ d‖."""
    measured = np.random.default_rng(2).normal([0.5, -1.0, 0.2], 0.3, (40, 3))
    total = measured.sum(axis=0)
    problem = slm.Problem()
    direction = problem.add_variables("direction", [[0.0, 0.0, 1.0]], manifold=slm.Sphere())
    problem.add_residuals(to_direction, direction[np.zeros(40, dtype=int)], data=measured)
    result = slm.solve(problem, **PATIENT)
    mean = total / np.linalg.norm(total)
    np.testing.assert_allclose(result[direction], mean[None], atol=1e-7)
    assert result.final_cost == pytest.approx(0.5 * np.sum((mean - measured) ** 2), rel=1e-12)


@slm.residual(dim=1)
def epipolar(rotation, baseline, first, second):
    """The sine between a bearing b and the plane of t and R a, for two cameras a baseline's direction t apart."""
    normal = slm.math.normalize(slm.math.cross(baseline, slm.math.rotate_quaternion(rotation, first)))
    return slm.math.dot(normal, second)


def test_relative_orientation_from_bearings():
    """A rotation on SO(3) and a direction on the sphere; SciPy's knows a rotation vector and two angles."""
    rng = np.random.default_rng(4)
    points = rng.uniform([-3.0, -3.0, 4.0], [3.0, 3.0, 9.0], (60, 3))
    R, t = Rotation.from_rotvec([0.1, -0.3, 0.2]), np.array([-0.8, 0.1, 0.2])
    first, second = points, R.apply(points) + t
    first, second = (v / np.linalg.norm(v, axis=1, keepdims=True) + rng.normal(0.0, 1e-3, v.shape) for v in (first, second))
    problem = slm.Problem()
    rotation = problem.add_variables("rotation", [[0.0, 0.0, 0.0, 1.0]], manifold=slm.SO3())
    baseline = problem.add_variables("baseline", [[-1.0, 0.0, 0.0]], manifold=slm.Sphere())
    zeros = np.zeros(60, dtype=int)
    problem.add_residuals(epipolar, rotation[zeros], baseline[zeros], data=(first, second), sqrt_information=1e3)
    result = slm.solve(problem, **PATIENT)

    def residuals(x):
        direction = np.array([np.cos(x[3]) * np.cos(x[4]), np.sin(x[3]) * np.cos(x[4]), np.sin(x[4])])
        normal = np.cross(direction, Rotation.from_rotvec(x[:3]).apply(first))
        return 1e3 * np.einsum("ij,ij->i", normal, second) / np.linalg.norm(normal, axis=1)

    x0 = np.array([0.0, 0.0, 0.0, np.pi, 0.0])
    assert result.initial_cost == pytest.approx(0.5 * np.sum(residuals(x0) ** 2), rel=1e-9)
    assert result.final_cost == pytest.approx(scipy_cost(residuals, x0), rel=1e-6)
    assert result.final_cost < 1e-3 * result.initial_cost


# -- one group of variables twice in a block ----------------------------------------------------------------------------


@slm.residual(dim=1)
def product(x, y, expected):
    return x[0] * y[0] - expected


def test_one_row_as_both_operands():
    """Blocks x₀ x₁ = 6, x₀ x₀ = 4 and x₁ x₁ = 10 from one group: a row may be both operands."""
    first, second, expected = np.array([0, 0, 1]), np.array([1, 0, 1]), np.array([6.0, 4.0, 10.0])
    problem = slm.Problem()
    x = problem.add_variables("x", [[1.0], [1.0]])
    problem.add_residuals(product, x[first], x[second], data=expected)
    result = slm.solve(problem, **PATIENT)
    independent = least_squares(lambda v: v[first] * v[second] - expected, [1.0, 1.0], xtol=1e-12, ftol=1e-14)
    assert result.final_cost == pytest.approx(independent.cost, rel=1e-6)
    np.testing.assert_allclose(result[x][:, 0], independent.x, rtol=1e-6)
