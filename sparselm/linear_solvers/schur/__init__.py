"""Linear solvers that eliminate unconnected variable blocks, such as points, and solve the Schur complement of the rest.

``choice.py`` tells what is eliminated, ``partition.py`` how residual blocks couple that with the rest, and
``elimination.py`` does it. The Schur complement of the rest is formed by blocks, which ``complement.py`` finds and
``reduced_matrix.py`` sums, for ``cholesky.py`` to factorise; or ``pcg.py`` solves with it by conjugate gradients, out of
products with these blocks (``explicit.py``) or with J (``implicit.py``).
"""

from sparselm.linear_solvers.schur.cholesky import SchurCholesky
from sparselm.linear_solvers.schur.pcg import SchurPCG

__all__ = ["SchurCholesky", "SchurPCG"]
