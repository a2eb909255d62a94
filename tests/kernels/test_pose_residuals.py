"""Pose residuals against dense matrices: the group as homogeneous matrices, its maps as matrix functions.

Three independent ways: matrix exponentials of SciPy for residuals and J_r⁻¹ (J_r = φ₁(−ad), the upper right block of an
exponential); complex steps through an analytic logarithm of matrices; and the gauge freedom of a pose graph.
"""

import math

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.spatial.transform import Rotation
from threadpoolctl import threadpool_limits

from sparselm.manifolds import SE2, SE3, SO3, Euclidean
from sparselm.residuals import Between, BetweenUncoupled, Landmark, Prior
from sparselm.residuals.base import OperandBlocks
from sparselm.residuals.prior import CHUNK
from sparselm.testing import check_residual

N = 48
POSES = [SE2(), SE3()]
CASES = ["random", "small", "tiny", "zero", "near half turn", "nearer half turn", "nearest half turn", "far away"]


@pytest.fixture(autouse=True)
def _one_blas_thread():
    """The threads of BLAS and those of the kernels, in turn on tiny matrices, wait for each other."""
    with threadpool_limits(1, user_api="blas"):
        yield


# -- the group as matrices ---------------------------------------------------------------------------------------------


def matrices(poses):
    """Homogeneous matrices of ``[x y θ]`` or ``[t q]``."""
    if poses.shape[1] == 3:
        c, s = np.cos(poses[:, 2]), np.sin(poses[:, 2])
        rotation, d = np.stack([c, -s, s, c], axis=1).reshape(-1, 2, 2), 2
    else:
        rotation, d = Rotation.from_quat(poses[:, 3:]).as_matrix(), 3
    T = np.zeros((len(poses), d + 1, d + 1))
    T[:, :d, :d], T[:, :d, d], T[:, d, d] = rotation, poses[:, :d], 1.0
    return T


def inverse(T):
    """Inverse of rigid motions; transposes are plain ones, so that complex steps pass."""
    d = T.shape[-1] - 1
    out = np.zeros_like(T)
    rotation = np.swapaxes(T[..., :d, :d], -1, -2)
    out[..., :d, :d], out[..., d, d] = rotation, 1.0
    out[..., :d, d] = -(rotation @ T[..., :d, d, None])[..., 0]
    return out


def cross(w):
    """[w]× for vectors of the plane's rotations (1,) and of space's (3,)."""
    if w.shape[-1] == 1:
        zero = np.zeros_like(w[..., 0])
        return np.stack([zero, -w[..., 0], w[..., 0], zero], axis=-1).reshape(*w.shape[:-1], 2, 2)
    x, y, z = np.moveaxis(w, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*w.shape[:-1], 3, 3)


def hat(tangent):
    """The matrix whose exponential is the motion Exp(v, w)."""
    d = 2 if tangent.shape[-1] == 3 else 3
    out = np.zeros((*tangent.shape[:-1], d + 1, d + 1), tangent.dtype)
    out[..., :d, :d], out[..., :d, d] = cross(tangent[..., d:]), tangent[..., :d]
    return out


def vee(X):
    d = X.shape[-1] - 1
    w = X[..., 1, 0, None] if d == 2 else np.stack([X[..., 2, 1], X[..., 0, 2], X[..., 1, 0]], axis=-1)
    return np.concatenate([X[..., :d, d], w], axis=-1)


def adjoint(T):
    """Column k is vee(T hat(e_k) T⁻¹)."""
    basis = hat(np.eye(3 if T.shape[-1] == 3 else 6))
    return np.swapaxes(vee(T[:, None] @ basis @ inverse(T)[:, None]), 1, 2)


def lie_bracket(tangent):
    """Column k of ad is vee([hat(τ), hat(e_k)])."""
    X, basis = hat(tangent)[:, None], hat(np.eye(tangent.shape[1]))
    return np.swapaxes(vee(X @ basis - basis @ X), 1, 2)


def phi1(A):
    """φ₁(A) = Σ Aⁿ/(n+1)!, from exp [A I; 0 0] = [exp A, φ₁(A); 0, I]."""
    k = A.shape[-1]
    wide = np.zeros((len(A), 2 * k, 2 * k))
    wide[:, :k, :k], wide[:, :k, k:] = A, np.eye(k)
    return expm(wide)[:, :k, k:]


# -- an analytic logarithm, for complex steps --------------------------------------------------------------------------


def atan2(y, x):
    """To first order in the imaginary parts."""
    imaginary = (x.real * y.imag - y.real * x.imag) / (x.real**2 + y.real**2)
    return math.atan2(y.real, x.real) + 1j * imaginary


