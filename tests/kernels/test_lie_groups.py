"""Scalar kernels of the Lie groups against dense matrices, extended precision and complex steps."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from sparselm.kernels import se2, se3, so2, so3

Long = np.longdouble
EPS = np.finfo(float).eps


def for_all(*strategies):
    """Hypothesis's given, the same points on every run; a first call compiles, so there is no deadline."""
    return lambda test: settings(deadline=None, derandomize=True, max_examples=200)(given(*strategies)(test))


# In [0, π], thick where formulas change or lose digits: tiny, at the switches to series, and beside a half turn.
angles = st.one_of(
    st.just(0.0),
    st.floats(0.0, math.pi),
    st.floats(-16.0, -0.5).map(lambda e: 10.0**e),
    st.floats(-15.0, -0.5).map(lambda e: math.pi - 10.0**e),
    st.sampled_from([math.sqrt(s) * (1.0 + d) for s in (1e-4, 0.25, 0.5) for d in (-1e-9, 0.0, 1e-9)]),
)
unit_interval = st.floats(-1.0, 1.0)
axes = st.tuples(unit_interval, unit_interval, unit_interval).filter(lambda v: np.linalg.norm(v) > 0.1)
rotation_vectors = st.builds(lambda angle, axis: angle * np.array(axis) / np.linalg.norm(axis), angles, axes)
vectors = st.tuples(*[st.floats(-10.0, 10.0)] * 3).map(np.array)
signs = st.sampled_from([1.0, -1.0])
quaternions = st.builds(lambda w, sign: sign * np.array(so3.so3_exp(*w)), rotation_vectors, signs)
poses = st.builds(lambda t, q: np.concatenate([t, q]), vectors, quaternions)
signed_angles = st.builds(lambda angle, sign: sign * angle, angles, signs)


def hat(w):
    return np.array([[0.0, -w[2], w[1]], [w[2], 0.0, -w[0]], [-w[1], w[0], 0.0]], dtype=np.asarray(w).dtype)


def matrix(*pose):
    result = np.eye(4)
    result[:3, :3] = np.reshape(so3.quat_to_matrix(*pose[3:]), (3, 3))
    result[:3, 3] = pose[:3]
    return result


def se3_ad(v, w):
    result = np.zeros((6, 6))
    result[:3, :3] = result[3:, 3:] = hat(w)
    result[:3, 3:] = hat(v)
    return result


def se2_ad(vx, vy, w):
    return np.array([[0.0, -w, vy], [w, 0.0, -vx], [0.0, 0.0, 0.0]])


def right_jacobian(ad):
    """Σ (−ad)^k/(k + 1)!, summed in extended precision."""
    ad = ad.astype(Long)
    term = total = np.eye(len(ad), dtype=Long)
    for k in range(1, 120):
        term = -(term @ ad) / (k + 1)
        total = total + term
    return total


def blocks(diagonal, corner):
    result = np.zeros((6, 6))
    result[:3, :3] = result[3:, 3:] = np.reshape(diagonal, (3, 3))
    result[:3, 3:] = np.reshape(corner, (3, 3))
    return result


def assert_inverse(jacobian, ad):
    """Measured as the error of the product with the series, relative to the sizes that meet in it."""
    forward = right_jacobian(ad)
    size = np.abs(forward).astype(float) @ np.abs(jacobian)
    error = np.abs(forward @ jacobian - np.eye(len(ad))).astype(float)
    assert np.all(error <= 8 * EPS * (1.0 + size.max())), error.max()


# -- angles ------------------------------------------------------------------------------------------------------------


@for_all(st.floats(-1e6, 1e6))
def test_wrap_angle(theta):
    wrapped = so2.wrap_angle(theta)
    assert -math.pi < wrapped <= math.pi
    turns = (Long(theta) - Long(wrapped)) / (2 * Long(math.pi))
    assert abs(turns - np.round(turns)) <= 2 * EPS * (1.0 + abs(theta))
    assert so2.wrap_angle(wrapped) == wrapped


@for_all(signed_angles.filter(lambda theta: theta > -math.pi))
def test_wrap_angle_leaves_angles_in_range_alone(theta):
    assert so2.wrap_angle(theta) == theta


