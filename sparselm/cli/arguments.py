"""What can be said on the command line, and what is wrong with what was said."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from enum import IntEnum
from importlib import import_module
from typing import Any, NoReturn

_EPILOG = """exit status: 0 usable solution, 1 none, 2 bad input or usage, 130 interrupted
'sparselm COMMAND --help' describes a command."""

_SOLVE_EPILOG = """examples:
  sparselm solve problem-49-7776-pre.txt.bz2 --output solved.txt
  sparselm solve torus3D.g2o --start spanning-tree --report torus3D.json
  sparselm solve scene.npz --loss huber:1.0 --damping marquardt --set damping.factor=5

Ctrl-C ends a solve with its best iterate, which is written to --output and --report; a second Ctrl-C gives up.
exit status: 0 usable solution, 1 none, 2 bad input or usage, 130 interrupted"""

_GENERATE_EPILOG = """styles:
  street   a vehicle with two cameras drives a figure of eight twice, as in BAL's "Ladybug": about 150 cameras share points
           with a camera, however long the street is
  photos   visitors photograph the landmarks of a city, as in "Venice" and "Final": popularity with a heavy tail, clusters,
           hubs; focal length, image size and distortion of each photograph

Pixels have 0.5 pixels of noise; the start is off by about 10. The same counts, style and seed give the same problem.

examples:
  sparselm generate bal --cameras 49 --points 7776 --observations 31843 --output street.txt.bz2
  sparselm generate bal --style photos --cameras 1778 --points 994000 --observations 5000000 --output venice-like.npz"""


class ExitStatus(IntEnum):
    """What the process says when it ends."""

    USABLE = 0
    NOT_USABLE = 1
    BAD_INPUT = 2
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class UsageError(Exception):
    """The command line asks for what does not exist or does not fit together."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are exceptions, to be told in one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see '{self.prog} --help')")


