"""Clusters of kept blocks that see the same eliminated ones, and chains of clusters."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sparselm._jit import serial_kernel

IndexArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def find_clusters(high: IndexArray, low: IndexArray, shared: LongArray, seen: LongArray, most: int) -> IndexArray:
    """The cluster of each block, by single linkage with a limit on the size.

    Pairs are taken by decreasing similarity, shared / √(seen_i seen_j), and join the clusters of both blocks unless the
    outcome had more than ``most`` blocks.
    """
    similarity = shared / np.sqrt(seen[high].astype(np.float64) * seen[low])
    clusters: IndexArray = _join(high, low, np.argsort(-similarity, kind="stable"), len(seen), most)
    return clusters


@serial_kernel
def _join(high, low, order, n, most):  # type: ignore[no-untyped-def]
    root = np.arange(n).astype(np.int32)
    size = np.ones(n, dtype=np.int32)
    for q in range(order.shape[0]):
        a, b = high[order[q]], low[order[q]]
        while root[a] != a:
            root[a] = root[root[a]]
            a = root[a]
        while root[b] != b:
            root[b] = root[root[b]]
            b = root[b]
        if a != b and size[a] + size[b] <= most:
            root[max(a, b)] = min(a, b)
            size[min(a, b)] = size[a] + size[b]
    number = np.full(n, -1, dtype=np.int32)
    cluster = np.empty(n, dtype=np.int32)
    count = 0
    for k in range(n):
        a = k
        while root[a] != a:
            a = root[a]
        if number[a] < 0:
            number[a] = count
            count += 1
        cluster[k] = number[a]
    return cluster


def find_chains(cluster: IndexArray, high: IndexArray, low: IndexArray, shared: LongArray) -> BoolArray:
    """Which pairs of blocks lie in one cluster, or in two that are next to each other in a chain.

    Chains are a maximum spanning forest of the clusters in which none has more than two neighbours, taken greedily; two
    clusters weigh what they share, relative to what the larger of them shares with any.
    """
    a, b = cluster[high].astype(np.int64), cluster[low].astype(np.int64)
    n = int(cluster.max(initial=-1)) + 1
    keys, place = np.unique(np.maximum(a, b) * n + np.minimum(a, b), return_inverse=True)
    weight = np.bincount(place, weights=shared, minlength=len(keys))
    first, second = keys // n, keys % n
    total = np.bincount(first, weights=weight, minlength=n) + np.bincount(second, weights=weight, minlength=n)
    strength = weight / np.maximum(np.maximum(total[first], total[second]), 1.0)
    strength[first == second] = -1.0
    linked = _link(first, second, np.argsort(-strength, kind="stable"), n)
    linked |= first == second
    chosen: BoolArray = linked[place]
    return chosen


@serial_kernel
def _link(first, second, order, n):  # type: ignore[no-untyped-def]
    root = np.arange(n)
    degree = np.zeros(n, dtype=np.int64)
    linked = np.zeros(first.shape[0], dtype=np.bool_)
    for q in range(order.shape[0]):
        a, b = first[order[q]], second[order[q]]
        if a == b or degree[a] == 2 or degree[b] == 2:
            continue
        i, j = a, b
        while root[i] != i:
            i = root[i]
        while root[j] != j:
            j = root[j]
        if i != j:
            root[max(i, j)] = min(i, j)
            degree[a] += 1
            degree[b] += 1
            linked[order[q]] = True
    return linked
