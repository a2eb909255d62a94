"""A slow solver that shares nothing with the package: NumPy residuals, central differences, SciPy's factorisations.

``python -m problems.reference [name …]`` recomputes the optima that bundle_adjustment.py and pose_graphs.py store for
synthetic problems. Damping is Marquardt's (λ diag JᵀJ, down by 10 after a good step, up by 10 after a bad one),
iterated until the cost no longer changes in the twelfth digit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import splu
from scipy.spatial.transform import Rotation

from sparselm.datasets.bundle_adjustment import project
from sparselm.io.bal import BundleAdjustmentData
from sparselm.io.pose_graph import PoseGraph

Array = npt.NDArray[np.float64]

_STEP = 1e-6
_LAST_DIGIT = 1e-12


@dataclass
class Unknowns:
    """Rows of numbers, how a tangent step moves them, and which are held constant."""

    values: Array
    tangent_dim: int
    retract: Callable[[Array, Array], Array]
    held: npt.NDArray[np.bool_]


@dataclass
class Term:
    """Residuals (n, dim) of the selected rows of each operand."""

    residual: Callable[..., Array]
    operands: Sequence[tuple[int, npt.NDArray[np.integer]]]


def solve_sparse(H: sp.csc_array, g: Array) -> Array:
    solution: Array = splu(H, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve(g)
    return solution


def solve_eliminating_points(H: sp.csc_array, g: Array, num_kept: int) -> Array:
    """With 3 × 3 blocks on the diagonal after ``num_kept`` columns: a dense Schur complement."""
    A, B = H[:num_kept, :num_kept], H[:num_kept, num_kept:]
    inverses = np.linalg.inv(H[num_kept:, num_kept:].tobsr((3, 3)).data)
    count = len(inverses)
    C_inverse = sp.bsr_array((inverses, np.arange(count), np.arange(count + 1))).tocsr()
    BC = B @ C_inverse
    S = cho_factor((A - BC @ B.T).toarray(), overwrite_a=True)
    kept = cho_solve(S, g[:num_kept] - BC @ g[num_kept:])
    return np.concatenate([kept, C_inverse @ (g[num_kept:] - B.T @ kept)])


def minimize(
    unknowns: list[Unknowns],
    terms: list[Term],
    solve: Callable[[sp.csc_array, Array], Array] = solve_sparse,
    iterations: int = 300,
    quiet: bool = True,
) -> float:
    """Minimise ½ Σ r²; the unknowns' values end at the minimum."""
    damping = 1e-3
    cost = _cost(unknowns, terms)
    quiet_steps = 0
    for iteration in range(iterations):
        H, g = _normal_equations(unknowns, terms)
        while True:
            damped = H + sp.diags_array(damping * np.maximum(H.diagonal(), 1e-12))
            old = [unknown.values for unknown in unknowns]
            _move(unknowns, -solve(damped.tocsc(), g))
            trial = _cost(unknowns, terms)
            if trial <= cost * (1.0 + _LAST_DIGIT):
                break
            for unknown, values in zip(unknowns, old, strict=True):
                unknown.values = values
            damping *= 10.0
            if damping > 1e12:
                return cost
        if not quiet:
            print(f"{iteration:4d} {cost:.12g} -> {trial:.12g}  damping {damping:.1e}  |g| {np.abs(g).max():.2e}")
        damping = max(damping / 10.0, 1e-12)
        quiet_steps = quiet_steps + 1 if cost - trial <= _LAST_DIGIT * cost else 0
        cost = min(cost, trial)
        if quiet_steps == 3:
            return cost
    return cost


def _cost(unknowns: list[Unknowns], terms: list[Term]) -> float:
    with np.errstate(all="ignore"):
        total = sum(np.sum(_residual(unknowns, term) ** 2) for term in terms)
    return 0.5 * float(total) if np.isfinite(total) else np.inf


def _residual(unknowns: list[Unknowns], term: Term) -> Array:
    return term.residual(*(unknowns[which].values[rows] for which, rows in term.operands))


def _columns(unknowns: list[Unknowns]) -> list[npt.NDArray[np.integer]]:
    """Column of each tangent component of each row; −1 where held."""
    columns, count = [], 0
    for unknown in unknowns:
        column = np.full((len(unknown.values), unknown.tangent_dim), -1)
        free = int((~unknown.held).sum()) * unknown.tangent_dim
        column[~unknown.held] = count + np.arange(free).reshape(-1, unknown.tangent_dim)
        columns.append(column)
        count += free
    return columns


def _normal_equations(unknowns: list[Unknowns], terms: list[Term]) -> tuple[sp.csc_array, Array]:
    columns = _columns(unknowns)
    width = 1 + max(int(column.max()) for column in columns)
    parts = []
    for term in terms:
        r = _residual(unknowns, term)
        row = np.arange(r.size).reshape(r.shape)
        values, rows, cols = [], [], []
        for position, (which, selected) in enumerate(term.operands):
            for k in range(unknowns[which].tangent_dim):
                column = np.broadcast_to(columns[which][selected, k, None], r.shape)
                derivative = _difference(unknowns, term, position, k)
                keep = column >= 0
                values.append(derivative[keep])
                rows.append(row[keep])
                cols.append(column[keep])
        J = sp.csr_array((np.concatenate(values), (np.concatenate(rows), np.concatenate(cols))), shape=(r.size, width))
        parts.append((J, r.ravel()))
    H = sum(J.T @ J for J, _ in parts)
    g = sum(J.T @ r for J, r in parts)
    return sp.csc_array(H), g


