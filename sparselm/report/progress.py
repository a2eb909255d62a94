"""The live progress table of a solve, and log messages between its rows."""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from typing import TextIO

from sparselm.result import Iteration

# Headings and widths of the columns; marks of a step follow without a heading.
_COLUMNS = {"iter": 4, "cost": 14, "decrease": 10, "|gradient|": 10, "|step|": 10, "gain": 6, "damping": 9, "time": 8}
_HEADER = " ".join(f"{heading:>{width}}" for heading, width in _COLUMNS.items())


class ProgressTable:
    """A callback for :func:`sparselm.solve` that prints a row for each step; where the stream fails, it falls silent.

    The damping is the strategy's own number (a radius, a λ). Steps that were not accepted are marked; ``cost`` is then
    still that of the point before.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream

    def __call__(self, item: Iteration) -> None:
        if item.iteration == 0:
            self._print(_HEADER)
        self._print(format_row(item))

    def _print(self, line: str) -> None:
        if self._stream is None:
            return
        try:
            print(line, file=self._stream, flush=True)
        except (OSError, ValueError):
            self._stream = None


def format_row(item: Iteration) -> str:
    """One row of the table."""
    marks = []
    if not item.valid:
        marks.append("invalid")
    elif not item.accepted:
        marks.append("rejected")
    if item.inner_iterations is not None:
        marks.append(f"{item.inner_iterations} inner")
    cells = (
        str(item.iteration),
        _number(item.cost, ".8e"),
        _number(item.cost_change, ".2e"),
        _number(item.gradient_max_norm, ".2e"),
        _number(item.step_norm, ".2e"),
        _number(item.gain_ratio, ".3f" if abs(item.gain_ratio) < 10 else ".0e"),
        _number(item.damping, ".2e"),
        _number(item.time, ".2f"),
    )
    row = " ".join(f"{cell:>{width}}" for cell, width in zip(cells, _COLUMNS.values(), strict=True))
    return f"{row}  {', '.join(marks)}".rstrip()


def _number(value: float, form: str) -> str:
    """A number that does not exist is blank."""
    return "" if math.isnan(value) else f"{value:{form}}"


class LogLines(logging.Handler):
    """Prints log messages as plain lines; a stream that fails is ignored."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(logging.INFO)
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError):
            print(record.getMessage(), file=self._stream, flush=True)
