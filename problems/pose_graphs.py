"""Pose graphs: seven public ones and synthetic ones, for both logarithmic residuals."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal

import sparselm as slm
from problems.base import NamedProblem, require_data
from sparselm.datasets.pose_graph import grid_se2, sphere_se3, torus_se3
from sparselm.errors import FileWarning
from sparselm.io.g2o import read_g2o, spanning_tree_poses, to_problem, with_poses
from sparselm.io.pose_graph import PoseGraph

_PATIENT = {"max_iterations": 300, "function_tolerance": 1e-12}

# ½ Σ rᵀΩr of "between" and of "between-uncoupled", and the start from which that minimum is reached: from its own
# poses, MIT ends in a local minimum near 385.119 and torus3D near 29950.
_PUBLIC: dict[str, tuple[float, float, Literal["file", "spanning-tree"]]] = {
    "sphere2500": (675.700963, 675.681163, "file"),
    "parking-garage": (0.634192400, 0.634192201, "file"),
    "torus3D": (12117.636879, 12116.509331, "spanning-tree"),
    "intel": (22.5021165, 22.5023479, "file"),
    "M3500": (68.9574391, 68.9564755, "file"),
    "manhattan": (1774.520535, 1774.518398, "file"),
    "MIT": (20.6034735, 20.5816344, "spanning-tree"),
}


def _from_tree(graph: PoseGraph) -> PoseGraph:
    return with_poses(graph, spanning_tree_poses(graph))


SYNTHETIC: dict[str, Callable[[], PoseGraph]] = {
    "grid-100": lambda: grid_se2(100, seed=100),
    "grid-3500": lambda: grid_se2(3500, seed=3500),
    "sphere-180": lambda: sphere_se3(12, 15, seed=180),
    "sphere-2500": lambda: sphere_se3(50, 50, seed=2500),
    "torus-240": lambda: torus_se3(12, 20, seed=240),
    "torus-5000": lambda: _from_tree(torus_se3(50, 100, seed=5000)),  # odometry leads to a local minimum
}

# The same two costs, from odometry, found by problems/reference.py: central differences, SuperLU, Marquardt damping.
_SYNTHETIC_OPTIMA: dict[str, tuple[float, float]] = {
    "grid-100": (81.446595462, 81.445557988),
    "grid-3500": (2610.15498110, 2610.12638475),
    "sphere-180": (492.140513997, 492.133158912),
    "sphere-2500": (7217.61451926, 7217.49480647),
    "torus-240": (684.134392374, 684.123129595),
    "torus-5000": (14923.3980107, 14923.1478833),
}


def _public(name: str, residual: type[slm.Between] | type[slm.BetweenUncoupled]) -> slm.Problem:
    with warnings.catch_warnings():
        # poses without a vertex line, indefinite information: known, and part of what these files are
        warnings.simplefilter("ignore", FileWarning)
        graph = read_g2o(require_data(f"g2o/{name}.g2o.xz"))
    problem, _ = to_problem(graph, residual, start=_PUBLIC[name][2])
    return problem


def _synthetic(name: str, residual: type[slm.Between] | type[slm.BetweenUncoupled]) -> slm.Problem:
    problem, _ = to_problem(SYNTHETIC[name](), residual)
    return problem


def _problems() -> list[NamedProblem]:
    kinds = ((0, "", slm.Between), (1, "-uncoupled", slm.BetweenUncoupled))
    problems = []
    for name, values in _PUBLIC.items():
        for which, suffix, residual in kinds:
            problems.append(
                NamedProblem(
                    name=f"g2o-{name.lower()}{suffix}",
                    kind="pose-graph",
                    build=lambda name=name, residual=residual: _public(name, residual),  # type: ignore[misc]
                    optimum=values[which],
                    tolerance=1e-7,
                    needs_data=f"g2o/{name}.g2o.xz",
                    options=_PATIENT,
                    source="several solvers and starts, with a dual certificate",
                )
            )
    for name, optima in _SYNTHETIC_OPTIMA.items():
        for which, suffix, residual in kinds:
            problems.append(
                NamedProblem(
                    name=name + suffix,
                    kind="pose-graph",
                    build=lambda name=name, residual=residual: _synthetic(name, residual),  # type: ignore[misc]
                    optimum=optima[which],
                    options=_PATIENT,
                    source="problems/reference.py",
                )
            )
    return problems


PROBLEMS: tuple[NamedProblem, ...] = tuple(_problems())
