"""What may not be written inside a residual function, found in its bytecode before numba sees it.

Bytecode and not source, since functions come from files, notebooks and prompts, and a source is not always to be had.
"""

from __future__ import annotations

import dis
import inspect
import linecache
from collections.abc import Iterator
from types import CodeType

from sparselm.errors import ResidualFunctionError

# Builtins that mean something for numbers and tuples.
BUILTINS = frozenset(
    {"abs", "bool", "enumerate", "float", "int", "len", "max", "min", "pow", "range", "round", "sum", "tuple", "zip"}
)

_TUPLES = "write a tuple of fixed length instead, as in (a, b, c)"
_NUMBERS = "residual functions work on numbers and tuples of numbers"
_REMEDIES = {
    "print": "print is not compiled; call the decorated function, or slm.debug(group, block), to run it as plain Python",
    "list": f"lists are not compiled; {_TUPLES}",
    "dict": "dictionaries are not compiled; use module constants, tuples, or if/elif on numbers",
    "set": "sets are not compiled; compare numbers with ==, or use a tuple",
    "string": f"strings are not compiled; {_NUMBERS}; pass a number as data to tell kinds of blocks apart",
    "global": "a residual function must not change anything outside itself, since blocks run in parallel; return the number",
    "attribute": "a residual function must not change an object; use a local name",
    "item": "an entry of a tuple or array cannot be assigned; make a new tuple",
    "closure": "define the helper function outside, at the level of the module, and pass it what it needs",
    "exception": "nothing is raised or caught inside; return math.nan for a block that cannot be computed, to reject the step",
    "with": "with blocks are not compiled",
    "generator": f"generators and coroutines are not compiled; {_TUPLES}",
    "import": "import at the top of the module, outside the function",
    "class": f"classes are not compiled; {_NUMBERS}",
    "match": "write if/elif instead",
    "complex": "complex numbers are not compiled; carry real and imaginary part as two numbers",
    "matmul": "write slm.math.matrix_vector(A, x) or slm.math.matrix_matrix(A, B) for tuples of rows",
    "unpack": "pass arguments one by one, or a tuple as one argument",
    "recursion": "write a loop of fixed length instead",
}

_OPCODES = {
    "BUILD_MAP": ("dict", "a dictionary"),
    "BUILD_CONST_KEY_MAP": ("dict", "a dictionary"),
    "MAP_ADD": ("dict", "a dictionary"),
    "DICT_UPDATE": ("dict", "a dictionary"),
    "BUILD_SET": ("set", "a set"),
    "SET_ADD": ("set", "a set"),
    "FORMAT_VALUE": ("string", "a formatted string"),
    "FORMAT_SIMPLE": ("string", "a formatted string"),
    "FORMAT_WITH_SPEC": ("string", "a formatted string"),
    "BUILD_STRING": ("string", "a formatted string"),
    "STORE_GLOBAL": ("global", "an assignment to a global name"),
    "DELETE_GLOBAL": ("global", "the deletion of a global name"),
    "STORE_NAME": ("global", "an assignment to a global name"),
    "STORE_DEREF": ("closure", "a variable shared with an inner function"),
    "MAKE_CELL": ("closure", "a variable shared with an inner function"),
    "STORE_ATTR": ("attribute", "an assignment to an attribute"),
    "DELETE_ATTR": ("attribute", "the deletion of an attribute"),
    "STORE_SUBSCR": ("item", "an assignment to an item"),
    "STORE_SLICE": ("item", "an assignment to a slice"),
    "DELETE_SUBSCR": ("item", "the deletion of an item"),
    "MAKE_FUNCTION": ("closure", "an inner function or lambda"),
    "LOAD_ASSERTION_ERROR": ("exception", "assert"),
    "RAISE_VARARGS": ("exception", "raise"),
    "PUSH_EXC_INFO": ("exception", "try"),
    "BEFORE_WITH": ("with", "a with block"),
    "IMPORT_NAME": ("import", "an import"),
    "LOAD_BUILD_CLASS": ("class", "a class"),
    "MATCH_CLASS": ("match", "a match statement"),
    "MATCH_MAPPING": ("match", "a match statement"),
    "MATCH_SEQUENCE": ("match", "a match statement"),
}

_COMPREHENSIONS = {
    "<listcomp>": ("list", "a list comprehension"),
    "<dictcomp>": ("dict", "a dictionary comprehension"),
    "<setcomp>": ("set", "a set comprehension"),
    "<genexpr>": ("generator", "a generator expression"),
}


def refuse(code: CodeType, line: int | None, what: str, remedy: str) -> ResidualFunctionError:
    """The error for a construct at a line of a function: where, what, and what to write instead."""
    number = line if line is not None else code.co_firstlineno
    text = linecache.getline(code.co_filename, number).strip()
    shown = f" ({text})" if text else ""
    return ResidualFunctionError(
        f"residual function {code.co_name!r}, {code.co_filename}:{number}{shown}: {what} cannot be compiled; "
        f"{_REMEDIES.get(remedy, remedy)}."
    )


def check_constructs(code: CodeType) -> None:
    """Raise ResidualFunctionError at the first construct that residual functions cannot hold."""
    if code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        raise refuse(code, None, "a generator or coroutine", "generator")
    if code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS) or code.co_kwonlyargcount:
        raise refuse(code, None, "*args, **kwargs or a keyword-only parameter", "unpack")
    open_lists: list[int | None] = []
    instructions = list(numbered(code))
    docstring = isinstance(code.co_consts[0], str) if code.co_consts else False
    for position, (line, instruction) in enumerate(instructions):
        name, value = instruction.opname, instruction.argval
        if name == "LOAD_CONST" and isinstance(value, CodeType):
            kind, what = _COMPREHENSIONS.get(value.co_name, ("closure", "an inner function or lambda"))
            raise refuse(code, line, what, kind)
        if name in _OPCODES:
            kind, what = _OPCODES[name]
            if name == "PUSH_EXC_INFO" and any(i.opname == "BEFORE_WITH" for _, i in instructions):
                kind, what = "with", "a with block"
            raise refuse(code, line, what, kind)
        if name == "BINARY_OP" and instruction.argrepr in ("@", "@="):
            raise refuse(code, line, "the matrix product @", "matmul")
        if name == "BUILD_LIST":
            open_lists.append(line)
        elif open_lists and _makes_tuple(instruction):
            open_lists.pop()
        if name == "LOAD_CONST" and not (docstring and position == 0):
            _check_constant(code, line, value)
    if open_lists:
        raise refuse(code, open_lists[0], "a list", "list")


def _makes_tuple(instruction: dis.Instruction) -> bool:
    """Whether this is the end of (*a, b), which builds a list on its way."""
    return instruction.opname == "LIST_TO_TUPLE" or instruction.argrepr == "INTRINSIC_LIST_TO_TUPLE"


def _check_constant(code: CodeType, line: int | None, value: object) -> None:
    for item in value if isinstance(value, (tuple, frozenset)) else (value,):
        if isinstance(item, (str, bytes)):
            raise refuse(code, line, f"the string {item!r}", "string")
        if isinstance(item, complex):
            raise refuse(code, line, f"the complex number {item!r}", "complex")


def numbered(code: CodeType) -> Iterator[tuple[int | None, dis.Instruction]]:
    """Instructions with the line they belong to."""
    line: int | None = None
    for instruction in dis.get_instructions(code):
        positions = instruction.positions
        if positions is not None and positions.lineno is not None:
            line = positions.lineno
        yield line, instruction
