"""The symbolic half of a problem, made once: which columns exist, how blocks are laid out, what touches what.

Columns of J are the free tangent components, variable group by variable group, row by row. Residual blocks of one group
that have the same free components form a *span*: one contiguous ``(n, dim, width)`` array inside the CSR value buffer,
which residual kernels write in place.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparselm.errors import ProblemError
from sparselm.gather import Gather, make_gather
from sparselm.problem import Problem, ResidualGroup
from sparselm.variables import Variables

IndexArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# More different patterns of free components than this and a group keeps the columns of its held components instead,
# which damping then holds at zero: many tiny spans would cost more than a few idle columns.
MAX_SIGNATURES = 16


@dataclass(frozen=True, slots=True)
class VariableLayout:
    """Where the rows of one variable group stand among the columns.

    Attributes
    ----------
    name : str
    tangent_dim : int
    present : (num_rows, tangent_dim) bool, or None
        Components that have a column; None where all do.
    column : (num_rows,) int64
        First column of each row, −1 where it has none.
    block : (num_rows,) int32
        Number of the row's variable block, −1 where it has no column.
    start, stop : int
        Range of columns of the group.
    """

    name: str
    num_rows: int
    tangent_dim: int
    present: BoolArray | None
    column: LongArray
    block: IndexArray
    start: int
    stop: int


class SpanOperand:
    """One operand of a span: columns ``start … start + width`` of its J belong to row ``index[b]`` of ``variables``."""

    def __init__(self, variables: int, layout: VariableLayout, start: int, width: int, index: IndexArray) -> None:
        self.variables = variables
        self.layout = layout
        self.start = start
        self.width = width
        self.index = index

    @functools.cached_property
    def gather(self) -> Gather:
        """The span's blocks sorted by the row they touch."""
        return make_gather(self.index, self.layout.num_rows)


@dataclass(frozen=True, slots=True)
class Span:
    """Residual blocks of one group with the same free components.

    Attributes
    ----------
    group : int
        Number of the residual group.
    order : (n,) int64, or None
        The group's own number of each block; None where they are all, in order.
    columns : (Σ tangent_dim,) int32
        Column in the span of each tangent component of each operand, −1 for none: what kernels are given.
    operands
        Those of width 0 (held constant) included.
    shared : tuple of (operand a, operand b, blocks)
        Blocks in which operands a < b are one and the same variable.
    """

    group: int
    order: LongArray | None
    num_blocks: int
    dim: int
    width: int
    row_start: int
    value_start: int
    columns: IndexArray
    operands: tuple[SpanOperand, ...]
    shared: tuple[tuple[int, int, IndexArray], ...]

    @property
    def rows(self) -> slice:
        return slice(self.row_start, self.row_start + self.num_blocks * self.dim)

    @property
    def values(self) -> slice:
        return slice(self.value_start, self.value_start + self.num_blocks * self.dim * self.width)

    def original_block(self, block: int) -> int:
        """The group's own number of a block of the span."""
        return block if self.order is None else int(self.order[block])


def _sizes(span: Span) -> tuple[int, ...]:
    return span.dim, *(operand.width for operand in span.operands)


