"""Small files for the command line, and ways to run it."""

import os
import subprocess
import sys

import numba
import pytest

from sparselm.cli import main
from sparselm.datasets.bundle_adjustment import street
from sparselm.io import write_bal

GRAPH = """\
VERTEX_SE2 0 0 0 0
VERTEX_SE2 1 1.1 0.1 1.5
VERTEX_SE2 2 1.2 0.9 3.1
VERTEX_SE2 3 0.1 1.2 -1.5
EDGE_SE2 0 1 1 0 1.57 10 0 0 10 0 20
EDGE_SE2 1 2 1 0 1.57 10 0 0 10 0 20
EDGE_SE2 2 3 1 0 1.57 10 0 0 10 0 20
EDGE_SE2 3 0 1 0.05 1.57 10 0 0 10 0 20
"""


@pytest.fixture(autouse=True)
def one_thread():
    """The problems here are tiny: on a busy machine, threads would wait for each other longer than they work."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(before)


@pytest.fixture(scope="session")
def scene_file(tmp_path_factory):
    """A BAL file of 6 cameras and 60 points, made without anything else."""
    path = tmp_path_factory.mktemp("cli") / "scene.txt"
    write_bal(path, street(6, 60, seed=3).data)
    return path


@pytest.fixture
def graph_file(tmp_path):
    path = tmp_path / "square.g2o"
    path.write_text(GRAPH)
    return path


class Outcome:
    """What a command did: exit status and both streams."""

    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def __repr__(self):
        return f"{self.status}\n{self.out}\n{self.err}"

    def refused(self):
        """True where the command refused its input as it should: status 2, one line, nothing of Python's."""
        lines = self.err.splitlines()
        return self.status == 2 and len(lines) == 1 and lines[0].startswith("sparselm: error: ")


@pytest.fixture
def command(capfd):
    """Run a command in this process."""

    def run(*arguments):
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        return Outcome(status, *capfd.readouterr())

    return run


@pytest.fixture
def start():
    """Start a command in a process of its own, its streams pipes of text; the process ends with the test."""
    processes = []

    def popen(*arguments, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", "sparselm", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONIOENCODING": "utf-8", "NUMBA_NUM_THREADS": "1", **environment},
        )
        processes.append(process)
        return process

    yield popen
    for process in processes:
        process.kill()
        process.communicate()
