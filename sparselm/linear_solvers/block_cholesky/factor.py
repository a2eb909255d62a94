"""The factorisation of a SciPy matrix: ``factorize``, ``analyze`` and the factor they lead to."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from sparselm.errors import SolverError, SparselmError
from sparselm.linear_solvers.base import Precision
from sparselm.linear_solvers.block_cholesky.matrix import MatrixPattern, copy_values
from sparselm.linear_solvers.block_cholesky.numeric import Numeric
from sparselm.linear_solvers.block_cholesky.numeric import refine as refine_steps
from sparselm.linear_solvers.block_cholesky.symbolic import Symbolic, build_symbolic
from sparselm.linear_solvers.ordering import Choice, Ordering, extend_ordering, find_ordering
from sparselm.threads import use_threads

Array = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]

# Refinement steps of a float32 factor where the caller names none; with a condition number of 1e6 five reach float64.
SINGLE_STEPS = 10


class NotPositiveDefiniteError(SparselmError, np.linalg.LinAlgError):
    """The matrix has no Cholesky factor; ``block`` is the one whose pivot was not positive, in the matrix's order."""

    def __init__(self, block: int, size: int) -> None:
        self.block, self.size = block, size
        super().__init__(
            f"the matrix is not positive definite: block {block} ({size} columns) has a pivot that is not positive once "
            "the blocks before it are eliminated; add to its diagonal (damping=), or allow for semi-definite matrices "
            "(pivot_tolerance=)"
        )

    def __reduce__(self) -> tuple[type, tuple[int, int]]:
        return type(self), (self.block, self.size)


class Analysis:
    """The symbolic factorisation of all matrices of one pattern; made by :func:`analyze`.

    Attributes
    ----------
    block_sizes : (n,) int32
    order : (n,) int32
        Blocks in the order of elimination.
    ordering : str
        Where the order comes from: ``"amd"``, ``"metis"``, ``"natural"`` or ``"given"``.
    nonzeros : int
        Numbers computed for the factor L, diagonal included.
    flops : float
        Operations of a factorisation: Σ w³/3 + w² h + w h² over fronts of w pivots and h rows below.
    num_supernodes : int
    memory : int
        Bytes that a factorisation in float64 on one thread allocates, with solves of one right-hand side.
    """

    def __init__(self, pattern: MatrixPattern, symbolic: Symbolic) -> None:
        self._pattern = pattern
        self._symbolic = symbolic

    @functools.cached_property
    def _target(self) -> LongArray:
        return self._pattern.place(self._symbolic)

    @property
    def block_sizes(self) -> IndexArray:
        return self._pattern.graph.sizes

    @property
    def order(self) -> IndexArray:
        return self._symbolic.order

    @property
    def ordering(self) -> str:
        return self._symbolic.ordering.name

    @property
    def nonzeros(self) -> int:
        return self._symbolic.nonzeros

    @property
    def flops(self) -> float:
        return self._symbolic.flops

    @property
    def num_supernodes(self) -> int:
        return self._symbolic.num_supernodes

    @property
    def memory(self) -> int:
        return self._symbolic.memory

    def factorize(
        self,
        A: Any,
        *,
        damping: npt.ArrayLike | None = None,
        precision: Precision = "float64",
        pivot_tolerance: float | None = None,
        num_threads: int | None = None,
    ) -> Factor:
        """Factorise a matrix of this pattern; see :func:`factorize` for the parameters."""
        name = precision if isinstance(precision, str) else np.dtype(precision).name
        if name not in get_args(Precision):
            raise SolverError(f"precision {precision!r}, expected 'float64' or 'float32'")
        if pivot_tolerance is not None and not 0.0 <= pivot_tolerance < 1.0:
            raise SolverError(f"pivot_tolerance = {pivot_tolerance}, expected None or a number in [0, 1)")
        return Factor(self, A, damping, name, pivot_tolerance, num_threads)

    def __repr__(self) -> str:
        return (
            f"<Analysis of {len(self.block_sizes)} blocks, {self._symbolic.size} columns: {self.ordering} order, "
            f"{self.num_supernodes} supernodes, nnz(L) {self.nonzeros}, {self.flops:.3g} operations>"
        )


