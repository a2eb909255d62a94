"""Synthetic problems of any size, from fixed seeds: streets and photographs for bundle adjustment, and pose graphs."""

from sparselm.datasets.bundle_adjustment import SyntheticBundleAdjustment, photos, street
from sparselm.datasets.pose_graph import grid_se2, sphere_se3, torus_se3

__all__ = ["SyntheticBundleAdjustment", "grid_se2", "photos", "sphere_se3", "street", "torus_se3"]
