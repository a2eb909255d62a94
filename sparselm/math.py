"""Geometry for residual functions: vectors, rotations, rigid motions and cameras, on tuples of plain numbers.

Everything here runs as ordinary Python on numbers, and inside a function decorated with :func:`sparselm.residual` it is
compiled and differentiated. Vectors are tuples ``(x, y, z)``, matrices tuples of rows, quaternions ``(x, y, z, w)``, poses
of space ``(tx, ty, tz, qx, qy, qz, qw)`` and of the plane ``(x, y, θ)``, as on the manifolds :class:`sparselm.SO3`,
:class:`sparselm.SE3` and :class:`sparselm.SE2`. All angles are in radians. Rotations by small angles, where textbook
formulas divide zero by zero, are exact, and so are their derivatives.

Examples
--------
>>> import math
>>> from sparselm import math as slm_math
>>> x, y, z = slm_math.rotate_angle_axis((0.0, 0.0, math.pi / 2), (1.0, 0.0, 0.0))
>>> round(x, 12), round(y, 12), round(z, 12)
(0.0, 1.0, 0.0)
"""

from __future__ import annotations

import math

from sparselm.kernels import se2, se3, so2, so3

# -- vectors and matrices of three rows -------------------------------------------------------------------------------------


def dot(a, b):
    """a · b."""
    a0, a1, a2 = a
    b0, b1, b2 = b
    return a0 * b0 + a1 * b1 + a2 * b2


def cross(a, b):
    """a × b."""
    a0, a1, a2 = a
    b0, b1, b2 = b
    return a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0


def norm(a):
    """‖a‖; its derivative at 0 is not finite."""
    return math.sqrt(dot(a, a))


def normalize(a):
    """a / ‖a‖."""
    return scale(1.0 / norm(a), a)


def add(a, b):
    """a + b."""
    a0, a1, a2 = a
    b0, b1, b2 = b
    return a0 + b0, a1 + b1, a2 + b2


def subtract(a, b):
    """a − b."""
    a0, a1, a2 = a
    b0, b1, b2 = b
    return a0 - b0, a1 - b1, a2 - b2


def scale(factor, a):
    """Return ``factor`` times a."""
    a0, a1, a2 = a
    return factor * a0, factor * a1, factor * a2


def matrix_vector(A, x):
    """A x for three rows A."""
    return dot(A[0], x), dot(A[1], x), dot(A[2], x)


def transposed_matrix_vector(A, x):
    """Aᵀ x for three rows A."""
    return (
        A[0][0] * x[0] + A[1][0] * x[1] + A[2][0] * x[2],
        A[0][1] * x[0] + A[1][1] * x[1] + A[2][1] * x[2],
        A[0][2] * x[0] + A[1][2] * x[1] + A[2][2] * x[2],
    )


def transpose(A):
    """Aᵀ, 3 × 3."""
    return (A[0][0], A[1][0], A[2][0]), (A[0][1], A[1][1], A[2][1]), (A[0][2], A[1][2], A[2][2])


def matrix_matrix(A, B):
    """A B, 3 × 3."""
    C = transpose(B)
    return (
        (dot(A[0], C[0]), dot(A[0], C[1]), dot(A[0], C[2])),
        (dot(A[1], C[0]), dot(A[1], C[1]), dot(A[1], C[2])),
        (dot(A[2], C[0]), dot(A[2], C[1]), dot(A[2], C[2])),
    )


# -- rotations of the plane ---------------------------------------------------------------------------------------------


def wrap_angle(theta):
    """The angle in (−π, π] that differs from θ by a multiple of 2π."""
    return so2.wrap_angle(theta)


def rotate2(theta, x):
    """R(θ) x in the plane."""
    c, s = math.cos(theta), math.sin(theta)
    return c * x[0] - s * x[1], s * x[0] + c * x[1]


# -- rotations of space -------------------------------------------------------------------------------------------------


def rotate_angle_axis(w, x):
    """Exp(w) x = x + A w × x + B w × (w × x), w an axis times an angle; A = sin θ/θ, B = (1 − cos θ)/θ²."""
    a, b, _ = so3.exp_coefficients(w[0] * w[0] + w[1] * w[1] + w[2] * w[2])
    u = cross(w, x)
    v = cross(w, u)
    return x[0] + a * u[0] + b * v[0], x[1] + a * u[1] + b * v[1], x[2] + a * u[2] + b * v[2]


def rotate_quaternion(q, x):
    """R(q) x for a unit quaternion."""
    return so3.quat_rotate(q[0], q[1], q[2], q[3], x[0], x[1], x[2])


def rotate_quaternion_inverse(q, x):
    """R(q)ᵀ x for a unit quaternion."""
    return so3.quat_rotate_inverse(q[0], q[1], q[2], q[3], x[0], x[1], x[2])