class Factor:
    """L Lᵀ = P (A + D) Pᵀ; made by :func:`factorize`.

    Python threads may share it: their calls wait for one another.

    Attributes
    ----------
    analysis : Analysis
    perturbed_blocks : (k,) int32
        With ``pivot_tolerance``: the blocks in which pivots were replaced, in the order of elimination.
    num_perturbed : int
        How many pivots (scalar columns) were replaced.
    """

    def __init__(
        self,
        analysis: Analysis,
        A: Any,
        damping: npt.ArrayLike | None,
        precision: Precision,
        pivot_tolerance: float | None,
        num_threads: int | None,
    ) -> None:
        self.analysis = analysis
        self._num_threads = num_threads
        self._tolerant = pivot_tolerance is not None
        self._valid = False
        self._lock = threading.RLock()  # of the workspace
        with self._use():
            self._numeric = Numeric(analysis._symbolic, precision, pivot_tolerance)
        self.refactorize(A, damping=damping)

    def refactorize(self, A: Any, *, damping: npt.ArrayLike | None = None) -> None:
        """Factorise another matrix of the same pattern into the same memory; what the factor was is gone.

        Raises
        ------
        NotPositiveDefiniteError
            A pivot is not positive. The factor cannot be used until the next successful call.
        SolverError
            The pattern is another one, or the damping is ill-formed: the factor is as it was. Or a number of the matrix is
            not finite.
        """
        self.analysis._pattern.check(A)
        d = self._checked_damping(damping)
        with self._lock:
            self._valid = False
            copy_values(self.analysis._target, A, self._numeric.store)
            self._factorize(d)

    def redamp(self, damping: npt.ArrayLike | None) -> None:
        """Factorise the same matrix plus another diagonal D: the matrix is not read, and not copied, again."""
        self._factorize(self._checked_damping(damping))

    def _checked_damping(self, damping: npt.ArrayLike | None) -> Array | None:
        if damping is None:
            return None
        d = np.asarray(damping, dtype=np.float64)
        n = self.analysis._symbolic.size
        if d.shape not in ((), (n,)):
            raise SolverError(f"damping has shape {d.shape}, expected ({n},), or one number for all")
        if np.isnan(d).any() or (d < 0).any():
            raise SolverError("damping has an entry that is negative or NaN, expected D ≥ 0, +inf to hold a component")
        return np.broadcast_to(d, (n,))

    def _factorize(self, d: Array | None) -> None:
        numeric = self._numeric
        with self._use():
            self._valid = False
            positive = numeric.factorize(d)
            if not positive and not numeric.is_finite():  # what is not finite makes a pivot NaN, unless it is held
                raise SolverError(f"the matrix has a number that is not finite in {self._not_finite()}")
            if not positive and not numeric.fits():
                raise SolverError(
                    f"the matrix has diagonal entries that do not fit into {numeric.dtype} with their reciprocals: scale "
                    "it, or use precision='float64'"
                )
            if not positive and not self._tolerant:
                block = int(numeric.bad_blocks()[0])
                raise NotPositiveDefiniteError(block, int(self.analysis.block_sizes[block]))
            self._valid = True

    def _not_finite(self) -> str:
        place = int(np.flatnonzero(~np.isfinite(self._numeric.store))[0])
        source = self.analysis._symbolic.edge_source
        number = int(np.flatnonzero(source <= place)[source[source <= place].argmax()])
        graph = self.analysis._pattern.graph
        if number >= graph.num_edges:
            return f"the diagonal block {number - graph.num_edges}"
        low, high = sorted(graph.ends(number))
        return f"the block in block row {high} and block column {low}"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def __repr__(self) -> str:
        state = "" if self._valid else ", failed"
        return f"<Factor in {self._numeric.dtype}{state}, of {self.analysis!r}>"

    @property
    def perturbed_blocks(self) -> IndexArray:
        with self._use():
            self._check_valid()
            return self._numeric.bad_blocks()

    @property
    def num_perturbed(self) -> int:
        with self._use():
            self._check_valid()
            return int(self._numeric.bad.sum())

    def solve(self, b: npt.ArrayLike, *, refine: int | None = None) -> Array:
        """x with (A + D) x = b.

        Parameters
        ----------
        b : (n,) or (n, k)
        refine
            Most steps of iterative refinement for each right-hand side, with residuals in float64; by default none for
            a float64 factor, and up to ten, as many as help, for a float32 one.
        """
        steps = refine
        if steps is None:
            steps = 0 if self._numeric.dtype == np.float64 else SINGLE_STEPS
        rows, one = self._rows(b)
        x = np.empty(rows.shape)
        with self._use():
            self._check_valid()
            rows = self._numeric.hold(rows)
            self._numeric.solve(rows, x)
            if steps:
                for side, solution in zip(rows, x, strict=True):
                    refine_steps(self._numeric, side, solution, steps)
        return x[0] if one else np.ascontiguousarray(x.T)

    def solve_lower(self, b: npt.ArrayLike) -> Array:
        """y with L y = P b, in the order of elimination; ``solve_upper(solve_lower(b))`` is ``solve(b)``."""
        return self._half(b, forward=True)

    def solve_upper(self, y: npt.ArrayLike) -> Array:
        """x with Lᵀ P x = y, y in the order of elimination, x in that of the matrix; 0 where components are held."""
        return self._half(y, forward=False)

    def _half(self, b: npt.ArrayLike, forward: bool) -> Array:
        rows, one = self._rows(b)
        x = np.empty_like(rows)
        with self._use():
            self._check_valid()
            if forward:
                rows = self._numeric.hold(rows)
            self._numeric.solve(rows, x, forward=forward, backward=not forward)
            if not forward:
                x = self._numeric.hold(x)
        return x[0] if one else np.ascontiguousarray(x.T)

    def logdet(self) -> float:
        """log det (A + D), of the matrix that was factorised: with replaced pivots of another one."""
        with self._use():
            self._check_valid()
            return self._numeric.logdet()

    def _use(self) -> AbstractContextManager[Any]:
        """The work space for this thread alone."""
        return self._lock if self._num_threads is None else self._limited()

    @contextmanager
    def _limited(self) -> Iterator[None]:
        with self._lock, use_threads(self._num_threads):
            yield

    def _check_valid(self) -> None:
        if not self._valid:
            raise SolverError("the last factorisation failed: refactorize another matrix, or redamp this one, first")

    def _rows(self, b: npt.ArrayLike) -> tuple[Array, bool]:
        """The right-hand sides as rows of an array, not to be written to, and whether it was a single vector."""
        given = np.asarray(b)
        n = self.analysis._symbolic.size
        if given.ndim not in (1, 2) or given.shape[0] != n or given.dtype.kind == "c":
            raise SolverError(
                f"the right-hand side has shape {given.shape} and type {given.dtype}, expected ({n},) or ({n}, k), real"
            )
        one = given.ndim == 1
        rows = np.ascontiguousarray(given.reshape(1, n) if one else given.T, dtype=np.float64)
        # Kernels would be compiled once more for arrays that are read-only.
        return rows if rows.flags.writeable else rows.copy(), one


