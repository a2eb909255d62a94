"""The rotation group of space: unit quaternions q = (x, y, z, w) and rotation vectors w = θ·axis.

    Exp(w) = (sin(θ/2)·axis, cos(θ/2)),      θ = |w|
    Log(q) = 2·atan2(|v|, |q_w|)·sign(q_w)·v/|v|,      v = (q_x, q_y, q_z)

With W = [w]× the derivatives of the exponential, Exp(w + d) = Exp(w)·Exp(J_r d) + O(d²), are

    J_r(w)    = I − B W + C W²,       B = (1 − cos θ)/θ²,  C = (θ − sin θ)/θ³
    J_r⁻¹(w)  = I + ½ W + E W²,       E = (1 − h cot h)/θ²,  h = θ/2

and J_r⁻¹(Log R) is the derivative of Log(R·Exp(d)) at d = 0. The left Jacobians are the transposes. B, C and E are
analytic in θ², but their textbook forms lose all digits as θ → 0 and the usual form of E, with 1/sin θ, also as θ → π.
Here B is a square of sines, E uses the half angle (sin h ≥ 0.7 where θ is near π), and C and E switch to their
Taylor series in θ² before cancellation can be seen.

Scalars in, tuples out; matrices are flat, row by row. No function normalises its argument unless it says so.

References
----------
J. Solà, J. Deray, D. Atchuthan, "A micro Lie theory for state estimation in robotics", arXiv:1812.01537, 2018
(exponential and logarithm of S³ and SO(3), right Jacobians and their inverses: appendix B).
T. D. Barfoot, "State Estimation for Robotics", Cambridge University Press, 2017, section 7.1 (the left-handed forms).
"""

import math

from sparselm._jit import scalar


@scalar
def quat_multiply(ax, ay, az, aw, bx, by, bz, bw):
    """Return the quaternion product a·b (Hamilton's): rotating by a·b is rotating by b, then by a."""
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


@scalar
def quat_rotate(qx, qy, qz, qw, x, y, z):
    """Return R(q)·p for p = (x, y, z), as p + q_w t + v × t with t = 2 v × p."""
    tx = 2.0 * (qy * z - qz * y)
    ty = 2.0 * (qz * x - qx * z)
    tz = 2.0 * (qx * y - qy * x)
    return (
        x + qw * tx + qy * tz - qz * ty,
        y + qw * ty + qz * tx - qx * tz,
        z + qw * tz + qx * ty - qy * tx,
    )


@scalar
def quat_rotate_inverse(qx, qy, qz, qw, x, y, z):
    """Return R(q)ᵀ·p for p = (x, y, z)."""
    return quat_rotate(-qx, -qy, -qz, qw, x, y, z)


@scalar
def quat_normalize(x, y, z, w):
    """Return q/|q|; NaN for the zero quaternion."""
    scale = 1.0 / math.sqrt(x * x + y * y + z * z + w * w)
    return x * scale, y * scale, z * scale, w * scale


@scalar
def quat_to_matrix(x, y, z, w):
    """Return the rotation matrix R(q), 9 numbers row by row."""
    return (
        1.0 - 2.0 * (y * y + z * z),
        2.0 * (x * y - z * w),
        2.0 * (x * z + y * w),
        2.0 * (x * y + z * w),
        1.0 - 2.0 * (x * x + z * z),
        2.0 * (y * z - x * w),
        2.0 * (x * z - y * w),
        2.0 * (y * z + x * w),
        1.0 - 2.0 * (x * x + y * y),
    )


@scalar
def so3_exp(wx, wy, wz):
    """Return the unit quaternion Exp(w) of a rotation vector (radians)."""
    s = wx * wx + wy * wy + wz * wz
    if s < 0.25:
        # In powers of h² = θ²/4: no square root, whose derivative is infinite at 0, and no sine for the small
        # steps near a solver's end. The first terms left out are below 1e-17.
        u = 0.25 * s
        scale = 1.0 - u / 42.0 * (1.0 - u / 72.0 * (1.0 - u / 110.0 * (1.0 - u / 156.0)))
        scale = 0.5 * (1.0 - u / 6.0 * (1.0 - u / 20.0 * scale))
        w = 1.0 - u / 30.0 * (1.0 - u / 56.0 * (1.0 - u / 90.0 * (1.0 - u / 132.0)))
        w = 1.0 - u / 2.0 * (1.0 - u / 12.0 * w)
    else:
        theta = math.sqrt(s)
        scale = math.sin(0.5 * theta) / theta
        w = math.cos(0.5 * theta)
    return wx * scale, wy * scale, wz * scale, w


