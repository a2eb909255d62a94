"""Block Cholesky on matrices: analysis, numeric factorisation and solution, and how large the factor gets."""

import numpy as np

from .common import _Benchmark, named_problem
from .matrices import block_matrix, normal_matrix, reduced_camera_matrix

try:
    from sparselm.linear_solvers.block_cholesky import analyze
except ImportError:  # a commit from before it
    analyze = None

# Small problems whose matrices have every block size of the large ones.
_WARM_UP = ["grid-100", "sphere-180", "street-8"]


class BlockCholesky(_Benchmark):
    """With the damping that Levenberg–Marquardt begins with."""

    params = [["intel", "M3500", "parking-garage", "sphere2500", "grid-3500", "ladybug-49-full", "street-200-reduced"]]
    param_names = ["matrix"]
    number = 1

    def setup_cache(self):
        """Compile every kernel and leave it on disk for the measured processes to load."""
        if analyze is None:
            return
        for name in _WARM_UP:
            lower, sizes = normal_matrix(named_problem(name).build())
            matrices = [(lower, sizes)]
            if len(set(sizes.tolist())) > 1:
                matrices.append(reduced_camera_matrix(lower, sizes))
            for A, own in matrices:
                factor = analyze(A, own).factorize(A)
                factor.refactorize(A)
                factor.solve(np.ones(A.shape[0]))

    def setup(self, name):
        if analyze is None:
            raise NotImplementedError("this commit has no block Cholesky")
        matrix = block_matrix(name)
        self.lower, self.sizes = matrix.lower, matrix.sizes
        self.analysis = analyze(self.lower, self.sizes)
        self.factor = self.analysis.factorize(self.lower)
        self.factor.refactorize(self.lower)
        self.rhs = np.ones(self.lower.shape[0])
        self.factor.solve(self.rhs)

    def time_analyze(self, name):
        """The symbolic factorisation, ordering included."""
        analyze(self.lower, self.sizes)

    def time_refactorize(self, name):
        """The numeric factorisation into the same storage."""
        self.factor.refactorize(self.lower)

    def time_solve(self, name):
        """One right-hand side."""
        self.factor.solve(self.rhs)

    def track_nonzeros(self, name):
        """Non-zeros of L."""
        return self.analysis.nonzeros

    track_nonzeros.unit = "non-zeros"

    def track_flops(self, name):
        """Predicted operations of the numeric factorisation."""
        return self.analysis.flops

    track_flops.unit = "operations"
