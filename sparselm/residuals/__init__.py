"""Residuals: one file a family, all behind :class:`~sparselm.residuals.base.AbstractResidual`."""

from sparselm.residuals.batch import BatchResidual
from sparselm.residuals.between import Between, BetweenUncoupled
from sparselm.residuals.cameras import (
    FisheyeReprojection,
    OpenCVReprojection,
    PinholeReprojection,
    RadialReprojection,
    SimpleRadialReprojection,
    StereoReprojection,
)
from sparselm.residuals.landmark import Landmark
from sparselm.residuals.prior import Prior
from sparselm.residuals.reprojection import SnavelyReprojection

__all__ = [
    "BatchResidual",
    "Between",
    "BetweenUncoupled",
    "FisheyeReprojection",
    "Landmark",
    "OpenCVReprojection",
    "PinholeReprojection",
    "Prior",
    "RadialReprojection",
    "SimpleRadialReprojection",
    "SnavelyReprojection",
    "StereoReprojection",
]