def log_rotation(R):
    """Rotation vector of one complex matrix, through the quaternion whose largest component is computed first."""
    if len(R) == 2:
        return np.array([atan2(R[1, 0], R[0, 0])])
    trace = np.trace(R)
    K = np.empty((4, 4), complex)  # 4 q qᵀ, q = (x, y, z, w)
    K[:3, :3] = R + R.T + (1.0 - trace) * np.eye(3)
    K[3, :3] = K[:3, 3] = R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]
    K[3, 3] = 1.0 + trace
    k = np.argmax(np.diag(K).real)
    q = K[k] / (2.0 * np.sqrt(K[k, k]))
    q = -q if q[3].real < 0.0 else q
    s = np.sum(q[:3] ** 2)
    if abs(s) < 1e-4:
        u = s / q[3] ** 2
        return q[:3] * 2.0 / q[3] * (1.0 - u / 3.0 + u**2 / 5.0 - u**3 / 7.0 + u**4 / 9.0)
    return q[:3] * 2.0 * atan2(np.sqrt(s), q[3]) / np.sqrt(s)


def log_motion(T):
    """(V⁻¹ t, w) with V⁻¹ = I − ½W + E W², E = (1 − h cot h)/θ², h = θ/2."""
    d = len(T) - 1
    w = log_rotation(T[:d, :d])
    W, s = cross(w), np.sum(w**2)
    if abs(s) < 1e-2:
        e = 1.0 / 12.0 + s / 720.0 + s**2 / 30240.0 + s**3 / 1209600.0
    else:
        h = np.sqrt(s) / 2.0
        e = (1.0 - h * np.cos(h) / np.sin(h)) / s
    return np.concatenate([T[:d, d] - 0.5 * W @ T[:d, d] + e * W @ W @ T[:d, d], w])


def complex_step(function, *motions):
    """∂function(T_1·Exp(δ_1), …)/∂δ for each motion of one block."""
    step = 1e-30
    jacobians = []
    for k, T in enumerate(motions):
        columns = []
        for direction in hat(np.eye(3 if len(T) == 3 else 6)):
            moved = list(motions)
            moved[k] = T @ (np.eye(len(T)) + 1j * step * direction)
            columns.append(np.asarray(function(*moved)).imag / step)
        jacobians.append(np.stack(columns, axis=1))
    return jacobians


# -- blocks ------------------------------------------------------------------------------------------------------------


def exponential(manifold, tangent):
    pose = np.zeros((len(tangent), manifold.ambient_dim))
    if manifold == SE3():
        pose[:, 6] = 1.0
    manifold.retract(pose, tangent, pose)
    return pose


def moved(manifold, poses, tangent):
    out = np.empty_like(poses)
    manifold.retract(poses, tangent, out)
    return out


def edges(manifold, case):
    """X_i, X_j and Z whose error Z⁻¹X_i⁻¹X_j is as the case says."""
    rng = np.random.default_rng(CASES.index(case))
    dim, d = manifold.tangent_dim, 2 if manifold == SE2() else 3
    error = rng.standard_normal((N, dim))
    scale = {"small": 1e-3, "tiny": 1e-9, "zero": 0.0, "far away": 0.1}
    error *= scale.get(case, 1.0)
    if "half turn" in case:
        short = {"near half turn": 1e-3, "nearer half turn": 1e-6, "nearest half turn": 1e-9}[case]
        error[:, d:] *= (math.pi - short) / np.linalg.norm(error[:, d:], axis=1, keepdims=True)
    first, true_motion = manifold.random(rng, N), rng.standard_normal((N, dim))
    if case == "far away":
        first[:, :d] *= 1e3
        true_motion[:, :d] *= 1e3
    second = moved(manifold, first, true_motion)
    measured = moved(manifold, exponential(manifold, true_motion), error)
    return first, second, measured


def linearized(residual, operands, measured):
    """r, and J split by operand, from blocks whose operands stand in reversed rows."""
    n = len(measured)
    index = np.arange(n - 1, -1, -1, dtype=np.int32)
    blocks = [OperandBlocks(np.ascontiguousarray(x[::-1]), index, np.empty((n, 0))) for x in operands]
    dims = [manifold.tangent_dim for manifold in residual.manifolds]
    r, J = np.full((n, residual.dim), np.nan), np.full((n, residual.dim, sum(dims)), np.nan)
    residual.linearize(blocks, (measured,), np.arange(sum(dims), dtype=np.int32), r, J)
    return r, np.split(J, np.cumsum(dims)[:-1], axis=2)


