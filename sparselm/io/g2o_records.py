"""The lines of a g2o file, sorted by tag into checked tables of ids and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sparselm.errors import FileFormatError
from sparselm.io.text import PathLike, excerpt, malformed, parse_integer, wrong_number

# Lines converted at a time: their tokens stay in cache.
_LINES = 1 << 10


class Layout(NamedTuple):
    """Columns of a line after its tag."""

    columns: str
    num_ids: int
    num_values: int
    world_dim: int


_POSE2, _POSE3 = "x y θ", "x y z qx qy qz qw"
LAYOUTS: Mapping[str, Layout] = {
    "VERTEX_SE2": Layout(f"id {_POSE2}", 1, 3, 2),
    "VERTEX_XY": Layout("id x y", 1, 2, 2),
    "EDGE_SE2": Layout(f"id id {_POSE2} and 6 information entries", 2, 3 + 6, 2),
    "EDGE_SE2_XY": Layout("pose-id landmark-id x y and 3 information entries", 2, 2 + 3, 2),
    "VERTEX_SE3:QUAT": Layout(f"id {_POSE3}", 1, 7, 3),
    "VERTEX_TRACKXYZ": Layout("id x y z", 1, 3, 3),
    "EDGE_SE3:QUAT": Layout(f"id id {_POSE3} and 21 information entries", 2, 7 + 21, 3),
    "EDGE_SE3_TRACKXYZ": Layout("pose-id landmark-id parameter-id x y z and 6 information entries", 3, 3 + 6, 3),
    "PARAMS_SE3OFFSET": Layout(f"id {_POSE3}", 1, 7, 3),
}


@dataclass
class Table:
    """All lines of one tag.

    Attributes
    ----------
    tag : str
    lines : (n,) int64
        Line numbers in the file.
    ids : (n, num_ids) int64
    values : (n, num_values) float64
    """

    tag: str
    lines: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


@dataclass
class Records:
    """Lines of a file by tag, and what they say."""

    path: PathLike
    lines: dict[str, list[int]] = field(default_factory=dict)
    bodies: dict[str, list[bytes]] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)

    def table(self, tag: str) -> Table:
        """The numbers of all lines with a tag; empty where there are none."""
        layout, bodies = LAYOUTS[tag], self.bodies.get(tag, [])
        width = layout.num_ids + layout.num_values
        ids = np.empty((len(bodies), layout.num_ids), dtype=np.int64)
        values = np.empty((len(bodies), layout.num_values))
        for start in range(0, len(bodies), _LINES):
            piece = slice(start, start + _LINES)
            rows = [body.split() for body in bodies[piece]]
            try:
                if any(len(row) != width for row in rows) or any(b"_" in body for body in bodies[piece]):
                    raise ValueError
                ids[piece] = [[int(token) for token in row[: layout.num_ids]] for row in rows]
                numbers = map(float, chain.from_iterable(row[layout.num_ids :] for row in rows))
                values[piece] = np.fromiter(numbers, np.float64).reshape(len(rows), layout.num_values)
            except (ValueError, OverflowError):
                raise self._explain(tag, start) from None
            if not np.isfinite(values[piece]).all():
                raise self._explain(tag, start)
        return Table(tag, np.array(self.lines.get(tag, []), dtype=np.int64), ids, values)

    def id_lists(self, tag: str) -> list[tuple[int, list[int]]]:
        """Line number and ids of each line of a tag that takes one id or more."""
        found = []
        for line, body in zip(self.lines.get(tag, []), self.bodies.get(tag, []), strict=True):
            tokens = body.split()
            if not tokens:
                raise malformed(self.path, line, f"{tag} without an id, expected '{tag} id'; name the vertex to hold")
            for token in tokens:
                what = _wrong_id(token)
                if what is not None:
                    raise malformed(self.path, line, f"{tag}: {what}; correct the id")
            found.append((line, [int(token) for token in tokens]))
        return found

    def _explain(self, tag: str, start: int) -> FileFormatError:
        """Find the first wrong line of a tag from a place on, slowly."""
        layout = LAYOUTS[tag]
        width = layout.num_ids + layout.num_values
        for line, body in zip(self.lines[tag][start:], self.bodies[tag][start:], strict=True):
            tokens = body.split()
            if len(tokens) != width:
                return malformed(
                    self.path,
                    line,
                    f"{tag} has {len(tokens)} columns after its tag, expected {width}: {layout.columns}; "
                    f"{'complete' if len(tokens) < width else 'shorten'} the line",
                )
            wrong = [_wrong_id(token) for token in tokens[: layout.num_ids]]
            wrong += [wrong_number(token) for token in tokens[layout.num_ids :]]
            for what in filter(None, wrong):
                return malformed(self.path, line, f"{tag}: {what}; correct or remove the line")
        raise AssertionError(f"{tag}: no wrong line found")


def split_records(path: PathLike, text: bytes) -> Records:
    """Sort the lines of a file by tag; blank lines and comments, from ``#`` to the end of a line, are dropped."""
    records = Records(path)
    known = {tag.encode(): tag for tag in (*LAYOUTS, "FIX")}
    for number, line in enumerate(text.splitlines(), 1):
        if b"#" in line:
            line = line[: line.index(b"#")]
        fields = line.split(None, 1)
        if not fields:
            continue
        tag = known.get(fields[0])
        if tag is None:
            _check_tag(path, number, fields[0])
            name = excerpt(fields[0])
            records.unknown[name] = records.unknown.get(name, 0) + 1
            continue
        records.lines.setdefault(tag, []).append(number)
        records.bodies.setdefault(tag, []).append(fields[1] if len(fields) == 2 else b"")
    return records


def _check_tag(path: PathLike, line: int, tag: bytes) -> None:
    """Tags of g2o are words in ASCII; anything else tells that this is another kind of file."""
    if not (tag[:1].isalpha() and tag.isascii()):
        raise malformed(
            path, line, f"expected a g2o tag such as EDGE_SE2, got {excerpt(tag)}; check that this is a g2o file"
        )


def _wrong_id(token: bytes) -> str | None:
    value = parse_integer(token)
    if value is None:
        return f"expected an integer id, got {excerpt(token)}"
    limits = np.iinfo(np.int64)
    return None if limits.min <= value <= limits.max else f"id {excerpt(token)} does not fit 64 bits"