def quaternion_multiply(a, b):
    """a·b: rotating by it is rotating by b, then by a."""
    return so3.quat_multiply(a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3])


def quaternion_conjugate(q):
    """The inverse rotation of a unit quaternion."""
    return -q[0], -q[1], -q[2], q[3]


def quaternion_normalize(q):
    """q / ‖q‖."""
    return so3.quat_normalize(q[0], q[1], q[2], q[3])


def rotation_matrix(q):
    """R(q), three rows, of a unit quaternion."""
    m = so3.quat_to_matrix(q[0], q[1], q[2], q[3])
    return (m[0], m[1], m[2]), (m[3], m[4], m[5]), (m[6], m[7], m[8])


def angle_axis_matrix(w):
    """Exp(w) = I + A [w]× + B [w]×², three rows."""
    x, y, z = w[0], w[1], w[2]
    a, b, _ = so3.exp_coefficients(x * x + y * y + z * z)
    return (
        (1.0 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y),
        (b * x * y + a * z, 1.0 - b * (x * x + z * z), b * y * z - a * x),
        (b * x * z - a * y, b * y * z + a * x, 1.0 - b * (x * x + y * y)),
    )


def so3_left_jacobian(w):
    """J_l(w) = I + B [w]× + C [w]×², three rows: Exp(w + d) = Exp(J_l d)·Exp(w) + O(d²).

    The derivative of a rotated point is ∂(Exp(w) x)/∂w = −[Exp(w) x]× J_l.
    """
    m = so3.so3_right_jacobian(-w[0], -w[1], -w[2])  # J_l(w) = J_r(−w)
    return (m[0], m[1], m[2]), (m[3], m[4], m[5]), (m[6], m[7], m[8])


def so3_exp(w):
    """The unit quaternion of a rotation vector."""
    return so3.so3_exp(w[0], w[1], w[2])


def so3_log(q):
    """The rotation vector of a quaternion, of length at most π."""
    return so3.so3_log(q[0], q[1], q[2], q[3])


# -- rigid motions ------------------------------------------------------------------------------------------------------


def se2_compose(a, b):
    """A·B in the plane: first b, then a; the angle in (−π, π]."""
    x, y = rotate2(a[2], b)
    return a[0] + x, a[1] + y, so2.wrap_angle(a[2] + b[2])


def se2_inverse(a):
    """A⁻¹ in the plane."""
    x, y = rotate2(-a[2], a)
    return -x, -y, -a[2]


def se2_between(a, b):
    """A⁻¹·B in the plane: pose b seen from frame a."""
    return se2.se2_between(a[0], a[1], a[2], b[0], b[1], b[2])


def se2_transform(a, x):
    """R(θ) x + t in the plane."""
    u, v = rotate2(a[2], x)
    return u + a[0], v + a[1]


def se2_exp(v):
    """The pose of a tangent vector (v_x, v_y, ω)."""
    return se2.se2_exp(v[0], v[1], v[2])


def se2_log(a):
    """The tangent vector (v_x, v_y, ω) of a pose, translation first."""
    return se2.se2_log(a[0], a[1], a[2])


def se3_compose(a, b):
    """A·B: first b, then a."""
    return se3.se3_compose(a[0], a[1], a[2], a[3], a[4], a[5], a[6], b[0], b[1], b[2], b[3], b[4], b[5], b[6])


def se3_inverse(a):
    """A⁻¹."""
    return se3.se3_inverse(a[0], a[1], a[2], a[3], a[4], a[5], a[6])


def se3_between(a, b):
    """A⁻¹·B: pose b seen from frame a."""
    return se3.se3_between(a[0], a[1], a[2], a[3], a[4], a[5], a[6], b[0], b[1], b[2], b[3], b[4], b[5], b[6])


def se3_transform(a, x):
    """R(q) x + t."""
    u, v, w = so3.quat_rotate(a[3], a[4], a[5], a[6], x[0], x[1], x[2])
    return u + a[0], v + a[1], w + a[2]


def se3_transform_inverse(a, x):
    """R(q)ᵀ (x − t): a point of the world in the body's frame, where the pose maps body to world."""
    return so3.quat_rotate_inverse(a[3], a[4], a[5], a[6], x[0] - a[0], x[1] - a[1], x[2] - a[2])


def se3_exp(v):
    """The pose of a tangent vector (v, w), translation first."""
    return se3.se3_exp(v[0], v[1], v[2], v[3], v[4], v[5])


def se3_log(a):
    """The tangent vector (v, w) of a pose, translation first, ‖w‖ ≤ π."""
    return se3.se3_log(a[0], a[1], a[2], a[3], a[4], a[5], a[6])


# -- cameras ------------------------------------------------------------------------------------------------------------


