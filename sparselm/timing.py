"""Wall time by phase, with the time spent compiling or loading kernels taken out of every phase."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sparselm._jit import compile_clock


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds by phase. ``total`` is the sum of read … other; ``compile`` and ``load`` (kernels, from disk) are apart."""

    read: float
    analyze: float
    linearize: float
    linear_solve: float
    evaluate: float
    other: float
    total: float
    compile: float
    load: float


class PhaseClock:
    """Adds up wall time by phase from its making on."""

    def __init__(self) -> None:
        compile_clock.start()
        self._began = time.perf_counter()
        self._compile = compile_clock.compile_seconds
        self._load = compile_clock.load_seconds
        self._phases = {"analyze": 0.0, "linearize": 0.0, "linear_solve": 0.0, "evaluate": 0.0}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the body towards a phase; phases must not nest."""
        began, jit = time.perf_counter(), compile_clock.seconds
        try:
            yield
        finally:
            self._phases[name] += time.perf_counter() - began - (compile_clock.seconds - jit)

    def elapsed(self) -> float:
        """Seconds so far, compiling and loading taken out."""
        jit = compile_clock.seconds - self._compile - self._load
        return time.perf_counter() - self._began - jit

    def wall(self) -> float:
        """Seconds so far, all told."""
        return time.perf_counter() - self._began

    def times(self) -> Times:
        """What was counted so far."""
        total = self.elapsed()
        return Times(
            read=0.0,
            **self._phases,
            other=total - sum(self._phases.values()),
            total=total,
            compile=compile_clock.compile_seconds - self._compile,
            load=compile_clock.load_seconds - self._load,
        )
