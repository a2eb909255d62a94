"""``num_threads`` for numba and BLAS together, for the time of a solve; nothing global is touched on import."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from sparselm._jit import load_openmp
from sparselm.errors import SolverError

# Entries of vectors up to which OpenBLAS does a product of two with one thread (10,000; less, to be safe).
_WAKING = 8000

_blas_lock = threading.Lock()
_blas_wanted: list[int] = []  # by those who hold BLAS to a number of threads now, in the order in which they came
_blas_before: Any = None


def available_threads() -> int:
    """Threads a solve uses unless told otherwise: those this process may run on, as numba was started."""
    return int(numba.get_num_threads())


@contextmanager
def use_threads(num_threads: int | None) -> Iterator[int]:
    """Let this Python thread's kernels run on ``num_threads`` threads; numba keeps the number per Python thread."""
    load_openmp()  # before a linear solver's libraries do
    before = available_threads()
    count = before if num_threads is None else num_threads
    most = int(numba.config.NUMBA_NUM_THREADS)
    if not (isinstance(count, (int, np.integer)) and 1 <= count <= most):
        raise SolverError(
            f"num_threads = {count}, expected 1 … {most}; set NUMBA_NUM_THREADS before Python starts to allow more"
        )
    numba.set_num_threads(count)
    try:
        yield count
    finally:
        numba.set_num_threads(before)


@contextmanager
def limit_blas(num_threads: int) -> Iterator[None]:
    """Hold the BLAS libraries loaded by now to ``num_threads``.

    BLAS keeps one number for the whole process, so of several solves at once the first one's number holds, unless one of
    them wants it to be 1, and the last one out restores what was there before.
    """
    if num_threads >= (os.cpu_count() or 1):
        yield
        return
    from threadpoolctl import threadpool_limits  # imported here: it costs start-up time and is rarely needed

    with _hold_blas(num_threads, lambda number: threadpool_limits(limits=number, user_api="blas")):
        yield


@contextmanager
def serial_blas() -> Iterator[None]:
    """Hold the BLAS libraries loaded by the first call to one thread; entering and leaving takes some 25 µs.

    For a factorisation of a millisecond: threads of BLAS wait for one another actively, and where another process keeps a
    core busy that wait has been seen to take 300 ms.
    """
    if (os.cpu_count() or 1) == 1:
        yield
        return
    with _hold_blas(1, lambda number: _blas_controller().limit(limits=number)):
        yield


def quiet_dot(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> float:
    """xᵀy of two vectors, without BLAS where it would wake its threads.

    Once woken these wait actively for a tenth of a second, on processors that the next kernels need. Short vectors go to
    BLAS all the same: NumPy's own sum takes three times as long.
    """
    return float(x @ y if len(x) < _WAKING else np.einsum("i,i->", x, y))


@functools.cache
def _blas_controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


@contextmanager
def _hold_blas(number: int, limit: Callable[[int], Any]) -> Iterator[None]:
    """Set what all who hold BLAS now agree on, when one of them comes or goes."""
    global _blas_before
    with _blas_lock:
        held = _agreed()
        _blas_wanted.append(number)
        if held is None:
            _blas_before = limit(number)
        elif _agreed() != held:  # to 1, which this one wants
            limit(number)
    try:
        yield
    finally:
        with _blas_lock:
            held = _agreed()
            _blas_wanted.remove(number)
            agreed = _agreed()
            if agreed is None:
                _blas_before.restore_original_limits()
                _blas_before = None
            elif agreed != held:
                limit(agreed)


def _agreed() -> int | None:
    if not _blas_wanted:
        return None
    return 1 if 1 in _blas_wanted else _blas_wanted[0]
