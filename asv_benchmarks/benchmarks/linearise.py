"""Residuals, Jacobians, gradient and diag JᵀJ; trial costs; and the symbolic work."""

import numpy as np

from sparselm.structure import Structure

from .common import _WithProblem

_PROBLEMS = ["street-49", "street-200", "bal-ladybug-49", "bal-ladybug-49-front", "grid-3500", "sphere-2500"]


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
        super().setup(name)
        self.u = np.zeros(self.structure.num_rows)
        self.v = np.ones(self.structure.num_columns)