class Structure:
    """All that does not depend on numbers. Data, weights, losses, start values and *further* held components may change.

    Parameters
    ----------
    problem
    keep_held_columns
        Give held components columns too, so that any component can be held or freed between solves.

    Attributes
    ----------
    num_rows, num_columns, num_values : int
        Shape of J and the length of its value buffer.
    block_columns : (num_blocks + 1,) int64
        Columns of each variable block (the free components of one row of one variable group).
    variables : tuple of VariableLayout
    spans : tuple of Span
    """

    def __init__(self, problem: Problem, *, keep_held_columns: bool = False) -> None:
        if not problem.variables or not problem.residuals:
            raise ProblemError("the problem has no variables or no residuals; add_variables and add_residuals first")
        self._manifolds = tuple(variables.manifold for variables in problem.variables)
        self._groups = tuple(_identity(problem, group) for group in problem.residuals)
        self.group_names = tuple(group.name for group in problem.residuals)
        keep = set(range(len(problem.variables))) if keep_held_columns else _too_many_signatures(problem)
        self.variables = _lay_out(problem.variables, keep)
        self.num_columns = self.variables[-1].stop
        sizes = np.concatenate([_block_sizes(layout) for layout in self.variables])
        self.block_columns = np.append(0, np.cumsum(sizes)).astype(np.int64)
        self.num_blocks = len(sizes)
        spans: list[Span] = []
        for number, group in enumerate(problem.residuals):
            _append_spans(spans, number, group, problem.variables, self.variables)
        self.spans = tuple(spans)
        self._alike: Counter[tuple[int, ...]] = Counter()
        for span in spans:
            self._alike[_sizes(span)] += span.num_blocks
        self.num_rows = spans[-1].rows.stop if spans else 0
        self.num_values = spans[-1].values.stop if spans else 0

    def num_alike(self, span: Span) -> int:
        """Residual blocks of all spans that have the same sizes as this one: which one kernel serves."""
        return self._alike[_sizes(span)]

    def matches(self, problem: Problem) -> bool:
        """True where the problem still has the variables, groups and operands that were analysed."""
        if len(problem.variables) != len(self.variables) or len(problem.residuals) != len(self._groups):
            return False
        same_variables = all(
            len(v) == layout.num_rows and v.manifold == manifold
            for v, layout, manifold in zip(problem.variables, self.variables, self._manifolds, strict=True)
        )
        return same_variables and all(
            dim == known_dim
            and numbers == known_numbers
            and all(index is known for index, known in zip(indices, known_indices, strict=True))
            for (dim, numbers, indices), (known_dim, known_numbers, known_indices) in zip(
                (_identity(problem, group) for group in problem.residuals), self._groups, strict=True
            )
        )

    def held_columns(self, problem: Problem) -> BoolArray | None:
        """Mask of the columns whose component is held now; None where there are none."""
        held = np.zeros(self.num_columns, dtype=bool)
        for variables, layout in zip(problem.variables, self.variables, strict=True):
            fixed = variables.fixed
            if layout.present is not None:
                freed = ~layout.present if fixed is None else ~layout.present & ~fixed
                if freed.any():
                    raise ProblemError(
                        f"variables {variables.name!r}: row {int(np.argwhere(freed)[0][0])} was held when the problem "
                        "was analysed and is free now; analyze again, with keep_held_columns=True to free and hold at will"
                    )
            if fixed is not None:
                held[layout.start : layout.stop] = (fixed if layout.present is None else fixed[layout.present]).ravel()
        return held if held.any() else None

    def describe_block(self, block: int) -> str:
        """A variable block in the user's terms: ``camera[3]``."""
        for layout in self.variables:
            rows = np.flatnonzero(layout.block == block)
            if block >= 0 and len(rows):
                return f"{layout.name}[{rows[0]}]"
        return "unknown block"

    def block_of_column(self, column: int) -> int:
        """The variable block a column belongs to."""
        return int(np.searchsorted(self.block_columns, column, side="right")) - 1

    @functools.cached_property
    def index_dtype(self) -> type[np.int32] | type[np.int64]:
        """Index type of the CSR arrays: 64 bits only where the counts demand it."""
        return np.int32 if max(self.num_values, self.num_columns, self.num_rows) < 2**31 else np.int64

    @functools.cached_property
    def indptr(self) -> npt.NDArray[np.int32] | npt.NDArray[np.int64]:
        """CSR row pointers of J, ``(num_rows + 1,)``."""
        indptr = np.zeros(self.num_rows + 1, dtype=self.index_dtype)
        for span in self.spans:
            indptr[1:][span.rows] = span.width
        np.cumsum(indptr, out=indptr)
        return indptr

    @functools.cached_property
    def indices(self) -> npt.NDArray[np.int32] | npt.NDArray[np.int64]:
        """CSR column indices of J, ``(num_values,)``; a variable used twice in a block stands twice in its rows."""
        out = np.empty(self.num_values, dtype=self.index_dtype)
        for span in self.spans:
            view = out[span.values].reshape(span.num_blocks, span.dim, span.width)
            for operand in span.operands:
                if operand.width:
                    first = operand.layout.column[operand.index]
                    columns = first[:, None] + np.arange(operand.width)
                    view[:, :, operand.start : operand.start + operand.width] = columns[:, None, :]
        return out

    @functools.cached_property
    def rows_sorted(self) -> bool:
        """True where the columns of every row of J are strictly increasing, so that it is canonical CSR as it stands."""
        for span in self.spans:
            present = [o for o in span.operands if o.width]
            for left, right in itertools.pairwise(present):
                if not (left.layout.column[left.index] < right.layout.column[right.index]).all():
                    return False
        return True


def _too_many_signatures(problem: Problem) -> set[int]:
    """Variable groups whose held components keep their columns, because a residual group would fall into many spans."""
    keep: set[int] = set()
    for group in problem.residuals:
        numbers = [_position(problem.variables, o.variables) for o in group.operands]
        masks = [problem.variables[n].fixed for n in numbers]
        patterns = [1 if m is None else len(np.unique(m, axis=0)) for m in masks]
        if np.prod(patterns) > MAX_SIGNATURES:
            signature = _signatures(group)
            if signature is not None and len(np.unique(signature)) > MAX_SIGNATURES:
                keep.update(n for n, m in zip(numbers, masks, strict=True) if m is not None)
    return keep


