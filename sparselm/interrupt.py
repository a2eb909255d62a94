"""Ctrl-C that ends a solve with its best iterate instead of losing it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C was pressed; a second press raises KeyboardInterrupt at once.

    A press that nobody asked about any more is delivered at the end.

    Only in the main thread, and only where Ctrl-C would raise: a program's own handler is left alone.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    pressed = False
    noticed = False

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    def was_pressed() -> bool:
        nonlocal noticed
        noticed = pressed
        return pressed

    signal.signal(signal.SIGINT, handle)
    try:
        yield was_pressed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed and not noticed:
        raise KeyboardInterrupt