def test_wrap_angle_at_the_seam():
    assert so2.wrap_angle(math.pi) == math.pi
    assert so2.wrap_angle(-math.pi) == math.pi
    assert so2.wrap_angle(np.nextafter(math.pi, 4.0)) == pytest.approx(-math.pi, abs=1e-15)
    for odd in (-7, -3, 3, 7, 1001):
        for theta in (odd * math.pi, np.nextafter(odd * math.pi, -np.inf), np.nextafter(odd * math.pi, np.inf)):
            assert -math.pi < so2.wrap_angle(theta) <= math.pi
    assert all(math.isnan(so2.wrap_angle(theta)) for theta in (math.nan, math.inf, -math.inf))


# -- rotations of space ------------------------------------------------------------------------------------------------


@for_all(quaternions, quaternions, vectors)
def test_quaternions_are_rotations(p, q, x):
    a, b = Rotation.from_quat(p), Rotation.from_quat(q)
    product = np.array(so3.quat_multiply(*p, *q))
    np.testing.assert_allclose(np.reshape(so3.quat_to_matrix(*p), (3, 3)), a.as_matrix(), rtol=0, atol=4 * EPS)
    np.testing.assert_allclose(
        np.reshape(so3.quat_to_matrix(*product), (3, 3)), (a * b).as_matrix(), rtol=0, atol=8 * EPS
    )
    np.testing.assert_allclose(so3.quat_rotate(*p, *x), a.apply(x), rtol=0, atol=100 * EPS)
    np.testing.assert_allclose(so3.quat_rotate_inverse(*p, *x), a.inv().apply(x), rtol=0, atol=100 * EPS)
    np.testing.assert_allclose(so3.quat_normalize(*(3.0 * p)), p, rtol=0, atol=2 * EPS)


def test_normalising_nothing_gives_nan():
    assert np.isnan(so3.quat_normalize(0.0, 0.0, 0.0, 0.0)).all()


@for_all(rotation_vectors)
def test_so3_exp(w):
    q = so3.so3_exp(*w)
    np.testing.assert_allclose(np.reshape(so3.quat_to_matrix(*q), (3, 3)), expm(hat(w)), rtol=0, atol=1e-14)
    half = np.linalg.norm(w.astype(Long)) / 2
    scale = np.sin(half) / half / 2 if half else Long(0.5)
    expected = np.append(w * scale, np.cos(half)).astype(float)
    np.testing.assert_allclose(q[:3], expected[:3], rtol=4 * EPS, atol=0)
    np.testing.assert_allclose(q[3], expected[3], rtol=0, atol=2 * EPS)


@for_all(quaternions)
def test_so3_log_to_the_last_digits(q):
    w = np.array(so3.so3_log(*q))
    assert np.linalg.norm(w) <= math.pi * (1.0 + EPS)
    long = q.astype(Long) * (-1 if q[3] < 0 else 1)
    length = np.sqrt(np.sum(long[:3] ** 2))
    expected = 2 * np.arctan2(length, long[3]) / length * long[:3] if length else np.zeros(3)
    np.testing.assert_allclose(w, expected.astype(float), rtol=6 * EPS, atol=0)


@for_all(rotation_vectors)
def test_so3_log_inverts_exp(w):
    np.testing.assert_allclose(so3.so3_log(*so3.so3_exp(*w)), w, rtol=0, atol=4 * EPS * (1.0 + np.linalg.norm(w)))


def test_so3_log_of_half_turns_and_extremes():
    np.testing.assert_allclose(so3.so3_log(0.0, 1.0, 0.0, 0.0), [0.0, math.pi, 0.0], rtol=0, atol=0)
    np.testing.assert_allclose(so3.so3_log(0.0, 1.0, 0.0, -1e-18), [0.0, -math.pi, 0.0], rtol=0, atol=0)
    assert so3.so3_log(0.0, 0.0, 0.0, -1.0) == (0.0, 0.0, 0.0)
    assert so3.so3_log(1e-200, 0.0, 0.0, 1.0) == (2e-200, 0.0, 0.0)  # the square of its length is zero
    assert so3.so3_exp(1e-200, 0.0, 0.0) == (5e-201, 0.0, 0.0, 1.0)


@for_all(rotation_vectors)
def test_so3_right_jacobian(w):
    forward = np.reshape(so3.so3_right_jacobian(*w), (3, 3))
    np.testing.assert_allclose(forward, right_jacobian(hat(w)).astype(float), rtol=0, atol=4 * EPS)
    assert_inverse(np.reshape(so3.so3_right_jacobian_inverse(*w), (3, 3)), hat(w))


