"""A measured value of one variable block, on any manifold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self, final

import numpy as np

from sparselm.errors import ProblemError
from sparselm.manifolds.base import AbstractManifold
from sparselm.manifolds.euclidean import Euclidean
from sparselm.manifolds.se2 import SE2
from sparselm.manifolds.se3 import SE3
from sparselm.residuals.base import AbstractResidual, Array, IndexArray, OperandBlocks

# Blocks gathered at a time: their values and a Jacobian of SE(3) take 1 MiB, which stays in a core's cache.
CHUNK = 2048


@final
@dataclass(frozen=True)
class Prior(AbstractResidual):
    """The step from a measured value to the variable, in the tangent space of the measurement.

    r = local(z, x), the r with z ⊞ r = x; on a Euclidean manifold x − z. ∂r/∂δ = ∂ local(z, x ⊞ δ)/∂δ at δ = 0, which
    on a Lie group is J_r⁻¹(r).

    Parameters
    ----------
    manifold : AbstractManifold
        The manifold of the variable and of its measurement; any.

    Notes
    -----
    Data: ``measured``, one row per block, a point z of the manifold, ``ambient_dim`` numbers. Frame and units are those
    of the variable (a pose is world-from-body); the residual has length ``tangent_dim``.

    The work is the manifold's, through its batched interface: blocks are gathered, a bounded number at a time.
    """

    manifold: AbstractManifold

    def __post_init__(self) -> None:
        if not isinstance(self.manifold, AbstractManifold):
            raise ProblemError(f"residual Prior takes a manifold, such as Euclidean(3) or SE3(), got {self.manifold!r}")

    @property
    def dim(self) -> int:
        return self.manifold.tangent_dim

    @property
    def manifolds(self) -> tuple[AbstractManifold, ...]:
        return (self.manifold,)

    @property
    def data_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.manifold.ambient_dim,),)

    def evaluate(self, blocks: Sequence[OperandBlocks], data: Sequence[Array], r: Array) -> None:
        (measured,) = data
        for chunk, x in _gathered(blocks[0]):
            self.manifold.local(measured[chunk], x, r[chunk])

    def linearize(
        self, blocks: Sequence[OperandBlocks], data: Sequence[Array], columns: IndexArray, r: Array, J: Array
    ) -> None:
        (measured,) = data
        (free,) = np.nonzero(columns >= 0)
        direct = np.array_equal(columns, np.arange(J.shape[2]))
        whole = np.empty((0 if direct else min(CHUNK, len(r)), self.dim, self.dim))
        for chunk, x in _gathered(blocks[0]):
            z = measured[chunk]
            self.manifold.local(z, x, r[chunk])
            jacobian = J[chunk] if direct else whole[: len(z)]
            self.manifold.local_jacobian(z, x, jacobian)
            if not direct:
                for k in free:
                    J[chunk, :, columns[k]] = jacobian[:, :, k]

    @classmethod
    def for_operands(cls, manifolds: tuple[AbstractManifold, ...]) -> Self:
        if len(manifolds) != 1:
            raise ProblemError(f"residual Prior takes one operand, got {len(manifolds)}")
        return cls(manifolds[0])

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return cls(Euclidean(3)), cls(SE2()), cls(SE3())

    def random_data(self, rng: np.random.Generator, n: int) -> tuple[Array, ...]:
        """Measurements that are in turn any point, the variable's value, and within 10⁻⁹ of it."""
        measured = self.manifold.random(rng, n)
        measured[1::3] = self._true_values(n)[1::3]
        near = np.ascontiguousarray(self._true_values(n)[2::3])
        self.manifold.retract(near, 1e-9 * rng.standard_normal((len(near), self.dim)), near)
        measured[2::3] = near
        return (measured,)

    def random_operands(self, rng: np.random.Generator, n: int) -> tuple[Array, ...]:
        return (self._true_values(n),)

    def _true_values(self, n: int) -> Array:
        """Values of the variables: the same at every call, since operands and data are drawn apart."""
        return self.manifold.random(np.random.default_rng(n), n)


def _gathered(operand: OperandBlocks) -> Iterator[tuple[slice, Array]]:
    """The operand's values, CHUNK blocks at a time, in one buffer."""
    num_blocks = len(operand.index)
    buffer = np.empty((min(CHUNK, num_blocks), operand.values.shape[1]))
    for start in range(0, num_blocks, CHUNK):
        chunk = slice(start, min(start + CHUNK, num_blocks))
        x = buffer[: chunk.stop - chunk.start]
        # Indices were checked with the problem; with mode "raise" numpy would write to a copy of ``out`` first.
        np.take(operand.values, operand.index[chunk], axis=0, out=x, mode="clip")
        yield chunk, x
