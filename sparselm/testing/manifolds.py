"""The contract of manifolds, checked on any instance; public as :func:`sparselm.testing.check_manifold`."""

from __future__ import annotations

import copy
from typing import Any

import numba
import numpy as np

from sparselm.manifolds.base import FREE, AbstractManifold, Array


def check_manifold(manifold: AbstractManifold, rng: np.random.Generator | None = None, n: int = 64) -> None:
    """Check that a manifold does what :class:`sparselm.manifolds.AbstractManifold` promises.

    Checked at n random points x, y and along n rays from x, at lengths 1e-12 … 1e-4 and at 0.5 … 1 − 1e-8 of the reach:
    the length up to which local undoes the retraction (π for rotations; it is not looked for beyond 100):

    * x ⊞ 0 = x, x ⊞ local(x, y) = y, local(x, x ⊞ δ) = δ;
    * plus_jacobian and local_jacobian are the derivatives, to 1e-6;
    * project leaves points of M alone, and gives points of M;
    * shapes; every output is written in full; ``out`` may be x; an empty batch; NaN in a step shows in the result;
    * equal bits whatever the number of threads.

    Points are compared through ``local(y, ·)``, so that q and −q, or θ and θ + 2π, count as the same.

    Parameters
    ----------
    manifold : AbstractManifold
    rng : numpy.random.Generator, optional
        Source of points; seeded with 0 by default.
    n : int
        Points per check.

    Raises
    ------
    AssertionError
        At the first promise broken.

    Examples
    --------
    >>> from sparselm.manifolds import Euclidean
    >>> from sparselm.testing import check_manifold
    >>> check_manifold(Euclidean(3))
    """
    rng = np.random.default_rng(0) if rng is None else rng
    checked = _Manifold(manifold)
    checked.check_shapes(rng, n)
    x, y = manifold.random(rng, n), manifold.random(rng, n)
    checked.check_inverses(x, y)
    checked.check_plus_jacobian(x)
    rays = _directions(checked.local(x, y))
    reach = checked.reach(x, rays)
    for length in (1e-12, 1e-9, 1e-6, 1e-4, 0.5 * reach, 0.9 * reach):
        checked.check_ray(x, length * rays)
        checked.check_local_jacobian(x, length * rays)
    for fraction in (1e-3, 1e-6, 1e-8):
        checked.check_ray(x, (1.0 - fraction) * reach * rays)
        checked.check_local_jacobian_inverts(x, (1.0 - fraction) * reach * rays)
    checked.check_project(x, rng)
    checked.check_additive(x, rays)
    checked.check_buffers(x, rays)
    checked.check_threads(rng)


