"""The key of a function: a digest of all that its compiled form depends on, and of nothing else.

That is the bytecode, constants and names of the function and of every function it calls, the values of the globals and
closed-over variables they read, and the versions of Python, numba and llvmlite. Line numbers, file names, docstrings and
comments are left out: moving a function recompiles nothing. (The generated loops add their own text and the sources of
this package, see :mod:`sparselm.autodiff.loops`.)
"""

from __future__ import annotations

import hashlib
import sys
from types import CodeType
from typing import Any

import llvmlite
import numba
import numpy as np

from sparselm.autodiff.references import Builtin, FunctionView, ModuleView, Reference


def function_key(*views: FunctionView | None) -> str:
    """Digest of some functions and all they refer to."""
    digest = hashlib.blake2b(digest_size=16)
    _update(digest, (sys.version, numba.__version__, llvmlite.__version__))
    seen: dict[FunctionView, int] = {}
    for view in views:
        if view is None:
            _update(digest, "none")
        else:
            _add(digest, view, seen)
    return digest.hexdigest()


def _update(digest: Any, value: object) -> None:
    digest.update(repr(value).encode())
    digest.update(b"\0")


def _add(digest: Any, reference: Reference, seen: dict[FunctionView, int]) -> None:
    if isinstance(reference, FunctionView):
        if reference in seen:
            _update(digest, ("seen", seen[reference]))
            return
        seen[reference] = len(seen)
        _update(digest, _code(reference.code))
        for default in reference.defaults:
            _add(digest, default, seen)
        for name in sorted(reference.names):
            _update(digest, name)
            _add(digest, reference.names[name], seen)
    elif isinstance(reference, ModuleView):
        _update(digest, "module")
        for name in sorted(reference.attributes):
            _update(digest, name)
            _add(digest, reference.attributes[name], seen)
    elif isinstance(reference, Builtin):
        _update(digest, ("builtin", reference.function.__name__))
    else:
        _add_constant(digest, reference.value)


def _add_constant(digest: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        _update(digest, (value.dtype.str, value.shape))
        digest.update(value.tobytes())
    elif isinstance(value, tuple):
        _update(digest, len(value))
        for item in value:
            _add_constant(digest, item)
    else:
        _update(digest, (type(value).__name__, value))


def _code(code: CodeType) -> tuple[Any, ...]:
    constants = tuple((type(c).__name__, c) for c in code.co_consts if not isinstance(c, str))
    return (
        code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars, code.co_argcount, code.co_flags
    )  # fmt: skip
