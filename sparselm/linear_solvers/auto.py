"""Which linear solver a problem gets when its user names none, and why."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sparselm.linear_solvers.base import AbstractLinearSolver
from sparselm.linear_solvers.block_cholesky import BlockCholesky
from sparselm.linear_solvers.block_cholesky.symbolic import build_symbolic
from sparselm.linear_solvers.dense_cholesky import DenseCholesky
from sparselm.linear_solvers.dense_qr import DenseQR
from sparselm.linear_solvers.lsmr import LSMR
from sparselm.linear_solvers.normal_equations import BlockPattern
from sparselm.linear_solvers.ordering import find_ordering

if TYPE_CHECKING:
    from sparselm.structure import Structure

# Measured on chains with 0 to 3 loops a variable, blocks of 3: assembling, factorising and solving takes 25 µs dense and
# 50 µs sparse at 30 columns, 80 and 85 at 120, 280 and 150 at 240.
DENSE_COLUMNS = 100

# QR keeps the digits that JᵀJ loses; up to here it costs less than the Python around it (70 to 100 µs).
QR_COLUMNS, QR_ENTRIES = 30, 20_000

# Part of the machine's memory that a factor may take.
MEMORY_SHARE = 0.5


def choose_linear_solver(structure: Structure) -> tuple[AbstractLinearSolver, str]:
    """The linear solver for a problem, and one sentence that says why."""
    n, m = structure.num_columns, structure.num_rows
    if n <= QR_COLUMNS and (m + n) * n <= QR_ENTRIES:
        return DenseQR(), f"with {n} columns and {m} rows a dense QR is cheap, and the most accurate"
    if n <= DENSE_COLUMNS:
        return DenseCholesky(), f"with {n} columns (at most {DENSE_COLUMNS}) a dense factorisation is the fastest"
    # numbers a factor of n columns and its JᵀJ can at most consist of: where they fit, nothing needs to be estimated
    memory = _memory()
    if 8 * n * (n + 1) > MEMORY_SHARE * memory:
        pattern = BlockPattern(structure)
        graph = pattern.graph
        needed = build_symbolic(graph, find_ordering(graph.indptr, graph.indices, graph.sizes, "amd")).memory
        if needed > MEMORY_SHARE * memory:
            return LSMR(), (
                f"a Cholesky factorisation of the {n} columns would take about {needed / 2**30:.1f} GiB of the machine's "
                f"{memory / 2**30:.1f} GiB, so that an iterative solver without one is used"
            )
    return BlockCholesky(), (
        f"with {n} columns in {structure.num_blocks} blocks, a sparse Cholesky factorisation by blocks is the fastest"
    )


def _memory() -> int:
    """Bytes of physical memory; 8 GiB where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30
