r"""Power series: the first terms of the Neumann series of the Schur complement.

With B the diagonal blocks of H + D and S = B − E, where E = W (V + D)⁻¹ Wᵀ,

.. math:: S^{-1} = \sum_{i \ge 0} (B^{-1} E)^i B^{-1},

which converges where no residual block connects two kept blocks: the spectral radius of B⁻¹ E is below one then. Where some
do (odometry), B⁻¹ E may have eigenvalues below −1. A sum up to an even power is positive definite all the same.

References
----------
S. Weber, N. Demmel, T. C. Chan, D. Cremers, "Power Bundle Adjustment for Large-Scale 3D Reconstruction", CVPR 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselm.errors import SolverError
from sparselm.kernels.diagonal_blocks import mirror_blocks, multiply_blocks
from sparselm.linear_solvers.base import Failure
from sparselm.preconditioners.base import AbstractPreconditioner, Array, ReducedSystem
from sparselm.preconditioners.block_jacobi import InverseBlocks


@dataclass(frozen=True)
class PowerSeries(AbstractPreconditioner):
    """M⁻¹ = Σ_{i ≤ m} (B⁻¹ E)ⁱ B⁻¹, B the diagonal blocks of H + D and E = B − S; each term costs a product with S.

    Parameters
    ----------
    order
        m, at least 0; with 0 this is :class:`sparselm.BlockJacobi`. Odd ones are for problems where no residual block
        connects two kept blocks.
    """

    order: int = 4

    def __post_init__(self) -> None:
        if self.order < 0:
            raise SolverError(f"PowerSeries: order is {self.order}, expected 0 or more")

    def analyze(self, system: ReducedSystem) -> _Series:
        """Allocate blocks and two vectors."""
        return _Series(system)

    def prepare(self, plan: _Series, system: ReducedSystem) -> _Series | Failure:
        """Keep B, and invert it."""
        plan.system = system
        system.kept_diagonal(plan.inverse.blocks)
        np.copyto(plan.B, plan.inverse.blocks)
        mirror_blocks(system.first, system.place, plan.B)
        found = plan.inverse.invert()
        return found if isinstance(found, Failure) else plan

    def apply(self, state: _Series, r: Array, out: Array) -> None:
        """Horner's scheme: y ← B⁻¹ (r + E y) = B⁻¹ (r + B y − S y), m times from B⁻¹ r on."""
        assert state.system is not None
        system, inverse = state.system, state.inverse
        inverse.multiply(r, out)
        for _ in range(self.order):
            system.multiply(out, state.product)
            multiply_blocks(system.first, system.place, state.B, out, state.sum)
            state.sum -= state.product
            state.sum += r
            inverse.multiply(state.sum, out)


class _Series:
    def __init__(self, system: ReducedSystem) -> None:
        self.inverse = InverseBlocks(system)
        self.B: Array = np.zeros_like(self.inverse.blocks)
        self.sum: Array = np.zeros(int(system.first[-1]))
        self.product: Array = np.zeros_like(self.sum)
        self.system: ReducedSystem | None = None