def assert_blocks_agree(got, expected, tolerance):
    """‖A − B‖∞ ≤ tolerance·‖B‖∞, block by block."""
    error = np.abs(got - expected).sum(axis=2).max(axis=1)
    size = np.abs(expected).sum(axis=2).max(axis=1)
    assert np.all(error <= tolerance * size), f"largest relative error {np.max(error / size):.2e}"


def error_of(first, second, measured):
    return inverse(measured) @ (inverse(first) @ second)


def jacobian_of_error(residual, r, error):
    """D = ∂c(E·Exp(δ))/∂δ."""
    d = error.shape[1] - 1
    if isinstance(residual, Between):
        return np.linalg.inv(phi1(-lie_bracket(r)))
    D = np.zeros((len(r), r.shape[1], r.shape[1]))
    D[:, :d, :d] = error[:, :d, :d]
    D[:, d:, d:] = 1.0 if d == 2 else np.linalg.inv(phi1(-cross(r[:, d:])))
    return D


# -- tests -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("manifold", POSES, ids=repr)
@pytest.mark.parametrize("cls", [Between, BetweenUncoupled])
def test_between_against_matrix_exponentials(cls, manifold, case):
    first, second, measured = edges(manifold, case)
    r, (Ji, Jj) = linearized(cls(manifold), (first, second), measured)
    Xi, Xj = matrices(first), matrices(second)
    error = error_of(Xi, Xj, matrices(measured))
    d = error.shape[1] - 1
    size = max(1.0, np.abs(Xi).max(), np.abs(Xj).max())
    if cls is Between:
        np.testing.assert_allclose(expm(hat(r)), error, rtol=0.0, atol=2e-14 * size)
    else:
        np.testing.assert_allclose(r[:, :d], error[:, :d, d], rtol=0.0, atol=1e-14 * size)
        np.testing.assert_allclose(expm(cross(r[:, d:])), error[:, :d, :d], rtol=0.0, atol=2e-14)
    assert np.all(np.linalg.norm(r[:, d:], axis=1) <= math.pi)
    D = jacobian_of_error(cls(manifold), r, error)
    assert_blocks_agree(Jj, D, 1e-12)
    assert_blocks_agree(Ji, -D @ adjoint(inverse(Xj) @ Xi), 1e-12)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("manifold", POSES, ids=repr)
@pytest.mark.parametrize("cls", [Between, BetweenUncoupled])
def test_between_against_complex_steps(cls, manifold, case):
    first, second, measured = edges(manifold, case)
    r, (Ji, Jj) = linearized(cls(manifold), (first, second), measured)
    Xi, Xj, Z = matrices(first), matrices(second), matrices(measured)
    d = Xi.shape[1] - 1

    def coordinates(error):
        if cls is Between:
            return log_motion(error)
        return np.concatenate([error[:d, d], log_rotation(error[:d, :d])])

    expected_i, expected_j, expected_r = [], [], []
    for b in range(N):
        steps = complex_step(lambda xi, xj, z=Z[b]: coordinates(error_of(xi, xj, z)), Xi[b], Xj[b])
        expected_i.append(steps[0])
        expected_j.append(steps[1])
        expected_r.append(coordinates(error_of(Xi[b], Xj[b], Z[b]).astype(complex)).real)
    size = max(1.0, np.abs(Xi).max(), np.abs(Xj).max())
    np.testing.assert_allclose(r, expected_r, rtol=0.0, atol=2e-14 * size)
    assert_blocks_agree(Ji, np.array(expected_i), 1e-10)
    assert_blocks_agree(Jj, np.array(expected_j), 1e-10)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("manifold", POSES, ids=repr)
@pytest.mark.parametrize("cls", [Between, BetweenUncoupled])
def test_moving_the_world_changes_no_edge(cls, manifold, case):
    """G·X_i, G·X_j give the same error for any G = Exp(ε): J_i Ad(X_i⁻¹) + J_j Ad(X_j⁻¹) = 0."""
    first, second, measured = edges(manifold, case)
    _, (Ji, Jj) = linearized(cls(manifold), (first, second), measured)
    one, two = Ji @ adjoint(inverse(matrices(first))), Jj @ adjoint(inverse(matrices(second)))
    assert_blocks_agree(one, -two, 1e-12)


