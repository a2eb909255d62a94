"""The camera of BAL files in plain NumPy, for interpreters that have no sparselm: ``sparselm.io.bal`` describes it."""

import numpy as np

# From BAL's camera axes (x right, y up, −z ahead) to those of COLMAP and GTSAM (x right, y down, z ahead): with D the
# diagonal matrix of this, their pose is (D R, D t) and their pixel (u, −v).
FLIP = np.array([1.0, -1.0, -1.0])


def rotation_matrices(axis_angle):
    """Rodrigues's formula, ``(n, 3)`` to ``(n, 3, 3)``."""
    angle = np.linalg.norm(axis_angle, axis=1)[:, None, None]
    x, y, z = axis_angle.T
    zero = np.zeros_like(x)
    cross = np.array([[zero, -z, y], [z, zero, -x], [-y, x, zero]]).transpose(2, 0, 1)
    # sin θ / θ and (1 − cos θ) / θ², as numpy.sinc has them: sin πx / πx.
    first, second = np.sinc(angle / np.pi), 0.5 * np.sinc(0.5 * angle / np.pi) ** 2
    return np.eye(3) + first * cross + second * (cross @ cross)


def cost(data, rotations, cameras, points):
    """½ Σ ‖r‖² in pixels; of the cameras ``(n, 9)``, ``rotations (n, 3, 3)`` stand for the first three columns."""
    seen = data["camera_index"]
    P = np.einsum("nij,nj->ni", rotations[seen], points[data["point_index"]]) + cameras[seen, 3:6]
    p = -P[:, :2] / P[:, 2:]
    squared = np.sum(p * p, axis=1)
    focal, k1, k2 = cameras[seen, 6:].T
    return 0.5 * float(np.sum(((focal * (1.0 + squared * (k1 + k2 * squared)))[:, None] * p - data["pixels"]) ** 2))
