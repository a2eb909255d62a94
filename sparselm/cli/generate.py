"""``sparselm generate``: a synthetic problem, written to a file, and what it looks like."""

from __future__ import annotations

import argparse
import os
import time

import numpy as np

from sparselm.cli.arguments import ExitStatus, UsageError
from sparselm.cli.console import Console
from sparselm.cli.files import ProblemFile, check_name, check_writable
from sparselm.cli.info import size_lines
from sparselm.cli.statistics import file_statistics
from sparselm.io import BundleAdjustmentData, write_bal
from sparselm.report.text import labelled


def run(arguments: argparse.Namespace) -> int:
    """The command; returns the exit status."""
    from sparselm.datasets import photos, street

    console = Console()
    path = arguments.output
    check_writable("--output", path)
    check_name(path, "BAL", "what is generated")
    make = {"street": street, "photos": photos}[arguments.style]
    began = time.perf_counter()
    data = make(arguments.cameras, arguments.points, arguments.seed, num_observations=arguments.observations).data
    made = time.perf_counter()
    try:
        write_bal(path, data)
    except OSError as error:
        raise UsageError(
            f"--output {path}: cannot be written ({error.strerror or error}); see to it and repeat"
        ) from error
    written = time.perf_counter()
    console.say(f"{path}: bundle adjustment (BAL), style {arguments.style}, seed {arguments.seed}\n")
    for line in describe(path, data):
        console.say(line)
    console.say("\n".join(labelled("time", [f"{made - began:.1f} s to generate, {written - made:.1f} s to write"])))
    console.say(f"\nsparselm info {path} tells more, sparselm solve {path} solves it.")
    console.close()
    return ExitStatus.USABLE


def describe(path: str, data: BundleAdjustmentData) -> list[str]:
    """Counts, cameras and tracks, and the size of the file."""
    lines = size_lines(data, file_statistics(ProblemFile(path, data)))
    per_camera = np.sort(np.bincount(data.camera_index, minlength=len(data.cameras)))
    share = per_camera[-max(1, len(per_camera) // 10) :].sum() / per_camera.sum()
    lines += labelled("", [f"{100 * share:.0f} % of them in the tenth of the cameras that have most"])
    size = os.path.getsize(path) if os.path.isfile(path) else None
    return lines + ([] if size is None else labelled("file", [f"{size / 1e6:,.1f} MB"]))
