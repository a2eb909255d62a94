r"""Jacobians of any residual by extrapolated differences along the retractions, with an honest error for each entry.

On a ladder of steps h_j = a 4^{−j}, j = 1, 2, …, with a = max(1, \|x_k\|) for each block, central differences
D_j = (r(x ⊞ h_j e_k) − r(x ⊞ −h_j e_k)) / 2h_j are extrapolated, R_j = (16 D_{j+1} − D_j)/15, which is off by O(h⁴). With
the rounding u of r, the error of R_j is at most \|R_j − R_{j−1}\| + u/h_{j+1}, or by how much shorter steps contradict it
if that is more; each entry takes the j for which this is least. The ladder reaches down to 10⁻¹³ a, so that it holds the
right step for a focal length of 400, for a distortion coefficient of 10⁻¹³ that hardly matters, and for a radius of 10⁻⁹
that does.

u is the larger of 16 ε (\|r\| + Σ_k \|∂r/∂δ_k\| \|x_k\|), which covers terms that cancel in r, and of what first and second
differences over the shortest steps have beside their smooth parts, which is noise.

At a kink the derivatives ahead and behind, D_j ± B_j/2 with B_j = (r(x ⊞ h_j e_k) − 2r(x) + r(x ⊞ −h_j e_k)) / h_j, do
not approach each other as h_j falls, while B_j = O(h_j) where r is smooth.

References
----------
C. J. F. Ridders, "Accurate computation of F'(x) and F'(x) F''(x)", Advances in Engineering Software 4, 1982.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparselm.manifolds.base import AbstractManifold
from sparselm.residuals._tangent_steps import moved_magnitude
from sparselm.residuals.base import AbstractResidual, Array, IndexArray, OperandBlocks

BoolArray = npt.NDArray[np.bool_]

_EPS = float(np.finfo(np.float64).eps)
_NUM_STEPS = 22
_RATIO = 4.0

# Rounding errors of r in units of ε times its terms: residuals are some dozens of operations.
_ROUNDINGS = 16.0


@dataclass(frozen=True)
class ResidualBlocks:
    """n blocks of a residual, each with rows of its own: row b of ``points[i]`` is operand i of block b.

    Attributes
    ----------
    residual : AbstractResidual
    manifolds : sequence of AbstractManifold
        Of the operands' variables; the residual's own unless it has ambient Jacobians.
    points : sequence of (n, ambient_dim)
    data : sequence of (n, …)
    """

    residual: AbstractResidual
    manifolds: Sequence[AbstractManifold]
    points: Sequence[Array]
    data: Sequence[Array]

    @property
    def num_blocks(self) -> int:
        return len(self.points[0])

    def linearize(self) -> tuple[Array, Array]:
        """r ``(n, dim)`` and the residual's own J ``(n, dim, Σ tangent_dim)`` with all components free."""
        index = np.arange(self.num_blocks, dtype=np.int32)
        blocks = [self._operand(i, x, index, derivatives=True) for i, x in enumerate(self.points)]
        ambient = self.residual.ambient_jacobian
        width = sum(m.ambient_dim if ambient else m.tangent_dim for m in self.manifolds)
        r = np.full((self.num_blocks, self.residual.dim), np.nan)
        J = np.full((*r.shape, width), np.nan)
        with np.errstate(all="ignore"):
            self.residual.linearize(blocks, self.data, np.arange(width, dtype=np.int32), r, J)
            return r, self.tangent_jacobian(J) if ambient else J

    def tangent_jacobian(self, J: Array) -> Array:
        """An ambient Jacobian times the operands' ``plus_jacobian``."""
        parts = np.split(J, np.cumsum([m.ambient_dim for m in self.manifolds])[:-1], axis=2)
        return np.concatenate([part @ self.plus_jacobian(i) for i, part in enumerate(parts)], axis=2)

    def plus_jacobian(self, operand: int) -> Array:
        """∂(x ⊞ δ)/∂δ at each block, ``(n, ambient_dim, tangent_dim)``."""
        manifold = self.manifolds[operand]
        out = np.empty((self.num_blocks, manifold.ambient_dim, manifold.tangent_dim))
        manifold.plus_jacobian(self.points[operand], out)
        return out

    def moved(self, operand: int, component: int, steps: Array) -> Array:
        """r(x ⊞ step e_k) for several steps ``(m, n)`` of each block, ``(m, n, dim)``, in one call of ``evaluate``."""
        m, n = steps.shape
        manifold = self.manifolds[operand]
        delta = np.zeros((m * n, manifold.tangent_dim))
        delta[:, component] = steps.ravel()
        x = np.tile(self.points[operand], (m, 1))
        manifold.retract(x, delta, x)
        index = np.tile(np.arange(n, dtype=np.int32), m)
        blocks = [
            self._operand(i, own, index, derivatives=False)
            if i != operand
            else self._operand(i, x, np.arange(m * n, dtype=np.int32), derivatives=False)
            for i, own in enumerate(self.points)
        ]
        r = np.full((m * n, self.residual.dim), np.nan)
        with np.errstate(all="ignore"):
            self.residual.evaluate(blocks, [np.tile(array, (m,) + (1,) * (array.ndim - 1)) for array in self.data], r)
        return r.reshape(m, n, self.residual.dim)

    def _operand(self, operand: int, values: Array, index: IndexArray, *, derivatives: bool) -> OperandBlocks:
        prepared = np.zeros((len(values), self.residual.prepared_dims()[operand]))
        if prepared.size:
            self.residual.prepare(operand, values, prepared, derivatives=derivatives)
        return OperandBlocks(values, index, prepared)