def analyze(
    A: Any,
    block_sizes: int | npt.ArrayLike = 1,
    *,
    ordering: Choice | npt.ArrayLike = "auto",
    last: npt.ArrayLike | None = None,
    previous: Analysis | None = None,
) -> Analysis:
    """Order the blocks of a pattern and factorise it symbolically; the values of A are not looked at.

    Parameters
    ----------
    A, block_sizes, ordering, last
        See :func:`factorize`.
    previous
        Analysis of a smaller matrix whose blocks are the first ones of A: its order is kept and the new blocks come
        last, unless that makes the factorisation much longer than a new order would.
    """
    pattern = MatrixPattern(A, block_sizes)
    graph = pattern.graph
    if previous is not None:
        if not isinstance(previous, Analysis):
            raise SolverError(f"previous is a {type(previous).__name__}, expected what analyze returned")
        if last is not None or not (isinstance(ordering, str) and ordering == "auto"):
            raise SolverError("with previous= its order is kept: leave out ordering and last, or previous")
        found: Ordering = extend_ordering(graph.indptr, graph.indices, graph.sizes, previous._symbolic.ordering)
    else:
        found = find_ordering(graph.indptr, graph.indices, graph.sizes, ordering, last)
    return Analysis(pattern, build_symbolic(graph, found))


