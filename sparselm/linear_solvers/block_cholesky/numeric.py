"""The numeric factorisation of one symbolic one: all workspace, filled by every call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numba
import numpy as np
import numpy.typing as npt

from sparselm._llvm import UNIT
from sparselm.kernels.frontal_solve import Solve, solve
from sparselm.kernels.multifrontal import Numbers, factorize, multiply
from sparselm.kernels.strips import VALUES, solve_strips, solve_strips_wide
from sparselm.linear_solvers.base import Precision
from sparselm.linear_solvers.block_cholesky.symbolic import Symbolic

Array = npt.NDArray[np.float64]

# Right-hand sides that are done together, and the fewest in a call for which that is faster than one by one. What is left
# over in such a call is done together too, and rounded as the others.
SIDES, FEW_SIDES = UNIT, 3

# Predicted nanoseconds below which a second thread costs more than it saves.
SERIAL = 200_000.0

# Entries of the factor that other threads may read, times right-hand sides, below which a solve by fronts stays on one: to
# wake a thread takes as long as to read some 200,000 of them.
SERIAL_SOLVE = 500_000

# Arenas of threads start this many entries apart, a page, so that no two threads write to one cache line.
_PAGE = 512

# Bytes of a cache line.
_LINE = 64

# Entries after the last one that tiles may read.
_MARGIN = 64

_NONE_HELD = np.zeros(0, dtype=bool)


class Numeric:
    """Store, factor and work space for L Lᵀ = P (A + D) Pᵀ.

    Parameters
    ----------
    symbolic
    precision
        Of the factor. The matrix is float64.
    pivot_tolerance
        None: pivots that are not positive make the factorisation fail. Otherwise a pivot that is not above
        ``pivot_tolerance`` times the diagonal entry that it comes from is replaced by that entry, or by 1 where that is not
        positive.

    Attributes
    ----------
    store : (symbolic.store_size,) float64
        The matrix, block by block; see ``symbolic.edge_source``.
    """

    def __init__(
        self, symbolic: Symbolic, precision: Precision = "float64", pivot_tolerance: float | None = None
    ) -> None:
        self.symbolic = symbolic
        self.dtype = np.dtype(precision)
        n = symbolic.size
        self.max_threads = numba.get_num_threads() if symbolic.work > SERIAL else 1
        self._arena_size = _whole_pages(symbolic.arena_size)
        self._common_size = _whole_pages(symbolic.common_size)
        self.store: Array = np.zeros(symbolic.store_size)
        self._damping: Array = np.zeros(n)
        work = self._common_size + self.max_threads * self._arena_size + _MARGIN
        self._numbers = Numbers(
            store=self.store,
            damping=self._damping,
            held=_NONE_HELD,
            tolerance=self.dtype.type(0.0 if pivot_tolerance is None else pivot_tolerance),
            scale=self.dtype.type(np.nan if pivot_tolerance is None else 1.0),
            factor=aligned(symbolic.factor_size + _MARGIN, self.dtype),
            packed=aligned(int(symbolic.strips.table[-1, VALUES]) + _MARGIN, self.dtype),
            work=aligned(work, self.dtype),
            diagonal=np.ones(n + _MARGIN, dtype=self.dtype),
            inverse=np.ones(n + _MARGIN, dtype=self.dtype),
            bad=np.zeros(n, dtype=bool),
        )
        self._counters = np.zeros(symbolic.num_counters + 1, dtype=np.int64)
        self._solve_counters = np.zeros(0, dtype=np.int64)
        self._solve_numbers = Solve(
            factor=self._numbers.factor,
            inverse=self._numbers.inverse,
            column=symbolic.column,
            rows=symbolic.num_rows,
            fronts=aligned(0, self.dtype),
        )
        self._numbers.packed[-_MARGIN:] = 0.0  # read, but not used
        by_strips = len(symbolic.strips.table) > 1
        self._vector = aligned(n + _MARGIN if by_strips else 0, self.dtype)
        self._wide = aligned(0, self.dtype).reshape(0, UNIT)
        self._held = np.zeros(n, dtype=bool)

    @property
    def bad(self) -> npt.NDArray[np.bool_]:
        """Pivots that were too small, by scalar position."""
        return self._numbers.bad

    def factorize(self, damping: Array | None = None) -> bool:
        """Factorise the store plus D, given by column; False where a pivot was too small. D = +∞ holds a component."""
        numbers = self._numbers._replace(held=_NONE_HELD)
        if damping is not None:
            np.take(damping, self.symbolic.column, out=self._damping, mode="clip")
            np.isinf(self._damping, out=self._held)
            if self._held.any():
                numbers = numbers._replace(held=self._held)
                self._damping[self._held] = 0.0
        else:
            self._damping[:] = 0.0
        self._numbers = numbers
        with _threads(self.max_threads) as lanes:
            factorize(
                self.symbolic.fronts, self._numbers, self.symbolic.strips, self.symbolic.tasks, lanes, self._common_size,
                self._arena_size, self._counters,
            )  # fmt: skip
        return not self.bad.any()

    def is_finite(self) -> bool:
        """Whether all numbers of the matrix are; most often their sum tells."""
        with np.errstate(over="ignore", invalid="ignore"):
            total = self.store.sum()
        return bool(np.isfinite(total) or np.isfinite(self.store).all())

    def fits(self) -> bool:
        """Whether the diagonal entries of A + D, and their reciprocals, are normal numbers of the factor's precision."""
        diagonal = np.abs(self._numbers.diagonal[: self.symbolic.size])
        limits = np.finfo(self.dtype)
        return bool(((diagonal == 0.0) | ((diagonal < limits.max) & (diagonal > 1.0 / limits.max))).all())

    def bad_blocks(self) -> npt.NDArray[np.int32]:
        """Blocks with a pivot that was too small, in the order of elimination, none twice."""
        positions = np.flatnonzero(self.bad)
        blocks = self.symbolic.block_at(positions)
        _, first = np.unique(blocks, return_index=True)
        return blocks[np.sort(first)]

    def solve(self, b: Array, x: Array, *, forward: bool = True, backward: bool = True) -> None:
        """x ← (A + D)⁻¹ b, both ``(q, n)`` by column; or only one of the two triangular solves, by position."""
        if self.dtype.itemsize == 4 and forward and backward:
            # As large as single precision likes it: a power of two changes no digit.
            largest = np.abs(b).max(axis=1, initial=0.0, keepdims=True)
            scale = np.ldexp(1.0, np.frexp(np.where(np.isfinite(largest), largest, 1.0))[1])
            self._solve_all(b / scale, x, True, True)
            x *= scale
        else:
            self._solve_all(b, x, forward, backward)

    def _solve_all(self, b: Array, x: Array, forward: bool, backward: bool) -> None:
        symbolic, numbers = self.symbolic, self._numbers
        by_strips = len(symbolic.strips.table) > 1
        packed = symbolic.strips.table, symbolic.strips.runs, numbers.packed, numbers.inverse, symbolic.column
        if by_strips and len(b) < FEW_SIDES:
            for k in range(len(b)):
                solve_strips(*packed, b[k], x[k], self._vector, forward, backward)
            return
        if by_strips and len(self._wide) == 0:
            self._wide = aligned(symbolic.size * UNIT, self.dtype).reshape(-1, UNIT)
        for begin in range(0, len(b), SIDES):
            sides, solutions = b[begin : begin + SIDES], x[begin : begin + SIDES]
            if by_strips:
                solve_strips_wide(*packed, sides, solutions, self._wide, forward, backward)
            else:
                self._solve_by_fronts(sides, solutions, forward, backward)

    def _solve_by_fronts(self, b: Array, x: Array, forward: bool, backward: bool) -> None:
        sides, symbolic = len(b), self.symbolic
        arguments = self._solve_numbers
        if len(arguments.fronts) < sides * symbolic.num_rows + _MARGIN:
            vectors = aligned(sides * symbolic.num_rows + _MARGIN, self.dtype)
            arguments = self._solve_numbers = arguments._replace(fronts=vectors)
        schedule = symbolic.solve_schedule
        if not len(self._solve_counters):
            self._solve_counters = np.zeros(schedule.num_counters + 1, dtype=np.int64)
        pivots = arguments.fronts[: sides * symbolic.num_rows].reshape(sides, symbolic.num_rows)
        if not forward:
            pivots[:, symbolic.pivot_row] = b
        most = self.max_threads if sides * schedule.parallel_entries > SERIAL_SOLVE else 1
        with _threads(most) as lanes:
            solve(symbolic.fronts, arguments, b, x, forward, backward, schedule.tasks, lanes, self._solve_counters)
        if not backward:
            x[:] = pivots[:, symbolic.pivot_row]

    def hold(self, b: Array) -> Array:
        """Right-hand sides ``(q, n)``, as a copy with 0 where components are held; themselves where none is."""
        if not len(self._numbers.held):
            return b
        b = b.copy()
        b[:, self.symbolic.column[self._held]] = 0.0
        return b

    def multiply(self, x: Array, y: Array) -> None:
        """y ← (A + D) x by column, in float64, held components' rows and columns being the identity's."""
        multiply(self.symbolic.fronts, self._numbers, self.symbolic.column, x, y)

    def logdet(self) -> float:
        """log det (A + D) = −2 Σ log(1 / L_ii)."""
        return -2.0 * float(np.log(self._numbers.inverse[: self.symbolic.size].astype(np.float64)).sum())


