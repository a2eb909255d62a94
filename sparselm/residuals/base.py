"""What a residual is: a batched function of a few variable blocks, and its Jacobian in their tangent spaces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from sparselm.errors import ProblemError
from sparselm.manifolds.base import AbstractManifold

Array = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class OperandBlocks:
    """One operand of a batch of ``n`` residual blocks: block b reads ``values[index[b]]``; nothing is gathered.

    Attributes
    ----------
    values : (num_rows, ambient_dim) float64, C-contiguous
        Current values of *all* rows of the variables.
    index : (n,) int32, C-contiguous
        Row of each block.
    prepared : (num_rows, prepared_dim) float64
        What :meth:`AbstractResidual.prepare` wrote for each row; of width 0 where it prepares nothing.
    """

    values: Array
    index: IndexArray
    prepared: Array


class AbstractResidual(ABC):
    """A residual r(x_1, …, x_k; data) ∈ R^dim over k operands, evaluated over batches of blocks.

    ``evaluate`` and ``linearize`` must give bit-identical results whatever the number of threads and however the blocks
    are cut into batches: each block depends on its own operands and data alone.
    A block whose residual cannot be computed is written as NaN; the step is then rejected.
    """

    #: True where ``linearize`` writes derivatives with respect to the *ambient* numbers of each operand (then it gets
    #: ``columns`` for those, all free, and the core multiplies by the manifolds' ``plus_jacobian``).
    ambient_jacobian: bool = False

    @property
    @abstractmethod
    def dim(self) -> int:
        """Length of a block's residual."""

    @property
    @abstractmethod
    def manifolds(self) -> tuple[AbstractManifold, ...]:
        """The manifold of each operand, in order."""

    @property
    def data_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of one block's row in each data array; ``((2,),)`` for pixels, ``()`` for none."""
        return ()

    def prepared_dims(self) -> tuple[int, ...]:
        """Numbers to keep per row of each operand's variables, computed once per point; 0 where there are none."""
        return (0,) * len(self.manifolds)

    def prepare(  # noqa: B027  (nothing is prepared by default)
        self, operand: int, values: Array, out: Array, *, derivatives: bool
    ) -> None:
        """Write what every block of a row needs (a rotation matrix per camera, say); out ``(num_rows, prepared_dim)``.

        Where ``derivatives`` is False, ``evaluate`` follows and not ``linearize``: what only the Jacobian needs may stay
        unwritten.
        """

    @abstractmethod
    def evaluate(self, blocks: Sequence[OperandBlocks], data: Sequence[Array], r: Array) -> None:
        """Write the residuals of n blocks into r ``(n, dim)``."""

    @abstractmethod
    def linearize(
        self, blocks: Sequence[OperandBlocks], data: Sequence[Array], columns: IndexArray, r: Array, J: Array
    ) -> None:
        """Write residuals and Jacobians of n blocks, in place.

        Parameters
        ----------
        columns : (Σ tangent_dim,) int32
            For each tangent component of each operand in turn its column in J, or −1 where it is held constant and has
            none.
        r : (n, dim)
        J : (n, dim, width) float64, C-contiguous
            Every entry must be written: the buffer holds old values.
        """

    def remarks(self, blocks: Sequence[OperandBlocks], data: Sequence[Array]) -> dict[str, int]:
        """Counts of what is legal but worth telling, e.g. ``{"points behind their camera": 31}``."""
        return {}

    @classmethod
    def for_operands(cls, manifolds: tuple[AbstractManifold, ...]) -> Self:
        """Build an instance for operands on these manifolds, as a file gives them; raise ProblemError if there is none."""
        make: Any = cls
        instance: Self = make()
        if instance.manifolds != manifolds:
            raise ProblemError(
                f"residual {cls.__name__} works on {_names(instance.manifolds)}, the operands are {_names(manifolds)}"
            )
        return instance

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        """Instances on which the contract tests check the class; override where the constructor takes arguments."""
        make: Any = cls
        return (make(),)

    def random_data(self, rng: np.random.Generator, n: int) -> tuple[Array, ...]:
        """Data for n blocks at which the contract tests check the Jacobian; override where not any number will do."""
        return tuple(rng.standard_normal((n, *shape)) for shape in self.data_shapes)

    def random_operands(self, rng: np.random.Generator, n: int) -> tuple[Array, ...]:
        """``(n, ambient_dim)`` values of each operand for the contract tests; override where not any point will do."""
        return tuple(manifold.random(rng, n) for manifold in self.manifolds)


class UnboundResidual(ABC):
    """A residual that learns its operands' manifolds and its data's shapes when a group of blocks is added.

    ``Problem.add_residuals`` takes one in place of an :class:`AbstractResidual`, and keeps what ``bind`` returns.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What a group of such blocks is called in reports unless the user names it."""

    @abstractmethod
    def bind(
        self, manifolds: tuple[AbstractManifold | None, ...], data_shapes: tuple[tuple[int, ...], ...]
    ) -> AbstractResidual:
        """Return the residual for operands on these manifolds (None: left out) and rows of data of these shapes.

        The residual's own operands are those that were not left out, in order.

        Raises
        ------
        ProblemError
            Where there are too many or too few operands or data arrays, or one may not be left out.
        """

    def for_operands(self, manifolds: tuple[AbstractManifold, ...]) -> Self:
        """Return the residual itself: as plug-ins, residual classes and functions are used alike."""
        return self


def _names(manifolds: Sequence[AbstractManifold]) -> str:
    return "(" + ", ".join(repr(manifold) for manifold in manifolds) + ")"
