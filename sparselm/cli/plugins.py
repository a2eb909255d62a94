"""``sparselm plugins``: what can be chosen by name, and where it comes from."""

from __future__ import annotations

import argparse

from sparselm import plugins
from sparselm.cli.arguments import ExitStatus
from sparselm.cli.console import Console

_HOW = {
    "residuals": "--residual NAME",
    "losses": "--loss NAME[:SCALE]",
    "damping": "--damping NAME",
    "linear_solvers": "--linear-solver NAME",
    "preconditioners": "--linear-solver schur-pcg --set solver.preconditioner=NAME",
}


def run(arguments: argparse.Namespace) -> int:
    """The command; returns the exit status."""
    console = Console()
    for kind in plugins.KINDS:
        console.say(f"{kind.replace('_', ' ')}{f'  ({_HOW[kind]})' if kind in _HOW else ''}")
        for name in plugins.names(kind):
            console.say(f"  {name:<20}  {plugins.distribution(kind, name)}")
    console.say("\nA package adds names by entry points in the groups sparselm.residuals, sparselm.damping and so on.")
    console.close()
    return ExitStatus.USABLE
