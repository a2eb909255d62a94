"""sparselm.math against dense NumPy and SciPy's rotations, as plain Python and inside a residual function."""

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import sparselm as slm
from sparselm import math as m

RNG = np.random.default_rng(11)
VECTORS = RNG.standard_normal((6, 3))
ANGLE_AXIS = [*RNG.standard_normal((4, 3)), np.zeros(3), np.array([1e-9, 0, 0]), np.array([0, math.pi - 1e-9, 0])]


def matrix(rows):
    return np.array(rows)


def pose(vector, w):
    q = Rotation.from_rotvec(w).as_quat()
    return (*vector, *q)


def dense(a):
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat(a[3:]).as_matrix()
    T[:3, 3] = a[:3]
    return T


@pytest.mark.parametrize("w", ANGLE_AXIS, ids=str)
def test_rotations(w):
    R = Rotation.from_rotvec(w)
    q, x = R.as_quat(), VECTORS[0]
    np.testing.assert_allclose(m.rotate_angle_axis(w, x), R.apply(x), atol=1e-14)
    np.testing.assert_allclose(m.angle_axis_matrix(w), R.as_matrix(), atol=1e-14)
    np.testing.assert_allclose(m.rotation_matrix(q), R.as_matrix(), atol=1e-14)
    np.testing.assert_allclose(m.rotate_quaternion(q, x), R.apply(x), atol=1e-14)
    np.testing.assert_allclose(m.rotate_quaternion_inverse(q, x), R.inv().apply(x), atol=1e-14)
    np.testing.assert_allclose(m.rotate_quaternion(m.quaternion_conjugate(q), x), R.inv().apply(x), atol=1e-14)
    np.testing.assert_allclose(m.rotation_matrix(m.so3_exp(w)), R.as_matrix(), atol=1e-14)
    np.testing.assert_allclose(m.so3_log(q), w, atol=1e-9)
    other = Rotation.from_rotvec(VECTORS[1])
    product = m.quaternion_multiply(q, other.as_quat())
    np.testing.assert_allclose(m.rotation_matrix(product), (R * other).as_matrix(), atol=1e-14)
    np.testing.assert_allclose(m.quaternion_normalize(3.0 * q), q, atol=1e-15)
    step = 1e-6
    for k in range(3):
        moved = [Rotation.from_rotvec(np.asarray(w) + s * step * np.eye(3)[k]).apply(x) for s in (1, -1)]
        column = np.cross(matrix(m.so3_left_jacobian(w))[:, k], R.apply(x))
        np.testing.assert_allclose((moved[0] - moved[1]) / (2 * step), column, atol=1e-8)


def test_vectors_and_matrices():
    a, b = VECTORS[:2]
    A, B = RNG.standard_normal((2, 3, 3))
    assert m.dot(a, b) == pytest.approx(a @ b)
    assert m.norm(a) == pytest.approx(np.linalg.norm(a))
    np.testing.assert_allclose(m.cross(a, b), np.cross(a, b))
    np.testing.assert_allclose(m.normalize(a), a / np.linalg.norm(a))
    np.testing.assert_allclose(m.add(a, b), a + b)
    np.testing.assert_allclose(m.subtract(a, b), a - b)
    np.testing.assert_allclose(m.scale(2.5, a), 2.5 * a)
    np.testing.assert_allclose(m.matrix_vector(A, a), A @ a)
    np.testing.assert_allclose(m.transposed_matrix_vector(A, a), A.T @ a)
    np.testing.assert_allclose(m.transpose(A), A.T)
    np.testing.assert_allclose(m.matrix_matrix(A, B), A @ B)


def test_poses_of_space():
    a, b = pose(VECTORS[0], VECTORS[1]), pose(VECTORS[2], VECTORS[3])
    x = VECTORS[4]
    np.testing.assert_allclose(dense(m.se3_compose(a, b)), dense(a) @ dense(b), atol=1e-13)
    np.testing.assert_allclose(dense(m.se3_inverse(a)), np.linalg.inv(dense(a)), atol=1e-13)
    np.testing.assert_allclose(dense(m.se3_between(a, b)), np.linalg.inv(dense(a)) @ dense(b), atol=1e-13)
    np.testing.assert_allclose(m.se3_transform(a, x), (dense(a) @ [*x, 1])[:3], atol=1e-13)
    np.testing.assert_allclose(m.se3_transform_inverse(a, m.se3_transform(a, x)), x, atol=1e-13)
    v = 0.7 * RNG.standard_normal(6)
    np.testing.assert_allclose(m.se3_log(m.se3_exp(v)), v, atol=1e-13)


