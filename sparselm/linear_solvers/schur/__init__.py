"""Linear solvers that eliminate unconnected variable blocks, such as points, and solve the Schur complement of the rest.

``choice.py`` tells what is eliminated, ``partition.py`` how residual blocks couple that with the rest, ``elimination.py`` does
it, ``complement.py`` and ``reduced_matrix.py`` form the Schur complement, and the solvers solve it.
"""

from sparselm.linear_solvers.schur.cholesky import SchurCholesky

__all__ = ["SchurCholesky"]
