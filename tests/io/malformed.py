"""Files that must be refused with one clear line; each as its name, the bytes, and the line that is to blame.

``FILES`` is the plain list (name, file name, bytes), for whoever feeds them to a program.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from typing import Any, NamedTuple

import numpy as np


class Malformed(NamedTuple):
    name: str
    filename: str
    content: bytes
    line: int | None  # where there is one to name
    words: str  # that the message must contain


GOOD_BAL = (
    b"2 3 4\n"
    b"0 0     -3.326500e+02 2.620900e+02\n"
    b"1 0     -1.997600e+02 1.667000e+02\n"
    b"0 1     -2.530600e+02 2.022700e+02\n"
    b"1 2     5.813000e+01 2.718900e+02\n" + b"".join(b"%d.5e-3\n" % k for k in range(2 * 9 + 3 * 3))
)
GOOD_SE2 = (
    b"VERTEX_SE2 0 0 0 0\n"
    b"VERTEX_SE2 1 1 0.5 0.1\n"
    b"VERTEX_SE2 2 2 1 0.2\n"
    b"EDGE_SE2 0 1 1 0.5 0.1 10 0 0 10 0 20\n"
    b"EDGE_SE2 1 2 1 0.5 0.1 10 0 0 10 0 20\n"
)
_UPPER = b"1 0 0 0 0 0 1 0 0 0 0 1 0 0 0 1 0 0 1 0 1"
GOOD_SE3 = (
    b"VERTEX_SE3:QUAT 0 0 0 0 0 0 0 1\n"
    b"VERTEX_SE3:QUAT 1 1 0 0 0 0 0 1\n"
    b"EDGE_SE3:QUAT 0 1 1 0 0 0 0 0 1 " + _UPPER + b"\n"
)
GOOD_ARRAYS: dict[str, Any] = {
    "format_version": np.array(1),
    "cameras": np.ones((2, 9)),
    "points": np.ones((3, 3)),
    "camera_index": np.array([0, 1, 0, 1], dtype=np.int32),
    "point_index": np.array([0, 0, 1, 2], dtype=np.int32),
    "pixels": np.ones((4, 2)),
}


def npz(**changes: Any) -> bytes:
    """The good arrays with some changed, or left out where None."""
    file = io.BytesIO()
    np.savez(file, **{key: value for key, value in (GOOD_ARRAYS | changes).items() if value is not None})
    return file.getvalue()


def _zip(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _huge_header() -> bytes:
    """A .npy header that promises 10¹⁸ cameras, and a few bytes."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**18, 9)})
    return file.getvalue() + bytes(64)


def _with_line(text: bytes, number: int, line: bytes) -> bytes:
    lines = text.splitlines()
    lines[number - 1] = line
    return b"\n".join(lines) + b"\n"


def _flip(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :]


