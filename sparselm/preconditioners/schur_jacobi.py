"""Schur–Jacobi: the diagonal blocks of the Schur complement."""

from __future__ import annotations

from dataclasses import dataclass

from sparselm.linear_solvers.base import Failure
from sparselm.preconditioners.base import AbstractPreconditioner, Array, ReducedSystem
from sparselm.preconditioners.block_jacobi import InverseBlocks


@dataclass(frozen=True)
class SchurJacobi(AbstractPreconditioner):
    """M = the diagonal blocks of S; what Ceres calls SCHUR_JACOBI.

    Where S is never formed and several residual blocks connect one kept block with one eliminated one, as shared intrinsics
    are, these are taken one by one, and a residual block that touches a kept block twice takes nothing off H: M is then not
    quite the diagonal of S, but positive definite all the same.
    """

    def analyze(self, system: ReducedSystem) -> InverseBlocks:
        """Allocate the inverse blocks."""
        return InverseBlocks(system)

    def prepare(self, plan: InverseBlocks, system: ReducedSystem) -> InverseBlocks | Failure:
        """Invert the diagonal blocks of S."""
        system.schur_diagonal(plan.blocks)
        return plan.invert()

    def apply(self, state: InverseBlocks, r: Array, out: Array) -> None:
        """Multiply with the inverse blocks."""
        state.multiply(r, out)
