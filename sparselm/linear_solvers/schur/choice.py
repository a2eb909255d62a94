"""Which variable blocks are eliminated before all others, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sparselm.errors import SolverError

if TYPE_CHECKING:
    from sparselm.structure import Structure

BoolArray = npt.NDArray[np.bool_]

# Largest block that is eliminated: each is factorised by a loop over its columns, of which larger ones want another kernel.
MOST_COLUMNS = 6

# A group of variables is worth eliminating where that takes at least so large a part of all columns.
LEAST_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Choice:
    """The eliminated blocks.

    Attributes
    ----------
    eliminated : (num_blocks,) bool
    names : tuple of str
        Variable groups that they belong to.
    reason : str
        One sentence.
    """

    eliminated: BoolArray
    names: tuple[str, ...]
    reason: str


def choose_eliminated(structure: Structure, names: Sequence[str] | None = None) -> Choice:
    """Variable blocks that no residual block connects with one another.

    Of the variable groups whose blocks have at most ``MOST_COLUMNS`` columns, the one with the most columns is taken, then
    the next one that nothing connects with those taken, and so on. Of a group that residual blocks do connect within, the
    blocks that they touch are left out.

    Parameters
    ----------
    structure
    names
        Variable groups to choose from, instead of all; what cannot be eliminated of them is an error.

    Raises
    ------
    SolverError
        The names are one string, one of them is unknown, a group's blocks are too large or all connected, or two groups
        are connected.
    """
    if isinstance(names, str):
        raise SolverError(f"eliminate: expected a sequence of names such as ({names!r},), got the string {names!r}")
    eliminated = np.zeros(structure.num_blocks, dtype=bool)
    known = [layout.name for layout in structure.variables]
    for name in names or ():
        if name not in known:
            raise SolverError(f"eliminate: there are no variables {name!r}, expected some of {', '.join(known)}")
    columns = [layout.stop - layout.start for layout in structure.variables]
    chosen: list[int] = []
    for number in np.argsort(columns, kind="stable")[::-1]:
        layout = structure.variables[number]
        wanted = names is None or layout.name in names
        if not wanted or columns[number] == 0:
            continue
        other = _connected_with(structure, int(number), chosen)
        blocks = _alone(structure, int(number))
        problem = None
        if layout.tangent_dim > MOST_COLUMNS:
            problem = f"its blocks have {layout.tangent_dim} columns, expected at most {MOST_COLUMNS}"
        elif other is not None:
            problem = f"residual blocks connect it with {structure.variables[other].name!r}, which is eliminated as well"
        elif not len(blocks):
            problem = "residual blocks connect every one of its blocks with others of it"
        if problem is None:
            eliminated[blocks] = True
            chosen.append(int(number))
        elif names is not None:
            raise SolverError(f"eliminate: {layout.name!r} cannot be eliminated: {problem}")
    found = tuple(structure.variables[number].name for number in sorted(chosen))
    return Choice(eliminated, found, _reason(structure, eliminated, found, asked=names is not None))


def is_worthwhile(structure: Structure, choice: Choice) -> bool:
    """Whether enough columns are eliminated for it to pay, and some are left."""
    sizes = np.diff(structure.block_columns)
    share = float(sizes[choice.eliminated].sum()) / max(structure.num_columns, 1)
    return LEAST_SHARE <= share < 1.0


def _alone(structure: Structure, number: int) -> npt.NDArray[np.int32]:
    """Blocks of a variable group that share no residual block with another one, or a second time, of the group."""
    layout = structure.variables[number]
    connected = np.zeros(layout.num_rows, dtype=bool)
    for span in structure.spans:
        own = [o for o in span.operands if o.variables == number and o.width]
        if len(own) > 1:
            for operand in own:
                connected[operand.index] = True
    blocks = layout.block[~connected]
    return blocks[blocks >= 0]


def _connected_with(structure: Structure, number: int, chosen: Sequence[int]) -> int | None:
    """One of the chosen groups that a residual block touches together with this one."""
    for span in structure.spans:
        touched = {o.variables for o in span.operands if o.width}
        if number in touched:
            for other in chosen:
                if other in touched:
                    return other
    return None


def _reason(structure: Structure, eliminated: BoolArray, names: Sequence[str], *, asked: bool) -> str:
    if not names and asked:
        return "nothing is eliminated, as asked"
    if not names:
        return "nothing is eliminated: no variable group has small blocks that residual blocks leave unconnected"
    sizes = np.diff(structure.block_columns)
    what = " and ".join(names)
    why = "as asked" if asked else "their blocks are small and no residual block connects two of them"
    columns = int(sizes[eliminated].sum())
    of = f"{columns} of {structure.num_columns} columns"
    return f"{int(eliminated.sum())} blocks of {what} are eliminated, {of}: {why}"
