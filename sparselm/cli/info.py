"""``sparselm info``: what a file holds, how it is spread, and what stands out."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparselm.cli.arguments import ExitStatus
from sparselm.cli.console import Console
from sparselm.cli.files import ProblemFile, read_file
from sparselm.cli.statistics import file_statistics, information_statistics, num_components
from sparselm.evaluator import Evaluator
from sparselm.io import BundleAdjustmentData, PoseGraph
from sparselm.linear_solvers.estimates import estimate_solvers, shared_memory
from sparselm.problem import Problem
from sparselm.report.text import labelled
from sparselm.structure import Structure


@dataclass(frozen=True)
class Start:
    """The residuals at the file's own values."""

    cost: float
    num_residual_blocks: int
    num_not_finite: int
    remarks: dict[str, int]
    group_costs: dict[str, float]


def run(arguments: argparse.Namespace) -> int:
    """The command; returns the exit status."""
    console = Console()
    with console.listening():
        file = read_file(arguments.file)
        problem, notes = file.to_problem()
        start = evaluate_start(problem)
        data = file.data
        lines = (
            _pose_graph(file, data, problem, start, notes)
            if isinstance(data, PoseGraph)
            else _bundle_adjustment(file, data, start)
        )
        lines += solver_lines(Structure(problem))
        for line in lines:
            console.say(line)
        console.close()
    return ExitStatus.USABLE


def evaluate_start(problem: Problem) -> Start:
    """Cost and oddities at the start; blocks that are not finite are counted and left out."""
    evaluator = Evaluator(problem, Structure(problem))
    costs = evaluator.block_costs()
    finite = [np.isfinite(own) for own in costs]
    groups = {g.name: float(c[f].sum()) for g, c, f in zip(problem.residuals, costs, finite, strict=True)}
    return Start(
        cost=sum(groups.values()),
        num_residual_blocks=sum(len(own) for own in costs),
        num_not_finite=sum(int((~f).sum()) for f in finite),
        remarks=evaluator.remarks(),
        group_costs=groups,
    )


def size_lines(data: BundleAdjustmentData, s: dict[str, Any]) -> list[str]:
    """How many cameras, points and observations there are, and how they are spread; ``s`` are the file's statistics."""
    tracks = np.bincount(np.bincount(data.point_index, minlength=len(data.points)))
    lines = labelled("cameras", [f"{s['num_cameras']:,}"])
    lines += labelled("", [f"observations of each: {_spread(s['observations_per_camera'])}"])
    lines += labelled("points", [f"{s['num_points']:,}"])
    lines += labelled("", [f"track length: {_spread(s['observations_per_point'])}", _histogram(tracks)])
    return lines + labelled("observations", [f"{s['num_observations']:,}"])


def solver_lines(structure: Structure) -> list[str]:
    """What a solve takes in memory, whatever its linear solver, and what each solver that suits the problem adds."""
    held = f"{_bytes(shared_memory(structure))} besides the linear solver: J, residuals, points, lists"
    lines = labelled("memory", [held])
    for turn, e in enumerate(estimate_solvers(structure)):
        parts = [f"{e.solver}: {_bytes(e.memory)}"]
        if e.nonzeros is not None:
            what = "JᵀJ" if e.solver == "block-cholesky" else "S"
            parts.append(f"{what} of {e.num_columns:,} columns, {e.nonzeros:,} entries")
        if e.factor_nonzeros is not None:
            parts.append(f"factor {e.factor_nonzeros:,}")
        parts.append(f"{e.flops:.2g} operations a {'factorisation' if e.factor_nonzeros is not None else 'product'}")
        if e.note:
            parts.append(e.note)
        lines += labelled("" if turn else "solvers", ["; ".join(parts)])
    return lines


def _bytes(size: int) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"


def _bundle_adjustment(file: ProblemFile, data: BundleAdjustmentData, start: Start) -> list[str]:
    s = file_statistics(file)
    num_finite = start.num_residual_blocks - start.num_not_finite
    rmse = math.sqrt(2.0 * start.cost / num_finite) if num_finite else math.nan
    lines = [f"{file.path}: bundle adjustment (BAL)", "", *size_lines(data, s)]
    lines += labelled("parameters", [f"{9 * s['num_cameras'] + 3 * s['num_points']:,}; none held constant"])
    lines += labelled("components", [_components(file)])
    lines += labelled("error", [f"{rmse:.6g} pixels (root mean square over observations); cost {start.cost:.9e}"])
    remarks = [f"{text}: {count:,}" for text, count in start.remarks.items()]
    remarks += _counted(
        (s["num_cameras_without_observations"], "cameras without observations: only the damping holds them"),
        (s["num_points_seen_less_than_twice"], "points seen less than twice: their depth is not determined"),
        (start.num_not_finite, "observations without a finite residual (the point lies in the camera's plane)"),
    )
    return lines + labelled("notes", remarks or ["nothing stands out"])