@pytest.mark.parametrize("theta", [0.1, 0.3, 0.5 - 1e-9, 0.5 + 1e-9, 0.7071, 0.7072, 1.5, 3.0, math.pi, 4.0, 6.0])
def test_coefficients(theta):
    t = Long(theta)
    h = t / 2
    s = float(t * t)
    a, b, c = np.sin(t) / t, (1 - np.cos(t)) / t**2, (t - np.sin(t)) / t**3
    np.testing.assert_allclose(so3.exp_coefficients(s), np.array([a, b, c], float), rtol=6e-15, atol=4e-17)
    e = (1 - h / np.tan(h)) / t**2
    f = (h**2 / np.sin(h) ** 2 + h / np.tan(h) - 2) / t**4
    computed = so3.log_coefficients(s)
    np.testing.assert_allclose(computed[0], float(e), rtol=1e-14, atol=0)
    # F is multiplied by θ³ beside numbers of order 1, so its last three digits are not seen where θ is small.
    np.testing.assert_allclose(computed[1], float(f), rtol=1e-12, atol=0)


# -- rigid motions of the plane ----------------------------------------------------------------------------------------


@for_all(st.floats(-10, 10), st.floats(-10, 10), signed_angles)
def test_se2_exp_and_log(vx, vy, w):
    x, y, theta = se2.se2_exp(vx, vy, w)
    dense = expm(np.array([[0.0, -w, vx], [w, 0.0, vy], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose([x, y], dense[:2, 2], rtol=0, atol=1e-13)
    assert theta == so2.wrap_angle(w)
    if theta == w:
        np.testing.assert_allclose(se2.se2_log(x, y, theta), [vx, vy, w], rtol=0, atol=1e-14)


@for_all(st.floats(-10, 10), st.floats(-10, 10), signed_angles)
def test_se2_right_jacobian_inverse(vx, vy, w):
    assert_inverse(np.reshape(se2.se2_right_jacobian_inverse(vx, vy, w), (3, 3)), se2_ad(vx, vy, w))


@for_all(st.tuples(vectors, signed_angles), st.tuples(vectors, signed_angles))
def test_se2_between(a, b):
    def dense(p, theta):
        c, s = math.cos(theta), math.sin(theta)
        return np.array([[c, -s, p[0]], [s, c, p[1]], [0.0, 0.0, 1.0]])

    x, y, theta = se2.se2_between(a[0][0], a[0][1], a[1], b[0][0], b[0][1], b[1])
    expected = np.linalg.inv(dense(*a)) @ dense(*b)
    np.testing.assert_allclose(dense((x, y), theta), expected, rtol=0, atol=1e-13)
    assert -math.pi < theta <= math.pi


# -- rigid motions of space --------------------------------------------------------------------------------------------


@for_all(poses, poses)
def test_se3_group(a, b):
    np.testing.assert_allclose(matrix(*se3.se3_compose(*a, *b)), matrix(*a) @ matrix(*b), rtol=0, atol=1e-14)
    np.testing.assert_allclose(matrix(*se3.se3_inverse(*a)) @ matrix(*a), np.eye(4), rtol=0, atol=2e-14)
    np.testing.assert_allclose(matrix(*se3.se3_between(*a, *b)), np.linalg.inv(matrix(*a)) @ matrix(*b), atol=4e-14)


@for_all(vectors, rotation_vectors)
def test_se3_exp_and_log(v, w):
    pose = se3.se3_exp(*v, *w)
    dense = np.zeros((4, 4))
    dense[:3, :3], dense[:3, 3] = hat(w), v
    np.testing.assert_allclose(matrix(*pose), expm(dense), rtol=0, atol=1e-13)
    back = np.array(se3.se3_log(*pose))
    if np.linalg.norm(w) > math.pi - 1e-14:  # the other logarithm of a half turn may be the one found
        back, pose = np.array(se3.se3_exp(*back)), np.array(pose)
        np.testing.assert_allclose(matrix(*back), matrix(*pose), rtol=0, atol=1e-13)
    else:
        np.testing.assert_allclose(back, [*v, *w], rtol=0, atol=1e-14)


@for_all(vectors, rotation_vectors)
def test_se3_right_jacobian_inverse(v, w):
    assert_inverse(blocks(*se3.se3_right_jacobian_inverse(*v, *w)), se3_ad(v, w))


@for_all(poses, vectors, rotation_vectors)
def test_se3_adjoint(x, v, w):
    adjoint = blocks(*se3.se3_adjoint(*x))
    moved = adjoint @ np.concatenate([v, w])
    left = matrix(*se3.se3_compose(*x, *se3.se3_exp(*v, *w)))
    right = matrix(*se3.se3_compose(*se3.se3_exp(*moved), *x))
    np.testing.assert_allclose(left, right, rtol=0, atol=1e-13)


# -- derivatives of Log(X·Exp(d)) at d = 0, by steps -------------------------------------------------------------------


def log_of_moved(pose, d):
    """Log(X·Exp(d)) in plain formulas, analytic in d, complex or real; X with q_w > 0 and not near the identity."""
    t, v, w = pose[:3], pose[3:6], pose[6]
    theta = np.sqrt(np.sum(d[3:] * d[3:]))
    tiny = abs(theta) < 1e-20  # a complex step; Exp to first order then
    dv = d[3:] * (0.5 if tiny else np.sin(theta / 2) / theta)
    dw = 1.0 if tiny else np.cos(theta / 2)
    turn = np.cross(d[3:], d[:3])
    dt = d[:3] + (0.5 * turn if tiny else (1 - np.cos(theta)) / theta**2 * turn)
    if not tiny:
        dt = dt + (theta - np.sin(theta)) / theta**3 * np.cross(d[3:], turn)
    moved = t + dt + 2 * np.cross(v, np.cross(v, dt) + w * dt)
    vector, scalar = w * dv + dw * v + np.cross(v, dv), w * dw - v @ dv
    length = np.sqrt(np.sum(vector * vector))
    angle = 2 * (np.pi / 2 - np.arctan(scalar / length))  # atan2 for complex numbers, good at a half turn
    rotation = angle / length * vector
    e = (1 - angle / 2 * scalar / length) / angle**2
    turn = np.cross(rotation, moved)
    return np.concatenate([moved - 0.5 * turn + e * np.cross(rotation, turn), rotation])


@for_all(vectors, rotation_vectors.filter(lambda w: 1e-2 < np.linalg.norm(w) < math.pi - 1e-12))
def test_jacobian_by_complex_steps(v, w):
    pose = np.array(se3.se3_exp(*v, *w))
    steps = 1e-40j * np.eye(6)
    derivative = np.column_stack([log_of_moved(pose, d).imag / 1e-40 for d in steps])
    jacobian = blocks(*se3.se3_right_jacobian_inverse(*se3.se3_log(*pose)))
    np.testing.assert_allclose(jacobian, derivative, rtol=0, atol=1e-10)
    np.testing.assert_allclose(
        np.reshape(so3.so3_right_jacobian_inverse(*w), (3, 3)), derivative[3:, 3:], rtol=0, atol=1e-10
    )


@for_all(vectors, rotation_vectors.filter(lambda w: np.linalg.norm(w) < math.pi - 1e-4))
def test_jacobians_by_differences(v, w):
    pose = se3.se3_exp(*v, *w)
    step = 1e-5

    def moved(d):
        return np.array(se3.se3_log(*se3.se3_compose(*pose, *se3.se3_exp(*d))))

    derivative = np.column_stack([(moved(d) - moved(-d)) / (2 * step) for d in step * np.eye(6)])
    jacobian = blocks(*se3.se3_right_jacobian_inverse(*se3.se3_log(*pose)))
    np.testing.assert_allclose(jacobian, derivative, rtol=0, atol=1e-6)


@for_all(st.floats(-10, 10), st.floats(-10, 10), signed_angles.filter(lambda w: abs(w) < math.pi - 1e-4))
def test_se2_jacobian_by_differences(vx, vy, w):
    step = 1e-5

    def moved(d):
        x, y, theta = se2.se2_exp(vx, vy, w)
        dx, dy, turn = se2.se2_exp(*d)
        c, s = math.cos(theta), math.sin(theta)
        return np.array(se2.se2_log(x + c * dx - s * dy, y + s * dx + c * dy, so2.wrap_angle(theta + turn)))

    derivative = np.column_stack([(moved(d) - moved(-d)) / (2 * step) for d in step * np.eye(3)])
    jacobian = np.reshape(se2.se2_right_jacobian_inverse(vx, vy, w), (3, 3))
    np.testing.assert_allclose(jacobian, derivative, rtol=0, atol=1e-6)