def _difference(unknowns: list[Unknowns], term: Term, position: int, k: int) -> Array:
    """Central difference of a term in component k of one operand, in all blocks at once."""
    sides = []
    for sign in (1.0, -1.0):
        operands = [unknowns[which].values[rows] for which, rows in term.operands]
        which = term.operands[position][0]
        step = np.zeros((len(operands[position]), unknowns[which].tangent_dim))
        step[:, k] = sign * _STEP
        operands[position] = unknowns[which].retract(operands[position], step)
        sides.append(term.residual(*operands))
    return (sides[0] - sides[1]) / (2.0 * _STEP)


def _move(unknowns: list[Unknowns], step: Array) -> None:
    for unknown, columns in zip(unknowns, _columns(unknowns), strict=True):
        delta = np.where(columns >= 0, step[columns], 0.0)
        unknown.values = unknown.retract(unknown.values, delta)


# -- bundle adjustment ----------------------------------------


def bundle_adjustment_optimum(data: BundleAdjustmentData, quiet: bool = True) -> float:
    """Minimum of the reprojection cost from the data's start."""
    n, m = len(data.cameras), len(data.points)
    unknowns = [
        Unknowns(data.cameras.copy(), 9, np.add, np.zeros(n, dtype=bool)),
        Unknowns(data.points.copy(), 3, np.add, np.zeros(m, dtype=bool)),
    ]
    block = np.arange(len(data.pixels))

    def reprojection(cameras: Array, points: Array) -> Array:
        return project(cameras, points, block, block) - data.pixels

    def solve(H: sp.csc_array, g: Array) -> Array:
        return solve_eliminating_points(H, g, 9 * n)

    return minimize(unknowns, [Term(reprojection, [(0, data.camera_index), (1, data.point_index)])], solve, quiet=quiet)


# -- pose graphs ----------------------------------------


def pose_graph_optimum(graph: PoseGraph, uncoupled: bool = False, quiet: bool = True) -> float:
    """Minimum of ½ Σ rᵀΩr from the graph's own poses, with the first pose held."""
    held = np.zeros(len(graph.poses), dtype=bool)
    held[0] = True
    plane = graph.world_dim == 2
    W = np.linalg.cholesky(graph.information).transpose(0, 2, 1)
    between = _between_se2 if plane else _between_se3

    def residual(x: Array, y: Array) -> Array:
        return np.einsum("nij,nj->ni", W, between(x, y, graph.measured, uncoupled))

    unknowns = Unknowns(graph.poses.copy(), 3 if plane else 6, np.add if plane else _retract_se3, held)
    terms = [Term(residual, [(0, graph.edges[:, 0]), (0, graph.edges[:, 1])])]
    return minimize([unknowns], terms, quiet=quiet)


def _between_se2(x: Array, y: Array, z: Array, uncoupled: bool) -> Array:
    def turned(angle: Array, v: Array) -> Array:
        c, s = np.cos(angle), np.sin(angle)
        return np.column_stack([c * v[:, 0] + s * v[:, 1], c * v[:, 1] - s * v[:, 0]])

    t = turned(z[:, 2], turned(x[:, 2], y[:, :2] - x[:, :2]) - z[:, :2])
    angle = (y[:, 2] - x[:, 2] - z[:, 2] + np.pi) % (2.0 * np.pi) - np.pi
    if uncoupled:
        return np.column_stack([t, angle])
    safe = np.where(np.abs(angle) < 1e-4, 1.0, angle)
    cot = np.where(np.abs(angle) < 1e-4, 1.0 - angle**2 / 12.0, 0.5 * safe / np.tan(0.5 * safe))
    return np.column_stack([cot * t[:, 0] + 0.5 * angle * t[:, 1], cot * t[:, 1] - 0.5 * angle * t[:, 0], angle])


def _between_se3(x: Array, y: Array, z: Array, uncoupled: bool) -> Array:
    X, Y, Z = (Rotation.from_quat(pose[:, 3:]) for pose in (x, y, z))
    t = Z.inv().apply(X.inv().apply(y[:, :3] - x[:, :3]) - z[:, :3])
    omega = (Z.inv() * X.inv() * Y).as_rotvec()
    if uncoupled:
        return np.column_stack([t, omega])
    angle = np.linalg.norm(omega, axis=1, keepdims=True)
    safe = np.where(angle < 1e-3, 1.0, angle)
    factor = np.where(angle < 1e-3, 1.0 / 12.0 + angle**2 / 720.0, (1.0 - 0.5 * safe / np.tan(0.5 * safe)) / safe**2)
    across = np.cross(omega, t)
    return np.column_stack([t - 0.5 * across + factor * np.cross(omega, across), omega])


def _retract_se3(x: Array, step: Array) -> Array:
    """Any smooth chart finds the same minimum: here translation in the world, rotation on the right."""
    rotation = Rotation.from_quat(x[:, 3:]) * Rotation.from_rotvec(step[:, 3:])
    return np.column_stack([x[:, :3] + step[:, :3], rotation.as_quat()])


def main(arguments: list[str]) -> None:
    from problems import bundle_adjustment, pose_graphs

    for name, make in (bundle_adjustment.SYNTHETIC | bundle_adjustment.FROM_FILE).items():
        if name in arguments or (not arguments and name in bundle_adjustment.SYNTHETIC):
            print(f"{name}: {bundle_adjustment_optimum(make(), quiet=False):.12g}", flush=True)
    for name, make in pose_graphs.SYNTHETIC.items():
        if not arguments or name in arguments:
            graph = make()
            print(f"{name}: {pose_graph_optimum(graph):.12g}", flush=True)
            print(f"{name}-uncoupled: {pose_graph_optimum(graph, uncoupled=True):.12g}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
