"""The compiler's errors in the user's terms: their file and line, what it could not do, what to write instead."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType

from sparselm.autodiff.constructs import at_line, refuse
from sparselm.autodiff.references import FunctionView, ModuleView, Reference
from sparselm.errors import SparselmError

# "… at FILE (LINE)", and 'File "FILE", line LINE' with a path that may be relative.
_PLACE = re.compile(r'at (?P<at>[^()"\n]+) \((?P<at_line>\d+)\)|File "(?P<file>[^"]+)", line (?P<line>\d+)')

# What numba says, what it means, and what to do. The first pattern found in its message counts.
_REASONS = (
    (
        r"Cannot unify (?P<a>.+) and (?P<b>.+?) for '(?P<name>[^'.]+)[.\d]*'",
        "the variable {name!r}, which is {a} on one way through the function and {b} on another,",
        "give it the same kind of value (a number, or a tuple of so many numbers) on every way",
    ),
    (
        r"(?i)can't unify return type|unify.*return type",
        "a function that returns different kinds of things on different ways through it",
        "return the same number of numbers everywhere",
    ),
    (
        r"failed to unpack|too many values|not enough values|wrong tuple length|need more than|has length",
        "unpacking into a different number of names than the tuple has numbers",
        "count them: an operand has as many as its variables store, a data row as many as the array has columns",
    ),
    (
        r"tuple index out of range|index out of (range|bounds)|out of range",
        "an index beyond the end of a tuple",
        "an operand has as many numbers as its variables store, a data row as many as the array has columns",
    ),
    (
        r"Unknown attribute '(?P<name>\w+)'",
        "the attribute or method {name!r}",
        "operands and data are numbers and tuples of numbers, without attributes",
    ),
    (
        r"Cannot bind '.*' to signature '(?P<name>.*)' due to",
        "a call with other arguments than the helper {name} takes",
        "pass as many as it has parameters",
    ),
    (
        r"static_getitem|getitem",
        "this kind of index",
        "index tuples with whole numbers: constants, loop counters, or int(…) of a number; numbers have no entries",
    ),
    (
        r"No implementation of function Function\(<built-in function (?P<name>\w+)>|Invalid use of",
        "this operation on these values",
        "arithmetic is for numbers: an operand is a tuple, x[0] its first number; tuples of three are added, scaled and "
        "rotated by slm.math (add, scale, matrix_vector, …)",
    ),
)
_OTHERWISE = (
    "something in this line",
    "write arithmetic, math functions, comparisons, if/else, for … in range(n), tuples, helper functions, and slm.math",
)

_PACKAGE = str(Path(__file__).resolve().parent.parent)


@contextmanager
def explained(view: FunctionView, note: str) -> Iterator[None]:
    """Turn the compiler's errors about a function into :class:`sparselm.errors.ResidualFunctionError`.

    ``note`` says what the function was given; it is added where the cause may be there.
    """
    try:
        yield
    except SparselmError:
        raise
    except Exception as error:  # numba raises others than its own, too
        raise _explain(str(error), view, note) from error


def _explain(message: str, view: FunctionView, note: str) -> Exception:
    from sparselm.autodiff.packing import RETURNS

    codes = _codes(view)
    code, line = view.code, view.code.co_firstlineno
    places = ((m["at"] or m["file"], int(m["at_line"] or m["line"])) for m in _PLACE.finditer(message))
    found = [
        (candidate, number)
        for name, number in places
        for candidate in codes
        if name in (candidate.co_filename, os.path.relpath(candidate.co_filename)) and _holds(candidate, number)
    ]
    if found:  # the innermost comes first; what lies in this package was called wrongly from outside
        outside = [place for place in found if not place[0].co_filename.startswith(_PACKAGE)]
        code, line = (outside or found)[0]
    if RETURNS in message:
        return at_line(view.code, None, message[message.index(RETURNS) :].splitlines()[0])
    what, remedy = _OTHERWISE
    for pattern, meaning, advice in _REASONS:
        match = re.search(pattern, message)
        if match:
            words = {key: _plain(value) if key in "ab" else value for key, value in match.groupdict().items() if value}
            what, remedy = meaning.format(**words), advice
            break
    return refuse(code, line, what, f"{remedy}; {note}")


def _plain(text: str) -> str:
    """A type of numba's in plain words."""
    text = re.sub(r"Literal\[\w+\]\([^)]*\)|jet\([^)]*\)|float64|int64|bool(ean)?", "a number", text)
    text = re.sub(r"(UniTuple|Tuple)\(.*\)|\(.*\)|UniTuple.*", "a tuple", text)
    return {"none": "None"}.get(text, text)


def _codes(view: FunctionView) -> list[CodeType]:
    """Code of a function and of all it calls, callers first."""
    found: list[CodeType] = []

    def visit(reference: Reference) -> None:
        if isinstance(reference, FunctionView):
            if reference.code not in found:
                found.append(reference.code)
                for inner in reference.names.values():
                    visit(inner)
        elif isinstance(reference, ModuleView):
            for inner in reference.attributes.values():
                visit(inner)

    visit(view)
    return found


def _holds(code: CodeType, line: int) -> bool:
    lines = [number for _, _, number in code.co_lines() if number is not None]
    return min(lines) <= line <= max(lines)
