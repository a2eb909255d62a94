"""``sparselm solve``: from a file to its optimum, with progress, a report, and the solution as a file."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sparselm import plugins
from sparselm.cli.arguments import ExitStatus, UsageError, parse_settings
from sparselm.cli.console import Console
from sparselm.cli.files import DEFAULT_RESIDUALS, ProblemFile, ReadClock, check_writable, read_file, write_or_rescue
from sparselm.errors import NonFiniteStartError, SparselmError
from sparselm.interrupt import deferred_interrupt
from sparselm.report.progress import ProgressTable
from sparselm.report.text import labelled
from sparselm.termination import Status

if TYPE_CHECKING:
    from sparselm.damping.base import AbstractDamping
    from sparselm.linear_solvers.base import AbstractLinearSolver
    from sparselm.losses.base import AbstractLoss
    from sparselm.residuals.base import AbstractResidual
    from sparselm.result import Result


@dataclass(frozen=True)
class Parts:
    """What was chosen by name, made before anything large is read: a wrong name is told at once."""

    linear_solver: AbstractLinearSolver | None
    damping: AbstractDamping
    residual: type[AbstractResidual] | None
    loss: AbstractLoss | None


def run(arguments: argparse.Namespace) -> int:
    """The command; returns the exit status."""
    console = Console(arguments.quiet)
    with console.listening():
        parts = choose_parts(arguments)
        check_outputs(arguments)
        clock = ReadClock()
        file = read_file(arguments.file)
        if arguments.output is not None:
            file.check_output_name(arguments.output)
        problem, notes = file.to_problem(parts.residual, arguments.start, parts.loss)
        read_times = clock.stop()
        console.say(f"{arguments.file}: {summary(file)}")
        for note in notes:
            console.say(f"note: {note}")
        result = with_read_times(solve_problem(arguments, problem, parts, console), read_times)
        # One Ctrl-C more must not cost what was computed; a second one still ends at once.
        with deferred_interrupt() as interrupted:
            errors = write_files(arguments, file, result, notes, console)
            console.say()
            for line in report_lines(arguments, result, notes):
                console.say(line)
        if errors:
            raise UsageError("; ".join(errors))
        console.close()
    if interrupted() or result.status is Status.INTERRUPTED:
        return ExitStatus.INTERRUPTED
    if result.success:
        return ExitStatus.USABLE
    if arguments.quiet:
        print(f"sparselm: no usable solution: {result.message}", file=sys.stderr)
    return ExitStatus.NOT_USABLE


def choose_parts(arguments: argparse.Namespace) -> Parts:
    """Make the plug-ins that the command line names."""
    options = parse_settings(arguments.set)
    return Parts(
        linear_solver=make_linear_solver(arguments.linear_solver, options["solver"], options["preconditioner"]),
        damping=plugins.create("damping", arguments.damping, options["damping"]),
        residual=None if arguments.residual is None else plugins.load("residuals", arguments.residual),
        loss=None if arguments.loss is None else plugins.parse_loss(arguments.loss),
    )


def make_linear_solver(
    name: str | None, options: dict[str, Any], preconditioner: dict[str, Any]
) -> AbstractLinearSolver | None:
    """The linear solver of a name, with its options and those of the preconditioner that they name."""
    if preconditioner:
        chosen = options.get("preconditioner")
        if not isinstance(chosen, str):
            raise UsageError(
                f"--set preconditioner.{next(iter(preconditioner))}: name the preconditioner as well, "
                "with --set solver.preconditioner=NAME"
            )
        options = {**options, "preconditioner": plugins.create("preconditioners", chosen, preconditioner)}
    if name is not None:
        solver: AbstractLinearSolver = plugins.create("linear_solvers", name, options)
        return solver
    if options:
        raise UsageError(f"--set solver.{next(iter(options))}: name the solver as well, with --linear-solver")
    return None


def check_outputs(arguments: argparse.Namespace) -> None:
    """Find out before the work whether its outcome can be kept."""
    if arguments.output is not None and arguments.output == arguments.report:
        raise UsageError(f"--output and --report both name {arguments.output}; give them different names")
    for option, path in (("--output", arguments.output), ("--report", arguments.report)):
        if path is not None:
            check_writable(option, path)


def solve_problem(arguments: argparse.Namespace, problem: Any, parts: Parts, console: Console) -> Result:
    """Solve with the limits of the command line, and a progress table unless it shall be quiet."""
    from sparselm.driver import solve

    try:
        return solve(
            problem,
            linear_solver=parts.linear_solver,
            damping=parts.damping,
            max_iterations=arguments.max_iterations,
            time_limit=arguments.time_limit,
            function_tolerance=arguments.function_tolerance,
            gradient_tolerance=arguments.gradient_tolerance,
            parameter_tolerance=arguments.parameter_tolerance,
            num_threads=arguments.num_threads,
            callback=None if console.quiet else ProgressTable(sys.stdout),
        )
    except NonFiniteStartError as error:
        raise SparselmError(f"{arguments.file}: {error}") from error


def with_read_times(result: Result, read_times: tuple[float, float, float]) -> Result:
    """Add what was spent before the solve; ``total`` stays the sum of its parts."""
    reading, compiling, loading = read_times
    times = result.times
    times = replace(
        times,
        read=reading,
        total=times.total + reading,
        compile=times.compile + compiling,
        load=times.load + loading,
    )
    return replace(result, times=times)


def summary(file: ProblemFile) -> str:
    """The sizes of a file in one line."""
    from sparselm.io import PoseGraph

    data = file.data
    if not isinstance(data, PoseGraph):
        return f"{len(data.cameras):,} cameras, {len(data.points):,} points, {len(data.pixels):,} observations"
    text = f"{len(data.ids):,} poses in SE({data.world_dim}), {len(data.edges):,} edges"
    if data.landmarks is not None:
        text += f", {len(data.landmarks.ids):,} landmarks seen {len(data.landmarks.edges):,} times"
    return text


def write_files(
    arguments: argparse.Namespace, file: ProblemFile, result: Result, notes: list[str], console: Console
) -> list[str]:
    """Write the solution and the JSON report; return what went wrong. Each is written whatever becomes of the other."""
    from sparselm.report.json_report import write_json

    errors = []
    if arguments.output is not None:
        errors.append(
            write_or_rescue("--output", arguments.output, lambda path: file.write_solution(path, result.values))
        )
    if arguments.report is not None:
        content = report_content(arguments, file, result, notes, console)
        errors.append(write_or_rescue("--report", arguments.report, lambda path: write_json(path, content)))
    return [error for error in errors if error]


def report_content(
    arguments: argparse.Namespace, file: ProblemFile, result: Result, notes: list[str], console: Console
) -> dict[str, Any]:
    """The JSON report: the result, and what the command line adds to it."""
    from sparselm.cli.statistics import file_statistics
    from sparselm.report.json_report import describe_result

    content = describe_result(result)
    if arguments.linear_solver is not None:
        content["linear_solver"] = arguments.linear_solver
    content["damping_strategy"] = arguments.damping
    return {
        "file": arguments.file,
        "format": file.format,
        **content,
        "residual": arguments.residual or DEFAULT_RESIDUALS[file.format],
        "loss": arguments.loss,
        "start": arguments.start,
        "options": {
            "max_iterations": arguments.max_iterations,
            "time_limit": arguments.time_limit,
            "function_tolerance": arguments.function_tolerance,
            "gradient_tolerance": arguments.gradient_tolerance,
            "parameter_tolerance": arguments.parameter_tolerance,
            "set": arguments.set,
        },
        "output": arguments.output,
        "notes": notes,
        "warnings": console.warnings,
        "statistics": file_statistics(file),
    }


def report_lines(arguments: argparse.Namespace, result: Result, notes: list[str]) -> list[str]:
    """The report that people read: the result's own, what was decided for them, and where things are."""
    lines = str(result).splitlines()
    lines += labelled("file", notes)
    written = [path for path in (arguments.output, arguments.report) if path is not None]
    if written:
        lines += labelled("written", [", ".join(written)])
    elif result.status.remedy.endswith("continue from this result"):
        lines += labelled("", ["--output FILE keeps the result, to be given as FILE next time"])
    return lines