@dataclass(frozen=True)
class NumericJacobian:
    """What differences say of a Jacobian, arrays ``(n, dim, Σ tangent_dim)``.

    Attributes
    ----------
    values
        NaN where they say nothing: r is not finite on one side however short the step.
    errors
        What the values may be off by; ∞ where they are NaN.
    kinks : bool
        Entries whose derivatives ahead and behind differ.
    """

    values: Array
    errors: Array
    kinks: BoolArray


def numeric_jacobian(blocks: ResidualBlocks) -> NumericJacobian:
    """Differentiate a residual numerically at each block."""
    ladders, magnitudes = [], []
    for operand, manifold in enumerate(blocks.manifolds):
        plus = blocks.plus_jacobian(operand)
        for component in range(manifold.tangent_dim):
            magnitude = moved_magnitude(blocks.points[operand], plus, component)
            steps = np.maximum(1.0, magnitude) * _RATIO ** -np.arange(1.0, _NUM_STEPS + 1.0)[:, None]
            both = blocks.moved(operand, component, np.concatenate([steps, -steps]))
            ladders.append((steps[:, :, None], both[:_NUM_STEPS], both[_NUM_STEPS:]))
            magnitudes.append(magnitude[:, None])
    unmoved = blocks.moved(0, 0, np.zeros((1, blocks.num_blocks)))[0]
    with np.errstate(all="ignore"):
        rounding = _rounding(ladders, magnitudes, unmoved)
        found = [_extrapolate(ladder, unmoved, rounding) for ladder in ladders]
    values, errors, kinks = (np.stack(parts, axis=2) for parts in zip(*found, strict=True))
    return NumericJacobian(values, errors, kinks)


_Ladder = tuple[Array, Array, Array]


def _rounding(ladders: list[_Ladder], magnitudes: list[Array], r: Array) -> Array:
    """Rounding of r from the size of its terms, ``(n, dim)``."""
    terms = np.abs(r)
    for (steps, ahead, behind), magnitude in zip(ladders, magnitudes, strict=True):
        slopes = np.abs(ahead - behind) / (2.0 * steps)
        # The median over the ladder: long steps may go where r is huge, the shortest see rounding only.
        slopes[~np.isfinite(slopes)] = 0.0
        terms = terms + np.median(slopes, axis=0) * magnitude
    return np.asarray(_ROUNDINGS * _EPS * terms)


def _extrapolate(ladder: _Ladder, r: Array, rounding: Array) -> tuple[Array, Array, BoolArray]:
    """The derivative with respect to one component, its error, and whether there is a kink; each ``(n, dim)``."""
    steps, ahead, behind = ladder
    central = (ahead - behind) / (2.0 * steps)
    bend = (ahead - r) + (behind - r)
    # At the shortest steps D no longer changes but for noise, and second differences go with the square of the step.
    odd, even = np.diff(central[-4:], axis=0) * steps[-3:], bend[-3:] - bend[-4:-1] / _RATIO**2
    noise = np.fmax(rounding, 4.0 * np.max(np.fmax(np.abs(odd), np.abs(even)), axis=0))
    extrapolated = (_RATIO**2 * central[1:] - central[:-1]) / (_RATIO**2 - 1.0)
    errors = np.abs(np.diff(extrapolated, axis=0)) + noise / steps[2:]
    extrapolated = extrapolated[1:]
    errors[~np.isfinite(errors)] = np.inf
    # Two neighbours may agree by chance where there is more noise than was thought: the next shorter step, with four
    # times as much, then shows it.
    errors[:-1] = np.maximum(errors[:-1], errors[1:] / _RATIO**2)
    errors = np.maximum(errors, _contradiction(extrapolated, errors))
    best = np.argmin(errors, axis=0)[None]
    error = np.take_along_axis(errors, best, axis=0)[0]
    value = np.where(np.isfinite(error), np.take_along_axis(extrapolated, best, axis=0)[0], np.nan)
    return value, error, _kinks(steps, central, np.abs(bend), noise)


def _contradiction(values: Array, errors: Array) -> Array:
    r"""How far each value lies outside value ± error of a shorter step.

    Where steps are longer than all that r does near x, as for \|x + 1\| at a step of 10⁶, quotients settle at a wrong value.
    """
    known = np.isfinite(errors)
    least, most = np.where(known, values - errors, -np.inf), np.where(known, values + errors, np.inf)
    least, most = np.maximum.accumulate(least[::-1])[::-1], np.minimum.accumulate(most[::-1])[::-1]
    outside = np.zeros_like(errors)
    outside[:-1] = np.maximum(least[1:] - values[:-1], values[:-1] - most[1:])
    return np.where(np.isnan(outside), np.inf, outside)


def _kinks(steps: Array, central: Array, bend: Array, noise: Array) -> BoolArray:
    """Whether the slopes ahead and behind stay apart down to the shortest step that still shows a slope."""
    apart, blur = bend / steps, noise / steps
    size = np.max(np.abs(central) + 0.5 * apart, axis=2, keepdims=True)
    clear = np.max(blur, axis=2, keepdims=True) <= 1e-7 * size
    # The last clear step, but not the first of the ladder: it is compared with the one before.
    last = np.where(clear.any(axis=0), len(steps) - 1 - np.argmax(clear[::-1], axis=0), 0)[None]
    last = np.broadcast_to(last, (1, *bend.shape[1:]))
    own, blurred, whole = (
        np.take_along_axis(np.broadcast_to(part, bend.shape), last, axis=0)[0] for part in (apart, blur, size)
    )
    before = np.take_along_axis(apart, np.maximum(last - 1, 0), axis=0)[0]
    stays = (own > np.maximum(100.0 * blurred, 1e-5 * whole)) & (own >= 0.6 * before)
    return np.asarray(stays & (last[0] > 0))
