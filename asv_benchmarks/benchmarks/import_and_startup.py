"""How long it takes until something happens: imports, and a process that solves a small problem."""

import subprocess
import sys

from .common import _Benchmark

_FIRST_ITERATION = """
import sparselm as slm
from sparselm.datasets import street
from sparselm.io.bal import to_problem
result = slm.solve(to_problem(street(8, 120, seed=8).data), callback=lambda step: step.iteration == 1)
print(result.times.compile)
"""


class Import:
    """Whole processes that only import; ours contains the other, so that the difference is what we add."""

    timeout = 120
    repeat = (3, 10, 20.0)

    def timeraw_import_sparselm(self):
        return "import sparselm"

    def timeraw_import_numba_and_scipy(self):
        return "import numba, scipy.sparse, scipy.sparse.linalg"


class Startup(_Benchmark):
    """A process from its start to the end of the first iteration, with kernels compiled before."""

    number = 1

    def setup(self):
        self._run()

    def time_first_iteration(self):
        self._run()

    def track_compile_time(self):
        """Seconds spent compiling by a process that should find everything on disk: must be 0."""
        return self._run()

    track_compile_time.unit = "seconds"

    def _run(self):
        process = subprocess.run([sys.executable, "-c", _FIRST_ITERATION], check=True, capture_output=True, text=True)
        return float(process.stdout.splitlines()[-1])
