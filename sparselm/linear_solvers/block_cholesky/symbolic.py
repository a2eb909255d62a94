"""The symbolic factorisation: everything that depends on where the entries are and not on what they are."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from sparselm.kernels.front_table import FRONT_COLUMNS, PANEL, VECTOR, place_columns, tabulate_fronts
from sparselm.kernels.multifrontal import Fronts
from sparselm.kernels.schedule import TASK_COLUMNS, find_subtrees, list_tasks, place_updates
from sparselm.kernels.solve_schedule import SOLVE_TASK_COLUMNS, list_solve_tasks, parallel_entries
from sparselm.kernels.strips import VALUES
from sparselm.kernels.supernodes import (
    Arrangement,
    Edges,
    arrange_supernodes,
    list_children,
    list_rows,
    merge_supernodes,
    place_entries,
    relate_rows,
    sort_edges,
)
from sparselm.linear_solvers.block_cholesky.strips import find_strips

if TYPE_CHECKING:
    from sparselm.kernels.strips import Strips
    from sparselm.linear_solvers.block_graph import BlockGraph
    from sparselm.linear_solvers.ordering import Ordering

IndexArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]


class Places(NamedTuple):
    """Where blocks of the matrix are in its store, and go in the factor; see ``kernels/supernodes.py::place_entries``."""

    entry_ptr: LongArray  #: (s + 1,)
    entries: LongArray  #: (num_edges + n, 6)
    edge_source: LongArray  #: (num_edges + n,)
    edge_turned: npt.NDArray[np.bool_]  #: (num_edges + n,)
    store_size: int


class SolveSchedule(NamedTuple):
    """What threads do in a solve by fronts; see ``kernels/solve_schedule.py``."""

    tasks: LongArray  #: (t, 10)
    num_counters: int
    parallel_entries: int  #: that more threads than one can read at a time


@dataclass(frozen=True)
class Symbolic:
    """Elimination order, supernodes and what threads do, for one graph of blocks.

    What only numeric factorisations and solves read (``fronts``, ``strips``, ``solve_schedule``, ``edge_source``,
    ``edge_turned``, ``column``, ``pivot_row``) is made when it is first asked for.

    Attributes
    ----------
    graph : BlockGraph
    ordering : Ordering
        As it was found; ``order`` is another order of the same tree, with the same fill.
    arrangement : Arrangement
        Positions of blocks, and supernodes.
    edges : Edges
        The matrix's blocks by positions.
    row_ptr, rows : (s + 1,) int64, int32
        Positions below the pivots of each supernode.
    child_ptr, children : (s + 1,) int64, int32
        Children of each supernode, ascending.
    local : (s,) bool
        Supernodes within subtrees that one thread does.
    update : (s,) int64
        Start of each update matrix in its arena.
    work : float
        Predicted nanoseconds of a factorisation on one thread.
    tasks : (t, 8) int64
        What threads do in a factorisation.
    num_counters : int
    arena_size, common_size : int
        Entries of a thread's arena and of the common one.
    """

    graph: BlockGraph
    ordering: Ordering
    arrangement: Arrangement
    edges: Edges
    row_ptr: LongArray
    rows: IndexArray
    child_ptr: LongArray
    children: IndexArray
    local: npt.NDArray[np.bool_]
    update: LongArray
    work: float
    tasks: LongArray
    num_counters: int
    arena_size: int
    common_size: int

    @property
    def order(self) -> IndexArray:
        """(n,) int32, block at each position."""
        return self.arrangement.order

    @property
    def offsets(self) -> LongArray:
        """(n + 1,) int64, first scalar position of each block position."""
        return self.arrangement.offsets

    @property
    def head(self) -> IndexArray:
        """(s + 1,) int32, first position of each supernode."""
        return self.arrangement.head

    @functools.cached_property
    def fronts(self) -> Fronts:
        """What the numeric kernels read."""
        new, places, count = self.arrangement, self._places, self.num_supernodes
        run_ptr = np.empty(count + 1, dtype=np.int64)
        runs = np.empty((len(self.rows), 3), dtype=np.int32)
        num_runs = relate_rows(new, self.row_ptr, self.rows, self.child_ptr, self.children, run_ptr, runs)
        nodes = np.zeros((count + 1, FRONT_COLUMNS), dtype=np.int64)
        tabulate_fronts(new, self.local, self.update, self.child_ptr, run_ptr, places.entry_ptr, nodes)
        return Fronts(nodes, self.children, runs[:num_runs].copy(), places.entries)

    @functools.cached_property
    def _places(self) -> Places:
        count = len(self.edges.row)
        entry_ptr = np.empty(self.num_supernodes + 1, dtype=np.int64)
        entries = np.empty((count, 6), dtype=np.int64)
        source, turned = np.empty(count, dtype=np.int64), np.empty(count, dtype=bool)
        size = place_entries(self.edges, self.arrangement, self.row_ptr, self.rows, entry_ptr, entries, source, turned)
        return Places(entry_ptr, entries, source, turned, int(size))

    @functools.cached_property
    def _columns(self) -> tuple[LongArray, LongArray]:
        column, pivot_row = np.empty((2, self.size), dtype=np.int64)
        place_columns(self.arrangement, self.graph.sizes, self.fronts.nodes, column, pivot_row)
        return column, pivot_row

    @property
    def edge_source(self) -> LongArray:
        """(num_edges + n,) int64, start of each block of the lower triangle in the store of the matrix."""
        return self._places.edge_source

    @property
    def edge_turned(self) -> npt.NDArray[np.bool_]:
        """(num_edges + n,) bool: the block is kept transposed, its column is the block of the higher number."""
        return self._places.edge_turned

    @property
    def column(self) -> LongArray:
        """(size,) int64, column of the matrix at each scalar position."""
        return self._columns[0]

    @property
    def pivot_row(self) -> LongArray:
        """(size,) int64, row of each scalar position among the rows of all fronts."""
        return self._columns[1]

    @property
    def size(self) -> int:
        """Scalar columns."""
        return int(self.offsets[-1])

    @property
    def num_supernodes(self) -> int:
        return len(self.head) - 1

    @functools.cached_property
    def strips(self) -> Strips:
        """What solves read, where the factor is small."""
        return find_strips(self)

    @functools.cached_property
    def solve_schedule(self) -> SolveSchedule:
        """What threads do in a solve by fronts."""
        new = self.arrangement
        plain, _ = _tasks(new.above, new.width, new.height, self.local, False)
        empty = np.empty((0, SOLVE_TASK_COLUMNS), dtype=np.int64)
        num_tasks, num_counters = list_solve_tasks(plain, new.width, new.height, empty)
        tasks = np.empty((num_tasks, SOLVE_TASK_COLUMNS), dtype=np.int64)
        list_solve_tasks(plain, new.width, new.height, tasks)
        return SolveSchedule(tasks, num_counters, int(parallel_entries(plain, new.width, new.height)))

    @property
    def store_size(self) -> int:
        """Entries of the matrix's store."""
        return self._places.store_size

    @property
    def factor_size(self) -> int:
        """Entries of the factor, padded."""
        return int(self.fronts.nodes[-1, PANEL])

    @property
    def num_rows(self) -> int:
        """Rows of all fronts, padded."""
        return int(self.fronts.nodes[-1, VECTOR])

    @property
    def memory(self) -> int:
        """Bytes of a numeric factorisation in float64 on one thread: store, factor, arenas and vectors."""
        packed = int(self.strips.table[-1, VALUES])
        solves = packed + self.size if packed else self.num_rows
        return 8 * (self.store_size + self.factor_size + self.arena_size + self.common_size + solves + 5 * self.size)

    def block_at(self, position: npt.NDArray[np.int64]) -> IndexArray:
        """The blocks at scalar positions."""
        return self.order[np.searchsorted(self.offsets, position, side="right") - 1]

    @property
    def nonzeros(self) -> int:
        """Entries of the factor that are computed, zeros of merged supernodes included."""
        w, h = self.arrangement.width, self.arrangement.height
        return int((w * (w + 1) // 2 + w * h).sum())

    @property
    def flops(self) -> float:
        """Operations of a factorisation, those on zeros of merged supernodes included."""
        w, h = self.arrangement.width.astype(np.float64), self.arrangement.height.astype(np.float64)
        return float((w**3 / 3 + w * w * h + w * h * h).sum())


def build_symbolic(graph: BlockGraph, ordering: Ordering, threads: int | None = None) -> Symbolic:
    """Supernodes and tasks for a graph and an order of its blocks.

    ``threads``, by default as many as there are, is how many the tasks are made for; any number can do them.
    """
    new = _arrange(graph.sizes, ordering)
    above, width, height, count = new.above, new.width, new.height, len(new.above)
    child_ptr = np.empty(count + 1, dtype=np.int64)
    children = np.empty(count, dtype=np.int32)
    list_children(above, child_ptr, children)
    children = children[: child_ptr[-1]]

    edges = Edges(*np.empty((3, graph.num_edges + len(graph.sizes)), dtype=np.int32))
    sort_edges(graph.first, graph.second, new, edges)
    smallest = int(graph.sizes.min(initial=1 << 30))
    row_ptr = np.empty(count + 1, dtype=np.int64)
    rows = np.empty(int(height.sum()) // smallest, dtype=np.int32)
    num_rows = list_rows(edges, smallest, new, row_ptr, rows)
    if num_rows < len(rows):
        rows = rows[:num_rows].copy()

    local = np.empty(count, dtype=bool)
    work = find_subtrees(above, width, height, numba.get_num_threads() if threads is None else threads, local)
    update = np.empty(count, dtype=np.int64)
    arena_sizes = np.empty(2, dtype=np.int64)
    place_updates(above, height, local, child_ptr, children, update, arena_sizes)
    tasks, num_counters = _tasks(above, width, height, local, True)
    return Symbolic(
        graph=graph, ordering=ordering, arrangement=new, edges=edges, row_ptr=row_ptr, rows=rows,
        child_ptr=child_ptr, children=children, local=local, update=update, work=float(work),
        tasks=tasks, num_counters=num_counters,
        arena_size=int(arena_sizes[0]), common_size=int(arena_sizes[1]),
    )  # fmt: skip


def _arrange(sizes: IndexArray, ordering: Ordering) -> Arrangement:
    """Supernodes, and the positions of their blocks."""
    n = len(sizes)
    node, above = np.empty((2, n), dtype=np.int32)
    width, height = np.empty((2, n), dtype=np.int64)
    count = merge_supernodes(ordering.order, sizes, ordering.parent, ordering.heights, node, above, width, height)
    order, position, owner = np.empty((3, n), dtype=np.int32)
    new_width, new_height = np.empty((2, count), dtype=np.int64)
    new = Arrangement(
        order=order, position=position, owner=owner, offsets=np.empty(n + 1, dtype=np.int64),
        head=np.empty(count + 1, dtype=np.int32), above=np.empty(count, dtype=np.int32), width=new_width, height=new_height,
    )  # fmt: skip
    arrange_supernodes(ordering.order, sizes, node, above[:count], width, height, new)
    return new


def _tasks(
    above: IndexArray, width: LongArray, height: LongArray, local: npt.NDArray[np.bool_], cut: bool
) -> tuple[LongArray, int]:
    """The table of tasks, and how many counters they need."""
    tasks = np.empty((len(above), TASK_COLUMNS), dtype=np.int64)  # enough where few fronts are cut
    num_tasks, num_counters = list_tasks(above, width, height, local, cut, tasks)
    if num_tasks > len(tasks):
        tasks = np.empty((num_tasks, TASK_COLUMNS), dtype=np.int64)
        list_tasks(above, width, height, local, cut, tasks)
    return tasks[:num_tasks].copy(), num_counters