@contextmanager
def _threads(most: int) -> Iterator[int]:
    """Let kernels run on at most so many of the threads there are; how many that is.

    A parallel region starts and joins all threads, also those that have nothing to do.
    """
    before = int(numba.get_num_threads())
    lanes = min(most, before)
    numba.set_num_threads(lanes)
    try:
        yield lanes
    finally:
        numba.set_num_threads(before)


def aligned(entries: int, dtype: np.dtype[np.floating]) -> Array:
    """Memory that begins with a cache line, as panels, update matrices and their columns then all do.

    NumPy's begins anywhere, and every vector of a tile then lies in two lines: 5 to 10 % of a factorisation.
    """
    memory = np.empty(entries + _LINE // dtype.itemsize, dtype=dtype)
    skipped = -memory.ctypes.data % _LINE // dtype.itemsize
    return memory[skipped : skipped + entries]


def _whole_pages(entries: int) -> int:
    return (entries + _PAGE - 1) // _PAGE * _PAGE


def refine(numeric: Numeric, b: Array, x: Array, steps: int) -> tuple[int, float]:
    """Iterative refinement of one right-hand side, r = b − (A + D) x, x ← x + (A + D)⁻¹ r, with the factor there is.

    It stops after ``steps`` steps or where the residual no longer becomes half as large, and keeps the better x. Returns
    the steps that were kept and ‖r‖∞.

    References
    ----------
    N. J. Higham, "Accuracy and Stability of Numerical Algorithms", SIAM, 2nd ed. 2002, section 12.1.
    """
    r = np.empty((1, len(b)))
    d = np.empty((1, len(b)))

    def residual() -> float:
        numeric.multiply(x, r[0])
        np.subtract(b, r[0], out=r[0])
        return float(np.abs(r[0]).max(initial=0.0))

    norm = residual()
    for step in range(steps):
        numeric.solve(r, d)
        before = x.copy()
        x += d[0]
        last, norm = norm, residual()
        if not norm < last:
            x[:] = before
            return step, last
        if norm > 0.5 * last or norm == 0.0:
            return step + 1, norm
    return steps, norm
