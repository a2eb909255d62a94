"""Which linear solver a problem gets when its user names none, and why."""

from __future__ import annotations

from sparselm.linear_solvers.base import AbstractLinearSolver
from sparselm.linear_solvers.cholmod import Cholmod
from sparselm.structure import Structure


def choose_linear_solver(structure: Structure) -> tuple[AbstractLinearSolver, str]:
    """The linear solver for a problem, and one sentence that says why."""
    return Cholmod(), f"sparse Cholesky for {structure.num_columns} columns"
