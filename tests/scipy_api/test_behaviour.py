"""What a caller sees: statuses, messages, counts, tables, callbacks, errors; SciPy's where that is a promise."""

import multiprocessing
import re
import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp
from scipy.sparse.linalg import aslinearoperator

import sparselm as slm


def rosenbrock(x):
    return np.array([10.0 * (x[1] - x[0] ** 2), 1.0 - x[0]])


def rosenbrock_jacobian(x):
    return np.array([[-20.0 * x[0], 10.0], [-1.0, 0.0]])


def far_apart(x):
    """Large residuals at the optimum: Gauss–Newton converges by a constant factor."""
    return np.array([x[0] ** 2 + 3.0, x[1] - 1.0, x[0] + x[1] - 5.0])


START = [-1.2, 1.0]


class Counting:
    def __init__(self, function):
        self.function, self.count = function, 0

    def __call__(self, x, *args, **kwargs):
        self.count += 1
        return self.function(x, *args, **kwargs)


# -- status and message ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"gtol": 1e-3}, 1),
        ({"ftol": 1e-6, "xtol": None, "gtol": None}, 2),
        ({"ftol": None, "gtol": None}, 3),
        ({"max_nfev": 3}, 0),
        ({"max_nfev": 1}, 0),
    ],
)
def test_statuses_come_with_scipys_messages(options, status):
    from scipy.optimize._lsq.least_squares import TERMINATION_MESSAGES

    result = slm.least_squares(far_apart, **({"x0": [2.0, 3.0]} | options))
    assert result.status == status
    assert result.message == TERMINATION_MESSAGES[status]
    assert result.success == (status > 0)


@pytest.mark.parametrize("method", ["trf", "dogbox", "lm"])
def test_all_fields_are_there(method):
    ours = slm.least_squares(rosenbrock, START, method=method)
    theirs = scipy.optimize.least_squares(rosenbrock, START, method=method)
    assert isinstance(ours, scipy.optimize.OptimizeResult)
    assert set(ours) == set(theirs)
    np.testing.assert_allclose(ours.grad, ours.jac.T @ ours.fun, atol=1e-14)
    assert ours.cost == pytest.approx(0.5 * ours.fun @ ours.fun)
    assert (ours.fun == rosenbrock(ours.x)).all()
    assert ours.active_mask.tolist() == [0, 0]
    assert (ours.njev is None) == (method == "lm")


def test_status_4_where_both_are_met_at_once():
    def plane(x):
        return np.array([x[0] - 1.0, x[1] - 2.0, x[0] + x[1] - 4.0])

    result = slm.least_squares(plane, [1.33, 2.34], ftol=0.1, xtol=0.1, gtol=None)
    assert (result.status, result.nfev) == (4, 2)
    assert result.message == "Both `ftol` and `xtol` termination conditions are satisfied."


def test_nothing_left_to_gain_is_said():
    """No tolerance can be met: the gradient of a large residual stops at rounding."""
    result = slm.least_squares(
        lambda x: 1e12 * far_apart(x), [2.0, 3.0], ftol=None, xtol=None, gtol=1e-8, max_nfev=100_000
    )
    assert result.status == 0 and not result.success
    assert result.nfev < 2000
    assert "No step reduces the cost" in result.message


# -- counts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["trf", "dogbox", "lm"])
@pytest.mark.parametrize("max_nfev", [1, 2, 7, None])
def test_evaluations_are_counted_and_limited(method, max_nfev):
    fun, jac = Counting(rosenbrock), Counting(rosenbrock_jacobian)
    result = slm.least_squares(fun, START, jac, method=method, max_nfev=max_nfev)
    assert (result.nfev, result.njev) == (fun.count, jac.count)
    assert result.nfev <= (max_nfev or 800)
    assert result.njev <= result.nfev


@pytest.mark.parametrize(("scheme", "each"), [("2-point", 2), ("3-point", 4), ("cs", 2)])
def test_evaluations_for_differences_are_not_counted(scheme, each):
    fun = Counting(rosenbrock)
    result = slm.least_squares(fun, START, scheme)
    assert fun.count == result.nfev + each * result.njev


