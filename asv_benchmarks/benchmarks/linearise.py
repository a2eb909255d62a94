"""Residuals, Jacobians, gradient and diag JᵀJ; trial costs; and the symbolic work."""

import numpy as np

from sparselm.datasets import street
from sparselm.io import bal
from sparselm.structure import Structure

from .common import SNAVELY, _WithProblem, named_problem

_PROBLEMS = ["street-49", "street-200", "bal-ladybug-49", "bal-ladybug-49-front", "grid-3500", "sphere-2500"]


class LineariseResidual(_WithProblem):
    """Snavely's camera as a built-in kernel, as a user's function, and as one with prepared rotations."""

    params = [["built-in", "function", "prepared"]]
    param_names = ["residual"]

    def setup(self, residual):
        self.bind(bal.to_problem(street(49, 7776, seed=49).data, SNAVELY[residual]))

    def time_linearise(self, residual):
        """r, J, g = Jᵀr, diag JᵀJ and the cost."""
        self.evaluator.linearize()

    def time_trial_cost(self, residual):
        """The cost at another point."""
        self.evaluator.trial_cost()


class Linearise(_WithProblem):
    """One evaluation each."""

    params = [_PROBLEMS]
    param_names = ["problem"]

    def time_linearise(self, name):
        """r, J, g = Jᵀr, diag JᵀJ and the cost."""
        self.evaluator.linearize()

    def time_trial_cost(self, name):
        """The cost at another point."""
        self.evaluator.trial_cost()

    def time_jacobian_vector_products(self, name):
        """J v and Jᵀ u."""
        linearization = self.evaluator.linearization
        linearization.jvp(self.v, self.u)
        linearization.vjp(self.u, self.v)

    def time_structure(self, name):
        """Columns, spans and the gathers that sums need."""
        structure = Structure(self.problem)
        for span in structure.spans:
            for operand in span.operands:
                _ = operand.gather

    def peakmem_linearise(self, name):
        self.evaluator.linearize()

    def setup(self, name):
        self.bind(named_problem(name).build())
        self.u = np.zeros(self.structure.num_rows)
        self.v = np.ones(self.structure.num_columns)
