"""Bad input and usage: exit status 2 and one line that says what to do."""

import io
import sys

import pytest
from malformed import FILES

import sparselm.cli
from sparselm.cli import main


@pytest.mark.parametrize(("name", "filename", "content"), FILES, ids=[name for name, _, _ in FILES])
@pytest.mark.parametrize("verb", ["solve", "info"])
def test_malformed_file(command, tmp_path, verb, name, filename, content):
    path = tmp_path / filename
    path.write_bytes(content)
    done = command(verb, path)
    assert done.status == 2
    lines = [line for line in done.err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1
    assert lines[0].startswith("sparselm: error: ") and str(path) in lines[0]
    assert done.out == ""


@pytest.mark.parametrize("verb", ["solve", "info"])
def test_missing_file_and_folder(command, tmp_path, verb):
    assert command(verb, tmp_path / "absent.txt").refused()
    assert command(verb, tmp_path).refused()
    assert command(verb, "a\0b").refused()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "solve, info, demo, generate or plugins"),
        (["sovle"], "invalid choice"),
        (["solve"], "FILE"),
        (["solve", "FILE", "--no-such"], "--no-such"),
        (["solve", "FILE", "--max-iterations", "-1"], "integer ≥ 0"),
        (["solve", "FILE", "--max-iterations", "many"], "'many'"),
        (["solve", "FILE", "--max-iter", "3"], "--max-iter"),
        (["solve", "FILE", "--time-limit", "0"], "number > 0"),
        (["solve", "FILE", "--function-tolerance", "nan"], "number ≥ 0"),
        (["solve", "FILE", "--gradient-tolerance", "-1"], "number ≥ 0"),
        (["solve", "FILE", "--num-threads", "0"], "integer ≥ 1"),
        (["solve", "FILE", "--num-threads", "100000"], "NUMBA_NUM_THREADS"),
        (["solve", "FILE", "--start", "middle"], "spanning-tree"),
        (["solve", "FILE", "--start", "spanning-tree"], "pose graphs"),
        (["solve", "FILE", "--linear-solver", "magic"], "lsmr"),
        (["solve", "FILE", "--damping", "magic"], "nielsen"),
        (["solve", "FILE", "--residual", "magic"], "snavely"),
        (["solve", "FILE", "--residual", "between"], "takes two poses"),
        (["solve", "FILE", "--loss", "magic"], "huber"),
        (["solve", "FILE", "--loss", "huber:wide"], "huber:1.0"),
        (["solve", "FILE", "--loss", "huber:-1"], "scale"),
        (["solve", "FILE", "--loss", "huber:1:2"], "at most 1"),
        (["solve", "FILE", "--set", "factor=3"], "damping.KEY=VALUE"),
        (["solve", "FILE", "--set", "damping.factor"], "damping.KEY=VALUE"),
        (["solve", "FILE", "--set", "engine.size=3"], "damping.KEY=VALUE"),
        (["solve", "FILE", "--set", "damping.size=3"], "initial_radius"),
        (["solve", "FILE", "--set", "solver.size=3"], "--linear-solver"),
        (["solve", "FILE", "--set", "preconditioner.order=3"], "--set solver.preconditioner=NAME"),
        (["solve", "FILE", "--linear-solver", "schur-pcg", "--set", "solver.preconditioner=magic"], "power-series"),
        (["solve", "FILE", "--linear-solver", "schur-pcg", "--set", "solver.preconditioner=3"], "power-series"),
        (["solve", "FILE", "--linear-solver", "lsmr", "--set", "solver.preconditioner=block-jacobi"], "no option"),
        (["solve", "FILE", "--set", "solver.preconditioner=block-jacobi"], "--linear-solver"),
        (["solve", "FILE", "--set", "damping.min_radius=1", "--set", "damping.min_radius=2"], "twice"),
        (["solve", "FILE", "--damping", "fixed", "--set", "damping.lambda_=-1"], "finite lambda_ > 0"),
        (["solve", "FILE", "--damping", "fixed", "--set", "damping.lambda_=much"], "much"),
        (["demo", "--cameras", "1"], "integer ≥ 2"),
        (["demo", "--save", "/no/such/folder/demo.txt"], "does not exist"),
    ],
)
def test_usage(command, scene_file, arguments, words):
    done = command(*[scene_file if argument == "FILE" else argument for argument in arguments])
    assert done.refused(), done.err
    assert words in done.err


def test_residual_of_another_format(command, graph_file):
    done = command("solve", graph_file, "--residual", "snavely")
    assert done.refused() and "SE2" in done.err


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (MemoryError("Unable to allocate 3 TiB"), 2, "not enough memory (Unable to allocate 3 TiB)"),
        (PermissionError(13, "Permission denied", "f.txt"), 2, "f.txt: Permission denied"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 2, "invalid start byte"),
        (KeyboardInterrupt(), 130, "sparselm: interrupted"),
    ],
)
def test_errors_from_anywhere(command, monkeypatch, error, status, words):
    def fail(arguments):
        raise error

    monkeypatch.setattr(sparselm.cli, "_run", fail)
    done = command("plugins")
    assert done.status == status
    assert len(done.err.splitlines()) == 1 and words in done.err


def test_output_that_cannot_show_all_letters(scene_file, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert main(["solve", str(scene_file)]) == 0
    assert b"usable solution" in raw.getvalue()
