"""Two Jacobians of the same blocks, compared entry by entry."""

from __future__ import annotations

import numpy as np

from sparselm.residuals.base import Array

# An entry this much smaller than the largest of its column in its block carries that one's rounding.
_SMALL = 1e-6


def compare_jacobians(given: Array, expected: Array, errors: Array | float) -> Array:
    r"""Relative error of each entry of Jacobians ``(n, dim, width)``, of the same shape.

    \|J − E\| / max(\|J\|, \|E\|, 10⁻⁶ c), with c the largest number of the entry's column of its block: an entry that is
    small beside its column carries the rounding of the column. It is 0 where J and E differ by no more than ``errors``,
    what E may be off by; NaN where E is, which says nothing; ∞ where J is not finite though E is.
    """
    with np.errstate(all="ignore"):
        size = np.fmax(np.abs(given), np.abs(expected))
        size = np.maximum(size, _SMALL * np.max(size, axis=1, keepdims=True))
        difference = np.abs(given - expected)
        relative = np.where(difference <= errors, 0.0, difference / size)
    relative[~np.isfinite(given)] = np.inf
    relative[~np.isfinite(expected)] = np.nan
    return relative
