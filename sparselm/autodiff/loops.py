"""Generated loops over blocks: a module of text for each residual function, its machine code kept on disk.

For a function ``f(camera, point, pixel)`` of two rows the loop that linearises reads, shortened::

    def linearize(values0, index0, table0, values1, index1, table1, data0, columns, all_free, r, J):
        ...
        for b in ...:
            i0 = index0[b]
            block0 = (variable(values0[i0, 0], 0), variable(values0[i0, 1], 1), ...)
            ...
            row = residual_row(function(block0, block1, (data0[b, 0], data0[b, 1])), 2)
            r[b, 0] = plain_value(row[0])
            store_partials(row[0], out, 0, 12)

so that numba sees one flat program with the user's function inlined. Nothing of a block's tuples is left in machine code.

The module stands as a file in the cache folder, named by a digest of all it depends on: the function and what it refers to
(:mod:`sparselm.autodiff.key`), the text itself, and the sources of this package that compile it. A process that finds the
machine code there loads neither the type of jets nor anything else of the compiler's.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from sparselm._jit import Kernel, SourceTreeCache, source_stamp
from sparselm.autodiff.key import function_key
from sparselm.autodiff.references import FunctionView
from sparselm.manifolds.base import FREE

# Rows of data up to this long are handed over as tuples, longer ones as array rows.
LONGEST_TUPLE = 64

# Generated modules kept in the cache folder; the oldest ones beyond that are removed when one is added.
MOST_MODULES = 400

_HEADER = '''"""Loops over the blocks of residual function {name!r}, generated; see sparselm.autodiff.loops."""

'''

# The call with its arguments by name, in a function of its own that is called as ``guarded`` from numba.
_CALL = """
def call_{function}({parameters}):
    return {function}({arguments})
