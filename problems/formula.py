"""Residuals written as one NumPy formula; their Jacobian by the complex step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

import sparselm as slm
from sparselm.manifolds.base import AbstractManifold
from sparselm.residuals.base import AbstractResidual, Array, IndexArray, OperandBlocks

# r(x + ih) = r(x) + ih r'(x) + O(h²): no difference is taken, so h may be as small as one likes.
_STEP = 1e-100


@final
@dataclass(frozen=True)
class Formula(AbstractResidual):
    """r = formula(*operands, *data) over real vectors, vectorised over blocks.

    Parameters
    ----------
    formula : callable
        Takes the operands ``(width, n)``, real or complex, then the data ``(length, n)``, and returns ``dim`` rows of
        length n. Analytic: made of +, −, ×, /, powers and elementary functions, without ``abs`` or ``maximum``.
    widths : tuple of int
        Numbers per operand.
    rows : int
        ``dim``.
    data_length : int
        Numbers per block in the one data array; 0 where there is none.
    """

    formula: Callable[..., Sequence[Array]]
    widths: tuple[int, ...]
    rows: int
    data_length: int = 0

    @property
    def dim(self) -> int:
        return self.rows

    @property
    def manifolds(self) -> tuple[AbstractManifold, ...]:
        return tuple(slm.Euclidean(width) for width in self.widths)

    @property
    def data_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.data_length,),) if self.data_length else ()

    def evaluate(self, blocks: Sequence[OperandBlocks], data: Sequence[Array], r: Array) -> None:
        r[...] = self._apply([block.values[block.index].T for block in blocks], data)

    def linearize(
        self, blocks: Sequence[OperandBlocks], data: Sequence[Array], columns: IndexArray, r: Array, J: Array
    ) -> None:
        self.evaluate(blocks, data, r)
        operands = [block.values[block.index].T.astype(np.complex128) for block in blocks]
        components = [(operand, k) for operand in operands for k in range(len(operand))]
        for (operand, k), column in zip(components, columns, strict=True):
            if column >= 0:
                operand[k] += 1j * _STEP
                J[:, :, column] = self._apply(operands, data).imag / _STEP
                operand[k] = operand[k].real

    def _apply(self, operands: Sequence[Array], data: Sequence[Array]) -> Array:
        # A trial step may go anywhere; a residual that overflows there makes the step invalid, and is no warning.
        with np.errstate(all="ignore"):
            rows = self.formula(*operands, *(array.T for array in data))
            return np.stack(np.broadcast_arrays(*rows), axis=1)
