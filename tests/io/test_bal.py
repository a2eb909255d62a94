"""BAL files: what is read, what is written, and that both are the same bits."""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparselm.errors import ProblemError
from sparselm.io import read, text
from sparselm.io.bal import BundleAdjustmentData, read_bal, to_problem, with_values, write_bal
from tests.io.malformed import GOOD_ARRAYS, GOOD_BAL, npz

FIELDS = ("cameras", "points", "camera_index", "point_index", "pixels")


def assert_same_bits(a: BundleAdjustmentData, b: BundleAdjustmentData) -> None:
    for name in FIELDS:
        one, other = getattr(a, name), getattr(b, name)
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes(), name


def random_data(rng, num_cameras=3, num_points=5, num_observations=11):
    return BundleAdjustmentData(
        rng.standard_normal((num_cameras, 9)) * 10.0 ** rng.integers(-20, 20, (num_cameras, 9)),
        rng.standard_normal((num_points, 3)),
        rng.integers(0, num_cameras, num_observations),
        rng.integers(0, num_points, num_observations),
        rng.standard_normal((num_observations, 2)) * 500,
    )


def test_reads_what_the_text_says(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(GOOD_BAL)
    data = read(path)
    assert isinstance(data, BundleAdjustmentData)
    assert data.camera_index.tolist() == [0, 1, 0, 1]
    assert data.point_index.tolist() == [0, 0, 1, 2]
    assert data.pixels[0].tolist() == [-332.65, 262.09]
    assert data.cameras.ravel().tolist() == [float(f"{k}.5e-3") for k in range(18)]
    assert data.points.ravel().tolist() == [float(f"{k}.5e-3") for k in range(18, 27)]
    assert all(getattr(data, name).flags.writeable for name in FIELDS)


def test_layout_of_lines_and_their_ends_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(GOOD_BAL)
    expected = read_bal(path)
    header, rest = GOOD_BAL.split(b"\n", 1)
    for variant in (
        GOOD_BAL.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf\n\n" + GOOD_BAL + b"\n \n",
        header + b"\n" + b" ".join(rest.split()),
        GOOD_BAL.rstrip(),
    ):
        path.write_bytes(variant)
        assert_same_bits(read_bal(path), expected)


@pytest.mark.parametrize("compress", [bz2.compress, gzip.compress, lzma.compress])
def test_compression_is_told_by_content(compress, tmp_path: Path) -> None:
    plain, packed = tmp_path / "t.txt", tmp_path / "t.dat"
    plain.write_bytes(GOOD_BAL)
    packed.write_bytes(compress(GOOD_BAL))
    assert_same_bits(read(packed), read(plain))


@pytest.mark.parametrize("name", ["t.txt", "t.npz", "t.txt.bz2", "t.txt.gz", "t.txt.xz"])
def test_written_file_reads_back(name: str, tmp_path: Path) -> None:
    data = random_data(np.random.default_rng(0))
    write_bal(tmp_path / name, data)
    assert_same_bits(read(tmp_path / name), data)
    assert os.listdir(tmp_path) == [name]


finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def problems(draw):
    num_cameras, num_points, num_observations = (draw(st.integers(1, 4)) for _ in range(3))
    numbers = lambda *shape: np.array(  # noqa: E731
        draw(st.lists(finite, min_size=math.prod(shape), max_size=math.prod(shape)))
    ).reshape(shape)
    index = lambda count: draw(  # noqa: E731
        st.lists(st.integers(0, count - 1), min_size=num_observations, max_size=num_observations)
    )
    return BundleAdjustmentData(
        numbers(num_cameras, 9),
        numbers(num_points, 3),
        index(num_cameras),
        index(num_points),
        numbers(num_observations, 2),
    )


@settings(max_examples=60, deadline=None)
@given(data=problems())
@pytest.mark.parametrize("suffix", [".txt", ".npz"])
def test_round_trip_keeps_every_bit(suffix: str, data: BundleAdjustmentData, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("bal") / f"t{suffix}"
    write_bal(path, data)
    assert_same_bits(read(path), data)


def test_numbers_are_rounded_as_python_does(monkeypatch) -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal(5000) * 10.0 ** rng.integers(-30, 30, 5000)
    tokens = [f"{value:.{digits}e}" for value, digits in zip(values, rng.integers(5, 19, 5000), strict=True)]
    tokens += ["1e-400", "-0.0", "4.9e-324", "9007199254740993", "0.1", ".5", "5.", "+3"]
    expected = np.array([float(token) for token in tokens])
    for chunk in (1, 100, text.CHUNK):
        monkeypatch.setattr(text, "CHUNK", chunk)
        assert text.parse_numbers(" \n".join(tokens).encode()).tobytes() == expected.tobytes()


def test_npz_is_mapped_and_never_changed(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    data = random_data(np.random.default_rng(2), 30, 500, 3000)
    write_bal(path, data)
    before = path.read_bytes()
    mapped = read_bal(path)
    for name in FIELDS:
        array = getattr(mapped, name)
        assert not array.flags.owndata
        assert array.flags.writeable
        assert array.flags.aligned
        assert array.ctypes.data % 64 == 0
        array[...] = 7
    assert path.read_bytes() == before
    assert_same_bits(read_bal(path), data)
    with np.load(path) as archive:
        assert sorted(archive) == sorted(GOOD_ARRAYS)
        assert np.array_equal(archive["pixels"], data.pixels)


def test_npz_of_other_writers(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    expected = BundleAdjustmentData(**{name: GOOD_ARRAYS[name] for name in FIELDS})
    path.write_bytes(npz())
    assert_same_bits(read_bal(path), expected)
    path.write_bytes(npz(cameras=np.asfortranarray(GOOD_ARRAYS["cameras"])))
    assert_same_bits(read_bal(path), expected)
    np.savez_compressed(path, **GOOD_ARRAYS)
    assert_same_bits(read_bal(path), expected)


def test_same_problem_same_bytes(tmp_path: Path) -> None:
    data = random_data(np.random.default_rng(3))
    for name in ("a.npz", "b.npz"):
        write_bal(tmp_path / name, data)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_interrupted_writing_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(GOOD_BAL)

    def interrupt(file, data):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("sparselm.io.bal._write_text", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bal(path, random_data(np.random.default_rng(4)))
    assert path.read_bytes() == GOOD_BAL
    assert os.listdir(tmp_path) == ["t.txt"]


def test_writing_keeps_links_and_permissions(tmp_path: Path) -> None:
    target, link = tmp_path / "t.txt", tmp_path / "link.txt"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    data = random_data(np.random.default_rng(5))
    write_bal(link, data)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert_same_bits(read_bal(target), data)


def test_writing_where_nothing_can_be_written(tmp_path: Path) -> None:
    data = random_data(np.random.default_rng(6))
    with pytest.raises(FileNotFoundError, match="does not exist; create it"):
        write_bal(tmp_path / "none" / "t.txt", data)
    with pytest.raises(IsADirectoryError, match="is a folder"):
        write_bal(tmp_path, data)


def test_misuse_is_told() -> None:
    data = random_data(np.random.default_rng(7))
    with pytest.raises(ProblemError, match=r"cameras has shape \(3, 6\), expected \(3, 9\)"):
        BundleAdjustmentData(data.cameras[:, :6], data.points, data.camera_index, data.point_index, data.pixels)
    with pytest.raises(ProblemError, match=r"points has shape \(4, 3\), expected \(5, 3\)"):
        with_values(data, data.cameras, data.points[:4])
    changed = {
        "camera_index runs from": replace(data, camera_index=data.camera_index + 3),
        r"pixels\[0\] is not finite": replace(data, pixels=data.pixels * np.inf),
        "no points": replace(data, points=np.empty((0, 3))),
    }
    for words, wrong in changed.items():
        with pytest.raises(ProblemError, match=words):
            write_bal("unused.txt", wrong)


def test_problem_from_file(tmp_path: Path) -> None:
    data = random_data(np.random.default_rng(8))
    problem = to_problem(data)
    cameras, points = problem.variables
    (group,) = problem.residuals
    assert (cameras.name, points.name, group.name) == ("camera", "point", "reprojection")
    assert group.num_blocks == len(data.pixels)
    assert np.array_equal(points.values, data.points)
    other = with_values(data, data.cameras + 1, data.points * 2)
    assert np.array_equal(other.points, data.points * 2)
    assert other.pixels is data.pixels


def test_ladybug_49() -> None:
    folder = os.environ.get("SPARSELM_DATA")
    if folder is None:
        pytest.skip("SPARSELM_DATA, the folder of public data sets, is not set")
    path = Path(folder, "bal", "problem-49-7776-pre.txt.bz2")
    data = read(path)
    assert (len(data.cameras), len(data.points), len(data.pixels)) == (49, 7776, 31843)
    numbers = [float(token) for token in bz2.decompress(path.read_bytes()).split()]
    assert np.concatenate([data.cameras.ravel(), data.points.ravel()]).tolist() == numbers[3 + 4 * 31843 :]
    assert data.pixels.ravel().tolist() == [x for row in range(31843) for x in numbers[5 + 4 * row : 7 + 4 * row]]
