"""What linear solvers take: bytes and operations, from counts and symbolic factorisations, before anything is allocated.

Bytes are those of arrays that are held through a solve. All counts are Python integers, so that none overflows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy as np
import numpy.typing as npt

from sparselm.gather import PIECE
from sparselm.linear_solvers.block_cholesky.symbolic import Symbolic, build_symbolic
from sparselm.linear_solvers.normal_equations import BlockPattern
from sparselm.linear_solvers.ordering import find_ordering
from sparselm.linear_solvers.schur.choice import Choice, choose_eliminated, is_worthwhile
from sparselm.linear_solvers.schur.implicit import LANES, MOST_KEPT
from sparselm.linear_solvers.schur.symbolic import SchurSymbolic, find_symbolic

if TYPE_CHECKING:
    from sparselm.structure import Structure

LongArray = npt.NDArray[np.int64]

# Pairs of couplings beyond which the blocks of S are not sought (10 to 20 s), but bounded.
MOST_PAIRS = 4_000_000_000

# Pairs of operands, over all residual blocks, up to which JᵀJ of all variables is ordered for an estimate: about 1 s.
MOST_PRODUCTS = 200_000

# Bytes held for each block of a matrix that is factorised: entry, source, edge, graph and, of S, address of its sum.
_BLOCK_BYTES = 6 * 8 + 9 + 3 * 4 + 2 * 8
_SUM_BYTES = 4 * 8

# Bytes held for each coupling: its two blocks by size and in all, its slot, its place in the gather, its source.
_COUPLING_BYTES = 7 * 4

# Bytes of passing lists for each residual block, of which the heap keeps the room.
_PASSING_BYTES = 2 * 4

# Bytes held for each variable block: its number among the kept and among the eliminated ones, its column.
_NUMBER_BYTES = 2 * 4 + 8


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a linear solver is predicted to take.

    Attributes
    ----------
    solver : str
        As in ``--linear-solver``, with the form where there are several.
    memory : int
        Bytes besides J and what every solver shares; see :func:`shared_memory`.
    num_columns : int
        Of the matrix: S, or JᵀJ.
    flops : float
        Operations of a factorisation, or, where there is none, of a product with S.
    nonzeros : int or None
        Entries of the lower triangle of the matrix that is formed: S, or JᵀJ.
    factor_nonzeros : int or None
    note : str
        That figures are bounds, where they are.
    """

    solver: str
    memory: int
    num_columns: int
    flops: float
    nonzeros: int | None = None
    factor_nonzeros: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class EliminationCounts:
    """Numbers that an elimination's memory and work follow from.

    Attributes
    ----------
    num_values, num_blocks : int
        Entries of J, and variable blocks.
    diagonal_entries : int
        Of the diagonal blocks of JᵀJ of each operand.
    num_kept, kept_columns, kept_area : int
        Kept blocks, their columns, and the entries of their diagonal blocks.
    eliminated : tuple of (count, size)
    couplings : int
        Residual blocks times the kept operands that they couple with an eliminated one.
    residual_blocks, basis_entries : int
        Residual blocks with an eliminated operand, and the entries of their Q.
    places : int
        Couplings of residual blocks with more kept operands than there are kernels of known sizes for, which are listed.
    pairs : int
        Pairs of couplings that S sums: Σ t (t + 1) / 2 over the couplings t of each eliminated block.
    pair_flops : float
    """

    num_values: int
    num_blocks: int
    diagonal_entries: int
    num_kept: int
    kept_columns: int
    kept_area: int
    eliminated: tuple[tuple[int, int], ...]
    couplings: int
    residual_blocks: int
    basis_entries: int
    places: int
    pairs: int
    pair_flops: float


