"""MINPACK's answer to a named problem, by way of SciPy, and a table of the Moré–Garbow–Hillstrom problems beside it.

``python -m problems.minpack [scale …]`` solves problems 1 to 19 from 1, 10 and 100 times their standard starts and prints
Markdown. Both get exact Jacobians and the same tolerances; a tick marks the minimum that the standard start leads to.
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
from scipy.optimize import OptimizeResult, least_squares

import problems
import sparselm as slm
from problems import mgh
from sparselm.errors import NonFiniteStartError
from sparselm.residuals.base import OperandBlocks
from sparselm.threads import use_threads

Array = npt.NDArray[np.float64]

# Stands for a residual that is not finite, which MINPACK does not know: larger than what it meets, its square finite.
_HUGE = 1e150

FUNCTION_TOLERANCE, PARAMETER_TOLERANCE, MOST = 1e-15, 1e-14, 2000


def minpack(problem: slm.Problem) -> OptimizeResult:
    """Solve a problem of one variable and one residual group by MINPACK's ``lmder``."""
    (group,) = problem.residuals
    (variables,) = problem.variables
    width = variables.manifold.ambient_dim
    columns = np.arange(width, dtype=np.int32)
    index = np.zeros(group.num_blocks, dtype=np.int32)
    r = np.empty((group.num_blocks, group.residual.dim))
    J = np.empty((*r.shape, width))

    def operands(x: Array) -> list[OperandBlocks]:
        return [OperandBlocks(x[None].copy(), index, np.empty((1, 0)))]

    def residual(x: Array) -> Array:
        group.residual.evaluate(operands(x), group.data, r)
        return np.nan_to_num(r.ravel(), nan=_HUGE, posinf=_HUGE, neginf=-_HUGE)

    def jacobian(x: Array) -> Array:
        group.residual.linearize(operands(x), group.data, columns, r, J)
        return np.nan_to_num(J.reshape(-1, width), nan=_HUGE, posinf=_HUGE, neginf=-_HUGE)

    # A parallel loop over so few blocks costs more than it saves.
    with np.errstate(over="ignore"), use_threads(1):
        return least_squares(
            residual, variables.values[0], jacobian, method="lm", x_scale="jac",
            ftol=FUNCTION_TOLERANCE, xtol=PARAMETER_TOLERANCE, gtol=1e-15, max_nfev=MOST,
        )  # fmt: skip


def table(scale: float) -> str:
    """Markdown: Σ r² of both, and how many steps (evaluations of MINPACK) it took."""
    lines = [
        f"| start ×{scale:g} | Σ r² at the minimum | sparselm | steps | | MINPACK | evaluations | |",
        "|---|---:|---:|---:|---|---:|---:|---|",
    ]
    for name, case in mgh.CASES.items():
        problem = case.problem(scale)
        theirs = minpack(problem)
        try:
            ours = slm.solve(problem, **problems.get(name).options)
            found = f"{2.0 * ours.final_cost:.6g} | {ours.num_iterations}"
            reached = case.is_reached(2.0 * ours.final_cost)
        except NonFiniteStartError:
            found, reached = "the start overflows |", False
        ticks = ["✓" if ok else "" for ok in (reached, case.is_reached(2.0 * theirs.cost))]
        lines.append(
            f"| {name} | {case.sum_of_squares:.6g} | {found} | {ticks[0]} | {2.0 * theirs.cost:.6g} | {theirs.nfev} | "
            f"{ticks[1]} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    for argument in sys.argv[1:] or ["1", "10", "100"]:
        print(table(float(argument)), end="\n\n", flush=True)
