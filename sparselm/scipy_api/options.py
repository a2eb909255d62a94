"""The arguments of ``least_squares``, checked as SciPy checks them, and with its messages where those are an interface."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator

from sparselm.scipy_api.finite_differences import Sparsity, make_sparsity
from sparselm.scipy_api.losses import NAMES, ScalarLoss
from sparselm.scipy_api.model import Method

Array = npt.NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)

SCHEMES = ("2-point", "3-point", "cs")


@dataclass(frozen=True)
class Tolerances:
    """``ftol``, ``xtol``, ``gtol``; 0 switches one off."""

    ftol: float
    xtol: float
    gtol: float


def check_names(method: Any, jac: Any, tr_solver: Any, loss: Any, verbose: Any, max_nfev: Any) -> None:
    """Refuse names that do not exist, and combinations that method 'lm' does not have."""
    if method not in ("trf", "dogbox", "lm"):
        raise ValueError(f"`method` must be 'trf', 'dogbox' or 'lm', got {method!r}.")
    if not (callable(jac) or (isinstance(jac, str) and jac in SCHEMES)):
        raise ValueError(f"`jac` must be '2-point', '3-point', 'cs' or callable, got {jac!r}.")
    if tr_solver not in (None, "exact", "lsmr"):
        raise ValueError(f"`tr_solver` must be None, 'exact' or 'lsmr', got {tr_solver!r}.")
    if not (callable(loss) or (isinstance(loss, str) and loss in NAMES)):
        raise ValueError(f"`loss` must be one of {', '.join(NAMES)} or a callable, got {loss!r}.")
    if method == "lm" and (callable(loss) or loss != "linear"):
        raise ValueError("method='lm' supports only 'linear' loss function.")
    if verbose not in (0, 1, 2):
        raise ValueError(f"`verbose` must be in [0, 1, 2], got {verbose!r}.")
    if max_nfev is not None and not max_nfev > 0:
        raise ValueError(f"`max_nfev` must be None or positive integer, got {max_nfev!r}.")


def check_start(x0: Any) -> Array:
    """x0 as a vector."""
    if np.iscomplexobj(x0):
        raise ValueError("`x0` must be real.")
    x: Array = np.atleast_1d(x0).astype(np.float64)
    if x.ndim > 1:
        raise ValueError(f"`x0` must have at most 1 dimension, got shape {x.shape}.")
    return x


def check_bounds(bounds: Any, x: Array, method: Method) -> tuple[Array, Array]:
    """Lower and upper bounds as vectors, with x between them."""
    from scipy.optimize import Bounds

    if isinstance(bounds, Bounds):
        lower, upper = (np.array(np.broadcast_to(b, x.shape), dtype=np.float64) for b in (bounds.lb, bounds.ub))
    elif len(bounds) != 2:
        raise ValueError(f"`bounds` must contain 2 elements, got {len(bounds)}.")
    else:
        lower, upper = (np.array(b, dtype=np.float64) for b in bounds)
        lower, upper = (np.full(x.shape, float(b)) if b.ndim == 0 else b for b in (lower, upper))
    if method == "lm" and not (np.all(lower == -np.inf) and np.all(upper == np.inf)):
        raise ValueError("Method 'lm' doesn't support bounds.")
    if lower.shape != x.shape or upper.shape != x.shape:
        raise ValueError(
            f"Inconsistent shapes between bounds and `x0`: {lower.shape}, {upper.shape} and {x.shape}."
        )
    if np.any(lower >= upper):
        raise ValueError("Each lower bound must be strictly less than each upper bound.")
    if not (np.all(x >= lower) and np.all(x <= upper)):
        raise ValueError("Initial guess is outside of provided bounds")
    return lower, upper


def check_x_scale(x_scale: Any, x: Array) -> Array | Literal["jac"] | None:
    """Scales as a vector, ``"jac"``, or None where the method may choose."""
    if x_scale is None:
        return None
    if isinstance(x_scale, str) and x_scale == "jac":
        return "jac"
    message = "`x_scale` must be 'jac' or array_like with positive numbers."
    if np.iscomplexobj(x_scale):
        raise ValueError(message)
    try:
        scale = np.asarray(x_scale, dtype=np.float64)
    except (ValueError, TypeError):
        raise ValueError(message) from None
    if not (np.all(np.isfinite(scale)) and np.all(scale > 0.0)):
        raise ValueError(message)
    if scale.ndim == 0:
        scale = np.full(x.shape, float(scale))
    if scale.shape != x.shape:
        raise ValueError(f"Inconsistent shapes between `x_scale` and `x0`: {scale.shape} and {x.shape}.")
    return scale


def check_tolerances(ftol: float | None, xtol: float | None, gtol: float | None, method: Method) -> Tolerances:
    """Tolerances as numbers; at least one must be on."""
    given = {"ftol": ftol, "xtol": xtol, "gtol": gtol}
    values = {name: 0.0 if value is None else float(value) for name, value in given.items()}
    for name, value in given.items():
        if value is not None and value < EPS:
            warnings.warn(
                f"Setting `{name}` below the machine epsilon ({EPS:.2e}) effectively disables the corresponding "
                "termination condition.",
                stacklevel=3,
            )
    low = [value < EPS for value in values.values()]
    if method == "lm" and any(low):
        raise ValueError(f"All tolerances must be higher than machine epsilon ({EPS:.2e}) for method 'lm'.")
    if all(low):
        raise ValueError(f"At least one of the tolerances must be higher than machine epsilon ({EPS:.2e}).")
    return Tolerances(**values)


def check_loss(loss: str | Callable[[Array], Any], f_scale: float, f: Array) -> ScalarLoss | None:
    """The loss, tried on the first residuals; None for plain least squares."""
    if isinstance(loss, str) and loss == "linear":
        return None
    scalar = ScalarLoss(loss, f_scale)
    scalar.cost(f)
    return scalar


def check_residuals(f: npt.NDArray[Any], x: Array, method: Method) -> None:
    """Refuse a start at which f is not finite, and too few residuals for MINPACK's method."""
    bad = np.flatnonzero(~np.isfinite(f))
    if len(bad):
        raise ValueError(
            f"Residuals are not finite in the initial point. Of {len(f)} these are not: {bad[:5].tolist()} (at most 5 are "
            "named); start elsewhere, or bound the variables."
        )
    if method == "lm" and len(f) < len(x):
        raise ValueError(
            "Method 'lm' doesn't work when the number of residuals is less than the number of variables: "
            f"{len(f)} and {len(x)}; take 'trf'."
        )


