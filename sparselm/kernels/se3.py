"""Rigid motions of space: X = (t, q), 7 scalars (tx, ty, tz, qx, qy, qz, qw), maps p to R(q)p + t.

A tangent vector is (v, w), translation first. With W = [w]×, θ = |w| and the coefficients B, C, E of
:mod:`sparselm.kernels.so3`,

    Exp(v, w) = (V v, Exp w),         V = J_l(w) = I + B W + C W²
    Log(t, q) = (V⁻¹ t, w = Log q),   V⁻¹ = I − ½ W + E W²

The inverse right Jacobian is the matrix function f(Z) = Z/(1 − e^{−Z}) of ad = [W, [v]×; 0, W], hence block triangular,

    J_r⁻¹(v, w) = [J, Q; 0, J],    J = f(W) = I + ½ W + E W²,

and Q is the derivative of f at W in direction [v]×. Both are skew, so Q follows by differentiating the closed form
of f on so(3) along v, with F = (dE/dθ)/θ:

    Q = ½ [v]× + E (w vᵀ + v wᵀ − 2 (w·v) I) + F (w·v) (w wᵀ − θ² I).

This equals −J·Q_r·J with the Q_r of the right Jacobian itself (Barfoot's Q at −ξ), without its cancelling terms.

References
----------
J. Solà, J. Deray, D. Atchuthan, "A micro Lie theory for state estimation in robotics", arXiv:1812.01537, 2018,
appendix on SE(3).
T. D. Barfoot, "State Estimation for Robotics", Cambridge University Press, 2017, section 7.1.5 (Q in closed form).
"""

from sparselm._jit import scalar
from sparselm.kernels.so3 import (
    exp_coefficients,
    log_coefficients,
    quat_multiply,
    quat_rotate,
    quat_rotate_inverse,
    quat_to_matrix,
    so3_exp,
    so3_log,
    so3_right_jacobian_inverse,
)


@scalar
def se3_compose(atx, aty, atz, aqx, aqy, aqz, aqw, btx, bty, btz, bqx, bqy, bqz, bqw):
    """Return A·B = (t_a + R_a t_b, q_a q_b); the quaternion is not normalised again."""
    x, y, z = quat_rotate(aqx, aqy, aqz, aqw, btx, bty, btz)
    qx, qy, qz, qw = quat_multiply(aqx, aqy, aqz, aqw, bqx, bqy, bqz, bqw)
    return atx + x, aty + y, atz + z, qx, qy, qz, qw


@scalar
def se3_inverse(tx, ty, tz, qx, qy, qz, qw):
    """Return X⁻¹ = (−Rᵀ t, q*)."""
    x, y, z = quat_rotate_inverse(qx, qy, qz, qw, tx, ty, tz)
    return -x, -y, -z, -qx, -qy, -qz, qw


@scalar
def se3_between(atx, aty, atz, aqx, aqy, aqz, aqw, btx, bty, btz, bqx, bqy, bqz, bqw):
    """Return A⁻¹·B = (R_aᵀ(t_b − t_a), q_a* q_b): pose b seen from frame a."""
    x, y, z = quat_rotate_inverse(aqx, aqy, aqz, aqw, btx - atx, bty - aty, btz - atz)
    qx, qy, qz, qw = quat_multiply(-aqx, -aqy, -aqz, aqw, bqx, bqy, bqz, bqw)
    return x, y, z, qx, qy, qz, qw


@scalar
def _apply(wx, wy, wz, first, second, x, y, z):
    """Return (I + first·W + second·W²)·p."""
    ux = wy * z - wz * y
    uy = wz * x - wx * z
    uz = wx * y - wy * x
    return (
        x + first * ux + second * (wy * uz - wz * uy),
        y + first * uy + second * (wz * ux - wx * uz),
        z + first * uz + second * (wx * uy - wy * ux),
    )


@scalar
def se3_exp(vx, vy, vz, wx, wy, wz):
    """Return the pose Exp(v, w) = (J_l(w) v, Exp w)."""
    _, b, c = exp_coefficients(wx * wx + wy * wy + wz * wz)
    tx, ty, tz = _apply(wx, wy, wz, b, c, vx, vy, vz)
    qx, qy, qz, qw = so3_exp(wx, wy, wz)
    return tx, ty, tz, qx, qy, qz, qw


@scalar
def se3_log(tx, ty, tz, qx, qy, qz, qw):
    """Return (v, w) = Log(t, q), |w| ≤ π."""
    wx, wy, wz = so3_log(qx, qy, qz, qw)
    e, _ = log_coefficients(wx * wx + wy * wy + wz * wz)
    vx, vy, vz = _apply(wx, wy, wz, -0.5, e, tx, ty, tz)
    return vx, vy, vz, wx, wy, wz


@scalar
def se3_right_jacobian_inverse(vx, vy, vz, wx, wy, wz):
    """Return the blocks (J, Q), two 9-tuples row by row, of J_r⁻¹(v, w) = [J, Q; 0, J] in the order (v, w).

    With (v, w) = Log X it is the derivative of Log(X·Exp(d)) at d = 0. J, on the diagonal twice, is the inverse right
    Jacobian of the rotation alone; Q, upper right, is how the translation part answers to a rotation; the lower left
    block is zero.
    """
    s = wx * wx + wy * wy + wz * wz
    e, f = log_coefficients(s)
    wv = wx * vx + wy * vy + wz * vz
    g = f * wv
    diagonal = -2.0 * e * wv - g * s
    # Symmetric off-diagonal entries of E (w vᵀ + v wᵀ) + F (w·v) w wᵀ, then ½[v]× on either side.
    xy = e * (wx * vy + wy * vx) + g * wx * wy
    xz = e * (wx * vz + wz * vx) + g * wx * wz
    yz = e * (wy * vz + wz * vy) + g * wy * wz
    q = (
        2.0 * e * wx * vx + g * wx * wx + diagonal,
        xy - 0.5 * vz,
        xz + 0.5 * vy,
        xy + 0.5 * vz,
        2.0 * e * wy * vy + g * wy * wy + diagonal,
        yz - 0.5 * vx,
        xz - 0.5 * vy,
        yz + 0.5 * vx,
        2.0 * e * wz * vz + g * wz * wz + diagonal,
    )
    return so3_right_jacobian_inverse(wx, wy, wz), q


@scalar
def se3_adjoint(tx, ty, tz, qx, qy, qz, qw):
    """Return the blocks (R, [t]×R), two 9-tuples, of Ad_X = [R, [t]×R; 0, R] in the order (v, w).

    X·Exp(d) = Exp(Ad_X d)·X.
    """
    r = quat_to_matrix(qx, qy, qz, qw)
    return r, (
        ty * r[6] - tz * r[3],
        ty * r[7] - tz * r[4],
        ty * r[8] - tz * r[5],
        tz * r[0] - tx * r[6],
        tz * r[1] - tx * r[7],
        tz * r[2] - tx * r[8],
        tx * r[3] - ty * r[0],
        tx * r[4] - ty * r[1],
        tx * r[5] - ty * r[2],
    )