def _identity(problem: Problem, group: ResidualGroup) -> tuple[int, tuple[int, ...], tuple[npt.NDArray[np.integer], ...]]:
    """What a structure depends on of a group: its dim, which variables its operands read, and their index arrays."""
    numbers = tuple(_position(problem.variables, o.variables) for o in group.operands)
    return group.residual.dim, numbers, tuple(o.index for o in group.operands)


def _position(variables: Sequence[Variables], wanted: Variables) -> int:
    return next(i for i, v in enumerate(variables) if v is wanted)


def _lay_out(variables: Sequence[Variables], keep: set[int]) -> tuple[VariableLayout, ...]:
    layouts: list[VariableLayout] = []
    column, block = 0, 0
    for number, v in enumerate(variables):
        tangent_dim = v.manifold.tangent_dim
        present = None if v.fixed is None or number in keep else ~v.fixed
        widths = np.full(len(v), tangent_dim, dtype=np.int64) if present is None else present.sum(axis=1)
        ends = np.cumsum(widths)
        has = widths > 0
        stop = column + (int(ends[-1]) if len(v) else 0)
        layouts.append(
            VariableLayout(
                name=v.name,
                num_rows=len(v),
                tangent_dim=tangent_dim,
                present=present,
                column=np.where(has, column + ends - widths, -1),
                block=np.where(has, block + np.cumsum(has) - 1, -1).astype(np.int32),
                start=column,
                stop=stop,
            )
        )
        column, block = stop, block + int(has.sum())
    return tuple(layouts)


def _block_sizes(layout: VariableLayout) -> LongArray:
    if layout.present is None:
        return np.full(layout.num_rows, layout.tangent_dim, dtype=np.int64)
    widths = layout.present.sum(axis=1)
    return np.asarray(widths[widths > 0], dtype=np.int64)


def _signatures(group: ResidualGroup, keep: Sequence[bool] | None = None) -> LongArray | None:
    """A number per block that tells which components of its operands are free; None where all blocks are alike."""
    code: LongArray | None = None
    for position, operand in enumerate(group.operands):
        fixed = operand.variables.fixed
        if fixed is None or (keep is not None and keep[position]):
            continue
        patterns, pattern_of_row = np.unique(fixed, axis=0, return_inverse=True)
        own = pattern_of_row.ravel().astype(np.int64)[operand.index]
        code = own if code is None else code * len(patterns) + own
    return code


def _append_spans(
    spans: list[Span],
    number: int,
    group: ResidualGroup,
    variables: Sequence[Variables],
    layouts: Sequence[VariableLayout],
) -> None:
    for operand in group.operands:
        operand.check()  # once more: the arrays are the user's, and kernels trust them
    numbers = [_position(variables, o.variables) for o in group.operands]
    signature = _signatures(group, keep=[layouts[n].present is None for n in numbers])
    orders: list[LongArray | None] = [None]
    if signature is not None:
        distinct = np.unique(signature)
        if len(distinct) > 1:
            orders = [np.flatnonzero(signature == value) for value in distinct]
    for order in orders:
        num_blocks = group.num_blocks if order is None else len(order)
        if num_blocks == 0:
            continue
        operands: list[SpanOperand] = []
        columns: list[int] = []
        width = 0
        for n, operand in zip(numbers, group.operands, strict=True):
            layout = layouts[n]
            index = operand.index if order is None else operand.index[order]
            index = np.ascontiguousarray(index, dtype=np.int32)
            present = np.ones(layout.tangent_dim, bool) if layout.present is None else layout.present[index[0]]
            own = int(present.sum())
            columns += np.where(present, width + np.cumsum(present) - 1, -1).tolist()
            operands.append(SpanOperand(n, layout, width, own, index))
            width += own
        spans.append(
            Span(
                group=number,
                order=order,
                num_blocks=num_blocks,
                dim=group.residual.dim,
                width=width,
                row_start=spans[-1].rows.stop if spans else 0,
                value_start=spans[-1].values.stop if spans else 0,
                columns=np.array(columns, dtype=np.int32),
                operands=tuple(operands),
                shared=_shared_blocks(operands),
            )
        )


def _shared_blocks(operands: Sequence[SpanOperand]) -> tuple[tuple[int, int, IndexArray], ...]:
    shared = []
    for a, left in enumerate(operands):
        for b in range(a + 1, len(operands)):
            right = operands[b]
            if left.variables == right.variables and left.width:
                blocks = np.flatnonzero(left.index == right.index).astype(np.int32)
                if len(blocks):
                    shared.append((a, b, blocks))
    return tuple(shared)
