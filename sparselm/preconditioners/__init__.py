"""Preconditioners of the Schur complement for :class:`sparselm.SchurPCG`, one file each.

======================  ======================================================================================
preconditioner          M
======================  ======================================================================================
``BlockJacobi``         diagonal blocks of H + D, of the kept variables alone
``SchurJacobi``         diagonal blocks of S
``PowerSeries``         a few terms of the series of S⁻¹ in H⁻¹ W V⁻¹ Wᵀ
``ClusterJacobi``       blocks of S within clusters of what sees the same
``ClusterTridiagonal``  and between clusters that follow one another in chains
======================  ======================================================================================
"""

from sparselm.preconditioners.base import AbstractPreconditioner, PartialFactor, ReducedSystem
from sparselm.preconditioners.block_jacobi import BlockJacobi
from sparselm.preconditioners.cluster_jacobi import ClusterJacobi
from sparselm.preconditioners.cluster_tridiagonal import ClusterTridiagonal
from sparselm.preconditioners.power_series import PowerSeries
from sparselm.preconditioners.schur_jacobi import SchurJacobi

__all__ = [
    "AbstractPreconditioner",
    "BlockJacobi",
    "ClusterJacobi",
    "ClusterTridiagonal",
    "PartialFactor",
    "PowerSeries",
    "ReducedSystem",
    "SchurJacobi",
]
