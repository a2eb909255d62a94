"""Whole solves, problem × linear solver."""

from .common import SOLVERS, _Solve


class BundleAdjustment(_Solve):
    params = [["street-20", "street-49", "bal-ladybug-49"], SOLVERS]


class PoseGraph(_Solve):
    params = [["grid-3500", "sphere-2500", "g2o-sphere2500", "g2o-m3500", "g2o-intel"], ["cholmod", "superlu"]]
