"""Checks of a plug-in against the contract of its kind, for this package's own tests and for authors of plug-ins.

Each raises AssertionError with a message that says what does not hold and where.
"""

from sparselm.testing.damping import check_damping
from sparselm.testing.linear_solvers import check_linear_solver
from sparselm.testing.losses import check_loss
from sparselm.testing.manifolds import check_manifold
from sparselm.testing.preconditioners import check_preconditioner
from sparselm.testing.residuals import check_residual

__all__ = [
    "check_damping",
    "check_linear_solver",
    "check_loss",
    "check_manifold",
    "check_preconditioner",
    "check_residual",
]
