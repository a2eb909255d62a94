"""From a Problem to a Result: picks the parts, minds threads, Ctrl-C and the clock, and runs Levenberg–Marquardt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from sparselm.damping.base import AbstractDamping
from sparselm.damping.nielsen import Nielsen
from sparselm.errors import ProblemError, SolverError
from sparselm.evaluator import Evaluator
from sparselm.interrupt import deferred_interrupt
from sparselm.levenberg_marquardt import levenberg_marquardt
from sparselm.linear_solvers.auto import choose_linear_solver
from sparselm.linear_solvers.base import AbstractLinearSolver
from sparselm.model import QuadraticModel
from sparselm.problem import Problem
from sparselm.result import BlockCost, Callback, Recorder, Result, Sizes
from sparselm.structure import Structure
from sparselm.termination import Status, Stopping
from sparselm.threads import limit_blas, use_threads
from sparselm.timing import PhaseClock

Array = npt.NDArray[np.float64]

# Entries of J up to which one thread does: a parallel loop costs 5 to 10 µs to start and end (and a thousand times that
# where another process keeps a core busy), and takes about that long for so many entries.
SERIAL_VALUES = 40_000

# Residual blocks named in a result as the largest shares of the cost.
NUM_WORST_BLOCKS = 5


@dataclass(frozen=True)
class Analysis:
    """The symbolic work of a problem, to be reused: structure, linear solver and its plan.

    Made by :func:`analyze`, taken by ``solve(…, analysis=…)`` while variables, groups and operands stay the same. One
    analysis must not be used by two solves at once.
    """

    structure: Structure
    linear_solver: AbstractLinearSolver
    reason: str
    plan: Any


def analyze(
    problem: Problem, *, linear_solver: AbstractLinearSolver | None = None, keep_held_columns: bool = False
) -> Analysis:
    """Do a problem's symbolic work once, for many solves.

    Between solves start values, bounds, data, weights, losses and held components may change; held components may be
    freed only if ``keep_held_columns`` was set.

    Raises
    ------
    ProblemError
        The problem has no variables or no residuals.
    SolverError
        The linear solver cannot work on it.
    """
    structure = Structure(problem, keep_held_columns=keep_held_columns)
    reason, found = "as asked", None
    if linear_solver is None:
        linear_solver, reason, found = choose_linear_solver(structure)
    if not isinstance(linear_solver, AbstractLinearSolver):
        raise SolverError(f"linear_solver must be an instance such as slm.Cholmod(), got {linear_solver!r}")
    plan = linear_solver.analyze(structure, found) if structure.num_columns else None
    return Analysis(structure, linear_solver, reason, plan)


def solve(
    problem: Problem,
    *,
    linear_solver: AbstractLinearSolver | None = None,
    damping: AbstractDamping | None = None,
    max_iterations: int = 100,
    time_limit: float | None = None,
    function_tolerance: float = 1e-6,
    gradient_tolerance: float = 1e-10,
    parameter_tolerance: float = 1e-8,
    num_threads: int | None = None,
    callback: Callback | None = None,
    analysis: Analysis | None = None,
) -> Result:
    r"""Minimise f(x) = ½ Σ_b ρ_b(‖W_b r_b(x)‖²) by the Levenberg–Marquardt method, from the variables' values.

    Residuals are evaluated within the variables' bounds only, to the last bit. The problem is left as it is;
    ``problem.update(result)`` takes the result over.

    Parameters
    ----------
    problem
    linear_solver
        Solver of (JᵀJ + D) δ = −Jᵀr; chosen by size and structure where None, and the result says why.
    damping
        Strategy that chooses steps; :class:`sparselm.Nielsen` where None.
    max_iterations
        Steps tried, accepted or not.
    time_limit
        Seconds of wall time.
    function_tolerance, gradient_tolerance, parameter_tolerance
        Stop after an accepted step with |Δf| ≤ ftol f, with ‖Jᵀr‖∞ ≤ gtol, or with ‖δ‖ ≤ ptol (‖x‖ + ptol). Where there
        are bounds, with P the projection into them, ‖x − P(x − Jᵀr)‖∞ stands for ‖Jᵀr‖∞.
    num_threads
        Threads of kernels and BLAS. By default all, but one for kernels where the problem is very small.
    callback
        Called with an :class:`sparselm.Iteration` at the start and after each step; a true return value or
        StopIteration ends the solve.
    analysis
        From :func:`analyze`, to skip the symbolic work.

    Returns
    -------
    Result
        With a status, never an exception, for numerical outcomes; Ctrl-C ends with the best iterate.

    Raises
    ------
    ProblemError, SolverError
        Misuse, before the first iteration; a start outside its bounds is one.
    NonFiniteStartError
        A residual block or its Jacobian is not finite at the start; the message names it, its operands and data.
    """
    clock = PhaseClock()
    with use_threads(num_threads) as threads, deferred_interrupt() as interrupted:
        with clock.phase("analyze"):
            if analysis is None:
                analysis = analyze(problem, linear_solver=linear_solver)
            elif linear_solver is not None and linear_solver != analysis.linear_solver:
                raise SolverError(f"the analysis was made for {analysis.linear_solver!r}, not for {linear_solver!r}")
            elif not analysis.structure.matches(problem):
                raise ProblemError("variables, groups or operands changed since the problem was analysed: analyze again")
            evaluator = Evaluator(problem, analysis.structure, analysis.linear_solver.jacobian_precision)
            model = QuadraticModel(evaluator, analysis.linear_solver, analysis.plan, clock)
        damping = Nielsen() if damping is None else damping
        if not isinstance(damping, AbstractDamping):
            raise SolverError(f"damping must be an instance such as slm.Nielsen(), got {damping!r}")
        stopping = Stopping(
            max_iterations=max_iterations,
            time_limit=math.inf if time_limit is None else time_limit,
            function_tolerance=function_tolerance,
            gradient_tolerance=gradient_tolerance,
            parameter_tolerance=parameter_tolerance,
            interrupted=interrupted,
        )
        if callback is not None and not callable(callback):
            raise SolverError(f"callback must be a function of an Iteration, got {callback!r}")
        recorder = Recorder(clock, callback)
        if num_threads is None and analysis.structure.num_values <= SERIAL_VALUES:
            kernel_threads = 1
        else:
            kernel_threads = threads
        with limit_blas(threads), use_threads(kernel_threads):
            initial_remarks = evaluator.remarks()
            status = levenberg_marquardt(model, damping, stopping, recorder)
            return _result(problem, analysis, evaluator, recorder, status, damping, initial_remarks, kernel_threads, clock)


@dataclass(frozen=True)
class Evaluation:
    """A problem at its variables' values, from :func:`evaluate`.

    Attributes
    ----------
    cost : float
        ½ Σ ρ(‖W r‖²).
    residuals : dict of (n, dim)
        Whitened residuals W r of each group's blocks, before the loss, in the order they were added.
    block_costs : dict of (n,)
        ½ ρ(‖W r‖²) of each block.
    gradient : (num_columns,)
        Jᵀr over the free tangent components: variables in the order they were added, row by row.
    jacobian : csr_array (num_rows, num_columns)
        J, whitened and corrected for losses (Triggs), such that Jᵀr is the gradient with r likewise corrected. Its rows
        are in the order of the blocks unless some components are held.
    """

    cost: float
    residuals: dict[str, Array]
    block_costs: dict[str, Array]
    gradient: Array
    jacobian: sp.csr_array


def evaluate(problem: Problem) -> Evaluation:
    """Evaluate cost, residuals, gradient and Jacobian at the variables' values, without a step.

    Blocks that are not finite are NaN in the outcome; nothing is raised.

    Examples
    --------
    >>> import sparselm as slm
    >>> problem = slm.Problem()
    >>> x = problem.add_variables("x", [[3.0]])
    >>> _ = problem.add_residuals(slm.Prior(slm.Euclidean(1)), x, data=[[1.0]], information=4.0, name="prior")
    >>> found = slm.evaluate(problem)
    >>> found.cost, found.residuals["prior"], found.gradient
    (8.0, array([[4.]]), array([8.]))
    """
    evaluator = Evaluator(problem, Structure(problem))
    linearization = evaluator.linearize()
    names = [group.name for group in problem.residuals]
    return Evaluation(
        cost=linearization.cost,
        residuals=dict(zip(names, evaluator.block_residuals(), strict=True)),
        block_costs=dict(zip(names, evaluator.block_costs(), strict=True)),
        gradient=linearization.gradient,
        jacobian=linearization.jacobian(),
    )


def _result(
    problem: Problem,
    analysis: Analysis,
    evaluator: Evaluator,
    recorder: Recorder,
    status: Status,
    damping: AbstractDamping,
    initial_remarks: dict[str, int],
    num_threads: int,
    clock: PhaseClock,
) -> Result:
    """Sum up a finished solve, at the evaluator's point."""
    block_costs = evaluator.block_costs()
    structure, first, last = analysis.structure, recorder.iterations[0], recorder.iterations[-1]
    free = np.ones(structure.num_columns, dtype=bool) if evaluator.held is None else ~evaluator.held
    return Result(
        status=status,
        initial_cost=first.cost,
        final_cost=last.cost,
        gradient_max_norm=last.gradient_max_norm,
        num_at_bounds=0 if evaluator.box is None else evaluator.box.count_at_bounds(evaluator.point),
        iterations=tuple(recorder.iterations),
        sizes=Sizes(
            num_variable_blocks=int(np.logical_or.reduceat(free, structure.block_columns[:-1]).sum()) if len(free) else 0,
            num_parameters=int(free.sum()),
            num_bounded_parameters=0 if evaluator.box is None else evaluator.box.num,
            num_residual_blocks=sum(len(costs) for costs in block_costs),
            num_residuals=structure.num_rows,
        ),
        group_costs={g.name: float(c.sum()) for g, c in zip(problem.residuals, block_costs, strict=True)},
        worst_blocks=_worst_blocks(problem, block_costs),
        initial_remarks=initial_remarks,
        remarks=evaluator.remarks(),
        linear_solver=type(analysis.linear_solver).__name__,
        linear_solver_reason=analysis.reason,
        linear_solver_facts=analysis.linear_solver.describe(analysis.plan) if analysis.plan is not None else "",
        factor_nonzeros=recorder.factor_nonzeros,
        damping=type(damping).__name__,
        num_threads=num_threads,
        values={v.name: x for v, x in zip(problem.variables, evaluator.point, strict=True)},
        times=clock.times(),
    )


def _worst_blocks(problem: Problem, block_costs: list[Array]) -> tuple[BlockCost, ...]:
    found = []
    for group, costs in zip(problem.residuals, block_costs, strict=True):
        count = min(NUM_WORST_BLOCKS, len(costs))
        for block in np.argpartition(-costs, count - 1)[:count] if count else ():
            operands = ", ".join(f"{o.variables.name}[{o.index[block]}]" for o in group.operands)
            found.append(BlockCost(group.name, int(block), float(costs[block]), operands))
    return tuple(sorted(found, key=lambda item: -item.cost)[:NUM_WORST_BLOCKS])
