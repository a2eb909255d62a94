"""Reading and writing problems: BAL bundle adjustment (text and binary) and g2o pose graphs."""

from __future__ import annotations

from sparselm.io.bal import BundleAdjustmentData, parse_bal, read_bal, write_bal
from sparselm.io.g2o import Landmarks, PoseGraph, parse_g2o, read_g2o, write_g2o
from sparselm.io.text import NPZ_MAGIC, PathLike, read_magic, read_text

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
    # A g2o file begins with a tag or a comment, which are no numbers; whatever else it is, the BAL reader says so.
    start = text.lstrip()[:1]
    return parse_g2o(path, text) if start.isalpha() or start == b"#" else parse_bal(path, text)
