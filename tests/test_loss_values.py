"""Losses against closed forms in extended precision, published values, and their limits."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.optimize
from hypothesis import assume, given
from hypothesis import strategies as st

from sparselm.errors import ProblemError
from sparselm.losses import (
    Arctan,
    Cauchy,
    Composed,
    GemanMcClure,
    Huber,
    Scaled,
    SoftL1,
    Tolerant,
    Trivial,
    Tukey,
    Welsch,
)

SCALED_LOSSES = [Huber, SoftL1, Cauchy, Arctan, Tukey, GemanMcClure, Welsch]
REDESCENDING = [Arctan, Tukey, GemanMcClure, Welsch]

# psi, psi', psi'' written down from their definitions, naively; evaluated with 64 bits of mantissa.
CLOSED_FORMS = {
    Huber: lambda x: (
        np.where(x <= 1, x, 2 * np.sqrt(x) - 1),
        np.where(x <= 1, 1, 1 / np.sqrt(np.maximum(x, 1))),
        np.where(x <= 1, 0, -0.5 / np.sqrt(np.maximum(x, 1)) ** 3),
    ),
    SoftL1: lambda x: (2 * (np.sqrt(1 + x) - 1), 1 / np.sqrt(1 + x), -0.5 / np.sqrt(1 + x) ** 3),
    Cauchy: lambda x: (np.log1p(x), 1 / (1 + x), -1 / (1 + x) ** 2),
    Arctan: lambda x: (np.arctan(x), 1 / (1 + x**2), -2 * x / (1 + x**2) ** 2),
    Tukey: lambda x: (
        np.where(x <= 1, 1 - (1 - x) ** 3, 1) / np.longdouble(3),
        np.where(x <= 1, (1 - x) ** 2, 0),
        np.where(x <= 1, -2 * (1 - x), 0),
    ),
    GemanMcClure: lambda x: (x / (1 + x), 1 / (1 + x) ** 2, -2 / (1 + x) ** 3),
    Welsch: lambda x: (-np.expm1(-x), np.exp(-x), -np.exp(-x)),
}

scales = st.floats(min_value=1e-3, max_value=1e3)


def evaluate(loss, s):
    s = np.atleast_1d(np.asarray(s, dtype=float))
    out = np.empty((len(s), 3))
    loss.rho(s, out)
    return out


@pytest.mark.parametrize("cls", SCALED_LOSSES)
@given(scale=scales, x=st.floats(min_value=1e-2, max_value=1e3))
def test_closed_form(cls, scale, x):
    assume(abs(x - 1.0) > 1e-12)  # on which side of Huber's and Tukey's joints x lies must not depend on rounding
    square = np.longdouble(scale) ** 2
    s = float(x * square)
    psi, slope, curvature = CLOSED_FORMS[cls](np.longdouble(s) / square)
    actual = evaluate(cls(scale), s)[0]
    # Tukey's and Welsch's tails: 1 − x and exp(−x) cannot be better than x is
    tail = 1e-15 * (1 + x)
    np.testing.assert_allclose(actual[0], float(square * psi), rtol=3e-15)
    np.testing.assert_allclose(actual[1], float(slope), rtol=3e-15 + tail, atol=1e-15)
    np.testing.assert_allclose(actual[2], float(curvature / square), rtol=5e-15 + tail, atol=2e-15 / float(square))


@pytest.mark.parametrize("cls", SCALED_LOSSES)
@given(scale=scales, tiny=st.floats(min_value=0.0, max_value=1e-9))
def test_small_residuals_are_least_squares(cls, scale, tiny):
    s = tiny * scale**2
    rho, slope, curvature = evaluate(cls(scale), s)[0]
    np.testing.assert_allclose(rho, s, rtol=1.1e-9, atol=1e-315)  # atol: subnormal numbers have fewer digits
    np.testing.assert_allclose(slope, 1.0, rtol=2.1e-9)
    assert abs(curvature) * scale**2 <= 2.0 + 1e-6
    assert rho <= s * (1 + 1e-15) + 1e-315


@pytest.mark.parametrize("cls", SCALED_LOSSES)
def test_exact_at_zero(cls):
    rho, slope, _ = evaluate(cls(0.3), 0.0)[0]
    assert rho == 0.0
    assert slope == 1.0


@pytest.mark.parametrize("cls", SCALED_LOSSES)
@given(scale=scales, exponent=st.floats(min_value=20.0, max_value=300.0))
def test_huge_residuals(cls, scale, exponent):
    s = 10.0**exponent
    rho, slope, curvature = evaluate(cls(scale), s)[0]
    limit = {
        Huber: 2 * scale * math.sqrt(s) - scale**2,
        SoftL1: 2 * scale * math.sqrt(s) - 2 * scale**2,
        Cauchy: scale**2 * (math.log(s) - 2 * math.log(scale)),
        Arctan: scale**2 * math.pi / 2,
        Tukey: scale**2 / 3,
        GemanMcClure: scale**2,
        Welsch: scale**2,
    }[cls]
    np.testing.assert_allclose(rho, limit, rtol=1e-10)
    assert 0.0 <= slope <= 1.0
    assert -1.0 <= curvature <= 0.0


@pytest.mark.parametrize("cls", SCALED_LOSSES)
def test_largest_numbers_give_no_warning(cls):
    for scale in (1e-150, 1e-5, 1.0, 1e150):
        values = evaluate(cls(scale), [1e300, np.finfo(float).max])
        assert not np.isnan(values).any()
        evaluate(cls(scale), np.inf)


@pytest.mark.parametrize("cls", [Huber, SoftL1, Cauchy])
def test_infinite_residual_does_not_become_a_finite_cost(cls):
    assert not np.isfinite(evaluate(cls(1.0), np.inf)[0, 0])


@pytest.mark.parametrize("cls", REDESCENDING)
@given(scale=scales, s=st.floats(min_value=0.0, max_value=1e300))
def test_bounded_losses_stay_bounded(cls, scale, s):
    bound = {Arctan: math.pi / 2, Tukey: 1 / 3, GemanMcClure: 1.0, Welsch: 1.0}[cls]
    assert evaluate(cls(scale), s)[0, 0] <= scale**2 * bound * (1 + 1e-15)


@given(scale=scales)
def test_pieces_join_exactly(scale):
    square = scale * scale
    above = np.nextafter(square, np.inf)
    at, beyond = evaluate(Huber(scale), [square, above])
    assert tuple(at) == (square, 1.0, 0.0)
    np.testing.assert_allclose(beyond[:2], at[:2], rtol=1e-15)
    np.testing.assert_allclose(beyond[2], -0.5 / square, rtol=1e-14)
    at, beyond = evaluate(Tukey(scale), [square, above])
    np.testing.assert_array_equal(at, beyond)
    assert tuple(at[1:]) == (0.0, 0.0)


@given(scale=scales, s=st.lists(st.floats(min_value=0.0, max_value=1e12), min_size=1, max_size=40))
def test_huber_takes_the_same_bits_on_both_paths(scale, s):
    """All inside is a shortcut: it must not show."""
    loss = Huber(scale)
    with_outlier = evaluate(loss, [*s, 1e15])[:-1]
    one_by_one = np.concatenate([evaluate(loss, value) for value in s])
    np.testing.assert_array_equal(with_outlier, one_by_one)


@pytest.mark.parametrize(
    ("cls", "name"), [(Huber, "huber"), (SoftL1, "soft_l1"), (Cauchy, "cauchy"), (Arctan, "arctan")]
)
def test_scipy_means_the_same_scale(cls, name):
    """One residual, x − 3 against 0: SciPy's cost at its first and only evaluation."""
    solution = scipy.optimize.least_squares(lambda x: x - 3.0, [0.0], loss=name, f_scale=1.7, max_nfev=1)
    np.testing.assert_allclose(0.5 * evaluate(cls(1.7), 9.0)[0, 0], solution.cost, rtol=1e-14)


