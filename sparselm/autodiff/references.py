"""What a function refers to: globals, closed-over values, helpers, and attributes of modules, resolved to the end."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

import sparselm.math as ours
from sparselm.autodiff.assignment import check_assignment
from sparselm.autodiff.constructs import BUILTINS, at_line, check_constants, check_constructs, numbered, refuse

# Functions of math that compile as they stand; the others of math have a stand-in in sparselm.math, or none.
MATH = frozenset(
    {
        "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "copysign", "cos", "cosh", "degrees", "erf",
        "erfc", "exp", "expm1", "fabs", "floor", "gamma", "isfinite", "isinf", "isnan", "lgamma", "log1p", "log2",
        "log10", "pow", "radians", "sin", "sinh", "sqrt", "tan", "tanh", "trunc",
    }
)  # fmt: skip
STAND_INS = {"cbrt", "dist", "exp2", "fmod", "hypot", "log", "prod"}

# What NumPy means otherwise than math or Python, or has alone.
_NUMPY_STAND_INS = {
    "maximum": "maximum", "minimum": "minimum", "floor": "floor_float", "ceil": "ceil_float", "trunc": "trunc_float",
    "clip": "clip", "sign": "sign", "square": "square",
}  # fmt: skip

# NumPy's names for what math or Python calls otherwise; the same name elsewhere.
_NUMPY = {
    "arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh", "arctan": "atan", "arctan2": "atan2",
    "arctanh": "atanh", "power": "pow", "deg2rad": "radians", "rad2deg": "degrees", "absolute": "fabs", "abs": "fabs",
}  # fmt: skip

# Bytes of an array that numba builds into machine code; it would read a larger one where it lies.
_LARGEST_ARRAY = 10**6


@dataclass(frozen=True)
class Constant:
    """A number, None, a tuple of constants, or an array of numbers."""

    value: Any


@dataclass(frozen=True)
class Builtin:
    """A builtin of Python, or a function of math that compiles as it stands."""

    function: Any


@dataclass(frozen=True)
class ModuleView:
    """The attributes of a module that a function uses."""

    name: str
    attributes: dict[str, Reference]


@dataclass(frozen=True, eq=False)
class FunctionView:
    """A function with everything it refers to: global and closed-over names (which cannot be the same)."""

    function: FunctionType
    names: dict[str, Reference]
    defaults: tuple[Reference, ...] = ()

    @property
    def code(self) -> CodeType:
        return self.function.__code__


Reference = Constant | Builtin | ModuleView | FunctionView


def resolve(function: Callable[..., Any]) -> FunctionView:
    """Follow a function's references.

    Raises
    ------
    ResidualFunctionError
        Where it, or a function that it calls, holds what cannot be compiled, or calls itself.
    """
    return _Resolver().function(python_function(function))


def python_function(function: Any) -> Any:
    """The Python function behind a compiled or a decorated one; the thing itself where there is none."""
    for attribute in ("py_func", "function"):  # numba's dispatchers, and decorated residual functions
        inner = getattr(function, attribute, None)
        if isinstance(inner, FunctionType):
            return inner
    return function


class _Resolver:
    def __init__(self) -> None:
        self._known: dict[FunctionType, FunctionView] = {}
        self._open: list[FunctionType] = []

    def function(self, function: FunctionType) -> FunctionView:
        if function in self._known:
            return self._known[function]
        check_constructs(function.__code__)
        self._open.append(function)
        names: dict[str, Reference] = {}
        free = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        for line, name, path in _outer_uses(function.__code__):
            value = self._cell(function, line, name, free[name]) if name in free else self._global(function, line, name)
            self._add(function, line, names, name, path, value)
        check_constants(function.__code__)
        check_assignment(function.__code__)
        defaults = [self._reference(function, None, "a default value", value) for value in function.__defaults__ or ()]
        view = FunctionView(function, names, tuple(defaults))
        self._open.pop()
        self._known[function] = view
        return view

    def _global(self, function: FunctionType, line: int | None, name: str) -> Any:
        if name in function.__globals__:
            return function.__globals__[name]
        if hasattr(builtins, name):
            if name not in BUILTINS:
                known = ("print", "list", "dict", "set")
                remedy = name if name in known else f"of Python's functions there are {', '.join(sorted(BUILTINS))}"
                raise refuse(function.__code__, line, f"{name}()", remedy)
            return getattr(builtins, name)
        raise at_line(function.__code__, line, f"{name!r} is not defined; define or import it in the module")

    def _cell(self, function: FunctionType, line: int | None, name: str, cell: Any) -> Any:
        try:
            return cell.cell_contents
        except ValueError:
            raise refuse(function.__code__, line, f"the name {name!r}", "it has no value yet where it is used") from None

    def _add(
        self,
        function: FunctionType,
        line: int | None,
        names: dict[str, Reference],
        name: str,
        path: tuple[str, ...],
        value: Any,
    ) -> None:
        """Note that a function uses ``name.path``; modules grow by the attributes that are used."""
        if not isinstance(value, ModuleType):
            if name not in names:
                names[name] = self._reference(function, line, name, value)
            return
        if not path:
            raise refuse(function.__code__, line, f"the module {name!r} as a value", "name the function in it")
        view = names.setdefault(name, ModuleView(value.__name__, {}))
        assert isinstance(view, ModuleView)
        attribute = path[0]
        attributes = view.attributes
        if value is math:
            attributes.setdefault(attribute, self._math(function, line, name, attribute))
        elif value is np:
            attributes.setdefault(attribute, self._numpy(function, line, name, attribute))
        elif not hasattr(value, attribute):
            raise refuse(function.__code__, line, f"{name}.{attribute}", f"the module has no {attribute!r}")
        else:
            self._add(function, line, attributes, attribute, path[1:], getattr(value, attribute))

    def _math(self, function: FunctionType, line: int | None, module: str, name: str) -> Reference:
        if name in STAND_INS and function.__module__ != ours.__name__:
            return self.function(getattr(ours, name))
        value = getattr(math, name, None)
        if isinstance(value, float):
            return Constant(value)
        if name not in MATH | STAND_INS:
            remedy = "there is no derivative of it here; write it out, or see slm.math"
            raise refuse(function.__code__, line, f"{module}.{name}", remedy)
        return Builtin(value)

    def _numpy(self, function: FunctionType, line: int | None, module: str, name: str) -> Reference:
        value = getattr(np, name, None)
        if isinstance(value, float):
            return Constant(value)
        meant = _NUMPY.get(name, name)
        if hasattr(np, name) and name in _NUMPY_STAND_INS:
            return self.function(getattr(ours, _NUMPY_STAND_INS[name]))
        if hasattr(np, name) and (meant in MATH or meant in STAND_INS):
            return self._math(function, line, module, meant)
        raise refuse(
            function.__code__, line, f"{module}.{name}",
            "of NumPy there are the elementary functions (sqrt, sin, arctan2, …); for vectors use tuples and slm.math (dot, "
            "cross, norm, matrix_vector, …), for vectorised NumPy slm.BatchResidual",
        )  # fmt: skip

    def _reference(self, function: FunctionType, line: int | None, name: str, value: Any) -> Reference:
        if getattr(value, "has_prepared_operands", False):
            remedy = "it sees prepared rows; put what both need into a function of its own"
            raise refuse(function.__code__, line, f"a call of {name!r}", remedy)
        value = python_function(value)
        if isinstance(value, FunctionType):
            if value in self._open:
                raise refuse(function.__code__, line, f"the recursive call of {name!r}", "recursion")
            return self.function(value)
        called = str(getattr(value, "__name__", ""))
        if isinstance(value, BuiltinFunctionType) and getattr(math, called, None) is value:
            return self._math(function, line, "math", called)
        if isinstance(value, np.ufunc):
            return self._numpy(function, line, "numpy", called)
        if called in BUILTINS and getattr(builtins, called) is value:
            return Builtin(value)
        return Constant(self._constant(function, line, name, value))

    def _constant(self, function: FunctionType, line: int | None, name: str, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, np.generic) and value.dtype.kind in "biuf":
            return value.item()
        if isinstance(value, tuple):
            items = tuple(self._constant(function, line, name, item) for item in value)
            # Of one kind, so that a loop may run over them.
            mixed = {type(item) for item in items} == {int, float}
            return tuple(map(float, items)) if mixed else items
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            if value.nbytes > _LARGEST_ARRAY:
                remedy = "constants are built into the machine code; pass a large array as data, a row for each block"
                raise refuse(function.__code__, line, f"{name} (an array of {value.nbytes} bytes)", remedy)
            kept = value.astype(np.float64 if value.dtype.kind == "f" else value.dtype.newbyteorder("="))  # a copy
            kept.flags.writeable = False
            return np.ascontiguousarray(kept)
        kind = type(value).__name__
        if isinstance(value, (list, set)):
            remedy = "make it a tuple of numbers"
        else:
            remedy = "functions, numbers, tuples of numbers and NumPy arrays of numbers can be used; give each number a name"
        raise refuse(function.__code__, line, f"{name} (a {kind})", remedy)


def _outer_uses(code: CodeType) -> Iterator[tuple[int | None, str, tuple[str, ...]]]:
    """Each name from outside that is read, with the attributes read at once: ``slm.math.dot`` is slm, (math, dot)."""
    line: int | None = None
    name: str | None = None
    path: list[str] = []
    for here, instruction in numbered(code):
        if name is not None and instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            path.append(instruction.argval)
            continue
        if instruction.opname in ("CACHE", "EXTENDED_ARG", "RESUME", "PRECALL"):
            continue
        if name is not None:
            yield line, name, tuple(path)
            name = None
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF"):
            line, name, path = here, instruction.argval, []
    if name is not None:
        yield line, name, tuple(path)
