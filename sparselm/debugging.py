"""A residual block run as plain Python, where a debugger and print can follow it."""

from __future__ import annotations

from typing import Any

from sparselm.errors import ProblemError
from sparselm.problem import ResidualGroup
from sparselm.residuals.autodiff import AutodiffResidual


def debug(group: ResidualGroup, block: int) -> Any:
    """Run a residual function on one block of a problem as plain Python: with breakpoints, print and tracebacks.

    It gets what the compiled one would get: the operands' current values and the block's data, as tuples of numbers. What
    is computed per row (``@function.prepare``) is run as well.

    Parameters
    ----------
    group : ResidualGroup
        What ``Problem.add_residuals`` returned for a function decorated with :func:`sparselm.residual`.
    block : int
        Number of the block, as reports and errors name it.

    Returns
    -------
    float or tuple
        What the function returns: the residual before weight and loss.

    Raises
    ------
    ProblemError
        Where the group's residual is no such function, or has no such block.

    Examples
    --------
    >>> import sparselm as slm
    >>> @slm.residual(dim=1)
    ... def difference(x, measured):
    ...     print("x is", x)
    ...     return x[0] - measured
    >>> difference.function((3.0,), 1.0)
    x is (3.0,)
    2.0

    A function with ``print`` in it is not compiled: take it out again before ``add_residuals``, or keep it for calls such as
    the one above.

    >>> @slm.residual(dim=1)
    ... def difference(x, measured):
    ...     return x[0] - measured
    >>> problem = slm.Problem()
    >>> x = problem.add_variables("x", [[3.0], [5.0]])
    >>> group = problem.add_residuals(difference, x, data=[1.0, 1.5])
    >>> slm.debug(group, 1)
    3.5
    """
    residual = group.residual
    if not isinstance(residual, AutodiffResidual):
        raise ProblemError(
            f"residual group {group.name!r} is a {type(residual).__name__}; slm.debug runs functions made by @slm.residual"
        )
    if not 0 <= block < group.num_blocks:
        raise ProblemError(f"residual group {group.name!r} has no block {block}, it has 0 … {group.num_blocks - 1}")
    operands = [o.variables.values[o.index[block]] for o in group.operands]
    return residual.plain(operands, [array[block] for array in group.data])
