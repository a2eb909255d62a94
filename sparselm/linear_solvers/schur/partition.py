"""Eliminated and kept variable blocks, and how residual blocks couple them: all that is symbolic of an elimination."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sparselm.gather import Gather, make_gather
from sparselm.kernels.gather import counting_sort
from sparselm.kernels.schur_pattern import first_kept
from sparselm.linear_solvers.normal_equations import distinct_pairs, sort_pairs

if TYPE_CHECKING:
    from sparselm.linear_solvers.schur.choice import Choice
    from sparselm.structure import Span, SpanOperand, Structure

IndexArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]

# Entries of a cache line: each Y_ek begins with one.
_LINE = 8

# Items of a list that a parallel task takes on.
_TASK_ITEMS = 1024


@dataclass(frozen=True, slots=True)
class Source:
    """Residual blocks of a span that contribute to couplings through one pair of its operands.

    Attributes
    ----------
    span : Span
    eliminated, kept : SpanOperand
    blocks, slots : (n,) int32
        Residual blocks and the slot that each adds to, sorted by slot.
    task_ptr : (num_tasks + 1,) int64
        Parts of the two that share no slot.
    """

    span: Span
    eliminated: SpanOperand
    kept: SpanOperand
    blocks: IndexArray
    slots: IndexArray
    task_ptr: LongArray


@dataclass(frozen=True, slots=True)
class Coupling:
    """Pairs of an eliminated block and a kept one of ``size`` columns that residual blocks connect, each with a slot.

    Attributes
    ----------
    size : int
        k, columns of the kept blocks.
    stride : int
        Entries of a Y_ek, whole cache lines.
    eliminated, kept : (n,) int32
        The pair of each slot; sorted by eliminated block, then by kept one.
    task_ptr : (num_tasks + 1,) int64
        Parts of the slots that share no eliminated block.
    gather : Gather
        Slots by kept block.
    sources : tuple of Source
    complete : bool
        The first source writes each slot once, so that none has to be cleared.
    """

    size: int
    stride: int
    eliminated: IndexArray
    kept: IndexArray
    task_ptr: LongArray
    gather: Gather
    sources: tuple[Source, ...]
    complete: bool

    @property
    def single(self) -> Source | None:
        """The source, where every slot has one residual block."""
        return self.sources[0] if self.complete and len(self.sources) == 1 else None


@dataclass(frozen=True, slots=True)
class EliminatedBlocks:
    """Eliminated blocks of one size, in an order of their own: those that the same kept blocks see lie together.

    Attributes
    ----------
    size : int
        d, columns of each.
    blocks : (n,) int32
        Variable blocks.
    column : (n,) int64
        First column of each.
    couplings : tuple of Coupling
        One for each size of kept blocks.
    through : Source or None
        Where each coupling has one residual block, of one span: the source of the first of them.
    ptr, kept, item
        All couplings of block e, sorted by kept block: ``ptr[e]:ptr[e + 1]`` of the other two, which tell the kept block and
        what stands for the coupling in sums: its slot or, with ``through``, its residual block.
    """

    size: int
    blocks: IndexArray
    column: LongArray
    couplings: tuple[Coupling, ...]
    through: Source | None
    ptr: LongArray
    kept: IndexArray
    item: IndexArray


class Partition:
    """The eliminated and the kept blocks of a structure.

    Parameters
    ----------
    structure
    choice
    coupled
        Find out which kept blocks each eliminated one is coupled with, and through which residual blocks; otherwise the
        eliminated blocks keep their order and have no couplings.

    Attributes
    ----------
    structure : Structure
    kept : (num_kept,) int32
        Variable blocks, ascending.
    sizes : (num_kept,) int32
    first : (num_kept + 1,) int64
        Where each begins in a vector over the kept columns.
    columns : (num_kept_columns,) int64
        Columns of J of such a vector.
    kept_number : (num_blocks + 1,) int32
        Number of each variable block among the kept ones, −1 for eliminated ones, and at the end.
    eliminated : tuple of EliminatedBlocks
    """

    def __init__(self, structure: Structure, choice: Choice, *, coupled: bool = True) -> None:
        self.structure = structure
        self._coupled = coupled
        sizes = np.diff(structure.block_columns)
        self.kept: IndexArray = np.flatnonzero(~choice.eliminated).astype(np.int32)
        self.sizes: IndexArray = sizes[self.kept].astype(np.int32)
        self.first: LongArray = np.append(0, np.cumsum(self.sizes)).astype(np.int64)
        within = np.arange(self.first[-1]) - np.repeat(self.first[:-1], self.sizes)
        self.columns: LongArray = np.repeat(structure.block_columns[self.kept], self.sizes) + within
        self.kept_number: IndexArray = np.full(structure.num_blocks + 1, -1, dtype=np.int32)
        self.kept_number[self.kept] = np.arange(len(self.kept), dtype=np.int32)
        self.eliminated = tuple(
            self._eliminate(np.flatnonzero(choice.eliminated & (sizes == size)).astype(np.int32), int(size))
            for size in np.flatnonzero(np.bincount(sizes[choice.eliminated]))
        )

    @property
    def num_kept(self) -> int:
        return len(self.kept)

    def _eliminate(self, blocks: IndexArray, size: int) -> EliminatedBlocks:
        if not self._coupled:
            none = np.zeros(0, dtype=np.int32)
            ptr = np.zeros(len(blocks) + 1, dtype=np.int64)
            return EliminatedBlocks(size, blocks, self.structure.block_columns[blocks], (), None, ptr, none, none)
        number = np.full(self.structure.num_blocks + 1, -1, dtype=np.int32)
        number[blocks] = np.arange(len(blocks), dtype=np.int32)
        incidences = list(self._incidences(number))
        empty = np.zeros(0, dtype=np.int32)
        e = np.concatenate([empty, *(item[3] for item in incidences)])
        k = np.concatenate([empty, *(item[4] for item in incidences)])
        order = self._order_by_kept(e, k, len(blocks))
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order), dtype=np.int32)
        e = rank[e]
        pair, pair_e, pair_k = distinct_pairs(e, k, max(len(blocks), self.num_kept))
        couplings: list[Coupling] = []
        slot = np.arange(len(pair_e), dtype=np.int32)
        pair_size = self.sizes[pair_k]
        found = np.flatnonzero(np.bincount(pair_size))
        for kept_size in found:
            own = slice(None) if len(found) == 1 else pair_size == kept_size
            slot[own] = np.arange(len(slot[own]), dtype=np.int32)
            couplings.append(self._couple(int(kept_size), size, pair_e[own], pair_k[own], incidences, pair, slot))
        through = _common_source(couplings)
        if through is not None:
            for kept_size, coupling in zip(found, couplings, strict=True):
                own = slice(None) if len(found) == 1 else pair_size == kept_size
                assert coupling.single is not None
                slot[own] = coupling.single.blocks
        ptr = np.append(0, np.cumsum(np.bincount(pair_e, minlength=len(blocks)))).astype(np.int64)
        blocks = blocks[order]
        column = self.structure.block_columns[blocks]
        return EliminatedBlocks(size, blocks, column, tuple(couplings), through, ptr, pair_k, slot)

    def _incidences(
        self, number: IndexArray
    ) -> Iterator[tuple[Span, SpanOperand, SpanOperand, IndexArray, IndexArray, IndexArray | None]]:
        """Spans with an eliminated and a kept operand: both, the blocks they are, and which residual blocks (None: all)."""
        for span in self.structure.spans:
            present = [operand for operand in span.operands if operand.width]
            for left in present:
                of_row = number[left.layout.block]
                if (of_row < 0).all():
                    continue
                e = of_row[left.index]
                for right in present:
                    kept_of_row = self.kept_number[right.layout.block]
                    if right is left or (kept_of_row < 0).all():
                        continue
                    k = kept_of_row[right.index]
                    blocks = None
                    if (of_row < 0).any() or (kept_of_row < 0).any():
                        both = (e >= 0) & (k >= 0)
                        if not both.any():
                            continue
                        blocks = None if both.all() else np.flatnonzero(both).astype(np.int32)
                    yield (span, left, right, e, k, None) if blocks is None else (
                        span, left, right, e[blocks], k[blocks], blocks
                    )  # fmt: skip

    def _order_by_kept(self, e: IndexArray, k: IndexArray, count: int) -> IndexArray:
        """Eliminated blocks by the lowest two kept blocks that they are coupled with, so that neighbours share them."""
        first, second = np.full((2, count), self.num_kept, dtype=np.int32)
        first_kept(e, k, first, second)
        return sort_pairs(first, second, self.num_kept + 1)

    def _couple(
        self,
        kept_size: int,
        size: int,
        e: IndexArray,
        k: IndexArray,
        incidences: list[tuple[Span, SpanOperand, SpanOperand, IndexArray, IndexArray, IndexArray | None]],
        pair: IndexArray,
        slot: IndexArray,
    ) -> Coupling:
        sources: list[Source] = []
        begin = 0
        for span, left, right, some_e, _, blocks in incidences:
            own_pair = pair[begin : begin + len(some_e)]
            begin += len(some_e)
            if right.width != kept_size:
                continue
            slots = slot[own_pair]
            if (slots[1:] < slots[:-1]).any():
                order = counting_sort(slots, len(e))[1]
                slots = slots[order]
            else:
                order = np.arange(len(slots), dtype=np.int32)
            sources.append(
                Source(span, left, right, order if blocks is None else blocks[order], slots, _task_ptr(slots))
            )
        lead = sources[0].slots
        complete = len(lead) == len(e) and bool((lead == np.arange(len(e))).all())
        stride = -(-kept_size * size // _LINE) * _LINE
        return Coupling(
            kept_size, stride, e, k, _task_ptr(e), make_gather(k, self.num_kept), tuple(sources), complete
        )


def _common_source(couplings: Sequence[Coupling]) -> Source | None:
    """A source with the eliminated operand of all couplings, where each slot has one residual block; otherwise None."""
    singles = [coupling.single for coupling in couplings]
    lead = singles[0] if singles else None
    if lead is None or any(s is None or s.eliminated is not lead.eliminated for s in singles):
        return None
    return lead


def _task_ptr(keys: IndexArray) -> LongArray:
    """Bounds of parts of a sorted list of about ``_TASK_ITEMS`` that do not cut through equal keys."""
    wanted = np.arange(_TASK_ITEMS, len(keys), _TASK_ITEMS)
    cuts = np.searchsorted(keys, keys[wanted], side="left")
    return np.unique(np.concatenate([[0], cuts, [len(keys)]])).astype(np.int64)
