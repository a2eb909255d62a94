"""Reading and writing problems: BAL bundle adjustment (text and binary) and g2o pose graphs."""

from __future__ import annotations

from sparselm.io.bal import BundleAdjustmentData
from sparselm.io.pose_graph import Landmarks, PoseGraph

__all__ = ["BundleAdjustmentData", "Landmarks", "PoseGraph"]
