"""What the traces of several solves say of a solver: the arithmetic of the tables, and nothing else.

A trace is a list of pairs (seconds since the solve began, cost of the current point), the start first and then one for
each step tried, accepted or not. What was never reached is infinite.
"""

from itertools import pairwise
from math import inf
from statistics import median

# Within how much of the best cost, relative to it.
LEVELS = (1e-2, 1e-3, 1e-4)


def lowest_cost(traces):
    return min(cost for trace in traces for _, cost in trace)


def seconds_to(trace, cost):
    """When a cost was reached."""
    return next((seconds for seconds, now in trace if now <= cost), inf)


def steps_to(trace, cost):
    """How many steps were tried until a cost was reached."""
    return next((steps for steps, (_, now) in enumerate(trace) if now <= cost), inf)


def seconds_per_step(trace):
    """Median over the steps."""
    return median([after[0] - before[0] for before, after in pairwise(trace)] or [inf])


def summary(traces, best):
    """A solver's figures, from the traces of its runs and the best cost that is known."""
    targets = [(1.0 + level) * best for level in LEVELS]
    near = [[seconds_to(trace, target) for trace in traces] for target in targets]
    return {
        "median": [median(seconds) for seconds in near],
        "fastest": [min(seconds) for seconds in near],
        "steps": median(steps_to(trace, targets[1]) for trace in traces),
        "seconds_per_step": median(seconds_per_step(trace) for trace in traces),
        "own_stop": median(trace[-1][0] for trace in traces),
        "own_steps": median(len(trace) - 1 for trace in traces),
        "own_excess": median(trace[-1][1] for trace in traces) / best - 1.0,
    }


def ratios(own, references):
    """Own median over the fastest reference's, for each level; None where there is no such quotient."""
    fastest = [min(seconds) for seconds in zip(*references, strict=True)] or [inf] * len(own)
    return [mine / other if mine < inf and other < inf else None for mine, other in zip(own, fastest, strict=True)]


def middle_run(traces, best):
    """The run that stands for all: the one in the middle by its time to the second level."""
    order = sorted(traces, key=lambda trace: (seconds_to(trace, (1.0 + LEVELS[1]) * best), trace[-1][0]))
    return order[(len(order) - 1) // 2]


def excess(trace, best):
    """Seconds, and cost relative to the best one less 1, of the points of a trace that lie above it."""
    return [(seconds, cost / best - 1.0) for seconds, cost in trace if cost > best]


def ceres_trace(table, min_gain_ratio=1e-3):
    """The trace in the table that Ceres prints, one row a step.

    Its columns are the step, cost, change of the cost, ‖g‖, ‖δ‖, gain ratio, radius, inner iterations, and the seconds
    of this step and of all so far, preprocessing included. The latter have three digits only, so the former are added up.
    A step whose gain ratio is not above the least one was rejected: its row shows the cost of the trial point.
    """
    trace = []
    for line in table.splitlines():
        columns = line.split()
        if len(columns) != 10 or not columns[0].isdigit():
            continue
        now, gain_ratio, seconds, so_far = (float(columns[i]) for i in (1, 5, 8, 9))
        if not trace:
            trace.append((so_far, now))
        else:
            trace.append((trace[-1][0] + seconds, now if gain_ratio > min_gain_ratio else trace[-1][1]))
    return trace
