"""Robust losses: how the squared norm of a residual block enters the cost.

=====================  =============================  ==========================================================
loss                   grows like                     use
=====================  =============================  ==========================================================
``Trivial``            ‖r‖²                           Gaussian residuals, no mistakes
``Huber``, ``SoftL1``  ‖r‖                            some mistakes, uncertain start: convex, no new local minima
``Cauchy``             log ‖r‖                        many mistakes
``Arctan``, ``Tukey``, bounded                        gross mistakes, good start
``GemanMcClure``,
``Welsch``
``Tolerant``           0, then ‖r‖²                   a tolerance within which errors do not matter
``Scaled``             the given loss, times a weight groups that count more or less
``Composed``           the outer of the inner         combinations of these
=====================  =============================  ==========================================================
"""

from sparselm.losses.arctan import Arctan
from sparselm.losses.base import AbstractLoss
from sparselm.losses.cauchy import Cauchy
from sparselm.losses.composed import Composed
from sparselm.losses.geman_mcclure import GemanMcClure
from sparselm.losses.huber import Huber
from sparselm.losses.scaled import Scaled
from sparselm.losses.soft_l1 import SoftL1
from sparselm.losses.tolerant import Tolerant
from sparselm.losses.trivial import Trivial
from sparselm.losses.tukey import Tukey
from sparselm.losses.welsch import Welsch

__all__ = [
    "AbstractLoss",
    "Arctan",
    "Cauchy",
    "Composed",
    "GemanMcClure",
    "Huber",
    "Scaled",
    "SoftL1",
    "Tolerant",
    "Trivial",
    "Tukey",
    "Welsch",
]
