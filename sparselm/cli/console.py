"""What a command says while it runs: progress on the output stream, warnings as single lines on the error stream."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TextIO

from sparselm.errors import FileWarning
from sparselm.report.progress import LogLines


@dataclass
class Console:
    """Prints unless it is quiet, and remembers the warnings that were given.

    An output stream that fails must not end a solve: it is noted, and told by :meth:`close` when the work is done.
    """

    quiet: bool = False
    warnings: list[str] = field(default_factory=list)
    failure: OSError | None = None

    def say(self, text: str = "") -> None:
        """A line on the output stream."""
        if self.quiet or self.failure is not None:
            return
        try:
            print(text, flush=True)
        except OSError as error:
            self.failure = error
            disconnect(sys.stdout)

    def close(self) -> None:
        """Raise what kept lines from being printed, unless the reader (head, less) had simply seen enough."""
        if self.failure is not None and not isinstance(self.failure, BrokenPipeError):
            raise OSError(self.failure.errno, self.failure.strerror, "standard output")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Show the package's log, and Python's warnings in our own form, during the body."""
        logger = logging.getLogger("sparselm")
        handler = logging.NullHandler() if self.quiet else LogLines(sys.stdout)
        level = logger.level
        logger.addHandler(handler)
        if not self.quiet:
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


def disconnect(stream: TextIO) -> None:
    """Let what is still buffered go nowhere, so that the interpreter does not fail on it when it ends."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