def _bal() -> list[Malformed]:
    lines = GOOD_BAL.splitlines(keepends=True)
    change = lambda number, line: _with_line(GOOD_BAL, number, line)  # noqa: E731
    return [
        Malformed("bal-truncated-in-parameters", "t.txt", b"".join(lines[:20]), 20, "ends after"),
        Malformed("bal-truncated-in-observations", "t.txt", b"".join(lines[:3]), 3, "ends after"),
        Malformed("bal-truncated-in-a-line", "t.txt", GOOD_BAL[:70], 3, "ends after"),
        Malformed("bal-header-only", "t.txt", lines[0], 1, "ends after"),
        Malformed("bal-camera-out-of-range", "t.txt", change(3, b"2 0 1 1"), 3, "camera index from 0 to 1"),
        Malformed("bal-point-out-of-range", "t.txt", change(5, b"1 3 1 1"), 5, "point index from 0 to 2"),
        Malformed("bal-negative-index", "t.txt", change(4, b"-1 1 1 1"), 4, "camera index"),
        Malformed("bal-fractional-index", "t.txt", change(4, b"0.5 1 1 1"), 4, "camera index"),
        Malformed("bal-huge-index", "t.txt", change(4, b"0 1e300 1 1"), 4, "point index"),
        Malformed("bal-negative-count", "t.txt", change(1, b"2 3 -4"), 1, "header"),
        Malformed("bal-zero-count", "t.txt", change(1, b"0 3 4"), 1, "header"),
        Malformed("bal-absurd-count", "t.txt", change(1, b"2 3 1000000000000000000"), None, "t.txt:6: "),
        Malformed("bal-absurd-cameras", "t.txt", change(1, b"1000000000000000000 3 4"), None, "header is wrong"),
        Malformed("bal-endless-count", "t.txt", change(1, b"2 3 " + b"9" * 5000), 1, "header"),
        Malformed("bal-nan", "t.txt", change(3, b"1 0 nan 1"), 3, "'nan'"),
        Malformed("bal-inf", "t.txt", change(9, b"-inf"), 9, "camera 0"),
        Malformed("bal-overflow", "t.txt", change(30, b"1e999"), 30, "'1e999'"),
        Malformed("bal-word", "t.txt", change(8, b"hello"), 8, "'hello'"),
        Malformed("bal-comma", "t.txt", change(8, b"1,5"), 8, "'1,5'"),
        Malformed("bal-underscore", "t.txt", change(8, b"1_5"), 8, "'1_5'"),
        Malformed("bal-two-header-numbers", "t.txt", change(1, b"2 3"), 1, "header"),
        Malformed("bal-header-of-words", "t.txt", change(1, b"cameras points observations"), 1, "BAL header"),
        Malformed("bal-fractional-header", "t.txt", change(1, b"2.0 3 4"), 1, "header"),
        Malformed("bal-trailing-data", "t.txt", GOOD_BAL + b"7\n", 33, "trailing"),
        Malformed("bal-observation-too-short", "t.txt", change(3, b"1 0 1"), 3, "3 columns"),
        Malformed("bal-observation-too-long", "t.txt", change(3, b"1 0 1 2 3"), 3, "5 columns"),
        Malformed("bal-zero-byte", "t.txt", change(8, b"1.5\0"), 8, "zero byte"),
        Malformed("bal-utf-16", "t.txt", GOOD_BAL.decode().encode("utf-16"), 1, "zero byte"),
        Malformed("bal-escape-codes", "t.txt", change(8, b"\x1b[31m\xff"), 8, "\\x1b[31m\\xff"),
    ]


