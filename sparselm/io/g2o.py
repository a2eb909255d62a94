"""Pose graphs in the text format of g2o."""

from __future__ import annotations

from sparselm.io.pose_graph import Landmarks, PoseGraph

__all__ = ["Landmarks", "PoseGraph"]
