"""Ctrl-C: the best iterate is kept and written; a second one ends at once; never a traceback."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest

from sparselm.io import read

ENDLESS = (
    "--damping", "fixed", "--set", "damping.lambda_=1e9", "--function-tolerance", "0", "--parameter-tolerance", "0",
    "--max-iterations", "1000000000",
)  # fmt: skip

SLOW = """
import time
from dataclasses import dataclass
from sparselm.damping.nielsen import Nielsen

@dataclass(frozen=True)
class Slow(Nielsen):
    def step(self, model, state):
        print("sleeping", flush=True)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            time.sleep(0.05)
        return super().step(model, state)
"""


def wait_for(process, beginning):
    """Read the process's output up to a line that begins so."""
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith(beginning):
            return
    raise AssertionError(f"no line begins with {beginning!r}: {''.join(seen)}{process.stderr.read()}")


@pytest.fixture
def slow_damping(tmp_path):
    """A folder that, on the module path, adds a damping strategy whose steps take a minute."""
    folder = tmp_path / "modules"
    info = folder / "slow_damping-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "slow_damping.py").write_text(SLOW)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-damping\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sparselm.damping]\nslow = slow_damping:Slow\n")
    return folder


def test_interrupt_keeps_the_best_iterate(start, scene_file, tmp_path):
    output, report = tmp_path / "o.txt", tmp_path / "r.json"
    process = start("solve", scene_file, *ENDLESS, "--output", output, "--report", report)
    wait_for(process, "   3 ")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == ""
    assert "interrupted; the best iterate is kept" in out
    told = json.loads(report.read_text(encoding="utf-8"))
    assert told["status"] == "interrupted"
    assert told["final_cost"] < told["initial_cost"]
    assert math.isclose(told["iterations"][-1]["cost"], told["final_cost"])
    assert len(read(output).cameras) == 6
    again = start("solve", output, "--max-iterations", "0", "--report", report)
    again.communicate(timeout=60)
    assert math.isclose(json.loads(report.read_text())["initial_cost"], told["final_cost"], rel_tol=1e-13)


def test_second_interrupt_ends_at_once(start, scene_file, tmp_path, slow_damping):
    output = tmp_path / "o.txt"
    process = start(
        "solve", scene_file, "--damping", "slow", "--output", output, PYTHONPATH=str(slow_damping)
    )  # fmt: skip
    wait_for(process, "sleeping")
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "sparselm: interrupted\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["modules"]  # no half file either


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to see what a process has open")
def test_interrupt_while_reading(start, tmp_path):
    graph = tmp_path / "long.g2o"
    edge = "EDGE_SE3:QUAT {} {} 1 0 0 0 0 0 1 1 0 0 0 0 0 1 0 0 0 0 1 0 0 0 1 0 0 1 0 1\n"
    graph.write_text("".join(edge.format(i, i + 1) for i in range(300_000)))
    process = start("info", graph)
    folder = f"/proc/{process.pid}/fd"
    while process.poll() is None:
        opened = {os.path.realpath(os.path.join(folder, name)) for name in os.listdir(folder)}
        if str(graph) in opened:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "sparselm: interrupted\n"


def test_a_pipe_in_place_of_a_file_is_refused(start, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = start("info", pipe)
    with open(pipe, "wb"):  # opens once the command does
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "this is a pipe" in err


def test_reader_that_leaves_early(start, scene_file, tmp_path):
    """The pipe breaks in the middle of the solve, which goes on and keeps its outcome."""
    output = tmp_path / "o.txt"
    process = start(
        "solve", scene_file, *ENDLESS[:-1], "100", "--output", output, "--report", tmp_path / "r.json"
    )  # fmt: skip
    wait_for(process, "   1 ")
    process.stdout.close()
    process.wait(timeout=30)
    assert process.returncode == 0
    assert process.stderr.read() == ""
    assert output.exists() and json.loads((tmp_path / "r.json").read_text())["num_iterations"] == 100
    process.stdout = None


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_output_stream_that_is_full(scene_file, tmp_path):
    output = tmp_path / "o.txt"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sparselm", "solve", scene_file, "--output", output],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "sparselm: error: standard output: No space left on device\n"
    assert len(read(output).cameras) == 6
