"""``sparselm demo``: a synthetic bundle adjustment problem, solved before the user's eyes."""

from __future__ import annotations

import argparse
import math
import sys

from sparselm.cli.arguments import ExitStatus
from sparselm.cli.console import Console
from sparselm.cli.files import check_writable

# Standard deviation of the pixels measured, as in the generator's default.
_PIXEL_NOISE = 0.5


def run(arguments: argparse.Namespace) -> int:
    """The command; returns the exit status."""
    from sparselm.datasets.bundle_adjustment import street
    from sparselm.driver import solve
    from sparselm.io import bal
    from sparselm.report.progress import ProgressTable
    from sparselm.termination import Status

    console = Console()
    if arguments.save is not None:
        check_writable("--save", arguments.save)
    with console.listening():
        scene = street(arguments.cameras, arguments.points, seed=arguments.seed, pixel_noise=_PIXEL_NOISE)
        data = scene.data
        console.say(
            "A vehicle drives a figure of eight; its cameras see points along the street. Find cameras and points:\n"
            f"{len(data.cameras):,} cameras, {len(data.points):,} points, {len(data.pixels):,} observations with "
            f"{_PIXEL_NOISE} pixels of noise."
        )
        if arguments.save is not None:
            bal.write_bal(arguments.save, data)
        problem = bal.to_problem(data)
        result = solve(problem, num_threads=arguments.num_threads, callback=ProgressTable(sys.stdout))
        console.say(f"\n{result}")
        before, after = (math.sqrt(2.0 * cost / len(data.pixels)) for cost in (result.initial_cost, result.final_cost))
        # Of 2n residuals the parameters take up their part of the noise.
        sizes = result.sizes
        freedom = max(sizes.num_residuals - sizes.num_parameters + 7, 0) / len(data.pixels)
        console.say(
            f"\nReprojection error (root mean square): {before:.3f} pixels before, {after:.3f} after; "
            f"the noise alone leaves {_PIXEL_NOISE * math.sqrt(freedom):.3f}."
        )
        console.say(_what_next(arguments.save))
        console.close()
    if result.status is Status.INTERRUPTED:
        return ExitStatus.INTERRUPTED
    return ExitStatus.USABLE if result.success else ExitStatus.NOT_USABLE


def _what_next(saved: str | None) -> str:
    file = saved or "demo.txt"
    lines = [
        "\nWhat to try next",
        f"  sparselm info {file}",
        f"  sparselm solve {file} --output solved.txt --report report.json",
        f"  sparselm solve {file} --damping marquardt --loss huber:1.0",
        "  sparselm plugins                                  what can be chosen by name",
        "  sparselm demo --cameras 500 --points 100000       a larger problem",
        "BAL problems are at https://grail.cs.washington.edu/projects/bal/; g2o pose graphs are solved the same way.",
    ]
    if saved is None:
        lines.insert(1, "  sparselm demo --save demo.txt                     keep this problem as a file")
    return "\n".join(lines)
