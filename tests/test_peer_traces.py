"""The arithmetic of the comparison with peers, and its camera in plain NumPy."""

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from asv_benchmarks import snavely, traces
from sparselm.datasets.bundle_adjustment import project, street

# Best cost 100: within 1 % after 0.4 s, within 0.1 % after 0.9 s, never within 0.01 %.
TRACE = [(0.1, 500.0), (0.2, 120.0), (0.4, 100.5), (0.7, 100.5), (0.9, 100.05)]

CERES = """
iter      cost      cost_change  |gradient|   |step|    tr_ratio  tr_radius  ls_iter  iter_time  total_time
   0  8.508021e+05    0.00e+00    4.57e+06   0.00e+00   0.00e+00  1.00e+04        0    1.10e-02    3.50e-02
   1  1.618720e+05    6.89e+05    2.43e+06   1.23e+03   8.14e-01  1.34e+04        1    2.30e-02    5.80e-02
   2  9.618720e+05   -8.00e+05    0.00e+00   1.00e+03  -7.14e-01  6.70e+03        1    1.20e-02    7.00e-02
   3  1.618719e+05    1.00e-01    0.00e+00   1.00e+00   5.00e-04  1.67e+03        1    1.20e-02    8.20e-02
   4  1.400000e+04    1.48e+05    4.57e+04   1.23e+02   9.95e-01  5.00e+03        1    2.30e-02    1.05e-01
Terminating: Function tolerance reached. |cost_change|/cost: 9.6e-07 <= 1.0e-06
"""


def test_summary_of_runs():
    slower = [(2.0 * seconds, cost) for seconds, cost in TRACE]
    own = traces.summary([slower, TRACE, slower], best=100.0)
    assert own["median"] == [0.8, 1.8, inf]
    assert own["fastest"] == [0.4, 0.9, inf]
    assert own["steps"] == 4
    assert own["seconds_per_step"] == pytest.approx(0.4)
    assert (own["own_stop"], own["own_steps"]) == (1.8, 4)
    assert own["own_excess"] == pytest.approx(5e-4)
    assert traces.lowest_cost([slower, TRACE]) == 100.05


def test_the_start_may_be_near_enough_and_alone():
    assert traces.summary([[(0.3, 100.0)]], best=100.0)["median"] == [0.3, 0.3, 0.3]
    assert traces.seconds_per_step([(0.3, 100.0)]) == inf
    assert traces.steps_to([(0.3, 100.0)], 100.0) == 0


def test_ratios_are_to_the_fastest_at_each_level():
    assert traces.ratios([1.0, 3.0, inf], [[2.0, 6.0, 5.0], [4.0, 2.0, inf]]) == [0.5, 1.5, None]
    assert traces.ratios([1.0, 3.0, 4.0], [[2.0, inf, 8.0]]) == [0.5, None, 0.5]
    assert traces.ratios([1.0, 2.0, 3.0], []) == [None, None, None]


def test_the_run_in_the_middle_and_what_is_drawn_of_it():
    runs = [[(factor * seconds, cost) for seconds, cost in TRACE] for factor in (3.0, 1.0, 2.0)]
    assert traces.middle_run(runs, 100.0) is runs[2]
    assert traces.excess([*TRACE, (1.0, 100.0)], 100.0)[-1] == (0.9, pytest.approx(5e-4))


def test_the_table_of_ceres():
    found = traces.ceres_trace(CERES)
    assert [cost for _, cost in found] == [850802.1, 161872.0, 161872.0, 161872.0, 14000.0]
    assert [seconds for seconds, _ in found] == pytest.approx([0.035, 0.058, 0.070, 0.082, 0.105])


@given(st.lists(st.floats(1.0, 1e6), min_size=1, max_size=8), st.floats(1.0, 1e6))
def test_a_cost_is_reached_at_the_step_that_counts(costs, target):
    trace = [(0.5 * step, cost) for step, cost in enumerate(costs)]
    steps = traces.steps_to(trace, target)
    assert traces.seconds_to(trace, target) == 0.5 * steps
    assert all(cost > target for cost in costs[: steps if steps < inf else None])
    assert steps == inf or costs[steps] <= target


def test_the_camera_is_that_of_the_files():
    data = street(8, 120, seed=3).data
    residuals = project(data.cameras, data.points, data.camera_index, data.point_index) - data.pixels
    rotations = snavely.rotation_matrices(data.cameras[:, :3])
    found = snavely.cost(vars(data), rotations, data.cameras, data.points)
    assert found == pytest.approx(0.5 * np.sum(residuals**2), rel=1e-12)


@pytest.mark.parametrize("length", [0.0, 1e-9, 0.3, 3.0, 7.0])
def test_rotation_matrices(length):
    vectors = length * np.array([[1.0, 0.0, 0.0], [0.6, 0.0, -0.8], [1.0, -2.0, 2.0]]) / [[1.0], [1.0], [3.0]]
    np.testing.assert_allclose(
        snavely.rotation_matrices(vectors), Rotation.from_rotvec(vectors).as_matrix(), rtol=0, atol=1e-14
    )
