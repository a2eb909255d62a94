"""Which blocks the Schur complement S = H − Σ_e Y_e Y_eᵀ has, and which pairs of couplings each of them sums."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from sparselm.kernels.block_products import MARGIN
from sparselm.kernels.gather import counting_sort
from sparselm.kernels.schur_pattern import count_neighbours, count_pairs, list_neighbours, place_pairs
from sparselm.linear_solvers.block_graph import BlockGraph, make_graph
from sparselm.linear_solvers.normal_equations import BlockPattern, sort_pairs
from sparselm.linear_solvers.schur.partition import EliminatedBlocks, Partition

BoolArray = npt.NDArray[np.bool_]
IndexArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]

# Lanes in which patterns are found; each has a mark for every kept block.
_LANES = 16


class ReducedPattern:
    """Blocks of the Schur complement: those below the diagonal, by kept blocks, and one on it for each kept block.

    Attributes
    ----------
    partition : Partition
    kept_pattern : BlockPattern
        Of H, the products that residual blocks make of kept blocks alone.
    couplings : list of CouplingLists
        Of each size of eliminated blocks.
    row_ptr : (num_kept + 1,) int64
    high, low : (num_pairs,) int32
        Kept blocks of each block below the diagonal, high > low, sorted by high, then low.
    """

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.kept_pattern = BlockPattern(partition.structure, partition.kept)
        self.couplings = [CouplingLists(blocks, partition.num_kept) for blocks in partition.eliminated]
        found = [own.pairs() for own in self.couplings]
        if len(self.kept_pattern.high):
            found.append((self.kept_pattern.high, self.kept_pattern.low))
        n = partition.num_kept
        empty = np.zeros(0, dtype=np.int32)
        high = np.concatenate([empty, *(some for some, _ in found)])
        low = np.concatenate([empty, *(some for _, some in found)])
        order = sort_pairs(high, low, n)
        self.high, self.low = high[order], low[order]
        if len(found) > 1 and len(self.high):
            new = np.append(True, (self.high[1:] != self.high[:-1]) | (self.low[1:] != self.low[:-1]))
            self.high, self.low = self.high[new], self.low[new]
        self.row_ptr: LongArray = np.append(0, np.cumsum(np.bincount(self.high, minlength=n))).astype(np.int64)

    @functools.cached_property
    def graph(self) -> BlockGraph:
        """The kept blocks, and an edge for each block below the diagonal, in their order."""
        return make_graph(self.partition.sizes, self.high, self.low)

    def number_of_kept_pairs(self) -> LongArray:
        """For each pair of ``kept_pattern``, its number among the blocks below the diagonal."""
        n = self.partition.num_kept
        keys = self.high.astype(np.int64) * n + self.low
        return np.searchsorted(keys, self.kept_pattern.high.astype(np.int64) * n + self.kept_pattern.low)


class CouplingLists:
    """All couplings of the eliminated blocks of one size, from both sides."""

    def __init__(self, blocks: EliminatedBlocks, num_kept: int) -> None:
        self.blocks = blocks
        self.num_kept = num_kept
        self.by_ptr, self.by_order = counting_sort(blocks.kept, num_kept)
        counts = np.diff(blocks.ptr)
        self.eliminated = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        # Each lane gets about as many pairs as the others.
        work = np.arange(len(self.eliminated)) - blocks.ptr[self.eliminated] + 1
        per_row = np.bincount(blocks.kept, weights=work, minlength=num_kept)
        total = np.cumsum(per_row)
        lanes = min(_LANES, num_kept)
        cuts = np.searchsorted(total, np.arange(1, lanes) * (total[-1] / lanes)) if num_kept else np.zeros(0, np.int64)
        self.lane_ptr = np.concatenate([[0], np.sort(cuts), [num_kept]]).astype(np.int64)

    @property
    def _arguments(self) -> tuple[npt.NDArray[np.integer], ...]:
        b = self.blocks
        return self.lane_ptr, self.by_ptr, self.by_order, self.eliminated, b.ptr, b.kept

    def _marks(self) -> npt.NDArray[np.int32]:
        return np.zeros((len(self.lane_ptr) - 1, self.num_kept), dtype=np.int32)

    def pairs(self) -> tuple[IndexArray, IndexArray]:
        """The kept blocks that are connected, high > low, in any order."""
        counts = np.zeros(self.num_kept, dtype=np.int64)
        count_neighbours(*self._arguments, self._marks(), counts)
        row_ptr = np.append(0, np.cumsum(counts))
        high, low = np.empty((2, int(row_ptr[-1])), dtype=np.int32)
        list_neighbours(*self._arguments, row_ptr, self._marks(), high, low)
        return high, low

    def counts(self, pattern: ReducedPattern, number: IndexArray, own: IndexArray) -> LongArray:
        """How many pairs of slots each block sums, by the numbers that :meth:`lists` describes."""
        counts = np.zeros(int(max(number.max(initial=-1), own.max(initial=-1))) + 1, dtype=np.int64)
        count_pairs(*self._arguments, pattern.row_ptr, pattern.low, number, own, self._marks(), counts)
        return counts

    def lists(
        self, pattern: ReducedPattern, number: IndexArray, own: IndexArray, turned: BoolArray
    ) -> tuple[LongArray, IndexArray, IndexArray]:
        """Pairs of couplings that each block sums: bounds, and the items of its row and of its column.

        The blocks are counted as the caller likes: ``number`` is that of each block below the diagonal, ``own`` that of each
        diagonal one, and −1 leaves a block out. ``turned`` tells, by these numbers, of which blocks the row is the lower
        kept block.
        """
        ptr = np.append(0, np.cumsum(self.counts(pattern, number, own)))
        left, right = np.zeros((2, int(ptr[-1]) + MARGIN), dtype=np.int32)
        place_pairs(
            *self._arguments, self.blocks.item, pattern.row_ptr, pattern.low, number, turned, own, self._marks(),
            ptr[:-1].copy(), left, right,
        )  # fmt: skip
        return ptr, left, right