def count_elimination(structure: Structure, choice: Choice) -> EliminationCounts:
    """The numbers of an elimination, without its couplings: those that several residual blocks make count each time."""
    sizes = np.diff(structure.block_columns)
    kept_sizes = sizes[~choice.eliminated]
    tracks = np.zeros(structure.num_blocks, dtype=np.int64)
    widths = np.zeros(structure.num_blocks, dtype=np.int64)
    couplings = residual_blocks = basis = places = 0
    for span in structure.spans:
        present = [o for o in span.operands if o.width]
        for operand in present:
            block = operand.layout.block[operand.index]
            own = block[choice.eliminated[block]]
            if not len(own):
                continue
            others = [o for o in present if o is not operand]
            seen = np.bincount(own, minlength=structure.num_blocks)
            tracks += len(others) * seen
            widths += sum(o.width for o in others) * seen
            couplings += len(others) * len(own)
            places += len(others) * len(own) if len(others) > MOST_KEPT else 0
            residual_blocks += len(own)
            basis += len(own) * span.dim * operand.width
    pairs = tracks * (tracks + 1) // 2
    # per eliminated block: about t²/2 products of k × d by d × k, with widths = t k
    operations = (widths.astype(np.float64) ** 2 * sizes)[tracks > 0].sum() if couplings else 0.0
    of_size, counts = np.unique(sizes[choice.eliminated], return_counts=True)
    return EliminationCounts(
        num_values=structure.num_values,
        num_blocks=structure.num_blocks,
        diagonal_entries=_diagonal_entries(structure),
        num_kept=len(kept_sizes),
        kept_columns=int(kept_sizes.sum()),
        kept_area=int((kept_sizes**2).sum()),
        eliminated=tuple((int(count), int(size)) for count, size in zip(counts, of_size, strict=True)),
        couplings=couplings,
        residual_blocks=residual_blocks,
        basis_entries=basis,
        places=places,
        pairs=sum_exactly(pairs),
        pair_flops=float(operations),
    )


def sum_exactly(counts: LongArray) -> int:
    """The sum of counts each below 2⁶³, as an integer of any size."""
    return (int((counts >> 32).sum()) << 32) + int((counts & 0xFFFFFFFF).sum())


def shared_memory(structure: Structure) -> int:
    """Bytes that a solve holds whatever its linear solver: J, residuals, points, gradients, gathers, index arrays."""
    rows, columns = structure.num_rows, structure.num_columns
    held = 8 * structure.num_values
    held += 8 * 3 * rows  # residual, trial residual, Jδ
    held += 8 * 8 * columns  # gradient, diagonal, D, δ and the damping's own
    held += sum((12 + 2 * 8 * layout.tangent_dim) * layout.num_rows for layout in structure.variables)
    for span in structure.spans:
        for operand in span.operands:
            pieces = min(span.num_blocks, operand.layout.num_rows) + span.num_blocks // PIECE
            held += 4 * span.num_blocks + (4 * span.num_blocks + 16 * pieces if operand.width else 0)
    return held


def implicit_memory(n: EliminationCounts) -> int:
    """Bytes of ``SchurPCG()``: blocks, vectors, and what lists residual blocks by eliminated one."""
    total = 8 * (n.diagonal_entries + 2 * n.kept_area) + 8 * (LANES + 12) * n.kept_columns
    total += _NUMBER_BYTES * n.num_blocks + _PASSING_BYTES * n.residual_blocks + 8 * n.places
    for count, size in n.eliminated:
        total += _eliminated_memory(count, size) + count * (8 * size + 4 + 8 + 4)
    return total


