"""A rig of cameras with shared intrinsics: points are eliminated, poses, mounts and lenses are kept.

Three cameras on a vehicle that drives past a row of houses. Poses are world from body, mounts body from camera, the first
of each held. The lens of a camera is shared by its images and known beforehand to a standard deviation; odometry gives the
scale.
"""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import sparselm as slm

TIMES, CAMERAS, POINTS = 6, 3, 100
PIXEL = 0.3  # standard deviations: pixels; of a lens; of odometry in metres and radians
LENS = np.array([5.0, 5.0, 4.0, 4.0, 0.02, 0.01])
ODOMETRY = np.array([0.02, 0.02, 0.02, 0.005, 0.005, 0.005])

PATIENT = {"max_iterations": 100, "function_tolerance": 1e-13}


@slm.residual(dim=2)
def seen_by_rig(rig, mount, lens, point, pixel):
    in_body = slm.math.se3_transform_inverse(rig, point)
    x, y, z = slm.math.se3_transform_inverse(mount, in_body)
    fx, fy, cx, cy, k1, k2 = lens
    u, v = slm.math.distort_radial((x / z, y / z), k1, k2)
    return fx * u + cx - pixel[0], fy * v + cy - pixel[1]


class Scene:
    """The truth, and what is seen of it, by NumPy and SciPy."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        along = np.arange(TIMES)
        places = np.column_stack([along, 0.04 * along**2, 0.05 * rng.normal(size=TIMES)])
        turns = Rotation.from_euler("zyx", np.column_stack([0.08 * along, 0.05 * rng.normal(size=(TIMES, 2))]))
        fan = Rotation.from_euler("z", [[0.0], [0.5], [-0.5]])
        left = Rotation.from_matrix([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
        self.rigs = np.column_stack([places, turns.as_quat()])
        offsets = [[0.0, 0.8, 1.5], [-0.5, 0.7, 1.5], [0.5, 0.7, 1.6]]
        self.mounts = np.column_stack([offsets, (fan * left).as_quat()])
        self.lenses = np.array(
            [
                [600.0, 601.0, 322.0, 238.0, -0.10, 0.010],
                [612.0, 610.0, 317.0, 243.0, -0.12, 0.015],
                [595.0, 593.0, 325.0, 241.0, -0.09, 0.012],
            ]
        )
        low, high = [-7.0, 5.0, -1.0], [12.0, 11.0, 5.0]
        points = rng.uniform(low, high, (POINTS, 3))
        self.time, self.camera, point = (a.ravel() for a in np.indices((TIMES, CAMERAS, POINTS)))
        in_body = _inverse(self.rigs[self.time], points[point])
        p = _inverse(self.mounts[self.camera], in_body)
        xy = p[:, :2] / p[:, 2:]
        f, centre, k1, k2 = np.split(self.lenses[self.camera], [2, 4, 5], axis=1)
        s = (xy**2).sum(axis=1, keepdims=True)
        self.pixels = f * (1.0 + k1 * s + k2 * s**2) * xy + centre
        inside = (p[:, 2] > 1.0) & (self.pixels > 0.0).all(axis=1) & (self.pixels < [640.0, 480.0]).all(axis=1)
        inside &= np.bincount(point[inside], minlength=POINTS)[point] >= 3
        self.time, self.camera, self.pixels = self.time[inside], self.camera[inside], self.pixels[inside]
        seen, self.point = np.unique(point[inside], return_inverse=True)
        self.points = points[seen]
        first, second = Rotation.from_quat(self.rigs[:-1, 3:]), Rotation.from_quat(self.rigs[1:, 3:])
        steps = first.inv().apply(self.rigs[1:, :3] - self.rigs[:-1, :3])
        self.odometry = np.column_stack([steps, (first.inv() * second).as_quat()])

    def problem(self, *, noise: float) -> slm.Problem:
        rng = np.random.default_rng(6)
        problem = slm.Problem()
        rigs = problem.add_variables("rig", _moved(rng, self.rigs, 0.05, 0.01), manifold=slm.SE3())
        mounts = problem.add_variables("mount", _moved(rng, self.mounts, 0.03, 0.02), manifold=slm.SE3())
        nominal = self.lenses + noise * LENS * rng.normal(size=self.lenses.shape)
        lenses = problem.add_variables("lens", nominal + 2.0 * LENS)
        points = problem.add_variables("point", self.points + rng.normal(0.0, 0.2, self.points.shape))
        rigs.fix([0])
        mounts.fix([0])
        problem.add_residuals(
            seen_by_rig, rigs[self.time], mounts[self.camera], lenses[self.camera], points[self.point],
            data=self.pixels + noise * PIXEL * rng.normal(size=self.pixels.shape), sqrt_information=1.0 / PIXEL,
        )  # fmt: skip
        problem.add_residuals(slm.Prior(slm.Euclidean(6)), lenses, data=nominal, sqrt_information=np.diag(1.0 / LENS))
        turned = Rotation.from_quat(self.odometry[:, 3:]) * Rotation.from_rotvec(
            noise * ODOMETRY[3:] * rng.normal(size=(TIMES - 1, 3))
        )
        measured = np.column_stack(
            [self.odometry[:, :3] + noise * ODOMETRY[:3] * rng.normal(size=(TIMES - 1, 3)), turned.as_quat()]
        )
        problem.add_residuals(
            slm.Between(slm.SE3()), rigs[:-1], rigs[1:], data=measured, sqrt_information=np.diag(1.0 / ODOMETRY)
        )
        return problem


def _inverse(poses, points):
    """Rᵀ (l − t)."""
    return Rotation.from_quat(poses[:, 3:]).inv().apply(points - poses[:, :3])


def _moved(rng, poses, metres, radians):
    """Poses near these; the first one stays."""
    turned = Rotation.from_quat(poses[:, 3:]) * Rotation.from_rotvec(rng.normal(0.0, radians, (len(poses), 3)))
    moved = np.column_stack([poses[:, :3] + rng.normal(0.0, metres, (len(poses), 3)), turned.as_quat()])
    moved[0] = poses[0]
    return moved


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


@pytest.fixture(scope="module")
def reference(scene) -> slm.Result:
    """The noisy problem without an elimination."""
    return slm.solve(scene.problem(noise=1.0), linear_solver=slm.BlockCholesky(), **PATIENT)


def test_measurements_without_noise_lead_to_the_truth(scene):
    problem = scene.problem(noise=0.0)
    result = slm.solve(problem, linear_solver=slm.SchurCholesky(), **PATIENT)
    assert result.success and result.final_cost < 1e-12 * result.initial_cost
    assert f"{len(scene.points)} blocks of point are eliminated" in result.linear_solver_facts
    for variables, truth, accuracy in zip(
        problem.variables, (scene.rigs, scene.mounts, scene.lenses, scene.points), (1e-6, 1e-6, 1e-4, 1e-5), strict=True
    ):
        np.testing.assert_allclose(result[variables], truth, atol=accuracy)


def test_cost_with_noise_is_what_statistics_expects(scene, reference):
    """½ χ² with as many degrees of freedom as there are more measurements than unknowns."""
    freedom = reference.sizes.num_residuals - reference.sizes.num_parameters
    assert abs(reference.final_cost - freedom / 2) < 4.0 * np.sqrt(freedom / 2)


@pytest.mark.parametrize(
    "solver",
    [slm.SchurCholesky(), slm.SchurPCG(form="explicit", tolerance=1e-8), slm.SchurPCG(form="implicit", tolerance=1e-8)],
    ids=["cholesky", "explicit", "implicit"],
)
def test_same_optimum_as_without_elimination(scene, reference, solver):
    result = slm.solve(scene.problem(noise=1.0), linear_solver=solver, **PATIENT)
    assert result.success
    assert result.final_cost == pytest.approx(reference.final_cost, rel=1e-9)