class _Manifold:
    """A manifold whose methods return fresh arrays, NaN where they were not written, with what is checked of it."""

    def __init__(self, manifold: AbstractManifold) -> None:
        self.manifold = manifold
        self.ambient_dim, self.tangent_dim = manifold.ambient_dim, manifold.tangent_dim

    def _out(self, x: Array, *shape: int) -> Array:
        return np.full((len(x), *shape), np.nan)

    def retract(self, x: Array, delta: Array) -> Array:
        out = self._out(x, self.ambient_dim)
        self.manifold.retract(x, delta, out)
        return out

    def local(self, x: Array, y: Array) -> Array:
        out = self._out(x, self.tangent_dim)
        self.manifold.local(x, y, out)
        return out

    def plus_jacobian(self, x: Array) -> Array:
        out = self._out(x, self.ambient_dim, self.tangent_dim)
        self.manifold.plus_jacobian(x, out)
        return out

    def local_jacobian(self, x: Array, y: Array) -> Array:
        out = self._out(x, self.tangent_dim, self.tangent_dim)
        self.manifold.local_jacobian(x, y, out)
        return out

    def project(self, x: Array) -> Array:
        out = self._out(x, self.ambient_dim)
        self.manifold.project(x, out)
        return out

    def fail_where(self, error: Array, limit: Array | float, what: str, **points: Array) -> None:
        _fail_where(error, limit, f"{self.manifold!r}: {what}", **points)

    def check_shapes(self, rng: np.random.Generator, n: int) -> None:
        name = repr(self.manifold)
        dims = f"tangent_dim {self.tangent_dim}, ambient_dim {self.ambient_dim}"
        assert 1 <= self.tangent_dim <= self.ambient_dim, f"{name}: {dims}, expected 1 ≤ tangent_dim ≤ ambient_dim"
        assert self.manifold == copy.deepcopy(self.manifold), f"{name}: a copy is not equal to it"
        x = self.manifold.random(rng, n)
        expected = (n, self.ambient_dim)
        assert x.shape == expected, f"{name}: random has shape {x.shape}, expected {expected} = (n, ambient_dim)"
        assert x.dtype == np.float64, f"{name}: random has dtype {x.dtype}, expected float64"
        assert x.flags.c_contiguous, f"{name}: random is not C-contiguous"
        empty = x[:0]
        self.retract(empty, self.local(empty, empty))
        self.plus_jacobian(self.project(empty))
        self.local_jacobian(empty, empty)

    def check_inverses(self, x: Array, y: Array) -> None:
        scale = _scale(x)
        zero = np.zeros((len(x), self.tangent_dim))
        self.fail_where(_norm(self.local(x, self.retract(x, zero))), 1e-14 * scale, "x ⊞ 0 is not x", x=x)
        back = self.retract(x, self.local(x, y))
        self.fail_where(_norm(self.local(y, back)), 1e-12 * _scale(x, y), "x ⊞ local(x, y) is not y", x=x, y=y)

    def check_ray(self, x: Array, delta: Array) -> None:
        """Both inverses again, at y = x ⊞ δ."""
        y = self.retract(x, delta)
        # An error of one rounding in y comes back multiplied by the derivative of local.
        limit = 1e-13 * _scale(x, y) * (1.0 + _norm(self.local_jacobian(x, y)))
        self.fail_where(_norm(self.local(x, y) - delta), limit, "local(x, x ⊞ δ) is not δ", x=x, delta=delta)
        self.check_inverses(x, y)

    def check_plus_jacobian(self, x: Array) -> None:
        step = 1e-6
        for j, jacobian in enumerate(np.moveaxis(self.plus_jacobian(x), 2, 0)):
            delta = np.zeros((len(x), self.tangent_dim))
            delta[:, j] = step
            difference = self.retract(x, delta) - self.retract(x, -delta)
            # A seam of the chart, as at ±π of an angle, lies between the two.
            smooth = np.abs(difference).max(axis=1) < 1e-2
            assert smooth.any(), f"{self.manifold!r}: the retraction jumps at every x"
            error = np.where(smooth, _norm(difference / (2.0 * step) - jacobian), 0.0)
            self.fail_where(error, 1e-6 * _scale(x), f"plus_jacobian, column {j}, is not the derivative", x=x)
        pattern = self.manifold.plus_jacobian_pattern()
        shape = (self.manifold.ambient_dim, self.tangent_dim)
        assert pattern.shape == shape, f"{self.manifold!r}: the pattern has shape {pattern.shape}, expected {shape}"
        error = np.where(pattern == FREE, 0.0, np.abs(self.plus_jacobian(x) - pattern)).max(axis=(1, 2))
        self.fail_where(error, np.full(len(x), 1e-300), "plus_jacobian differs from plus_jacobian_pattern", x=x)

    def check_local_jacobian(self, x: Array, delta: Array) -> None:
        step = 1e-5
        y = self.retract(x, delta)
        for j, jacobian in enumerate(np.moveaxis(self.local_jacobian(x, y), 2, 0)):
            move = np.zeros((len(x), self.tangent_dim))
            move[:, j] = step
            difference = self.local(x, self.retract(y, move)) - self.local(x, self.retract(y, -move))
            error = _norm(difference / (2.0 * step) - jacobian)
            limit = 1e-6 * _scale(x, y) * (1.0 + _norm(jacobian))
            self.fail_where(error, limit, f"local_jacobian, column {j}, is not the derivative", x=x, y=y)

    def check_local_jacobian_inverts(self, x: Array, delta: Array) -> None:
        """The same without crossing the cut: h → local(y, x ⊞ (δ + h J e_j)) has derivative e_j at 0 for the J of y."""
        y = self.retract(x, delta)
        jacobian = self.local_jacobian(x, y)
        size = 1.0 + _norm(jacobian)
        step = 1e-5 / size[:, None]
        # Where local is singular at the cut (antipodes of a sphere), differences so near it are nothing but rounding.
        tame = size < 1e4
        limit = 1e-6 * _scale(x, y) + 1e-14 * _scale(x, y) / step[:, 0]
        for j in range(self.tangent_dim):
            move = step * jacobian[:, :, j]
            difference = self.local(y, self.retract(x, delta + move)) - self.local(y, self.retract(x, delta - move))
            error = np.where(tame, _norm(difference / (2.0 * step) - np.eye(self.tangent_dim)[j]), 0.0)
            self.fail_where(error, limit, f"local_jacobian, column {j}, does not invert the derivative", x=x, y=y)

    def check_project(self, x: Array, rng: np.random.Generator) -> None:
        moved = _norm(self.local(x, self.project(x)))
        self.fail_where(moved, 1e-14 * _scale(x), "project moves a point of the manifold", x=x)
        outside = x + 0.1 * rng.standard_normal(x.shape)
        inside = self.project(outside)
        has_nearest = np.isfinite(inside).all(axis=1)  # where there is none, NaN is right
        outside, inside, x = outside[has_nearest], inside[has_nearest], x[has_nearest]
        again = _norm(self.project(inside) - inside)
        self.fail_where(again, 1e-14 * _scale(x), "project is not idempotent", x=outside)
        zero = np.zeros((len(x), self.tangent_dim))
        off = _norm(self.retract(inside, zero) - inside)
        self.fail_where(off, 1e-14 * _scale(x), "project gives a point that is not on the manifold", x=outside)
        lost = np.isfinite(self.project(np.full_like(x, np.nan))).all(axis=1)
        assert not lost.any(), f"{self.manifold!r}: project makes a finite point of NaN"

    def check_additive(self, x: Array, delta: Array) -> None:
        additive = self.manifold.additive()
        name = repr(self.manifold)
        assert additive.shape == (self.ambient_dim,), f"{name}: additive has shape {additive.shape}"
        places = np.flatnonzero(additive >= 0)
        assert (additive < self.tangent_dim).all(), f"{name}: additive is {additive}, expected tangent components or −1"
        error = np.zeros((len(x), self.ambient_dim))
        error[:, places] = self.retract(x, delta)[:, places] - (x[:, places] + delta[:, additive[places]])
        self.fail_where(_norm(error), 1e-300, "additive names components that are not x + δ", x=x, delta=delta)

    def check_buffers(self, x: Array, delta: Array) -> None:
        expected, out = self.retract(x, delta), x.copy()
        self.manifold.retract(out, delta, out)
        self.fail_where(_norm(out - expected), 1e-300, "retract with out = x differs", x=x, delta=delta)
        lost = np.isfinite(self.retract(x, np.full_like(delta, np.nan))).all(axis=1)
        assert not lost.any(), f"{self.manifold!r}: a step of NaN gives a finite point, so that it would be accepted"

    def check_threads(self, rng: np.random.Generator) -> None:
        # Enough points for several parallel tasks, the last one not full.
        x, y = self.manifold.random(rng, 1111), self.manifold.random(rng, 1111)
        threads = numba.get_num_threads()
        results: list[dict[str, Array]] = []
        try:
            for count in (2, 1):
                try:
                    numba.set_num_threads(count)
                except ValueError:  # this process was given one thread: nothing to compare
                    return
                delta = self.local(x, y)
                results.append(
                    {
                        "local": delta,
                        "retract": self.retract(x, delta),
                        "plus_jacobian": self.plus_jacobian(x),
                        "local_jacobian": self.local_jacobian(x, y),
                        "project": self.project(x + 0.1 * y),
                    }
                )
        finally:
            numba.set_num_threads(threads)
        for method, one in results[0].items():
            same: Any = (one == results[1][method]).reshape(len(x), -1).all(axis=1)
            self.fail_where((~same).astype(float), 0.5, f"{method} differs between 1 and 2 threads", x=x, y=y)

    def reach(self, x: Array, rays: Array) -> Array:
        """Length, along each unit ray from x, up to which local undoes the retraction; ``(n, 1)``, at most 100."""
        low, high = np.full((len(x), 1), 1e-2), np.full((len(x), 1), 100.0)
        for _ in range(60):
            middle = np.sqrt(low * high)
            error = _norm(self.local(x, self.retract(x, middle * rays)) - middle * rays)
            undone = error[:, None] < 1e-3 * middle
            low, high = np.where(undone, middle, low), np.where(undone, high, middle)
        return low


def _norm(values: Array) -> Array:
    """Euclidean length of each row, of all its numbers."""
    lengths: Array = np.linalg.norm(values.reshape(len(values), -1), axis=1)
    return lengths


def _scale(*points: Array) -> Array:
    """1 + the largest number of each row: what a rounding error is relative to."""
    largest: Array = np.max([np.abs(values).max(axis=1, initial=0.0) for values in points], axis=0)
    return 1.0 + largest


def _directions(tangents: Array) -> Array:
    return tangents / _norm(tangents)[:, None]


def _fail_where(error: Array, limit: Array | float, what: str, **points: Array) -> None:
    """Raise where error exceeds limit or is NaN, naming the worst of n points."""
    excess = np.broadcast_to(error / limit, error.shape)
    excess = np.where(np.isnan(excess), np.inf, excess)
    worst = int(np.argmax(excess)) if excess.size else 0
    if excess.size and excess[worst] > 1.0:
        where = ", ".join(f"{name} = {values[worst].tolist()}" for name, values in points.items())
        allowed = float(np.broadcast_to(limit, error.shape)[worst])
        raise AssertionError(f"{what}: error {error[worst]:.3g}, allowed {allowed:.3g}, at point {worst}: {where}")
