"""Block Jacobi: the diagonal blocks of H + D, of kept variables alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparselm.kernels.diagonal_blocks import invert_blocks, multiply_blocks
from sparselm.linear_solvers.base import Failure
from sparselm.preconditioners.base import AbstractPreconditioner, Array, LongArray, ReducedSystem, block_diagonal_size


@dataclass(frozen=True)
class BlockJacobi(AbstractPreconditioner):
    """M = the diagonal blocks of H + D.

    Each kept block is treated as if all eliminated ones were held. It costs nothing that is not there anyway.
    """

    def analyze(self, system: ReducedSystem) -> InverseBlocks:
        """Allocate the inverse blocks."""
        return InverseBlocks(system)

    def prepare(self, plan: InverseBlocks, system: ReducedSystem) -> InverseBlocks | Failure:
        """Invert the diagonal blocks."""
        system.kept_diagonal(plan.blocks)
        return plan.invert()

    def apply(self, state: InverseBlocks, r: Array, out: Array) -> None:
        """Multiply with the inverse blocks."""
        state.multiply(r, out)


class InverseBlocks:
    """Diagonal blocks, and their inverses in the same place."""

    def __init__(self, system: ReducedSystem) -> None:
        self.first: LongArray = system.first
        self.place: LongArray = system.place
        self.blocks: Array = np.zeros(block_diagonal_size(system))
        self._bad: npt.NDArray[np.bool_] = np.zeros(len(system.place), dtype=bool)

    def invert(self) -> InverseBlocks | Failure:
        """Invert each block in place."""
        invert_blocks(self.first, self.place, self.blocks, self._bad)
        if self._bad.any():
            return Failure("a diagonal block of the preconditioner is not positive definite", int(self._bad.argmax()))
        return self

    def multiply(self, x: Array, out: Array) -> None:
        """out ← the blocks times x."""
        multiply_blocks(self.first, self.place, self.blocks, x, out)
