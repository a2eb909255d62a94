"""The command line: ``sparselm solve``, ``info``, ``demo``, ``generate`` and ``plugins``.

Exit status: 0 a usable solution, 1 none, 2 bad input or usage, 130 interrupted. Whatever goes wrong because of what the
user gave is one line on the error stream. Each command's code, and all it needs, is imported when it is called.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress

from sparselm.cli.arguments import ExitStatus, UsageError, make_parser
from sparselm.errors import SparselmError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Parameters
    ----------
    argv
        Arguments without the program's name; those of the process where None.
    """
    try:
        return _run(argv)
    except KeyboardInterrupt:
        _complain("interrupted")
        return ExitStatus.INTERRUPTED
    except MemoryError as error:
        _complain(f"not enough memory{f' ({error})' if str(error) else ''}; use a smaller problem or a larger machine")
        return ExitStatus.BAD_INPUT
    except (SparselmError, UsageError, OSError, UnicodeError) as error:
        _complain(_describe(error))
        return ExitStatus.BAD_INPUT


def _run(argv: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show ‖·‖ shows a question mark: no reason to lose a solve.
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        arguments = make_parser().parse_args(argv)
    except SystemExit as request:  # --help and --version
        return int(request.code or 0)
    run = getattr(arguments, "run", None)
    if run is None:
        raise UsageError("name a command: solve, info, demo, generate or plugins; 'sparselm --help' describes them")
    return int(run(arguments))


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror}"
    return str(error)


def _complain(message: str) -> None:
    """One line on the error stream."""
    line = " ".join(part.strip() for part in message.splitlines())
    prefix = "sparselm: " if line == "interrupted" else "sparselm: error: "
    with suppress(OSError, ValueError):
        print(f"{prefix}{line}", file=sys.stderr, flush=True)
