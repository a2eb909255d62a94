"""The nonlinear least squares problems of Moré, Garbow and Hillstrom, and chains of them that are sparse.

``problems.get(name).build(scale=10.0)`` starts at ten times the standard start, as the paper proposes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import sparselm as slm
from problems import mgh
from problems.base import NamedProblem
from sparselm.damping.base import AbstractDamping

_PATIENT = {"max_iterations": 2000, "function_tolerance": 1e-15, "parameter_tolerance": 1e-14}

_CAVEATS = {
    "brown-dennis": "damping scaled by the current diagonal of JᵀJ creeps along a curved valley for thousands of steps; by "
    "its running maximum (Moré) it takes some hundreds",
}


@slm.residual(dim=2)
def rosenbrock_link(x, after):
    """A link of Σ 100 (x_{i+1} − x_i²)² + (1 − x_i)²."""
    return 10.0 * (after[0] - x[0] ** 2), 1.0 - x[0]


@slm.residual(dim=1)
def broyden_row(before, x, after):
    """30: (3 − 2x_i) x_i − x_{i−1} − 2x_{i+1} + 1."""
    return (3.0 - 2.0 * x[0]) * x[0] - before[0] - 2.0 * after[0] + 1.0


def _rosenbrock_chain(count: int, scale: float) -> slm.Problem:
    problem = slm.Problem()
    x = problem.add_variables("x", np.full((count, 1), 0.5 * scale))
    first = np.arange(count - 1)
    problem.add_residuals(rosenbrock_link, x[first], x[first + 1], name="link")
    return problem


def _broyden_tridiagonal(count: int, scale: float) -> slm.Problem:
    """With zeros held constant at both ends."""
    problem = slm.Problem()
    start = np.full((count + 2, 1), -1.0 * scale)
    start[[0, -1]] = 0.0
    x = problem.add_variables("x", start)
    x.fix([0, count + 1])
    middle = np.arange(1, count + 1)
    problem.add_residuals(broyden_row, x[middle - 1], x[middle], x[middle + 1], name="row")
    return problem


def _named(
    name: str, build: Callable[..., slm.Problem], sum_of_squares: float, damping: AbstractDamping | None = None
) -> NamedProblem:
    return NamedProblem(
        name,
        "classical",
        build,
        optimum=0.5 * sum_of_squares,
        tolerance=1e-5 if sum_of_squares else 1e-9,
        options=_PATIENT if damping is None else _PATIENT | {"damping": damping},
        source="Moré, Garbow, Hillstrom 1981",
        caveat=_CAVEATS.get(name, ""),
    )


def _copies(name: str, count: int) -> NamedProblem:
    """The "extended" form: independent copies, a block-diagonal Jacobian."""
    case = mgh.CASES[name]
    return _named(f"{name}-{count}", lambda scale=1.0: case.problem(scale, count), count * case.sum_of_squares)


PROBLEMS = (
    *(_named(name, case.problem, case.sum_of_squares, slm.More()) for name, case in mgh.CASES.items()),
    _copies("rosenbrock", 1000),
    _copies("powell-singular", 1000),
    _copies("wood", 1000),
    _named("rosenbrock-chain-1000", lambda scale=1.0: _rosenbrock_chain(1000, scale), 0.0),
    _named("broyden-tridiagonal-1000", lambda scale=1.0: _broyden_tridiagonal(1000, scale), 0.0),
)
