r"""Residuals written as a NumPy function over many blocks at a time, or as any Python function of one.

The Jacobian in the tangent spaces of the operands is the user's own, or found along the retractions: by the complex
step, Im r(x + ih P e_k)/h with P = ∂(x ⊞ δ)/∂δ, or by differences. See :mod:`sparselm.residuals._tangent_steps`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, final

import numpy as np

from sparselm.errors import ProblemError
from sparselm.manifolds.base import AbstractManifold
from sparselm.residuals._tangent_steps import Chunk, central_difference, forward_difference
from sparselm.residuals._user_function import UserFunction, function_name
from sparselm.residuals.base import AbstractResidual, Array, IndexArray, OperandBlocks, UnboundResidual

Scheme = Literal["complex", "central", "forward"]
_SCHEMES = ("complex", "central", "forward")

# Blocks that the function sees at a time: NumPy's overhead per call is small beside them, and the temporaries of a
# function of a dozen numbers, some MiB, stay in the outer cache. 4096 to 16384 are equally fast on BAL's camera.
CHUNK = 8192

# Blocks on which the complex step is tried before it is trusted.
NUM_PROBED = 32

# Share of a column by which the complex step may differ from central differences, whose own error is some 1e-9 of it. A
# part of r that drops the imaginary part and is yet below this share would slow no solve down.
PROBE_TOLERANCE = 1e-4


@final
@dataclass(frozen=True)
class BatchResidual(UnboundResidual):
    r"""r = fun(x_1, …, x_k, data_1, …), written for many blocks at a time with NumPy.

    Given to ``add_residuals`` in place of a residual; operands may be on any manifolds, which the group's variables say.

    Parameters
    ----------
    fun : callable
        ``fun(*operands, *data)`` returns ``(n, dim)``, or ``(n,)`` where dim is 1, from operands ``(n, ambient_dim)`` and
        data arrays ``(n, …)``, all read-only float64. Row b of the outcome depends on rows b alone, and n differs from
        call to call. A row that cannot be computed is NaN; NumPy's warnings are silenced, exceptions are not.
    dim : int
        Length of a block's residual.
    jac : callable or {"complex", "central", "forward"}, optional
        A callable ``jac(*operands, *data)`` returns a tuple of arrays ``(n, dim, tangent_dim)``, one per operand:
        derivatives with respect to δ of x ⊞ δ at δ = 0. ``"complex"``: the complex step, exact to rounding; ``fun``
        must be analytic (no ``abs``, ``norm``, ``real`` or ``arctan2``) and is then called with one operand complex.
        ``"central"`` and ``"forward"`` differences, good to some 10⁻¹⁰ and 10⁻⁷ of a column where r is smooth at the scale
        of max(1, \|x_k\|). By default the complex step where ``fun`` takes complex operands and agrees with central
        differences on the blocks, and near them, of the first linearisation; else central differences.
    vectorized : bool
        False where ``fun`` (and a callable ``jac``) is written for one block: operands ``(ambient_dim,)``, data ``(…)``,
        returning ``(dim,)`` or a number (and arrays ``(dim, tangent_dim)``). It is then called once per block.

    Raises
    ------
    ProblemError
        For arguments of other types; when a group is added, for a number of operands and data that ``fun`` does not take;
        in a solve, for outcomes of other shapes or types.

    Notes
    -----
    Complex step and central differences cost one and two calls of ``fun`` for each free tangent component.

    Examples
    --------
    >>> import numpy as np
    >>> import sparselm as slm
    >>> def distance(p, q, measured):
    ...     return np.sqrt(((p - q) ** 2).sum(axis=1)) - measured
    >>> problem = slm.Problem()
    >>> beacon = problem.add_variables("beacon", [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    >>> beacon.fix()
    >>> position = problem.add_variables("position", [[4.0, 4.0]])
    >>> _ = problem.add_residuals(
    ...     slm.BatchResidual(distance, dim=1), beacon, position[[0, 0, 0]], data=np.sqrt([25.0, 65.0, 45.0])
    ... )
    >>> slm.solve(problem)[position].round(6)
    array([[3., 4.]])
    """

    fun: Callable[..., Any]
    dim: int
    jac: Callable[..., Any] | Scheme | None = None
    vectorized: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        if not callable(self.fun):
            raise ProblemError(f"BatchResidual takes a function, got {self.fun!r}")
        if isinstance(self.dim, bool) or not isinstance(self.dim, (int, np.integer)) or self.dim < 1:
            raise ProblemError(f"BatchResidual {self.name!r}: dim must be an integer of at least 1, got {self.dim!r}")
        if not (self.jac is None or callable(self.jac) or (isinstance(self.jac, str) and self.jac in _SCHEMES)):
            raise ProblemError(
                f"BatchResidual {self.name!r}: jac must be a function, one of {', '.join(map(repr, _SCHEMES))}, or None, "
                f"got {self.jac!r}"
            )

    @property
    def name(self) -> str:
        return function_name(self.fun)

    def bind(
        self, manifolds: tuple[AbstractManifold | None, ...], data_shapes: tuple[tuple[int, ...], ...]
    ) -> BoundBatchResidual:
        given = tuple(manifold for manifold in manifolds if manifold is not None)
        if len(given) != len(manifolds):
            raise ProblemError(f"BatchResidual {self.name!r}: operand {manifolds.index(None)} is None; give variables")

        def checked(fun: Callable[..., Any]) -> UserFunction:
            what = f"{'jac' if fun is self.jac else 'fun'} {function_name(fun)!r} of BatchResidual"
            function = UserFunction(fun, int(self.dim), self.vectorized, what)
            function.check_arguments(len(given), len(data_shapes))
            return function

        jac = checked(self.jac) if callable(self.jac) else self.jac
        return BoundBatchResidual(checked(self.fun), jac, given, data_shapes)


@final
@dataclass(frozen=True)
class BoundBatchResidual(AbstractResidual):
    """A :class:`BatchResidual` that knows its operands' manifolds; made by ``bind``."""

    function: UserFunction
    jac: UserFunction | Scheme | None
    operand_manifolds: tuple[AbstractManifold, ...]
    row_shapes: tuple[tuple[int, ...], ...]
    # The scheme chosen at the first linearisation where jac is None: at most one entry.
    _chosen: list[Scheme] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def dim(self) -> int:
        return self.function.dim

    @property
    def manifolds(self) -> tuple[AbstractManifold, ...]:
        return self.operand_manifolds

    @property
    def data_shapes(self) -> tuple[tuple[int, ...], ...]:
        return self.row_shapes

    def evaluate(self, blocks: Sequence[OperandBlocks], data: Sequence[Array], r: Array) -> None:
        for part, chunk in self._chunks(blocks, data):
            r[part] = self._values(chunk)[: chunk.num_blocks]

    def linearize(
        self, blocks: Sequence[OperandBlocks], data: Sequence[Array], columns: IndexArray, r: Array, J: Array
    ) -> None:
        scheme = self.jac if self.jac is not None or len(r) == 0 or J.shape[2] == 0 else self._choose(blocks, data)
        components = [(i, k) for i, m in enumerate(self.operand_manifolds) for k in range(m.tangent_dim)]
        free = [(*where, int(column)) for where, column in zip(components, columns, strict=True) if column >= 0]
        for part, chunk in self._chunks(blocks, data):
            n, values = chunk.num_blocks, self._values(chunk)
            r[part] = values[:n]
            if isinstance(scheme, UserFunction):
                jacobians = scheme.jacobians(chunk.operands, chunk.data, [m.tangent_dim for m in self.manifolds])
                for operand, component, column in free:
                    J[part, :, column] = jacobians[operand][:n, :, component]
            elif scheme is not None:
                for operand, component, column in free:
                    J[part, :, column] = self._derivative(scheme, chunk, operand, component, values)[:n]

    def _values(self, chunk: Chunk) -> Array:
        # By columns, as are the operands: sums and maxima over a block's few numbers are then several times faster.
        values = np.empty((chunk.num_rows, self.dim), order="F")
        self.function.write(chunk.operands, chunk.data, values)
        return values

    def _derivative(self, scheme: Scheme, chunk: Chunk, operand: int, component: int, values: Array) -> Array:
        if scheme == "central":
            return central_difference(self.function, chunk, operand, component, values)[0]
        if scheme == "forward":
            return forward_difference(self.function, chunk, operand, component, values)
        out = np.empty_like(values)
        chunk.write_complex_step(self.function, operand, component, out)
        return out

    def _chunks(self, blocks: Sequence[OperandBlocks], data: Sequence[Array]) -> Iterator[tuple[slice, Chunk]]:
        """The blocks CHUNK at a time, gathered into the same buffers."""
        num_blocks = len(blocks[0].index)
        buffers = [np.empty((min(CHUNK, num_blocks), block.values.shape[1])) for block in blocks]
        for start in range(0, num_blocks, CHUNK):
            part = slice(start, min(start + CHUNK, num_blocks))
            points = [buffer[: part.stop - start] for buffer in buffers]
            for block, x in zip(blocks, points, strict=True):
                # Indices were checked with the problem; with mode "raise" numpy would write to a copy of ``out`` first.
                np.take(block.values, block.index[part], axis=0, out=x, mode="clip")
            rows = [array[part] for array in data]
            yield part, Chunk(self.operand_manifolds, points, rows, vectorized=self.function.vectorized)

    # -- which scheme ---------------------------------------------------------------------------------------------------

    def _choose(self, blocks: Sequence[OperandBlocks], data: Sequence[Array]) -> Scheme:
        """The scheme for all linearisations, decided on some blocks of the first in which anything is finite."""
        if not self._chosen:
            verdict = self._probe(blocks, data)
            if verdict is None:
                return "central"
            self._chosen.append(verdict)
        return self._chosen[0]

    def _probe(self, blocks: Sequence[OperandBlocks], data: Sequence[Array]) -> Scheme | None:
        """Does the function take complex operands, and is the complex step its derivative? None: nothing is finite.

        Tried at some blocks as they are, and again a little off, since at a symmetric start (zeros) ``abs`` and the like
        have central differences of zero too.
        """
        sample = np.unique(np.linspace(0, len(blocks[0].index) - 1, NUM_PROBED).astype(np.intp))
        points = [block.values[block.index[sample]] for block in blocks]
        rng = np.random.default_rng(0)
        for i, (manifold, x) in enumerate(zip(self.operand_manifolds, points, strict=True)):
            size = 1e-4 * np.maximum(1.0, np.max(np.abs(x), axis=1, keepdims=True))
            delta = size * rng.uniform(-1.0, 1.0, (len(x), manifold.tangent_dim))
            moved = np.empty_like(x)
            manifold.retract(x, delta, moved)
            points[i] = np.concatenate([x, moved])
        twice = [array[np.tile(sample, 2)] for array in data]
        chunk = Chunk(self.operand_manifolds, points, twice, vectorized=self.function.vectorized)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                return self._compare(chunk)
        except Exception:
            # What a function does with complex numbers, or off the blocks' values, it was not promised to do.
            return "central"

    def _compare(self, chunk: Chunk) -> Scheme | None:
        values = self._values(chunk)
        something_finite = False
        for operand, manifold in enumerate(self.operand_manifolds):
            for component in range(manifold.tangent_dim):
                central, bound = central_difference(self.function, chunk, operand, component, values)
                known = np.isfinite(central).all(axis=1) & np.isfinite(bound)
                something_finite |= bool(known.any())
                step = self._derivative("complex", chunk, operand, component, values)
                size = np.max(np.maximum(np.abs(step), np.abs(central)), axis=1)
                off = np.max(np.abs(step - central), axis=1)
                if not np.all(off[known] <= PROBE_TOLERANCE * size[known] + bound[known]):
                    return "central"
        return "complex" if something_finite else None
