"""Solvers of (JᵀJ + D) x = b, one file each.

===================  ==========================================================================================
solver               use
===================  ==========================================================================================
``BlockCholesky``    sparse Cholesky by blocks, for most problems
``SchurCholesky``    the same after points, say, are eliminated: bundle adjustment
``SchurPCG``         and conjugate gradients instead: bundle adjustment of any size
``Cholmod``          sparse Cholesky by CHOLMOD; needs scikit-sparse
``SuperLU``          sparse LU, to compare with
``DenseCholesky``    up to a few hundred columns, or where JᵀJ is full
``DenseQR``          small and ill-conditioned problems: works on J, not on JᵀJ
``LSMR``, ``LSQR``   where a factor does not fit into memory; only products with J and Jᵀ
===================  ==========================================================================================
"""

from sparselm.linear_solvers.base import AbstractLinearSolver, Failure, Need, SolveFacts
from sparselm.linear_solvers.block_cholesky import BlockCholesky
from sparselm.linear_solvers.cholmod import Cholmod
from sparselm.linear_solvers.dense_cholesky import DenseCholesky
from sparselm.linear_solvers.dense_qr import DenseQR
from sparselm.linear_solvers.lsmr import LSMR
from sparselm.linear_solvers.lsqr import LSQR
from sparselm.linear_solvers.schur import SchurCholesky, SchurPCG
from sparselm.linear_solvers.superlu import SuperLU

__all__ = [
    "LSMR",
    "LSQR",
    "AbstractLinearSolver",
    "BlockCholesky",
    "Cholmod",
    "DenseCholesky",
    "DenseQR",
    "Failure",
    "Need",
    "SchurCholesky",
    "SchurPCG",
    "SolveFacts",
    "SuperLU",
]