def make_parser() -> Parser:
    """The parser of all commands."""
    from sparselm import __version__

    parser = Parser(
        prog="sparselm",
        description="Huge sparse nonlinear least squares: bundle adjustment and pose graphs from files.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"sparselm {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    _add_solve(commands)
    _add_info(commands)
    _add_demo(commands)
    _add_generate(commands)
    _add_plugins(commands)
    return parser


def _command(commands: Any, name: str, text: str, epilog: str | None = None) -> Parser:
    parser: Parser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

    def run(arguments: argparse.Namespace) -> int:
        return int(import_module(f"sparselm.cli.{name}").run(arguments))

    parser.set_defaults(run=run)
    return parser


def _add_solve(commands: Any) -> None:
    parser = _command(commands, "solve", "solve a BAL or g2o file", _SOLVE_EPILOG)
    add = parser.add_argument
    add("file", metavar="FILE", help="BAL (text or .npz) or g2o; plain, .bz2, .gz or .xz; told by its content")
    parts = parser.add_argument_group("parts ('sparselm plugins' lists the names)").add_argument
    parts("--linear-solver", metavar="NAME", help="by default chosen by size and structure")
    parts("--damping", metavar="NAME", default="nielsen", help="default nielsen")
    parts("--residual", metavar="NAME", help="default snavely for BAL, between for g2o")
    parts("--loss", metavar="NAME[:SCALE]", help="robust loss, such as huber:1.0; none by default")
    parts(
        "--set",
        metavar="PART.KEY=VALUE",
        action="append",
        default=[],
        help="an option of a part: solver.KEY=VALUE, preconditioner.KEY=VALUE or damping.KEY=VALUE; may be repeated",
    )
    add(
        "--start",
        choices=("file", "spanning-tree"),
        default="file",
        help="poses to start from: the file's, or those composed along a spanning tree (g2o only)",
    )
    limits = parser.add_argument_group("when to stop").add_argument
    limits("--max-iterations", type=_count, default=100, metavar="N", help="steps tried, default 100")
    limits("--time-limit", type=_positive, metavar="S", help="seconds, none by default")
    limits("--function-tolerance", type=_tolerance, default=1e-6, metavar="X", help="default 1e-6")
    limits("--gradient-tolerance", type=_tolerance, default=1e-10, metavar="X", help="default 1e-10")
    limits("--parameter-tolerance", type=_tolerance, default=1e-8, metavar="X", help="default 1e-8")
    add("--num-threads", type=_at_least_one, metavar="N", help="threads of kernels and BLAS, all by default")
    outputs = parser.add_argument_group("output").add_argument
    outputs("--output", metavar="FILE", help="write the solution, in the format of FILE; the suffix may compress it")
    outputs("--report", metavar="FILE.json", help="write what happened as JSON")
    outputs("--quiet", action="store_true", help="print errors only")


def _add_info(commands: Any) -> None:
    parser = _command(commands, "info", "describe a BAL or g2o file: sizes, statistics, what stands out")
    parser.add_argument("file", metavar="FILE", help="BAL (text or .npz) or g2o; plain, .bz2, .gz or .xz")


def _add_demo(commands: Any) -> None:
    parser = _command(commands, "demo", "solve a synthetic bundle adjustment problem and say what to try next")
    add = parser.add_argument
    add("--cameras", type=_at_least(2), default=64, metavar="N", help="default 64")
    add("--points", type=_at_least(40), default=8000, metavar="N", help="default 8000")
    add("--seed", type=_count, default=0, metavar="N", help="default 0; the same seed gives the same problem")
    add("--num-threads", type=_at_least_one, metavar="N", help="threads of kernels and BLAS, all by default")
    add("--save", metavar="FILE", help="write the problem, unsolved, as a BAL file")


def _add_generate(commands: Any) -> None:
    text = "write a synthetic problem of any size to a file"
    parser = _command(commands, "generate", text, _GENERATE_EPILOG)
    add = parser.add_argument
    add("kind", metavar="KIND", choices=("bal",), help="bal: bundle adjustment, the only kind so far")
    add("--cameras", type=_at_least(4), required=True, metavar="N", help="at least 4")
    add("--points", type=_at_least(40), required=True, metavar="N", help="at least 40")
    add(
        "--observations",
        type=_at_least_one,
        metavar="N",
        help="exactly so many; by default what the track lengths come to, 4 to 5 of each point",
    )
    add("--style", choices=("street", "photos"), default="street", help="see below; default street")
    add("--seed", type=_count, default=0, metavar="N", help="default 0")
    add(
        "--output",
        required=True,
        metavar="FILE",
        help="text, which .bz2, .gz or .xz compresses; .npz is binary, many times faster, and the form for large problems",
    )


def _add_plugins(commands: Any) -> None:
    _command(commands, "plugins", "list what can be chosen by name, and the package that each comes from")


def parse_settings(settings: list[str]) -> dict[str, dict[str, Any]]:
    """``PART.KEY=VALUE`` texts as options of "solver", of its "preconditioner", and of "damping".

    Examples
    --------
    >>> parse_settings(["damping.factor=5", "linear_solver.tolerance=1e-3"])
    {'solver': {'tolerance': 0.001}, 'preconditioner': {}, 'damping': {'factor': 5}}
    """
    from sparselm.plugins import parse_value

    options: dict[str, dict[str, Any]] = {"solver": {}, "preconditioner": {}, "damping": {}}
    for setting in settings:
        target, equals, value = setting.partition("=")
        part, dot, key = target.strip().partition(".")
        part = {"linear_solver": "solver", "linear-solver": "solver"}.get(part, part)
        if not equals or not dot or not key or part not in options:
            raise UsageError(
                f"--set {setting}: expected solver.KEY=VALUE, preconditioner.KEY=VALUE or damping.KEY=VALUE, "
                "as in damping.initial_radius=1e3"
            )
        key = key.replace("-", "_")
        if key in options[part]:
            raise UsageError(f"--set {setting}: {part}.{key} is set twice")
        options[part][key] = parse_value(value.strip())
    return options


# -- numbers -----------------------------------------------------------------------------------------------------------


def _at_least(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"expected an integer ≥ {least}, got {text!r}")
        return value

    return parse


_count = _at_least(0)
_at_least_one = _at_least(1)


def _tolerance(text: str) -> float:
    value = _number(text)
    if not 0.0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number ≥ 0, got {text!r}")
    return value


def _positive(text: str) -> float:
    value = _number(text)
    if not value > 0.0:
        raise argparse.ArgumentTypeError(f"expected a number > 0, got {text!r}")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
