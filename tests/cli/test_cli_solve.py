"""``sparselm solve``: exit statuses, what is printed, what is written."""

import bz2
import json
import math
import os

import numpy as np
import pytest

from sparselm.io import BundleAdjustmentData, read

TIMES = ("read", "analyze", "linearize", "linear_solve", "evaluate", "other")

KEYS = {
    "status", "message", "initial_cost", "final_cost", "gradient_max_norm", "num_iterations", "num_accepted",
    "num_rejected", "num_residuals", "num_residual_blocks", "num_parameters", "linear_solver", "linear_solver_reason",
    "damping_strategy", "num_threads", "peak_memory_bytes", "time", "iterations", "residual", "loss", "notes", "warnings",
    "statistics", "versions",
}  # fmt: skip


def load_json(path):
    def refuse(constant):
        raise AssertionError(f"{constant} in JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_progress_and_report(command, scene_file):
    done = command("solve", scene_file)
    assert done.status == 0
    assert done.err == ""
    assert "6 cameras, 60 points" in done.out
    rows = [line for line in done.out.splitlines() if line[:4].strip().isdigit()]
    assert len(rows) >= 3 and rows[0].split()[0] == "0"
    for words in ("usable solution: converged", "cost", "iterations", "solver", "read", "damping", "time"):
        assert words in done.out
    assert max(map(len, done.out.replace(str(scene_file), "").splitlines())) <= 110


def test_quiet(command, scene_file, tmp_path):
    done = command("solve", scene_file, "--quiet", "--output", tmp_path / "o.txt", "--report", tmp_path / "r.json")
    assert (done.status, done.out, done.err) == (0, "", "")
    assert (tmp_path / "o.txt").exists() and (tmp_path / "r.json").exists()


def test_quiet_tells_errors(command, scene_file, tmp_path):
    assert command("solve", tmp_path / "absent.txt", "--quiet").refused()
    done = command("solve", scene_file, "--quiet", "--max-iterations", "0")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("sparselm: no usable solution: max_iterations reached")


def test_report_as_json(command, scene_file, tmp_path):
    path = tmp_path / "report.json"
    assert command("solve", scene_file, "--report", path, "--damping", "marquardt").status == 0
    report = load_json(path)
    assert not KEYS - set(report)
    time = report["time"]
    assert set(time) == {*TIMES, "total", "compile", "load"}
    assert math.isclose(sum(time[name] for name in TIMES), time["total"], rel_tol=1e-12, abs_tol=1e-12)
    assert time["read"] > 0
    assert report["damping_strategy"] == "marquardt"
    assert report["residual"] == "snavely"
    assert report["num_residuals"] == 2 * report["num_residual_blocks"] == 2 * report["statistics"]["num_observations"]
    assert report["num_parameters"] == 6 * 9 + 60 * 3
    assert report["peak_memory_bytes"] > 1e7
    steps = report["iterations"]
    assert len(steps) == report["num_iterations"] + 1
    assert sum(step["accepted"] for step in steps[1:]) == report["num_accepted"]
    wanted = {"cost", "gradient_max_norm", "step_norm", "gain_ratio", "damping", "accepted", "time"}
    assert all(wanted <= set(step) for step in steps)
    assert steps[0]["step_norm"] is None and steps[0]["cost"] == report["initial_cost"]
    assert steps[-1]["cost"] == report["final_cost"]
    assert report["final_cost"] < report["initial_cost"]


def test_names_in_json_are_registered_ones(command, scene_file, tmp_path):
    from sparselm import plugins

    command("solve", scene_file, "--report", tmp_path / "r.json")
    report = load_json(tmp_path / "r.json")
    assert report["linear_solver"] in plugins.names("linear_solvers")
    assert report["damping_strategy"] == "nielsen"
    assert report["linear_solver_reason"]


@pytest.mark.parametrize("solver", ["lsmr", "dense-cholesky"])
def test_linear_solver_by_name(command, scene_file, tmp_path, solver):
    done = command(
        "solve", scene_file, "--linear-solver", solver, "--report", tmp_path / "r.json", "--max-iterations", "3"
    )
    assert done.status == 0
    report = load_json(tmp_path / "r.json")
    assert report["linear_solver"] == solver
    if solver == "lsmr":
        assert report["inner_iterations"] == sum(step["inner_iterations"] for step in report["iterations"][1:]) > 0
        assert "inner" in done.out
    else:
        assert report["inner_iterations"] is None


def test_loss_is_used(command, scene_file, tmp_path):
    command("solve", scene_file, "--loss", "huber:0.1", "--report", tmp_path / "a.json", "--quiet")
    command("solve", scene_file, "--report", tmp_path / "b.json", "--quiet")
    robust, plain = load_json(tmp_path / "a.json"), load_json(tmp_path / "b.json")
    assert robust["loss"] == "huber:0.1"
    assert robust["initial_cost"] < 0.5 * plain["initial_cost"]


@pytest.mark.parametrize("suffix", [".txt", ".txt.bz2", ".txt.gz", ".npz"])
def test_solution_starts_where_the_solve_ended(command, scene_file, tmp_path, suffix):
    solved = tmp_path / f"solved{suffix}"
    command("solve", scene_file, "--output", solved, "--report", tmp_path / "a.json")
    data = read(solved)
    assert isinstance(data, BundleAdjustmentData)
    assert np.array_equal(data.pixels, read(scene_file).pixels)
    command("solve", solved, "--max-iterations", "0", "--report", tmp_path / "b.json")
    first, second = load_json(tmp_path / "a.json"), load_json(tmp_path / "b.json")
    assert math.isclose(first["final_cost"], second["initial_cost"], rel_tol=1e-13)


def test_pose_graph_round_trip(command, graph_file, tmp_path):
    solved = tmp_path / "solved.g2o.xz"
    done = command("solve", graph_file, "--output", solved, "--report", tmp_path / "a.json")
    assert done.status == 0
    assert "held constant: pose 0" in done.out
    first = load_json(tmp_path / "a.json")
    assert first["residual"] == "between" and "held constant" in first["notes"][0]
    command("solve", solved, "--max-iterations", "0", "--report", tmp_path / "b.json")
    assert math.isclose(first["final_cost"], load_json(tmp_path / "b.json")["initial_cost"], rel_tol=1e-10)


def test_input_may_be_overwritten(command, scene_file, tmp_path):
    copy = tmp_path / "copy.npz"
    command("solve", scene_file, "--output", copy, "--max-iterations", "1", "--quiet")
    assert command("solve", copy, "--output", copy).status == 0
    assert [path.name for path in tmp_path.iterdir()] == ["copy.npz"]
    assert command("solve", copy, "--max-iterations", "0").status in (0, 1)


def test_residual_and_start_of_a_graph(command, graph_file, tmp_path):
    parts = ("--residual", "between-uncoupled", "--start", "spanning-tree")
    done = command("solve", graph_file, *parts, "--report", tmp_path / "r.json")
    assert done.status == 0
    report = load_json(tmp_path / "r.json")
    assert (report["residual"], report["start"]) == ("between-uncoupled", "spanning-tree")


def test_warnings_are_single_lines(command, graph_file, tmp_path):
    text = graph_file.read_text().replace("VERTEX_SE2 3 0.1 1.2 -1.5\n", "STRANGE 1 2 3\n")
    graph_file.write_text(text)
    done = command("solve", graph_file, "--report", tmp_path / "r.json")
    lines = done.err.splitlines()
    assert done.status == 0
    assert len(lines) == 2 and all(line.startswith("warning: ") for line in lines)
    assert load_json(tmp_path / "r.json")["warnings"] == [line.removeprefix("warning: ") for line in lines]
    assert command("solve", graph_file, "--quiet").err == ""


def test_settings(command, scene_file, tmp_path):
    path = tmp_path / "r.json"
    command("solve", scene_file, "--set", "damping.initial_radius=10", "--report", path)
    assert load_json(path)["iterations"][0]["damping"] == 10
    done = command(
        "solve", scene_file, "--damping", "fixed", "--set", "damping.lambda_=1e-3", "--report", path, "--set",
        "linear_solver.tolerance=1e-1", "--linear-solver", "lsmr", "--max-iterations", "1",
    )  # fmt: skip
    assert done.status == 0
    assert load_json(path)["iterations"][0]["damping"] == 1e-3


def test_preconditioner_by_name(command, scene_file, tmp_path):
    path = tmp_path / "r.json"
    made = ["solve", scene_file, "--linear-solver", "schur-pcg", "--max-iterations", "1", "--report", path]
    for settings, words in (
        (["solver.preconditioner=power-series"], "PowerSeries"),
        (["solver.preconditioner=cluster-jacobi", "preconditioner.most=3"], "ClusterJacobi, clusters of at most 3"),
        ([], "SchurJacobi"),
    ):
        done = command(*made, *[word for setting in settings for word in ("--set", setting)])
        assert done.status == 0, done.err
        report = load_json(path)
        assert report["linear_solver"] == "schur-pcg"
        assert words in str(report), report


# -- exit statuses -----------------------------------------------------------------------------------------------------


def test_no_usable_solution(command, scene_file, tmp_path):
    done = command("solve", scene_file, "--max-iterations", "0", "--report", tmp_path / "r.json")
    assert done.status == 1
    assert "NO usable solution" in done.out and "raise max_iterations" in done.out
    assert load_json(tmp_path / "r.json")["status"] == "max_iterations"


def test_limit_with_lower_cost_is_usable(command, scene_file):
    done = command("solve", scene_file, "--max-iterations", "1")
    assert done.status == 0
    assert "max_iterations reached" in done.out and "--output FILE keeps the result" in done.out


def test_time_limit(command, scene_file, tmp_path):
    done = command(
        "solve", scene_file, "--time-limit", "0.05", "--damping", "fixed", "--set", "damping.lambda_=1e9",
        "--function-tolerance", "0", "--parameter-tolerance", "0", "--max-iterations", "100000000",
        "--report", tmp_path / "r.json", "--output", tmp_path / "o.txt",
    )  # fmt: skip
    assert done.status == 0
    assert load_json(tmp_path / "r.json")["status"] == "time_limit"
    assert (tmp_path / "o.txt").exists()


def test_start_that_is_not_finite(command, scene_file, tmp_path):
    data = read(scene_file)
    camera = data.cameras.copy()
    camera[:, :6] = 0
    points = data.points.copy()
    points[data.point_index[4]] = [1.0, 2.0, 0.0]  # in the plane of every camera
    from sparselm.io import bal

    path = tmp_path / "flat.txt"
    bal.write_bal(path, bal.with_values(data, camera, points))
    done = command("solve", path)
    assert done.refused()
    assert str(path) in done.err and "not finite" in done.err and "data [" in done.err and "point[" in done.err
    assert command("info", path).status == 0


# -- writing fails -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--output", "--report"])
def test_missing_folder_is_told_before_the_work(command, tmp_path, option):
    done = command("solve", tmp_path / "absent.txt", option, tmp_path / "no" / "such" / "o.txt")
    assert done.refused()
    assert option in done.err and "does not exist" in done.err


def test_folder_as_output(command, scene_file, tmp_path):
    assert "folder" in command("solve", scene_file, "--output", tmp_path).err


@pytest.mark.skipif(not os.path.exists("/proc/version"), reason="needs a folder in which not even root can write")
def test_unwritable_folder_is_told_before_the_work(command, scene_file):
    done = command("solve", scene_file, "--output", "/proc/solution.txt")
    assert done.refused()
    assert done.out == "" and "cannot be written" in done.err


def test_failure_after_the_solve_loses_nothing(command, scene_file, tmp_path, monkeypatch):
    from sparselm.cli import files

    def full(self, path, values):
        if "sparselm-" not in path:
            raise OSError(28, "No space left on device", path)
        original(self, path, values)

    original = files.ProblemFile.write_solution
    monkeypatch.setattr(files.ProblemFile, "write_solution", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = command("solve", scene_file, "--output", tmp_path / "o.txt", "--report", tmp_path / "r.json")
    assert done.refused()
    assert "No space left" in done.err
    kept = done.err.rpartition("kept as ")[2].strip()
    assert isinstance(read(kept), BundleAdjustmentData)
    assert load_json(tmp_path / "r.json")["success"]
    assert "usable solution" in done.out


@pytest.mark.parametrize(("name", "words"), [("o.g2o", "BAL"), ("o.g2o.gz", "BAL"), ("o.npz.bz2", "not compressed")])
def test_name_of_another_format(command, scene_file, tmp_path, name, words):
    done = command("solve", scene_file, "--output", tmp_path / name)
    assert done.refused() and words in done.err
    assert list(tmp_path.iterdir()) == []


def test_graph_as_npz(command, graph_file, tmp_path):
    assert command("solve", graph_file, "--output", tmp_path / "o.npz").refused()


def test_one_name_for_both_files(command, scene_file, tmp_path):
    assert command("solve", scene_file, "--output", tmp_path / "o", "--report", tmp_path / "o").refused()


def test_compressed_input(command, scene_file, tmp_path):
    path = tmp_path / "scene.bz2"
    path.write_bytes(bz2.compress(scene_file.read_bytes()))
    assert command("solve", path).status == 0