def test_poses_of_the_plane():
    def plane(a):
        c, s = math.cos(a[2]), math.sin(a[2])
        return np.array([[c, -s, a[0]], [s, c, a[1]], [0, 0, 1]])

    a, b = VECTORS[0], VECTORS[1]
    np.testing.assert_allclose(plane(m.se2_compose(a, b)), plane(a) @ plane(b), atol=1e-13)
    np.testing.assert_allclose(plane(m.se2_inverse(a)), np.linalg.inv(plane(a)), atol=1e-13)
    np.testing.assert_allclose(plane(m.se2_between(a, b)), np.linalg.inv(plane(a)) @ plane(b), atol=1e-13)
    np.testing.assert_allclose(m.se2_transform(a, (0.3, 0.4)), (plane(a) @ [0.3, 0.4, 1.0])[:2], atol=1e-13)
    np.testing.assert_allclose(m.rotate2(0.3, (1.0, 2.0)), plane((0, 0, 0.3))[:2, :2] @ [1.0, 2.0], atol=1e-14)
    np.testing.assert_allclose(m.se2_log(m.se2_exp(a)), a, atol=1e-13)
    assert m.wrap_angle(math.pi + 0.1) == pytest.approx(0.1 - math.pi)


def test_cameras():
    p = (0.3, -0.2, 1.7)
    u, v = m.project_pinhole(p)
    assert (u, v) == pytest.approx((0.3 / 1.7, -0.2 / 1.7))
    s = u * u + v * v
    assert m.distort_radial((u, v), 0.1, 0.01) == pytest.approx(np.array([u, v]) * (1 + 0.1 * s + 0.01 * s * s))
    k1, k2, p1, p2, k3 = 0.1, 0.02, 0.003, -0.004, 0.005
    radial = 1 + k1 * s + k2 * s**2 + k3 * s**3
    expected = (
        u * radial + 2 * p1 * u * v + p2 * (s + 2 * u * u),
        v * radial + p1 * (s + 2 * v * v) + 2 * p2 * u * v,
    )
    assert m.distort_opencv((u, v), k1, k2, p1, p2, k3) == pytest.approx(expected)
    rho = math.hypot(p[0], p[1])
    theta = math.atan2(rho, p[2])
    distorted = theta * (1 + 0.1 * theta**2 - 0.02 * theta**4 + 0.003 * theta**6 - 0.0004 * theta**8)
    expected = (distorted / rho * p[0], distorted / rho * p[1])
    assert m.project_fisheye(p, 0.1, -0.02, 0.003, -0.0004) == pytest.approx(expected, rel=1e-14)
    assert m.project_fisheye((0.0, 0.0, 2.0), 0.1, 0.0, 0.0, 0.0) == (0.0, 0.0)


def test_fisheye_is_smooth_across_the_switch_to_its_series():
    threshold = 1e-3 * 1.7
    inside, outside = (m.project_fisheye((threshold * f, 0.0, 1.7), 0.1, 0.2, 0.3, 0.4)[0] for f in (0.999999, 1.000001))
    assert outside - inside == pytest.approx(2e-9 * 1, rel=1e-3)


@slm.residual(dim=8)
def cameras(w, p):
    x = m.add(m.rotate_angle_axis(w, p), (0.0, 0.0, 5.0))
    u = m.project_pinhole(x)
    a, b = m.distort_opencv(u, 0.1, 0.02, 0.003, -0.004)
    c, d = m.distort_radial(u, 0.1, 0.02)
    e, f = m.project_fisheye(x, 0.1, -0.02, 0.003, -0.0004)
    return a, b, c, d, e, f, m.so3_log(m.so3_exp(w))[1], m.se3_log((*p, *m.so3_exp(w)))[0]


def test_derivatives_of_geometry_everywhere():
    """At zero rotation, on the fisheye's axis, and near a half turn, against extrapolated differences of plain Python."""
    W = np.array([*ANGLE_AXIS[:-1], [0.0, 3.0, 0.5], np.zeros(3)])
    P = np.array([*VECTORS[: len(W) - 2], [1e-9, 0.0, 0.3], [0.0, 0.0, 0.5]])[: len(W)]
    problem = slm.Problem()
    w, p = problem.add_variables("w", W), problem.add_variables("p", P)
    problem.add_residuals(cameras, w, p)
    J = slm.evaluate(problem).jacobian.toarray().reshape(len(W), 8, -1)
    for b in range(len(W)):
        z = np.concatenate([W[b], P[b]])
        for k in range(6):
            column = 3 * b + k if k < 3 else 3 * len(W) + 3 * b + k - 3

            def difference(h, z=z, k=k):
                sides = [cameras((z + s * h * np.eye(6)[k])[:3], (z + s * h * np.eye(6)[k])[3:]) for s in (1, -1)]
                return (np.array(sides[0]) - np.array(sides[1])) / (2 * h)

            exact = (4 * difference(5e-4) - difference(1e-3)) / 3
            np.testing.assert_allclose(J[b, :, column], exact, atol=2e-9)
