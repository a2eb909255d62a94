"""The report of a solve as JSON: every number finite or null, and a file that appears whole or not at all."""

from __future__ import annotations

import json
import math
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sparselm import __version__
from sparselm.io.text import PathLike, replacing
from sparselm.plugins import registered_name
from sparselm.result import Result

#: Raised when a key changes its meaning or goes; new keys may come without.
FORMAT_VERSION = 1

# Packages whose version explains numbers; those that were not loaded had no part in the solve.
_PACKAGES = ("numpy", "scipy", "numba", "sksparse")


def describe_result(result: Result) -> dict[str, Any]:
    """A result as a dictionary of what JSON can hold, without the values of the variables.

    Times are in seconds; ``compile`` and ``load`` (machine code of kernels) are apart from all others, which add up to
    ``total``. Iteration 0 is the start.
    """
    content: dict[str, Any] = _finite(
        {
            "format_version": FORMAT_VERSION,
            "status": result.status.value,
            "message": result.status.message,
            "remedy": result.status.remedy,
            "success": result.success,
            "converged": result.status.converged,
            "initial_cost": result.initial_cost,
            "final_cost": result.final_cost,
            "gradient_max_norm": result.gradient_max_norm,
            "num_at_bounds": result.num_at_bounds,
            "num_iterations": result.num_iterations,
            "num_accepted": result.num_accepted,
            "num_rejected": result.num_rejected,
            "num_invalid": result.num_invalid,
            "inner_iterations": result.inner_iterations,
            **asdict(result.sizes),
            "linear_solver": registered_name("linear_solvers", result.linear_solver),
            "linear_solver_reason": result.linear_solver_reason,
            "linear_solver_facts": result.linear_solver_facts,
            "factor_nonzeros": result.factor_nonzeros,
            "damping_strategy": registered_name("damping", result.damping),
            "num_threads": result.num_threads,
            "peak_memory_bytes": peak_memory_bytes(),
            "time": asdict(result.times),
            "group_costs": dict(result.group_costs),
            "worst_blocks": [asdict(block) for block in result.worst_blocks],
            "initial_remarks": dict(result.initial_remarks),
            "remarks": dict(result.remarks),
            "versions": _versions(),
            "iterations": [asdict(item) for item in result.iterations],
        }
    )
    return content


def write_json(path: PathLike, content: Mapping[str, Any]) -> None:
    """Write a dictionary as JSON, atomically; what is not finite becomes null.

    Raises
    ------
    OSError
        Where the system refuses.
    """
    text = json.dumps(_finite(content), indent=2, allow_nan=False, ensure_ascii=False)
    with replacing(path) as file:
        file.write(text.encode())
        file.write(b"\n")


def peak_memory_bytes() -> int | None:
    """The largest resident memory of this process so far; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024  # bytes on macOS, KiB elsewhere


def _versions() -> dict[str, str]:
    loaded = {name: getattr(sys.modules.get(name), "__version__", None) for name in _PACKAGES}
    return {"sparselm": __version__, "python": platform.python_version()} | {
        name: str(version) for name, version in loaded.items() if version is not None
    }


def _finite(content: Any) -> Any:
    """The same with numbers of NumPy as Python's, and null for those that are not finite."""
    if isinstance(content, Mapping):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    if hasattr(content, "item"):
        content = content.item()
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
