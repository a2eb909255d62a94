"""The bounded components of a problem at its current point: what of them a step must heed, and how it is kept inside.

All arrays are compact, one value per bounded free component, and are worked on in chunks, so that temporaries stay small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparselm.bounds import active, check_box, check_inside, projected_gradient, step_limits
from sparselm.problem import Problem
from sparselm.structure import Structure, VariableLayout
from sparselm.variables import Variables

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
LongArray = npt.NDArray[np.int64]

# Components that are worked on at a time.
CHUNK = 2**15


@dataclass(frozen=True, slots=True)
class _Part:
    """A chunk of the bounded components, all of one variable group: where they stand in the compact arrays."""

    variables: int
    range: slice


class Box:
    """l ≤ x ≤ u at the current point, with the active set of the point and of the step in the making.

    Attributes
    ----------
    num : int
        Bounded components that are not held constant.
    """

    def __init__(self, parts: list[_Part], place: LongArray, column: LongArray, lower: Array, upper: Array) -> None:
        self.num = len(column)
        self._parts = parts
        self._place = place
        self._column = column
        self._lower, self._upper = lower, upper
        # How far a step may go down and up, and the gradient, of the current point.
        self._down, self._up, self._gradient = np.zeros(self.num), np.zeros(self.num), np.zeros(self.num)
        self._active = np.zeros(self.num, dtype=bool)
        # Components held in the present step, by how much they were moved, and their damping.
        self._pinned = np.zeros(self.num, dtype=bool)
        self._pinned_step, self._damping = np.zeros(self.num), np.zeros(self.num)

    # -- the point ------------------------------------------------------------------------------------------------------

    def move_to(self, point: Sequence[Array], gradient: Array) -> None:
        """Take in a new point and its gradient, and write x − P(x − g) over the bounded components of the gradient."""
        for part in self._parts:
            own, columns = part.range, self._column[part.range]
            x, lower, upper = self._values(point, part), self._lower[own], self._upper[own]
            g = gradient[columns]
            self._down[own], self._up[own] = step_limits(x, lower, upper)
            self._gradient[own] = g
            self._active[own] = active(x, g, lower, upper)
            # Clipping would hide that a derivative is infinite.
            gradient[columns] = np.where(np.isfinite(g), projected_gradient(x, g, lower, upper), np.nan)

    def reduce_gradient(self, gradient: Array) -> None:
        """Write the gradient as steps are to see it: 0 where the component is active."""
        for part in self._parts:
            gradient[self._column[part.range]] = np.where(self._active[part.range], 0.0, self._gradient[part.range])

    def settle(self, delta: Array, trial: Sequence[Array]) -> None:
        """Bring the trial point x ⊞ δ onto a bound, exactly, where δ goes all the way there or beyond."""
        for part in self._parts:
            own = part.range
            step, lower, upper = delta[self._column[own]], self._lower[own], self._upper[own]
            moved = self._values(trial, part)
            np.copyto(moved, upper, where=step >= self._up[own])
            np.copyto(moved, lower, where=step <= self._down[own])
            trial[part.variables].reshape(-1)[self._place[own]] = moved

    def count_at_bounds(self, point: Sequence[Array]) -> int:
        """Components that lie on a bound."""
        count = 0
        for part in self._parts:
            x = self._values(point, part)
            count += int(((x <= self._lower[part.range]) | (x >= self._upper[part.range])).sum())
        return count

    def _values(self, point: Sequence[Array], part: _Part) -> Array:
        values: Array = point[part.variables].reshape(-1)[self._place[part.range]]
        return values

    # -- the step -------------------------------------------------------------------------------------------------------

    def project(self, delta: Array) -> bool:
        """Shorten δ in place where x ⊞ δ would leave the bounds; True where it did."""
        changed = False
        for part in self._parts:
            columns, down, up = self._column[part.range], self._down[part.range], self._up[part.range]
            step = delta[columns]
            if ((step < down) | (step > up)).any():
                delta[columns] = np.clip(step, down, up)
                changed = True
        return changed

    def exceeded_by(self, delta: Array) -> bool:
        """True where x ⊞ δ would leave the bounds."""
        for part in self._parts:
            step = delta[self._column[part.range]]
            if ((step < self._down[part.range]) | (step > self._up[part.range])).any():
                return True
        return False

    def begin_step(self, damping: Array) -> None:
        """Pin the active components where they are: +∞ in D, whose own values are kept for :meth:`revise`."""
        self._damping[:] = 0.0
        np.copyto(self._pinned, self._active)
        self._pinned_step[:] = 0.0
        for part in self._parts:
            self._damping[part.range] = damping[self._column[part.range]]
        self.pin(damping)

    def pin(self, damping: Array) -> None:
        """Write +∞ into D where a component is pinned, and its own value elsewhere."""
        for part in self._parts:
            damping[self._column[part.range]] = np.where(self._pinned[part.range], np.inf, self._damping[part.range])

    def revise(self, delta: Array, JTJ_delta: Array) -> bool:
        """Pin at its bound what δ carries beyond, free what the damped model would rather move inwards; True if any."""
        changed = False
        for part in self._parts:
            own, columns = part.range, self._column[part.range]
            down, up, pinned, step = self._down[own], self._up[own], self._pinned[own], delta[columns]
            slope = self._gradient[own] + JTJ_delta[columns]
            # A damping that is infinite by itself belongs to a component that does not move.
            slope += np.where(np.isfinite(self._damping[own]), self._damping[own], 0.0) * step
            freed = pinned & (((step >= up) & (slope > 0.0)) | ((step <= down) & (slope < 0.0))) & (down < up)
            beyond = (step < down) | (step > up)
            if freed.any() or beyond.any():
                changed = True
                np.copyto(self._pinned_step[own], np.clip(step, down, up), where=beyond)
                self._pinned[own] = (pinned & ~freed) | beyond
        return changed

    def pinned_step(self, out: Array) -> None:
        """Write the step of the pinned components, 0 elsewhere."""
        out[:] = 0.0
        self.add_pinned_step(out)

    def add_pinned_step(self, delta: Array) -> None:
        """Write the step of the pinned components into δ."""
        for part in self._parts:
            pinned = self._pinned[part.range]
            delta[self._column[part.range][pinned]] = self._pinned_step[part.range][pinned]

    def add_active_gradient(self, out: Array) -> None:
        """Add what :meth:`reduce_gradient` took from the gradient."""
        for part in self._parts:
            hidden = self._active[part.range]
            out[self._column[part.range][hidden]] += self._gradient[part.range][hidden]


def make_box(problem: Problem, structure: Structure) -> Box | None:
    """The bounded components that have a column and are not held; None where there are none.

    Raises
    ------
    ProblemError
        A lower bound exceeds the upper one, or a start, held or not, lies outside.
    """
    parts: list[_Part] = []
    found: list[tuple[LongArray, LongArray, Array, Array]] = []
    total = 0
    for number, (variables, layout) in enumerate(zip(problem.variables, structure.variables, strict=True)):
        if variables.lower is None and variables.upper is None:
            continue
        own = _bounded(variables, layout)
        count = len(own[0])
        found.append(own)
        parts += [
            _Part(number, slice(total + begin, total + min(begin + CHUNK, count))) for begin in range(0, count, CHUNK)
        ]
        total += count
    if not total:
        return None
    place, column, lower, upper = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return Box(parts, place, column, lower, upper)


def _bounded(variables: Variables, layout: VariableLayout) -> tuple[LongArray, LongArray, Array, Array]:
    """Of one variable group: flat place among its values, column, lower and upper bound of each bounded component."""
    values = variables.values
    lower = np.full_like(values, -np.inf) if variables.lower is None else variables.lower
    upper = np.full_like(values, np.inf) if variables.upper is None else variables.upper
    check_box(variables.name, lower, upper)
    check_inside(variables.name, values, lower, upper)
    rows, components = np.nonzero((lower > -np.inf) | (upper < np.inf))
    tangents = variables.manifold.additive()[components]
    if variables.fixed is not None:
        free = ~variables.fixed[rows, tangents]
        rows, components, tangents = rows[free], components[free], tangents[free]
    if layout.present is None:
        column = layout.column[rows] + tangents
    else:
        column = (layout.start - 1 + np.cumsum(layout.present.reshape(-1)))[rows * layout.tangent_dim + tangents]
    return rows * values.shape[1] + components, column, lower[rows, components], upper[rows, components]
