"""Jacobians of a problem's residual groups against differences, at the variables' values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sparselm.errors import ProblemError
from sparselm.problem import Problem, ResidualGroup
from sparselm.residuals._comparison import compare_jacobians
from sparselm.residuals._differences import NumericJacobian, ResidualBlocks, numeric_jacobian

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Share of a column that the differences must tell for the column to count as checked.
_TOLD = 1e-2


@dataclass(frozen=True)
class JacobianEntry:
    """One entry of one block's Jacobian beside its numeric value.

    Attributes
    ----------
    block : int
        Number of the block in its group.
    operand : int
    variables : str
        Name of the operand's variables.
    row : int
        Row of the variables.
    component : int
        Of the residual.
    tangent : int
        Component of the operand's tangent.
    given, numeric : float
        The residual's own value and that of the differences.
    uncertainty : float
        What the numeric value may be off by.
    relative_error : float
        Of the entry; that of an entry below a millionth of its column counts against the column.
    """

    block: int
    operand: int
    variables: str
    row: int
    component: int
    tangent: int
    given: float
    numeric: float
    uncertainty: float
    relative_error: float

    def __str__(self) -> str:
        return (
            f"block {self.block}, ∂r[{self.component}]/∂δ[{self.tangent}] of operand {self.operand} = "
            f"{self.variables}[{self.row}]: Jacobian {self.given:.10g}, differences {self.numeric:.10g} ± "
            f"{self.uncertainty:.1g}"
        )


@dataclass(frozen=True)
class GroupJacobianReport:
    """What :func:`check_residual` found in one residual group.

    Attributes
    ----------
    group : str
    num_blocks, num_sampled : int
        Blocks in the group, and those looked at.
    num_not_finite : int
        Sampled blocks whose residual is not finite: nothing to compare.
    num_kinks : int
        Sampled blocks where some derivatives ahead and behind differ (an absolute value at zero, a branch); their other
        columns are compared.
    num_untold : int
        Sampled blocks with a column of which differences tell less than two digits; the rest is compared.
    worst : JacobianEntry, or None
        The entry with the largest relative error; None where nothing was compared.
    tolerance : float
    """

    group: str
    num_blocks: int
    num_sampled: int
    num_not_finite: int
    num_kinks: int
    num_untold: int
    worst: JacobianEntry | None
    tolerance: float

    @property
    def ok(self) -> bool:
        """True where no entry is off by more than the tolerance, and something was compared if there are blocks."""
        return self.num_blocks == 0 if self.worst is None else self.worst.relative_error <= self.tolerance


@dataclass(frozen=True)
class JacobianReport:
    """What :func:`check_residual` found; printed, it is a table.

    Attributes
    ----------
    groups : tuple of GroupJacobianReport
    """

    groups: tuple[GroupJacobianReport, ...]

    @property
    def ok(self) -> bool:
        """True where every group's Jacobian is right."""
        return all(group.ok for group in self.groups)

    def __str__(self) -> str:
        width = max([5, *(len(group.group) for group in self.groups)])
        lines = [f"{'group':{width}}  {'blocks':>20}  {'worst error':>11}"]
        for group in self.groups:
            blocks = f"{group.num_sampled} of {group.num_blocks}"
            error = "-" if group.worst is None else f"{group.worst.relative_error:.1e}"
            lines.append(f"{group.group:{width}}  {blocks:>20}  {error:>11}  {'ok' if group.ok else 'WRONG'}")
            if group.worst is None and group.num_blocks:
                lines[-1] = lines[-1].replace("WRONG", "nothing could be compared")
            elif not group.ok:
                lines.append(f"    {group.worst}")
            for count, what in (
                (group.num_not_finite, "where the residual is not finite"),
                (group.num_kinks, "at a kink, where some derivatives do not exist"),
                (group.num_untold, "with a column too small beside the rounding of r for differences to tell"),
            ):
                if count:
                    lines.append(f"    {count} of these blocks {what}")
        return "\n".join(lines)


