"""Reprojection without lens distortion, as a function of one block."""

import sparselm as slm


@slm.residual(dim=2)
def reprojection(camera, point, pixel):
    x, y, z = slm.math.add(slm.math.rotate_angle_axis(camera[:3], point), camera[3:6])
    return -camera[6] * x / z - pixel[0], -camera[6] * y / z - pixel[1]
