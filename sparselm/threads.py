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

from sparselm._jit import load_openmp
from sparselm.errors import SolverError

_blas_lock = threading.Lock()
_blas_users = 0
_blas_limit: Any = None


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

    BLAS keeps one number for the whole process, so of several solves at once the first one's number holds, and the last
    one out restores what was there before.
    """
    if num_threads >= (os.cpu_count() or 1):
        yield
        return
    from threadpoolctl import threadpool_limits  # imported here: it costs start-up time and is rarely needed

    _enter_blas(lambda: threadpool_limits(limits=num_threads, user_api="blas"))
    try:
        yield
    finally:
        _leave_blas()


@contextmanager
def serial_blas() -> Iterator[None]:
    """Hold the BLAS libraries loaded by the first call to one thread; entering and leaving takes some 25 µs.

    For a factorisation of a millisecond: threads of BLAS wait for one another actively, and where another process keeps a
    core busy that wait has been seen to take 300 ms.
    """
    if (os.cpu_count() or 1) == 1:
        yield
        return
    _enter_blas(lambda: _blas_controller().limit(limits=1))
    try:
        yield
    finally:
        _leave_blas()


@functools.cache
def _blas_controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def _enter_blas(limit: Callable[[], Any]) -> None:
    global _blas_users, _blas_limit
    with _blas_lock:
        if _blas_users == 0:
            _blas_limit = limit()
        _blas_users += 1


def _leave_blas() -> None:
    global _blas_users, _blas_limit
    with _blas_lock:
        _blas_users -= 1
        if _blas_users == 0:
            _blas_limit.restore_original_limits()
            _blas_limit = None
