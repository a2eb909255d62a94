r"""Derivatives of a function over blocks along the retractions of its operands: complex step, central, forward.

For tangent component k of one operand, with ``x ⊞ h e_k`` the retraction:

* complex step: Im r(x + ih P e_k)/h with P = ∂(x ⊞ δ)/∂δ; exact to rounding where r is analytic, since nothing is
  subtracted and h may be as small as one likes;
* central: (r(x ⊞ h e_k) − r(x ⊞ −h e_k)) / 2h, truncation h²r‴/6;
* forward: (r(x ⊞ h e_k) − r(x)) / h, truncation hr″/2.

Steps are relative to max(1, \|x_k\|): a component of 10⁻¹³ among others of 400 (a distortion coefficient) moves r by less
than its rounding if it is moved by a small part of itself. Where r bends at such a step, as it does for a radius
of 10⁻⁹, the central difference is taken again with a step of the length over which r bends.

References
----------
W. Squire, G. Trapp, "Using complex variables to estimate derivatives of real functions", SIAM Review 40, 1998.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sparselm.manifolds.base import AbstractManifold
from sparselm.manifolds.euclidean import Euclidean
from sparselm.residuals._user_function import UserFunction

Array = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]
IntArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]
_T = TypeVar("_T", bound=np.generic)

_EPS = float(np.finfo(np.float64).eps)

# A power of two, so that the division by it is exact; h³ is still a normal number.
COMPLEX_STEP = 2.0**-332

# Relative steps that balance truncation and rounding.
CENTRAL_STEP = _EPS ** (1 / 3)
FORWARD_STEP = _EPS ** (1 / 2)

# Second difference, as a share of the first, at which r bends too much for the step: it is about h/L, L the length over
# which r′ changes by itself, and the truncation error about its square.
_BENDING = 1e-4

# Shorter steps that are tried one after the other.
_MOST_REPEATS = 3


def moved_magnitude(x: Array, plus: Array, component: int) -> Array:
    """The largest of the numbers of each row that a tangent component moves, ``(n,)``; plus is ∂(x ⊞ δ)/∂δ."""
    return np.asarray(np.max(np.abs(x), axis=1, where=plus[:, :, component] != 0.0, initial=0.0))


class Chunk:
    """Some blocks: their operands gathered, as the function sees them, and moved along one component at a time.

    Vectorised functions get their operands column by column in memory (``x[:, 0]`` contiguous), which makes NumPy
    code over columns a third faster. They never get a single row: its array is in both memory orders at once, and NumPy's
    sums would then run in another order, with other bits.
    """

    def __init__(
        self, manifolds: Sequence[AbstractManifold], points: list[Array], data: list[Array], *, vectorized: bool
    ) -> None:
        self.manifolds = manifolds
        self.num_blocks = len(points[0])
        self.vectorized = vectorized
        if vectorized and self.num_blocks == 1:
            points = [np.repeat(x, 2, axis=0) for x in points]
            data = [np.repeat(array, 2, axis=0) for array in data]
        self.points = points
        self.data = [_read_only(array) for array in data]
        self._own = [np.array(x, order="F") if vectorized else x.copy() for x in points]
        self.operands = [_read_only(x) for x in self._own]
        self._plus: list[Array | None] = [None] * len(points)
        self._complex: list[ComplexArray | None] = [None] * len(points)

    @property
    def num_rows(self) -> int:
        """Rows the function sees: blocks, and one more where there is one block only."""
        return len(self.points[0])

    def subset(self, rows: IntArray) -> Chunk:
        """Some of the blocks."""
        points, data = [x[rows] for x in self.points], [array[rows] for array in self.data]
        return Chunk(self.manifolds, points, data, vectorized=self.vectorized)

    def plus_jacobian(self, operand: int) -> Array:
        """∂(x ⊞ δ)/∂δ of an operand, ``(num_rows, ambient_dim, tangent_dim)``."""
        known = self._plus[operand]
        if known is None:
            manifold, x = self.manifolds[operand], self.points[operand]
            known = np.empty((len(x), manifold.ambient_dim, manifold.tangent_dim))
            manifold.plus_jacobian(x, known)
            self._plus[operand] = known
        return known

    def magnitude(self, operand: int, component: int) -> Array:
        """The largest of the numbers that a tangent component moves, ``(num_rows,)``; |x_k| on a Euclidean manifold."""
        x = self.points[operand]
        if isinstance(self.manifolds[operand], Euclidean):
            return np.abs(x[:, component])
        return moved_magnitude(x, self.plus_jacobian(operand), component)

    def write_moved(self, function: UserFunction, operand: int, component: int, step: Array, out: Array) -> Array:
        """Write r(x ⊞ step e_k); return the step that was made, which for sums x + h is the rounded one."""
        x, seen = self.points[operand], self._own[operand]
        if isinstance(self.manifolds[operand], Euclidean):
            np.add(x[:, component], step, out=seen[:, component])
            made = np.asarray(seen[:, component] - x[:, component])
            function.write(self.operands, self.data, out)
            seen[:, component] = x[:, component]
            return made
        delta = np.zeros((len(x), self.manifolds[operand].tangent_dim))
        delta[:, component] = step
        moved = np.empty_like(x)
        self.manifolds[operand].retract(x, delta, moved)
        seen[...] = moved
        function.write(self.operands, self.data, out)
        seen[...] = x
        return step

    def write_complex_step(self, function: UserFunction, operand: int, component: int, out: Array) -> None:
        """Write Im r(x + ih P e_k)/h."""
        z = self._complex[operand]
        if z is None:
            z = self._own[operand].astype(np.complex128)
            self._complex[operand] = z
        euclidean = isinstance(self.manifolds[operand], Euclidean)
        if euclidean:
            z.imag[:, component] = COMPLEX_STEP
        else:
            np.multiply(self.plus_jacobian(operand)[:, :, component], COMPLEX_STEP, out=z.imag)
        operands = [*self.operands[:operand], _read_only(z), *self.operands[operand + 1 :]]
        function.write_imaginary(operands, self.data, out)
        out *= 1.0 / COMPLEX_STEP
        if euclidean:
            z.imag[:, component] = 0.0


def forward_difference(function: UserFunction, chunk: Chunk, operand: int, component: int, r: Array) -> Array:
    """∂r/∂δ_k by forward differences, ``(num_rows, dim)``; r is the value at x."""
    out = np.empty_like(r)
    step = FORWARD_STEP * np.maximum(1.0, chunk.magnitude(operand, component))
    made = chunk.write_moved(function, operand, component, step, out)
    with np.errstate(all="ignore"):
        out -= r
        out /= made[:, None]
    return out


def central_difference(
    function: UserFunction, chunk: Chunk, operand: int, component: int, r: Array
) -> tuple[Array, Array]:
    """∂r/∂δ_k by central differences, ``(num_rows, dim)``, and what each row's may be off by at most, ``(num_rows,)``.

    Rows where r bends at the step are done again with a shorter one, which counts where the two differ by more than the
    rounding of the second.
    """
    magnitude = chunk.magnitude(operand, component)
    step = CENTRAL_STEP * np.maximum(1.0, magnitude)
    with np.errstate(all="ignore"):
        quotient, bending, noise = _central(function, chunk, operand, component, step, r)
        finite = np.asarray(np.isfinite(r).all(axis=1))
        rows = np.flatnonzero((_bends(quotient, bending, noise, step) & finite)[: chunk.num_blocks])
        for _ in range(_MOST_REPEATS):
            if not len(rows):
                break
            # Where differences are not finite nothing is known of the length, and the ratio becomes CENTRAL_STEP.
            ratio = CENTRAL_STEP * 2.0 * np.max(np.abs(quotient[rows]), axis=1) * step[rows] / bending[rows]
            shorter = step[rows] * np.where(np.isfinite(ratio), ratio, CENTRAL_STEP).clip(1e-10, 1.0)
            some = chunk.subset(rows)
            padded_r, padded_step = np.resize(r[rows], (some.num_rows, r.shape[1])), np.resize(shorter, some.num_rows)
            found = _central(function, some, operand, component, padded_step, padded_r)
            fine, fine_bending, fine_noise = (part[: len(rows)] for part in found)
            # Rounding: of sums of terms of this size, of which r may be the small rest; and what the second difference
            # has beside its smooth part, which goes with the square of the step.
            fine_noise = fine_noise + _EPS * np.max(np.abs(fine), axis=1) * magnitude[rows]
            rough = np.abs(fine_bending - bending[rows] * (shorter / step[rows]) ** 2)
            rounding = np.fmax(fine_noise, np.fmin(fine_bending, rough)) / shorter
            better = ~(np.max(np.abs(fine - quotient[rows]), axis=1) <= 4.0 * rounding)
            better &= np.isfinite(fine_bending)
            rows = rows[better]
            quotient[rows], step[rows] = fine[better], shorter[better]
            bending[rows], noise[rows] = fine_bending[better], fine_noise[better]
            rows = rows[_bends(quotient[rows], bending[rows], noise[rows], step[rows])]
    return quotient, np.maximum(bending, noise) / step


def _bends(quotient: Array, bending: Array, noise: Array, step: Array) -> BoolArray:
    """Rows whose second difference is, beyond rounding, too large beside the first, or not finite."""
    slope = np.max(np.abs(quotient), axis=1)
    small = bending <= np.maximum(2.0 * _BENDING * slope * step, 1e3 * noise)
    return np.asarray(~(small & np.isfinite(bending)))


def _central(
    function: UserFunction, chunk: Chunk, operand: int, component: int, step: Array, r: Array
) -> tuple[Array, Array, Array]:
    """Quotient ``(n, dim)``; size of the second difference and rounding of r, ``(n,)``."""
    ahead, behind = np.empty_like(r), np.empty_like(r)
    made = chunk.write_moved(function, operand, component, step, ahead)
    made = made - chunk.write_moved(function, operand, component, -step, behind)
    bending = np.max(np.abs((ahead - r) + (behind - r)), axis=1)
    ahead -= behind
    ahead /= made[:, None]
    return ahead, bending, _EPS * np.max(np.abs(r), axis=1)


def _read_only(array: npt.NDArray[_T]) -> npt.NDArray[_T]:
    view = array.view()
    view.flags.writeable = False
    return view