def _g2o() -> list[Malformed]:
    change = lambda number, line: _with_line(GOOD_SE2, number, line)  # noqa: E731
    change3 = lambda number, line: _with_line(GOOD_SE3, number, line)  # noqa: E731
    sighting = b"EDGE_SE3_TRACKXYZ 0 9 0 1 2 3 1 0 0 1 0 1\n"
    edge, edge3 = b"EDGE_SE2 0 1 ", b"EDGE_SE3:QUAT 0 1 "
    two_kinds = GOOD_SE2 + GOOD_SE3.replace(b"3:QUAT 0", b"3:QUAT 7")
    return [
        Malformed("g2o-short-edge", "t.g2o", change(5, b"EDGE_SE2 1 2 1 0.5 0.1 10 0 0 10 0"), 5, "10 columns"),
        Malformed("g2o-long-edge", "t.g2o", change(4, b"EDGE_SE2 0 1 1 0.5 0.1 10 0 0 10 0 20 7"), 4, "12 columns"),
        Malformed("g2o-tag-alone", "t.g2o", change(4, b"EDGE_SE2"), 4, "0 columns"),
        Malformed("g2o-word", "t.g2o", change(2, b"VERTEX_SE2 1 one 0.5 0.1"), 2, "'one'"),
        Malformed("g2o-underscore", "t.g2o", change(2, b"VERTEX_SE2 1 1_0 0.5 0.1"), 2, "'1_0'"),
        Malformed("g2o-fractional-id", "t.g2o", change(2, b"VERTEX_SE2 1.0 1 0.5 0.1"), 2, "integer id"),
        Malformed("g2o-id-beyond-64-bits", "t.g2o", change(2, b"VERTEX_SE2 9223372036854775808 1 1 0"), 2, "64 bits"),
        Malformed("g2o-endless-id", "t.g2o", change(2, b"VERTEX_SE2 " + b"9" * 5000 + b" 1 1 0"), 2, "integer id"),
        Malformed("g2o-conflicting-vertices", "t.g2o", GOOD_SE2 + b"VERTEX_SE2 1 7 7 0\n", 6, "line 2"),
        Malformed(
            "g2o-se3-edge-of-se2-vertices", "t.g2o", change(4, edge3 + b"1 0 0 0 0 0 1 " + _UPPER), 4, "SE2 or SE3"
        ),
        Malformed("g2o-mixed-vertices", "t.g2o", two_kinds, 6, "SE2 or SE3"),
        Malformed("g2o-fix-unknown", "t.g2o", GOOD_SE2 + b"FIX 0 77\n", 6, "77"),
        Malformed("g2o-fix-nothing", "t.g2o", GOOD_SE2 + b"FIX\n", 6, "without an id"),
        Malformed("g2o-fix-word", "t.g2o", GOOD_SE2 + b"FIX first\n", 6, "'first'"),
        Malformed("g2o-edge-to-itself", "t.g2o", change(5, b"EDGE_SE2 1 1 1 0.5 0.1 10 0 0 10 0 20"), 5, "itself"),
        Malformed("g2o-no-edges", "t.g2o", b"VERTEX_SE2 0 0 0 0\n", None, "no edges"),
        Malformed("g2o-unknown-tags-only", "t.g2o", b"HELLO 1 2\n\nWORLD 3\n", None, "no edges"),
        Malformed("g2o-nan", "t.g2o", change(4, edge + b"nan 0.5 0.1 10 0 0 10 0 20"), 4, "'nan'"),
        Malformed("g2o-infinite-information", "t.g2o", change(4, edge + b"1 0.5 0.1 inf 0 0 10 0 20"), 4, "'inf'"),
        Malformed("g2o-zero-quaternion", "t.g2o", change3(2, b"VERTEX_SE3:QUAT 1 1 0 0 0 0 0 0"), 2, "zero quaternion"),
        Malformed("g2o-zero-rotation", "t.g2o", change3(3, edge3 + b"1 0 0 0 0 0 0 " + _UPPER), 3, "zero quaternion"),
        Malformed("g2o-offset", "t.g2o", GOOD_SE3 + b"PARAMS_SE3OFFSET 0 0 0 1 0 0 0 1\n" + sighting, 4, "identity"),
        Malformed("g2o-no-offset", "t.g2o", GOOD_SE3 + sighting, 4, "PARAMS_SE3OFFSET 0 0 0 0 0 0 0 1"),
        Malformed("g2o-landmark-and-pose", "t.g2o", GOOD_SE2 + b"VERTEX_XY 2 5 5\n", 6, "landmark"),
        Malformed("g2o-pose-edge-to-landmark", "t.g2o", b"VERTEX_XY 2 5 5\n" + GOOD_SE2[19:], 3, "pose"),
        Malformed("g2o-number-for-tag", "t.g2o", change(2, b"1 1 0.5 0.1"), 2, "g2o tag"),
        Malformed("g2o-zero-byte", "t.g2o", change(2, b"VERTEX_SE2 1 1 \0 0"), 2, "zero byte"),
    ]


