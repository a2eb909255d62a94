"""The binary form of a bundle adjustment problem: an uncompressed ``.npz`` whose arrays are mapped, not loaded.

Members, each a ``.npy``: ``format_version`` () = 1, ``cameras`` (num_cameras, 9) f8, ``points`` (num_points, 3) f8,
``camera_index`` and ``point_index`` (num_observations,) i4, ``pixels`` (num_observations, 2) f8; little-endian,
C-contiguous. ``numpy.load`` reads such a file, and ``numpy.savez`` writes one that is read here.
"""

from __future__ import annotations

import io
import math
import mmap
import struct
import zipfile
import zlib
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sparselm.errors import FileFormatError
from sparselm.io.bal import CAMERA_DIM, POINT_DIM, BundleAdjustmentData
from sparselm.io.text import PathLike, malformed, open_binary, replacing

FORMAT_VERSION = 1

_F8, _I4 = np.dtype("<f8"), np.dtype("<i4")
_DTYPES: dict[str, np.dtype[Any]] = {
    "cameras": _F8, "points": _F8, "camera_index": _I4, "point_index": _I4, "pixels": _F8
}  # fmt: skip
_COLUMNS: dict[str, tuple[int, ...]] = {
    "cameras": (CAMERA_DIM,), "points": (POINT_DIM,), "camera_index": (), "point_index": (), "pixels": (2,)
}  # fmt: skip
_KEYS = ("format_version", *_DTYPES)

# Fixed part of a zip member's local header (APPNOTE.TXT, section 4.3.7); it ends with the lengths of name and extra.
_LOCAL_HEADER_BYTES = 30
# Padding goes into an "extra field" with the identifier that zipalign uses for the same purpose.
_PADDING_ID = 0xD935
_ALIGNMENT = 64
_ZIP64_EXTRA_BYTES = 20
_CHUNK = 1 << 22

_REMEDY = "write it again with write_bal"


class _Member(NamedTuple):
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int  # of its numbers in the file
    stored: bool  # neither compressed nor in Fortran order: it can be mapped


def read_npz(path: PathLike) -> BundleAdjustmentData:
    """Read the binary form; see :func:`sparselm.io.bal.read_bal`.

    Every number is looked at once (checksum, finite, index in range) through a small buffer, and then mapped.
    """
    with open_binary(path) as file:
        try:
            return _read(path, file)
        except FileFormatError:
            raise
        except (OSError, EOFError, ValueError, KeyError, RuntimeError, NotImplementedError, struct.error) as error:
            raise _damaged(path, error) from error
        except (zipfile.BadZipFile, zlib.error, MemoryError, SyntaxError) as error:
            raise _damaged(path, error) from error


def _damaged(path: PathLike, error: BaseException) -> FileFormatError:
    return malformed(path, None, f"damaged .npz ({error or type(error).__name__}); download it again or {_REMEDY}")


def _read(path: PathLike, file: IO[bytes]) -> BundleAdjustmentData:
    with zipfile.ZipFile(file) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if sorted(names) != sorted(_KEYS):
            raise malformed(
                path, None, f"the .npz holds {sorted(names)[:12]}, expected exactly {sorted(_KEYS)}; {_REMEDY}"
            )
        version = np.lib.format.read_array(io.BytesIO(archive.read("format_version.npy")), allow_pickle=False)
        if version.shape != () or version.dtype.kind not in "iu" or int(version) != FORMAT_VERSION:
            got = np.array2string(version, threshold=4)
            raise malformed(
                path, None, f"format_version is {got}, expected {FORMAT_VERSION}; update sparselm or {_REMEDY}"
            )
        members = {name: _member(archive, file, name) for name in _DTYPES}
        _check_shapes(path, members)
        limits = {"camera_index": members["cameras"].shape[0], "point_index": members["points"].shape[0]}
        for member in members.values():
            _check_numbers(path, archive, member, limits.get(member.name))
        # Copy-on-write: arrays can be written to, the file stays as it is. The mapping lives as long as its arrays.
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        return BundleAdjustmentData(**{name: _array(archive, mapping, member) for name, member in members.items()})