"""

_LOOP = """
def {name}({arguments}):
    n = r.shape[0]
    lanes = num_lanes(n, TASK)
    for lane in prange(lanes):{allocate}
        for b in range(lane * n // lanes, (lane + 1) * n // lanes):
{body}
"""

_ROWS = """
def {name}(values0, out):
    n = out.shape[0]
    for task in prange((n + TASK - 1) // TASK):
        for i0 in range(task * TASK, min(n, (task + 1) * TASK)):
            block0 = {block}
            pack(guarded({function}, (block0,)), out, i0, {offset})
"""

_WIDTH = """
def {name}(values0, out):
    i0 = 0
    return packed_width(guarded({function}, ({block},)))
"""


@dataclass(frozen=True)
class OperandPlan:
    """How the numbers of an operand enter the function.

    Attributes
    ----------
    pattern : (ambient_dim, tangent_dim) int8
        The manifold's ``plus_jacobian_pattern``.
    first : int
        Number of its first tangent component among those of all operands.
    prepare : FunctionView, optional
        What the user computes once per row, and the function reads instead of the block.
    """

    pattern: npt.NDArray[np.int8]
    first: int
    prepare: FunctionView | None

    @functools.cached_property
    def stored(self) -> npt.NDArray[np.bool_]:
        """Entries of ``plus_jacobian`` that a prepared row begins with: rows that are not one 1 among zeros."""
        trivial = (self.pattern != FREE).all(axis=1) & ((self.pattern != 0).sum(axis=1) <= 1)
        stored: npt.NDArray[np.bool_] = (self.pattern != 0) & ~trivial[:, None]
        return stored

    @property
    def num_stored(self) -> int:
        return int(self.stored.sum())

    def block(self, first: int | None, values: str, row: str, table: str) -> str:
        """The tuple of a row of ``values``: jets whose components count from ``first``, without any for None."""
        entries, column = [], 0
        for a, pattern in enumerate(self.pattern):
            value = f"{values}[{row}, {a}]"
            components = np.flatnonzero(pattern)
            if first is None or not len(components):
                entries.append(f"constant({value})")
            elif not self.stored[a].any():
                entries.append(f"variable({value}, {first + int(components[0])})")
            else:
                listed = ",".join(str(first + int(c)) for c in components)
                entries.append(f'load_jet({value}, "{listed}", {table}, {row}, {column})')
                column += len(components)
        return f"({', '.join(entries)},)"


@dataclass(frozen=True)
class LoopPlan:
    """All that the text of the loops depends on; ``arguments`` pair parameters with what they get."""

    name: str
    dim: int
    operands: tuple[OperandPlan, ...]
    data_shapes: tuple[tuple[int, ...], ...]
    arguments: tuple[tuple[str, str], ...]
    by_hand: bool

    @property
    def width(self) -> int:
        return sum(operand.pattern.shape[1] for operand in self.operands)

    def text(self) -> str:
        """The module."""
        parts = [_HEADER.format(name=self.name)]
        parameters = ", ".join(self._parameters)
        named = ", ".join(f"{name}={value}" for name, value in self.arguments)
        for function in ("function", "jacobian") if self.by_hand else ("function",):
            parts.append(_CALL.format(function=function, parameters=parameters, arguments=named))
        inputs = [f"{what}{k}" for k in range(len(self.operands)) for what in ("values", "index", "table")]
        inputs += [f"data{k}" for k in range(len(self.data_shapes))]
        parts.append(_LOOP.format(
            name="evaluate", arguments=", ".join([*inputs, "r"]), allocate="", body=self._body(jets=False, lines=[]),
        ))  # fmt: skip
        arguments = ", ".join([*inputs, "columns", "all_free", "r", "J"])
        allocate = f"\n        local = np.empty(({self.dim}, {self.width}))"
        lines = [f"store_partials(row[{i}], out, {i}, {self.width})" for i in range(self.dim)]
        body = self._body(jets=True, lines=lines)
        parts.append(_LOOP.format(name="linearize", arguments=arguments, allocate=allocate, body=body))
        if self.by_hand:
            jacobian = f"guarded(call_jacobian, ({parameters},))"
            lines = [f"store_jacobian({jacobian}, out, {self.dim}, {self.width})"]
            body = self._body(jets=False, lines=lines)
            parts.append(_LOOP.format(name="linearize_by_hand", arguments=arguments, allocate=allocate, body=body))
        for k, operand in enumerate(self.operands):
            if operand.prepare is not None:
                parts.append(self._rows(k, operand))
        return "".join(parts)

    @property
    def _parameters(self) -> tuple[str, ...]:
        """Names of blocks and rows of data in the loop."""
        return tuple(value for _, value in self.arguments if value != "None")

    def _body(self, *, jets: bool, lines: list[str]) -> str:
        body = ["out = J[b] if all_free else local"] if lines else []
        for k, operand in enumerate(self.operands):
            place = f"values{k}", f"i{k}", f"table{k}"
            body.append(f"i{k} = index{k}[b]")
            if operand.prepare is None:
                body.append(f"block{k} = {operand.block(operand.first if jets else None, *place)}")
            else:  # the block is only there for its type
                body.append(f"raw{k} = {operand.block(0 if jets else None, *place)}")
                body.append(f"block{k} = unpack(prepare{k}, raw{k}, table{k}, i{k}, {operand.num_stored}, {operand.first})")
        body += [f"row{k} = {_data_row(k, shape)}" for k, shape in enumerate(self.data_shapes)]
        body.append(f"row = residual_row(guarded(call_function, ({', '.join(self._parameters)},)), {self.dim})")
        body += [f"r[b, {i}] = plain_value(row[{i}])" for i in range(self.dim)]
        body += lines
        if lines:
            body += ["if not all_free:", "    scatter_columns(local, columns, J[b])"]
        return "\n".join(" " * 12 + line for line in body)

    def _rows(self, k: int, operand: OperandPlan) -> str:
        jets, plain = (operand.block(first, "values0", "i0", "out") for first in (0, None))
        function, offset = f"prepare{k}", operand.num_stored
        rows = [(f"prepare_jets{k}", jets), (f"prepare_values{k}", plain)]
        text = "".join(_ROWS.format(name=n, block=block, function=function, offset=offset) for n, block in rows)
        return text + _WIDTH.format(name=f"prepared_width{k}", function=function, block=jets)


def _data_row(k: int, shape: tuple[int, ...]) -> str:
    """The data of a block as numbers, (nested) tuples, or, where that would be long, a row of the array."""
    if int(np.prod(shape)) > LONGEST_TUPLE or len(shape) > 2 or 0 in shape:
        return f"data{k}[b]"

    def nested(index: tuple[int, ...]) -> str:
        if len(index) == len(shape):
            return f"data{k}[{', '.join(['b', *map(str, index)])}]"
        return "(" + "".join(f"{nested((*index, i))}, " for i in range(shape[len(index)])) + ")"

    return nested(())


def find_loops(plan: LoopPlan, function: FunctionView, jacobian: FunctionView | None) -> Loops:
    """The loops of a function: those of an earlier call where all they depend on is the same."""
    text = plan.text()
    views = (function, jacobian, *(operand.prepare for operand in plan.operands))
    digest = hashlib.blake2b(digest_size=12)
    for part in (function_key(*views), text, source_stamp(__file__)):
        digest.update(part.encode())
    stem = "".join(c if c.isalnum() else "_" for c in plan.name) + "_" + digest.hexdigest()
    with _lock:
        if stem not in _known:
            _known[stem] = Loops(plan, function, jacobian, stem, text)
        return _known[stem]


_known: dict[str, Loops] = {}
_lock = threading.RLock()


class Loops:
    """The kernels of one residual function for operands and data of known shapes, compiled at their first call."""

    def __init__(
        self, plan: LoopPlan, function: FunctionView, jacobian: FunctionView | None, stem: str, text: str
    ) -> None:
        self.function = function
        self.jacobian = jacobian
        self._plan = plan
        # numba names its cache files by the last word of the module's name, and looks the module up to load them.
        module = sys.modules.setdefault(f"sparselm.generated.{stem}", ModuleType(f"sparselm.generated.{stem}"))
        self._namespace = vars(module)
        exec(compile(text, _write_module(f"{stem}.py", text), "exec"), self._namespace)
        self.evaluate = self._kernel("evaluate")
        self.linearize = self._kernel("linearize")
        self.linearize_by_hand = self._kernel("linearize_by_hand") if plan.by_hand else None
        prepared = [k for k, operand in enumerate(plan.operands) if operand.prepare is not None]
        self.prepared_width = {k: self._kernel(f"prepared_width{k}", parallel=False) for k in prepared}
        self.prepare_values = {k: self._kernel(f"prepare_values{k}") for k in prepared}
        self.prepare_jets = {k: self._kernel(f"prepare_jets{k}") for k in prepared}

    def _kernel(self, name: str, *, parallel: bool = True) -> Kernel:
        def cache(function: Callable[..., Any]) -> SourceTreeCache:
            try:
                return _Cache(function, self._fill)
            except RuntimeError:  # no folder for it
                self._fill()
                raise

        return Kernel(self._namespace[name], parallel, cache)

    def _fill(self) -> None:
        """Give the module the names that compiling it needs."""
        with _lock:
            if "function" not in self._namespace:
                self._namespace.update(self._compiling_names())

    def _compiling_names(self) -> dict[str, Any]:
        import numba

        from sparselm._jit import TASK, num_lanes
        from sparselm.autodiff import functions, jet, operators, packing, sequences
        from sparselm.autodiff.rebuild import compiled_function, inlined
        from sparselm.kernels.columns import scatter_columns

        assert functions and operators and sequences  # imported for what they teach numba
        memo: dict[FunctionView, Any] = {}
        views = {"function": self.function, "jacobian": self.jacobian}
        views |= {f"prepare{k}": operand.prepare for k, operand in enumerate(self._plan.operands)}
        users = {name: compiled_function(view, memo) for name, view in views.items() if view is not None}
        calls = [f"call_{name}" for name in ("function", "jacobian") if name in users]
        ours = {
            "np": np, "prange": numba.prange, "TASK": TASK, "num_lanes": num_lanes, "scatter_columns": scatter_columns,
            "constant": jet.constant, "variable": jet.variable, "load_jet": jet.load_jet,
            "store_partials": jet.store_partials, "plain_value": jet.plain_value, "guarded": packing.guarded,
            "pack": packing.pack, "unpack": packing.unpack, "packed_width": packing.packed_width,
            "residual_row": packing.residual_row, "store_jacobian": packing.store_jacobian,
        }  # fmt: skip
        return ours | {name: inlined(self._namespace[name]) for name in calls} | users


class _Cache(SourceTreeCache):
    """The cache of a generated loop: what compiling needs is fetched where nothing was found."""

    def __init__(self, function: Callable[..., Any], on_miss: Callable[[], None]) -> None:
        super().__init__(function)
        self._on_miss = on_miss

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        found = super().load_overload(signature, target_context)
        if found is None:
            self._on_miss()
        return found


def _write_module(name: str, text: str) -> str:
    """Put a module into the cache folder, where it is not there yet; its path, also where it could not be written."""
    try:
        folder = _cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        if path.exists():
            os.utime(path)  # the one used last is removed last
        else:
            _remove_oldest(folder)
            # Under its name only once it is whole: another process may want it at the same time.
            with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".tmp", delete=False, encoding="utf-8") as file:
                file.write(text)
            os.replace(file.name, path)
    except (OSError, RuntimeError):  # not writable, or no home folder: compiled anew in each process
        return f"<sparselm>/{name}"
    return str(path)


def _cache_folder() -> Path:
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen) / "sparselm"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sparselm"


def _remove_oldest(folder: Path) -> None:
    """Make room for one more module; machine code lies beside it, or where NUMBA_CACHE_DIR puts that of its folder."""
    used = []
    for path in folder.glob("*.py"):
        with suppress(FileNotFoundError):  # another process removes as well
            used.append((path.stat().st_mtime, path))
    for _, path in sorted(used)[: max(0, len(used) - MOST_MODULES + 1)]:
        for place in (folder / "__pycache__", *folder.parent.glob(f"{folder.name}_*")):
            for machine_code in place.glob(f"{path.stem}.*"):
                machine_code.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
