"""``least_squares``: SciPy's signature and result, from options to the loop and back."""

from __future__ import annotations

import math
import multiprocessing
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.sparse.linalg import LinearOperator

from sparselm.damping.base import AbstractDamping
from sparselm.damping.more import More
from sparselm.damping.nielsen import Nielsen
from sparselm.levenberg_marquardt import levenberg_marquardt
from sparselm.scipy_api import options
from sparselm.scipy_api.finite_differences import DifferencedJacobian, FiniteDifferences, MapLike
from sparselm.scipy_api.model import Method, VectorFunction, VectorModel
from sparselm.scipy_api.progress import MESSAGES, STALLED, Recorder, Stopping
from sparselm.scipy_api.sparse_system import SparseSystem
from sparselm.scipy_api.systems import AbstractSystem, DenseSystem, IterativeSystem, squared_column_norms
from sparselm.threads import quiet_dot

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

Array = npt.NDArray[np.float64]

# SciPy stops at 100. Of the 54 NIST runs two, along the curved valley of Bennett5, take 260 and 106 a variable.
MAX_NFEV_PER_VARIABLE = 400

# The first radius in units of ‖D x0‖, as SciPy and as MINPACK have it. Which of them serves a run better is luck: of NIST's
# runs 54 and 53 end well, of those of Moré, Garbow and Hillstrom 43 and 44 (of 57).
RADIUS_FACTORS: dict[Method, float] = {"trf": 1.0, "dogbox": 1.0, "lm": 100.0}

# The least radius in units of the first one, where that is below 1.
MIN_RADIUS = 1e-32

SMALLEST = math.ulp(0.0)
MIN_SCALE_RATIO = 1e-100

# Variables of a sparse problem from which factorisations are counted: bundle adjustment of 49 cameras takes Moré's strategy
# 65 of them, many in vain since the gauge is free, and Nielsen's 14, to a lower cost.
MANY_VARIABLES = 1000


