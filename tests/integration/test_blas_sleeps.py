"""BLAS stays asleep during a solve: its threads, once woken, spin on processors that the kernels need."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Threads of BLAS are those that exist before the first parallel kernel; the solve's vectors are long enough to wake them.
SCRIPT = """
import os
import time
from pathlib import Path

import numpy as np
import scipy.linalg
import scipy.sparse as sp

import sparselm as slm
from sparselm.datasets import street
from sparselm.io.bal import to_problem
from sparselm.linear_solvers import LSMR

TASKS = Path("/proc/self/task")
blas = [task for task in TASKS.iterdir() if task.name != str(os.getpid())]


def seconds():
    ticks = 0
    for task in blas:
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


problem = to_problem(street(30, 6000, seed=0).data)
x = np.ones(20_000)
for solver in (slm.SchurCholesky(), slm.SchurPCG(), slm.BlockCholesky(), LSMR(max_iterations=20)):
    before = seconds()
    slm.solve(problem, linear_solver=solver, max_iterations=8, function_tolerance=0.0)
    print(type(solver).__name__, seconds() - before)

n = 30_000
A = sp.diags_array([np.full(n, 2.0), np.ones(n - 1)], offsets=[0, 1]).tocsr()
before = seconds()
slm.least_squares(lambda x: A @ np.tanh(x) - 1.0, np.zeros(n), jac=lambda x: A * (1.0 - np.tanh(x) ** 2), ftol=0.0, xtol=0.0)
print("least_squares", seconds() - before)
before = seconds()
for _ in range(20):
    np.vdot(x, x)
    time.sleep(0.05)  # in which BLAS's threads spin
print("awake", seconds() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists() or (os.cpu_count() or 1) < 2, reason="needs Linux, two processors")
def test_solves_do_not_wake_blas(tmp_path):
    script = tmp_path / "solve.py"
    script.write_text(SCRIPT)
    found = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, cwd=Path.cwd()).stdout
    used = {name: float(seconds) for name, seconds in map(str.split, found.splitlines())}
    awake = used.pop("awake")
    if awake < 0.2:
        pytest.skip(f"this BLAS keeps no threads awake: {awake} s in twenty calls")
    assert used.keys() == {"SchurCholesky", "SchurPCG", "BlockCholesky", "LSMR", "least_squares"}
    assert max(used.values()) < 0.1 * awake, f"{used} s, and {awake} s where it is woken twenty times"
