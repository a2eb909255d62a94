"""Bundle adjustment and pose graphs whose every residual is user-written meet the optimum of the built-in ones."""

import math

import numpy as np
import pytest

import problems
import sparselm as slm
from problems.user_written import snavely, snavely_prepared
from sparselm import datasets
from sparselm.io.bal import BundleAdjustmentData
from sparselm.io.pose_graph import PoseGraph

PATIENT = {"max_iterations": 300, "function_tolerance": 1e-12}


# -- bundle adjustment --------------------------------------------------------------------------------------------------


@slm.residual(dim=2)
def snavely_by_hand(camera, point, pixel):
    return snavely(camera, point, pixel)


@snavely_by_hand.jacobian
def snavely_jacobian(camera, point, pixel):
    """∂(u, v)/∂P (2 × 3) times ∂P/∂(ω, t, X) = (−[R X]× J_l(ω), I, R), beside the intrinsics' columns."""
    R = slm.math.angle_axis_matrix(camera[:3])
    p = slm.math.matrix_vector(R, point)
    x, y, z = slm.math.add(p, camera[3:6])
    u, v = -x / z, -y / z
    f, k1, k2 = camera[6:]
    s = u * u + v * v
    d = 1.0 + s * (k1 + s * k2)
    slope = 2.0 * f * (k1 + 2.0 * k2 * s)
    uu, uv, vv = f * d + slope * u * u, slope * u * v, f * d + slope * v * v
    row_u = -uu / z, -uv / z, -(uu * u + uv * v) / z
    row_v = -uv / z, -vv / z, -(uv * u + vv * v) / z
    # −aᵀ [p]× J_l = (p × a)ᵀ J_l for each row a.
    J = left_jacobian(camera[:3])
    return (
        (
            *slm.math.transposed_matrix_vector(J, slm.math.cross(p, row_u)), *row_u, d * u, f * s * u, f * s * s * u,
            *slm.math.transposed_matrix_vector(R, row_u),
        ),
        (
            *slm.math.transposed_matrix_vector(J, slm.math.cross(p, row_v)), *row_v, d * v, f * s * v, f * s * s * v,
            *slm.math.transposed_matrix_vector(R, row_v),
        ),
    )  # fmt: skip


def left_jacobian(w):
    """J_l(ω) = I + B [ω]× + C [ω]×², B = (1 − cos θ)/θ², C = (θ − sin θ)/θ³; for rotations that are not tiny."""
    s = slm.math.dot(w, w)
    theta = math.sqrt(s)
    b, c = (1.0 - math.cos(theta)) / s, (theta - math.sin(theta)) / (s * theta)
    x, y, z = w
    return (
        (1.0 - c * (y * y + z * z), c * x * y - b * z, c * x * z + b * y),
        (c * x * y + b * z, 1.0 - c * (x * x + z * z), c * y * z - b * x),
        (c * x * z - b * y, c * y * z + b * x, 1.0 - c * (x * x + y * y)),
    )


CAMERAS = [snavely, snavely_prepared, snavely_by_hand]


def bundle_adjustment(residual, data: BundleAdjustmentData, loss=None) -> slm.Problem:
    problem = slm.Problem()
    cameras = problem.add_variables("camera", data.cameras)
    points = problem.add_variables("point", data.points)
    operands = cameras[data.camera_index], points[data.point_index]
    problem.add_residuals(residual, *operands, data=data.pixels, loss=loss)
    return problem


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.name)
def test_street(camera):
    named = problems.get("street-8")
    result = slm.solve(bundle_adjustment(camera, datasets.street(8, 120, seed=8).data), **PATIENT)
    assert result.final_cost == pytest.approx(named.optimum, rel=1e-6)


def test_street_with_outliers_and_a_robust_loss():
    data = datasets.street(12, 300, seed=5, outliers=0.02).data
    costs = [
        slm.solve(bundle_adjustment(camera, data, slm.Huber(1.0)), **PATIENT).final_cost
        for camera in (slm.SnavelyReprojection(), snavely_prepared)
    ]
    assert costs[1] == pytest.approx(costs[0], rel=1e-6)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.name)
def test_ladybug_49(camera):
    """The valley is flat: the last digits of the optimum take hundreds of iterations, which need not be the same ones."""
    named = problems.get("bal-ladybug-49")
    if named.why_unavailable():
        pytest.skip(named.why_unavailable())
    from problems.bundle_adjustment import ladybug_49

    mine, theirs = bundle_adjustment(camera, ladybug_49()), named.build()
    start = slm.evaluate(theirs)
    group = mine.residuals[0].name
    np.testing.assert_allclose(
        slm.evaluate(mine).residuals[group], start.residuals[theirs.residuals[0].name], rtol=1e-9, atol=1e-9
    )
    low = named.optimum * (1.0 + 1e-6)
    result = slm.solve(mine, max_iterations=300, function_tolerance=0, callback=lambda step: step.cost <= low)
    assert result.initial_cost == pytest.approx(start.cost, rel=1e-12)
    assert result.final_cost == pytest.approx(named.optimum, rel=1e-6)


