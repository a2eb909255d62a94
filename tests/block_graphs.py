"""Graphs of blocks, and their symbolic factorisation in a dense matrix."""

import numpy as np

SHAPES = ["sparse", "dense", "chain", "arrow", "star", "forest", "nothing"]


def edges(shape, n, rng):
    if shape == "chain":
        pairs = [(i, i + 1) for i in range(n - 1)]
    elif shape == "arrow":
        pairs = [(i, n - 1) for i in range(n - 1)] + [(i, i + 1) for i in range(n - 1)]
    elif shape == "star":
        pairs = [(0, i) for i in range(1, n)]
    elif shape == "forest":
        pairs = [(i, int(rng.integers(i + 1, n))) for i in range(n - 1) if rng.random() < 0.8]
    else:
        density = {"sparse": 0.15, "dense": 1.0, "nothing": 0.0}[shape]
        pairs = [(i, j) for i in range(n) for j in range(i + 1, n) if rng.random() < density]
    return distinct(np.array(pairs, dtype=np.int64).reshape(-1, 2))


def distinct(pairs):
    """Edges between different blocks, each once."""
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return np.unique(pairs, axis=0)


def grid(*shape):
    """Edges of a grid."""
    number = np.arange(np.prod(shape)).reshape(shape)
    sides = [np.moveaxis(number, axis, 0) for axis in range(len(shape))]
    return np.concatenate([np.stack([a[:-1].ravel(), a[1:].ravel()], axis=1) for a in sides])


def neighbours(pairs, n):
    """``indptr, indices`` of both triangles."""
    rows = np.concatenate([pairs[:, 0], pairs[:, 1]])
    columns = np.concatenate([pairs[:, 1], pairs[:, 0]])
    indptr = np.append(0, np.cumsum(np.bincount(rows, minlength=n))).astype(np.int64)
    return indptr, columns[np.argsort(rows, kind="stable")].astype(np.int32)


def inverse(order):
    position = np.empty_like(order)
    position[order] = np.arange(len(order), dtype=order.dtype)
    return position


def dense_factor(pairs, order):
    """The pattern of the factor by positions, by elimination in a dense matrix."""
    n = len(order)
    filled = np.eye(n, dtype=bool)
    filled[pairs[:, 0], pairs[:, 1]] = filled[pairs[:, 1], pairs[:, 0]] = True
    filled = filled[np.ix_(order, order)]
    for k in range(n):
        below = k + 1 + np.flatnonzero(filled[k + 1 :, k])
        filled[np.ix_(below, below)] = True
    return np.tril(filled)


def dense_symbolic(pairs, sizes, order):
    """Parents and heights by position, of the same elimination."""
    n = len(sizes)
    filled = dense_factor(pairs, order)
    parent, heights = np.full(n, -1), np.zeros(n, dtype=int)
    for k in range(n):
        below = k + 1 + np.flatnonzero(filled[k + 1 :, k])
        heights[k] = sizes[order[below]].sum()
        parent[k] = below[0] if len(below) else -1
    return parent, heights


def check_postorder(parent):
    """Subtrees are contiguous, and end with their root."""
    n = len(parent)
    count = np.ones(n, dtype=int)
    for v in range(n):
        if parent[v] >= 0:
            assert parent[v] > v
            count[parent[v]] += count[v]
    for v in range(n):
        child = v - 1
        while child > v - count[v]:  # children stand one after the other, each behind its own subtree
            assert parent[child] == v
            child -= count[child]
