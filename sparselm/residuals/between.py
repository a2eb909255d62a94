"""Relative pose between two poses: the edge of a pose graph, in two coordinates of the same error.

Poses are world-from-body: X maps coordinates in the body's frame to the world, p_world = R p_body + t. An edge measures
Z ≈ X_i⁻¹ X_j, the pose of body j in the frame of body i. Its error is the motion that is left over,

    E = Z⁻¹ X_i⁻¹ X_j = (R_E, t_E),

the identity when the poses agree with the measurement. :class:`Between` takes all of Log E as the residual;
:class:`BetweenUncoupled` takes t_E and the logarithm of R_E on their own.

Jacobians. With X ⊞ δ = X·Exp(δ), a step of X_j moves the error by E·Exp(δ_j), and a step of X_i by

    Z⁻¹ (X_i Exp(δ_i))⁻¹ X_j = E · X_j⁻¹ X_i · Exp(−δ_i) · X_i⁻¹ X_j = E · Exp(−Ad(X_j⁻¹ X_i) δ_i),

so that in any coordinates c of the error, with D = ∂c(E·Exp(δ))/∂δ at δ = 0,

    ∂r/∂δ_j = D          ∂r/∂δ_i = −D · Ad(X_j⁻¹ X_i).

For c = Log, D is J_r⁻¹(r), the inverse right Jacobian of the group. For c = (t_E, Log R_E) it is block-diagonal: R_E,
since t_E moves by R_E δ_t, and the inverse right Jacobian of the rotations.
"""

# numba types the kernels: annotations would be a second, unchecked truth.
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self, final

import numpy as np
from numba import prange

from sparselm._jit import TASK, kernel, num_lanes, scalar
from sparselm.errors import ProblemError
from sparselm.kernels.columns import NO_COLUMNS, NO_JACOBIAN, all_free, scatter_columns
from sparselm.kernels.se2 import se2_between, se2_log, se2_right_jacobian_inverse
from sparselm.kernels.se3 import se3_between, se3_log, se3_right_jacobian_inverse
from sparselm.kernels.so3 import quat_to_matrix, so3_log, so3_right_jacobian_inverse
from sparselm.manifolds.base import AbstractManifold
from sparselm.manifolds.se2 import SE2
from sparselm.manifolds.se3 import SE3
from sparselm.residuals.base import AbstractResidual, Array, IndexArray, OperandBlocks


@dataclass(frozen=True)
class _RelativePose(AbstractResidual):
    """What the two coordinates of the error share: operands, data and the loops, which take ``coupled`` as a flag."""

    manifold: AbstractManifold

    def __post_init__(self) -> None:
        if not isinstance(self.manifold, SE2 | SE3):
            raise ProblemError(f"residual {type(self).__name__} works on poses, SE2() or SE3(), got {self.manifold!r}")

    @property
    @abstractmethod
    def _coupled(self) -> bool:
        """Whether the residual is Log E rather than (t_E, Log R_E)."""

    @property
    def dim(self) -> int:
        return self.manifold.tangent_dim

    @property
    def manifolds(self) -> tuple[AbstractManifold, ...]:
        return (self.manifold, self.manifold)

    @property
    def data_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.manifold.ambient_dim,),)

    def evaluate(self, blocks: Sequence[OperandBlocks], data: Sequence[Array], r: Array) -> None:
        self._run(blocks, data, NO_COLUMNS, r, NO_JACOBIAN)

    def linearize(
        self, blocks: Sequence[OperandBlocks], data: Sequence[Array], columns: IndexArray, r: Array, J: Array
    ) -> None:
        self._run(blocks, data, columns, r, J)

    def _run(
        self, blocks: Sequence[OperandBlocks], data: Sequence[Array], columns: IndexArray, r: Array, J: Array
    ) -> None:
        first, second = blocks
        loop: Callable[..., None] = _loop_se3 if isinstance(self.manifold, SE3) else _loop_se2
        loop(first.values, first.index, second.values, second.index, data[0], self._coupled, columns, r, J)

    @classmethod
    def for_operands(cls, manifolds: tuple[AbstractManifold, ...]) -> Self:
        if len(manifolds) != 2 or manifolds[0] != manifolds[1]:
            got = ", ".join(repr(manifold) for manifold in manifolds)
            raise ProblemError(f"residual {cls.__name__} takes two poses of one manifold, the operands are ({got})")
        return cls(manifolds[0])

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return cls(SE2()), cls(SE3())

    def random_data(self, rng: np.random.Generator, n: int) -> tuple[Array, ...]:
        """Measurements whose error is in turn of size 1, 10⁻⁹, 0, and a rotation by nearly π."""
        return (_random_measurements(self.manifold, rng, n),)

    def random_operands(self, rng: np.random.Generator, n: int) -> tuple[Array, ...]:
        """Poses X_i anywhere, and X_j = X_i·Exp(τ) for the motions τ of :func:`_true_motions`."""
        first = self.manifold.random(rng, n)
        second = np.empty_like(first)
        self.manifold.retract(first, _true_motions(self.manifold, n), second)
        return first, second


