"""The spaces variables live in: what a step does to a point, and its inverse.

One file a manifold; :mod:`sparselm.manifolds.base` says what a manifold is.
"""

from sparselm.manifolds.base import AbstractManifold
from sparselm.manifolds.euclidean import Euclidean
from sparselm.manifolds.product import Product
from sparselm.manifolds.se2 import SE2
from sparselm.manifolds.se3 import SE3
from sparselm.manifolds.so2 import SO2
from sparselm.manifolds.so3 import SO3
from sparselm.manifolds.sphere import Sphere

__all__ = ["SE2", "SE3", "SO2", "SO3", "AbstractManifold", "Euclidean", "Product", "Sphere"]