def least_squares(
    fun: Callable[..., Any],
    x0: Any,
    jac: Any = "2-point",
    bounds: Any = (-np.inf, np.inf),
    method: Any = "trf",
    ftol: float | None = 1e-8,
    xtol: float | None = 1e-8,
    gtol: float | None = 1e-8,
    x_scale: Any = None,
    loss: Any = "linear",
    f_scale: float = 1.0,
    diff_step: Any = None,
    tr_solver: Any = None,
    tr_options: Mapping[str, Any] | None = None,
    jac_sparsity: Any = None,
    max_nfev: int | None = None,
    verbose: int = 0,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    callback: Callable[..., object] | None = None,
    workers: int | MapLike | None = None,
) -> OptimizeResult:
    r"""Minimise ½ Σ_i ρ(f_i(x)²) over l ≤ x ≤ u by the Levenberg–Marquardt method, behind SciPy's interface.

    For one function of one vector; :func:`sparselm.solve` is faster where residuals come in many small blocks. Arguments,
    defaults, result and messages are those of :func:`scipy.optimize.least_squares` in SciPy 1.17, but for what is said
    here; see also docs/least_squares.md.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args, **kwargs)`` returns f, ``(m,)``.
    x0 : (n,) array_like
        Start, between the bounds.
    jac : {"2-point", "3-point", "cs"} or callable
        A difference scheme, or J as an ``(m, n)`` array, sparse array or LinearOperator. The default steps of the schemes
        are those of SciPy at first and get shorter for parameters much smaller than 1 that matter.
    bounds : (lower, upper) or scipy.optimize.Bounds
        Steps are projected into them: iterates lie on bounds, and x0 may.
    method : {"trf", "dogbox", "lm"}
        One algorithm for all three. The name decides what is allowed, and how optimality is measured: with "trf" each g_i
        times the distance to the bound ahead, with "dogbox" without components at an active bound, with "lm" by angles.
    ftol, xtol, gtol : float or None
        Stop where the cost falls by less than ``ftol`` of itself in good agreement with the model, where
        ‖δ‖ < xtol (xtol + ‖x‖), or where the optimality is below ``gtol``. With a dense J, ``ftol`` also waits until no
        parameter moves by more than √ftol / 10 of itself.
    x_scale : array_like, "jac" or None
        Lengths in which damping is measured. None is "jac" with every method, and 1 for an operator.
    loss, f_scale
        "linear", "soft_l1", "huber", "cauchy", "arctan" or a callable, of each residual by itself.
    diff_step : array_like or None
        Relative steps of the difference schemes.
    tr_solver : {None, "exact", "lsmr"}
        None: QR for a dense J, sparse Cholesky (SuperLU without scikit-sparse) for a sparse one, LSMR for an operator.
    tr_options : dict or None
        Of :func:`scipy.sparse.linalg.lsmr`; "regularize" is accepted, and damping does its work.
    jac_sparsity : (m, n) array_like or sparse array
        Where J may be non-zero, for differences of many columns at once. J is then sparse, and factorised.
    max_nfev : int or None
        Evaluations of f, those for differences not counted; 400 n where None.
    verbose : {0, 1, 2}
        2 prints a table, 1 its last lines.
    args, kwargs
        Passed on to ``fun`` and ``jac``.
    callback : callable or None
        Called after each iteration, with ``intermediate_result`` where that is its one parameter, else with x;
        StopIteration ends the run.
    workers : int, callable or None
        Processes (−1 for all), or something like ``map``, to evaluate differences.

    Returns
    -------
    scipy.optimize.OptimizeResult
        x, cost, fun, jac, grad, optimality, active_mask, nfev, njev, status, message, success.

    Raises
    ------
    ValueError
        An argument makes no sense, f is not finite at x0, or J is not finite where f is.
    TypeError
        ``tr_options`` has a key that is not known.

    References
    ----------
    J. J. Moré, "The Levenberg–Marquardt algorithm: implementation and theory", Lecture Notes in Mathematics 630, 1978.

    Examples
    --------
    >>> import numpy as np
    >>> import sparselm as slm
    >>> def rosenbrock(x):
    ...     return np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])
    >>> slm.least_squares(rosenbrock, [-1.2, 1.0]).x
    array([1., 1.])
    >>> bounded = slm.least_squares(rosenbrock, [-1.2, 1.0], bounds=([-np.inf, -np.inf], [0.5, np.inf]))
    >>> bounded.x.round(6), bounded.active_mask
    (array([0.5 , 0.25]), array([1, 0]))
    """
    options.check_names(method, jac, tr_solver, loss, verbose, max_nfev)
    x = options.check_start(x0)
    lower, upper = options.check_bounds(bounds, x, method)
    scale = options.check_x_scale(x_scale, x)
    tolerances = options.check_tolerances(ftol, xtol, gtol, method)
    lsmr_options = options.check_tr_options(tr_options, method)
    if method == "lm" and callback is not None:
        warnings.warn("Callback function specified, but not supported with `lm` method.", stacklevel=2)
        callback = None
    call = _Residuals(fun, tuple(args), dict(kwargs or {}))
    with _map_like(workers) as mapping:
        function = VectorFunction(call)
        f = function.residuals(x)
        options.check_residuals(f, x, method)
        scalar_loss = options.check_loss(loss, f_scale, f.astype(np.float64))
        if callable(jac):
            given = _Jacobian(jac, call.args, call.kwargs)
            function.derive_by(lambda x, f: given(x))
        else:
            sparsity = options.check_sparsity(jac_sparsity, (len(f), len(x)), method, tr_solver)
            differences = FiniteDifferences(call, jac, diff_step, lower, upper, sparsity, mapping)
            function.derive_by(DifferencedJacobian(differences))
        J = function.jacobian(x, f)
        options.check_jacobian(J, method=method, tr_solver=tr_solver, x_scale=scale)
        system = _system(J, tr_solver if method != "lm" else None, lsmr_options)
        model = VectorModel(function, system, scalar_loss, lower, upper, _damping_scale(scale, J), method)
        model.place(x, f, J)
        recorder = Recorder(model, verbose if method != "lm" else min(verbose, 1), callback)
        stopping = Stopping(
            model,
            tolerances,
            max_nfev=MAX_NFEV_PER_VARIABLE * max(1, len(x)) if max_nfev is None else max_nfev,
            by_cosine=method == "lm",
            settle=isinstance(J, np.ndarray),
        )
        status = recorder.finish(levenberg_marquardt(model, _damping(model, method), stopping, recorder))
        if method == "lm" and not len(x):
            status = -1  # as MINPACK answers
    return _result(model, recorder, status, njev_known=method != "lm" or callable(jac), verbose=verbose)


