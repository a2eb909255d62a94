"""The sums that make the Schur complement S = H − Σ_e Y_e Y_eᵀ, bound to addresses: what computes it in any layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import numpy.typing as npt

from sparselm._jit import sizes_for
from sparselm.kernels.block_products import MARGIN
from sparselm.kernels.schur import add_partial_sums, copy_blocks, subtract_pairs, subtract_projected_pairs
from sparselm.linear_solvers.normal_equations import BlockSums

if TYPE_CHECKING:
    from sparselm.linear_solvers.schur.complement import ReducedPattern
    from sparselm.linear_solvers.schur.elimination import EliminatedPart, Elimination
    from sparselm.linearization import Linearization

Array = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]

# Pairs that a task takes on, and most that are summed in one go: a block with more of them, as the diagonal ones of cameras
# with thousands of points, is summed in pieces by several threads, always in the same ones.
_TASK_PAIRS, _PIECE_PAIRS = 1024, 2048

# What a block costs besides its pairs, in pairs.
_BLOCK_COST = 4


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Stretches of a list of pairs, each for the block at ``target``, starting from the one at ``source``."""

    task_ptr: LongArray
    begin: LongArray
    end: LongArray
    target: LongArray
    source: LongArray


@dataclass(frozen=True, slots=True)
class _Pass:
    """Sums of products of one size over the eliminated blocks of one size.

    ``part`` is None where nothing is eliminated between kept blocks of these sizes. ``work`` is the number of its pairs,
    or of its blocks where these are more. ``split`` are pieces of long sums, which go to ``partial`` first; block s of those
    adds up ``split_ptr[s]:split_ptr[s + 1]`` of them.
    """

    size: tuple[int, int]
    part: int | None
    couplings: tuple[int, int]
    left: IndexArray
    right: IndexArray
    continued: bool
    work: int
    whole: _Pieces
    split: _Pieces
    split_ptr: LongArray
    split_target: LongArray
    split_source: LongArray
    partial: Array


