"""Sums and maxima over long vectors: partial results of fixed stretches, added in order, whatever the thread count."""

from __future__ import annotations

import numpy as np
from numba import prange

from sparselm._jit import kernel

STRETCH = 4096


def num_stretches(n: int) -> int:
    """Length of the ``partial`` workspace for vectors of length n."""
    return max(1, -(-n // STRETCH))


@kernel
def dot(x, y, partial):
    """Return Σ x y."""
    n = x.shape[0]
    for task in prange((n + STRETCH - 1) // STRETCH):
        total = 0.0
        for i in range(task * STRETCH, min(n, (task + 1) * STRETCH)):
            total += x[i] * y[i]
        partial[task] = total
    result = 0.0
    for task in range((n + STRETCH - 1) // STRETCH):
        result += partial[task]
    return result


@kernel
def damped_reduction(delta, damping, gradient, partial):
    """Return ½ δᵀ(D δ − g); D = +∞ where δ = 0 adds nothing."""
    n = delta.shape[0]
    for task in prange((n + STRETCH - 1) // STRETCH):
        total = 0.0
        for i in range(task * STRETCH, min(n, (task + 1) * STRETCH)):
            total += delta[i] * ((damping[i] * delta[i] if delta[i] != 0.0 else 0.0) - gradient[i])
        partial[task] = total
    result = 0.0
    for task in range((n + STRETCH - 1) // STRETCH):
        result += partial[task]
    return 0.5 * result


@kernel
def model_reduction(Jd, r, partial):
    """Return −(Jδ)ᵀ(r + ½Jδ)."""
    n = r.shape[0]
    for task in prange((n + STRETCH - 1) // STRETCH):
        total = 0.0
        for i in range(task * STRETCH, min(n, (task + 1) * STRETCH)):
            total += Jd[i] * (r[i] + 0.5 * Jd[i])
        partial[task] = total
    result = 0.0
    for task in range((n + STRETCH - 1) // STRETCH):
        result += partial[task]
    return -result


@kernel
def max_abs(x, partial):
    """Return max |x|, NaN where any entry is NaN."""
    n = x.shape[0]
    for task in prange((n + STRETCH - 1) // STRETCH):
        largest = 0.0
        for i in range(task * STRETCH, min(n, (task + 1) * STRETCH)):
            value = abs(x[i])
            if value > largest or np.isnan(value):
                largest = value
            if np.isnan(largest):
                break
        partial[task] = largest
    result = 0.0
    for task in range((n + STRETCH - 1) // STRETCH):
        if partial[task] > result or np.isnan(partial[task]):
            result = partial[task]
        if np.isnan(result):
            break
    return result
