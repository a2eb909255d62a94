"""In which order to eliminate the blocks of a sparse symmetric matrix.

The order decides how many entries the factor has. It is sought on the graph of blocks, each of which weighs as many
scalar columns as it has: by approximate minimum degree, which is fast, or by METIS's nested dissection, which takes
several times as long and is better on many large graphs. What an order costs is known from heights of columns, without a
factor, so that orders can be compared.

All orders that have children before parents in the same elimination tree have the same fill; which of them a factorisation
takes is not decided here (see ``kernels/supernodes.py``).

References
----------
G. Karypis, V. Kumar, "A fast and high quality multilevel scheme for partitioning irregular graphs", SIAM J. Sci. Comput.
20(1), 1998: METIS.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Literal

import numpy as np
import numpy.typing as npt

from sparselm.errors import MissingDependencyError, SolverError
from sparselm.kernels.elimination import column_heights, elimination_tree, factor_sizes, postorder
from sparselm.kernels.minimum_degree import minimum_degree

IndexArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]
Choice = Literal["auto", "amd", "metis", "natural"]

# Operations of a factorisation per block and edge from which METIS is tried. It takes 0.8 to 2.5 µs per block and edge
# (pose graphs, grids, random graphs of 7 000 to 120 000 of them); at 30 operations a nanosecond, five factorisations that
# are a fifth shorter repay 1.5 µs.
METIS_FLOPS = 150_000.0

# The same for a second minimum degree order, which breaks ties otherwise: 0.02 to 0.3 µs, and often 10 % less.
SECOND_FLOPS = 40_000.0

# How much longer than before, block for block, a factorisation in an extended order may take before a new one is sought.
EXTENSION_FLOPS = 1.5

logger = logging.getLogger("sparselm")


@dataclass(frozen=True, slots=True)
class Ordering:
    """An order of elimination and the factor that it leads to.

    Attributes
    ----------
    name : str
        ``"amd"``, ``"metis"``, ``"natural"`` or ``"given"``.
    order : (n,) int32
        Block at each position.
    parent : (n,) int32
        A tree by position, ``parent[k] > k`` or −1 at roots: the rows of column k below ``parent[k]`` are rows of that
        column, too. It is the elimination tree but for ``"amd"``, where the parent may also come before the first row.
    heights : (n,) int64
        Scalar rows below the diagonal block, by position.
    nonzeros : int
        Entries of the factor, diagonal included.
    flops : float
        Operations of a factorisation: Σ k³/3 + k² h + k h² over blocks of k columns and height h.
    sought : float
        Operations per block when this order was last sought, and not extended.
    """

    name: str
    order: IndexArray
    parent: IndexArray
    heights: LongArray
    nonzeros: int
    flops: float
    sought: float

    def postordered(self) -> IndexArray:
        """The blocks in a postorder of the tree, the highest child next to its parent.

        For factorisations that take neighbouring columns into supernodes, and do not postorder themselves.
        """
        post = np.empty_like(self.order)
        postorder(self.parent, self.heights, post)
        return self.order[post]


def find_ordering(
    indptr: LongArray,
    indices: IndexArray,
    sizes: IndexArray,
    choice: Choice | npt.ArrayLike = "auto",
    last: npt.ArrayLike | None = None,
) -> Ordering:
    """A fill-reducing order of the blocks.

    Parameters
    ----------
    indptr, indices : (n + 1,) int64, (nnz,) int32
        Neighbours of each block: both triangles, no diagonal, none twice.
    sizes : (n,) int32
        Scalar columns of each block, at least 1.
    choice
        ``"amd"``, approximate minimum degree, where factorisations are long the better of two ways to break ties;
        ``"metis"``, nested dissection (needs pymetis); ``"natural"``, or the block numbers in an order of the caller's.
        ``"auto"`` is AMD or, where factorisations are long and pymetis is there, the one of AMD and METIS that needs
        fewer operations.
    last : (n,) bool or int, optional
        Blocks to be eliminated after all others; or a stage for each block, those of lower stages being eliminated
        first. Orders other than AMD's are kept within each stage.

    Raises
    ------
    SolverError
        The choice is unknown or no permutation, or ``last`` does not fit.
    MissingDependencyError
        METIS is asked for and pymetis is not there.
    """
    n = len(sizes)
    stage = _stages(last, n)
    if not isinstance(choice, str):
        return _complete("given", _checked_order(choice, n), indptr, indices, sizes, stage)
    if choice == "natural":
        return _complete("natural", np.arange(n, dtype=np.int32), indptr, indices, sizes, stage)
    if choice == "metis":
        return _complete("metis", _nested_dissection(indptr, indices, sizes), indptr, indices, sizes, stage)
    if choice not in ("auto", "amd"):
        raise SolverError(
            f"ordering {choice!r}, expected auto, amd, metis, natural or an array of the {n} block numbers"
        )
    edges = n + len(indices) // 2
    found = _minimum_degree(False, indptr, indices, sizes, stage)
    if found.flops > SECOND_FLOPS * edges:
        found = _cheaper(found, _minimum_degree(True, indptr, indices, sizes, stage))
    if choice == "auto" and found.flops > METIS_FLOPS * edges:
        try:
            found = _cheaper(found, find_ordering(indptr, indices, sizes, "metis", stage))
        except MissingDependencyError:
            logger.debug("no pymetis: METIS's order is not tried")
    return found


def extend_ordering(indptr: LongArray, indices: IndexArray, sizes: IndexArray, previous: Ordering) -> Ordering:
    """The order of a graph whose first blocks are those of ``previous``: theirs, then the new ones as they come.

    That costs a fraction of a new order, and is close to it while the new blocks touch few old ones. Where it needs more
    than ``EXTENSION_FLOPS`` times the operations per block that the previous order needed, a new one is sought, and the
    better of the two taken.
    """
    old, n = len(previous.order), len(sizes)
    if n < old:
        raise SolverError(f"a graph of {n} blocks does not extend one of {old}: call it without the previous analysis")
    order = np.concatenate([previous.order, np.arange(old, n, dtype=np.int32)])
    extended = _complete(previous.name, order, indptr, indices, sizes, np.zeros(n, dtype=np.int32))
    extended = replace(extended, sought=previous.sought)
    if extended.flops <= EXTENSION_FLOPS * previous.sought * n:
        return extended
    return _cheaper(extended, find_ordering(indptr, indices, sizes))


def _cheaper(first: Ordering, second: Ordering) -> Ordering:
    return second if second.flops < first.flops else first


def _minimum_degree(
    newest_first: bool, indptr: LongArray, indices: IndexArray, sizes: IndexArray, stage: IndexArray
) -> Ordering:
    n = len(sizes)
    order, parent = np.empty((2, n), dtype=np.int32)
    heights = np.empty(n, dtype=np.int64)
    if minimum_degree(indptr, indices, sizes, stage, newest_first, order, parent, heights):
        return _cost("amd", order, parent, heights, sizes)
    return _complete("amd", order, indptr, indices, sizes, stage)


def _complete(
    name: str, order: IndexArray, indptr: LongArray, indices: IndexArray, sizes: IndexArray, stage: IndexArray
) -> Ordering:
    """Bring an order into stages, and find its tree and heights."""
    n = len(order)
    if n and stage.max() > 0:
        order = order[np.argsort(stage[order], kind="stable")]
    position = inverse_order(order)
    parent = np.empty(n, dtype=np.int32)
    heights = np.empty(n, dtype=np.int64)
    elimination_tree(indptr, indices, order, position, parent)
    column_heights(indptr, indices, sizes, order, position, parent, heights)
    return _cost(name, order, parent, heights, sizes)


def _cost(name: str, order: IndexArray, parent: IndexArray, heights: LongArray, sizes: IndexArray) -> Ordering:
    nonzeros, flops = factor_sizes(sizes, order, heights)
    return Ordering(name, order, parent, heights, int(nonzeros), float(flops), float(flops) / max(len(order), 1))


def inverse_order(order: IndexArray) -> IndexArray:
    """The position of each block in an order."""
    position = np.empty_like(order)
    position[order] = np.arange(len(order), dtype=np.int32)
    return position


def _stages(last: npt.ArrayLike | None, n: int) -> IndexArray:
    """Stages numbered from 0 without gaps."""
    if last is None:
        return np.zeros(n, dtype=np.int32)
    given = np.asarray(last)
    if given.shape != (n,) or given.dtype.kind not in "biu":
        raise SolverError(
            f"last has shape {given.shape} and type {given.dtype}, expected ({n},) and bool or int: for each block, "
            "whether it comes last, or its stage"
        )
    return np.unique(given, return_inverse=True)[1].astype(np.int32)


def _checked_order(choice: npt.ArrayLike, n: int) -> IndexArray:
    given = np.asarray(choice)
    if given.shape != (n,) or (n > 0 and given.dtype.kind not in "iu"):
        raise SolverError(
            f"the ordering has shape {given.shape} and type {given.dtype}, expected ({n},) and integers: every block "
            "number once, in order of elimination"
        )
    outside = np.flatnonzero((given < 0) | (given >= n))
    if len(outside):
        raise SolverError(
            f"the ordering has block {given[outside[0]]} at position {outside[0]}, expected numbers from 0 to {n - 1}"
        )
    count = np.bincount(given.astype(np.int64), minlength=n)
    if (count != 1).any():
        raise SolverError(
            f"the ordering has block {count.argmax()} {count.max()} times and lacks block {count.argmin()}, expected a "
            "permutation: give every block number once"
        )
    return given.astype(np.int32)


def _nested_dissection(indptr: LongArray, indices: IndexArray, sizes: IndexArray) -> IndexArray:
    """METIS's order, with a fixed seed; pymetis is under the MIT licence, the METIS within it under Apache 2.0."""
    try:
        pymetis = import_module("pymetis")
    except ImportError as error:
        raise MissingDependencyError(
            f"the ordering 'metis' needs pymetis ({error}): pip install 'sparselm[metis]', or use 'amd', which needs nothing"
        ) from error
    n = len(sizes)
    if not len(indices):
        return np.arange(n, dtype=np.int32)
    order, _ = pymetis.nested_dissection(
        pymetis.CSRAdjacency(indptr, indices.astype(np.int64)),
        # weights that are all the same would change rounding and nothing else
        vweights=sizes.astype(np.int64) if sizes.min() != sizes.max() else None,
        options=pymetis.Options(seed=0),
    )
    return np.asarray(order, dtype=np.int32)
