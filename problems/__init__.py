"""Named problems that know their optimum, for tests, benchmarks and documentation.

>>> import problems
>>> rosenbrock = problems.get("rosenbrock")
>>> rosenbrock.optimum
0.0
>>> "powell-singular" in problems.names(kind="classical")
True
"""

from __future__ import annotations

from difflib import get_close_matches

from problems import bundle_adjustment, classical, nist, pose_graphs
from problems.base import NamedProblem, data_path

__all__ = ["NamedProblem", "data_path", "get", "names"]

_REGISTRY: dict[str, NamedProblem] = {
    problem.name: problem for module in (bundle_adjustment, pose_graphs, classical, nist) for problem in module.PROBLEMS
}


def names(kind: str | None = None) -> list[str]:
    """Names of all problems, or of those of one kind."""
    return [name for name, problem in _REGISTRY.items() if kind is None or problem.kind == kind]


def get(name: str) -> NamedProblem:
    """The problem of that name; KeyError, with what comes close, where there is none."""
    if name not in _REGISTRY:
        close = get_close_matches(name, _REGISTRY, n=3)
        raise KeyError(f"no problem {name!r}" + (f"; did you mean {' or '.join(close)}?" if close else ""))
    return _REGISTRY[name]
