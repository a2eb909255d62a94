"""The plan of a sum over the blocks that touch each variable: who adds what, in an order that never changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparselm.kernels.gather import counting_sort

IndexArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]

# Contributions that are added up before their sum counts as a partial one: a variable that every block touches (shared
# intrinsics) is then still summed by all threads, in an order that does not depend on their number.
PIECE = 256

# Contributions a parallel task takes on.
TASK_CONTRIBUTIONS = 2048


@dataclass(frozen=True, slots=True)
class Gather:
    """Blocks of a span sorted by the row of one operand, cut into pieces that are summed in a fixed order.

    Piece p sums blocks ``order[piece_ptr[p]:piece_ptr[p+1]]`` for row ``piece_row[p]``. A row with more than one piece
    is a split row: its pieces write partial sums ``piece_slot[p]`` (−1 otherwise), split row s adds up slots
    ``split_ptr[s]:split_ptr[s+1]``. Parallel task t takes pieces ``task_ptr[t]:task_ptr[t+1]``.
    """

    order: IndexArray
    piece_row: IndexArray
    piece_ptr: LongArray
    piece_slot: IndexArray
    split_row: IndexArray
    split_ptr: LongArray
    task_ptr: LongArray

    @property
    def rows(self) -> IndexArray:
        """The rows that are touched, ascending."""
        return self.piece_row[np.diff(self.piece_row, prepend=-1) > 0]

    @property
    def num_slots(self) -> int:
        return int(self.split_ptr[-1])


def make_gather(keys: IndexArray, num_keys: int) -> Gather:
    """Sort blocks by a small integer key and cut the runs into pieces of at most ``PIECE``."""
    ptr, order = counting_sort(keys, num_keys)
    counts = np.diff(ptr)
    num_pieces = -(-counts // PIECE)
    piece_row = np.repeat(np.arange(num_keys, dtype=np.int32), num_pieces)
    first_piece = np.cumsum(num_pieces) - num_pieces
    within = np.arange(len(piece_row), dtype=np.int64) - first_piece[piece_row]
    piece_ptr = np.append(ptr[piece_row] + within * PIECE, len(keys)).astype(np.int64)
    split = num_pieces[piece_row] > 1
    piece_slot = np.where(split, np.cumsum(split) - 1, -1).astype(np.int32)
    split_row = np.flatnonzero(num_pieces > 1).astype(np.int32)
    split_ptr = np.append(0, np.cumsum(num_pieces[split_row])).astype(np.int64)
    task_ptr = np.unique(
        np.append(np.searchsorted(piece_ptr[:-1], np.arange(0, len(keys), TASK_CONTRIBUTIONS)), len(piece_row))
    ).astype(np.int64)
    return Gather(order, piece_row, piece_ptr, piece_slot, split_row, split_ptr, task_ptr)
