"""Residuals written as one function of one block: compiled, and differentiated exactly."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from sparselm.autodiff.loops import LoopPlan, Loops, OperandPlan, find_loops
from sparselm.autodiff.messages import explained
from sparselm.autodiff.references import resolve
from sparselm.errors import ProblemError
from sparselm.manifolds.base import AbstractManifold
from sparselm.residuals._comparison import compare_jacobians
from sparselm.residuals.base import AbstractResidual, Array, IndexArray, OperandBlocks, UnboundResidual

# Rows whose plus_jacobian passes through one buffer.
_CHUNK = 4096

# Blocks at which a hand-written Jacobian is compared with the jets, spread over those of the first call.
_NUM_CHECKED = 64

# Largest relative difference of an entry that rounding in either explains.
_CHECK_TOLERANCE = 1e-6


def residual(*bare: Any, dim: int = 0) -> Callable[[Callable[..., Any]], ResidualFunction]:
    """Make a residual of a function of one block: its operands, then its data, to ``dim`` numbers.

    The function is plain scalar Python. It sees each operand as a tuple of numbers (the stored ones: nine of a camera,
    seven of a pose on SE(3)), each row of data as a number or a tuple, and returns ``dim`` numbers. Arithmetic, comparisons
    and branches, ``math`` (or NumPy's functions of the same names), loops of fixed length, tuples, helper functions of one's
    own, constants of the module, and :mod:`sparselm.math` may be used. It is compiled when a group of blocks is added, and
    kept on disk; editing it, or a helper, compiles it again.

    Derivatives are exact (forward mode), and with respect to the tangent space of each operand's manifold.

    Parameters
    ----------
    dim : int
        Numbers that the function returns; where it is 1, a bare number will do.

    Returns
    -------
    callable
        The decorator; what it makes is passed to ``Problem.add_residuals``. Called with numbers, it runs as plain Python.

    Raises
    ------
    ResidualFunctionError
        From ``add_residuals``: the function holds something that cannot be compiled.

    Examples
    --------
    A parameter whose default is None is an operand that may be left out.

    >>> import math
    >>> import sparselm as slm
    >>> @slm.residual(dim=1)
    ... def distance(position, beacon, measured):
    ...     return math.hypot(position[0] - beacon[0], position[1] - beacon[1]) - measured
    >>> distance((3.0, 4.0), (0.0, 0.0), 4.5)
    0.5
    >>> problem = slm.Problem()
    >>> position = problem.add_variables("position", [[2.0, 2.0]])
    >>> beacon = problem.add_variables("beacon", [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    >>> beacon.fix()
    >>> group = problem.add_residuals(
    ...     distance, position[[0, 0, 0]], beacon[[0, 1, 2]], data=[5.0, math.sqrt(65.0), math.sqrt(45.0)]
    ... )
    >>> slm.solve(problem)[position].round(6)
    array([[3., 4.]])
    """
    if bare:
        raise ProblemError("@slm.residual needs the number of rows that the function returns: @slm.residual(dim=2)")
    if isinstance(dim, bool) or not (isinstance(dim, (int, np.integer)) and dim >= 1):
        raise ProblemError(f"@slm.residual(dim={dim!r}): expected a whole number, at least 1, as in @slm.residual(dim=2)")

    def decorate(function: Callable[..., Any]) -> ResidualFunction:
        if not inspect.isfunction(function):
            raise ProblemError(f"@slm.residual decorates a Python function, got {function!r}")
        return ResidualFunction(function, int(dim))

    return decorate


@final
class ResidualFunction(UnboundResidual):
    """A residual made by :func:`residual`; called with the numbers of one block, it runs as plain Python.

    Attributes
    ----------
    function : function
        What was decorated.
    dim : int
        Numbers that it returns.
    """

    def __init__(self, function: Callable[..., Any], dim: int) -> None:
        self.function = function
        self.dim = dim
        self._prepare: dict[str, Callable[..., Any]] = {}
        self._jacobian: Callable[..., Any] | None = None
        self._bound: list[AutodiffResidual] = []
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__

    @property
    def name(self) -> str:
        return self.__name__ if self.__name__ != "<lambda>" else "lambda"

    @property
    def has_prepared_operands(self) -> bool:
        """Whether the function sees prepared rows."""
        return bool(self._prepare)

    def __reduce__(self) -> str:  # pickled by its name, as functions are
        return self.__qualname__

    def prepare(self, operand: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorate a function of one operand's block, computed once per row instead of once per block.

        The residual function then sees what it returned, numbers in (nested) tuples, in place of the operand's own numbers.

        Parameters
        ----------
        operand : str
            Name of the residual function's parameter.

        Examples
        --------
        >>> import sparselm as slm
        >>> @slm.residual(dim=2)
        ... def pinhole(camera, point, pixel):
        ...     R, t, focal = camera
        ...     x, y = slm.math.project_pinhole(slm.math.add(slm.math.matrix_vector(R, point), t))
        ...     return focal * x - pixel[0], focal * y - pixel[1]
        >>> @pinhole.prepare("camera")
        ... def rotation(camera):
        ...     return slm.math.angle_axis_matrix(camera[:3]), camera[3:6], camera[6]
        >>> pinhole((0.0, 0.0, 0.0, 0.0, 0.0, 4.0, 100.0), (1.0, 2.0, 0.0), (25.0, 49.0))
        (0.0, 1.0)
        """
        if operand not in inspect.signature(self.function).parameters:
            names = ", ".join(inspect.signature(self.function).parameters)
            raise ProblemError(f"residual function {self.name!r} has no parameter {operand!r} to prepare; it has {names}")

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            self._prepare[operand] = function
            return function

        return decorate

    def jacobian(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a hand-written Jacobian, which is then used in place of the derivatives found automatically.

        It takes what the residual function takes, and returns ``dim`` rows, each of as many numbers as the operands have
        tangent components, operand by operand. At the first linearisation it is compared, on some of the blocks, with the
        automatic derivatives.

        Raises
        ------
        ProblemError
            From the first linearisation: the two differ; the message names the block and the entry.

        Examples
        --------
        >>> import sparselm as slm
        >>> @slm.residual(dim=1)
        ... def decay(rate, given):
        ...     return given[1] - rate[0] * given[0] ** 2
        >>> @decay.jacobian
        ... def decay_jacobian(rate, given):
        ...     return -given[0] ** 2
        """
        self._jacobian = function
        return function

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Run the function, and what it prepares, as plain Python on the numbers of one block."""
        given = inspect.signature(self.function).bind(*arguments, **named).arguments
        for name, prepare in self._prepare.items():
            if given.get(name) is not None:
                given[name] = prepare(given[name])
        return self.function(**given)

    def __repr__(self) -> str:
        return f"<residual function {self.name!r}, dim={self.dim}>"

    def bind(
        self, manifolds: tuple[AbstractManifold | None, ...], data_shapes: tuple[tuple[int, ...], ...]
    ) -> AutodiffResidual:
        arguments, present = self._arguments(manifolds, len(data_shapes))
        operands, first = [], 0
        for name, manifold in present:
            prepare = self._prepare.get(name)
            view = None if prepare is None else resolve(prepare)
            operands.append(OperandPlan(manifold.plus_jacobian_pattern(), first, view))
            first += manifold.tangent_dim
        function = resolve(self.function)
        jacobian = None if self._jacobian is None else resolve(self._jacobian)
        plan = LoopPlan(self.name, self.dim, tuple(operands), data_shapes, arguments, jacobian is not None)
        loops = find_loops(plan, function, jacobian)
        present_manifolds = tuple(manifold for _, manifold in present)
        for bound in self._bound:
            if bound.loops is loops and bound.manifolds == present_manifolds:
                return bound
        bound = AutodiffResidual(self, manifolds, present_manifolds, data_shapes, plan, loops)
        bound.compile()
        self._bound.append(bound)
        return bound

    def _arguments(
        self, manifolds: tuple[AbstractManifold | None, ...], num_data: int
    ) -> tuple[tuple[tuple[str, str], ...], list[tuple[str, AbstractManifold]]]:
        """Match operands and data with parameters: the generated call's arguments, and the operands that are there."""
        parameters = list(inspect.signature(self.function).parameters.values())
        required = [p for p in parameters if p.default is inspect.Parameter.empty]
        optional = [p for p in parameters if p.default is None]
        num_operands = len(required) - num_data
        if not 0 <= num_operands <= len(manifolds) <= num_operands + len(optional):
            raise ProblemError(
                f"residual function {self.name}{inspect.signature(self.function)}: {len(manifolds)} operands and {num_data} "
                f"data arrays were given for {len(required)} parameters"
                + (f" and {len(optional)} optional ones" if optional else "")
                + "; each parameter is an operand or, after those, a data array, of which several are given as data=(a, b)"
            )
        given = dict(zip([p.name for p in [*required[:num_operands], *optional]], manifolds, strict=False))
        data = {p.name: f"row{k}" for k, p in enumerate(required[num_operands:])}
        present = [(name, manifold) for name, manifold in given.items() if manifold is not None]
        block = {name: f"block{k}" for k, (name, _) in enumerate(present)}
        arguments = [
            (p.name, data.get(p.name) or block.get(p.name, "None"))
            for p in parameters
            if p.default is inspect.Parameter.empty or p.default is None
        ]
        for name in self._prepare:
            if name in data or name not in [*given, *(p.name for p in optional)]:
                raise ProblemError(f"residual function {self.name!r}: {name!r} is no operand; only operands are prepared")
        return tuple(arguments), present


@final
@dataclass(eq=False)
class AutodiffResidual(AbstractResidual):
    """A residual function bound to the manifolds of its operands and the shapes of its data."""

    source: ResidualFunction
    _given: tuple[AbstractManifold | None, ...]
    _manifolds: tuple[AbstractManifold, ...]
    _data_shapes: tuple[tuple[int, ...], ...]
    _plan: LoopPlan
    loops: Loops
    _widths: tuple[int, ...] = ()
    _checked: bool = field(default=False)

    @property
    def dim(self) -> int:
        return self.source.dim

    @property
    def manifolds(self) -> tuple[AbstractManifold, ...]:
        return self._manifolds

    @property
    def data_shapes(self) -> tuple[tuple[int, ...], ...]:
        return self._data_shapes

    def prepared_dims(self) -> tuple[int, ...]:
        return self._widths

    def compile(self) -> None:
        """Compile, or load from disk, all that a solve needs, by calling it for no block; errors come here and not later."""
        widths = []
        for k, (plan, manifold) in enumerate(zip(self._plan.operands, self._manifolds, strict=True)):
            width = plan.num_stored
            if plan.prepare is not None:
                with explained(plan.prepare, f"it gets the {manifold.ambient_dim} numbers of one row"):
                    nothing = np.zeros((1, manifold.ambient_dim)), np.zeros((1, width))
                    width += self.loops.prepared_width[k](*nothing)
                    self.prepare(k, np.zeros((0, manifold.ambient_dim)), np.zeros((0, width)), derivatives=True)
                    self.prepare(k, np.zeros((0, manifold.ambient_dim)), np.zeros((0, width)), derivatives=False)
            widths.append(width)
        self._widths = tuple(widths)
        blocks = [
            OperandBlocks(np.zeros((0, m.ambient_dim)), np.zeros(0, np.int32), np.zeros((0, width)))
            for m, width in zip(self._manifolds, widths, strict=True)
        ]
        data = [np.zeros((0, *shape)) for shape in self._data_shapes]
        r, J = np.zeros((0, self.dim)), np.zeros((0, self.dim, self._plan.width))
        columns = np.arange(self._plan.width, dtype=np.int32)
        with explained(self.loops.function, self._given_numbers()):
            self.evaluate(blocks, data, r)
            self._run(self.loops.linearize, blocks, data, columns, r, J)
        if self.loops.jacobian is not None:
            with explained(self.loops.jacobian, self._given_numbers()):
                self._run(self.loops.linearize_by_hand, blocks, data, columns, r, J)

    def _given_numbers(self) -> str:
        """What each parameter of the function gets, for messages."""
        what = {"None": "nothing"}
        for k, (plan, manifold) in enumerate(zip(self._plan.operands, self._manifolds, strict=True)):
            prepared = "what prepare returns" if plan.prepare is not None else _count(manifold.ambient_dim, "operand")
            what[f"block{k}"] = prepared
        for k, shape in enumerate(self._data_shapes):
            what[f"row{k}"] = " × ".join(map(str, shape)) + " numbers (data)" if shape else "a number (data)"
        return "parameters get: " + ", ".join(f"{name} {what[value]}" for name, value in self._plan.arguments)

    def prepare(self, operand: int, values: Array, out: Array, *, derivatives: bool) -> None:
        plan = self._plan.operands[operand]
        if derivatives and plan.num_stored:
            manifold = self._manifolds[operand]
            buffer = np.empty((min(_CHUNK, len(values)), *plan.pattern.shape))
            for start in range(0, len(values), _CHUNK):
                rows = values[start : start + _CHUNK]
                manifold.plus_jacobian(rows, buffer[: len(rows)])
                out[start : start + _CHUNK, : plan.num_stored] = buffer[: len(rows), plan.stored]
        if plan.prepare is not None:
            kernels = self.loops.prepare_jets if derivatives else self.loops.prepare_values
            kernels[operand](values, out)

    def evaluate(self, blocks: Sequence[OperandBlocks], data: Sequence[Array], r: Array) -> None:
        self.loops.evaluate(*_flat(blocks), *data, r)

    def linearize(
        self, blocks: Sequence[OperandBlocks], data: Sequence[Array], columns: IndexArray, r: Array, J: Array
    ) -> None:
        if self.loops.linearize_by_hand is None:
            self._run(self.loops.linearize, blocks, data, columns, r, J)
            return
        if not self._checked:
            self._check_by_hand(blocks, data)
            self._checked = True
        self._run(self.loops.linearize_by_hand, blocks, data, columns, r, J)

    def plain(self, operands: Sequence[Array], data: Sequence[Any]) -> Any:
        """What the function returns for one block, run as plain Python."""
        given: dict[str, Any] = {f"block{k}": _tuples(x) for k, x in enumerate(operands)}
        given |= {f"row{k}": _tuples(x) for k, x in enumerate(data)}
        return self.source(**{name: given.get(value) for name, value in self._plan.arguments})

    def _jets(self, blocks: Sequence[OperandBlocks], data: Sequence[Array]) -> tuple[Array, Array]:
        """Residuals and automatic derivatives of some blocks, also where the Jacobian is written by hand."""
        n = len(blocks[0].index)
        r, J = np.empty((n, self.dim)), np.empty((n, self.dim, self._plan.width))
        self._run(self.loops.linearize, blocks, data, np.arange(self._plan.width, dtype=np.int32), r, J)
        return r, J

    def _run(self, kernel: Any, blocks: Any, data: Any, columns: IndexArray, r: Array, J: Array) -> None:
        all_free = J.shape[2] == len(columns)
        kernel(*_flat(blocks), *data, columns, all_free, r, J)

    def _check_by_hand(self, blocks: Sequence[OperandBlocks], data: Sequence[Array]) -> None:
        """Compare the hand-written Jacobian with the jets on blocks spread over those given."""
        n = len(blocks[0].index)
        chosen = np.unique(np.linspace(0, n - 1, min(n, _NUM_CHECKED)).astype(np.intp))
        some = [OperandBlocks(b.values, b.index[chosen], b.prepared) for b in blocks]
        rows = [array[chosen] for array in data]
        r, exact = self._jets(some, rows)
        found = np.empty_like(exact)
        self._run(self.loops.linearize_by_hand, some, rows, np.arange(self._plan.width, dtype=np.int32), r, found)
        error = np.nan_to_num(compare_jacobians(found, exact, 0.0), nan=0.0, posinf=np.inf)
        if error.max(initial=0.0) <= _CHECK_TOLERANCE:
            return
        block, row, column = np.unravel_index(np.argmax(error), error.shape)
        ends = np.cumsum([m.tangent_dim for m in self._manifolds])
        operand = int(np.searchsorted(ends, column, side="right"))
        component = int(column) - (int(ends[operand - 1]) if operand else 0)
        raise ProblemError(
            f"residual function {self.source.name!r}: the hand-written Jacobian is wrong in block {chosen[block]}: "
            f"∂r[{row}]/∂(component {component} of operand {operand}) is {found[block, row, column]:.9g}, expected "
            f"{exact[block, row, column]:.9g}; derivatives are with respect to tangent components, operand by operand"
        )

    def __reduce__(self) -> tuple[Any, ...]:  # compiled code is found again on the other side
        return ResidualFunction.bind, (self.source, self._given, self._data_shapes)

    def __repr__(self) -> str:
        return repr(self.source)


def _count(number: int, what: str) -> str:
    return f"{number} number{'s' * (number != 1)} ({what})"


def _tuples(x: Any) -> Any:
    """An array as nested tuples of plain numbers."""
    return tuple(_tuples(item) for item in x) if np.ndim(x) else float(x)


def _flat(blocks: Sequence[OperandBlocks]) -> list[Any]:
    return [array for block in blocks for array in (block.values, block.index, block.prepared)]
