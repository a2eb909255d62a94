"""Bundle adjustment: a public BAL problem and synthetic streets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from problems.base import NamedProblem, require_data
from sparselm.datasets.bundle_adjustment import camera_coordinates, street
from sparselm.io.bal import BundleAdjustmentData, read_bal, to_problem

_LADYBUG_49 = "bal/problem-49-7776-pre.txt.bz2"
_PATIENT = {"max_iterations": 300, "function_tolerance": 1e-10}


def ladybug_49() -> BundleAdjustmentData:
    """BAL's problem-49-7776-pre."""
    return read_bal(require_data(_LADYBUG_49))


def without_points_behind(data: BundleAdjustmentData) -> BundleAdjustmentData:
    """The data less every point that some camera, at the start, sees although the point is not in front of it."""
    P = camera_coordinates(data.cameras, data.points, data.camera_index, data.point_index)
    keep = np.ones(len(data.points), dtype=bool)
    keep[data.point_index[P[:, 2] >= 0.0]] = False
    kept = keep[data.point_index]
    new_index = np.cumsum(keep) - 1
    return replace(
        data,
        points=data.points[keep],
        camera_index=data.camera_index[kept],
        point_index=new_index[data.point_index[kept]].astype(np.int32),
        pixels=data.pixels[kept],
    )


FROM_FILE: dict[str, Callable[[], BundleAdjustmentData]] = {
    "bal-ladybug-49": ladybug_49,
    "bal-ladybug-49-front": lambda: without_points_behind(ladybug_49()),
}

SYNTHETIC: dict[str, Callable[[], BundleAdjustmentData]] = {
    "street-8": lambda: street(8, 120, seed=8).data,
    "street-20": lambda: street(20, 500, seed=20).data,
    "street-49": lambda: street(49, 7776, seed=49).data,
    "street-200": lambda: street(200, 10_000, seed=200).data,
    "street-1000": lambda: street(1000, 100_000, seed=1000).data,
}

# ½ Σ r² found by problems/reference.py: central differences, dense Schur complement, Marquardt damping. It takes too
# long for street-1000, whose value is this package's own; on the others the two agree in all digits given here.
_SYNTHETIC_OPTIMA: dict[str, float | None] = {
    "street-8": 26.4646436312,
    "street-20": 210.886672964,
    "street-49": 4860.7777881,
    "street-200": 6426.44140307,
    "street-1000": 66336.4179,
}


def _from_file(name: str, optimum: float | None, source: str) -> NamedProblem:
    return NamedProblem(
        name,
        "bundle-adjustment",
        lambda: to_problem(FROM_FILE[name]()),
        optimum,
        needs_data=_LADYBUG_49,
        options=_PATIENT,
        source=source,
    )


def _synthetic(name: str) -> NamedProblem:
    return NamedProblem(
        name,
        "bundle-adjustment",
        build=lambda: to_problem(SYNTHETIC[name]()),
        optimum=_SYNTHETIC_OPTIMA[name],
        options=_PATIENT,
        source="problems/reference.py",
    )


PROBLEMS: tuple[NamedProblem, ...] = (
    # 13344.2891 after 32 iterations, 13344.2408 after 300: a long flat valley, the last digit is not certain.
    _from_file("bal-ladybug-49", 13344.2404, "many iterations of several solvers"),
    # 13308.4083 after 300 iterations, 13308.40589 after 2000, when no step decreases it any further; the differences of
    # problems/reference.py are too coarse for the valley and stop at 13308.504.
    _from_file("bal-ladybug-49-front", 13308.4059, "this package's own, after 2000 iterations"),
    *(_synthetic(name) for name in SYNTHETIC),
)
