"""What happens to a block's residual and Jacobian after the user's function: whitening, the loss, and rounding."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from sparselm._jit import TASK, kernel, num_lanes


@kernel
def scale_blocks(weights, r, J):
    """r, J ← w r, w J with a number w for each block, or one for all; weights ``(n | 1,)``."""
    num_blocks, dim, width = J.shape
    for task in prange((num_blocks + TASK - 1) // TASK):
        for b in range(task * TASK, min(num_blocks, (task + 1) * TASK)):
            weight = weights[b if weights.shape[0] > 1 else 0]
            for i in range(dim):
                r[b, i] *= weight
                for c in range(width):
                    J[b, i, c] *= weight


@kernel
def whiten_blocks(W, r, J):
    """r, J ← W r, W J with a matrix for each block, or one for all; W ``(n | 1, dim, dim)``."""
    num_blocks, dim, width = J.shape
    lanes = num_lanes(num_blocks, TASK)
    for lane in prange(lanes):
        old_r = np.empty(dim)
        old_J = np.empty((dim, width))
        for b in range(lane * num_blocks // lanes, (lane + 1) * num_blocks // lanes):
            w = b if W.shape[0] > 1 else 0
            for i in range(dim):
                old_r[i] = r[b, i]
                for c in range(width):
                    old_J[i, c] = J[b, i, c]
            for i in range(dim):
                total = 0.0
                for c in range(width):
                    J[b, i, c] = 0.0
                for k in range(dim):
                    factor = W[w, i, k]
                    if factor != 0.0:
                        total += factor * old_r[k]
                        for c in range(width):
                            J[b, i, c] += factor * old_J[k, c]
                r[b, i] = total


@kernel
def squared_norms(r, s):
    """s ← ‖r‖² of each block."""
    num_blocks, dim = r.shape
    for task in prange((num_blocks + TASK - 1) // TASK):
        for b in range(task * TASK, min(num_blocks, (task + 1) * TASK)):
            total = 0.0
            for i in range(dim):
                total += r[b, i] * r[b, i]
            s[b] = total


@kernel
def correct_for_loss(s, rho, r, J):
    """Triggs's correction, so that JᵀJ and Jᵀr are the Gauss–Newton matrix and the gradient of ½ρ(‖r‖²).

    With D = 1 + 2sρ″/ρ′ and α = 1 − √D where ρ″ > 0 (else α = 0): J ← √ρ′ (J − (α/s) r rᵀJ), r ← √ρ′/(1−α) r.

    References
    ----------
    Triggs, McLauchlan, Hartley, Fitzgibbon (1999), Bundle adjustment: a modern synthesis, §4.3, with the second-order
    term left out where it would lose positive definiteness.
    """
    num_blocks, dim, width = J.shape
    lanes = num_lanes(num_blocks, TASK)
    for lane in prange(lanes):
        projection = np.empty(width)
        for b in range(lane * num_blocks // lanes, (lane + 1) * num_blocks // lanes):
            root = math.sqrt(rho[b, 1])
            alpha = 0.0
            if s[b] > 0.0 and rho[b, 2] > 0.0 and rho[b, 1] > 0.0:
                alpha = 1.0 - math.sqrt(1.0 + 2.0 * s[b] * rho[b, 2] / rho[b, 1])
                for c in range(width):
                    projection[c] = 0.0
                for i in range(dim):
                    for c in range(width):
                        projection[c] += r[b, i] * J[b, i, c]
                for i in range(dim):
                    for c in range(width):
                        J[b, i, c] -= alpha / s[b] * r[b, i] * projection[c]
            for i in range(dim):
                r[b, i] *= root / (1.0 - alpha)
                for c in range(width):
                    J[b, i, c] *= root


@kernel
def round_blocks(J, stored):
    """Copy J into another precision."""
    num_blocks, dim, width = J.shape
    for task in prange((num_blocks + TASK - 1) // TASK):
        for b in range(task * TASK, min(num_blocks, (task + 1) * TASK)):
            for i in range(dim):
                for c in range(width):
                    stored[b, i, c] = J[b, i, c]
