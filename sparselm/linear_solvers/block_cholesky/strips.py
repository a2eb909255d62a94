"""Where the exact factor of a symbolic factorisation lies in its panels, strip by strip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sparselm.kernels.strips import COLUMNS, RUN, STRIP_COLUMNS, VALUES, Strips, cut_strips, join_columns, strip_depths
from sparselm.kernels.supernodes import list_rows
from sparselm.linear_solvers.ordering import inverse_order

if TYPE_CHECKING:
    from sparselm.kernels.supernodes import Arrangement
    from sparselm.linear_solvers.block_cholesky.symbolic import Symbolic
    from sparselm.linear_solvers.ordering import Ordering

IndexArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]

# Entries of the exact factor up to which solves go by strips. To pack them takes what one solve gains while they stay in
# the caches of a core, and several times as much beyond.
MOST_ENTRIES = 500_000


def find_strips(symbolic: Symbolic) -> Strips:
    """The strips of a factor that is small enough for them; otherwise none."""
    new, ordering, graph = symbolic.arrangement, symbolic.ordering, symbolic.graph
    first = np.zeros(symbolic.num_supernodes + 1, dtype=np.int64)
    if ordering.nonzeros > MOST_ENTRIES:
        return Strips(first, np.empty(0, dtype=np.int32), *_tables(0, 0))
    groups = _join_columns(new, ordering)
    smallest = int(graph.sizes.min(initial=1 << 30))
    row_ptr = np.empty(len(groups.above) + 1, dtype=np.int64)
    rows = np.empty(int((groups.height // smallest).sum()), dtype=np.int32)
    list_rows(symbolic.edges, smallest, groups, row_ptr, rows)
    groups_in_fronts = new, symbolic.row_ptr, symbolic.rows, symbolic.fronts.nodes, groups, row_ptr, rows, first
    num_strips, num_runs = cut_strips(*groups_in_fronts, *_tables(0, 0))
    tables = _tables(num_strips, num_runs)
    cut_strips(*groups_in_fronts, *tables)
    return _sorted(first, *tables, symbolic.size)


def _join_columns(new: Arrangement, ordering: Ordering) -> Arrangement:
    """Groups of columns with the same rows below them, in the place of supernodes."""
    n = len(new.order)
    before = inverse_order(ordering.order)[new.order]  # position in the ordering
    parent = np.append(new.position[ordering.order], np.int32(-1))[ordering.parent[before]]  # −1 is the last one
    owner, above = np.empty((2, n), dtype=np.int32)
    width, height = np.empty((2, n), dtype=np.int64)
    head = np.empty(n + 1, dtype=np.int32)
    groups = new._replace(owner=owner, head=head, above=above, width=width, height=height)
    count = join_columns(new, parent, ordering.heights[before], groups)
    return groups._replace(head=head[: count + 1], above=above[:count], width=width[:count], height=height[:count])


def _tables(num_strips: int, num_runs: int) -> tuple[LongArray, IndexArray, IndexArray]:
    """Strips, runs, and where runs stand in panels."""
    return (
        np.zeros((num_strips + 1, STRIP_COLUMNS), dtype=np.int64),
        np.empty((num_runs, 2), dtype=np.int32),
        np.empty(num_runs, dtype=np.int32),
    )


def _sorted(first: LongArray, table: LongArray, runs: IndexArray, panel_rows: IndexArray, size: int) -> Strips:
    """Strips farthest from the roots of their trees first; of those as far, those of one shape together."""
    depth = np.empty(len(table) - 1, dtype=np.int32)
    strip_depths(table, runs, size, depth)
    num_values, num_runs = np.diff(table[:, VALUES]), np.diff(table[:, RUN])
    order = np.lexsort((num_runs, table[:-1, COLUMNS], -depth)).astype(np.int32)
    by_depth = np.append(table[order], table[-1:], axis=0)
    by_depth[:, VALUES] = np.append(0, np.cumsum(num_values[order]))
    by_depth[:, RUN] = np.append(0, np.cumsum(num_runs[order]))
    run = np.arange(len(runs)) + np.repeat(table[order, RUN] - by_depth[:-1, RUN], num_runs[order])
    return Strips(first, inverse_order(order), by_depth, runs[run], panel_rows[run])