def check_residual(
    what: Problem | ResidualGroup,
    *,
    num_blocks: int = 100,
    seed: int = 0,
    tolerance: float = 1e-6,
    quiet: bool = False,
) -> JacobianReport:
    """Compare Jacobians with differences r(x ⊞ ±h e_k) along each tangent component, at the variables' values.

    Differences are extrapolated over a ladder of steps and come with an estimate of their error, by truncation and by
    rounding; only what lies beyond it is held against the Jacobian. Residuals are neither whitened nor robust here, and
    components that are held constant are checked too.

    Parameters
    ----------
    what
        A problem, or one group of it.
    num_blocks
        Blocks sampled from each group, without replacement; all where there are fewer.
    seed
        Of the sample.
    tolerance
        Relative error up to which an entry is right. A Jacobian that is itself by differences deserves 10⁻³: it is good
        to some 10⁻¹⁰ of a column, which is little of its small entries.
    quiet
        Print nothing.

    Returns
    -------
    JacobianReport
        ``report.ok``, and for each group the worst entry and the blocks that could not be compared.

    Raises
    ------
    ProblemError
        Where ``what`` is something else, or there is nothing to check.

    See Also
    --------
    sparselm.testing.check_residual : for authors of residuals, the contract of a residual class, at random points.

    Examples
    --------
    >>> import numpy as np
    >>> import sparselm as slm
    >>> problem = slm.Problem()
    >>> x = problem.add_variables("x", [[1.0, 2.0], [3.0, 0.5]])
    >>> def area(x):
    ...     return x[:, 0] * x[:, 1]
    >>> def wrong(x):
    ...     return np.stack([x[:, 1], -x[:, 0]], axis=1)[:, None, :]
    >>> _ = problem.add_residuals(slm.BatchResidual(area, 1, jac=wrong), x)
    >>> report = slm.check_residual(problem)
    group                blocks  worst error
    area                 2 of 2      2.0e+00  WRONG
        block 0, ∂r[0]/∂δ[1] of operand 0 = x[0]: Jacobian -1, differences 1 ± 7e-13
    >>> report.groups[0].worst.tangent
    1
    """
    if isinstance(what, ResidualGroup):
        groups = [what]
    elif isinstance(what, Problem):
        groups = what.residuals
    else:
        raise ProblemError(
            f"slm.check_residual takes a Problem or a residual group of one, got {type(what).__name__}; a residual alone "
            "is checked by sparselm.testing.check_residual"
        )
    if not groups:
        raise ProblemError("slm.check_residual: the problem has no residual groups")
    if num_blocks < 1:
        raise ProblemError(f"slm.check_residual: num_blocks must be at least 1, got {num_blocks}")
    rng = np.random.default_rng(seed)
    report = JacobianReport(tuple(_check_group(group, num_blocks, rng, tolerance) for group in groups))
    if not quiet:
        print(report)
    return report


def _check_group(group: ResidualGroup, num_blocks: int, rng: np.random.Generator, tolerance: float) -> GroupJacobianReport:
    sample = np.sort(rng.choice(group.num_blocks, min(num_blocks, group.num_blocks), replace=False))
    blocks = ResidualBlocks(
        residual=group.residual,
        manifolds=[operand.variables.manifold for operand in group.operands],
        points=[operand.variables.values[operand.index[sample]] for operand in group.operands],
        data=[array[sample] for array in group.data],
    )
    r, J = blocks.linearize()
    numeric = numeric_jacobian(blocks)
    finite = np.asarray(np.isfinite(r).all(axis=1))
    kinks = np.asarray(numeric.kinks.any(axis=1))
    relative = compare_jacobians(J, numeric.values, numeric.errors)
    relative[~finite] = np.nan
    relative[np.broadcast_to(kinks[:, None], relative.shape)] = np.nan
    untold = _untold(J, numeric) & ~kinks
    return GroupJacobianReport(
        group=group.name,
        num_blocks=group.num_blocks,
        num_sampled=len(sample),
        num_not_finite=int((~finite).sum()),
        num_kinks=int((kinks.any(axis=1) & finite).sum()),
        num_untold=int((untold.any(axis=1) & finite).sum()),
        worst=_worst(group, sample, J, numeric, relative),
        tolerance=tolerance,
    )


def _untold(J: Array, numeric: NumericJacobian) -> npt.NDArray[np.bool_]:
    """Columns ``(n, width)`` of which the differences tell too little, be it only that they are zero."""
    size = np.max(np.fmax(np.abs(J), np.abs(numeric.values)), axis=1)
    error = np.max(numeric.errors, axis=1)
    return np.asarray((error > _TOLD * size) & ((size > 0.0) | np.isinf(error)))


def _worst(
    group: ResidualGroup, sample: IntArray, J: Array, numeric: NumericJacobian, relative: Array
) -> JacobianEntry | None:
    if np.isnan(relative).all():
        return None
    where: Any = np.unravel_index(np.nanargmax(relative), relative.shape)
    b, component, column = (int(i) for i in where)
    ends = np.cumsum([operand.variables.manifold.tangent_dim for operand in group.operands])
    number = int(np.searchsorted(ends, column, side="right"))
    operand = group.operands[number]
    return JacobianEntry(
        block=int(sample[b]),
        operand=number,
        variables=operand.variables.name,
        row=int(operand.index[sample[b]]),
        component=component,
        tangent=column - int(ends[number] - operand.variables.manifold.tangent_dim),
        given=float(J[where]),
        numeric=float(numeric.values[where]),
        uncertainty=float(numeric.errors[where]),
        relative_error=float(relative[where]),
    )
