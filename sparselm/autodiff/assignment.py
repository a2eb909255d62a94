"""Variables that may have no value where they are read: Python would raise there, numba takes zero."""

from __future__ import annotations

import dis
import re
from types import CodeType

from sparselm.autodiff.constructs import JUMPS, numbered, refuse

_NO_NEXT = {
    "RETURN_VALUE", "RETURN_CONST", "RERAISE", "RAISE_VARARGS", "JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"
}  # fmt: skip
_ACCESS = re.compile("(LOAD|STORE)_FAST")


def check_assignment(code: CodeType) -> None:
    """Raise ResidualFunctionError at the first local variable that is read where some way leaves it without a value.

    A ``for`` loop is taken to run at least once, as loops of fixed length do; a ``while`` loop may not run at all.
    """
    instructions = list(numbered(code))
    place = {instruction.offset: k for k, (_, instruction) in enumerate(instructions)}
    # Names that have a value before instruction k on every way seen so far. The head of a for loop stands for two places:
    # reached from above it leads into the loop only, reached again from its end it leads out of it as well.
    known: dict[tuple[int, bool], frozenset[str]] = {}
    pending = [(0, False, frozenset(code.co_varnames[: code.co_argcount]))]
    while pending:
        k, again, names = pending.pop()
        before = known.get((k, again))
        names = names if before is None else names & before
        if names == before:
            continue
        known[k, again] = names
        instruction = instructions[k][1]
        after = names | {name for kind, name in _accesses(instruction) if kind == "STORE"}
        if instruction.opcode in JUMPS and (instruction.opname != "FOR_ITER" or again):
            target = place[instruction.argval]
            pending.append((target, target <= k, after))
        if instruction.opname not in _NO_NEXT:
            pending.append((k + 1, False, after))
    for (k, _), names in sorted(known.items()):
        line, instruction = instructions[k]
        for kind, name in _accesses(instruction):
            if kind == "LOAD" and name not in names:
                remedy = "assign it before, on every way that leads here"
                raise refuse(code, line, f"{name!r}, which may have no value here,", remedy)


def _accesses(instruction: dis.Instruction) -> list[tuple[str, str]]:
    """Local names that an instruction reads ("LOAD") or assigns ("STORE"), in order; some do two at once."""
    kinds = _ACCESS.findall(instruction.opname)
    names = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
    return list(zip(kinds, names, strict=False))