@pytest.mark.parametrize(
    ("cls", "tuning", "expected"),
    # asymptotic efficiency at the normal distribution, (E ψ')² / E ψ², of the tuning constants in the docstrings
    [(Huber, 1.345, 0.95), (Cauchy, 2.385, 0.95), (Tukey, 4.685, 0.95), (Welsch, 2.985, 0.95)],
)
def test_tuning_constants_give_the_efficiency_claimed(cls, tuning, expected):
    r = np.linspace(-12.0, 12.0, 200_001)
    density = np.exp(-(r**2) / 2) / math.sqrt(2 * math.pi)
    _, slope, curvature = evaluate(cls(tuning), r**2).T
    influence = r * slope
    influence_slope = slope + 2 * r**2 * curvature
    step = r[1] - r[0]
    efficiency = (influence_slope @ density * step) ** 2 / (influence**2 @ density * step)
    assert efficiency == pytest.approx(expected, abs=2e-4)


def test_published_values():
    """Weights at two scales, by hand: 1/2, 1/√5, 1/5, 1/17, 0, 1/25, e⁻⁴."""
    weights = [evaluate(cls(3.0), 36.0)[0, 1] for cls in SCALED_LOSSES]
    np.testing.assert_allclose(weights, [1 / 2, 5**-0.5, 1 / 5, 1 / 17, 0, 1 / 25, math.exp(-4)], rtol=1e-15)


def test_switch_variable_minimised_out_is_geman_mcclure():
    c, s = 1.3, 2.9
    w = np.linspace(0.0, 1.0, 1_000_001)
    np.testing.assert_allclose(evaluate(GemanMcClure(c), s)[0, 0], (w**2 * s + c**2 * (1 - w) ** 2).min(), rtol=1e-10)


