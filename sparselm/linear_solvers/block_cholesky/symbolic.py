"""The symbolic factorisation: everything that depends on where the entries are and not on what they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy as np
import numpy.typing as npt

from sparselm._llvm import UNIT
from sparselm.kernels.multifrontal import (
    CHILD,
    COMMON,
    ENTRY,
    FRONT_COLUMNS,
    HEIGHT,
    PANEL,
    PIVOT,
    RUN,
    STRIDE,
    UPDATE,
    UPDATE_STRIDE,
    VECTOR,
    WIDTH,
    Fronts,
)
from sparselm.kernels.schedule import TASK_COLUMNS, find_subtrees, list_tasks, place_updates
from sparselm.kernels.supernodes import (
    list_rows,
    merge_supernodes,
    number_supernodes,
    place_entries,
    relate_rows,
)
from sparselm.linear_solvers.ordering import inverse_order

if TYPE_CHECKING:
    from sparselm.linear_solvers.block_graph import BlockGraph
    from sparselm.linear_solvers.ordering import Ordering

IndexArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Symbolic:
    """Elimination order, supernodes and places of everything, for one graph of blocks.

    Attributes
    ----------
    graph : BlockGraph
    ordering : Ordering
        As it was found; ``order`` differs from it where supernodes were merged, without a change of the fill.
    order : (n,) int32
        Block at each position.
    offsets : (n + 1,) int64
        First scalar position of each block position.
    column : (size,) int64
        Column of the matrix at each scalar position.
    pivot_row : (size,) int64
        Row of each scalar position among the rows of all fronts.
    work : float
        Predicted nanoseconds of a factorisation on one thread.
    head : (s + 1,) int32
        First position of each supernode.
    row_ptr, rows
        Positions below the pivots of each supernode.
    fronts : Fronts
    tasks, solve_tasks : (t, 8) int64
        What threads do in a factorisation, and in a solve, where large fronts are not cut.
    num_counters : int
    edge_source : (num_edges + n,) int64
        Start of each block of the lower triangle in the store of the matrix.
    edge_turned : (num_edges + n,) bool
        The block is kept transposed: its column is the block of the higher number.
    store_size, factor_size, arena_size, common_size, num_rows : int
        Entries of the matrix's store, of the factor, of a thread's arena and of the common one; rows of all fronts, padded.
    """

    graph: BlockGraph
    ordering: Ordering
    order: IndexArray
    offsets: LongArray
    column: LongArray
    pivot_row: LongArray
    work: float
    head: IndexArray
    row_ptr: LongArray
    rows: IndexArray
    fronts: Fronts
    tasks: LongArray
    solve_tasks: LongArray
    num_counters: int
    edge_source: LongArray
    edge_turned: npt.NDArray[np.bool_]
    store_size: int
    factor_size: int
    arena_size: int
    common_size: int
    num_rows: int

    @property
    def size(self) -> int:
        """Scalar columns."""
        return int(self.offsets[-1])

    @property
    def num_supernodes(self) -> int:
        return len(self.head) - 1

    @property
    def memory(self) -> int:
        """Bytes of a numeric factorisation in float64 on one thread: store, factor, arenas and vectors."""
        numbers = (
            self.store_size + self.factor_size + self.arena_size + self.common_size + self.num_rows + 5 * self.size
        )
        return 8 * numbers

    def block_at(self, position: npt.NDArray[np.int64]) -> IndexArray:
        """The blocks at scalar positions."""
        return self.order[np.searchsorted(self.offsets, position, side="right") - 1]

    @property
    def nonzeros(self) -> int:
        """Entries of the factor that are computed, zeros of merged supernodes included."""
        w, h = self.fronts.nodes[:-1, WIDTH], self.fronts.nodes[:-1, HEIGHT]
        return int((w * (w + 1) // 2 + w * h).sum())

    @property
    def flops(self) -> float:
        """Operations of a factorisation, those on zeros of merged supernodes included."""
        w, h = self.fronts.nodes[:-1, (WIDTH, HEIGHT)].astype(np.float64).T
        return float((w**3 / 3 + w * w * h + w * h * h).sum())


def build_symbolic(graph: BlockGraph, ordering: Ordering, threads: int | None = None) -> Symbolic:
    """Supernodes, places and tasks for a graph and an order of its blocks.

    ``threads``, by default as many as there are, is how many the tasks are made for; any number can do them.
    """
    n = len(graph.sizes)
    group = np.empty(n, dtype=np.int32)
    sizes = graph.sizes[ordering.order]
    merge_supernodes(ordering.parent, sizes, ordering.heights, group)
    rank = np.empty(n, dtype=np.int32)
    head = np.empty(n + 1, dtype=np.int32)
    above = np.empty(n, dtype=np.int32)
    count = number_supernodes(ordering.parent, group, rank, head, above)
    head, above = head[: count + 1].copy(), above[:count].copy()
    old = inverse_order(rank)  # position in ``ordering`` of each new position
    order = ordering.order[old]
    position = inverse_order(order)
    sizes = graph.sizes[order]
    offsets = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(sizes, out=offsets[1:])
    within = np.arange(offsets[-1], dtype=np.int64) - np.repeat(offsets[:-1], sizes)
    starts = np.append(0, np.cumsum(graph.sizes, dtype=np.int64))
    column = np.repeat(starts[order], sizes) + within
    owner = np.repeat(np.arange(count, dtype=np.int32), np.diff(head))

    row_ptr = np.zeros(count + 1, dtype=np.int64)
    if n and sizes.min() == sizes.max():  # heights are known
        np.cumsum(ordering.heights[old[head[1:] - 1]] // sizes[0], out=row_ptr[1:])
    else:
        list_rows(graph.indptr, graph.indices, order, position, owner, above, row_ptr, np.empty(0, dtype=np.int32))
    rows = np.empty(row_ptr[-1], dtype=np.int32)
    list_rows(graph.indptr, graph.indices, order, position, owner, above, row_ptr, rows)
    ends = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(sizes[rows], out=ends[1:])
    height = ends[row_ptr[1:]] - ends[row_ptr[:-1]]
    pivot = offsets[head]
    width = np.diff(pivot)
    stride = (width + height + UNIT - 1) // UNIT * UNIT
    panel = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(width * stride, out=panel[1:])

    run_ptr = np.empty(count + 1, dtype=np.int64)
    runs = np.empty((len(rows), 3), dtype=np.int32)
    num_runs = relate_rows(head, offsets, above, row_ptr, rows, run_ptr, runs)

    entry_ptr = np.empty(count + 1, dtype=np.int64)
    entries = np.empty((graph.num_edges + n, 6), dtype=np.int64)
    edge_source = np.empty(len(entries), dtype=np.int64)
    edge_turned = np.empty(len(entries), dtype=bool)
    store_size = place_entries(
        graph.indptr, graph.indices, graph.edge, order, position, graph.sizes, offsets, head, row_ptr, rows, stride,
        entry_ptr, entries, edge_source, edge_turned,
    )  # fmt: skip

    local = np.empty(count, dtype=bool)
    if threads is None:
        threads = numba.get_num_threads()
    work = float(find_subtrees(above, width, height, threads, local))
    by_parent = np.argsort(above, kind="stable").astype(np.int32)
    child_ptr = np.searchsorted(above[by_parent], np.arange(count + 1)).astype(np.int64)
    left_behind = ~local | (above < 0) | ~local[above]
    update = np.empty(count, dtype=np.int64)
    arena_sizes = np.zeros(2, dtype=np.int64)
    place_updates(above, height, local, child_ptr, by_parent, update, arena_sizes)
    tasks, num_counters = _tasks(above, width, height, local, True)
    solve_tasks, _ = _tasks(above, width, height, local, False)
    vector = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(stride, out=vector[1:])
    pivot_row = np.arange(offsets[-1], dtype=np.int64) + np.repeat(vector[:-1] - pivot[:-1], width)
    nodes = np.zeros((count + 1, FRONT_COLUMNS), dtype=np.int64)
    for place, values in (
        (WIDTH, width), (HEIGHT, height), (STRIDE, stride), (PANEL, panel), (PIVOT, pivot), (UPDATE, update),
        (COMMON, left_behind), (UPDATE_STRIDE, (height + UNIT - 1) // UNIT * UNIT), (CHILD, child_ptr), (RUN, run_ptr),
        (ENTRY, entry_ptr), (VECTOR, vector),
    ):  # fmt: skip
        nodes[: len(values), place] = values
    fronts = Fronts(nodes, by_parent, runs[:num_runs].copy(), entries)
    return Symbolic(
        graph=graph, ordering=ordering, order=order, offsets=offsets, column=column,
        pivot_row=pivot_row, work=work, head=head, row_ptr=row_ptr, rows=rows, fronts=fronts,
        tasks=tasks, solve_tasks=solve_tasks, num_counters=num_counters,
        edge_source=edge_source, edge_turned=edge_turned, store_size=store_size,
        factor_size=int(panel[-1]), arena_size=int(arena_sizes[0]), common_size=int(arena_sizes[1]),
        num_rows=int(vector[-1]),
    )  # fmt: skip


def _tasks(
    above: IndexArray, width: LongArray, height: LongArray, local: npt.NDArray[np.bool_], cut: bool
) -> tuple[LongArray, int]:
    """The table of tasks, and how many counters they need."""
    num_tasks, num_counters = list_tasks(above, width, height, local, cut, np.empty((0, TASK_COLUMNS), dtype=np.int64))
    tasks = np.empty((num_tasks, TASK_COLUMNS), dtype=np.int64)
    list_tasks(above, width, height, local, cut, tasks)
    return tasks, num_counters