class ReducedMatrix:
    """H and S of one elimination.

    Parameters
    ----------
    pattern
    position : (num_kept,) int32
        Where each kept block stands in the matrix; the row of a block is the later one of its two kept blocks.
    diagonal, below : (num_kept,), (num_pairs,) int64
        Where the block of each kept block, and of each pair of the pattern, begins.
    chosen : (num_pairs,) bool, optional
        Blocks below the diagonal to compute; all of them by default, and ``below`` is only of these.
    """

    def __init__(
        self,
        pattern: ReducedPattern,
        position: IndexArray,
        diagonal: LongArray,
        below: LongArray,
        chosen: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        sizes = pattern.partition.sizes
        n, num_pairs = pattern.partition.num_kept, len(below)
        self._lanes = numba.get_num_threads()
        self._counter = np.zeros(8, dtype=np.int64)
        every = np.arange(n, dtype=np.int32)
        which = slice(None) if chosen is None else chosen
        high, low = np.append(pattern.high[which], every), np.append(pattern.low[which], every)
        turned = position[high] < position[low]
        rows, columns = sizes[np.where(turned, low, high)], sizes[np.where(turned, high, low)]
        kept_diagonal, kept_below = self._bind_kept(pattern, position)
        source_of_pair = np.full(len(pattern.high), -1, dtype=np.int64)
        source_of_pair[pattern.number_of_kept_pairs()] = kept_below
        source = np.append(source_of_pair[which], kept_diagonal)
        # Blocks of the same sizes are numbered in a row, so that one call of a kernel does them; among them by rows.
        order = np.lexsort((high, columns, rows)) if len(np.unique(sizes)) > 1 else np.argsort(high, kind="stable")
        number = np.empty(len(order), dtype=np.int32)
        number[order] = np.arange(len(order), dtype=np.int32)
        number_of_pair: IndexArray = np.full(len(pattern.high), -1, dtype=np.int32)
        number_of_pair[which] = number[:num_pairs]
        lists = [own.lists(pattern, number_of_pair, number[num_pairs:], turned[order]) for own in pattern.couplings]
        target = np.append(below, diagonal)
        self._passes = list(_passes(pattern, lists, rows[order], columns[order], target[order], source[order]))

    def _bind_kept(self, pattern: ReducedPattern, position: IndexArray) -> tuple[LongArray, LongArray]:
        """A store for H, the products of kept blocks alone, and the sums that fill it; where its blocks begin."""
        kept, sizes = pattern.kept_pattern, pattern.partition.sizes
        squares = sizes.astype(np.int64) ** 2
        diagonal = np.cumsum(squares) - squares
        areas = sizes[kept.high].astype(np.int64) * sizes[kept.low]
        below = squares.sum() + np.cumsum(areas) - areas
        row = np.where(position[kept.high] < position[kept.low], kept.low, kept.high)
        by_position = np.argsort(position)
        self._sums = BlockSums(
            kept, position, diagonal[by_position], sizes[by_position], below, sizes[row], packed=False
        )
        self.H: Array = np.zeros(int(squares.sum() + areas.sum()))
        return diagonal, below

    @property
    def num_pairs(self) -> int:
        """Pairs of couplings that are multiplied."""
        return sum(len(p.left) - MARGIN for p in {id(p.left): p for p in self._passes}.values())

    def prepare(self, linearization: Linearization) -> None:
        """Compute H."""
        self._sums.assemble(linearization, self.H)

    def compute(self, elimination: Elimination, S: Array) -> None:
        """Write S = H − Σ Y Yᵀ, of the diagonal blocks the lower triangle at least."""
        for p in self._passes:
            ka, kb = p.size
            H = S if p.continued else self.H
            if p.part is None:
                copy_blocks(p.whole.source, H, p.whole.target, ka * kb, S)
                continue
            run, arguments = self._kernel(p, elimination.parts[p.part])
            for pieces, out in ((p.whole, S), (p.split, p.partial)):
                if len(pieces.target):
                    run(
                        pieces.task_ptr, pieces.begin, pieces.end, p.left, p.right, pieces.target, pieces.source, H,
                        *arguments, out, self._lanes, self._counter,
                    )  # fmt: skip
            if len(p.split_target):
                add_partial_sums(p.split_ptr, p.partial, ka * kb, p.split_source, H, p.split_target, S)

    def _kernel(self, p: _Pass, part: EliminatedPart) -> tuple[Callable[..., None], tuple[Any, ...]]:
        """What sums the products of a pass, and what it multiplies."""
        ka, kb = p.size
        d, (a, b) = part.blocks.size, (part.blocks.couplings[number] for number in p.couplings)
        if part.through is not None and a.single is not None and b.single is not None:
            span = part.through.span
            run = subtract_projected_pairs(*sizes_for(p.work, span.dim, span.width, d, ka, kb))
            assert part.linearization is not None
            J = part.linearization.blocks(span)
            return run, (J, a.single.kept.start, b.single.kept.start, part.Q, p.size)
        sizes = d, ka, kb, a.stride, b.stride
        return subtract_pairs(*sizes_for(p.work, *sizes)), (*(part.Y[number] for number in p.couplings), sizes)


def _passes(
    pattern: ReducedPattern,
    lists: list[tuple[LongArray, IndexArray, IndexArray]],
    rows: IndexArray,
    columns: IndexArray,
    target: LongArray,
    source: LongArray,
) -> Iterator[_Pass]:
    """For each size of blocks, which stand in a row, a pass over each size of eliminated blocks that reaches them."""
    if not len(rows):  # everything is eliminated
        return
    starts = np.flatnonzero(np.append(True, (np.diff(rows) != 0) | (np.diff(columns) != 0)))
    for begin, end in zip(starts, np.append(starts[1:], len(rows)), strict=True):
        size = int(rows[begin]), int(columns[begin])
        none = np.zeros(end - begin + 1, dtype=np.int64), np.zeros(MARGIN, np.int32), np.zeros(MARGIN, np.int32)
        found: list[tuple[int | None, tuple[int, int], tuple[LongArray, IndexArray, IndexArray]]] = []
        for part, (blocks, (ptr, left, right)) in enumerate(zip(pattern.partition.eliminated, lists, strict=True)):
            if ptr[begin] < ptr[end]:
                of_size = [coupling.size for coupling in blocks.couplings]
                couplings = of_size.index(size[0]), of_size.index(size[1])
                found.append((part, couplings, (ptr[begin : end + 1], left, right)))
        for turn, (which, couplings, (ptr, left, right)) in enumerate(found or [(None, (0, 0), none)]):
            chosen = np.arange(begin, end) if turn == 0 else begin + np.flatnonzero(np.diff(ptr))
            first, last = ptr[chosen - begin], ptr[chosen - begin + 1]
            start = source[chosen] if turn == 0 else target[chosen]
            yield _cut(size, which, couplings, left, right, turn > 0, first, last, target[chosen], start)


def _cut(
    size: tuple[int, int],
    part: int | None,
    couplings: tuple[int, int],
    left: IndexArray,
    right: IndexArray,
    continued: bool,
    first: LongArray,
    last: LongArray,
    target: LongArray,
    source: LongArray,
) -> _Pass:
    """A pass over pairs first … last of each block, long sums being cut into pieces."""
    count = -(-(last - first) // _PIECE_PAIRS)
    long = count > 1
    split_ptr = np.append(0, np.cumsum(count[long])).astype(np.int64)
    within = np.arange(split_ptr[-1]) - np.repeat(split_ptr[:-1], count[long])
    begin = np.repeat(first[long], count[long]) + within * _PIECE_PAIRS
    end = np.minimum(begin + _PIECE_PAIRS, np.repeat(last[long], count[long]))
    area = size[0] * size[1]
    places = np.arange(len(begin), dtype=np.int64)
    return _Pass(
        size=size, part=part, couplings=couplings, left=left, right=right, continued=continued,
        work=max(int((last - first).sum()), len(target)),
        whole=_pieces(first[~long], last[~long], target[~long], source[~long]),
        split=_pieces(begin, end, places * area, np.full(len(places), -1, dtype=np.int64)),
        split_ptr=split_ptr, split_target=target[long], split_source=source[long],
        partial=np.zeros(len(places) * area),
    )  # fmt: skip


def _pieces(begin: LongArray, end: LongArray, target: LongArray, source: LongArray) -> _Pieces:
    work = np.cumsum(end - begin + _BLOCK_COST)
    total = int(work[-1]) if len(work) else 0
    cuts = np.searchsorted(work, np.arange(_TASK_PAIRS, total, _TASK_PAIRS), side="left")
    task_ptr = np.unique(np.concatenate([[0], cuts, [len(work)]])).astype(np.int64)
    return _Pieces(task_ptr, begin, end, target, source)
