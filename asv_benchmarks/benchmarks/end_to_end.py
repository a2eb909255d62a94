"""Whole solves, problem × linear solver."""

from .common import _Solve


class BundleAdjustment(_Solve):
    params = [["street-20", "street-49", "bal-ladybug-49"], ["cholmod", "superlu"]]


class PoseGraph(_Solve):
    params = [["grid-3500", "sphere-2500", "g2o-sphere2500", "g2o-m3500", "g2o-intel"], ["cholmod", "superlu"]]


class Iterative(_Solve):
    """Small ones: an inner solver that iterates is slow on badly conditioned problems, and is not meant for these."""

    params = [["grid-100", "sphere-180"], ["lsmr"]]
    max_iterations = 5
