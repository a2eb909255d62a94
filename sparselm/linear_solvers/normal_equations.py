"""JᵀJ assembled block by block into compressed columns or a dense matrix, in any order of the variable blocks.

With the residual blocks b and their Jacobian blocks A_b with respect to variable block i,

    H_ij = Σ_b A_bᵀ B_b,        i, j the variable blocks that b touches,

only the lower triangle is kept. :class:`BlockPattern` finds out, once, which H_ij exist and which products make them up;
:class:`NormalEquations` gives them addresses for one order of the variable blocks, assembles, and adds D. A variable that
a block uses twice, with Jacobian blocks A and B, gets (A + B)ᵀ(A + B): its diagonal block receives AᵀB + BᵀA too.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from sparselm._jit import sizes_for
from sparselm.gather import Gather, make_gather
from sparselm.kernels.elimination import column_heights, elimination_tree, factor_sizes
from sparselm.kernels.gather import counting_sort
from sparselm.kernels.normal_equations import (
    LOWER,
    PLAIN,
    SYMMETRISED,
    accumulate_products,
    add_blocks,
    add_split_sums,
    fill_indices,
    hold_components,
    number_runs,
)
from sparselm.linear_solvers.block_graph import BlockGraph, make_graph
from sparselm.linear_solvers.ordering import inverse_order

if TYPE_CHECKING:
    from sparselm.linearization import Linearization
    from sparselm.structure import Span, SpanOperand, Structure

Array = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Products:
    """One kind of product of a span: operand ``a`` times operand ``b``, summed over ``gather``.

    ``target`` numbers, for each key of the gather, the variable block (diagonal ones) or the pair of blocks that it adds
    to; ``lower`` tells whether operand a is the row of that pair, i.e. has the higher block number.
    """

    span: Span
    a: int
    b: int
    mode: int
    gather: Gather
    target: IndexArray
    lower: bool = True


class BlockPattern:
    """The pairs of variable blocks that residual blocks connect, and which products of J make each H_ij.

    Parameters
    ----------
    structure
    chosen : (num_blocks,) int32, optional
        Variable blocks of the structure that the pattern is of, and in which order it numbers them; all of them by default.
    diagonal_only
        Leave out the pairs.

    Attributes
    ----------
    num_blocks : int
    sizes : (num_blocks,) int32
        Columns of each variable block.
    high, low : (num_pairs,) int32
        The connected pairs, high > low, sorted by low, then by high.
    products : list of _Products
    """

    def __init__(
        self, structure: Structure, chosen: IndexArray | None = None, *, diagonal_only: bool = False
    ) -> None:
        self.structure = structure
        sizes: IndexArray = np.diff(structure.block_columns).astype(np.int32)
        self._number: IndexArray | None = None
        if chosen is not None:
            sizes = sizes[chosen]
            self._number = np.full(structure.num_blocks + 1, -1, dtype=np.int32)  # the last one for rows without a block
            self._number[chosen] = np.arange(len(chosen), dtype=np.int32)
        self.sizes = sizes
        self.num_blocks = len(sizes)
        found: list[tuple[_Products, IndexArray, IndexArray]] = []
        self.products: list[_Products] = []
        for span in structure.spans:
            present = [number for number, operand in enumerate(span.operands) if operand.width]
            for position, a in enumerate(present):
                operand = span.operands[a]
                target = self._numbers(operand)
                if (target < 0).all():
                    continue
                self.products.append(_Products(span, a, a, LOWER, _chosen_gather(operand, target), target))
                for b in present[position + 1 :] if not diagonal_only else ():
                    found += self._off_diagonal(span, a, b)
            for a, b, blocks in span.shared:
                operand = span.operands[a]
                blocks = blocks[self._of_span(operand)[blocks] >= 0]
                gather = _restrict(make_gather(operand.index[blocks], operand.layout.num_rows), blocks)
                self.products.append(_Products(span, a, b, SYMMETRISED, gather, self._numbers(operand)))
        empty = np.zeros(0, dtype=np.int32)
        highs = np.concatenate([empty, *(high for _, high, _ in found)])
        lows = np.concatenate([empty, *(low for _, _, low in found)])
        number, self.low, self.high = distinct_pairs(lows, highs, self.num_blocks)
        begin = 0
        for products, high, _ in found:
            self.products.append(dataclasses.replace(products, target=number[begin : begin + len(high)].copy()))
            begin += len(high)

    def _numbers(self, operand: SpanOperand) -> IndexArray:
        """The pattern's number of the block of each row of the operand's variables, −1 for those that are not chosen."""
        return operand.layout.block if self._number is None else self._number[operand.layout.block]

    def _of_span(self, operand: SpanOperand) -> IndexArray:
        """The same for each residual block of the span."""
        return self._numbers(operand)[operand.index]

    def _off_diagonal(self, span: Span, a: int, b: int) -> list[tuple[_Products, IndexArray, IndexArray]]:
        """Products of two different variables, split by which of them has the higher block number."""
        # The longer run of columns comes last: it is the inner loop, which the compiler vectorises.
        if span.operands[a].width > span.operands[b].width:
            a, b = b, a
        if any((self._numbers(operand) < 0).all() for operand in (span.operands[a], span.operands[b])):
            return []
        left, right = (self._of_span(operand) for operand in (span.operands[a], span.operands[b]))
        both = (left >= 0) & (right >= 0)
        found: list[tuple[_Products, IndexArray, IndexArray]] = []
        for lower in (True, False):
            chosen = both & (left > right if lower else left < right)
            if not chosen.any():
                continue
            blocks = None if chosen.all() else np.flatnonzero(chosen).astype(np.int32)
            high, low = (left, right) if lower else (right, left)
            if blocks is not None:
                high, low = high[blocks], low[blocks]
            number, low, high = distinct_pairs(low, high, self.num_blocks)
            gather = make_gather(number, len(high))
            if blocks is not None:
                gather = _restrict(gather, blocks)
            found.append((_Products(span, a, b, PLAIN, gather, number[:0], lower), high, low))
        return found

    def matrix(self) -> sp.csc_matrix:
        """The lower triangle, diagonal included, as a matrix of ones: the graph that orderings work on."""
        every = np.arange(self.num_blocks, dtype=np.int32)
        ptr, order = counting_sort(np.concatenate([every, self.low]), self.num_blocks)
        rows = np.concatenate([every, self.high])[order]
        shape = (self.num_blocks, self.num_blocks)
        return sp.csc_matrix((np.ones(len(rows)), rows, ptr.astype(np.int32)), shape=shape)

    @functools.cached_property
    def graph(self) -> BlockGraph:
        """The variable blocks and the connected pairs, edge by edge as in ``high`` and ``low``."""
        return make_graph(self.sizes, self.high, self.low)

    def factor_sizes(self, order: IndexArray) -> tuple[int, float]:
        """Non-zeros and floating-point operations of the Cholesky factor in a given order of the blocks."""
        position = inverse_order(order)
        parent = np.empty_like(order)
        heights = np.empty(self.num_blocks, dtype=np.int64)
        graph = self.graph
        elimination_tree(graph.indptr, graph.indices, order, position, parent)
        column_heights(graph.indptr, graph.indices, self.sizes, order, position, parent, heights)
        nonzeros, flops = factor_sizes(self.sizes, order, heights)
        return int(nonzeros), float(flops)

    def _positions(self, position: IndexArray) -> tuple[IndexArray, IndexArray]:
        """Row and column of each pair in the order that ``position`` gives."""
        first, second = position[self.high], position[self.low]
        return np.maximum(first, second), np.minimum(first, second)


def _chosen_gather(operand: SpanOperand, number: IndexArray) -> Gather:
    """The operand's gather, without the residual blocks of rows whose number is −1."""
    if (number >= 0).all():
        return operand.gather
    chosen = number[operand.index] >= 0
    if chosen.all():
        return operand.gather
    blocks = np.flatnonzero(chosen).astype(np.int32)
    return _restrict(make_gather(operand.index[blocks], operand.layout.num_rows), blocks)


