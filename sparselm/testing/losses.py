"""The contract of losses as a check."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sparselm.losses.base import AbstractLoss

FloatArray = npt.NDArray[np.float64]


def check_loss(loss: AbstractLoss) -> None:
    """Check a loss against the contract of :class:`~sparselm.losses.base.AbstractLoss`; AssertionError if it fails.

    Checked on s = 0 and s = 10⁻¹⁶ … 10³⁰⁰: ρ(0) = 0; all values finite, without floating-point warnings; ρ′ ≥ 0 and ρ
    not decreasing; ρ′ and ρ″ consistent with ρ; all of ``out`` written and ``s`` left alone; the same bits however the
    blocks are cut into batches; and a NaN stays visible.

    ρ′ and ρ″ are compared with difference quotients over short intervals [s, s(1 + 10⁻⁵)]. By the mean value theorem
    the quotient lies between the smallest and the largest derivative in the interval, also where ρ″ jumps, as Huber's
    does.

    Examples
    --------
    >>> from sparselm.losses import Huber
    >>> check_loss(Huber(2.0))
    """
    s = np.concatenate([[0.0], np.logspace(-16.0, 16.0, 641), np.logspace(17.0, 300.0, 284)])
    out = _rho(loss, s)
    _require(loss, bool(out[0, 0] == 0.0), f"rho(0) is {out[0, 0]}, expected 0")
    _require_everywhere(loss, s, np.isfinite(out).all(axis=1), "rho, rho' or rho'' is not finite")
    _require_everywhere(loss, s, out[:, 1] >= 0.0, "rho' is negative")
    slack = 4.0 * np.finfo(float).eps * np.abs(out[1:, 0])
    _require_everywhere(loss, s[1:], np.diff(out[:, 0]) >= -slack, "rho decreases")
    _check_derivatives(loss, s[(s > 0.0) & (s < 1e17)])
    _check_batches(loss)
    with_nan = _rho(loss, np.array([1.0, np.nan, 2.0]))
    _require(loss, bool(np.isnan(with_nan[1, 0])), f"rho(NaN) is {with_nan[1, 0]}, which hides an invalid block")
    _require(loss, bool(np.isfinite(with_nan[[0, 2]]).all()), "a NaN spoils the other blocks of its batch")


def _rho(loss: AbstractLoss, s: FloatArray) -> FloatArray:
    """Values of a loss, having checked that it writes every entry, leaves s alone and raises no warning."""
    given = s.copy()
    results = []
    for old in (0.5, -7.0):  # two different fills: an entry left unwritten shows
        out = np.full((len(s), 3), old)
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            loss.rho(s, out)
        results.append(out)
    _require(loss, np.array_equal(s, given, equal_nan=True), "rho changes its argument s")
    _require(loss, np.array_equal(results[0], results[1], equal_nan=True), "rho leaves entries of out unwritten")
    return results[0]


def _check_derivatives(loss: AbstractLoss, s: FloatArray) -> None:
    width = 1e-5
    nodes = s[:, None] * (1.0 + width * np.linspace(0.0, 1.0, 9))
    values = _rho(loss, nodes.ravel()).reshape(*nodes.shape, 3)
    step = nodes[:, -1] - nodes[:, 0]
    for order, name in ((1, "rho'"), (2, "rho''")):
        quotient = (values[:, -1, order - 1] - values[:, 0, order - 1]) / step
        low, high = values[:, :, order].min(axis=1), values[:, :, order].max(axis=1)
        # a few hundred units in the last place: differences such as s − a inside a loss amplify rounding
        rounding = 256.0 * np.finfo(float).eps * np.abs(values[:, :, order - 1]).max(axis=1) / step
        slack = 1e-8 * np.maximum(np.abs(low), np.abs(high)) + rounding
        inside = (low - slack <= quotient) & (quotient <= high + slack)
        _require_everywhere(loss, s, inside, f"{name} disagrees with the difference quotient")


def _check_batches(loss: AbstractLoss) -> None:
    rng = np.random.default_rng(0)
    s = 10.0 ** rng.uniform(-6.0, 6.0, 257)
    whole = _rho(loss, s)
    for size in (1, 2, 3, 8, 17, 100):
        pieces = [_rho(loss, s[start : start + size]) for start in range(0, len(s), size)]
        _require(
            loss, np.array_equal(np.concatenate(pieces), whole), f"batches of {size} give other bits than one of 257"
        )
    empty = np.empty((0, 3))
    loss.rho(np.empty(0), empty)


def _require(subject: object, condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(f"{subject!r}: {message}")


def _require_everywhere(subject: object, s: FloatArray, good: Any, message: str) -> None:
    if not np.all(good):
        raise AssertionError(f"{subject!r}: {message} at s = {s[~np.asarray(good)][0]:.6g}")