def test_no_jacobian_is_taken_after_a_rejected_step():
    result = slm.least_squares(rosenbrock, START, rosenbrock_jacobian)
    assert result.njev < result.nfev


# -- tables ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jac", [rosenbrock_jacobian, lambda x: sp.csr_array(rosenbrock_jacobian(x))])
def test_the_table_is_scipys(capsys, jac):
    slm.least_squares(rosenbrock, START, jac, verbose=2)
    ours = capsys.readouterr().out.splitlines()
    scipy.optimize.least_squares(rosenbrock, START, jac, verbose=2)
    theirs = capsys.readouterr().out.splitlines()
    assert ours[:2] == theirs[:2]
    assert {len(line) for line in ours[:-2]} == {90}
    assert ours[-2] in theirs[-2] or ours[-2].startswith("`")
    assert ours[-1].split()[:2] == ["Function", "evaluations"]
    assert ours[-1].partition("initial")[2].split(",")[0] == theirs[-1].partition("initial")[2].split(",")[0]
    numbers = [line.split() for line in ours[2:-2]]
    assert [int(row[0]) for row in numbers] == list(range(1, len(numbers) + 1))
    assert int(numbers[-1][1]) == int(ours[-1].split()[2].rstrip(","))


def test_verbose_1_prints_two_lines_and_0_none(capsys):
    result = slm.least_squares(rosenbrock, START, verbose=1)
    assert capsys.readouterr().out.splitlines() == [
        result.message,
        f"Function evaluations {result.nfev}, initial cost 1.2100e+01, final cost {result.cost:.4e}, "
        f"first-order optimality {result.optimality:.2e}.",
    ]
    slm.least_squares(rosenbrock, START)
    assert capsys.readouterr().out == ""


# -- callbacks ---------------------------------------------------------------------------------------------------------


def test_callbacks_see_every_iteration():
    seen, points = [], []
    result = slm.least_squares(rosenbrock, START, callback=lambda intermediate_result: seen.append(intermediate_result))
    slm.least_squares(rosenbrock, START, callback=points.append)
    assert [item.nit for item in seen] == list(range(1, len(seen) + 1))
    assert all((item.fun == rosenbrock(item.x)).all() and item.cost == 0.5 * item.fun @ item.fun for item in seen)
    costs = [item.cost for item in seen]
    assert costs == sorted(costs, reverse=True)
    assert (seen[-1].x == result.x).all() and seen[-1].nfev == result.nfev
    assert all((a.x == b).all() for a, b in zip(seen, points, strict=True))


def test_stop_iteration_stops():
    def stop(x):
        points.append(x)
        if len(points) == 3:
            raise StopIteration

    points = []
    result = slm.least_squares(rosenbrock, START, callback=stop)
    assert result.status == -2 and not result.success
    assert len(points) == 3
    assert (result.x == points[-1]).all()


# -- workers -----------------------------------------------------------------------------------------------------------


def test_workers_change_nothing():
    alone = slm.least_squares(rosenbrock, START)
    with multiprocessing.get_context("forkserver").Pool(2) as pool:
        for workers in (1, pool.map, map, lambda f, points: [f(p) for p in points]):
            result = slm.least_squares(rosenbrock, START, workers=workers)
            assert (result.x == alone.x).all() and result.nfev == alone.nfev


