"""The verbs of the linear solvers: analyse once, prepare per point, factorise per damping, solve per right-hand side."""

import numpy as np

from .common import SOLVERS, _WithProblem, linear_solver, named_problem

_PROBLEMS = ["street-49", "street-200", "bal-ladybug-49", "grid-3500", "sphere-2500"]


class LinearSolver(_WithProblem):
    """At the start of each problem, with the damping that the default strategy begins with."""

    params = [_PROBLEMS, [*SOLVERS, "block-cholesky", "schur-cholesky", "schur-pcg"]]
    param_names = ["problem", "linear_solver"]
    number = 1

    def setup(self, name, solver):
        self.solver = linear_solver(solver)
        self.bind(named_problem(name).build())
        linearization = self.evaluator.linearization
        self.damping = np.maximum(1e-4 * linearization.diagonal, 1e-10)
        self.rhs = -linearization.gradient
        self.delta = np.zeros_like(self.rhs)
        self.plan = self.solver.analyze(self.structure)
        self.system = self.solver.prepare(self.plan, linearization)
        self.factor = self.solver.factorize(self.system, self.damping)
        self.solver.solve(self.factor, self.rhs, self.delta)

    def time_analyze(self, name, solver):
        self.solver.analyze(self.structure)

    def time_prepare(self, name, solver):
        self.solver.prepare(self.plan, self.evaluator.linearization)

    def time_factorize(self, name, solver):
        self.solver.factorize(self.system, self.damping)

    def time_solve(self, name, solver):
        self.solver.solve(self.factor, self.rhs, self.delta)

    def track_factor_nonzeros(self, name, solver):
        return self.solver.solve(self.factor, self.rhs, self.delta).factor_nonzeros or 0

    track_factor_nonzeros.unit = "non-zeros"
