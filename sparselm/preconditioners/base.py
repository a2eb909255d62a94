"""What a preconditioner is: three verbs on the Schur complement S, of which it sees a :class:`ReducedSystem`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sparselm.linear_solvers.base import Failure

if TYPE_CHECKING:
    from sparselm.linear_solvers.block_cholesky.numeric import Numeric

Array = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class ReducedSystem(ABC):
    """S x = b with S = H + D − Σ_e W_e (V_e + D_e)⁻¹ W_eᵀ over the kept blocks, at one point and for one D.

    Attributes
    ----------
    first : (num_kept + 1,) int64
        Where each kept block begins in a vector.
    place : (num_kept,) int64
        Where the block of each begins in a block-diagonal matrix, by columns.
    """

    first: LongArray
    place: LongArray

    @abstractmethod
    def multiply(self, x: Array, out: Array) -> None:
        """out ← S x; x is 0 where D = +∞ holds a component, and so is what comes out."""

    @abstractmethod
    def kept_diagonal(self, out: Array) -> None:
        """Write the diagonal blocks of H + D; the identity's row and column where a component is held."""

    @abstractmethod
    def schur_diagonal(self, out: Array) -> None:
        """Write the diagonal blocks of S likewise."""

    @abstractmethod
    def neighbours(self) -> tuple[IndexArray, IndexArray, LongArray, LongArray]:
        """Pairs of kept blocks that share eliminated ones: high, low, how many, and how many each kept block sees."""

    @abstractmethod
    def factor_part(self, chosen: BoolArray) -> PartialFactor:
        """A Cholesky factorisation of S with only some blocks below its diagonal, those chosen of ``neighbours``."""


class PartialFactor(ABC):
    """Workspace of a factorisation of some blocks of S."""

    numeric: Numeric

    @abstractmethod
    def compute(self) -> None:
        """Compute the chosen blocks of S."""

    @abstractmethod
    def scale(self, chosen: BoolArray, factor: float) -> None:
        """Multiply some of the blocks below the diagonal, out of ``neighbours``, by a number."""

    @abstractmethod
    def factorize(self) -> bool:
        """Factorise them plus D; False where that is not positive definite."""

    @abstractmethod
    def failed_block(self) -> int:
        """The number of the kept block at which that failed."""


class AbstractPreconditioner(ABC):
    """An approximation M of S whose inverse is quick to apply.

    Instances hold options only. ``analyze`` is called once for a structure, ``prepare`` once for each D, ``apply`` once for
    each iteration of the conjugate gradient method. M must be symmetric and positive definite, and the same for any number
    of threads. Where D = +∞ holds components, r is 0 in them, and so must be what ``apply`` writes.
    """

    #: Whether ``neighbours`` or ``factor_part`` are used: they take memory for each pair of an eliminated and a kept block.
    needs_couplings: ClassVar[bool] = False

    @abstractmethod
    def analyze(self, system: ReducedSystem) -> Any:
        """Do symbolic work, allocate workspace, and return the plan."""

    @abstractmethod
    def prepare(self, plan: Any, system: ReducedSystem) -> Any | Failure:
        """Take in new numbers and return what ``apply`` needs; the block of a failure is a kept one's number, or −1."""

    @abstractmethod
    def apply(self, state: Any, r: Array, out: Array) -> None:
        """out ← M⁻¹ r."""

    def describe(self, plan: Any) -> str:
        """A few words for the report."""
        return type(self).__name__


def block_diagonal_size(system: ReducedSystem) -> int:
    """Entries of a block-diagonal matrix over the kept blocks."""
    return int((np.diff(system.first) ** 2).sum())
