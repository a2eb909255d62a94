"""``sparselm generate``: what it writes is described and solved by the other commands."""

import numpy as np
import pytest

from sparselm.io import read_bal

SMALL = ("--cameras", "6", "--points", "150", "--observations", "480", "--seed", "2")


@pytest.mark.parametrize("style", ["street", "photos"])
@pytest.mark.parametrize("name", ["scene.npz", "scene.txt.bz2"])
def test_generate_info_solve(command, tmp_path, style, name):
    path = tmp_path / name
    done = command("generate", "bal", *SMALL, "--style", style, "--output", path)
    assert (done.status, done.err) == (0, "")
    for words in (f"style {style}, seed 2", "cameras       6", "points        150", "observations  480", " MB"):
        assert words in done.out
    assert len(done.out.splitlines()) < 24
    described = command("info", path)
    assert described.status == 0
    for words in ("observations  480", "everything is connected", "nothing stands out"):
        assert words in described.out
    solved = command("solve", path)
    assert (solved.status, solved.err) == (0, "")


def test_the_form_of_the_file_does_not_matter(command, tmp_path):
    for name in ("scene.npz", "scene.txt"):
        assert command("generate", "bal", *SMALL, "--output", tmp_path / name).status == 0
    binary, text = read_bal(tmp_path / "scene.npz"), read_bal(tmp_path / "scene.txt")
    for name in ("cameras", "points", "camera_index", "point_index", "pixels"):
        np.testing.assert_array_equal(getattr(binary, name), getattr(text, name))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--cameras": "3"}, "integer ≥ 4"),
        ({"--points": "10"}, "integer ≥ 40"),
        ({"--points": None}, "--points"),
        ({"--observations": "200"}, "fewer points or more observations"),
        ({"--observations": "5000"}, "more cameras or fewer observations"),
        ({"--style": "film"}, "photos"),
        ({"--seed": "-1"}, "integer ≥ 0"),
        ({"--output": None}, "--output"),
        ({"--output": "/no/such/folder/scene.npz"}, "does not exist"),
        ({"--output": "scene.g2o"}, "BAL file"),
        ({"--output": "scene.npz.xz"}, "not compressed"),
    ],
)
def test_refusals(command, tmp_path, monkeypatch, change, words):
    monkeypatch.chdir(tmp_path)
    options = dict(zip(SMALL[::2], SMALL[1::2], strict=True)) | {"--output": "scene.txt"} | change
    flat = [part for option, value in options.items() if value is not None for part in (option, value)]
    done = command("generate", "bal", *flat)
    assert done.refused(), done.err
    assert words in done.err
    assert not list(tmp_path.iterdir())


def test_kinds(command, tmp_path):
    done = command("generate", "g2o", *SMALL, "--output", tmp_path / "scene.txt")
    assert done.refused() and "bal" in done.err


def test_a_full_disk_is_told(command, tmp_path, monkeypatch):
    def refuse(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sparselm.cli.generate.write_bal", refuse)
    done = command("generate", "bal", *SMALL, "--output", tmp_path / "scene.txt")
    assert done.refused() and "No space left on device" in done.err