# -- bounds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["trf", "dogbox"])
@pytest.mark.parametrize("kind", ["dense", "sparse", "operator"])
@pytest.mark.parametrize("seed", range(6))
def test_bounded_optima_are_scipys(method, kind, seed):
    rng = np.random.default_rng(seed)
    A, b = rng.standard_normal((12, 5)), rng.standard_normal(12)
    lower, upper = -0.3 * rng.random(5), 0.3 * rng.random(5)
    visited = []

    def fun(x):
        visited.append(x)
        return A @ x + 0.1 * x.sum() ** 2 - b

    def jac(x):
        J = A + 0.2 * x.sum()
        return {"dense": J, "sparse": sp.csr_array(J), "operator": aslinearoperator(J)}[kind]

    options = {"bounds": (lower, upper), "ftol": 1e-14, "xtol": 1e-14, "gtol": 1e-10}
    result = slm.least_squares(fun, np.zeros(5), jac, method=method, **options)
    expected = scipy.optimize.least_squares(fun, np.zeros(5), lambda x: A + 0.2 * x.sum(), **options)
    assert result.success
    np.testing.assert_allclose(result.x, expected.x, atol=1e-6)
    assert all((x >= lower).all() and (x <= upper).all() for x in visited)
    assert result.active_mask.tolist() == [
        -1 if x == low else 1 if x == high else 0 for x, low, high in zip(result.x, lower, upper, strict=True)
    ]
    assert (np.abs(result.grad[result.active_mask == 0]) < 1e-6).all()
    assert (result.grad * result.active_mask <= 0).all()


def test_a_start_on_a_bound_may_stay_there_or_leave():
    result = slm.least_squares(rosenbrock, [0.5, -1.0], bounds=([-np.inf, -1.0], [0.5, np.inf]))
    np.testing.assert_allclose(result.x, [0.5, 0.25], atol=1e-8)
    assert result.active_mask.tolist() == [1, 0]


def test_all_components_at_bounds():
    result = slm.least_squares(lambda x: x - 3.0, [1.0, 1.0], bounds=(0.0, 2.0))
    assert result.x.tolist() == [2.0, 2.0]
    assert result.status == 1 and result.optimality == 0.0


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_trial_points_that_are_not_finite_are_rejected():
    """log x from far right: the first Gauss–Newton step goes to negative x."""
    fun = Counting(lambda x: np.log(x, out=np.full(1, np.nan), where=x > 0.0))
    result = slm.least_squares(fun, [50.0], jac=lambda x: 1.0 / x[:, None])
    assert result.success
    assert result.x[0] == pytest.approx(1.0)
    assert result.nfev == fun.count > result.njev


def test_a_start_surrounded_by_nan_ends():
    def fun(x):
        return np.array([1.0 if x[0] == 2.0 else np.nan, x[0]])

    result = slm.least_squares(fun, [2.0], jac=lambda x: [[0.0], [1.0]])
    assert result.x.tolist() == [2.0] and result.cost == 2.5
    assert result.nfev < 200


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_at_the_start(bad):
    with pytest.raises(ValueError, match=r"Residuals are not finite in the initial point.*\[1\]"):
        slm.least_squares(lambda x: np.array([1.0, bad, 2.0]), [1.0])
    with pytest.raises(ValueError, match="Jacobian is not finite"):
        slm.least_squares(lambda x: np.ones(2), [1.0], jac=lambda x: np.array([[1.0], [bad]]))


def test_residuals_too_large_to_square():
    with pytest.raises(ValueError, match="the cost overflows"):
        slm.least_squares(lambda x: 1e200 + x, [1.0], jac=lambda x: [[1.0]])


