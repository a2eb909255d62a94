"""The contract of damping strategies as a check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import numpy.typing as npt

from sparselm.damping.base import AbstractDamping
from sparselm.driver import solve
from sparselm.linear_solvers.base import AbstractLinearSolver, Failure, Need, SolveFacts
from sparselm.linear_solvers.dense_cholesky import DenseCholesky
from sparselm.manifolds.base import AbstractManifold
from sparselm.manifolds.euclidean import Euclidean
from sparselm.problem import Problem
from sparselm.residuals.base import AbstractResidual, OperandBlocks
from sparselm.result import Result
from sparselm.termination import Status

Array = npt.NDArray[np.float64]


def check_damping(damping: AbstractDamping) -> None:
    """Check a damping strategy against the contract of :class:`~sparselm.damping.base.AbstractDamping`.

    Checked: it minimises a curved problem (Rosenbrock's) unless it gives up honestly; its predictions agree with the
    model's; no accepted step raises the cost in the end; it recovers from trial points that are not finite by shorter
    steps, or ends; it ends when no factorisation ever works; its state is in what it returns (two solves, one inside
    the other, are what each is alone); the instance itself does not change.

    Raises
    ------
    AssertionError
        Naming what does not hold.

    Examples
    --------
    >>> from sparselm.damping import Nielsen
    >>> check_damping(Nielsen())
    """
    before = repr(damping)
    alone = _solve(damping, _valley())
    _require(damping, alone.final_cost <= alone.initial_cost, "the final cost exceeds the initial one")
    _require(
        damping,
        alone.final_cost <= 1e-8 or alone.status is Status.STALLED,
        f"Rosenbrock's valley ends at {alone.final_cost:.3g} with status {alone.status.name}",
    )
    _check_gain_ratios(damping, alone)
    nested: list[Result] = []

    def inner(item: Any) -> None:
        if item.iteration == 2 and not nested:
            nested.append(_solve(damping, _valley()))

    outer = solve(
        _valley(), damping=damping, linear_solver=DenseCholesky(), max_iterations=500, function_tolerance=0.0,
        callback=inner,
    )  # fmt: skip
    for other in (outer, *nested):
        _require(
            damping,
            [i.cost for i in other.iterations] == [i.cost for i in alone.iterations],
            "two solves with one instance disturb each other: keep what changes in the state",
        )
    cliff = _solve(damping, _cliff())
    _require(damping, np.isfinite(cliff.final_cost), "the cost is not finite after invalid trial points")
    _require(damping, cliff.final_cost <= cliff.initial_cost, "the cost rises after invalid trial points")
    broken = solve(_valley(), damping=damping, linear_solver=_NeverFactorizes(), max_iterations=500)
    _require(damping, broken.num_accepted == 0, "a step was accepted although no factorisation worked")
    _require(damping, broken.num_iterations < 500, "it does not end when no factorisation works")
    _require(damping, repr(damping) == before, "the instance changed: keep what changes in the state")


def _solve(damping: AbstractDamping, problem: Problem) -> Result:
    return solve(
        problem, damping=damping, linear_solver=DenseCholesky(), max_iterations=500, function_tolerance=0.0
    )


def _check_gain_ratios(damping: AbstractDamping, result: Result) -> None:
    for item in result.iterations[1:]:
        if item.accepted:
            _require(
                damping,
                item.gain_ratio > 0 or item.cost_change < 0,
                f"iteration {item.iteration}: accepted with gain ratio {item.gain_ratio}: the predicted reduction must be "
                "positive where the cost goes down",
            )


def _require(damping: AbstractDamping, holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(f"{damping!r}: {what}")


@final
@dataclass(frozen=True)
class _Function(AbstractResidual):
    """Rosenbrock's valley r = (10 (y − x²), 1 − x), or the cliff r = (log x, log y), not finite at x ≤ 0."""

    cliff: bool = False

    @property
    def dim(self) -> int:
        return 2

    @property
    def manifolds(self) -> tuple[AbstractManifold, ...]:
        return (Euclidean(2),)

    def evaluate(self, blocks: Sequence[OperandBlocks], data: Sequence[Array], r: Array) -> None:
        values = blocks[0].values[blocks[0].index]
        x, y = values[:, 0], values[:, 1]
        if self.cliff:
            r[:] = np.where(values > 0, np.log(np.where(values > 0, values, 1.0)), np.nan)
        else:
            r[:, 0], r[:, 1] = 10.0 * (y - x * x), 1.0 - x

    def linearize(
        self,
        blocks: Sequence[OperandBlocks],
        data: Sequence[Array],
        columns: npt.NDArray[np.int32],
        r: Array,
        J: Array,
    ) -> None:
        self.evaluate(blocks, data, r)
        values = blocks[0].values[blocks[0].index]
        J[:] = 0.0
        if self.cliff:
            J[:, 0, 0], J[:, 1, 1] = 1.0 / values[:, 0], 1.0 / values[:, 1]
        else:
            J[:, 0, 0], J[:, 0, 1], J[:, 1, 0] = -20.0 * values[:, 0], 10.0, -1.0


def _valley() -> Problem:
    problem = Problem()
    problem.add_residuals(_Function(), problem.add_variables("x", [[-1.2, 1.0]]))
    return problem


def _cliff() -> Problem:
    problem = Problem()
    problem.add_residuals(_Function(cliff=True), problem.add_variables("x", [[5.0, 30.0]]))
    return problem


@final
@dataclass(frozen=True)
class _NeverFactorizes(AbstractLinearSolver):
    needs: ClassVar[frozenset[Need]] = frozenset({Need.OPERATOR})

    def analyze(self, structure: Any, previous: Any = None) -> Any:
        return structure

    def prepare(self, plan: Any, linearization: Any) -> Any:
        return plan

    def factorize(self, system: Any, damping: Array) -> Failure:
        return Failure("this solver always fails", 0)

    def solve(
        self, factor: Any, rhs: Array, out: Array, *, tolerance: float | None = None, guess: Array | None = None
    ) -> SolveFacts:
        raise AssertionError("solve must not be called with a Failure")
