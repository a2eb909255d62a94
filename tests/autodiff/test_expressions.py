"""Random programs of the supported operations: derivatives agree with complex-step ones, values with Python's."""

import cmath
import linecache
import math
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.special
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import sparselm as slm

# Points at which every expression is compared, with all numbers in (0.4, 1.9).
POINTS = np.random.default_rng(7).uniform(0.4, 1.9, (5, 4))
DATA = np.random.default_rng(8).uniform(0.4, 1.9, (5, 2))
STEP = 1e-30

# Analytic continuations of what is written with math.*; comparisons look at real parts.
COMPLEX_MATH = SimpleNamespace(
    sin=cmath.sin, cos=cmath.cos, tanh=cmath.tanh, exp=cmath.exp, sqrt=cmath.sqrt, log=cmath.log, atan=cmath.atan,
    asinh=cmath.asinh, log1p=lambda z: cmath.log(1 + z), expm1=lambda z: cmath.exp(z) - 1, erf=scipy.special.erf,
    atan2=lambda y, x: cmath.atan(y / x) + (0.0 if x.real > 0 else math.copysign(math.pi, y.real)),
    hypot=lambda x, y: cmath.sqrt(x * x + y * y), pow=lambda x, y: x**y, floor=lambda z: math.floor(complex(z).real),
    pi=math.pi, fabs=lambda z: z if complex(z).real >= 0 else -z,
)  # fmt: skip


def _real(z):
    return complex(z).real


COMPLEX_NAMES = {
    "math": COMPLEX_MATH,
    "less": lambda a, b: _real(a) < _real(b),
    "min": lambda *items: min(items, key=_real),
    "max": lambda *items: max(items, key=_real),
    "abs": COMPLEX_MATH.fabs,
    "float": lambda z: z,
}

leaf = st.one_of(
    st.sampled_from(["x[0]", "x[1]", "x[2]", "x[3]", "d[0]", "d[1]", "THIRD", "x[i]"]),
    st.floats(0.25, 3.0).map(lambda v: repr(round(v, 3))),
)


def _extend(inner):
    unary = st.sampled_from(
        ["-({})", "math.sin({})", "math.cos({})", "math.tanh({})", "math.exp(-abs({}))", "math.sqrt(1.0 + ({})**2)",
         "math.log(1.5 + ({})**2)", "math.atan({})", "math.asinh({})", "math.erf({})", "math.expm1(0.1 * math.sin({}))",
         "math.log1p(({})**2)", "abs({})", "math.fabs({})", "({})**2", "({})**3", "1.0 / (2.0 + ({})**2)", "+({})",
         "helper({})", "math.pow(1.0 + ({})**2, 0.7)", "(2.0 + math.cos({}))**1.5", "float({})"]
    )  # fmt: skip
    binary = st.sampled_from(
        ["({} + {})", "({} - {})", "({} * {})", "({} / (3.0 + math.sin({})))", "math.atan2({}, 1.0 + ({})**2)",
         "math.atan2({}, -1.0 - ({})**2)", "math.hypot({}, 1.0 + ({})**2)", "min({}, {})", "max({}, {})",
         "(1.5 + math.sin({}))**(math.cos({}))", "pair({}, {})", "1.5**({} - {})"]
    )  # fmt: skip
    ternary = st.sampled_from(["({} if less({}, 1.1) else {})", "max({}, {}, {})", "({} + {}) * {}"])
    return st.one_of(
        st.tuples(unary, inner).map(lambda t: t[0].format(t[1])),
        st.tuples(binary, inner, inner).map(lambda t: t[0].format(*t[1:])),
        st.tuples(ternary, inner, inner, inner).map(lambda t: t[0].format(*t[1:])),
    )


expression = st.recursive(leaf, _extend, max_leaves=8)

HEADER = """
import math
THIRD = 1.0 / 3.0

def helper(a):
    total = 0.0
    for k in range(3):
        total += a * (k + 1) / (1.0 + a * a)
    return total

def pair(a, b):
    c, e = b, a
    if less(a, b):
        c, e = a, b * 0.5
    return c * e + c
"""


def _namespace(expressions, less_source):
    lines = [less_source, HEADER, "def program(x, d):", "    i = 2"]
    lines += [f"    y{k} = {text}" for k, text in enumerate(expressions)]
    lines.append(f"    return ({', '.join(f'y{k}' for k in range(len(expressions)))},)")
    source = "\n".join(lines)
    name = f"<program {abs(hash(source))}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    namespace = {}
    exec(compile(source, name, "exec"), namespace)
    return namespace


