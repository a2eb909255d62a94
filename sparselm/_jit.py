"""How kernels are compiled, cached and called: the only place that decides numba options.

A kernel is a module-level function over arrays (or one made by a ``functools.cache`` factory whose closure holds only
ints). ``@kernel`` compiles it on first call, keeps the machine code on disk, and guards its calls; ``@scalar`` marks a
small helper that kernels call.

numba's own on-disk cache looks at the kernel's own file only, so a helper edited in another file would silently leave
stale machine code behind. Here the stamp covers the file and every file of this package it imports, transitively.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numba
import numba.core.event as numba_event
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.runtime import rtsys

# NaN and infinity must keep their meaning (a NaN block is an invalid step), so 'nnan' and 'ninf' stay out.
FASTMATH = {"contract", "reassoc", "arcp", "nsz"}

# Blocks per parallel task. Fixed, so that rounding does not depend on how numba splits the range over threads.
TASK = 256

# Most parallel tasks of a kernel whose tasks need a small buffer each: what it allocates does then not grow with the
# problem. Divisible by most numbers of threads.
LANES = 192

# Items below which a kernel for blocks of their very sizes is not compiled: it takes seconds for each combination of sizes.
# For a thousand blocks of 2 × 9 it saved 0.02 ms in a product, and 0.2 ms in sums of JᵀJ's blocks.
FEW = 1000

logger = logging.getLogger("sparselm")
Function = Callable[..., Any]


def scalar(function: Function) -> Function:
    """Compile a helper that kernels call with scalars or small arrays."""
    jitted: Function = numba.njit(function, fastmath=FASTMATH, error_model="numpy")
    return jitted


def borrower(function: Function) -> Function:
    """Compile a helper that kernels call with arrays, and that makes none: it counts no references.

    numba counts the references to arrays around each use of a field of a tuple, atomically, which took a tenth of a
    factorisation of 0.6 ms. Arithmetic is strict: what is written as one operation is one. That has to be said, or numba
    takes the caller's.
    """
    jitted: Function = numba.njit(function, fastmath=False, error_model="numpy", _nrt=False)
    return jitted


def inlined(function: Function) -> Function:
    """A :func:`borrower` whose code is put where it is called: for steps of one long loop that share many arrays.

    Otherwise each call hands over seven numbers an array.
    """
    jitted: Function = numba.njit(function, fastmath=False, error_model="numpy", _nrt=False, forceinline=True)
    return jitted


@scalar
def num_lanes(num_items: int, items_per_task: int) -> int:
    """Number of parallel tasks for so many items; lane k takes items ``k n // lanes … (k + 1) n // lanes``."""
    return max(1, min(LANES, (num_items + items_per_task - 1) // items_per_task))


def kernel(function: Function) -> Function:
    """Compile a parallel kernel (``prange`` inside) with an on-disk cache."""
    return Kernel(function, parallel=True)


def serial_kernel(function: Function) -> Function:
    """Compile a kernel without parallel loops with an on-disk cache; it releases the GIL."""
    return Kernel(function, parallel=False)


def sizes_for(num_items: int, *sizes: int) -> tuple[int, ...]:
    """The block sizes to ask a factory of kernels for: these or, for few items, zeros.

    A size of 0 makes the kernel that takes any sizes: those which it is told, or which the shapes of its arrays have. Items
    are all that the compiled kernel would serve, such as the blocks of all spans of the same sizes.
    """
    return sizes if num_items >= FEW else (0,) * len(sizes)


def kernel_for(size: int) -> Callable[[Function], Function]:
    """Compile a kernel for blocks of known sizes or, where the size is 0, of any sizes.

    The latter is without parallel loops, since it is meant for few items: threads take longer to wake.
    """
    return kernel if size else serial_kernel


class Kernel:
    """A compiled array function; calls are serialised where numba's threading layer cannot take concurrent ones."""

    def __init__(self, function: Function, parallel: bool, cache: Callable[[Function], Any] | None = None) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._parallel = parallel
        self._make_cache = SourceTreeCache if cache is None else cache

    @functools.cached_property
    def dispatcher(self) -> Any:
        load_openmp()
        compile_clock.start()
        dispatcher = numba.njit(
            self._function, parallel=self._parallel, nogil=True, fastmath=FASTMATH, error_model="numpy"
        )
        try:
            dispatcher._cache = self._make_cache(self._function)
        except RuntimeError:
            _warn_uncached()
        return dispatcher

    def __call__(self, *args: Any) -> Any:
        if not self._parallel or _layer_is_threadsafe():
            return self.dispatcher(*args)
        with _launch_lock:
            return self.dispatcher(*args)


class CompileClock:
    """Seconds this thread spent compiling kernels, and loading them from disk; the first compilation is announced."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._listener: Any = None
        self._lock = threading.Lock()

    @property
    def compile_seconds(self) -> float:
        return float(getattr(self._local, "compile", 0.0))

    @property
    def load_seconds(self) -> float:
        return float(getattr(self._local, "load", 0.0))

    @property
    def seconds(self) -> float:
        return self.compile_seconds + self.load_seconds

    def start(self) -> None:
        """Listen to numba's compile events (idempotent; not done on import)."""
        with self._lock:
            if self._listener is None:
                self._listener = _CompileListener(self)
                numba_event.register("numba:compile", self._listener)

    def enter(self, what: str) -> None:
        """Begin compiling or loading; of nested ones the outermost counts."""
        depth = getattr(self._local, "depth", 0)
        if depth == 0:
            self._local.since = time.perf_counter()
            self._local.what = what
            if what == "compile" and self.compile_seconds == 0.0:
                # A warning, since that is what Python shows where nobody has set up logging.
                logger.warning("compiling kernels for this machine (first run only; kept on disk) ...")
        self._local.depth = depth + 1

    def leave(self) -> None:
        self._local.depth -= 1
        if self._local.depth == 0:
            spent = time.perf_counter() - self._local.since
            setattr(self._local, self._local.what, getattr(self._local, self._local.what, 0.0) + spent)


class _CompileListener(numba_event.Listener):  # type: ignore[misc]
    def __init__(self, clock: CompileClock) -> None:
        self._clock = clock

    def on_start(self, event: Any) -> None:
        self._clock.enter("compile")

    def on_end(self, event: Any) -> None:
        self._clock.leave()


compile_clock = CompileClock()

# -- threads ------------------------------------------------------------------------------------------------------------


@functools.cache
def load_openmp() -> None:
    """Load GNU OpenMP, numba's usual threading layer on Linux, so that its idle threads soon sleep.

    By default they spin for milliseconds between two parallel loops. Where another process wants the processor as well,
    that uses up the spinning thread's share of it, and the next loop waits for its turn: kernels of 0.1 ms took 20 to 40
    with one busy process beside them. libgomp reads this once, when it is loaded, so it has to be said before anybody
    else loads it; a user's own setting stands.
    """
    if sys.platform != "linux" or not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}.isdisjoint(os.environ):
        return
    os.environ["GOMP_SPINCOUNT"] = "1000"
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:  # no GNU OpenMP: numba takes another layer
        pass
    finally:
        del os.environ["GOMP_SPINCOUNT"]


# -- concurrent launches ------------------------------------------------------------------------------------------------

# numba's workqueue layer kills the process on concurrent launches; the layer is known after the first one.
_launch_lock = threading.RLock()


def _layer_is_threadsafe() -> bool:
    try:
        return bool(numba.threading_layer() != "workqueue")
    except ValueError:  # no parallel region has run yet
        return False


# -- the on-disk cache --------------------------------------------------------------------------------------------------


class SourceTreeCache(FunctionCache):  # type: ignore[misc]
    """numba's function cache, stamped with all the sources a kernel is made of; a full or read-only disk is no error."""

    def __init__(self, function: Function) -> None:
        super().__init__(function)
        self._cache_file = IndexDataCacheFile(
            cache_path=self._cache_path,
            filename_base=self._impl.filename_base,
            source_stamp=source_stamp(function.__code__.co_filename),
        )

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        # numba would first bring its tables of types and functions up to date: 0.1 s in a process that has not compiled
        # yet, for machine code that needs none of them. Compiling does so anyway.
        compile_clock.enter("load")
        try:
            with self._guard_against_spurious_io_errors():
                rtsys.initialize(target_context)
                return self._load_overload(signature, target_context)
        finally:
            compile_clock.leave()

    def save_overload(self, signature: Any, data: Any) -> None:
        try:
            super().save_overload(signature, data)
        except OSError:
            _warn_uncached()


@functools.cache
def _warn_uncached() -> None:
    warnings.warn(
        "compiled kernels cannot be kept: no cache folder is writable, so every new process compiles again. "
        "Set NUMBA_CACHE_DIR to a writable folder.",
        RuntimeWarning,
        stacklevel=2,
    )


# Names after "import" stand in parentheses, over several lines, or on the same line.
_IMPORT = re.compile(
    r"^[ \t]*(?:from|import)[ \t]+(sparselm[\w.]*)(?:[ \t]+import[ \t]+(?:\(([^)]*)\)|([^\n#]*)))?", re.MULTILINE
)


@functools.cache
def source_stamp(filename: str) -> str:
    """Digest of a file and of every file of this package it imports, transitively."""
    digest = hashlib.blake2b(digest_size=16)
    seen: set[str] = set()
    pending = [filename]
    while pending:
        path = pending.pop()
        if path in seen:
            continue
        seen.add(path)
        text, imported = _read_imports(path)
        digest.update(text)
        pending.extend(sorted(imported))
    return digest.hexdigest()


@functools.cache
def _read_imports(path: str) -> tuple[bytes, tuple[str, ...]]:
    text = Path(path).read_bytes()
    files = set()
    for module, enclosed, bare in _IMPORT.findall(text.decode()):
        file = _module_file(module)
        files.add(file)
        if file is not None and file.endswith("__init__.py"):  # names in a package may be modules
            files |= {_module_file(f"{module}.{name.split()[0]}") for name in (enclosed or bare).split(",") if name.strip()}
    return text, tuple(sorted(file for file in files if file is not None))


@functools.cache
def _module_file(module: str) -> str | None:
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:  # a name inside a module, not a module
        return None
    return spec.origin if spec is not None else None
