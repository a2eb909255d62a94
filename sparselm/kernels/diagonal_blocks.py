"""Block-diagonal matrices: inverses and products, for blocks of any sizes.

Block k, ``size = first[k + 1] - first[k]`` wide, stands by columns from ``place[k]`` on.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from sparselm._jit import kernel

# Blocks a parallel task takes on.
_TASK = 64


@kernel
def add_to_diagonal(first, place, addend, blocks):
    """Add a diagonal matrix; +∞ makes a component's row and column those of the identity."""
    n = place.shape[0]
    for task in prange((n + _TASK - 1) // _TASK):
        for k in range(task * _TASK, min(n, (task + 1) * _TASK)):
            size = first[k + 1] - first[k]
            for c in range(size):
                blocks[place[k] + c * size + c] += addend[first[k] + c] if not math.isinf(addend[first[k] + c]) else 0.0
                for r in range(size):
                    if math.isinf(addend[first[k] + c]) or math.isinf(addend[first[k] + r]):
                        blocks[place[k] + c * size + r] = 1.0 if r == c else 0.0


@kernel
def invert_blocks(first, place, blocks, bad):
    """Replace each block, of which the lower triangle is read, by its inverse; ``bad[k]``: it is not positive definite."""
    n = place.shape[0]
    for task in prange((n + _TASK - 1) // _TASK):
        for k in range(task * _TASK, min(n, (task + 1) * _TASK)):
            size, start = first[k + 1] - first[k], place[k]
            A = np.empty((size, size))
            bad[k] = False
            for c in range(size):
                for r in range(c, size):
                    A[r, c] = blocks[start + c * size + r]
            for c in range(size):
                for m in range(c):
                    A[c, c] -= A[c, m] * A[c, m]
                if not A[c, c] > 0.0:
                    bad[k] = True
                A[c, c] = math.sqrt(A[c, c])
                for r in range(c + 1, size):
                    for m in range(c):
                        A[r, c] -= A[r, m] * A[c, m]
                    A[r, c] /= A[c, c]
            for c in range(size):  # L⁻¹ in place
                A[c, c] = 1.0 / A[c, c]
                for r in range(c + 1, size):
                    total = 0.0
                    for m in range(c, r):
                        total -= A[r, m] * A[m, c]
                    A[r, c] = total / A[r, r]
            for c in range(size):
                for r in range(size):
                    total = 0.0
                    for m in range(max(r, c), size):
                        total += A[m, r] * A[m, c]
                    blocks[start + c * size + r] = total


@kernel
def multiply_blocks(first, place, blocks, x, out):
    """out ← A x, A symmetric and given by full blocks."""
    n = place.shape[0]
    for task in prange((n + _TASK - 1) // _TASK):
        for k in range(task * _TASK, min(n, (task + 1) * _TASK)):
            size, at = first[k + 1] - first[k], first[k]
            for r in range(size):
                total = 0.0
                for c in range(size):
                    total += blocks[place[k] + r * size + c] * x[at + c]
                out[at + r] = total


@kernel
def mirror_blocks(first, place, blocks):
    """Copy the lower triangle of each block into the upper one."""
    for k in prange(place.shape[0]):
        size = first[k + 1] - first[k]
        for c in range(size):
            for r in range(c):
                blocks[place[k] + c * size + r] = blocks[place[k] + r * size + c]
