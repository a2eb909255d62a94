"""A result on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparselm.result import Result


def format_result(result: Result) -> str:
    """The report: how it ended, what was solved and how, where the cost and the time are."""
    times, sizes = result.times, result.sizes
    change = result.initial_cost - result.final_cost
    lines = [
        f"{'usable' if result.success else 'NOT usable'}: {result.message}",
        "",
        f"  cost        {result.initial_cost:.6e} → {result.final_cost:.9e}   (½ Σ ρ(‖r‖²); change {change:.6e})",
        f"  gradient    {result.gradient_max_norm:.3e} (largest component)",
        f"  iterations  {result.num_iterations}: {result.num_accepted} accepted, {result.num_rejected} rejected, "
        f"{result.num_invalid} invalid"
        + (f"; {result.inner_iterations} inner iterations" if result.inner_iterations is not None else ""),
        f"  problem     {sizes.num_residual_blocks:,} residual blocks ({sizes.num_residuals:,} residuals), "
        f"{sizes.num_variable_blocks:,} free variable blocks ({sizes.num_parameters:,} parameters)",
        f"  solver      {result.linear_solver}: {result.linear_solver_reason}",
    ]
    if result.linear_solver_facts:
        lines.append(f"              {result.linear_solver_facts}")
    lines.append(f"  damping     {result.damping};  threads {result.num_threads}")
    lines.append(
        f"  time        {times.total:.3f} s = analyze {times.analyze:.3f} + linearize {times.linearize:.3f} + linear "
        f"solve {times.linear_solve:.3f} + evaluate {times.evaluate:.3f}"
        + (f" + read {times.read:.3f}" if times.read else "")
        + f" + other {times.other:.3f}"
    )
    if times.compile + times.load > 0.0005:
        lines.append(f"              apart from that: compiling {times.compile:.2f} s, loading kernels {times.load:.2f} s")
    if result.group_costs:
        shares = ", ".join(f"{name} {cost:.6e}" for name, cost in result.group_costs.items())
        lines.append(f"  cost by group  {shares}")
    for position, block in enumerate(result.worst_blocks[:3]):
        label = "  worst blocks  " if position == 0 else "                "
        lines.append(f"{label} {block.group} {block.block}: {block.cost:.4g} ({block.operands})")
    for text in {**result.initial_remarks, **result.remarks}:
        before, after = result.initial_remarks.get(text, 0), result.remarks.get(text, 0)
        lines.append(f"  note        {text}: {before} at the start, {after} at the end")
    return "\n".join(lines)
