"""Damping strategies: how a step is chosen from the quadratic model, and how that adapts."""

from sparselm.damping.base import AbstractDamping
from sparselm.damping.fixed import Fixed
from sparselm.damping.marquardt import Marquardt
from sparselm.damping.more import More
from sparselm.damping.nielsen import Nielsen

__all__ = ["AbstractDamping", "Fixed", "Marquardt", "More", "Nielsen"]
