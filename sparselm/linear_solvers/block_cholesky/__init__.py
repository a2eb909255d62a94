"""Sparse Cholesky factorisation of matrices made of small blocks, from the graph of blocks to solutions.

A data path of its own, one file a step::

    matrix ──▶ graph ──▶ ordering ──▶ symbolic ──▶ numeric ──▶ factor (for SciPy matrices), solver (for JᵀJ + D)

The kernels are in ``sparselm/kernels``: ``minimum_degree``, ``elimination``, ``supernodes``, ``schedule``, and
``multifrontal`` on ``fronts`` on ``tiles``.
"""

from sparselm.linear_solvers.block_cholesky.factor import (
    Analysis,
    Factor,
    NotPositiveDefiniteError,
    analyze,
    factorize,
)
from sparselm.linear_solvers.block_cholesky.solver import BlockCholesky

__all__ = ["Analysis", "BlockCholesky", "Factor", "NotPositiveDefiniteError", "analyze", "factorize"]
