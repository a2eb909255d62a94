"""The rotation group of the plane: an angle θ in radians, kept in (−π, π]."""

import math

import numpy as np

from sparselm._jit import scalar

_TWO_PI = 2.0 * math.pi


@scalar
def wrap_angle(theta):
    """Return the angle in (−π, π] that differs from θ by a multiple of 2π; θ itself, bit for bit, where it is there.

    Parameters
    ----------
    theta : float
        Radians. NaN and ±inf give NaN.
    """
    if -math.pi < theta <= math.pi:
        return theta
    # NumPy's ceil, since numba's math.ceil is an integer, and infinity then a finite angle.
    wrapped = theta - _TWO_PI * np.ceil((theta - math.pi) / _TWO_PI)
    # The quotient is rounded, so an angle beside the seam can land an ulp beyond it.
    if wrapped > math.pi:
        wrapped -= _TWO_PI
    elif wrapped <= -math.pi:
        wrapped += _TWO_PI
    return wrapped
