"""The graph of blocks of a symmetric matrix: which blocks there are, and which of them are connected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparselm.errors import SolverError
from sparselm.kernels.block_pattern import neighbours

# Edges and blocks are numbered together in 32 bits.
_MOST_EDGES = 2**31

IndexArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BlockGraph:
    """Blocks and the pairs of them that have an entry of the matrix in common.

    Attributes
    ----------
    sizes : (n,) int32
        Columns of each block.
    indptr, indices : (n + 1,) int64, (2 num_edges,) int32
        Neighbours of each block, itself left out.
    first, second : (num_edges,) int32
        The blocks that each edge connects.
    """

    sizes: IndexArray
    indptr: LongArray
    indices: IndexArray
    first: IndexArray
    second: IndexArray

    @property
    def num_edges(self) -> int:
        return len(self.first)

    def ends(self, edge: int) -> tuple[int, int]:
        """The two blocks that an edge connects."""
        return int(self.first[edge]), int(self.second[edge])


def make_graph(sizes: IndexArray, first: IndexArray, second: IndexArray) -> BlockGraph:
    """The graph with an edge between ``first[e]`` and ``second[e]``; each pair is given once."""
    if len(first) + len(sizes) >= _MOST_EDGES:
        raise SolverError(
            f"the matrix has {len(first)} blocks below the diagonal and {len(sizes)} on it, expected fewer than "
            f"{_MOST_EDGES} together: use larger blocks, or an iterative solver"
        )
    indptr = np.empty(len(sizes) + 1, dtype=np.int64)
    indices = np.empty(2 * len(first), dtype=np.int32)
    neighbours(first, second, indptr, indices)
    return BlockGraph(sizes, indptr, indices, first, second)
