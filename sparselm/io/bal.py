"""Bundle adjustment in the large (BAL): cameras, points and the pixels at which cameras saw points.

Frames and units: a camera is ``[ω (3), t (3), f, k1, k2]``, camera-from-world: a point X of the world has coordinates
``P = R(ω) X + t`` in the camera, with ω an angle-axis vector in radians and t, X in the (arbitrary) unit of the
reconstruction. The camera looks along −z: it sees P at ``p = −P_xy / P_z`` and, distorted, at the pixel
``f (1 + k1 ‖p‖² + k2 ‖p‖⁴) p``, whose origin is the image's centre, x to the right and y up.

References
----------
S. Agarwal, N. Snavely, S. M. Seitz, R. Szeliski, "Bundle Adjustment in the Large", ECCV 2010; the text format is
described on the project's page, https://grail.cs.washington.edu/projects/bal/.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparselm.errors import ProblemError

Array = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class BundleAdjustmentData:
    """What a BAL file holds. Arrays are converted to the stated type, and copied only where they differ from it.

    Attributes
    ----------
    cameras : (num_cameras, 9) float64
        ``[ω, t, f, k1, k2]``, camera-from-world: radians, world units, pixels, and two distortion coefficients.
    points : (num_points, 3) float64
        World coordinates.
    camera_index, point_index : (num_observations,) int32
        Which camera saw which point.
    pixels : (num_observations, 2) float64
        Where, in pixels from the image's centre.
    """

    cameras: Array
    points: Array
    camera_index: IndexArray
    point_index: IndexArray
    pixels: Array

    def __post_init__(self) -> None:
        num_observations = len(np.asarray(self.camera_index))
        shapes = {
            "cameras": (len(np.asarray(self.cameras)), 9),
            "points": (len(np.asarray(self.points)), 3),
            "camera_index": (num_observations,),
            "point_index": (num_observations,),
            "pixels": (num_observations, 2),
        }
        for name, shape in shapes.items():
            dtype = np.int32 if name.endswith("index") else np.float64
            array = np.ascontiguousarray(getattr(self, name), dtype=dtype)
            if array.shape != shape:
                raise ProblemError(f"bundle adjustment data: {name} has shape {array.shape}, expected {shape}")
            object.__setattr__(self, name, array)