def _eliminated_memory(count: int, size: int) -> int:
    """V, L⁻¹, D, c, z and columns; addresses of the sums of V, and numbers of blocks."""
    return count * (8 * (size * size + size * (size + 1) // 2 + 4 * size) + 40)


def _coupled_memory(n: EliminationCounts, pairs: int, couplings: int, coupled_entries: int) -> int:
    """What both forms of S by blocks hold, but for S."""
    total = 8 * (n.diagonal_entries + n.kept_area) + 8 * 12 * n.kept_columns
    total += _NUMBER_BYTES * n.num_blocks + _PASSING_BYTES * n.residual_blocks
    total += sum(_eliminated_memory(count, size) + 12 * count for count, size in n.eliminated)
    return total + _COUPLING_BYTES * couplings + 8 * pairs + 8 * coupled_entries


def screening_memory(n: EliminationCounts) -> int:
    """Bytes of ``SchurCholesky`` but for S and its factor: what is known before the blocks of S are sought."""
    return _coupled_memory(n, n.pairs, n.couplings, n.basis_entries)


def schur_cholesky_estimate(n: EliminationCounts, found: SchurSymbolic) -> Estimate:
    """``SchurCholesky`` from its symbolic factorisation."""
    s = found.symbolic
    total, blocks = _by_blocks(n, found)
    total += blocks * _BLOCK_BYTES + _numeric_memory(s)
    return Estimate("schur-cholesky", total, s.size, s.flops, _entries(found), s.nonzeros)


def explicit_estimate(n: EliminationCounts, found: SchurSymbolic) -> Estimate:
    """``SchurPCG(form="explicit")`` from the blocks of S."""
    entries = _entries(found)
    total, blocks = _by_blocks(n, found)
    total += blocks * (8 + 4 + 4 + 4) + 8 * entries + 8 * n.kept_area
    return Estimate("schur-pcg, explicit", total, n.kept_columns, 4.0 * entries, entries)


def _by_blocks(n: EliminationCounts, found: SchurSymbolic) -> tuple[int, int]:
    """Bytes without S, and the number of its blocks."""
    parts = found.partition.eliminated
    couplings = sum(len(part.kept) for part in parts)
    pairs = 0
    coupled = 0
    for part in parts:
        tracks = np.diff(part.ptr)
        pairs += sum_exactly(tracks * (tracks + 1) // 2)
        if part.through is None:
            coupled += sum(len(c.kept) * c.stride for c in part.couplings)
        else:
            coupled += part.through.span.num_blocks * part.through.span.dim * part.size
    blocks = len(found.pattern.high) + n.num_kept
    kept = found.pattern.kept_pattern
    areas = _areas(kept.sizes, kept.high, kept.low)
    return _coupled_memory(n, pairs, couplings, coupled) + 8 * areas + _SUM_BYTES * blocks, blocks


def _entries(found: SchurSymbolic) -> int:
    """Entries of the blocks of S on and below the diagonal."""
    sizes = found.partition.sizes.astype(np.int64)
    return _areas(found.partition.sizes, found.pattern.high, found.pattern.low) + int((sizes**2).sum())


def _areas(sizes: npt.NDArray[np.int32], high: npt.NDArray[np.int32], low: npt.NDArray[np.int32]) -> int:
    wide = sizes.astype(np.int64)
    return int((wide[high] * wide[low]).sum())


def _numeric_memory(s: Symbolic) -> int:
    return s.memory + 8 * (int(numba.get_num_threads()) - 1) * s.arena_size


def bounded_estimate(n: EliminationCounts) -> Estimate:
    """``SchurCholesky`` where the blocks of S are too many to be sought: S and its factor may be full."""
    full = n.kept_columns * (n.kept_columns + 1) // 2
    blocks = min(n.num_kept * (n.num_kept + 1) // 2, n.pairs + n.num_kept)
    memory = screening_memory(n) + 2 * 8 * full + blocks * (_BLOCK_BYTES + _SUM_BYTES)
    note = f"bounds: the blocks of S were not sought among {n.pairs:,} pairs of couplings"
    return Estimate("schur-cholesky", memory, n.kept_columns, n.kept_columns**3 / 3.0, full, full, note)


def implicit_estimate(n: EliminationCounts) -> Estimate:
    """``SchurPCG()``."""
    return Estimate("schur-pcg", implicit_memory(n), n.kept_columns, 4.0 * n.num_values)


def block_cholesky_estimate(structure: Structure) -> Estimate | None:
    """``BlockCholesky``; None where its symbolic factorisation would take long."""
    widths = [(s.num_blocks, sum(o.width > 0 for o in s.operands)) for s in structure.spans]
    if sum(blocks * k * (k - 1) // 2 for blocks, k in widths) > MOST_PRODUCTS:
        return None
    pattern = BlockPattern(structure)
    graph = pattern.graph
    s = build_symbolic(graph, find_ordering(graph.indptr, graph.indices, graph.sizes, "amd"))
    entries = _areas(pattern.sizes, pattern.high, pattern.low) + int((pattern.sizes.astype(np.int64) ** 2).sum())
    blocks = len(pattern.high) + pattern.num_blocks
    lists = sum(p.gather.order.nbytes + 16 * len(p.gather.piece_row) + 12 * len(p.target) for p in pattern.products)
    total = _numeric_memory(s) + blocks * _BLOCK_BYTES + lists + 8 * _diagonal_entries(structure)
    return Estimate("block-cholesky", total, s.size, s.flops, entries, s.nonzeros)


def _diagonal_entries(structure: Structure) -> int:
    return int(sum(o.layout.num_rows * o.width**2 for span in structure.spans for o in span.operands))


def estimate_solvers(structure: Structure) -> list[Estimate]:
    """What the solvers that suit a structure take: Schur complements where eliminating is worthwhile, the cheapest first."""
    found: list[Estimate] = []
    choice = choose_eliminated(structure)
    if is_worthwhile(structure, choice):
        n = count_elimination(structure, choice)
        if n.pairs > MOST_PAIRS:
            found.append(bounded_estimate(n))
        else:
            symbolic = find_symbolic(structure, choice)
            found += [schur_cholesky_estimate(n, symbolic), explicit_estimate(n, symbolic)]
        found.insert(1, implicit_estimate(n))
    general = block_cholesky_estimate(structure)
    return [*found, general] if general is not None else found
