"""Derivatives of the functions of ``math``, as formulas.

Where f has no derivative a one-sided or infinite one is given: |x| has that of the right-hand side at 0, √x has +∞ there.
Nothing of the compiler's is imported here, since machine code that is loaded from disk refers to this module.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from sparselm._jit import scalar


@scalar
def _digamma(x):
    """ψ(x) = d log Γ(x)/dx: recurrence up to x ≥ 10, then the asymptotic series; reflection below ½.

    References
    ----------
    M. Abramowitz, I. Stegun, "Handbook of Mathematical Functions", 6.3.5, 6.3.7 and 6.3.18.
    """
    reflected = 0.0
    if x < 0.5:
        reflected = -math.pi / math.tan(math.pi * x)
        x = 1.0 - x
    shifted = 0.0
    while x < 10.0:
        shifted -= 1.0 / x
        x += 1.0
    s = 1.0 / (x * x)
    series = 1.0 / 252.0 - s * (1.0 / 240.0 - s * (1.0 / 132.0 - s * (691.0 / 32760.0)))
    series = s * (1.0 / 12.0 - s * (1.0 / 120.0 - s * series))
    return reflected + shifted + math.log(x) - 0.5 / x - series


# d f(x)/dx as a function of x and v = f(x).
DERIVATIVES: dict[Any, Callable[..., float]] = {
    math.sqrt: lambda x, v: 0.5 / v,
    math.exp: lambda x, v: v,
    math.expm1: lambda x, v: v + 1.0,
    math.log: lambda x, v: 1.0 / x,
    math.log2: lambda x, v: 1.4426950408889634 / x,
    math.log10: lambda x, v: 0.4342944819032518 / x,
    math.log1p: lambda x, v: 1.0 / (1.0 + x),
    math.sin: lambda x, v: math.cos(x),
    math.cos: lambda x, v: -math.sin(x),
    math.tan: lambda x, v: 1.0 + v * v,
    math.asin: lambda x, v: 1.0 / math.sqrt((1.0 - x) * (1.0 + x)),
    math.acos: lambda x, v: -1.0 / math.sqrt((1.0 - x) * (1.0 + x)),
    math.atan: lambda x, v: 1.0 / (1.0 + x * x),
    math.sinh: lambda x, v: math.cosh(x),
    math.cosh: lambda x, v: math.sinh(x),
    math.tanh: lambda x, v: 1.0 / math.cosh(x) ** 2,
    math.asinh: lambda x, v: 1.0 / math.hypot(x, 1.0),
    math.acosh: lambda x, v: 1.0 / math.sqrt((x - 1.0) * (x + 1.0)),
    math.atanh: lambda x, v: 1.0 / ((1.0 - x) * (1.0 + x)),
    math.erf: lambda x, v: 1.1283791670955126 * math.exp(-x * x),
    math.erfc: lambda x, v: -1.1283791670955126 * math.exp(-x * x),
    math.fabs: lambda x, v: math.copysign(1.0, x),
    math.degrees: lambda x, v: 57.29577951308232,
    math.radians: lambda x, v: 0.017453292519943295,
    abs: lambda x, v: math.copysign(1.0, x),
    math.lgamma: lambda x, v: _digamma(x),
    math.gamma: lambda x, v: v * _digamma(x),
}

# ∂f(x, y)/∂x and ∂f(x, y)/∂y as functions of x, y and v = f(x, y).
TWO_DERIVATIVES: dict[Any, tuple[Callable[..., float], Callable[..., float]]] = {
    math.atan2: (lambda y, x, v: x / (x * x + y * y), lambda y, x, v: -y / (x * x + y * y)),
    math.hypot: (lambda x, y, v: x / v, lambda x, y, v: y / v),
    math.copysign: (lambda x, y, v: math.copysign(1.0, x) * math.copysign(1.0, y), lambda x, y, v: 0.0),
    # v = x − y·⌊x/y⌋ with the whole number that v was made with, which x/y may miss by rounding
    operator.mod: (lambda x, y, v: 1.0, lambda x, y, v: -np.rint((x - v) / y)),
}


def _power_base(x, y, v):
    """∂xʸ/∂x; 0 for x⁰, also at x = 0."""
    return y * x ** (y - 1.0) if y != 0.0 else 0.0


def _power_exponent(x, y, v):
    """∂xʸ/∂y; 0 at x = 0, where xʸ is 0 for all y > 0."""
    return v * math.log(x) if x != 0.0 or y < 0.0 else 0.0


TWO_DERIVATIVES[math.pow] = TWO_DERIVATIVES[operator.pow] = (_power_base, _power_exponent)