def factorize(
    A: Any,
    block_sizes: int | npt.ArrayLike = 1,
    *,
    ordering: Choice | npt.ArrayLike = "auto",
    last: npt.ArrayLike | None = None,
    damping: npt.ArrayLike | None = None,
    precision: Precision = "float64",
    pivot_tolerance: float | None = None,
    num_threads: int | None = None,
) -> Factor:
    """Cholesky factorisation L Lᵀ = P (A + D) Pᵀ of a sparse symmetric positive definite matrix made of small blocks.

    Parameters
    ----------
    A : (n, n) SciPy sparse matrix or array of format csc, csr or bsr
        Only its lower triangle is read; entries that are listed twice are summed.
    block_sizes
        Columns of each block, or one number for all. Blocks are ordered and stored whole: the columns of one variable.
    ordering
        ``"auto"``, ``"amd"``, ``"metis"`` (needs pymetis), ``"natural"``, or the block numbers in an order of elimination.
    last : (number of blocks,) bool or int, optional
        Blocks that no other block may come after in the elimination tree; or a stage for each block.
    damping : (n,) float64 or float, optional
        D ≥ 0, added to the diagonal; +inf holds a component: its x is 0, and the others solve the system without it.
    precision
        Of the factor: ``"float64"`` or ``"float32"``. In float32 it takes half the memory, and ``solve`` refines in
        float64; it suits condition numbers up to about 1e6.
    pivot_tolerance
        For semi-definite matrices: a pivot that is not above this times the diagonal entry it comes from is replaced by
        that entry (by 1 where that is not positive), so that its component of x is 0 up to rounding where A x = b has a
        solution. 1e-12 is a good value, 1e-4 with a float32 factor; negative pivots are replaced without a word.
    num_threads
        Threads that work on it; all by default. The factor has the same bits for any number.

    Raises
    ------
    NotPositiveDefiniteError
        A pivot is not positive; the message and ``error.block`` name its block.
    SolverError
        The matrix or an option does not fit.

    Examples
    --------
    >>> import numpy as np, scipy.sparse as sp
    >>> from sparselm.linear_solvers.block_cholesky import factorize
    >>> A = sp.kron(sp.diags([[-1.0] * 4, [2.0] * 5, [-1.0] * 4], [-1, 0, 1]), np.eye(2)).tocsc()
    >>> F = factorize(A, block_sizes=2)
    >>> x = F.solve(np.ones(10))
    >>> bool(np.allclose(A @ x, 1.0)), round(F.logdet(), 6)  # det A = 6² = 36
    (True, 3.583519)
    >>> F.refactorize(4 * A)
    >>> bool(np.allclose(F.solve(np.ones(10)), x / 4))
    True
    """
    analysis = analyze(A, block_sizes, ordering=ordering, last=last)
    return analysis.factorize(
        A, damping=damping, precision=precision, pivot_tolerance=pivot_tolerance, num_threads=num_threads
    )
