"""The Schur complement by blocks, in rows, and products with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sparselm.kernels.gather import counting_sort
from sparselm.kernels.reduced_products import symmetric_product
from sparselm.linear_solvers.schur.complement import ReducedPattern
from sparselm.linear_solvers.schur.elimination import Elimination
from sparselm.linear_solvers.schur.partition import Partition
from sparselm.linear_solvers.schur.reduced_matrix import ReducedMatrix
from sparselm.linear_solvers.schur.reduced_system import AbstractSchurSystem

if TYPE_CHECKING:
    from sparselm.linearization import Linearization

Array = npt.NDArray[np.float64]


class ExplicitSystem(AbstractSchurSystem):
    """S formed by blocks: each product reads its non-zeros twice, whatever the number of eliminated blocks."""

    def __init__(self, partition: Partition, pattern: ReducedPattern) -> None:
        super().__init__(partition)
        self._pattern = pattern
        self._elimination = Elimination(partition)
        sizes = partition.sizes.astype(np.int64)
        n = partition.num_kept
        high, low = pattern.high, pattern.low
        # Row by row, the diagonal block after those before it.
        area = sizes[high] * sizes[low]
        order = np.argsort(np.append(high, np.arange(n, dtype=np.int32)), kind="stable")
        areas = np.append(area, sizes * sizes)[order]
        starts = np.empty(len(order), dtype=np.int64)
        starts[order] = np.cumsum(areas) - areas
        self._below, self._diagonal = starts[: len(high)], starts[len(high) :]
        self._column_ptr, self._column_order = counting_sort(low, n)
        self._matrix = ReducedMatrix(pattern, np.arange(n, dtype=np.int32), self._diagonal, self._below)
        self.S: Array = np.zeros(int(areas.sum()))
        uniform = n > 0 and sizes.min() == sizes.max()
        self._multiply = symmetric_product(int(sizes[0]) if uniform else 0)

    @property
    def pattern(self) -> ReducedPattern:
        return self._pattern

    @property
    def elimination(self) -> Elimination:
        return self._elimination

    def make_couplings(self) -> None:
        pass  # they are what S is made of

    def prepare(self, linearization: Linearization) -> None:
        self.linearization = linearization
        self._elimination.prepare(linearization)
        self._matrix.prepare(linearization)

    def factorize(self, damping: Array) -> int:
        assert self.linearization is not None
        self.set_damping(damping)
        block = self._elimination.factorize(self.linearization, damping)
        if block < 0:
            self._matrix.compute(self._elimination, self.S)
        return block

    def forward(self, b: Array, reduced: Array) -> None:
        self._elimination.forward(b, reduced)
        if self.any_held:
            reduced[self.held] = 0.0

    def backward(self, reduced: Array, x: Array) -> None:
        self._elimination.backward(reduced, x)

    def multiply(self, x: Array, out: Array) -> None:
        p = self._pattern
        self._multiply(
            p.row_ptr, p.high, p.low, self._below, self._column_ptr, self._column_order, self._diagonal, self.first,
            self.S, x, out,
        )  # fmt: skip
        self.add_damping(x, out)

    def kept_diagonal(self, out: Array) -> None:
        out[:] = self._matrix.H[: len(out)]  # where ReducedMatrix keeps them
        self.finish_diagonal(out)

    def schur_diagonal(self, out: Array) -> None:
        sizes = np.diff(self.first)
        area = sizes * sizes
        entries = np.repeat(self._diagonal - self.place, area) + np.arange(int(area.sum()))
        np.take(self.S, entries, out=out)
        self.finish_diagonal(out)