def _system(J: Any, tr_solver: Any, lsmr_options: dict[str, Any]) -> AbstractSystem:
    if tr_solver == "lsmr" or isinstance(J, LinearOperator):
        return IterativeSystem(lsmr_options)
    return SparseSystem() if sp.issparse(J) else DenseSystem()


def _damping_scale(scale: Any, J: Any) -> Array | None:
    """What damping takes in place of diag JᵀJ: c / x_scale², as large as that where it is largest; None for itself."""
    if isinstance(scale, np.ndarray):
        # Only ratios count, and those beyond 10¹⁰⁰ hold a variable as well; squares must neither overflow nor vanish.
        relative = np.maximum(scale / scale.max(initial=MIN_SCALE_RATIO), MIN_SCALE_RATIO)
        size = float((np.sqrt(squared_column_norms(J)) * relative).max(initial=0.0)) or 1.0
        squared: Array = (size / relative) ** 2.0
        return squared
    return np.ones(J.shape[1]) if isinstance(J, LinearOperator) else None


def _damping(model: VectorModel, method: Method) -> AbstractDamping:
    """Moré's strategy; for many variables and a matrix to factorise Nielsen's, which does with one factor a step."""
    if sp.issparse(model.J) and len(model.x) > MANY_VARIABLES:
        # Units are the caller's: of residuals near 1e-9 the clamp of D, made for columns of length one, would be all.
        return Nielsen(scale_offset=0.0)
    lengths = np.sqrt(model.diagonal)
    lengths[lengths == 0.0] = 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = lengths * model.x
        radius = math.sqrt(quiet_dot(scaled, scaled)) or math.sqrt(quiet_dot(lengths, lengths)) or 1.0
    radius = RADIUS_FACTORS[method] * radius if math.isfinite(radius) else math.inf
    return More(initial_radius=radius, min_radius=max(MIN_RADIUS * min(1.0, radius), SMALLEST))


def _result(model: VectorModel, recorder: Recorder, status: int, *, njev_known: bool, verbose: int) -> OptimizeResult:
    from scipy.optimize import OptimizeResult

    message = STALLED if status == 0 and recorder.exhausted else MESSAGES[status]
    optimality = model.gradient_max_norm()
    function = model.function
    if verbose >= 1:
        print(message)
        print(
            f"Function evaluations {function.nfev}, initial cost {recorder.initial_cost:.4e}, "
            f"final cost {model.cost:.4e}, first-order optimality {optimality:.2e}."
        )
    return OptimizeResult(
        x=model.x,
        cost=model.cost,
        fun=model.f,
        jac=model.J,
        grad=model.full_gradient,
        optimality=optimality,
        active_mask=(model.x == model.upper).astype(int) - (model.x == model.lower).astype(int),
        nfev=function.nfev,
        njev=function.njev if njev_known else None,
        status=status,
        message=message,
        success=status > 0,
    )


@dataclass(frozen=True)
class _Residuals:
    """f with its further arguments; at the top of a module, so that it can be sent to other processes.

    The result is a copy: ``fun`` may write into the same array each time, and two of them are compared.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __call__(self, x: Any) -> Any:
        return np.array(self.function(x, *self.args, **self.kwargs))


@dataclass(frozen=True)
class _Jacobian:
    """J with its further arguments; a copy, but of an operator."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __call__(self, x: Any) -> Any:
        J = self.function(x, *self.args, **self.kwargs)
        if isinstance(J, LinearOperator):
            return J
        return J.copy() if sp.issparse(J) else np.array(J)


@contextmanager
def _map_like(workers: int | MapLike | None) -> Iterator[MapLike]:
    if workers is None or workers == 1:
        yield map
    elif callable(workers):
        yield workers
    else:
        # A fork of a process whose threads hold locks may wait for ever.
        start = multiprocessing.get_start_method(allow_none=True) or "forkserver"
        with multiprocessing.get_context(start).Pool(None if workers == -1 else int(workers)) as pool:
            yield pool.map
