"""Snavely's camera as a user would write it, beside the built-in kernel: for tests, benchmarks and comparisons."""

from __future__ import annotations

import sparselm as slm


@slm.residual(dim=2)
def snavely(camera, point, pixel):
    """BAL's camera [angle-axis, translation, f, k₁, k₂], camera from world, looking along −z; pixels."""
    x, y, z = slm.math.add(slm.math.rotate_angle_axis(camera[:3], point), camera[3:6])
    u, v = -x / z, -y / z
    f, k1, k2 = camera[6:]
    s = u * u + v * v
    scale = f * (1.0 + s * (k1 + s * k2))
    return scale * u - pixel[0], scale * v - pixel[1]


@slm.residual(dim=2)
def snavely_prepared(camera, point, pixel):
    """The same with the rotation matrix prepared once per camera."""
    R, t, (f, k1, k2) = camera
    x, y, z = slm.math.add(slm.math.matrix_vector(R, point), t)
    u, v = -x / z, -y / z
    s = u * u + v * v
    scale = f * (1.0 + s * (k1 + s * k2))
    return scale * u - pixel[0], scale * v - pixel[1]


@snavely_prepared.prepare("camera")
def _rotation(camera):
    return slm.math.angle_axis_matrix(camera[:3]), camera[3:6], camera[6:]


#: The residuals of bundle adjustment by the name under which benchmarks list them.
SNAVELY = {"built-in": slm.SnavelyReprojection(), "function": snavely, "prepared": snavely_prepared}
