"""The graph of blocks of a symmetric matrix: which blocks there are, and which of them are connected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparselm.kernels.gather import counting_sort

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
    edge : (2 num_edges,) int32 or int64
        Number of the edge that leads there.
    """

    sizes: IndexArray
    indptr: LongArray
    indices: IndexArray
    edge: npt.NDArray[np.int32] | npt.NDArray[np.int64]

    @property
    def num_edges(self) -> int:
        return len(self.indices) // 2

    def ends(self, edge: int) -> tuple[int, int]:
        """The two blocks that an edge connects."""
        first, second = self.indices[np.flatnonzero(self.edge == edge)]
        return int(first), int(second)


def make_graph(sizes: IndexArray, first: IndexArray, second: IndexArray) -> BlockGraph:
    """The graph with an edge between ``first[e]`` and ``second[e]``; each pair is given once."""
    n = len(sizes)
    indptr, order = counting_sort(np.concatenate([first, second]), n)
    indices = np.concatenate([second, first])[order]
    edge = np.where(order < len(first), order, order - len(first))
    return BlockGraph(sizes, indptr.astype(np.int64), indices, edge)