def project_pinhole(p):
    """(X/Z, Y/Z): a point of the camera's frame, Z forward, on the plane Z = 1."""
    inverse = 1.0 / p[2]
    return p[0] * inverse, p[1] * inverse


def distort_radial(p, k1, k2):
    """(1 + k₁ r² + k₂ r⁴) p with r = ‖p‖, p on the plane Z = 1."""
    s = p[0] * p[0] + p[1] * p[1]
    factor = 1.0 + s * (k1 + k2 * s)
    return factor * p[0], factor * p[1]


def distort_opencv(p, k1, k2, p1, p2, k3=0.0):
    """OpenCV's radial (k₁, k₂, k₃) and tangential (p₁, p₂) distortion of p on the plane Z = 1.

    x′ = x (1 + k₁ r² + k₂ r⁴ + k₃ r⁶) + 2 p₁ x y + p₂ (r² + 2 x²), y′ likewise with p₁ (r² + 2 y²) + 2 p₂ x y.

    References
    ----------
    OpenCV, "Camera Calibration and 3D Reconstruction" (the model of ``cv::projectPoints``).
    """
    x, y = p[0], p[1]
    s = x * x + y * y
    factor = 1.0 + s * (k1 + s * (k2 + s * k3))
    xy = 2.0 * x * y
    return factor * x + p1 * xy + p2 * (s + 2.0 * x * x), factor * y + p1 * (s + 2.0 * y * y) + p2 * xy


def project_fisheye(p, k1, k2, k3, k4):
    """Equidistant projection: (θ_d/ρ)(X, Y), ρ = √(X² + Y²), θ = atan2(ρ, Z), θ_d = θ (1 + k₁ θ² + … + k₄ θ⁸).

    The ratio θ/ρ is taken in its limit 1/Z near the axis, where it is smooth.

    References
    ----------
    J. Kannala, S. Brandt, "A generic camera model and calibration method", IEEE PAMI 28 (8), 2006; OpenCV's fisheye module.
    """
    x, y, z = p[0], p[1], p[2]
    squared = x * x + y * y
    if squared < 1e-6 * z * z and z > 0.0:
        # atan(t)/t in powers of t² = ρ²/Z²: no square root, whose derivative is infinite on the axis.
        t = squared / (z * z)
        ratio = (1.0 - t * (1.0 / 3.0 - t * (1.0 / 5.0 - t / 7.0))) / z
    else:
        rho = math.sqrt(squared)
        ratio = math.atan2(rho, z) / rho
    s = ratio * ratio * squared
    factor = ratio * (1.0 + s * (k1 + s * (k2 + s * (k3 + s * k4))))
    return factor * x, factor * y


# -- functions of math and NumPy that numba does not have in this form -----------------------------------------------------


def clip(x, low, high):
    """x where it lies in [low, high], the nearer end elsewhere; ``np.clip``."""
    return min(max(x, low), high)


def sign(x):
    """−1, 0 or 1; ``np.sign``."""
    if x > 0.0:
        return 1.0
    return -1.0 if x < 0.0 else 0.0


def square(x):
    """x²; ``np.square``."""
    return x * x


def maximum(x, y):
    """The larger of two numbers, NaN where one is; ``np.maximum``."""
    if x != x or y != y:
        return x + y
    return max(x, y)


def minimum(x, y):
    """The smaller of two numbers, NaN where one is; ``np.minimum``."""
    if x != x or y != y:
        return x + y
    return min(x, y)


def floor_float(x):
    """⌊x⌋ as a float; ``np.floor``."""
    return float(math.floor(x))


def ceil_float(x):
    """⌈x⌉ as a float; ``np.ceil``."""
    return float(math.ceil(x))


def trunc_float(x):
    """x without its fraction, as a float; ``np.trunc``."""
    return float(math.trunc(x))


def cbrt(x):
    """³√x."""
    return math.copysign(math.pow(math.fabs(x), 1.0 / 3.0), x)


def dist(p, q):
    """‖p − q‖ of two tuples of the same length."""
    total = 0.0
    for i in range(len(p)):
        total += (p[i] - q[i]) * (p[i] - q[i])
    return math.sqrt(total)


def exp2(x):
    """2ˣ."""
    return math.pow(2.0, x)


def fmod(x, y):
    """x − y·trunc(x/y), of the sign of x."""
    return math.copysign(math.fabs(x) % math.fabs(y), x)


def hypot(x, y, z=None):
    """√(x² + y²) or √(x² + y² + z²)."""
    if z is None:
        return math.hypot(x, y)
    return math.sqrt(x * x + y * y + z * z)


def log(x, base=None):
    """The logarithm of x, natural or to a base."""
    if base is None:
        return math.log(x)
    return math.log(x) / math.log(base)


def prod(values):
    """The product of a tuple's numbers."""
    total = 1.0
    for i in range(len(values)):
        total *= values[i]
    return total
