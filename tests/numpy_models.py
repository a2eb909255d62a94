"""Well-known residuals as a user would write them with NumPy: many blocks at a time, by columns."""

from __future__ import annotations

import numpy as np

TINY = 1e-300  # keeps 0/0 away where an angle is zero, in reach of the complex step's square as well


def snavely(camera, point, pixel):
    """BAL's camera: angle-axis, translation, focal length and two distortion coefficients."""
    w, t = camera[:, 0:3], camera[:, 3:6]
    f, k1, k2 = camera[:, 6:7], camera[:, 7:8], camera[:, 8:9]
    theta2 = (w * w).sum(axis=1, keepdims=True) + TINY
    theta = np.sqrt(theta2)
    along = (w * point).sum(axis=1, keepdims=True) * (1.0 - np.cos(theta)) / theta2
    P = np.cos(theta) * point + np.sin(theta) / theta * np.cross(w, point) + along * w + t
    p = -P[:, :2] / P[:, 2:]
    s = (p * p).sum(axis=1, keepdims=True)
    return f * (1.0 + s * (k1 + k2 * s)) * p - pixel


def between_se2(first, second, measured):
    """Log(Z⁻¹ X_i⁻¹ X_j) of poses (x, y, θ)."""
    dx, dy = (second - first)[:, 0], (second - first)[:, 1]
    c, s = np.cos(first[:, 2]), np.sin(first[:, 2])
    ex, ey = c * dx + s * dy - measured[:, 0], c * dy - s * dx - measured[:, 1]
    cz, sz = np.cos(measured[:, 2]), np.sin(measured[:, 2])
    ex, ey = cz * ex + sz * ey, cz * ey - sz * ex
    angle = second[:, 2] - first[:, 2] - measured[:, 2]
    angle = np.arctan2(np.sin(angle), np.cos(angle))
    half = 0.5 * angle
    with np.errstate(invalid="ignore", divide="ignore"):
        a = np.where(np.abs(half) < 1e-4, 1.0 - half * half / 3.0, half / np.tan(half))
    return np.stack((a * ex + half * ey, a * ey - half * ex, angle), axis=1)


def between_se3(first, second, measured):
    """Log(Z⁻¹ X_i⁻¹ X_j) of poses (t, q)."""
    t, q = _se3_between(measured, np.concatenate(_se3_between(first, second), axis=1))
    q = np.where(q[:, 3:] < 0.0, -q, q)
    sine = np.sqrt((q[:, :3] ** 2).sum(axis=1, keepdims=True))
    theta = 2.0 * np.arctan2(sine, q[:, 3:])
    with np.errstate(invalid="ignore", divide="ignore"):
        w = q[:, :3] * np.where(sine < 1e-9, 2.0, theta / sine)
        b = np.where(theta < 1e-3, 1.0 / 12.0 + theta**2 / 720.0, (1.0 - 0.5 * theta / np.tan(0.5 * theta)) / theta**2)
    twist = np.cross(w, t)
    return np.concatenate((t - 0.5 * twist + b * np.cross(w, twist), w), axis=1)


def _se3_between(x, y):
    """Translation and quaternion of X⁻¹Y."""
    inverse = x[:, 3:] * np.array([-1.0, -1.0, -1.0, 1.0])
    return _rotate(inverse, y[:, :3] - x[:, :3]), _multiply(inverse, y[:, 3:])


def _rotate(q, v):
    twice = 2.0 * np.cross(q[:, :3], v)
    return v + q[:, 3:] * twice + np.cross(q[:, :3], twice)


def _multiply(p, q):
    vector = p[:, 3:] * q[:, :3] + q[:, 3:] * p[:, :3] + np.cross(p[:, :3], q[:, :3])
    return np.concatenate((vector, p[:, 3:] * q[:, 3:] - (p[:, :3] * q[:, :3]).sum(axis=1, keepdims=True)), axis=1)