@scalar
def so3_log(x, y, z, w):
    """Return the rotation vector Log(q), of length at most π; q and −q give the same, and the length of q drops out.

    A half turn (q_w = 0) has two logarithms, ±π·axis; the one along (x, y, z) is returned.
    """
    if w < 0.0:
        x, y, z, w = -x, -y, -z, -w
    n = x * x + y * y + z * z
    if n < 1e-4 * w * w:
        r = n / (w * w)
        scale = 2.0 / w * (1.0 - r * (1.0 / 3.0 - r * (1.0 / 5.0 - r * (1.0 / 7.0 - r / 9.0))))
    else:
        length = math.sqrt(n)
        scale = 2.0 * math.atan2(length, w) / length
    return scale * x, scale * y, scale * z


@scalar
def exp_coefficients(s):
    """Return A = sin θ/θ, B = (1 − cos θ)/θ² and C = (θ − sin θ)/θ³ for s = θ².

    Below θ² = 0.25 all three come from Taylor series, to full precision; above, C loses two digits at most, of a number
    that is multiplied by θ² ≪ 1 there.
    """
    if s < 0.25:
        a = 1.0 - s / 72.0 * (1.0 - s / 110.0 * (1.0 - s / 156.0))
        b = 1.0 - s / 90.0 * (1.0 - s / 132.0 * (1.0 - s / 182.0))
        c = 1.0 - s / 110.0 * (1.0 - s / 156.0 * (1.0 - s / 210.0))
        a = 1.0 - s / 6.0 * (1.0 - s / 20.0 * (1.0 - s / 42.0 * a))
        b = (1.0 - s / 12.0 * (1.0 - s / 30.0 * (1.0 - s / 56.0 * b))) / 2.0
        c = (1.0 - s / 20.0 * (1.0 - s / 42.0 * (1.0 - s / 72.0 * c))) / 6.0
    else:
        theta = math.sqrt(s)
        # The sine of the half angle serves so3_exp as well, so that the compiler takes it once.
        half = math.sin(0.5 * theta)
        sin = 2.0 * half * math.cos(0.5 * theta)
        a = sin / theta
        b = 2.0 * half * half / s
        c = (theta - sin) / (s * theta)
    return a, b, c


@scalar
def log_coefficients(s):
    """Return E = (1 − h cot h)/θ² and F = (dE/dθ)/θ for s = θ², h = θ/2, 0 ≤ θ < 2π.

    F = (h²/sin²h + h cot h − 2)/θ⁴. In Taylor series E = Σ_{k≥1} b_k s^{k−1} and F = Σ_{k≥2} 2(k − 1) b_k s^{k−2} with
    b_k = |B_2k|/(2k)!, Bernoulli's numbers; consecutive terms fall by s/4π².
    """
    if s < 0.5:
        b1, b2, b3, b4, b5 = 1.0 / 12.0, 1.0 / 720.0, 1.0 / 30240.0, 1.0 / 1209600.0, 1.0 / 47900160.0
        b6, b7, b8 = 691.0 / 1307674368e3, 1.0 / 74724249600.0, 3617.0 / 1067062284288e4
        b9 = 43867.0 / 5109094217170944e3
        e = b1 + s * (b2 + s * (b3 + s * (b4 + s * (b5 + s * (b6 + s * (b7 + s * (b8 + s * b9)))))))
        f = 5.0 * b6 + s * (6.0 * b7 + s * (7.0 * b8 + s * 8.0 * b9))
        f = 2.0 * (b2 + s * (2.0 * b3 + s * (3.0 * b4 + s * (4.0 * b5 + s * f))))
    else:
        h = 0.5 * math.sqrt(s)
        ratio = h / math.sin(h)
        h_cot = ratio * math.cos(h)
        e = (1.0 - h_cot) / s
        f = (ratio * ratio + h_cot - 2.0) / (s * s)
    return e, f


@scalar
def _identity_plus(wx, wy, wz, first, second):
    """Return I + first·W + second·W², with W² = w wᵀ − θ² I."""
    xx, yy, zz = wx * wx, wy * wy, wz * wz
    xy, xz, yz = second * wx * wy, second * wx * wz, second * wy * wz
    fx, fy, fz = first * wx, first * wy, first * wz
    return (
        1.0 - second * (yy + zz),
        xy - fz,
        xz + fy,
        xy + fz,
        1.0 - second * (xx + zz),
        yz - fx,
        xz - fy,
        yz + fx,
        1.0 - second * (xx + yy),
    )


@scalar
def so3_right_jacobian(wx, wy, wz):
    """Return J_r(w) = I − B W + C W²: Exp(w + d) = Exp(w)·Exp(J_r d) + O(d²). Its transpose is J_l(w)."""
    _, b, c = exp_coefficients(wx * wx + wy * wy + wz * wz)
    return _identity_plus(wx, wy, wz, -b, c)


@scalar
def so3_right_jacobian_inverse(wx, wy, wz):
    """Return J_r⁻¹(w) = I + ½ W + E W²: with w = Log R, the derivative of Log(R·Exp(d)) at d = 0."""
    e, _ = log_coefficients(wx * wx + wy * wy + wz * wz)
    return _identity_plus(wx, wy, wz, 0.5, e)
