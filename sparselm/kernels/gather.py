"""Sorting blocks by what they touch."""

from __future__ import annotations

import numpy as np

from sparselm._jit import serial_kernel


@serial_kernel
def counting_sort(keys, num_keys):
    """Stable order of small integer keys: ``ptr (num_keys + 1)`` and ``order (n)``, key k at ``order[ptr[k]:ptr[k+1]]``."""
    ptr = np.zeros(num_keys + 1, np.int64)
    for i in range(keys.shape[0]):
        ptr[keys[i] + 1] += 1
    for k in range(num_keys):
        ptr[k + 1] += ptr[k]
    fill = ptr[:-1].copy()
    order = np.empty(keys.shape[0], np.int32)
    for i in range(keys.shape[0]):
        k = keys[i]
        order[fill[k]] = i
        fill[k] += 1
    return ptr, order
