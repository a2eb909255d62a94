"""What a command says while it runs: progress on the output stream, warnings as single lines on the error stream."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from sparselm.errors import FileWarning
from sparselm.report.progress import LogLines


@dataclass
class Console:
    """Prints unless it is quiet, and remembers the warnings that were given."""

    quiet: bool = False
    warnings: list[str] = field(default_factory=list)

    def say(self, text: str = "") -> None:
        """A line on the output stream."""
        if not self.quiet:
            print(text, flush=True)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Show the package's log, and Python's warnings in our own form, during the body."""
        logger = logging.getLogger("sparselm")
        handler = LogLines(sys.stdout)
        level = logger.level
        if not self.quiet:
            logger.addHandler(handler)
            logger.setLevel(min(level, logging.INFO) if level else logging.INFO)
        try:
            with warnings.catch_warnings():
                if not sys.warnoptions:
                    warnings.simplefilter("ignore")
                    warnings.simplefilter("default", RuntimeWarning)
                    warnings.simplefilter("default", UserWarning)
                warnings.simplefilter("always", FileWarning)
                warnings.showwarning = self._show
                yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)

    def _show(self, message: Warning | str, *details: object, **more: object) -> None:
        line = " ".join(part.strip() for part in str(message).splitlines())
        self.warnings.append(line)
        if not self.quiet:
            with suppress(OSError, ValueError):
                print(f"warning: {line}", file=sys.stderr, flush=True)
