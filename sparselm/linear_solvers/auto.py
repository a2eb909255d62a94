"""Which linear solver a problem gets when its user names none, and why."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from sparselm.linear_solvers.base import AbstractLinearSolver
from sparselm.linear_solvers.block_cholesky import BlockCholesky
from sparselm.linear_solvers.block_cholesky.symbolic import build_symbolic
from sparselm.linear_solvers.dense_cholesky import DenseCholesky
from sparselm.linear_solvers.dense_qr import DenseQR
from sparselm.linear_solvers.estimates import count_elimination, schur_cholesky_estimate, screening_memory
from sparselm.linear_solvers.lsmr import LSMR
from sparselm.linear_solvers.normal_equations import BlockPattern
from sparselm.linear_solvers.ordering import find_ordering
from sparselm.linear_solvers.schur import SchurCholesky, SchurPCG
from sparselm.linear_solvers.schur.choice import choose_eliminated, is_worthwhile
from sparselm.linear_solvers.schur.symbolic import SchurSymbolic, find_symbolic

if TYPE_CHECKING:
    from sparselm.structure import Structure

# Measured on chains with 0 to 3 loops a variable, blocks of 3: assembling, factorising and solving takes 25 µs dense and
# 50 µs sparse at 30 columns, 80 and 85 at 120, 280 and 150 at 240.
DENSE_COLUMNS = 100

# QR keeps the digits that JᵀJ loses; up to here it costs less than the Python around it (70 to 100 µs).
QR_COLUMNS, QR_ENTRIES = 30, 20_000

# Part of the machine's memory that a factor may take.
MEMORY_SHARE = 0.5

# Columns, and the part of them that is eliminated, from which eliminating first pays. Measured on streets, and on landmarks
# in the plane: a step takes 0.6 ms either way at 390 columns, 0.9 in place of 1.2 at 1080, 3 in place of 17 at 4950. With
# 40 % of the columns eliminated there is no difference; with 25 % BlockCholesky, free in its order, takes half the time.
SCHUR_COLUMNS, SCHUR_SHARE = 1000, 0.5

# Seconds per operation of a factorisation and of forming S, and per entry of J of a product with S. With two threads, a
# synthetic street of 1000 cameras and 500 000 observations takes 0.4 s for the first two, 22 ms for a product.
FACTOR_SECONDS, FORM_SECONDS, PRODUCT_SECONDS = 1 / 5e10, 1 / 2e10, 1.8e-9

# Products with S that conjugate gradients take for a step: on large problems, most often 10 to 100.
PRODUCTS = 60


class Chosen(NamedTuple):
    """A linear solver, one sentence that says why it, and what its ``analyze`` takes as ``previous``."""

    linear_solver: AbstractLinearSolver
    reason: str
    found: SchurSymbolic | None = None


def choose_linear_solver(structure: Structure) -> Chosen:
    """The linear solver for a problem, why, and what was found out about the problem that its analysis need not repeat."""
    n, m = structure.num_columns, structure.num_rows
    if n <= QR_COLUMNS and (m + n) * n <= QR_ENTRIES:
        return Chosen(DenseQR(), f"with {n} columns and {m} rows a dense QR is cheap, and the most accurate")
    if n <= DENSE_COLUMNS:
        return Chosen(DenseCholesky(), f"with {n} columns (at most {DENSE_COLUMNS}) a dense factorisation is the fastest")
    chosen = _choose_schur(structure) if n >= SCHUR_COLUMNS else None
    if chosen is not None:
        return chosen
    # numbers a factor of n columns and its JᵀJ can at most consist of: where they fit, nothing needs to be estimated
    memory = _memory()
    if 8 * n * (n + 1) > MEMORY_SHARE * memory:
        pattern = BlockPattern(structure)
        graph = pattern.graph
        needed = build_symbolic(graph, find_ordering(graph.indptr, graph.indices, graph.sizes, "amd")).memory
        if needed > MEMORY_SHARE * memory:
            return Chosen(
                LSMR(),
                f"a Cholesky factorisation of the {n} columns would take about {_gib(needed)} of the machine's "
                f"{_gib(memory)}, so that an iterative solver without one is used",
            )
    return Chosen(
        BlockCholesky(),
        f"with {n} columns in {structure.num_blocks} blocks, a sparse Cholesky factorisation by blocks is the fastest",
    )


def _choose_schur(structure: Structure) -> Chosen | None:
    """A factorisation of a Schur complement S, conjugate gradients where that is too much, None where neither is fit."""
    choice = choose_eliminated(structure)
    if not is_worthwhile(structure, choice):
        return None
    counts = count_elimination(structure, choice)
    if counts.kept_columns > (1.0 - SCHUR_SHARE) * structure.num_columns:
        return None
    memory, limit = _memory(), PRODUCTS * PRODUCT_SECONDS * counts.num_values
    needed, operations, seconds = screening_memory(counts), counts.pair_flops, FORM_SECONDS * counts.pair_flops
    found, least = None, "at least"
    if needed <= MEMORY_SHARE * memory and seconds <= limit:  # otherwise the blocks of S need not be sought
        found, least = find_symbolic(structure, choice), "about"
        needed = schur_cholesky_estimate(counts, found).memory
        operations += found.symbolic.flops
        seconds += FACTOR_SECONDS * found.symbolic.flops
    names = " and ".join(choice.names)
    eliminated = f"eliminating the blocks of {names} leaves a Schur complement of {counts.kept_columns} columns"
    if needed > MEMORY_SHARE * memory:
        why = f"{least} {_gib(needed)} of the machine's {_gib(memory)}"
    elif seconds > limit:
        why = f"{least} {operations:.2g} operations"
    else:
        assert found is not None
        factor = f"its factor takes {8e-6 * found.symbolic.nonzeros:.3g} MB and {found.symbolic.flops:.2g} operations"
        return Chosen(SchurCholesky(), f"{eliminated}; {factor}", found)
    return Chosen(
        SchurPCG(), f"{eliminated}; to form and factorise it would take {why}, so that conjugate gradients do without"
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _memory() -> int:
    """Bytes of physical memory; 8 GiB where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30