def check_sparsity(
    pattern: Any, shape: tuple[int, int], method: Method, tr_solver: str | None
) -> Sparsity | None:
    """The pattern for finite differences, coloured."""
    if pattern is None:
        return None
    if method == "lm":
        raise ValueError("method='lm' does not support `jac_sparsity`.")
    if tr_solver == "exact":
        raise ValueError("tr_solver='exact' is incompatible with `jac_sparsity`.")
    if not sp.issparse(pattern):
        pattern = np.atleast_2d(pattern)
    if pattern.shape != shape:
        raise ValueError(f"`jac_sparsity` has wrong shape: expected {shape}, got {pattern.shape}.")
    return make_sparsity(pattern)


def check_jacobian(J: Any, *, method: Method, tr_solver: str | None, x_scale: Any) -> None:
    """Refuse what a method or solver cannot do with this kind of Jacobian."""
    if not isinstance(J, np.ndarray):
        if method == "lm":
            raise ValueError("method='lm' works only with dense Jacobian matrices.")
        if tr_solver == "exact":
            raise ValueError("tr_solver='exact' works only with dense Jacobian matrices.")
    if isinstance(J, LinearOperator) and isinstance(x_scale, str):
        raise ValueError("x_scale='jac' can't be used when `jac` returns LinearOperator.")


# Keywords of SciPy's lsmr that a caller may set.
_LSMR_OPTIONS = frozenset({"damp", "atol", "btol", "conlim", "maxiter", "show"})


def check_tr_options(tr_options: Any, method: Method) -> dict[str, Any]:
    """Options of LSMR, whether or not it will be used; "regularize" is known, but damping is all the regularisation."""
    options = dict(tr_options or {})
    if "regularize" in options:
        if method == "dogbox":
            warnings.warn(
                "The keyword 'regularize' in `tr_options` is not relevant for 'dogbox' method.", stacklevel=3
            )
        del options["regularize"]
    unknown = sorted(set(options) - _LSMR_OPTIONS)
    if unknown:
        raise TypeError(
            f"`tr_options` has unknown keys {', '.join(unknown)}; expected regularize or {', '.join(sorted(_LSMR_OPTIONS))}"
        )
    return options
