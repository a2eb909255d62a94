"""A function made anew so that numba compiles it: helpers become compiled ones, modules show what numba can use of them."""

from __future__ import annotations

from types import CellType, FunctionType, ModuleType
from typing import Any

import numba

from sparselm._jit import FASTMATH
from sparselm.autodiff.references import Constant, FunctionView, ModuleView, Reference


def compiled_function(view: FunctionView, memo: dict[FunctionView, Any] | None = None) -> Any:
    """The dispatcher of a function whose helpers are dispatchers too, all inlined where they are called."""
    memo = {} if memo is None else memo
    if view not in memo:
        function = view.function
        # Machine code on disk names the module of each function in it, which must be there when it is loaded.
        namespace: dict[str, Any] = {"__name__": __name__, "__builtins__": __builtins__}
        values = {name: _value(reference, memo) for name, reference in view.names.items()}
        closure = tuple(CellType(values.pop(name, None)) for name in view.code.co_freevars)
        defaults = tuple(_value(reference, memo) for reference in view.defaults)
        copy = FunctionType(view.code, namespace | values, function.__name__, defaults or None, closure or None)
        memo[view] = inlined(copy)
    return memo[view]


def inlined(function: FunctionType) -> Any:
    """A function compiled into its caller. Indices are checked: a block reads nothing but what is its own."""
    return numba.njit(function, fastmath=FASTMATH, error_model="numpy", forceinline=True, boundscheck=True)


def _value(reference: Reference, memo: dict[FunctionView, Any]) -> Any:
    if isinstance(reference, FunctionView):
        return compiled_function(reference, memo)
    if isinstance(reference, ModuleView):
        module = ModuleType(reference.name)
        for name, attribute in reference.attributes.items():
            setattr(module, name, _value(attribute, memo))
        return module
    return reference.value if isinstance(reference, Constant) else reference.function
