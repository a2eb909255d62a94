"""What is copied and allocated: nothing in proportion to the problem once the first iterations are over."""

import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest

import sparselm as slm
from sparselm import datasets
from sparselm.linear_solvers.base import AbstractLinearSolver, Need, SolveFacts


@dataclass(frozen=True)
class Jacobi(AbstractLinearSolver):
    """x = b / (diag JᵀJ + D): a solver that allocates nothing, so that the core's own allocations show."""

    needs = frozenset({Need.OPERATOR})

    def analyze(self, structure, previous=None):
        return np.zeros(structure.num_columns)

    def prepare(self, plan, linearization):
        return linearization, plan

    def factorize(self, system, damping):
        linearization, work = system
        np.add(linearization.diagonal, damping, out=work)
        work *= 4.0
        return work

    def solve(self, factor, rhs, out, *, tolerance=None, guess=None):
        np.divide(rhs, factor, out=out)
        return SolveFacts()


def street_problem(loss=None, information=None):
    data = datasets.street(40, 8000, seed=3).data
    problem = slm.Problem()
    camera = problem.add_variables("camera", data.cameras)
    point = problem.add_variables("point", data.points)
    problem.add_residuals(
        slm.SnavelyReprojection(), camera[data.camera_index], point[data.point_index], data=data.pixels, loss=loss,
        information=information,
    )  # fmt: skip
    return problem


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("loss", [None, slm.Huber(1.0)])
def test_no_allocation_in_proportion_between_iterations_2_and_10(loss, held):
    problem = street_problem(loss, information=np.eye(2))
    if held:
        problem.variables[0].fix([0])
    num_values = problem.residuals[0].num_blocks * 24
    peaks = []

    def watch(item):
        if item.iteration == 2:
            tracemalloc.start()
        elif item.iteration == 10:
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            return True
        return False

    result = slm.solve(problem, linear_solver=Jacobi(), callback=watch, function_tolerance=0, parameter_tolerance=0)
    assert result.num_iterations == 10
    # A chunk of a loss's blocks may be taken temporarily; its size is fixed. This problem's J has 800,000 values.
    allowed = 100_000 if loss is None else 2_500_000
    assert peaks[0] < allowed, f"{peaks[0]} bytes at most, J has {8 * num_values}"


def test_add_residuals_copies_nothing():
    n = 1_000_000
    problem = slm.Problem()
    camera = problem.add_variables("camera", np.ones((10, 9)))
    point = problem.add_variables("point", np.ones((1000, 3)))
    camera_index, point_index = np.zeros(n, np.int32), np.zeros(n, np.int32)
    pixels = np.zeros((n, 2))
    tracemalloc.start()
    group = problem.add_residuals(slm.SnavelyReprojection(), camera[camera_index], point[point_index], data=pixels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000
    assert group.data[0] is pixels
    assert group.operands[0].index is camera_index


def test_large_counts_are_planned_with_64_bit_indices():
    from sparselm.structure import Structure

    structure = Structure(street_problem())
    assert structure.index_dtype is np.int32
    structure = Structure(street_problem())
    structure.num_values = 2**31
    assert structure.index_dtype is np.int64


def test_what_kernels_allocate_does_not_grow_with_the_problem():
    """numba's own counters: buffers per parallel task, whose number has a bound, all given back."""
    from test_levenberg_marquardt import run_python

    done = run_python(
        """
        import sparselm as slm
        from numba.core.runtime import rtsys
        from sparselm.datasets import street
        from sparselm.io.bal import to_problem
        from test_memory import Jacobi

        def allocations(num_points):
            problem = to_problem(street(60, num_points, seed=3).data)
            seen = {}

            def watch(item):
                seen[item.iteration] = rtsys.get_allocation_stats()

            slm.solve(problem, linear_solver=Jacobi(), callback=watch, max_iterations=10,
                      function_tolerance=0, parameter_tolerance=0)
            assert len(seen) == 11
            assert seen[10].alloc - seen[2].alloc == seen[10].free - seen[2].free
            return seen[10].alloc - seen[2].alloc

        small, large = allocations(30_000), allocations(60_000)
        print(small, large)
        """,
        NUMBA_NRT_STATS="1",
    )
    assert done.returncode == 0, done.stderr
    small, large = map(int, done.stdout.split())
    assert large <= 1.1 * small
