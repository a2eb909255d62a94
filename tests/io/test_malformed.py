"""Every malformed file gives one line that names the file, the line where there is one, and a remedy."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

from sparselm.errors import FileFormatError
from sparselm.io import read, read_bal, read_g2o
from tests.io.malformed import GOOD_BAL, GOOD_SE2, GOOD_SE3, MALFORMED, Malformed, npz


def refusal(reader, path):
    with pytest.raises(FileFormatError) as caught:
        reader(path)
    message = str(caught.value)
    assert message.splitlines() == [message]
    assert message.isprintable()
    assert message.startswith(str(path))
    return message


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.name)
def test_one_line_with_file_line_and_remedy(case: Malformed, tmp_path: Path) -> None:
    path = tmp_path / case.filename
    path.write_bytes(case.content)
    message = refusal(read, path)
    assert case.words in message
    assert ";" in message, "the remedy follows a semicolon"
    assert len(message) < 500 + len(str(path))
    if case.line is not None:
        assert message.startswith(f"{path}:{case.line}: ")


@pytest.mark.parametrize("reader", [read, read_bal, read_g2o])
def test_missing_file_and_folder(reader, tmp_path: Path) -> None:
    assert "no such file" in refusal(reader, tmp_path / "none.txt")
    assert "folder" in refusal(reader, tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every file")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(GOOD_BAL)
    path.chmod(0)
    assert "permission" in refusal(read, path).lower()


def test_the_other_format_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(GOOD_SE2)
    assert "BAL header" in refusal(read_bal, path)
    path.write_bytes(GOOD_BAL)
    assert "g2o tag" in refusal(read_g2o, path)


@pytest.mark.parametrize("good", [GOOD_BAL, GOOD_SE2, GOOD_SE3, npz()], ids=["bal", "se2", "se3", "npz"])
@pytest.mark.filterwarnings("ignore::sparselm.errors.FileWarning")
def test_random_damage_raises_nothing_else(good: bytes, tmp_path: Path) -> None:
    """Cut, flipped or swapped bytes either leave a readable file or are refused in one line."""
    rng = random.Random(1)
    path = tmp_path / "t"
    for _ in range(400):
        content = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(content))
            content[at] = rng.choice(b" \n-+.e0123456789_nN#\x00\xff") if rng.random() < 0.8 else rng.randrange(256)
        if rng.random() < 0.3:
            del content[rng.randrange(len(content)) :]
        path.write_bytes(content)
        message = ""
        try:
            read(path)
        except FileFormatError as error:
            message = str(error)
        assert re.fullmatch(rf"|{re.escape(str(path))}(:\d+)?: [^\n]+;[^\n]+", message)
