"""Camera models: from a point of the camera's frame to what the camera measures of it, with derivatives.

The camera looks along +z, x points right and y down; the pixel (0, 0) is the top left corner of the image. A model is a
function ``model(intrinsics, i, x, y, z)`` of row i of an array of intrinsics and a point, in the unit of the world. It
returns three tuples with one entry per measured number m (pixels):

    m,    ∂m/∂(x, y, z),    ∂m/∂(intrinsics).

With (p, q) = (x/z, y/z) and s = p² + q², perspective models are a map (p′, q′) = d(p, q) of the plane z = 1, followed by
u = f_x p′ + c_x, v = f_y q′ + c_y. All the d here are gradients of some potential, so that their derivative is a symmetric
matrix, of three numbers D = (D_pp, D_pq, D_qq); by the chain rule

    ∂(p′, q′)/∂(x, y, z) = (1/z) [D,  −D (p, q)ᵀ].

The models and the order of the intrinsics are COLMAP's, except for ``stereo``, whose order of measured numbers is GTSAM's.

References
----------
J. L. Schönberger, J.-M. Frahm, "Structure-from-motion revisited", CVPR 2016 (COLMAP; its models: ``sensor/models.h``).
D. C. Brown, "Decentering distortion of lenses", Photogrammetric Engineering 32 (3), 1966 (radial and tangential terms).
J. Kannala, S. Brandt, "A generic camera model and calibration method for conventional, wide-angle, and fish-eye lenses",
IEEE PAMI 28 (8), 2006 (the polynomial in θ).
"""

import math

import numpy as np

from sparselm._jit import scalar

# What a loop over blocks is told: compiled functions are not handed to one another.
PINHOLE, SIMPLE_RADIAL, RADIAL, OPENCV, FISHEYE, STEREO = range(6)


@scalar
def pinhole(intrinsics, i, x, y, z):
    """(f_x p + c_x, f_y q + c_y); intrinsics f_x, f_y, c_x, c_y."""
    fx, fy, cx, cy = intrinsics[i, 0], intrinsics[i, 1], intrinsics[i, 2], intrinsics[i, 3]
    p, q, inverse = _normalize(x, y, z)
    return (
        (fx * p + cx, fy * q + cy),
        ((fx * inverse, 0.0, -fx * inverse * p), (0.0, fy * inverse, -fy * inverse * q)),
        ((p, 0.0, 1.0, 0.0), (0.0, q, 0.0, 1.0)),
    )


@scalar
def simple_radial(intrinsics, i, x, y, z):
    """(p′, q′) = (1 + k s)(p, q); intrinsics f, c_x, c_y, k."""
    f, cx, cy, k = intrinsics[i, 0], intrinsics[i, 1], intrinsics[i, 2], intrinsics[i, 3]
    p, q, inverse = _normalize(x, y, z)
    s, factor, pp, pq, qq = _radial(p, q, k, 0.0)
    return (
        (f * factor * p + cx, f * factor * q + cy),
        _gradients(f, f, p, q, inverse, pp, pq, qq),
        ((factor * p, 1.0, 0.0, f * s * p), (factor * q, 0.0, 1.0, f * s * q)),
    )


@scalar
def radial(intrinsics, i, x, y, z):
    """(p′, q′) = (1 + k₁ s + k₂ s²)(p, q); intrinsics f, c_x, c_y, k₁, k₂."""
    f, cx, cy, k1, k2 = intrinsics[i, 0], intrinsics[i, 1], intrinsics[i, 2], intrinsics[i, 3], intrinsics[i, 4]
    p, q, inverse = _normalize(x, y, z)
    s, factor, pp, pq, qq = _radial(p, q, k1, k2)
    return (
        (f * factor * p + cx, f * factor * q + cy),
        _gradients(f, f, p, q, inverse, pp, pq, qq),
        ((factor * p, 1.0, 0.0, f * s * p, f * s * s * p), (factor * q, 0.0, 1.0, f * s * q, f * s * s * q)),
    )


@scalar
def opencv(intrinsics, i, x, y, z):
    """Radial, and tangential: p′ = … + 2 p₁ p q + p₂ (s + 2 p²), q′ = … + p₁ (s + 2 q²) + 2 p₂ p q.

    Intrinsics f_x, f_y, c_x, c_y, k₁, k₂, p₁, p₂.
    """
    fx, fy, cx, cy = intrinsics[i, 0], intrinsics[i, 1], intrinsics[i, 2], intrinsics[i, 3]
    p1, p2 = intrinsics[i, 6], intrinsics[i, 7]
    p, q, inverse = _normalize(x, y, z)
    s, factor, pp, pq, qq = _radial(p, q, intrinsics[i, 4], intrinsics[i, 5])
    twice_pq, p_term, q_term = 2.0 * p * q, s + 2.0 * p * p, s + 2.0 * q * q
    u = factor * p + p1 * twice_pq + p2 * p_term
    v = factor * q + p1 * q_term + p2 * twice_pq
    pp += 2.0 * p1 * q + 6.0 * p2 * p
    pq += 2.0 * (p1 * p + p2 * q)
    qq += 6.0 * p1 * q + 2.0 * p2 * p
    return (
        (fx * u + cx, fy * v + cy),
        _gradients(fx, fy, p, q, inverse, pp, pq, qq),
        (
            (u, 0.0, 1.0, 0.0, fx * s * p, fx * s * s * p, fx * twice_pq, fx * p_term),
            (0.0, v, 0.0, 1.0, fy * s * q, fy * s * s * q, fy * q_term, fy * twice_pq),
        ),
    )