def _restrict(gather: Gather, blocks: IndexArray) -> Gather:
    """A gather over some of the blocks, in terms of all blocks."""
    return dataclasses.replace(gather, order=blocks[gather.order])


def sort_pairs(major: IndexArray, minor: IndexArray, num_keys: int) -> IndexArray:
    """Order of pairs by major, then minor, by two stable counting sorts."""
    by_minor: IndexArray = counting_sort(minor, num_keys)[1]
    order: IndexArray = by_minor[counting_sort(major[by_minor], num_keys)[1]]
    return order


def distinct_pairs(major: IndexArray, minor: IndexArray, num_keys: int) -> tuple[IndexArray, IndexArray, IndexArray]:
    """The distinct pairs, sorted by major, then minor, and the number of each given pair among them."""
    order = sort_pairs(major, minor, num_keys)
    number = np.empty(len(major), dtype=np.int32)
    count = number_runs(major, minor, order, number)
    distinct_major, distinct_minor = np.empty((2, count), dtype=np.int32)
    distinct_major[number] = major
    distinct_minor[number] = minor
    return number, distinct_major, distinct_minor


class BlockSums:
    """The sums of products that make up JᵀJ, bound to addresses: what assembles it, whatever its layout.

    Parameters
    ----------
    pattern
    position : (num_blocks,) int32
        Where each variable block stands in the order of the matrix.
    base, stride : (num_blocks,) int64, int32
        Start of each diagonal block, by position, and what separates its columns.
    first, pair_stride : (num_pairs,) int64, int32
        The same for each block below the diagonal, whose row is the later of its two variable blocks.
    packed
        Columns of a block get shorter by one each; see ``kernels/normal_equations.py``.
    """

    def __init__(
        self,
        pattern: BlockPattern,
        position: IndexArray,
        base: LongArray,
        stride: IndexArray,
        first: LongArray,
        pair_stride: IndexArray,
        *,
        packed: bool,
    ) -> None:
        turned = position[pattern.high] < position[pattern.low]
        self._packed = int(packed)
        self._runs = []
        slots = 0
        for p in pattern.products:
            a, b = p.span.operands[p.a], p.span.operands[p.b]
            if p.mode == PLAIN:
                own_first = first[p.target]
                own_stride = pair_stride[p.target]
                # The target is the product as it stands where operand a is its row.
                own_stride = np.where(turned[p.target] == p.lower, -own_stride, own_stride)
            else:
                where = position[p.target]  # of a row without columns: nonsense, which no gather ever reaches
                own_first, own_stride = base[where], stride[where]
            slots = max(slots, p.gather.num_slots * a.width * b.width)
            rows = p.gather.rows
            run = accumulate_products(*sizes_for(pattern.structure.num_alike(p.span), p.span.dim, a.width, b.width))
            self._runs.append((p, run, own_first, own_stride, rows))
        self._partial: Array = np.zeros(slots)

    def assemble(self, linearization: Linearization, values: Array) -> None:
        """Write JᵀJ."""
        values[:] = 0.0
        for p, run, first, stride, rows in self._runs:
            a, b, g = p.span.operands[p.a], p.span.operands[p.b], p.gather
            made = linearization.diagonal_blocks(a) if p.mode == LOWER and g is a.gather else None
            if made is not None:
                add_blocks(rows, made, a.width, first, stride, self._packed, values)
                continue
            entries = a.width * b.width
            partial = self._partial[: g.num_slots * entries].reshape(g.num_slots, entries)
            run(
                g.order, g.piece_row, g.piece_ptr, g.piece_slot, g.task_ptr, linearization.blocks(p.span),
                a.start, b.start, a.width, b.width, first, stride, self._packed, p.mode, partial, values,
            )  # fmt: skip
            if len(g.split_row):
                add_split_sums(
                    g.split_row, g.split_ptr, partial, a.width, b.width, first, stride, self._packed, p.mode, values
                )


