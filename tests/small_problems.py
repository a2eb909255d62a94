"""Residuals small enough to be checked by hand, for the tests of the core."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import sparselm as slm
from sparselm.manifolds.base import AbstractManifold
from sparselm.residuals.base import AbstractResidual


@dataclass(frozen=True)
class LinearBlocks(AbstractResidual):
    """r_b = Σ_k A_bk x_k − c_b with matrices drawn once per block: data is (A, c)."""

    rows: int
    widths: tuple[int, ...]

    @property
    def dim(self):
        return self.rows

    @property
    def manifolds(self) -> tuple[AbstractManifold, ...]:
        return tuple(slm.Euclidean(w) for w in self.widths)

    @property
    def data_shapes(self):
        return ((self.rows, sum(self.widths)), (self.rows,))

    @classmethod
    def examples(cls):
        return (cls(2, (3, 1)),)

    def evaluate(self, blocks, data, r):
        A, c = data
        x = np.concatenate([b.values[b.index] for b in blocks], axis=1)
        r[:] = np.einsum("nij,nj->ni", A, x) - c

    def linearize(self, blocks, data, columns, r, J):
        self.evaluate(blocks, data, r)
        for component, column in enumerate(columns):
            if column >= 0:
                J[:, :, column] = data[0][:, :, component]


@dataclass(frozen=True)
class Rosenbrock(AbstractResidual):
    """r = (10 (y − x²), 1 − x)."""

    @property
    def dim(self):
        return 2

    @property
    def manifolds(self):
        return (slm.Euclidean(2),)

    def evaluate(self, blocks, data, r):
        x, y = blocks[0].values[blocks[0].index].T
        r[:, 0], r[:, 1] = 10.0 * (y - x * x), 1.0 - x

    def linearize(self, blocks, data, columns, r, J):
        self.evaluate(blocks, data, r)
        x = blocks[0].values[blocks[0].index, 0]
        full = np.zeros((len(x), 2, 2))
        full[:, 0, 0], full[:, 0, 1], full[:, 1, 0] = -20.0 * x, 10.0, -1.0
        for component, column in enumerate(columns):
            if column >= 0:
                J[:, :, column] = full[:, :, component]


@dataclass(frozen=True)
class LogResidual(AbstractResidual):
    """r = log x, not a number for x ≤ 0: a Gauss–Newton step from x > e lands there."""

    @property
    def dim(self):
        return 1

    @property
    def manifolds(self):
        return (slm.Euclidean(1),)

    def evaluate(self, blocks, data, r):
        x = blocks[0].values[blocks[0].index]
        r[:] = np.where(x > 0, np.log(np.where(x > 0, x, 1.0)), np.nan)

    def linearize(self, blocks, data, columns, r, J):
        self.evaluate(blocks, data, r)
        if columns[0] >= 0:
            J[:, 0, columns[0]] = 1.0 / blocks[0].values[blocks[0].index, 0]


def rosenbrock_problem(n: int = 1) -> tuple[slm.Problem, slm.Variables]:
    problem = slm.Problem()
    x = problem.add_variables("x", np.tile([-1.2, 1.0], (n, 1)))
    problem.add_residuals(Rosenbrock(), x)
    return problem, x


def mixed_problem(rng: np.random.Generator, *, hold: bool = True) -> slm.Problem:
    """Three kinds of variables, three groups, duplicate operands, held rows and components, a lonely variable."""
    problem = slm.Problem()
    a = problem.add_variables("a", rng.standard_normal((6, 3)))
    b = problem.add_variables("b", rng.standard_normal((9, 2)))
    c = problem.add_variables("c", rng.standard_normal((2, 4)))
    if hold:
        a.fix([1])
        a.fix([2, 4], components=[0, 2])
        b.fix([0, 3])
        b.fix([5], components=[1])
    n = 40
    kinds = ((LinearBlocks(2, (3, 2)), (a, b)), (LinearBlocks(3, (3, 3)), (a, a)), (LinearBlocks(1, (4, 2, 3)), (c, b, a)))
    for residual, operands in kinds:
        index = [rng.integers(0, len(v) - (v is b), n).astype(np.int32) for v in operands]
        data = tuple(rng.standard_normal((n, *shape)) for shape in residual.data_shapes)
        problem.add_residuals(residual, *(v[i] for v, i in zip(operands, index, strict=True)), data=data)
    return problem


@dataclass(frozen=True)
class AmbientRotation(AbstractResidual):
    """r = 2q − prepared with prepared = q/2, derivatives with respect to the quaternion's four numbers."""

    ambient_jacobian = True
    slope: float = 1.5

    @property
    def dim(self):
        return 4

    @property
    def manifolds(self):
        return (slm.SO3(),)

    def prepared_dims(self):
        return (4,)

    def prepare(self, operand, values, out, *, derivatives):
        out[:] = 0.5 * values

    def evaluate(self, blocks, data, r):
        r[:] = (2.0 * blocks[0].values - blocks[0].prepared)[blocks[0].index]

    def linearize(self, blocks, data, columns, r, J):
        self.evaluate(blocks, data, r)
        J[:] = self.slope * np.eye(4)
