"""What a named problem is, and where data files are found."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

import sparselm as slm

Array = npt.NDArray[np.float64]

#: Folder with the public data sets, in sub-folders ``bal``, ``g2o`` and ``nist``.
DATA_VARIABLE = "SPARSELM_DATA"

_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class NamedProblem:
    """A problem whose optimum is known.

    Attributes
    ----------
    name, kind : str
        ``kind`` is one of "bundle-adjustment", "pose-graph", "classical", "nist".
    build : callable
        Makes the :class:`sparselm.Problem`, at its start; of kind "classical", ``build(scale=10.0)`` at a multiple of it.
        Compiles the residual functions where that has not been done.
    optimum : float, optional
        ½ Σ ρ(‖r‖²) at the minimum that the start leads to; None where nobody has computed it.
    tolerance : float
        How exactly ``optimum`` is known and has to be met: relative to it, absolute where it is 0.
    needs_data : str, optional
        Data file below ``$SPARSELM_DATA``.
    options : mapping
        Arguments of :func:`sparselm.solve` under which the optimum is met: tolerances, since the defaults stop a little
        earlier, and for the small ill-conditioned problems :class:`sparselm.More` damping.
    source : str
        Where the optimum comes from.
    caveat : str
        Why the default damping does not reach the optimum, even with the tolerances of ``options``; empty where it does.
    certified : callable, optional
        Reads the parameters at the minimum, where they are published.
    """

    name: str
    kind: str
    build: Callable[..., slm.Problem]
    optimum: float | None
    tolerance: float = 1e-6
    needs_data: str | None = None
    options: Mapping[str, Any] = field(default_factory=lambda: _NO_OPTIONS)
    source: str = ""
    caveat: str = ""
    certified: Callable[[], Array] | None = None

    def why_unavailable(self) -> str | None:
        """A reason to skip the problem, or None where it can be built."""
        if self.needs_data is None or data_path(self.needs_data) is not None:
            return None
        return f"{self.name} needs {self.needs_data} below the folder that ${DATA_VARIABLE} names"

    def is_optimal(self, cost: float) -> bool:
        """Whether a cost is the optimum, within the tolerance (a cost below it means another problem was solved)."""
        if self.optimum is None:
            raise ValueError(f"the optimum of {self.name} is not known")
        return abs(cost - self.optimum) <= self.tolerance * (self.optimum or 1.0)


def data_path(relative: str) -> Path | None:
    """A data file, or None where ``$SPARSELM_DATA`` is not set or has no such file."""
    folder = os.environ.get(DATA_VARIABLE)
    if not folder:
        return None
    path = Path(folder) / relative
    return path if path.is_file() else None


def require_data(relative: str) -> Path:
    """A data file; FileNotFoundError where it is missing."""
    path = data_path(relative)
    if path is None:
        raise FileNotFoundError(f"{relative} not found: set ${DATA_VARIABLE} to the folder that holds it")
    return path