# Every example is compiled, so a failing one is shown as it is, not made smaller step by step.
@settings(
    max_examples=12, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(st.lists(expression, min_size=20, max_size=20))
def test_jets_of_random_programs(expressions):
    program = _namespace(expressions, "def less(a, b):\n    return a < b")["program"]
    continued = _namespace(expressions, "")
    continued.update(COMPLEX_NAMES)
    problem = slm.Problem()
    x = problem.add_variables("x", POINTS)
    group = problem.add_residuals(slm.residual(dim=len(expressions))(program), x, data=DATA)
    found = slm.evaluate(problem)
    J = found.jacobian.toarray().reshape(len(POINTS), len(expressions), len(POINTS), 4)
    for b, (point, data) in enumerate(zip(POINTS, DATA, strict=True)):
        point, data = tuple(map(float, point)), tuple(map(float, data))
        np.testing.assert_allclose(found.residuals[group.name][b], program(point, data), rtol=1e-13, atol=1e-13)
        exact = np.empty((len(expressions), 4))
        for k in range(4):
            moved = tuple(complex(v, STEP if j == k else 0.0) for j, v in enumerate(point))
            exact[:, k] = [complex(v).imag / STEP for v in continued["program"](moved, data)]
        scale = np.maximum(1.0, np.abs(exact).max(axis=1, keepdims=True))
        np.testing.assert_array_less(np.abs(J[b, :, b] - exact) / scale, 1e-11)


def elementary(x, d):
    u, v = x[0], x[1]
    small, large = u / 2.0 - 0.5, u + 1.0  # in (−0.3, 0.45) and (1.4, 2.9)
    return (
        math.sqrt(u), math.exp(u), math.expm1(u), math.log(u), math.log2(u), math.log10(u), math.log1p(u), math.sin(u),
        math.cos(u), math.tan(small), math.asin(small), math.acos(small), math.atan(u), math.sinh(u), math.cosh(u),
        math.tanh(u), math.asinh(u), math.acosh(large), math.atanh(small), math.erf(u), math.erfc(u), math.fabs(small),
        math.degrees(u), math.radians(u), abs(small), math.lgamma(u), math.gamma(u), math.atan2(u, v), math.hypot(u, v),
        math.copysign(u, -v), math.fmod(u, 0.3), u % 0.3, -u % v, math.pow(u, v), u**v, u // 0.7 + u,
        math.floor(3.0 * u) * v, math.ceil(3.0 * u) * v, math.trunc(3.0 * u) * v, round(3.0 * u) * v, int(3.0 * u) * v,
        math.cbrt(u), math.exp2(u), math.log(u, 3.0), math.dist((u, v), (0.1, 0.2)), math.prod((u, v, 2.0)),
        math.hypot(u, v, 2.0), np.arctan2(u, v), np.sqrt(u), np.maximum(u, v), np.minimum(u, v), np.power(u, v),
        sum((u, v, 1.0)), min(u, v, 1.0), math.gamma(u - 3.2),
    )  # fmt: skip


def test_every_function_against_differences():
    """Ridders-like: central differences with two steps, extrapolated, of the function run as plain Python."""
    problem = slm.Problem()
    x = problem.add_variables("x", POINTS)
    rows = len(elementary(POINTS[0], DATA[0]))
    group = problem.add_residuals(slm.residual(dim=rows)(elementary), x, data=DATA)
    found = slm.evaluate(problem)
    J = found.jacobian.toarray().reshape(len(POINTS), rows, len(POINTS), 4)
    for b, point in enumerate(POINTS):
        assert found.residuals[group.name][b] == pytest.approx(elementary(point, DATA[b]), rel=1e-13)
        for k in range(4):

            def difference(step, point=point, k=k, b=b):
                sides = [np.array(elementary(point + sign * step * np.eye(4)[k], DATA[b]), float) for sign in (1, -1)]
                return (sides[0] - sides[1]) / (2.0 * step)

            exact = (4.0 * difference(1e-4) - difference(2e-4)) / 3.0
            np.testing.assert_allclose(J[b, :, b, k], exact, rtol=1e-8, atol=1e-9)


@slm.residual(dim=6)
def kinks(x, y):
    return abs(x[0]), math.sqrt(y[0]), max(x[0], y[0]), min(x[0], y[0]), x[0] ** 2, y[0] ** x[0]


def test_derivatives_at_kinks():
    problem = slm.Problem()
    zero = problem.add_variables("zero", [[0.0]])
    other = problem.add_variables("other", [[0.0]])
    problem.add_residuals(kinks, zero, other)
    J = slm.evaluate(problem).jacobian.toarray()
    assert J[0].tolist() == [1.0, 0.0]
    assert J[1].tolist() == [0.0, np.inf]
    assert J[2].tolist() == J[3].tolist() == [1.0, 0.0]
    assert J[4].tolist() == [0.0, 0.0]
    assert np.isfinite(J[5]).sum() >= 1
