"""Levenberg–Marquardt behind the interface of ``scipy.optimize.least_squares``: one vector function, no :class:`Problem`."""

from sparselm.scipy_api.api import least_squares

__all__ = ["least_squares"]
