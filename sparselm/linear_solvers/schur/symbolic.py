"""The symbolic elimination and factorisation of a structure: what :class:`SchurCholesky` knows before it allocates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparselm.linear_solvers.block_cholesky.symbolic import Symbolic, build_symbolic
from sparselm.linear_solvers.ordering import Choice as OrderingChoice
from sparselm.linear_solvers.ordering import find_ordering
from sparselm.linear_solvers.schur.choice import Choice, choose_eliminated
from sparselm.linear_solvers.schur.complement import ReducedPattern
from sparselm.linear_solvers.schur.partition import Partition

if TYPE_CHECKING:
    from sparselm.structure import Structure


@dataclass(frozen=True, slots=True)
class SchurSymbolic:
    """What is eliminated, the blocks of the Schur complement S of the rest, and the symbolic factorisation of S."""

    choice: Choice
    partition: Partition
    pattern: ReducedPattern
    symbolic: Symbolic


def find_symbolic(
    structure: Structure, eliminate: Sequence[str] | Choice | None = None, ordering: OrderingChoice = "auto"
) -> SchurSymbolic:
    """Choose what to eliminate, unless that is given, find the blocks of S, order them, and factorise symbolically."""
    choice = eliminate if isinstance(eliminate, Choice) else choose_eliminated(structure, eliminate)
    partition = Partition(structure, choice)
    pattern = ReducedPattern(partition)
    graph = pattern.graph
    symbolic = build_symbolic(graph, find_ordering(graph.indptr, graph.indices, graph.sizes, ordering))
    return SchurSymbolic(choice, partition, pattern, symbolic)
