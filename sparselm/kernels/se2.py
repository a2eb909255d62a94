"""Rigid motions of the plane: X = (x, y, θ) maps p to R(θ)p + (x, y); tangent (v_x, v_y, ω), translation first.

    Exp(v, ω) = (V(ω) v, ω),    V(ω) = [sin ω/ω, −(1 − cos ω)/ω; (1 − cos ω)/ω, sin ω/ω]
    Log(t, θ) = (V(θ)⁻¹ t, θ),  V(θ)⁻¹ = [a, θ/2; −θ/2, a],   a = (θ/2) cot(θ/2)

The plane is a subgroup of space, so the analytic coefficients of SO(3) serve here: sin ω/ω = A, (1 − cos ω)/ω = ω B and
a = 1 − E θ².

References
----------
J. Solà, J. Deray, D. Atchuthan, "A micro Lie theory for state estimation in robotics", arXiv:1812.01537, 2018,
appendix on SE(2).
"""

import math

from sparselm._jit import scalar
from sparselm.kernels.so2 import wrap_angle
from sparselm.kernels.so3 import exp_coefficients, log_coefficients


@scalar
def se2_between(xi, yi, ti, xj, yj, tj):
    """Return X_i⁻¹·X_j = (R_iᵀ(t_j − t_i), θ_j − θ_i), the angle in (−π, π]: pose j seen from frame i."""
    c = math.cos(ti)
    s = math.sin(ti)
    dx = xj - xi
    dy = yj - yi
    return c * dx + s * dy, c * dy - s * dx, wrap_angle(tj - ti)


@scalar
def se2_exp(vx, vy, w):
    """Return Exp(v, ω) = (x, y, θ), the angle in (−π, π]."""
    a, b, _ = exp_coefficients(w * w)
    b *= w
    return a * vx - b * vy, b * vx + a * vy, wrap_angle(w)


@scalar
def se2_log(x, y, theta):
    """Return Log(x, y, θ) = (v_x, v_y, ω); θ in (−π, π]."""
    e, _ = log_coefficients(theta * theta)
    a = 1.0 - e * theta * theta
    half = 0.5 * theta
    return a * x + half * y, a * y - half * x, theta


@scalar
def se2_right_jacobian_inverse(vx, vy, w):
    """Return J_r⁻¹(v, ω), 9 numbers row by row: with (v, ω) = Log X, the derivative of Log(X·Exp(d)) at d = 0.

        J_r⁻¹ = [a, −ω/2, v_y/2 + E ω v_x; ω/2, a, −v_x/2 + E ω v_y; 0, 0, 1],   a = 1 − E ω²
    """
    e, _ = log_coefficients(w * w)
    a = 1.0 - e * w * w
    ew = e * w
    return a, -0.5 * w, 0.5 * vy + ew * vx, 0.5 * w, a, ew * vy - 0.5 * vx, 0.0, 0.0, 1.0
