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
    "print": "take it out; to look inside, call the decorated function with numbers, or slm.debug(group, block): both run "
    "as plain Python, under a debugger too",
    "list": _TUPLES,
    "dict": "use module constants, tuples, or if/elif on numbers",
    "set": "compare numbers with ==, or use a tuple",
    "string": f"{_NUMBERS}; pass a number as data to tell kinds of blocks apart",
    "global": "blocks run in parallel and must not change anything outside themselves; return the number",
    "attribute": "blocks run in parallel and must not change an object; use a local name",
    "item": "make a new tuple instead",
    "closure": "define the helper function outside, at the level of the module, and pass it what it needs",
    "exception": "return math.nan for a block that cannot be computed: the step is then rejected",
    "with": "do it outside the function, and pass numbers as data",
    "generator": _TUPLES,
    "import": "import at the top of the module, outside the function",
    "class": _NUMBERS,
    "match": "write if/elif instead",
    "complex": "complex numbers are not compiled; carry real and imaginary part as two numbers",
    "matmul": "write slm.math.matrix_vector(A, x) or slm.math.matrix_matrix(A, B) for tuples of rows",
    "unpack": "pass arguments one by one, or a tuple as one argument",
    "recursion": "write a loop of fixed length instead",
    "conditional": "assign it to a name first, and put the name into the tuple",
    "starred": "write slices instead, as in first, rest = x[0], x[1:]",
    "del": "leave it out: a name that is not used costs nothing",
    "walrus": "assign on a line of its own",
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
    "UNPACK_EX": ("starred", "unpacking into a starred name"),
    "DELETE_FAST": ("del", "del"),
    "LOAD_ASSERTION_ERROR": ("exception", "assert"),
    "RAISE_VARARGS": ("exception", "raise"),
    "PUSH_EXC_INFO": ("exception", "try"),
    "BEFORE_WITH": ("with", "a with block"),
    "IMPORT_NAME": ("import", "an import"),
    "MATCH_CLASS": ("match", "a match statement"),
    "MATCH_MAPPING": ("match", "a match statement"),
    "MATCH_SEQUENCE": ("match", "a match statement"),
}

JUMPS = {*dis.hasjrel, *dis.hasjabs}

_COMPREHENSIONS = {
    "<listcomp>": ("list", "a list comprehension"),
    "<dictcomp>": ("dict", "a dictionary comprehension"),
    "<setcomp>": ("set", "a set comprehension"),
    "<genexpr>": ("generator", "a generator expression"),
}


def refuse(code: CodeType, line: int | None, what: str, remedy: str) -> ResidualFunctionError:
    """The error for a construct at a line of a function: where, what, and what to write instead."""
    return at_line(code, line, f"{what} cannot be compiled; {_REMEDIES.get(remedy, remedy)}")


def at_line(code: CodeType, line: int | None, message: str) -> ResidualFunctionError:
    """An error that says at which line of a function it was found."""
    number = line if line is not None else code.co_firstlineno
    text = linecache.getline(code.co_filename, number).strip()
    shown = f" ({text})" if text else ""
    return ResidualFunctionError(f"residual function {code.co_name!r}, {code.co_filename}:{number}{shown}: {message}.")


def check_constructs(code: CodeType) -> None:
    """Raise ResidualFunctionError at the first construct that residual functions cannot hold."""
    if code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        raise refuse(code, None, "a generator or coroutine", "generator")
    if code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS) or code.co_kwonlyargcount:
        raise refuse(code, None, "*args, **kwargs or a keyword-only parameter", "unpack")
    instructions = list(numbered(code))
    for line, instruction in instructions:  # first, since what follows from them comes before them in the code
        if instruction.opname == "LOAD_BUILD_CLASS":
            raise refuse(code, line, "a class", "class")
        if isinstance(instruction.argval, CodeType):
            kind, what = _COMPREHENSIONS.get(instruction.argval.co_name, ("closure", "an inner function or lambda"))
            raise refuse(code, line, what, kind)
    open_lists: list[int] = []
    for k, (line, instruction) in enumerate(instructions):
        name = instruction.opname
        if _assigns_within([i.opname for _, i in instructions[k : k + 3]]):
            raise refuse(code, line, "an assignment within an expression", "walrus")
        if name in _OPCODES:
            kind, what = _OPCODES[name]
            if name == "PUSH_EXC_INFO" and any(i.opname == "BEFORE_WITH" for _, i in instructions):
                kind, what = "with", "a with block"
            raise refuse(code, line, what, kind)
        if name == "BINARY_OP" and instruction.argrepr in ("@", "@="):
            raise refuse(code, line, "the matrix product @", "matmul")
        if name == "BUILD_LIST":
            open_lists.append(k)
        elif open_lists and _makes_tuple(instruction):
            within = instructions[open_lists.pop() : k]
            if any(i.opcode in JUMPS for _, i in within):
                raise refuse(code, line, "a conditional inside a starred or long tuple", "conditional")
    if open_lists:
        raise refuse(code, instructions[open_lists[0]][0], "a list", "list")


def _assigns_within(names: list[str]) -> bool:
    """Whether (y := …) begins here: numba cannot tell the type of what remains on the stack. ``a = b = …`` it can."""
    if names[:2] == ["COPY", "STORE_FAST"]:
        return names[2] not in ("COPY", "STORE_FAST", "UNPACK_SEQUENCE", "UNPACK_EX")
    return names[:2] == ["COPY", "STORE_FAST_LOAD_FAST"]  # from Python 3.13


def _makes_tuple(instruction: dis.Instruction) -> bool:
    """Whether this is the end of (*a, b), which builds a list on its way."""
    return instruction.opname == "LIST_TO_TUPLE" or instruction.argrepr == "INTRINSIC_LIST_TO_TUPLE"


def check_constants(code: CodeType) -> None:
    """Raise ResidualFunctionError at the first constant that is no number."""
    for line, instruction in numbered(code):
        if instruction.opname not in ("LOAD_CONST", "RETURN_CONST"):
            continue
        value = instruction.argval
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
