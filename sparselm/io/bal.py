"""Bundle adjustment in the large (BAL): cameras, points and the pixels at which cameras saw points.

Frames and units: a camera is ``[ω (3), t (3), f, k1, k2]``, camera-from-world: a point X of the world has coordinates
``P = R(ω) X + t`` in the camera, with ω an angle-axis vector in radians and t, X in the (arbitrary) unit of the
reconstruction. The camera looks along −z: it sees P at ``p = −P_xy / P_z`` and, distorted, at the pixel
``f (1 + k1 ‖p‖² + k2 ‖p‖⁴) p``, whose origin is the image's centre, x to the right and y up.

The text format is a header ``num_cameras num_points num_observations``, a line ``camera point x y`` for each
observation, and then the numbers of all cameras and of all points, one a line.

References
----------
S. Agarwal, N. Snavely, S. M. Seitz, R. Szeliski, "Bundle Adjustment in the Large", ECCV 2010; the text format is
described on the project's page, https://grail.cs.washington.edu/projects/bal/.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from sparselm.errors import FileFormatError, ProblemError
from sparselm.io.text import (
    NPZ_MAGIC,
    PathLike,
    excerpt,
    malformed,
    parse_integer,
    parse_numbers,
    read_magic,
    read_text,
    replacing,
    wrong_number,
)

if TYPE_CHECKING:
    from sparselm.losses.base import AbstractLoss
    from sparselm.problem import Problem
    from sparselm.residuals.base import AbstractResidual, UnboundResidual

Array = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int32]

CAMERA_DIM = 9
POINT_DIM = 3

# Lines formatted at a time: their strings stay small beside the arrays.
_LINES = 1 << 15


@dataclass(frozen=True, eq=False)
class BundleAdjustmentData:
    """What a BAL file holds. Arrays are converted to the stated type, and copied only where they differ from it.

    Attributes
    ----------
    cameras : (num_cameras, 9) float64
        ``[ω, t, f, k1, k2]``, camera-from-world: radians, world units, pixels, and two distortion coefficients.
    points : (num_points, 3) float64
        World coordinates.
    camera_index, point_index : (num_observations,) int32
        Which camera saw which point.
    pixels : (num_observations, 2) float64
        Where, in pixels from the image's centre.
    """

    cameras: Array
    points: Array
    camera_index: IndexArray
    point_index: IndexArray
    pixels: Array

    def __post_init__(self) -> None:
        num_observations = len(np.asarray(self.camera_index))
        shapes = {
            "cameras": (len(np.asarray(self.cameras)), CAMERA_DIM),
            "points": (len(np.asarray(self.points)), POINT_DIM),
            "camera_index": (num_observations,),
            "point_index": (num_observations,),
            "pixels": (num_observations, 2),
        }
        for name, shape in shapes.items():
            dtype = np.int32 if name.endswith("index") else np.float64
            array = np.ascontiguousarray(getattr(self, name), dtype=dtype)
            if array.shape != shape:
                raise ProblemError(f"bundle adjustment data: {name} has shape {array.shape}, expected {shape}")
            object.__setattr__(self, name, array)


# -- reading -----------------------------------------------------------------------------------------------------------


def read_bal(path: PathLike) -> BundleAdjustmentData:
    """Read a bundle adjustment problem.

    Parameters
    ----------
    path : str or path
        A text file, plain or compressed with bz2, gzip or xz, or the binary form that :func:`write_bal` writes. Which
        of them is told by its content. The arrays of a binary file are mapped copy-on-write: nothing is loaded before
        it is used, and writing into them never changes the file.

    Raises
    ------
    FileFormatError
        Where the file cannot be read or is malformed; one line with the file, the line and the remedy.
    """
    if read_magic(path) == NPZ_MAGIC:
        from sparselm.io.npz import read_npz

        return read_npz(path)
    return parse_bal(path, read_text(path))


def parse_bal(path: PathLike, text: bytes) -> BundleAdjustmentData:
    """Read a problem from the bytes of a text file; ``path`` only names it in errors."""
    header = _parse_header(path, text)
    try:
        numbers = parse_numbers(text, header.stop)
    except ValueError:
        raise _explain(path, text, header) from None
    num_observations = header.num_observations
    if len(numbers) != header.num_numbers:
        raise _explain(path, text, header)
    observations = numbers[: 4 * num_observations].reshape(-1, 4)
    index = observations[:, :2]
    if (index < 0).any() or (index >= (header.num_cameras, header.num_points)).any() or (index % 1 != 0).any():
        raise _explain(path, text, header)
    parameters = numbers[4 * num_observations :]
    num_camera_numbers = CAMERA_DIM * header.num_cameras
    return BundleAdjustmentData(
        cameras=parameters[:num_camera_numbers].reshape(-1, CAMERA_DIM).copy(),
        points=parameters[num_camera_numbers:].reshape(-1, POINT_DIM).copy(),
        camera_index=index[:, 0].astype(np.int32),
        point_index=index[:, 1].astype(np.int32),
        pixels=observations[:, 2:].copy(),
    )


class _Header(NamedTuple):
    num_cameras: int
    num_points: int
    num_observations: int
    line: int
    stop: int  # offset of the end of its line

    @property
    def num_numbers(self) -> int:
        return 4 * self.num_observations + CAMERA_DIM * self.num_cameras + POINT_DIM * self.num_points


def _parse_header(path: PathLike, text: bytes) -> _Header:
    stop = line = 0
    fields: list[bytes] = []
    while not fields:  # the text is not blank, as its reader made sure
        start, stop, line = stop, text.find(b"\n", stop) + 1 or len(text), line + 1
        fields = text[start:stop].split()
    counts = [parse_integer(field) for field in fields]
    if len(counts) != 3 or any(count is None or count <= 0 for count in counts):
        got = excerpt(b" ".join(fields))
        raise malformed(
            path,
            line,
            "expected a BAL header 'num_cameras num_points num_observations' (three positive integers), "
            f"got {got}; check that this is a BAL file",
        )
    num_cameras, num_points, num_observations = (count or 0 for count in counts)
    return _Header(num_cameras, num_points, num_observations, line, stop)


def _explain(path: PathLike, text: bytes, header: _Header) -> FileFormatError:
    """Find the first wrong token, slowly: only files that are known to be wrong come here."""
    position, last, stop = 0, header.line, header.stop
    num_observation_numbers = 4 * header.num_observations
    for line, content in enumerate(io.BytesIO(text[header.stop :]), header.line + 1):
        tokens = content.split()
        stop += len(content)
        if position < num_observation_numbers and position % 4 == 0 and len(tokens) % 4 and text[stop:].strip():
            return malformed(
                path,
                line,
                f"observation {position // 4} has {len(tokens)} columns, expected 4 'camera point x y'; "
                "correct the line, or the counts in the header if observations end earlier",
            )
        for token in tokens:
            what = _wrong_token(token, position, header)
            if what is not None:
                return malformed(path, line, what)
            position += 1
        last = line if tokens else last
    return malformed(
        path,
        last,
        f"the file ends after {position} numbers, expected {header.num_numbers} ({_where(position, header)} is next); "
        "it is truncated or its header is wrong: download or write it again",
    )


def _wrong_token(token: bytes, position: int, header: _Header) -> str | None:
    if position >= header.num_numbers:
        return (
            f"trailing data {excerpt(token)} after the last of {header.num_numbers} numbers; "
            "remove it or correct the counts of the header"
        )
    wrong = wrong_number(token)
    if position < 4 * header.num_observations and position % 4 < 2:
        kind, count = (("camera", header.num_cameras), ("point", header.num_points))[position % 4]
        if wrong is None and float(token).is_integer() and 0 <= float(token) < count:
            return None
        wrong = f"expected a {kind} index from 0 to {count - 1}, got {excerpt(token)}"
    if wrong is None:
        return None
    where = _where(position, header)
    return f"{where}: {wrong}; correct it or remove the {where.split()[0]}"


def _where(position: int, header: _Header) -> str:
    """What the number at a position of the file belongs to."""
    if position < 4 * header.num_observations:
        return f"observation {position // 4}"
    position -= 4 * header.num_observations
    if position < CAMERA_DIM * header.num_cameras:
        return f"camera {position // CAMERA_DIM}"
    return f"point {(position - CAMERA_DIM * header.num_cameras) // POINT_DIM}"


# -- writing -----------------------------------------------------------------------------------------------------------


def write_bal(path: PathLike, data: BundleAdjustmentData) -> None:
    """Write a bundle adjustment problem so that reading it gives the same bits.

    The file appears whole or not at all.

    Parameters
    ----------
    path : str or path
        The suffix ``.npz`` chooses the binary form; ``.bz2``, ``.gz`` and ``.xz`` compress the text.
    data : BundleAdjustmentData

    Raises
    ------
    ProblemError
        Where an index is out of range, a number is not finite or there is nothing to write.
    OSError
        Where the system refuses.
    """
    check(data)
    if os.fspath(path).endswith(".npz"):
        from sparselm.io.npz import write_npz

        write_npz(path, data)
        return
    with replacing(path) as file:
        _write_text(file, data)


def _write_text(file: IO[bytes], data: BundleAdjustmentData) -> None:
    file.write(b"%d %d %d\n" % (len(data.cameras), len(data.points), len(data.pixels)))
    for start in range(0, len(data.pixels), _LINES):
        rows = slice(start, start + _LINES)
        u, v = data.pixels[rows].T.tolist()
        cameras, points = data.camera_index[rows].tolist(), data.point_index[rows].tolist()
        columns = zip(cameras, points, u, v, strict=True)
        # repr gives the shortest decimal that reads back to the same bits
        file.write("".join([f"{c} {p} {x!r} {y!r}\n" for c, p, x, y in columns]).encode())
    for values in (data.cameras.reshape(-1), data.points.reshape(-1)):
        for start in range(0, len(values), _LINES):
            file.write("".join([f"{value!r}\n" for value in values[start : start + _LINES].tolist()]).encode())


def check(data: BundleAdjustmentData) -> None:
    """Raise ProblemError unless indices are in range, numbers finite and nothing is empty."""
    for name in ("cameras", "points", "pixels"):
        values = getattr(data, name)
        if not len(values):
            raise ProblemError(f"bundle adjustment data: no {name}; a problem needs at least one")
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise ProblemError(f"bundle adjustment data: {name}[{row}] is not finite; correct or remove it")
    for kind, index, count in (
        ("camera", data.camera_index, len(data.cameras)),
        ("point", data.point_index, len(data.points)),
    ):
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= count:
            raise ProblemError(
                f"bundle adjustment data: {kind}_index runs from {low} to {high}, expected 0 to {count - 1}"
            )


# -- problems ----------------------------------------------------------------------------------------------------------


def to_problem(
    data: BundleAdjustmentData,
    residual: AbstractResidual | UnboundResidual | None = None,
    loss: AbstractLoss | None = None,
) -> Problem:
    """The least squares problem of moving cameras and points until points are seen where they were.

    Parameters
    ----------
    data : BundleAdjustmentData
    residual : AbstractResidual or UnboundResidual, optional
        Of a camera (9), a point (3) and a pixel (2); also a function decorated with :func:`sparselm.residual`. By default
        the model of the format,
        :class:`sparselm.residuals.reprojection.SnavelyReprojection`.
    loss : AbstractLoss, optional
        Its scale is in pixels.

    Returns
    -------
    Problem
        With variables "camera" and "point" and the residual group "reprojection". Nothing is held constant: the seven
        degrees of freedom of the world's frame and scale are left to the damping.
    """
    from sparselm.problem import Problem

    if residual is None:
        from sparselm.residuals.reprojection import SnavelyReprojection

        residual = SnavelyReprojection()
    problem = Problem()
    cameras = problem.add_variables("camera", data.cameras)
    points = problem.add_variables("point", data.points)
    problem.add_residuals(
        residual,
        cameras[data.camera_index],
        points[data.point_index],
        data=data.pixels,
        loss=loss,
        name="reprojection",
    )
    return problem


def with_values(data: BundleAdjustmentData, cameras: Array, points: Array) -> BundleAdjustmentData:
    """The same observations with other (optimised) cameras ``(num_cameras, 9)`` and points ``(num_points, 3)``."""
    for name, new, old in (("cameras", cameras, data.cameras), ("points", points, data.points)):
        if np.shape(new) != old.shape:
            raise ProblemError(f"with_values: {name} has shape {np.shape(new)}, expected {old.shape}")
    return replace(data, cameras=cameras, points=points)
