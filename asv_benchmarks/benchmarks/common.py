"""What the benchmarks share: the problems, compiling before the clock runs, and the measures of a solve."""

import sys
from pathlib import Path

# The named problems are never installed; they come from this checkout. Last on the path, so that the installed sparselm,
# the commit under test, is the one that is imported.
sys.path.append(str(Path(__file__).resolve().parents[2]))

import problems
import sparselm as slm
from problems.user_written import SNAVELY as SNAVELY
from sparselm.evaluator import Evaluator
from sparselm.plugins import create
from sparselm.structure import Structure

SOLVERS = ["cholmod", "superlu", "lsmr"]

# Small problems that use every kernel which the large ones use.
_WARM_UP = ["street-8", "grid-100", "sphere-180"]


def named_problem(name):
    """A named problem at its start; asv takes NotImplementedError for "skip" where its data file is missing."""
    problem = problems.get(name)
    reason = problem.why_unavailable()
    if reason is not None:
        raise NotImplementedError(reason)
    return problem


def linear_solver(name):
    """A linear solver by name; skipped where what it needs is not installed."""
    try:
        solver = create("linear_solvers", name)
        slm.analyze(problems.get("street-8").build(), linear_solver=solver)
    except (slm.MissingDependencyError, slm.PluginError) as error:
        raise NotImplementedError(str(error)) from error
    return solver


class _Benchmark:
    """Base of all benchmarks that solve something: kernels are compiled once, before anything is measured."""

    timeout = 600
    warmup_time = 0.0  # set-ups warm up themselves

    def setup_cache(self):
        """Run once for all benchmarks: compiles every kernel and leaves it on disk for the measured processes to load."""
        for name in _WARM_UP:
            for solver in SOLVERS:
                try:
                    slm.solve(problems.get(name).build(), linear_solver=linear_solver(solver), max_iterations=2)
                except NotImplementedError:
                    continue


class _WithProblem(_Benchmark):
    """A benchmark on one problem, without a solver."""

    def bind(self, problem):
        """Analyse and linearise once, so that kernels are loaded and buffers touched."""
        self.problem = problem
        self.structure = Structure(self.problem)
        self.evaluator = Evaluator(self.problem, self.structure)
        for _ in range(3):
            self.evaluator.linearize()
            self.evaluator.move_trial(0.0 * self.evaluator.linearization.gradient)
            self.evaluator.trial_cost()


class _Solve(_Benchmark):
    """Time, memory, cost and iterations of whole solves, problem × linear solver."""

    param_names = ["problem", "linear_solver"]
    number = 1
    max_iterations = 50

    def setup(self, name, solver):
        """Build the problem; one step loads the kernels."""
        named = named_problem(name)
        self.linear_solver = linear_solver(solver)
        self.problem = named.build()
        self._solve(max_iterations=1)

    def _solve(self, **options):
        options = {"max_iterations": self.max_iterations} | options
        return slm.solve(self.problem, linear_solver=self.linear_solver, **options)

    def time_solve(self, name, solver):
        """Seconds of a solve with default tolerances, analysis included."""
        self._solve()

    def peakmem_solve(self, name, solver):
        """Peak memory of the process that builds and solves the problem."""
        self._solve()

    def track_final_cost(self, name, solver):
        """Cost where the default tolerances stop: must not go up."""
        return self._solve().final_cost

    track_final_cost.unit = "cost"

    def track_iterations(self, name, solver):
        """Steps tried."""
        return self._solve().num_iterations

    track_iterations.unit = "iterations"
