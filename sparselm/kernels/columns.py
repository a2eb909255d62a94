"""From the Jacobian of a whole block to the columns that the problem keeps.

A residual's ``linearize`` gets ``columns``: for each tangent component of each operand its column in J, or −1 where the
component is held constant. Nearly always every component is free and ``columns`` is 0, 1, 2, …; then a kernel computes
straight into J. Otherwise it computes a block into a buffer of its own, one per task, and copies the columns that are
free::

    direct = all_free(columns, J.shape[2])
    for lane in prange(num_lanes(...)):
        local = np.empty((dim, columns.size))
        for b in range(...):
            block = J[b] if direct else local
            ...                                     # every entry of block
            if not direct:
                scatter_columns(local, columns, J[b])

Both ways run the same arithmetic, so that holding a component leaves the other columns bit for bit as they were.
"""

from __future__ import annotations

import numpy as np

from sparselm._jit import scalar

# What a loop that can linearise gets for ``columns`` and J where only residuals are wanted.
NO_COLUMNS = np.empty(0, np.int32)
NO_JACOBIAN = np.empty((0, 0, 0))


@scalar
def all_free(columns, width):
    """Whether component k has column k for every k, and J, of ``width`` columns, has no other column."""
    if columns.size != width:
        return False
    for k in range(columns.size):  # noqa: SIM110  (numba knows no generator expressions)
        if columns[k] != k:
            return False
    return True


@scalar
def scatter_columns(local, columns, out):
    """Copy column k of ``local`` into column ``columns[k]`` of ``out``, for the k that have one.

    Parameters
    ----------
    local : (dim, num_components) float64
        Jacobian of one block with respect to all tangent components of its operands.
    columns : (num_components,) int32
        Column of each component in ``out``; −1 where it has none.
    out : (dim, width) float64
        Jacobian of the block in the buffer of the core.
    """
    for k in range(columns.size):
        column = columns[k]
        if column >= 0:
            for i in range(local.shape[0]):
                out[i, column] = local[i, k]
