"""Reading and writing problems: BAL bundle adjustment (text and binary) and g2o pose graphs."""

from __future__ import annotations

import re

from sparselm.io.bal import BundleAdjustmentData, parse_bal, read_bal, write_bal
from sparselm.io.g2o import Landmarks, PoseGraph, parse_g2o, read_g2o, write_g2o
from sparselm.io.text import NPZ_MAGIC, PathLike, excerpt, line_at, malformed, read_magic, read_text

__all__ = [
    "BundleAdjustmentData",
    "Landmarks",
    "PoseGraph",
    "read",
    "read_bal",
    "read_g2o",
    "write_bal",
    "write_g2o",
]

# The first word outside comments: a tag in g2o, a count in BAL. Possessive, since pages of comments must not backtrack.
_FIRST_WORD = re.compile(rb"(?:\s|#[^\r\n]*+)*+([^\s#]+)")
_TAG = re.compile(rb"[A-Z][A-Z0-9_:]*")
_NUMBER = re.compile(rb"[-+]?[0-9.]")


def read(path: PathLike) -> BundleAdjustmentData | PoseGraph:
    """Read a problem of any known format, which is told by the file's content and not by its name.

    Raises
    ------
    FileFormatError
        See :func:`read_bal` and :func:`read_g2o`.
    """
    if read_magic(path) == NPZ_MAGIC:
        return read_bal(path)
    text = read_text(path)
    first = _FIRST_WORD.match(text)
    if first is None or _TAG.fullmatch(first[1]):  # with nothing but comments it is a g2o file, if any
        return parse_g2o(path, text)
    if _NUMBER.match(first[1]):
        return parse_bal(path, text)
    raise malformed(
        path,
        line_at(text, first.start(1)),
        "expected a BAL header 'num_cameras num_points num_observations' or a g2o tag such as EDGE_SE2, got "
        f"{excerpt(first[1])}; check that this is a problem of either format",
    )