def _pose_graph(file: ProblemFile, graph: PoseGraph, problem: Problem, start: Start, notes: list[str]) -> list[str]:
    s = file_statistics(file)
    lines = [f"{file.path}: pose graph in SE({graph.world_dim}) (g2o)", ""]
    lines += labelled("poses", [f"{s['num_poses']:,}, ids {graph.ids[0]} to {graph.ids[-1]}"])
    lines += labelled("edges", [f"{s['num_edges']:,}; {s['num_loop_closures']:,} of them loop closures (|Δid| ≠ 1)"])
    lines += labelled("", [f"edges of a pose: {_spread(s['edges_per_pose'])}"])
    if graph.landmarks is not None:
        lines += labelled("landmarks", [f"{s['num_landmarks']:,}, seen {s['num_sightings']:,} times"])
        lines += labelled("", [f"sightings of each: {_spread(s['sightings_per_landmark'])}"])
    free = sum(v.values.shape[0] * v.manifold.tangent_dim for v in problem.variables)
    held = sum(int(v.fixed.sum()) for v in problem.variables if v.fixed is not None)
    lines += labelled("parameters", [f"{free - held:,} free, {held:,} held constant"])
    fixed = s["num_poses_fixed"] + s.get("num_landmarks_fixed", 0)
    lines += labelled("gauge", [*notes, *_counted((fixed, "vertices held constant by the file's FIX lines"))])
    lines += labelled("components", [_components(file)])
    lines += labelled("information", _information("edges", information_statistics(graph.information), len(graph.edges)))
    if graph.landmarks is not None:
        sightings = graph.landmarks.information
        lines += labelled("", _information("sightings", information_statistics(sightings), len(sightings)))
    shares = ", ".join(f"{name} {cost:.6e}" for name, cost in start.group_costs.items())
    lines += labelled("cost", [f"{start.cost:.9e} at the file's start (½ Σ ‖r‖²_Ω: {shares})"])
    remarks = [f"{text}: {count:,}" for text, count in start.remarks.items()]
    remarks += _counted(
        (s["num_poses_without_vertex"], "poses without a VERTEX line, placed along a spanning tree"),
        (s.get("num_landmarks_without_vertex", 0), "landmarks without a VERTEX line, placed by their first sighting"),
        (start.num_not_finite, "measurements without a finite residual"),
    )
    return lines + labelled("notes", remarks)


def _information(what: str, s: dict[str, Any], count: int) -> list[str]:
    if not count:
        return []
    alike = "all alike" if s["all_alike"] else f"{count:,} matrices"
    smallest = f"{s['smallest_eigenvalue']:.3g}" if math.isfinite(s["smallest_eigenvalue"]) else "none positive"
    text = f"{what}: {alike}, eigenvalues {smallest} to {s['largest_eigenvalue']:.3g}"
    if s["num_singular"]:
        text += f" besides {s['num_singular']:,} singular matrices"
    return [text]


def _components(file: ProblemFile) -> str:
    count = num_components(file)
    return "1: everything is connected" if count == 1 else f"{count:,} that no measurement connects"


def _spread(s: dict[str, float]) -> str:
    return f"{s['min']:,} to {s['max']:,}, median {s['median']:g}, mean {s['mean']:.3g}"


def _histogram(counts: Any) -> str:
    """How many points have which track length: the commonest few, then all the rest."""
    shown = [(length, int(count)) for length, count in enumerate(counts[:7]) if count]
    text = ", ".join(f"{length}: {count:,}" for length, count in shown)
    rest = int(counts[7:].sum())
    return f"points by track length: {text}{f', 7 or more: {rest:,}' if rest else ''}"


def _counted(*remarks: tuple[int, str]) -> list[str]:
    return [f"{count:,} {text}" for count, text in remarks if count]