@pytest.mark.parametrize("manifold", POSES, ids=repr)
@pytest.mark.parametrize("cls", [Between, BetweenUncoupled])
def test_poses_that_fit_have_no_residual(cls, manifold):
    rng = np.random.default_rng(3)
    pose = manifold.random(rng, N)
    r, (Ji, Jj) = linearized(cls(manifold), (pose, pose), exponential(manifold, np.zeros((N, cls(manifold).dim))))
    np.testing.assert_allclose(r, 0.0, atol=1e-15)
    np.testing.assert_allclose(Jj, np.broadcast_to(np.eye(cls(manifold).dim), Jj.shape), atol=1e-15)
    np.testing.assert_allclose(Ji, -Jj, atol=1e-15)


def test_the_sign_of_a_quaternion_does_not_matter():
    first, second, measured = edges(SE3(), "random")
    for cls in (Between, BetweenUncoupled):
        r, (Ji, Jj) = linearized(cls(SE3()), (first, second), measured)
        second[::2, 3:] *= -1.0
        measured[::3, 3:] *= -1.0
        again, (again_i, again_j) = linearized(cls(SE3()), (first, second), measured)
        np.testing.assert_array_equal(again, r)
        np.testing.assert_array_equal(again_i, Ji)
        np.testing.assert_array_equal(again_j, Jj)


@pytest.mark.parametrize("cls", [Between, BetweenUncoupled])
def test_a_known_edge(cls):
    """Body i stands at (1, 2) and looks along y; body j is a metre before it and looks the same way."""
    first, second = np.array([[1.0, 2.0, math.pi / 2]]), np.array([[1.0, 3.0, math.pi / 2]])
    r, _ = linearized(cls(SE2()), (first, second), np.array([[0.75, 0.0, 0.0]]))
    np.testing.assert_allclose(r, [[0.25, 0.0, 0.0]], atol=1e-15)
    half = math.sqrt(0.5)
    first, second = np.array([[1.0, 2.0, 5.0, 0.0, 0.0, half, half]]), np.array([[1.0, 3.0, 5.0, 0.0, 0.0, half, half]])
    r, _ = linearized(cls(SE3()), (first, second), np.array([[0.75, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]]))
    np.testing.assert_allclose(r, [[0.25, 0.0, 0.0, 0.0, 0.0, 0.0]], atol=1e-15)


@pytest.mark.parametrize("manifold", POSES, ids=repr)
def test_landmark_against_matrices(manifold):
    rng = np.random.default_rng(5)
    pose, d = manifold.random(rng, N), 2 if manifold == SE2() else 3
    point, measured = rng.standard_normal((N, d)), rng.standard_normal((N, d))
    r, (Jx, Jl) = linearized(Landmark(manifold), (pose, point), measured)
    X = matrices(pose)
    seen = (inverse(X) @ np.concatenate([point, np.ones((N, 1))], axis=1)[:, :, None])[:, :d, 0]
    np.testing.assert_allclose(r, seen - measured, rtol=0.0, atol=1e-14)
    assert_blocks_agree(Jl, np.swapaxes(X[:, :d, :d], 1, 2), 1e-14)
    expected = [complex_step(lambda x, b=b: (inverse(x) @ np.append(point[b], 1.0))[:d], X[b])[0] for b in range(N)]
    assert_blocks_agree(Jx, np.array(expected), 1e-12)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("manifold", POSES, ids=repr)
def test_prior_against_matrix_exponentials(manifold, case):
    _, _, measured = edges(manifold, case)
    pose = moved(manifold, measured, edge_error(manifold, case))
    r, (J,) = linearized(Prior(manifold), (pose,), measured)
    error = inverse(matrices(measured)) @ matrices(pose)
    size = max(1.0, np.abs(error).max(), np.abs(measured).max())
    np.testing.assert_allclose(expm(hat(r)), error, rtol=0.0, atol=2e-14 * size)
    assert_blocks_agree(J, np.linalg.inv(phi1(-lie_bracket(r))), 1e-12)


def edge_error(manifold, case):
    """Log of the error of each edge of a case."""
    first, second, measured = edges(manifold, case)
    return linearized(Between(manifold), (first, second), measured)[0]


@pytest.mark.parametrize("manifold", [Euclidean(1), Euclidean(9), SO3(), SE3()], ids=repr)
def test_prior_over_several_chunks(manifold):
    check_residual(Prior(manifold), n=2 * CHUNK + 301)


def test_prior_on_numbers_is_their_difference():
    rng = np.random.default_rng(6)
    x, z = rng.standard_normal((N, 4)), rng.standard_normal((N, 4))
    r, (J,) = linearized(Prior(Euclidean(4)), (x,), z)
    np.testing.assert_array_equal(r, x - z)
    np.testing.assert_array_equal(J, np.broadcast_to(np.eye(4), J.shape))
