"""Problem files as the commands see them: read with a clock, made into a problem, and written back with a solution."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sparselm.cli.arguments import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sparselm.io import BundleAdjustmentData, PoseGraph
    from sparselm.losses.base import AbstractLoss
    from sparselm.problem import Problem
    from sparselm.residuals.base import AbstractResidual, UnboundResidual

    Values = Mapping[str, npt.NDArray[np.float64]]

Start = Literal["file", "spanning-tree"]

DEFAULT_RESIDUALS = {"BAL": "snavely", "g2o": "between"}
_COMPRESSION = re.compile(r"\.(bz2|gz|xz)$")


@dataclass(frozen=True)
class ProblemFile:
    """What a file holds, and what it is."""

    path: str
    data: BundleAdjustmentData | PoseGraph

    @property
    def format(self) -> str:
        """Either "BAL" or "g2o"."""
        from sparselm.io import PoseGraph

        return "g2o" if isinstance(self.data, PoseGraph) else "BAL"

    def to_problem(
        self,
        residual: type[AbstractResidual] | UnboundResidual | None = None,
        start: Start = "file",
        loss: AbstractLoss | None = None,
    ) -> tuple[Problem, list[str]]:
        """The least squares problem, and notes on what was decided in making it."""
        from sparselm.io import PoseGraph, bal, pose_graph
        from sparselm.manifolds.euclidean import Euclidean

        if isinstance(self.data, PoseGraph):
            return pose_graph.to_problem(self.data, residual, start, loss)
        if start != "file":
            raise UsageError(f"--start {start} is for pose graphs; {self.path} holds bundle adjustment")
        instance = None
        if residual is not None:
            instance = residual.for_operands((Euclidean(bal.CAMERA_DIM), Euclidean(bal.POINT_DIM)))
        return bal.to_problem(self.data, instance, loss), []

    def write_solution(self, path: str, values: Values) -> None:
        """Write the same measurements with optimised values, in the same format."""
        from sparselm.io import PoseGraph, bal, pose_graph, write_bal, write_g2o

        if isinstance(self.data, PoseGraph):
            write_g2o(path, pose_graph.with_poses(self.data, values["pose"], values.get("landmark")))
        else:
            write_bal(path, bal.with_values(self.data, values["camera"], values["point"]))

    def check_output_name(self, path: str) -> None:
        """Raise UsageError where a name promises another format than the one that will be written."""
        check_name(path, self.format, f"the solution of a {self.format} file")


def check_name(path: str, format: str, what: str) -> None:
    """Raise UsageError where ``--output`` promises another format than "BAL" or "g2o", in which ``what`` is written."""
    suffix = Path(_COMPRESSION.sub("", path)).suffix.lower()
    if format == "BAL" and suffix == ".g2o":
        raise UsageError(f"--output {path}: {what} is a BAL file; name it .txt or .npz")
    if format == "g2o" and suffix == ".npz":
        raise UsageError(f"--output {path}: {what} is a g2o file; name it .g2o")
    if _COMPRESSION.search(path) and suffix == ".npz":
        raise UsageError(f"--output {path}: .npz is not compressed; leave out the last suffix")


class ReadClock:
    """Seconds of wall time, with compiling and loading kernels apart."""

    def __init__(self) -> None:
        from sparselm._jit import compile_clock

        compile_clock.start()
        self._jit = compile_clock
        self._began = time.perf_counter()
        self._compile, self._load = compile_clock.compile_seconds, compile_clock.load_seconds

    def stop(self) -> tuple[float, float, float]:
        """Seconds since the start, of compiling, and of loading; the first without the others."""
        compiling = self._jit.compile_seconds - self._compile
        loading = self._jit.load_seconds - self._load
        return time.perf_counter() - self._began - compiling - loading, compiling, loading


def read_file(path: str) -> ProblemFile:
    """Read a BAL or g2o file."""
    from sparselm.io import read

    return ProblemFile(path, read(path))


def check_writable(option: str, path: str) -> None:
    """Raise UsageError where a file could not be written; found out by writing beside it, for permissions can lie."""
    remedy = "name a file in a folder that can be written to"
    if not path:
        raise UsageError(f"{option}: the name is empty; {remedy}")
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise UsageError(f"{option} {path}: this is a folder, expected a file; {remedy}")
    if target.exists() and not target.is_file():  # a pipe or a terminal
        return
    if not target.parent.is_dir():
        raise UsageError(f"{option} {path}: the folder {target.parent} does not exist; create it")
    trial = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        trial.touch(exist_ok=False)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{option} {path}: cannot be written ({reason}); {remedy}") from error
    finally:
        with suppress(OSError, ValueError):
            trial.unlink()


def write_or_rescue(option: str, path: str, write: Callable[[str], Any]) -> str | None:
    """Write a file, elsewhere if it cannot be written where it should be; then return an error that says where."""
    try:
        write(path)
        return None
    except OSError as error:
        reason = f"{option} {path}: cannot be written ({error.strerror or error})"
    rescue = ""
    try:
        rescue = os.path.join(tempfile.mkdtemp(prefix="sparselm-"), os.path.basename(path))
        write(rescue)
    except OSError:
        if rescue:
            shutil.rmtree(os.path.dirname(rescue), ignore_errors=True)
        return f"{reason}, nor could it be kept in the folder for temporary files"
    return f"{reason}; it was kept as {rescue}"