@scalar
def fisheye(intrinsics, i, x, y, z):
    """(p′, q′) = (θ_d/ρ)(x, y), ρ² = x² + y², θ = atan2(ρ, z), θ_d = θ (1 + k₁ θ² + k₂ θ⁴ + k₃ θ⁶ + k₄ θ⁸).

    Intrinsics f_x, f_y, c_x, c_y, k₁, k₂, k₃, k₄. With ψ = θ/ρ and g(θ²) = θ_d/θ the factor is m = ψ g(θ²), and

        (∂m/∂ρ)/ρ = g (∂ψ/∂ρ)/ρ + 2 ψ² g′ z/(ρ² + z²),        ∂m/∂z = −(g + 2 θ² g′)/(ρ² + z²),

    where nothing is divided by ρ but within ψ and its derivative, for which :func:`_angle_over_radius` knows the limits.
    """
    fx, fy, cx, cy = intrinsics[i, 0], intrinsics[i, 1], intrinsics[i, 2], intrinsics[i, 3]
    k1, k2, k3, k4 = intrinsics[i, 4], intrinsics[i, 5], intrinsics[i, 6], intrinsics[i, 7]
    squared = x * x + y * y
    inverse = 1.0 / (squared + z * z)
    psi, psi_slope = _angle_over_radius(squared, z)
    t = psi * psi * squared
    g = 1.0 + t * (k1 + t * (k2 + t * (k3 + t * k4)))
    g_slope = k1 + t * (2.0 * k2 + t * (3.0 * k3 + t * 4.0 * k4))
    m = psi * g
    m_slope = g * psi_slope + 2.0 * psi * psi * g_slope * z * inverse
    m_z = -(g + 2.0 * t * g_slope) * inverse
    xy = m_slope * x * y
    a, b = fx * psi * t * x, fy * psi * t * y
    return (
        (fx * m * x + cx, fy * m * y + cy),
        (
            (fx * (m + m_slope * x * x), fx * xy, fx * m_z * x),
            (fy * xy, fy * (m + m_slope * y * y), fy * m_z * y),
        ),
        (
            (m * x, 0.0, 1.0, 0.0, a, a * t, a * t * t, a * t * t * t),
            (0.0, m * y, 0.0, 1.0, b, b * t, b * t * t, b * t * t * t),
        ),
    )


@scalar
def stereo(intrinsics, i, x, y, z):
    """(u_left, u_right, v) of a rectified pair, u_right = u_left − f_x b/z; intrinsics f_x, f_y, c_x, c_y, b."""
    fx, b = intrinsics[i, 0], intrinsics[i, 4]
    (u, v), (to_u, to_v), ((p, _, _, _), (_, q, _, _)) = pinhole(intrinsics, i, x, y, z)
    inverse = 1.0 / z
    disparity = fx * b * inverse
    return (
        (u, u - disparity, v),
        (to_u, (to_u[0], 0.0, to_u[2] + disparity * inverse), to_v),
        ((p, 0.0, 1.0, 0.0, 0.0), (p - b * inverse, 0.0, 1.0, 0.0, -fx * inverse), (0.0, q, 0.0, 1.0, 0.0)),
    )


# -- parts of models ---------------------------------------------------------------------------------------------------


@scalar
def _normalize(x, y, z):
    """Return x/z, y/z and 1/z; NaN in the camera's plane, z = 0."""
    inverse = 1.0 / z if z != 0.0 else np.nan
    return x * inverse, y * inverse, inverse


@scalar
def _radial(p, q, k1, k2):
    """Return s, the factor 1 + k₁ s + k₂ s², and the derivative D of factor·(p, q)."""
    s = p * p + q * q
    factor = 1.0 + s * (k1 + k2 * s)
    slope = 2.0 * (k1 + 2.0 * k2 * s)
    return s, factor, factor + slope * p * p, slope * p * q, factor + slope * q * q


@scalar
def _gradients(fx, fy, p, q, inverse, pp, pq, qq):
    """Return ∂(u, v)/∂(x, y, z) of a perspective model whose distortion has the derivative D = (pp, pq, qq)."""
    a, b = fx * inverse, fy * inverse
    return (a * pp, a * pq, -a * (pp * p + pq * q)), (b * pq, b * qq, -b * (pq * p + qq * q))


@scalar
def _angle_over_radius(squared, z):
    """Return ψ = θ/ρ for θ = atan2(ρ, z), and (∂ψ/∂ρ)/ρ = (z/(ρ² + z²) − ψ)/ρ², from ρ² and z.

    In front of the camera both are smooth functions of ρ² and z. Close to the axis they come from the series of
    atan(√t)/√t in t = ρ²/z², whose terms of fifth order are below 10⁻¹⁶ of the first.
    """
    if z > 0.0 and squared < 1e-4 * z * z:
        inverse = 1.0 / z
        t = squared * inverse * inverse
        psi = 1.0 - t * (1.0 / 3.0 - t * (1.0 / 5.0 - t * (1.0 / 7.0 - t / 9.0)))
        slope = -2.0 / 3.0 + t * (4.0 / 5.0 - t * (6.0 / 7.0 - t * (8.0 / 9.0 - t * 10.0 / 11.0)))
        return psi * inverse, slope * inverse * inverse * inverse
    rho = math.sqrt(squared)
    psi = math.atan2(rho, z) / rho
    return psi, (z / (squared + z * z) - psi) / squared