def _any_format() -> list[Malformed]:
    squeezed = bz2.compress(GOOD_BAL)
    return [
        Malformed("empty", "t.txt", b"", None, "empty"),
        Malformed("blank", "t.g2o", b" \r\n\n\t\n", None, "empty"),
        Malformed("comments-only", "t.g2o", b"# nothing here # but this\n   \t  \n" * 2000, None, "no edges"),
        Malformed("binary-junk", "t.txt", bytes(range(256)) * 8, 1, "zero byte"),
        Malformed("junk-without-zeros", "t.txt", bytes(range(128, 256)) * 8, None, "header"),
        Malformed("bz2-truncated", "t.bz2", squeezed[: len(squeezed) // 2], None, "bz2"),
        Malformed("bz2-flipped", "t.bz2", _flip(squeezed, len(squeezed) // 2), None, "bz2"),
        Malformed("bz2-empty", "t.bz2", bz2.compress(b""), None, "empty"),
        Malformed("gz-truncated", "t.gz", gzip.compress(GOOD_BAL)[:-12], None, "gzip"),
        Malformed("gz-flipped", "t.gz", _flip(gzip.compress(GOOD_BAL), 40), None, "gzip"),
        Malformed("gz-header-only", "t.gz", b"\x1f\x8b", None, "gzip"),
        Malformed("xz-truncated", "t.xz", lzma.compress(GOOD_SE2)[:-12], None, "xz"),
        Malformed("xz-flipped", "t.xz", _flip(lzma.compress(GOOD_SE2), 40), None, "xz"),
    ]


def _npz() -> list[Malformed]:
    good = npz()
    payload = good.index(np.ones(2).tobytes())
    nan = np.ones((4, 2))
    nan[2, 1] = np.nan
    index = lambda *rows: np.array(rows, dtype=np.int32)  # noqa: E731
    keys = list(GOOD_ARRAYS)
    not_arrays = _zip({f"{key}.npy": b"hello" for key in keys})
    huge = _zip({f"{keys[0]}.npy": _npy(np.array(1)), **{f"{key}.npy": _huge_header() for key in keys[1:]}})
    return [
        Malformed("npz-truncated", "t.npz", good[: len(good) // 2], None, "damaged .npz"),
        Malformed("npz-magic-only", "t.npz", b"PK\x03\x04", None, "damaged .npz"),
        Malformed("npz-flipped", "t.npz", _flip(good, payload + 3), None, "cameras"),
        Malformed("npz-missing-key", "t.npz", npz(pixels=None), None, "pixels"),
        Malformed("npz-other-keys", "t.npz", _zip({"hello.txt": b"hello"}), None, "hello"),
        Malformed("npz-extra-key", "t.npz", npz(notes=np.ones(3)), None, "notes"),
        Malformed("npz-wrong-shape", "t.npz", npz(cameras=np.ones((2, 6))), None, "(2, 9)"),
        Malformed("npz-wrong-length", "t.npz", npz(camera_index=index(0, 0, 0)), None, "(4,)"),
        Malformed("npz-scalar", "t.npz", npz(points=np.array(1.0)), None, "points"),
        Malformed("npz-wrong-type", "t.npz", npz(pixels=np.ones((4, 2), dtype=np.float32)), None, "<f8"),
        Malformed("npz-objects", "t.npz", npz(pixels=np.array([[None, 1]] * 4)), None, "pixels"),
        Malformed("npz-no-rows", "t.npz", npz(points=np.ones((0, 3))), None, "empty"),
        Malformed("npz-version", "t.npz", npz(format_version=np.array(99)), None, "format_version"),
        Malformed("npz-version-word", "t.npz", npz(format_version=np.array("one")), None, "format_version"),
        Malformed("npz-nan", "t.npz", npz(pixels=nan), None, "pixels[2]"),
        Malformed("npz-index", "t.npz", npz(point_index=index(0, 0, 1, 3)), None, "point_index[3]"),
        Malformed("npz-negative-index", "t.npz", npz(camera_index=index(0, -1, 1, 1)), None, "index[1]"),
        Malformed("npz-not-arrays", "t.npz", not_arrays, None, "damaged .npz"),
        Malformed("npz-huge-shape", "t.npz", huge, None, "do not hold"),
    ]


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


MALFORMED = [*_any_format(), *_bal(), *_g2o(), *_npz()]
FILES = [(case.name, case.filename, case.content) for case in MALFORMED]