# -- pose graphs --------------------------------------------------------------------------------------------------------


@slm.residual(dim=6)
def between3(first, second, measured):
    """Log(Z⁻¹·X_i⁻¹·X_j) on SE(3); poses are world from body."""
    return slm.math.se3_log(slm.math.se3_between(measured, slm.math.se3_between(first, second)))


@slm.residual(dim=3)
def between2(first, second, measured):
    """Log(Z⁻¹·X_i⁻¹·X_j) on SE(2); poses are world from body."""
    return slm.math.se2_log(slm.math.se2_between(measured, slm.math.se2_between(first, second)))


@slm.residual(dim=6)
def prior3(pose, measured):
    return slm.math.se3_log(slm.math.se3_between(measured, pose))


@slm.residual(dim=3)
def prior2(pose, measured):
    return slm.math.se2_log(slm.math.se2_between(measured, pose))


BUILT_IN = {2: (slm.Between(slm.SE2()), slm.Prior(slm.SE2())), 3: (slm.Between(slm.SE3()), slm.Prior(slm.SE3()))}
USER_WRITTEN = {2: (between2, prior2), 3: (between3, prior3)}


def pose_graph(graph: PoseGraph, residuals, anchor: str, loss=None) -> slm.Problem:
    """A graph whose first pose is held, or bound to its place and to where the last one is by priors."""
    between, prior = residuals[graph.world_dim]
    problem = slm.Problem()
    poses = problem.add_variables("pose", graph.poses, manifold=slm.SE2() if graph.world_dim == 2 else slm.SE3())
    first, second = graph.edges.T
    operands = poses[np.ascontiguousarray(first)], poses[np.ascontiguousarray(second)]
    problem.add_residuals(between, *operands, data=graph.measured, information=graph.information, loss=loss)
    if anchor == "held":
        poses.fix([0])
    else:
        ends = np.array([0, len(graph.poses) - 1])
        d = poses.manifold.tangent_dim
        weight = np.diag(np.linspace(10.0, 40.0, d))
        problem.add_residuals(prior, poses[ends], data=graph.poses[ends], sqrt_information=weight)
    return problem


GRAPHS = {
    "grid": lambda: datasets.grid_se2(100, seed=100),
    "sphere": lambda: datasets.sphere_se3(12, 15, seed=180),
    "torus": lambda: datasets.torus_se3(12, 20, seed=240),
}
STORED = {"grid": "grid-100", "sphere": "sphere-180", "torus": "torus-240"}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_pose_held(name):
    """The optimum is one that problems/reference.py found, with differences instead of derivatives."""
    result = slm.solve(pose_graph(GRAPHS[name](), USER_WRITTEN, "held"), **PATIENT)
    assert result.final_cost == pytest.approx(problems.get(STORED[name]).optimum, rel=1e-6)


@pytest.mark.parametrize("name", ["grid", "sphere"])
def test_priors_and_a_robust_loss(name):
    """A survey is pulled to where odometry put its last pose, so that the prior's residual is far from zero."""
    graph = GRAPHS[name]()
    costs = {}
    for anchor, loss in (("held", None), ("priors", None), ("priors", slm.Huber(1.0))):
        user, built_in = (
            slm.solve(pose_graph(graph, residuals, anchor, loss), **PATIENT) for residuals in (USER_WRITTEN, BUILT_IN)
        )
        assert user.final_cost == pytest.approx(built_in.final_cost, rel=1e-6)
        costs[anchor, loss is not None] = user.final_cost
    assert costs["priors", False] > 1.01 * costs["held", False]
    assert costs["priors", True] < 0.99 * costs["priors", False]


@pytest.mark.parametrize("name", ["parking-garage", "sphere2500", "intel", "M3500"])
def test_public_pose_graphs(name):
    named = problems.get(f"g2o-{name.lower()}")
    if named.why_unavailable():
        pytest.skip(named.why_unavailable())
    problem = named.build()
    (group,) = problem.residuals
    mine = slm.Problem()
    poses = mine.add_variables("pose", problem.variables[0].values, manifold=problem.variables[0].manifold)
    poses.fix([0])
    between, _ = USER_WRITTEN[2 if isinstance(poses.manifold, slm.SE2) else 3]
    copy = mine.add_residuals(between, *(poses[operand.index] for operand in group.operands), data=group.data)
    copy.set_weight(sqrt_information=group.sqrt_information)
    result = slm.solve(mine, **PATIENT)
    assert result.final_cost == pytest.approx(named.optimum, rel=1e-6)
