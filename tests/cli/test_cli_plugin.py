"""Plug-ins of a package installed beside this one are chosen by name, as our own are."""

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "third_party_plugin"


def builds_offline():
    """True where setuptools can make a wheel without anything else."""
    try:
        release = tuple(int(part) for part in importlib.metadata.version("setuptools").split(".")[:2])
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False
    return release >= (70, 1) or (release >= (61, 0) and importlib.util.find_spec("wheel") is not None)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder into which pip installed the third-party package."""
    folder = tmp_path_factory.mktemp("third_party")
    source = folder / "source"  # a copy: building leaves files behind
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    options = ["--no-deps", "--quiet", "--disable-pip-version-check", "--target", str(folder / "site")]
    if builds_offline():
        options.append("--no-build-isolation")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def run(installed, *command):
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONIOENCODING": "utf-8", "NUMBA_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, encoding="utf-8", env=environment, check=False
    )


def test_both_are_used_by_name(installed, scene_file, tmp_path):
    reports = []
    class_and_function = ["third-party-reprojection", "third-party-function"]
    for own in ([], *(["--damping", "third-party", "--residual", name] for name in class_and_function)):
        report = tmp_path / f"{len(reports)}.json"
        extra = ["--set", "damping.start_lambda=1e-2"] if own else []
        done = run(
            installed,
            "-m",
            "sparselm",
            "solve",
            scene_file,
            *own,
            *extra,
            "--report",
            report,
            "--max-iterations",
            "15",
            "--quiet",
        )
        assert done.returncode == 0, done.stderr
        reports.append(json.loads(report.read_text()))
    plain, theirs, function = reports
    assert [report["residual"] for report in reports[1:]] == class_and_function
    assert function["final_cost"] == pytest.approx(theirs["final_cost"], rel=1e-6)
    assert theirs["damping_strategy"] == "third-party"
    assert theirs["iterations"][0]["damping"] == 1e-2
    assert theirs["final_cost"] < 0.1 * theirs["initial_cost"]
    # the residual without distortion is another one, yet close
    assert theirs["initial_cost"] != plain["initial_cost"]
    assert abs(theirs["initial_cost"] / plain["initial_cost"] - 1) < 0.2


def test_plugins_tell_their_package(installed):
    lines = run(installed, "-m", "sparselm", "plugins").stdout.splitlines()
    assert [line.split() for line in lines if "third-party" in line] == [
        ["third-party-function", "acme-sparselm"],
        ["third-party-reprojection", "acme-sparselm"],
        ["third-party", "acme-sparselm"],
    ]


def test_they_keep_the_contracts(installed):
    code = "import sparselm.testing as t, acme_sparselm.pinhole as p; t.check_residual(p.PinholeReprojection())"
    done = run(installed, "-c", code)
    assert done.returncode == 0, done.stderr


def test_without_the_package_the_name_is_unknown(command, scene_file):
    done = command("solve", scene_file, "--damping", "third-party")
    assert done.refused() and "nielsen" in done.err
