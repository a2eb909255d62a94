"""Synthetic bundle adjustment: vehicles in streets, photographs of a city, and the truth behind them."""

from sparselm.datasets.bundle_adjustment.common import SyntheticBundleAdjustment, camera_coordinates, project
from sparselm.datasets.bundle_adjustment.photos import photos
from sparselm.datasets.bundle_adjustment.street import street

__all__ = ["SyntheticBundleAdjustment", "camera_coordinates", "photos", "project", "street"]
