"""The check of a linear solver against the contract of its kind, on small random problems of every shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sparselm.linear_solvers.base import AbstractLinearSolver, Array, Failure
from sparselm.linearization import Evaluator, Linearization
from sparselm.manifolds.base import AbstractManifold
from sparselm.manifolds.euclidean import Euclidean
from sparselm.problem import Problem, Selection
from sparselm.residuals.base import AbstractResidual, OperandBlocks
from sparselm.structure import Structure

IndexArray = npt.NDArray[np.int32]

SHAPES = ("chain", "star", "grid", "arrow", "mixed", "twice")


class LinearBlocks(AbstractResidual):
    """r = A_1 x_1 + … + A_k x_k − b, with A ``(n, dim, Σ dims)`` and b ``(n, dim)`` as data."""

    def __init__(self, dim: int, dims: Sequence[int]) -> None:
        self._dim = dim
        self._dims = tuple(dims)

    @property
    def dim(self) -> int:
        """Length of a block's residual."""
        return self._dim

    @property
    def manifolds(self) -> tuple[AbstractManifold, ...]:
        """Euclidean ones."""
        return tuple(Euclidean(k) for k in self._dims)

    @property
    def data_shapes(self) -> tuple[tuple[int, ...], ...]:
        """A and b."""
        return ((self._dim, sum(self._dims)), (self._dim,))

    def evaluate(self, blocks: Sequence[OperandBlocks], data: Sequence[Array], r: Array) -> None:
        """Write A x − b."""
        x = np.concatenate([block.values[block.index] for block in blocks], axis=1)
        r[:] = np.einsum("nij,nj->ni", data[0], x) - data[1]

    def linearize(
        self, blocks: Sequence[OperandBlocks], data: Sequence[Array], columns: IndexArray, r: Array, J: Array
    ) -> None:
        """Write A x − b and the free columns of A."""
        self.evaluate(blocks, data, r)
        for component, column in enumerate(columns):
            if column >= 0:
                J[:, :, column] = data[0][:, :, component]


def random_problem(shape: str, rng: np.random.Generator, *, isolated: bool = True) -> Problem:
    """A small random linear least-squares problem whose blocks connect its variables in the given shape.

    Parameters
    ----------
    shape
        One of ``SHAPES``: odometry in a chain, one variable that all blocks touch, a grid, points seen by a few cameras,
        two residual groups over variables of several sizes with held components, and blocks that use a variable twice.
    isolated
        Add variables that no residual touches, so that JᵀJ is singular.
    """
    problem = Problem()
    n = int(rng.integers(5, 12))

    def variables(name: str, count: int, dim: int) -> Any:
        return problem.add_variables(name, rng.standard_normal((count, dim)))

    def residuals(dim: int, *operands: Selection) -> None:
        dims = [operand.variables.manifold.ambient_dim for operand in operands]
        size = len(operands[0].index)
        data = (rng.standard_normal((size, dim, sum(dims))), rng.standard_normal((size, dim)))
        problem.add_residuals(LinearBlocks(dim, dims), *operands, data=data)

    every = np.arange(n)
    if shape == "chain":
        x = variables("x", n, 3)
        residuals(3, x[every[:-1]], x[every[1:]])
        residuals(3, x[rng.permutation(n)[: n // 2]], x[rng.permutation(n)[: n // 2]])
        residuals(3, x[:1])
    elif shape == "star":
        hub, leaf = variables("hub", 1, 7), variables("leaf", n, 2)
        residuals(4, hub[np.zeros(600, int)], leaf[rng.integers(0, n, 600)])
    elif shape == "grid":
        x = variables("x", n * 3, 2)
        right, down = np.arange(n * 3 - 3), np.arange(n * 3)[np.arange(n * 3) % 3 < 2]
        residuals(2, x[right], x[right + 3])
        residuals(2, x[down + 1], x[down])
        residuals(2, x[[0, n]])
    elif shape == "arrow":
        camera, point = variables("camera", 3, 6), variables("point", n, 3)
        residuals(2, camera[np.tile(np.arange(3), n)], point[np.repeat(every, 3)])
        residuals(6, camera[:])
        residuals(3, point[every[::2]])
    elif shape == "mixed":
        a, b, c = variables("a", n, 1), variables("b", n, 4), variables("c", 3, 7)
        a.fix([0, 2])
        b.fix([1], [0, 3])
        b.fix([2, 3], [1])
        c.fix([1])
        third = rng.integers(0, 3, 3 * n)
        residuals(3, a[rng.integers(0, n, 3 * n)], b[rng.integers(0, n, 3 * n)], c[third])
        residuals(5, c[third], b[rng.integers(0, n, 3 * n)])
        residuals(1, a[:])
        residuals(4, b[:])
    else:
        x, y = variables("x", n, 3), variables("y", n, 2)
        x.fix([1], [2])
        residuals(4, x[rng.integers(0, 3, 4 * n)], y[rng.integers(0, n, 4 * n)], x[rng.integers(0, 3, 4 * n)])
        residuals(3, x[every], x[every])
        residuals(3, y[:], x[:])
    if isolated:
        variables("alone", 2, 2)
    return problem