@final
@dataclass(frozen=True)
class Between(_RelativePose):
    """The full logarithm of the error of a measured relative pose.

    r = Log(Z⁻¹ X_i⁻¹ X_j), with ∂r/∂δ_j = J_r⁻¹(r) and ∂r/∂δ_i = −J_r⁻¹(r) Ad(X_j⁻¹ X_i).

    Translation and rotation are coupled: r = (V⁻¹ t_E, Log R_E), where V is the left Jacobian of the rotation.

    Parameters
    ----------
    manifold : SE2 or SE3
        The manifold of both poses X_i, X_j (world-from-body) and of the measurement.

    Raises
    ------
    ProblemError
        If the manifold is neither SE2 nor SE3.

    Notes
    -----
    Data: ``measured``, one row per block, the pose Z of body j in the frame of body i: ``[x y θ]`` in SE(2),
    ``[tx ty tz qx qy qz qw]`` with a quaternion of unit length in SE(3). Lengths are in the unit of the poses, angles
    in radians. The residual is ``[translation, rotation]``, of length 3 or 6. Where the error's rotation is by π the
    logarithm jumps.

    References
    ----------
    J. Solà, J. Deray, D. Atchuthan, "A micro Lie theory for state estimation in robotics", arXiv:1812.01537, 2018:
    the section on derivatives on Lie groups, and the appendices on SE(2) and SE(3).
    """

    @property
    def _coupled(self) -> bool:
        return True


@final
@dataclass(frozen=True)
class BetweenUncoupled(_RelativePose):
    """Translation and rotation of the error of a measured relative pose, each on its own.

    r = (R_Zᵀ (R_iᵀ (t_j − t_i) − t_Z),  Log(R_Zᵀ R_iᵀ R_j)): the translation that is left over, seen in the measured
    frame of body j, and the rotation's logarithm. With E = Z⁻¹ X_i⁻¹ X_j that is (t_E, Log R_E), and

        ∂r/∂δ_j = D = diag(R_E, J_r⁻¹(Log R_E)),    ∂r/∂δ_i = −D Ad(X_j⁻¹ X_i).

    The derivatives are with respect to the tangents of SE(2) or SE(3), where a step is X·Exp(δ): only the residual is
    uncoupled. It differs from :class:`Between` in terms of second order in the error.

    Parameters
    ----------
    manifold : SE2 or SE3
        The manifold of both poses X_i, X_j (world-from-body) and of the measurement.

    Raises
    ------
    ProblemError
        If the manifold is neither SE2 nor SE3.

    Notes
    -----
    Data, units and order of the residual are those of :class:`Between`.
    """

    @property
    def _coupled(self) -> bool:
        return False


def _true_motions(manifold: AbstractManifold, n: int) -> Array:
    """Tangents of the motions from the first to the second pose of block 0, 1, …: the same at every call.

    The contract tests draw operands and data apart; what they have in common must not depend on the generator.
    """
    return np.random.default_rng(n).standard_normal((n, manifold.tangent_dim))


def _random_measurements(manifold: AbstractManifold, rng: np.random.Generator, n: int) -> Array:
    """Exp(τ)·Exp(ε) for those motions τ."""
    error = rng.standard_normal((n, manifold.tangent_dim))
    error[1::4] *= 1e-9
    error[2::4] = 0.0
    rotation = error[3::4, 2 if isinstance(manifold, SE2) else 3 :]
    # Far enough from π for finite differences to stay on one side.
    rotation *= (math.pi - 1e-3) / np.linalg.norm(rotation, axis=1, keepdims=True)
    measured = np.zeros((n, manifold.ambient_dim))
    if isinstance(manifold, SE3):
        measured[:, 6] = 1.0
    manifold.retract(measured, _true_motions(manifold, n), measured)
    manifold.retract(measured, error, measured)
    return measured


# -- loops -------------------------------------------------------------------------------------------------------------
#
# One loop evaluates and linearises: two would be optimised apart, and their residuals differ in the last bit.