def test_keyboard_interrupt_passes_through():
    fun = Counting(rosenbrock)

    def interrupted(x):
        if fun.count == 8:
            raise KeyboardInterrupt
        return fun(x)

    with pytest.raises(KeyboardInterrupt):
        slm.least_squares(interrupted, START)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "newton"}, "`method` must be"),
        ({"jac": "4-point"}, "`jac` must be"),
        ({"jac": np.eye(2)}, "`jac` must be"),
        ({"tr_solver": "qr"}, "`tr_solver` must be"),
        ({"loss": "hinge"}, "`loss` must be one of"),
        ({"loss": "huber", "method": "lm"}, "only 'linear' loss"),
        ({"verbose": 3}, "`verbose` must be"),
        ({"max_nfev": 0}, "`max_nfev` must be"),
        ({"x0": [1j, 2.0]}, "`x0` must be real"),
        ({"x0": [[1.0, 2.0]]}, "at most 1 dimension"),
        ({"bounds": (0.0, 1.0, 2.0)}, "must contain 2 elements"),
        ({"bounds": (0.0, 3.0), "method": "lm"}, "doesn't support bounds"),
        ({"bounds": ([0.0], [3.0, 3.0])}, "Inconsistent shapes between bounds"),
        ({"bounds": (3.0, 3.0)}, "strictly less"),
        ({"bounds": (1.0, 3.0)}, "outside of provided bounds"),
        ({"x_scale": "auto"}, "`x_scale` must be"),
        ({"x_scale": [1.0, 0.0]}, "`x_scale` must be"),
        ({"x_scale": [1.0, 2.0, 3.0]}, "Inconsistent shapes between `x_scale`"),
        ({"ftol": None, "xtol": None, "gtol": None}, "At least one of the tolerances"),
        ({"ftol": None, "method": "lm"}, "All tolerances must be higher"),
        ({"jac_sparsity": np.ones((3, 2))}, "`jac_sparsity` has wrong shape"),
        ({"jac_sparsity": np.ones((2, 2)), "tr_solver": "exact"}, "incompatible with `jac_sparsity`"),
        ({"jac_sparsity": np.ones((2, 2)), "method": "lm"}, "does not support `jac_sparsity`"),
        ({"jac": lambda x: np.ones((3, 2))}, r"expected \(2, 2\), actual \(3, 2\)"),
        ({"jac": lambda x: sp.eye_array(2), "method": "lm"}, "only with dense"),
        ({"jac": lambda x: sp.eye_array(2), "tr_solver": "exact"}, "only with dense"),
        ({"jac": lambda x: aslinearoperator(np.eye(2)), "x_scale": "jac"}, "LinearOperator"),
        ({"fun": lambda x: np.ones((2, 2))}, "at most 1-d"),
        ({"fun": lambda x: x * 1j}, "must return real residuals"),
        ({"fun": lambda x: x[:1], "method": "lm"}, "less than the number of variables"),
        ({"loss": lambda z: z}, "wrong shape"),
    ],
    ids=lambda value: re.sub(r" at 0x[0-9a-f]+", "", str(value)),
)
def test_misuse_is_refused(options, message):
    arguments = {"fun": rosenbrock, "x0": [0.5, 0.5]} | options
    with pytest.raises(ValueError, match=message):
        slm.least_squares(**arguments)


def test_residuals_whose_number_changes_are_refused():
    with pytest.raises(ValueError, match=r"shape \(3,\), and \(2,\) at the initial point"):
        slm.least_squares(lambda x: np.ones(2 if x[0] == 1.0 else 3), [1.0])
    with pytest.raises(ValueError, match=r"shape \(3,\), and \(2,\) at the initial point"):
        slm.least_squares(lambda x: np.ones(2 if x[0] == 1.0 else 3), [1.0], jac=lambda x: np.ones((2, 1)))


def test_unknown_options_of_lsmr_are_refused():
    with pytest.raises(TypeError, match=r"unknown keys tol; expected regularize or atol"):
        slm.least_squares(rosenbrock, START, tr_options={"tol": 1e-3})


def test_warnings_are_scipys():
    with pytest.warns(UserWarning, match="Setting `ftol` below the machine epsilon"):
        slm.least_squares(rosenbrock, START, ftol=1e-20)
    with pytest.warns(UserWarning, match="not supported with `lm` method"):
        slm.least_squares(rosenbrock, START, method="lm", callback=print)
    with pytest.warns(UserWarning, match="not relevant for 'dogbox'"):
        slm.least_squares(rosenbrock, START, method="dogbox", tr_options={"regularize": True})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        slm.least_squares(rosenbrock, START, tr_options={"regularize": True, "maxiter": 10}, tr_solver="lsmr")


def test_the_start_is_not_changed_and_functions_get_copies():
    start = np.array(START)

    def spoil(x):
        found = rosenbrock(x)
        x[:] = np.nan
        return found

    result = slm.least_squares(spoil, start)
    assert start.tolist() == START
    np.testing.assert_allclose(result.x, 1.0)
