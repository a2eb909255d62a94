"""``sparselm info``, ``demo``, ``plugins`` and ``--version``, and how quickly they start."""

import json
import subprocess
import sys

import pytest

import sparselm
from sparselm import plugins
from sparselm.io import BundleAdjustmentData, read


def test_info_of_bundle_adjustment(command, scene_file):
    done = command("info", scene_file)
    assert (done.status, done.err) == (0, "")
    for words in (
        "cameras       6",
        "points        60",
        "track length",
        "pixels",
        "everything is connected",
        "234; none held",
        "besides the linear solver",
        "schur-cholesky: ",
        "schur-pcg, explicit: ",
        "block-cholesky: ",
    ):
        assert words in done.out


def test_info_counts_points_behind_cameras(command, scene_file, tmp_path):
    from sparselm.io import bal

    data = read(scene_file)
    points = data.points.copy()
    camera = data.cameras[0]
    centre = -_rotation(camera[:3]).T @ camera[3:6]
    seen = data.point_index[data.camera_index == 0][0]
    points[seen] = 2 * centre - points[seen]
    path = tmp_path / "behind.txt"
    bal.write_bal(path, bal.with_values(data, data.cameras, points))
    assert "observations of a point behind its camera: " in command("info", path).out


def _rotation(omega):
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(omega).as_matrix()


def test_info_of_a_graph(command, graph_file):
    text = graph_file.read_text() + "VERTEX_SE2 7 0 0 0\nEDGE_SE2 7 8 1 0 0 1 0 0 1 0 0\n"
    graph_file.write_text(text)
    done = command("info", graph_file)
    assert done.status == 0
    for words in (
        "6, ids 0 to 8",
        "poses 0, 7",
        "12 free, 6 held constant",
        "2 that no measurement connects",
        "besides 1 singular",
        "1 poses without a VERTEX line",
        "at the file's start",
    ):
        assert words in done.out, words
    assert done.err.startswith("warning: ") and len(done.err.splitlines()) == 1


def test_info_of_clipped_information(command, graph_file):
    graph_file.write_text(graph_file.read_text().replace("10 0 0 10 0 20\n", "10 0 0 10 0 -20\n", 1))
    done = command("info", graph_file)
    assert done.status == 0
    assert "1 of 4 information matrices are not positive semi-definite" in done.err
    assert "besides 1 singular" in done.out


def test_demo(command, tmp_path):
    done = command("demo", "--cameras", "50", "--points", "500", "--save", tmp_path / "demo.txt")
    assert (done.status, done.err) == (0, "")
    for words in ("50 cameras", "   1 ", "usable solution", "pixels before", "What to try next", "sparselm solve"):
        assert words in done.out
    assert isinstance(read(tmp_path / "demo.txt"), BundleAdjustmentData)


def test_demo_shows_the_size_that_was_asked_for():
    from sparselm.cli.arguments import make_parser

    assert make_parser().parse_args(["demo"]).cameras >= 50


def test_plugins(command):
    done = command("plugins")
    assert done.status == 0
    listed = {tuple(line.split()) for line in done.out.splitlines() if line.startswith("  ")}
    for kind in plugins.KINDS:
        assert {(name, plugins.distribution(kind, name)) for name in plugins.names(kind)} <= listed


def test_version_and_help(command):
    assert command("--version").out == f"sparselm {sparselm.__version__}\n"
    for arguments in ([], ["solve"], ["info"], ["demo"], ["generate"], ["plugins"]):
        done = command(*arguments, "--help")
        assert done.status == 0 and "usage: sparselm" in done.out and done.err == ""


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "sparselm", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("sparselm ")


def test_second_run_compiles_nothing(start, scene_file, tmp_path):
    for _ in range(2):
        process = start("solve", scene_file, "--max-iterations", "2", "--report", tmp_path / "r.json")
        out, err = process.communicate(timeout=300)
        assert (process.returncode, err) == (0, "")
    time = json.loads((tmp_path / "r.json").read_text())["time"]
    assert time["compile"] == 0
    assert time["load"] > 0
    assert "compiling" not in out


@pytest.mark.parametrize("arguments", [["--version"], ["plugins"]])
def test_light_commands_load_nothing_heavy(arguments):
    code = f"""
import sys
from sparselm.cli import main
main({arguments})
loaded = {{"scipy.optimize", "scipy.spatial", "scipy.signal", "sksparse", "sparselm.datasets.bundle_adjustment"}}
assert not loaded & set(sys.modules), loaded & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
