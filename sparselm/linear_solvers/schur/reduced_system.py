"""What the two forms of the Schur complement, its blocks and the product through J, have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sparselm.kernels.diagonal_blocks import add_to_diagonal
from sparselm.linear_solvers.block_cholesky.numeric import Numeric
from sparselm.linear_solvers.block_cholesky.symbolic import build_symbolic
from sparselm.linear_solvers.block_graph import make_graph
from sparselm.linear_solvers.ordering import find_ordering, inverse_order
from sparselm.linear_solvers.schur.complement import ReducedPattern
from sparselm.linear_solvers.schur.elimination import Elimination
from sparselm.linear_solvers.schur.partition import Partition
from sparselm.linear_solvers.schur.reduced_matrix import ReducedMatrix
from sparselm.preconditioners.base import BoolArray, IndexArray, LongArray, PartialFactor, ReducedSystem

if TYPE_CHECKING:
    from sparselm.linearization import Linearization

Array = npt.NDArray[np.float64]


class AbstractSchurSystem(ReducedSystem):
    """S at one point and for one D, and the way there and back for right-hand sides.

    Attributes
    ----------
    partition : Partition
    damping : (num_kept_columns,)
        D of the kept columns.
    held : (num_kept_columns,) bool
        Where it is +∞.
    """

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.first: LongArray = partition.first
        squares = partition.sizes.astype(np.int64) ** 2
        self.place: LongArray = np.cumsum(squares) - squares
        self.damping: Array = np.zeros(len(partition.columns))
        self._added: Array = np.zeros(len(partition.columns))
        self.held = np.zeros(len(partition.columns), dtype=bool)
        self.any_held = False
        self.linearization: Linearization | None = None

    @abstractmethod
    def prepare(self, linearization: Linearization) -> None:
        """Take in a new linearisation."""

    @abstractmethod
    def factorize(self, damping: Array) -> int:
        """Eliminate with D; the first variable block that is not positive definite, −1 where all are."""

    @abstractmethod
    def forward(self, b: Array, reduced: Array) -> None:
        """From b, by columns of J, to the right-hand side of S."""

    @abstractmethod
    def backward(self, reduced: Array, x: Array) -> None:
        """From the solution of S to x, by columns of J."""

    @property
    @abstractmethod
    def pattern(self) -> ReducedPattern:
        """Blocks of S."""

    @property
    @abstractmethod
    def elimination(self) -> Elimination:
        """Factors of the eliminated blocks, and couplings with Y where there are any."""

    @abstractmethod
    def make_couplings(self) -> None:
        """See to it that Y is there for the current D."""

    def set_damping(self, damping: Array) -> None:
        """Note D of the kept columns, finite where components are held."""
        np.take(damping, self.partition.columns, out=self.damping, mode="clip")
        np.isinf(self.damping, out=self.held)
        self.any_held = bool(self.held.any())
        np.copyto(self._added, self.damping)
        if self.any_held:
            self._added[self.held] = 0.0

    def add_damping(self, x: Array, out: Array) -> None:
        """out ← out + D x, and 0 where components are held."""
        out += self._added * x
        if self.any_held:
            out[self.held] = 0.0

    def finish_diagonal(self, blocks: Array) -> None:
        """Add D to diagonal blocks."""
        add_to_diagonal(self.first, self.place, self.damping, blocks)

    def neighbours(self) -> tuple[IndexArray, IndexArray, LongArray, LongArray]:
        pattern = self.pattern
        n, m = self.partition.num_kept, len(pattern.high)
        shared = np.zeros(m + n, dtype=np.int64)
        every = np.arange(m + n, dtype=np.int32)
        for own in pattern.couplings:
            shared += own.counts(pattern, every[:m], every[m:])
        return pattern.high, pattern.low, shared[:m], np.maximum(shared[m:], 1)

    def factor_part(self, chosen: BoolArray) -> PartialFactor:
        return _SchurPart(self, chosen)


class _SchurPart(PartialFactor):
    """Some blocks of S, in the store of a factorisation."""

    def __init__(self, system: AbstractSchurSystem, chosen: BoolArray) -> None:
        self._system = system
        self._chosen = chosen
        pattern = system.pattern
        graph = make_graph(system.partition.sizes, pattern.high[chosen], pattern.low[chosen])
        symbolic = build_symbolic(graph, find_ordering(graph.indptr, graph.indices, graph.sizes, "amd"))
        self.numeric = Numeric(symbolic)
        source = symbolic.edge_source
        self._below = source[: graph.num_edges]
        self._area = graph.sizes[graph.first].astype(np.int64) * graph.sizes[graph.second]
        self._matrix = ReducedMatrix(
            pattern, inverse_order(symbolic.order), source[graph.num_edges :], self._below, chosen
        )

    def compute(self) -> None:
        self._system.make_couplings()
        assert self._system.linearization is not None
        self._matrix.prepare(self._system.linearization)
        self._matrix.compute(self._system.elimination, self.numeric.store)

    def scale(self, chosen: BoolArray, factor: float) -> None:
        some = np.flatnonzero(chosen[self._chosen])
        area = self._area[some]
        entries = np.repeat(self._below[some] - np.cumsum(area) + area, area) + np.arange(int(area.sum()))
        self.numeric.store[entries] *= factor

    def factorize(self) -> bool:
        return self.numeric.factorize(self._system.damping)

    def failed_block(self) -> int:
        return int(self.numeric.bad_blocks()[0])
