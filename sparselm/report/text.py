"""A result on one screen."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparselm.result import Result

_WIDTH = 104
_INDENT = 14

# Residual blocks named: the worst few tell outliers from a bad model.
_NUM_WORST = 3


def format_result(result: Result) -> str:
    """The report: how it ended, what was solved and how, where cost and time are, what to do next."""
    head = "usable solution" if result.success else "NO usable solution"
    lines = [f"{head}: {result.status.message}", ""]
    for label, texts in (
        ("cost", _cost(result)),
        ("gradient", [f"{result.gradient_max_norm:.3e} (largest component{_projected(result)})"]),
        ("iterations", [_iterations(result)]),
        ("problem", [_problem(result)]),
        ("bounds", _bounds(result)),
        ("solver", [f"{result.linear_solver} ({result.linear_solver_reason})", result.linear_solver_facts]),
        ("damping", [f"{result.damping};  {_plural(result.num_threads, 'thread')}"]),
        ("time", _times(result)),
        ("worst blocks", _worst(result)),
        ("notes", _remarks(result)),
        ("next", [result.status.remedy]),
    ):
        lines += labelled(label, texts)
    return "\n".join(lines)


def labelled(label: str, texts: list[str]) -> list[str]:
    """Lines with a label in the margin of the first; long texts are wrapped, empty ones left out."""
    wrapped = [line for text in texts if text for line in textwrap.wrap(text, _WIDTH - _INDENT, break_on_hyphens=False)]
    margin = f"  {label}"
    return [f"{margin if i == 0 else '':<{_INDENT}}  {line}" for i, line in enumerate(wrapped)]


def _cost(result: Result) -> list[str]:
    change = ""
    if result.initial_cost > 0.0:
        ratio = result.final_cost / result.initial_cost
        change = f", {100.0 * (1.0 - ratio):.4g} % less" if ratio < 1.0 else ", no less"
    texts = [f"{result.initial_cost:.9e} → {result.final_cost:.9e}   (½ Σ ρ(‖r‖²){change})"]
    if len(result.group_costs) > 1:
        texts.append("of which " + ", ".join(f"{name} {cost:.6e}" for name, cost in result.group_costs.items()))
    return texts


def _iterations(result: Result) -> str:
    text = f"{result.num_iterations}: {result.num_accepted} accepted, {result.num_rejected} rejected"
    if result.num_invalid:
        text += f", {result.num_invalid} invalid"
    if result.inner_iterations is not None:
        text += f"; {result.inner_iterations:,} inner iterations of the linear solver"
    return text


def _problem(result: Result) -> str:
    sizes = result.sizes
    return (
        f"{_plural(sizes.num_residual_blocks, 'residual block')} ({_plural(sizes.num_residuals, 'residual')}), "
        f"{_plural(sizes.num_variable_blocks, 'variable block')} ({_plural(sizes.num_parameters, 'parameter')})"
    )


def _projected(result: Result) -> str:
    return " of x − P(x − g), with P the projection into the bounds" if result.sizes.num_bounded_parameters else ""


def _bounds(result: Result) -> list[str]:
    bounded = result.sizes.num_bounded_parameters
    return [f"{result.num_at_bounds:,} of {_plural(bounded, 'bounded parameter')} at a bound"] if bounded else []


def _times(result: Result) -> list[str]:
    times = result.times
    phases = ("read", "analyze", "linearize", "linear_solve", "evaluate", "other")
    named = [(phase.replace("_", " "), getattr(times, phase)) for phase in phases]
    shares = ", ".join(f"{name} {seconds:.3g}" for name, seconds in named if seconds or name != "read")
    texts = [f"{times.total:.3g} s: {shares}"]
    apart = (("compiling kernels", times.compile), ("loading kernels", times.load))
    told = [f"{name} {seconds:.2f} s" for name, seconds in apart if seconds >= 0.005]
    return [*texts, f"apart from that: {', '.join(told)}"] if told else texts


def _worst(result: Result) -> list[str]:
    return [f"{b.group} {b.block}: {b.cost:.4g} ({b.operands})" for b in result.worst_blocks[:_NUM_WORST]]


def _remarks(result: Result) -> list[str]:
    return [
        f"{text}: {result.initial_remarks.get(text, 0):,} at the start, {result.remarks.get(text, 0):,} at the end"
        for text in {**result.initial_remarks, **result.remarks}
    ]


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
