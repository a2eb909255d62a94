"""Positive definite block matrices of real and synthetic problems, in the natural order of the variables.

All are taken at a problem's start with the damping that Levenberg–Marquardt begins with: JᵀJ + D of pose graphs and of
a small bundle adjustment, and reduced camera systems S = U − W V⁻¹ Wᵀ with the 3 × 3 blocks V of the points eliminated.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from sparselm.evaluator import Evaluator
from sparselm.linear_solvers.normal_equations import BlockPattern, NormalEquations
from sparselm.structure import Structure

from .common import named_problem


@dataclass(frozen=True)
class BlockMatrix:
    """The lower triangle of a symmetric positive definite matrix.

    Attributes
    ----------
    lower : csc_matrix
        Rows ascending; blocks are stored whole, the zeros in them too.
    sizes : (num_blocks,) int32
        Rows of each diagonal block.
    """

    name: str
    lower: sp.csc_matrix
    sizes: np.ndarray


_NORMAL = {
    "intel": "g2o-intel",
    "MIT": "g2o-mit",
    "manhattan": "g2o-manhattan",
    "M3500": "g2o-m3500",
    "parking-garage": "g2o-parking-garage",
    "sphere2500": "g2o-sphere2500",
    "torus3D": "g2o-torus3d",
    "grid-3500": "grid-3500",
    "ladybug-49-full": "bal-ladybug-49",
}
_REDUCED = {
    "ladybug-49-reduced": "bal-ladybug-49",
    "street-200-reduced": "street-200",
    "street-1000-reduced": "street-1000",
}

NAMES = [*_NORMAL, *_REDUCED]


def block_matrix(name):
    """One of the matrices; NotImplementedError, which asv takes for "skip", where a data file is missing."""
    lower, sizes = normal_matrix(named_problem(_NORMAL.get(name) or _REDUCED[name]).build())
    if name in _REDUCED:
        lower, sizes = reduced_camera_matrix(lower, sizes)
    return BlockMatrix(name, lower, sizes)


def normal_matrix(problem):
    """JᵀJ + D at the problem's start, and the sizes of its blocks."""
    structure = Structure(problem)
    pattern = BlockPattern(structure)
    normal = NormalEquations(pattern, np.arange(pattern.num_blocks, dtype=np.int32))
    linearization = Evaluator(problem, structure).linearize()
    normal.assemble(linearization)
    if not normal.set_damping(1e-4 * np.clip(linearization.diagonal, 1e-6, 1e32)):
        raise ValueError("JᵀJ is not finite")
    return normal.lower().copy(), pattern.sizes


def reduced_camera_matrix(lower, sizes):
    """The Schur complement of the points (blocks of three, which come last) on the cameras."""
    num_cameras = int(np.argmax(sizes == 3))
    width = int(sizes[0])
    split = num_cameras * width
    U = lower[:split, :split]
    U = (U + sp.tril(U, -1).T).tobsr((width, width))
    W = lower[split:, :split].T.tobsr((width, 3))
    V = lower[split:, split:]
    V = (V + sp.tril(V, -1).T).tobsr((3, 3))
    V.data = np.linalg.inv(V.data)
    S = sp.tril((U - W @ (V @ W.T.tobsr((3, width)))).tocsc(), format="csc")
    S.sort_indices()
    return S, sizes[:num_cameras]
