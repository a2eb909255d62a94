"""What the text formats share: reading compressed files, numbers, one-line errors, and writing without half files."""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
import os
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sparselm.errors import FileFormatError

Array = npt.NDArray[np.float64]
PathLike: TypeAlias = str | os.PathLike[str]

NPZ_MAGIC = b"PK\x03\x04"

# Compression is told by content: files are renamed more often than they are recompressed.
_DECOMPRESSORS: tuple[tuple[bytes, str, Any], ...] = (
    (b"BZh", "bz2", bz2.decompress),
    (b"\x1f\x8b", "gzip", gzip.decompress),
    (b"\xfd7zXZ\x00", "xz", lzma.decompress),
)
_COMPRESSORS: dict[str, Any] = {".bz2": bz2.open, ".gz": gzip.open, ".xz": lzma.open}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# Numbers are converted in pieces of this many bytes: their Python objects stay in cache and use little memory.
CHUNK = 1 << 18
_SPACE = re.compile(rb"\s")


def malformed(path: PathLike, line: int | None, what: str) -> FileFormatError:
    """The error for a file, as ``path:line: what``; always one line."""
    place = os.fspath(path) if line is None else f"{os.fspath(path)}:{line}"
    return FileFormatError(" ".join(f"{place}: {what}".splitlines()))


def excerpt(piece: bytes, limit: int = 40) -> str:
    """A quoted, printable, short form of a piece of a file, for messages."""
    shown = piece if len(piece) <= limit else piece[: limit - 3] + b"..."
    text = shown.decode("ascii", "backslashreplace")
    return "'" + "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text) + "'"


def line_at(text: bytes, offset: int) -> int:
    """The line number, from 1, of the byte at this offset."""
    return text.count(b"\n", 0, offset) + 1


def open_binary(path: PathLike) -> IO[bytes]:
    """Open a file for reading; what the system refuses becomes a :class:`FileFormatError` with a remedy."""
    try:
        file = open(path, "rb")  # noqa: SIM115  (the caller closes it)
        if not file.seekable():
            file.close()
            raise malformed(path, None, "this is a pipe, expected a file; write what comes through it to a file first")
        return file
    except FileNotFoundError as error:
        raise malformed(path, None, "no such file; check the path") from error
    except IsADirectoryError as error:
        raise malformed(path, None, "this is a folder, expected a file; name a file in it") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise malformed(path, None, f"cannot be opened ({reason}); check its name and permissions") from error


def read_magic(path: PathLike) -> bytes:
    """The first bytes of a file, which tell a binary problem from text."""
    with open_binary(path) as file:
        return file.read(len(NPZ_MAGIC))


def read_text(path: PathLike) -> bytes:
    """The bytes of a text file, decompressed if it is compressed with bz2, gzip or xz.

    Raises
    ------
    FileFormatError
        Where it cannot be read, is empty, is damaged or is not text.
    """
    with open_binary(path) as file:
        try:
            text = file.read()
        except OSError as error:
            raise malformed(path, None, f"cannot be read ({error.strerror}); check the disk") from error
    for magic, name, decompress in _DECOMPRESSORS:
        if text.startswith(magic):
            try:
                text = decompress(text)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise malformed(path, None, f"damaged {name} data ({error}); download or compress it again") from error
            break
    text = text.removeprefix(_BYTE_ORDER_MARK)
    if not text.strip():
        raise malformed(path, None, "the file is empty, expected a BAL or g2o problem; download or write it again")
    nul = text.find(b"\0")
    if nul >= 0:
        line = line_at(text, nul)
        raise malformed(path, line, "a zero byte, expected text; the file is binary, UTF-16 or damaged: convert it")
    return text


def parse_numbers(text: bytes, start: int = 0) -> Array:
    """All numbers from an offset to the end, separated by white space, rounded as Python's ``float`` does.

    Raises
    ------
    ValueError
        Where something is not a number, or is NaN or infinite. The caller knows what was expected and finds out where.
    """
    pieces = []
    while start < len(text):
        gap = _SPACE.search(text, start + CHUNK)
        stop = gap.start() if gap else len(text)
        piece = text[start:stop]
        if b"_" in piece:  # Python takes 1_000 for a number, no file format does
            raise ValueError("underscore")
        pieces.append(np.fromiter(map(float, piece.split()), np.float64))
        start = stop
    numbers = np.concatenate(pieces) if pieces else np.empty(0)
    if not np.isfinite(numbers).all():
        raise ValueError("not finite")
    return numbers


def wrong_number(token: bytes) -> str | None:
    """What is wrong with a token that should be a finite number: a phrase with the token, or None."""
    try:
        value = float(token)
    except ValueError:
        value = None
    if value is None or b"_" in token:
        return f"expected a number, got {excerpt(token)}"
    return None if math.isfinite(value) else f"expected a finite number, got {excerpt(token)}"


def parse_integer(token: bytes) -> int | None:
    """The value of a plain decimal integer, else None."""
    digits = token[1:] if token[:1] in b"+-" else token
    # Nineteen digits hold every int64; Python refuses to convert thousands of them, and 100 zeros are no index.
    return int(token) if digits.isdigit() and len(digits) <= 100 else None


@contextmanager
def replacing(path: PathLike) -> Iterator[IO[bytes]]:
    """Write a file that appears whole or not at all: a temporary one in the same folder takes its name at the end.

    The suffix ``.bz2``, ``.gz`` or ``.xz`` compresses. A link is followed; what is no plain file (a pipe, a terminal)
    is written directly, since nothing can take its place.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{os.fspath(path)} is a folder; name a file in it")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{os.fspath(path)}: the folder {target.parent} does not exist; create it")
    if target.exists() and not target.is_file():
        with open(path, "wb") as stream:
            yield stream
        return
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "xb") as plain:
            compressor = _COMPRESSORS.get(os.path.splitext(path)[1])
            if compressor is None:
                yield plain
            else:
                with compressor(plain, "wb") as packed:
                    yield packed
            plain.flush()
            os.fsync(plain.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:  # an interrupt too must leave no litter
        with suppress(OSError):
            temporary.unlink()
        raise