def _member(archive: zipfile.ZipFile, file: IO[bytes], name: str) -> _Member:
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read_header(stream)
        header_bytes = stream.tell()
    file.seek(info.header_offset)
    name_bytes, extra_bytes = struct.unpack("<HH", file.read(_LOCAL_HEADER_BYTES)[-4:])
    offset = info.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes + header_bytes
    stored = info.compress_type == zipfile.ZIP_STORED and not (fortran_order and len(shape) > 1)
    num_bytes = info.file_size - header_bytes
    if num_bytes != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name}: {num_bytes} bytes do not hold {shape} numbers of type {dtype.str}")
    return _Member(name, shape, dtype, offset, stored)


def _check_shapes(path: PathLike, members: dict[str, _Member]) -> None:
    num_observations = members["pixels"].shape[:1]
    for name, member in members.items():
        rows = member.shape[:1] if name in ("cameras", "points") else num_observations
        expected = rows + _COLUMNS[name]
        if member.dtype != _DTYPES[name] or member.shape != expected or len(rows) != 1:
            raise malformed(
                path,
                None,
                f"{name} has type {member.dtype.str} and shape {member.shape}, expected {_DTYPES[name].str} and "
                f"{expected if len(rows) == 1 else ('n', *_COLUMNS[name])}; {_REMEDY}",
            )
        if member.shape[0] == 0:
            raise malformed(path, None, f"{name} is empty, expected at least one row; {_REMEDY}")


def _check_numbers(path: PathLike, archive: zipfile.ZipFile, member: _Member, limit: int | None) -> None:
    """Finite numbers, indices in range, and the member's checksum, which the archive verifies at its end."""
    width = math.prod(member.shape[1:])
    row = 0
    with archive.open(f"{member.name}.npy") as stream:
        _skip_header(stream)
        while piece := stream.read(_CHUNK // (width * member.dtype.itemsize) * width * member.dtype.itemsize):
            values = np.frombuffer(piece, member.dtype).reshape(-1, width)
            wrong = ~np.isfinite(values) if limit is None else (values < 0) | (values >= limit)
            if wrong.any():
                bad = int(np.flatnonzero(wrong.any(axis=1))[0])
                expected = "finite numbers" if limit is None else f"an index from 0 to {limit - 1}"
                got = f"{member.name}[{row + bad}] is {values[bad].tolist()}"
                raise malformed(path, None, f"{got}, expected {expected}; correct it, then {_REMEDY}")
            row += len(values)


def _array(archive: zipfile.ZipFile, mapping: mmap.mmap, member: _Member) -> npt.NDArray[Any]:
    if member.stored and member.offset % member.dtype.itemsize == 0:
        return np.ndarray(member.shape, member.dtype, buffer=mapping, offset=member.offset)
    # Compressed, or not aligned as other writers leave it (unaligned arrays are another type to compiled code): load.
    with archive.open(f"{member.name}.npy") as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _skip_header(stream: IO[bytes]) -> None:
    if np.lib.format.read_magic(stream) == (1, 0):
        np.lib.format.read_array_header_1_0(stream)
    else:
        np.lib.format.read_array_header_2_0(stream)


def write_npz(path: PathLike, data: BundleAdjustmentData) -> None:
    """Write the binary form, every array at a multiple of 64 bytes so that it can be mapped."""
    arrays: dict[str, npt.NDArray[Any]] = {"format_version": np.array(FORMAT_VERSION, dtype="<i4")}
    arrays |= {name: np.asarray(getattr(data, name), dtype) for name, dtype in _DTYPES.items()}
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            # A fixed date: the same problem gives the same bytes.
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            before = file.tell() + _LOCAL_HEADER_BYTES + len(info.filename) + _ZIP64_EXTRA_BYTES + 4
            info.extra = struct.pack("<HH", _PADDING_ID, -before % _ALIGNMENT) + bytes(-before % _ALIGNMENT)
            with archive.open(info, "w", force_zip64=True) as stream:
                header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
                np.lib.format.write_array_header_1_0(stream, header)
                values = array.reshape(-1)
                step = _CHUNK // array.dtype.itemsize
                for start in range(0, len(values), step):
                    stream.write(values[start : start + step].data)
