r"""Boxes l ≤ x ≤ u, on flat arrays: which bounds are active, how far from optimal a point is, steps that stay inside.

First-order optimality of min f(x) over a box reads x = P(x − g), with g = ∇f(x) and P the componentwise projection
P(y) = min(max(y, l), u). A component is *active* where it lies on a bound and −g points out of the box: no small step
along it descends. Bounds are ±inf where there is none, and l = u holds a component.

Steps are bounded through the largest floating-point numbers up ≤ u − x and −down ≤ x − l for which x + up and x + down,
*as rounded*, do not leave the box: u − x rounds, and x + (u − x) may exceed u.

References
----------
Bertsekas (1982), Projected Newton methods for optimization problems with simple constraints, SIAM J. Control Optim.
20 (2); Nocedal and Wright (2006), Numerical Optimization, section 16.7.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sparselm.errors import ProblemError

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def active(x: Array, g: Array, lower: Array, upper: Array) -> BoolArray:
    """Mask of the components that lie on a bound out of which −g points, and of those with lower = upper.

    Parameters
    ----------
    x, g, lower, upper
        A point in the box, the gradient there, and the box; all of one shape.
    """
    mask: BoolArray = ((x <= lower) & (g > 0.0)) | ((x >= upper) & (g < 0.0)) | (lower == upper)
    return mask


def projected_gradient(x: Array, g: Array, lower: Array, upper: Array) -> Array:
    """Return x − P(x − g): zero where and only where x is first-order optimal in the box, and g where nothing bounds it.

    Examples
    --------
    >>> import numpy as np
    >>> x, g = np.array([0.0, 0.0, 0.5]), np.array([3.0, -3.0, 3.0])
    >>> projected_gradient(x, g, np.zeros(3), np.full(3, np.inf)).tolist()
    [0.0, -3.0, 0.5]
    """
    with np.errstate(over="ignore"):
        # The same number without the cancellation of x − (x − g).
        projected: Array = np.clip(g, x - upper, x - lower)
    return projected


def step_limits(x: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Return down ≤ 0 ≤ up such that lower ≤ x + δ ≤ upper, as rounded, for all down ≤ δ ≤ up."""
    with np.errstate(over="ignore"):
        down, up = lower - x, upper - x
        # Where the difference was rounded outwards, the next number inwards is below the exact one.
        outside = x + up > upper
        up[outside] = np.nextafter(up[outside], -np.inf)
        outside = x + down < lower
        down[outside] = np.nextafter(down[outside], np.inf)
    return down, up


def project_step(x: Array, delta: Array, lower: Array, upper: Array) -> bool:
    """Shorten δ in place, component by component, until lower ≤ x + δ ≤ upper as rounded; True where that changed it.

    Examples
    --------
    >>> import numpy as np
    >>> delta = np.array([-2.0, 0.25])
    >>> project_step(np.ones(2), delta, np.zeros(2), np.full(2, np.inf)), delta.tolist()
    (True, [-1.0, 0.25])
    """
    down, up = step_limits(x, lower, upper)
    changed = bool(((delta < down) | (delta > up)).any())
    if changed:
        np.clip(delta, down, up, out=delta)
    return changed


def as_bound(name: str, side: str, bound: npt.ArrayLike | None, shape: tuple[int, int], additive: BoolArray) -> Array | None:
    """Bring a bound of variables to ``(n, ambient_dim)``, read-only; None where it bounds nothing.

    Parameters
    ----------
    name
        Of the variables, for messages.
    side
        ``"lower"`` or ``"upper"``.
    bound
        A number, ``(ambient_dim,)`` or ``(n, ambient_dim)``; also ``(n,)`` where ambient_dim is 1.
    shape
        (n, ambient_dim).
    additive
        ``(ambient_dim,)`` mask of the components on which a step is an addition; no other can be bounded.

    Raises
    ------
    ProblemError
        A shape that does not fit, a NaN, or a bound on a component that cannot have one.
    """
    if bound is None:
        return None
    n, ambient_dim = shape
    array = np.array(bound, dtype=np.float64)
    if ambient_dim == 1 and array.shape == (n,):
        array = array.reshape(n, 1)
    if array.shape not in ((), (ambient_dim,), shape):
        raise ProblemError(
            f"variables {name!r}: {side} has shape {array.shape}, expected (), ({ambient_dim},) or {shape} = "
            "(n, ambient_dim)"
        )
    full = np.broadcast_to(array, shape)
    if np.isnan(array).any():
        row, component = np.argwhere(np.isnan(full))[0]
        raise ProblemError(
            f"variables {name!r}: {side} of row {row}, component {component} is NaN; ±inf stands for no bound"
        )
    bounded = full > -np.inf if side == "lower" else full < np.inf
    if not bounded.any():
        return None
    wrong = np.flatnonzero(bounded.any(axis=0) & ~additive)
    if len(wrong):
        component = wrong[0]
        row = np.flatnonzero(bounded[:, component])[0]
        raise ProblemError(
            f"variables {name!r}: {side} of component {component} is {full[row, component]} in row {row}, but a step does "
            "not simply add to this component of the manifold, so it cannot be bounded: give infinity there, or put "
            "bounded numbers into a Euclidean factor, as in Product(SO3(), Euclidean(3))"
        )
    return full


def check_box(name: str, lower: Array | None, upper: Array | None) -> None:
    """Raise where a lower bound exceeds the upper one."""
    if lower is None or upper is None:
        return
    crossed = np.argwhere(lower > upper)
    if len(crossed):
        row, component = crossed[0]
        raise ProblemError(
            f"variables {name!r}: row {row}, component {component} has lower = {lower[row, component]} above upper = "
            f"{upper[row, component]} ({len(crossed)} such components); equal bounds hold a component"
        )


def check_inside(name: str, values: Array, lower: Array, upper: Array) -> None:
    """Raise where a start lies outside its bounds; all three ``(n, ambient_dim)``."""
    outside = np.argwhere((values < lower) | (values > upper))
    if len(outside):
        row, component = outside[0]
        raise ProblemError(
            f"variables {name!r}: row {row}, component {component} starts at {values[row, component]}, outside its bounds "
            f"[{lower[row, component]}, {upper[row, component]}] ({len(outside)} such components); widen the bounds, or "
            "move the start inside: variables.values = np.clip(variables.values, variables.lower, variables.upper)"
        )