class NormalEquations:
    """JᵀJ + D in a given order of the variable blocks, lower triangle; all storage is made here.

    Parameters
    ----------
    pattern
    order : (num_blocks,) int32
        Variable block at each position.
    dense
        Store a dense matrix by columns, of which only the lower triangle is written, instead of compressed columns.

    Attributes
    ----------
    size : int
    column : (size,) int64
        Column of J at each scalar position.
    values : (nnz,), or (size²,) where dense
    indptr, indices
        Compressed columns of the lower triangle, rows ascending; of length 0 where dense.
    """

    def __init__(self, pattern: BlockPattern, order: IndexArray, *, dense: bool = False) -> None:
        structure = pattern.structure
        self.structure = structure
        self.size = structure.num_columns
        self.order = order
        sizes = pattern.sizes[order]
        self._offsets: LongArray = np.append(0, np.cumsum(sizes)).astype(np.int64)
        within = np.arange(self.size, dtype=np.int64) - np.repeat(self._offsets[:-1], sizes)
        self.column: LongArray = np.repeat(structure.block_columns[order], sizes) + within
        self._packed = not dense
        if dense:
            self._address_dense(pattern, sizes, within)
        else:
            self._address_columns(pattern, sizes, within)
        self._diagonal: Array = np.zeros(self.size)
        self._work: Array = np.zeros(self.size)
        self._held = np.zeros(self.size, dtype=bool)
        self._any_held = False
        self._overwritten = False
        self._linearization: Linearization | None = None

    # -- addresses ------------------------------------------------------------------------------------------------------

    def _address_columns(self, pattern: BlockPattern, sizes: IndexArray, within: LongArray) -> None:
        row, column = pattern._positions(inverse_order(self.order))
        sequence = sort_pairs(column, row, pattern.num_blocks)
        rows = row[sequence]
        column_ptr = np.append(0, np.cumsum(np.bincount(column, minlength=pattern.num_blocks))).astype(np.int64)
        ends = np.append(0, np.cumsum(sizes[rows], dtype=np.int64))
        heights = ends[column_ptr[1:]] - ends[column_ptr[:-1]]
        k = sizes.astype(np.int64)
        stride = k + heights
        base = np.append(0, np.cumsum(k * stride - k * (k - 1) // 2))
        nonzeros = int(base[-1])
        index_dtype = np.int32 if nonzeros < 2**31 else np.int64
        # Entry (r, c) of a block below the diagonal: what stands above it in its column are the k − c entries of the
        # diagonal block and the blocks before it.
        own = column[sequence]
        first = np.empty(len(rows), dtype=np.int64)
        first[sequence] = base[own] + k[own] + ends[:-1] - ends[column_ptr[own]]
        strides = stride.astype(np.int32)
        self._sums = BlockSums(pattern, inverse_order(self.order), base[:-1], strides, first, strides[column], packed=True)
        self.diagonal_index = (
            np.repeat(base[:-1], sizes) + within * np.repeat(stride, sizes) - within * (within - 1) // 2
        )
        lengths = np.repeat(stride, sizes) - within
        self.indptr = np.append(0, np.cumsum(lengths)).astype(index_dtype)
        self.indices = np.empty(nonzeros, dtype=index_dtype)
        fill_indices(column_ptr, rows, sizes, self._offsets, base, stride, self.indices)
        self.values = np.zeros(nonzeros)

    def _address_dense(self, pattern: BlockPattern, sizes: IndexArray, within: LongArray) -> None:
        row, column = pattern._positions(inverse_order(self.order))
        offsets = self._offsets[:-1]
        stride = np.full(pattern.num_blocks, self.size, dtype=np.int32)
        first = offsets[column] * self.size + offsets[row]
        position = inverse_order(self.order)
        self._sums = BlockSums(
            pattern, position, offsets * (self.size + 1), stride, first, stride[column], packed=False
        )
        self.diagonal_index = np.arange(self.size, dtype=np.int64) * (self.size + 1)
        self.indptr = self.indices = np.zeros(0, dtype=np.int32)
        self.values = np.zeros(self.size * self.size)

    # -- numbers --------------------------------------------------------------------------------------------------------

    def assemble(self, linearization: Linearization) -> None:
        """Compute JᵀJ."""
        self._linearization = linearization
        self._sums.assemble(linearization, self.values)
        np.take(self.values, self.diagonal_index, out=self._diagonal, mode="clip")
        # Of a variable used twice, A² + B² + AᵀB + BᵀA cancels where A ≈ −B, and may leave less than nothing.
        np.maximum(self._diagonal, 0.0, out=self._diagonal)
        self._overwritten = False

    def set_damping(self, damping: Array) -> bool:
        """Make the matrix JᵀJ + D; components with D = +∞ get the identity's row and column. False if it is not finite."""
        if self._overwritten:  # the last D held components: their rows and columns are gone
            assert self._linearization is not None
            self.assemble(self._linearization)
        np.take(damping, self.column, out=self._work, mode="clip")
        np.isinf(self._work, out=self._held)
        self._any_held = bool(self._held.any())
        self._work += self._diagonal
        self.values[self.diagonal_index] = self._work
        if self._any_held:
            self._hold()
            self._work[self._held] = 1.0
        return bool(np.isfinite(self._work.sum()))

    def _hold(self) -> None:
        self._overwritten = True
        if self._packed:
            hold_components(self.indptr, self.indices, self._held, self.values)
            return
        matrix = self.dense()
        matrix[self._held, :] = 0.0
        matrix[:, self._held] = 0.0
        self.values[self.diagonal_index[self._held]] = 1.0

    def permute(self, rhs: Array) -> Array:
        """The right-hand side by position, 0 where a component is held; a buffer that the next call overwrites."""
        np.take(rhs, self.column, out=self._work, mode="clip")
        if self._any_held:
            self._work[self._held] = 0.0
        return self._work

    def unpermute(self, x: Array, out: Array) -> None:
        """Write a solution by position back by column; held components are exactly 0."""
        out[self.column] = x

    def block_at(self, position: int) -> int:
        """The variable block at a scalar position."""
        return int(self.order[int(np.searchsorted(self._offsets, position, side="right")) - 1])

    def lower(self) -> sp.csc_matrix:
        """The lower triangle of JᵀJ + D as compressed columns, on the live buffer."""
        matrix = sp.csc_matrix((self.values, self.indices, self.indptr), shape=(self.size, self.size), copy=False)
        # Flags set by hand: were they looked up lazily, SciPy could sort, in place, buffers that are not its own.
        matrix.has_sorted_indices = True
        matrix.has_canonical_format = True
        return matrix

    def dense(self) -> Array:
        """The dense matrix, of which only the lower triangle is written, on the live buffer."""
        return self.values.reshape(self.size, self.size).T