@kernel
def _loop_se2(values_i, index_i, values_j, index_j, measured, coupled, columns, r, J):
    num_blocks = r.shape[0]
    linearizing = J.shape[0] > 0
    direct = all_free(columns, J.shape[2])
    lanes = num_lanes(num_blocks, TASK)
    for lane in prange(lanes):
        local = np.empty((3, 6))
        for b in range(lane * num_blocks // lanes, (lane + 1) * num_blocks // lanes):
            relative = se2_between(*_row3(values_i, index_i[b]), *_row3(values_j, index_j[b]))
            error = se2_between(*_row3(measured, b), *relative)
            r[b, 0], r[b, 1], r[b, 2] = se2_log(*error) if coupled else error
            if linearizing:
                block = J[b] if direct else local
                _jacobian_se2(relative, error, coupled, block)
                if not direct:
                    scatter_columns(local, columns, J[b])


@kernel
def _loop_se3(values_i, index_i, values_j, index_j, measured, coupled, columns, r, J):
    num_blocks = r.shape[0]
    linearizing = J.shape[0] > 0
    direct = all_free(columns, J.shape[2])
    lanes = num_lanes(num_blocks, TASK)
    for lane in prange(lanes):
        local = np.empty((6, 12))
        for b in range(lane * num_blocks // lanes, (lane + 1) * num_blocks // lanes):
            relative = se3_between(*_row7(values_i, index_i[b]), *_row7(values_j, index_j[b]))
            error = se3_between(*_row7(measured, b), *relative)
            tangent = _residual_se3(error, coupled)
            r[b, 0], r[b, 1], r[b, 2], r[b, 3], r[b, 4], r[b, 5] = tangent
            if linearizing:
                block = J[b] if direct else local
                _jacobian_se3(relative, error, tangent, coupled, block)
                if not direct:
                    scatter_columns(local, columns, J[b])


# -- one block ---------------------------------------------------------------------------------------------------------


@scalar
def _row3(values, row):
    return values[row, 0], values[row, 1], values[row, 2]


@scalar
def _row7(values, row):
    return (
        values[row, 0],
        values[row, 1],
        values[row, 2],
        values[row, 3],
        values[row, 4],
        values[row, 5],
        values[row, 6],
    )


@scalar
def _residual_se3(error, coupled):
    if coupled:
        return se3_log(*error)
    tx, ty, tz, qx, qy, qz, qw = error
    wx, wy, wz = so3_log(qx, qy, qz, qw)
    return tx, ty, tz, wx, wy, wz


@scalar
def _jacobian_se2(relative, error, coupled, block):
    """Write [−D·Ad, D] (3 × 6). For X_j⁻¹X_i = (Q, s), Ad = [[Q, (s_y, −s_x)ᵀ], [0, 1]]; Q = R_relᵀ, s = −Q·t_rel."""
    if coupled:
        d = se2_right_jacobian_inverse(*se2_log(*error))
    else:
        c, s = math.cos(error[2]), math.sin(error[2])
        d = (c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0)
    x, y, angle = relative
    c, s = math.cos(angle), math.sin(angle)
    adjoint = (c, s, s * x - c * y, -s, c, c * x + s * y, 0.0, 0.0, 1.0)
    product = _multiply3(d, adjoint)
    for k in range(9):
        block[k // 3, k % 3] = -product[k]
        block[k // 3, k % 3 + 3] = d[k]


@scalar
def _jacobian_se3(relative, error, tangent, coupled, block):
    """Write [−D·Ad, D] (6 × 12) for D = [[a, b], [0, c]].

    With X_i⁻¹X_j = (R, t), Ad(X_j⁻¹X_i) = [[Rᵀ, −Rᵀ[t]×], [0, Rᵀ]], so that −D·Ad = −[[p, bRᵀ − p[t]×], [0, cRᵀ]] with
    p = aRᵀ; for the full logarithm c = a.
    """
    x, y, z, qx, qy, qz, qw = relative
    transposed = quat_to_matrix(-qx, -qy, -qz, qw)
    if coupled:
        a, b = se3_right_jacobian_inverse(*tangent)
        c = a
        p = _multiply3(a, transposed)
        q = p
    else:
        a = quat_to_matrix(error[3], error[4], error[5], error[6])
        b = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        c = so3_right_jacobian_inverse(tangent[3], tangent[4], tangent[5])
        p = _multiply3(a, transposed)
        q = _multiply3(c, transposed)
    e = _multiply3(b, transposed)
    for k in range(9):
        i, j = k // 3, k % 3
        block[i, j] = -p[k]
        block[i, j + 3] = -e[k]
        block[i, j + 6] = a[k]
        block[i, j + 9] = b[k]
        block[i + 3, j] = 0.0
        block[i + 3, j + 3] = -q[k]
        block[i + 3, j + 6] = 0.0
        block[i + 3, j + 9] = c[k]
    for row in range(3):  # a row of p[t]× is the row × t
        u, v, w = -block[row, 0], -block[row, 1], -block[row, 2]
        block[row, 3] += v * z - w * y
        block[row, 4] += w * x - u * z
        block[row, 5] += u * y - v * x


@scalar
def _multiply3(a, b):
    """Product of two row-major 3 × 3 matrices."""
    return (
        a[0] * b[0] + a[1] * b[3] + a[2] * b[6],
        a[0] * b[1] + a[1] * b[4] + a[2] * b[7],
        a[0] * b[2] + a[1] * b[5] + a[2] * b[8],
        a[3] * b[0] + a[4] * b[3] + a[5] * b[6],
        a[3] * b[1] + a[4] * b[4] + a[5] * b[7],
        a[3] * b[2] + a[4] * b[5] + a[5] * b[8],
        a[6] * b[0] + a[7] * b[3] + a[8] * b[6],
        a[6] * b[1] + a[7] * b[4] + a[8] * b[7],
        a[6] * b[2] + a[7] * b[5] + a[8] * b[8],
    )