@given(
    a=st.floats(min_value=0.0, max_value=1e3),
    b=st.floats(min_value=1e-1, max_value=1e3),
    s=st.floats(min_value=0.0, max_value=1e6),
)
def test_tolerant(a, b, s):
    """Against the definition in extended precision, where that neither cancels nor overflows."""
    rho, slope, curvature = evaluate(Tolerant(a, b), s)[0]
    exact_a, exact_b, exact_s = np.longdouble(a), np.longdouble(b), np.longdouble(s)
    z = (exact_s - exact_a) / exact_b
    start = np.logaddexp(np.longdouble(0), -exact_a / exact_b)
    exact = exact_b * (np.logaddexp(np.longdouble(0), z) - start)
    cancelled = float(exact_b * start) * 1e-18
    condition = 1e-15 * (1 + (a + s) / b)
    np.testing.assert_allclose(rho, float(exact), rtol=5e-15 + condition, atol=cancelled)
    np.testing.assert_allclose(slope, float(1 / (1 + np.exp(-z))), rtol=5e-15 + condition)
    np.testing.assert_allclose(
        curvature, float(np.exp(-abs(z)) / (1 + np.exp(-abs(z))) ** 2 / exact_b), rtol=5e-15 + condition, atol=1e-320
    )


@given(s=st.floats(min_value=0.0, max_value=1e-12))
def test_tolerant_keeps_small_residuals(s):
    """ρ(s) ≈ ρ′(0) s: the difference of the two logarithms would have lost it."""
    rho, slope, _ = evaluate(Tolerant(1.0, 0.1), s)[0]
    np.testing.assert_allclose(rho, slope * s, rtol=1e-11, atol=1e-315)


def test_tolerant_far_out():
    rho, slope, curvature = evaluate(Tolerant(5.0, 0.001), 1e300)[0]
    assert (rho, slope, curvature) == (1e300, 1.0, 0.0)


@given(weight=st.floats(min_value=1e-6, max_value=1e6), s=st.floats(min_value=0.0, max_value=1e12))
def test_scaled(weight, s):
    np.testing.assert_array_equal(evaluate(Scaled(Cauchy(2.0), weight), s), weight * evaluate(Cauchy(2.0), s))


@given(s=st.floats(min_value=0.0, max_value=1e12))
def test_composed(s):
    inner = evaluate(Tukey(30.0), s)[0]
    outer = evaluate(SoftL1(0.7), inner[0])[0]
    expected = [outer[0], outer[1] * inner[1], outer[2] * inner[1] ** 2 + outer[1] * inner[2]]
    np.testing.assert_allclose(evaluate(Composed(SoftL1(0.7), Tukey(30.0)), s)[0], expected, rtol=1e-14)


def test_composition_with_the_identity_changes_nothing():
    s = np.logspace(-3, 3, 50)
    expected = evaluate(Cauchy(2.0), s)
    np.testing.assert_array_equal(evaluate(Composed(Trivial(), Cauchy(2.0)), s), expected)
    np.testing.assert_array_equal(evaluate(Composed(Cauchy(2.0), Trivial()), s), expected)


def test_strided_arrays():
    """Columns of larger arrays are legal arguments."""
    s = np.arange(12.0).reshape(6, 2)[:, 1]
    for loss in (Huber(2.0), Tolerant(1.0, 1.0), Composed(Huber(2.0), Cauchy(1.0)), Scaled(Welsch(3.0), 2.0)):
        wide = np.zeros((6, 5))
        loss.rho(s, wide[:, 1:4])
        np.testing.assert_array_equal(wide[:, 1:4], evaluate(loss, s.copy()))
        assert not wide[:, [0, 4]].any()


@pytest.mark.parametrize("cls", SCALED_LOSSES)
@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf, 1e-200, 1e200, "1", None, 1j])
def test_bad_scales(cls, scale):
    with pytest.raises(ProblemError, match=cls.__name__ + ": scale is"):
        cls(scale)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tolerant(-1.0, 1.0), "Tolerant: a is -1.0"),
        (lambda: Tolerant(math.nan, 1.0), "Tolerant: a is nan"),
        (lambda: Tolerant(1.0, 0.0), "Tolerant: b is 0.0"),
        (lambda: Scaled(Huber(), 0.0), "Scaled: weight is 0.0"),
        (lambda: Scaled("huber", 1.0), "Scaled: loss is 'huber'"),
        (lambda: Composed(Huber, Cauchy()), "Composed: outer is"),
        (lambda: Composed(Huber(), None), "Composed: inner is None"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ProblemError, match=message):
        make()


@pytest.mark.parametrize("scale", [2, np.float32(2.0), np.float64(2.0), np.int64(2)])
def test_any_real_number_is_a_scale(scale):
    np.testing.assert_array_equal(evaluate(Cauchy(scale), 3.0), evaluate(Cauchy(2.0), 3.0))


def test_losses_are_values():
    assert Huber(2.0) == Huber(scale=2.0) != Huber(1.0)
    assert len({Huber(2.0), Huber(2.0), Cauchy(2.0)}) == 2
    assert repr(Scaled(Huber(2.0), 3.0)) == "Scaled(loss=Huber(scale=2.0), weight=3.0)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        Huber(1.0).scale = 2.0  # type: ignore[misc]


def test_trivial_combinations_are_trivial():
    assert Trivial().is_trivial
    assert Scaled(Trivial(), 1.0).is_trivial
    assert not Scaled(Trivial(), 2.0).is_trivial
    assert Composed(Trivial(), Trivial()).is_trivial
    assert not Composed(Trivial(), Huber()).is_trivial
