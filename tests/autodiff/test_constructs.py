"""What cannot be compiled is refused in one paragraph: file, line, what, and what to write instead."""

import math
import re

import numpy as np
import pytest
import unsupported as u

import sparselm as slm

# Function, a word of the line that is shown, and words of the remedy.
CASES = [
    (u.calls_print, "print(x[0])", "slm.debug"),
    (u.dictionary, "{1: x[0]}", "module constants"),
    (u.dictionary_comprehension, "for k in range(3)", "module constants"),
    (u.set_, "{x[1], x[2]}", "compare numbers"),
    (u.growing_list, "q = []", "tuple of fixed length"),
    (u.list_literal, "[x[0], x[1]]", "tuple of fixed length"),
    (u.list_comprehension, "[v * v for v in x]", "tuple of fixed length"),
    (u.generator_expression, "v * v for v in x", "tuple of fixed length"),
    (u.string, "mode", "pass a number as data"),
    (u.formatted, "{x[0]}", "numbers"),
    (u.global_mutation, "counter += 1", "outside themselves"),
    (u.recursion_in_helper, "recursive(n - 1.0)", "loop of fixed length"),
    (u.recursion, "return recursion", "loop of fixed length"),
    (u.item_assignment, "x[0] = 1.0", "new tuple"),
    (u.attribute_assignment, "Camera.fx = x[0]", "local name"),
    (u.try_, "", "math.nan"),
    (u.raise_, "raise ValueError", "math.nan"),
    (u.assert_, "assert", "math.nan"),
    (u.with_, "with open", "outside"),
    (u.lambda_, "lambda v", "level of the module"),
    (u.inner_function, "def square", "level of the module"),
    (u.import_, "import cmath", "top of the module"),
    (u.class_, "class Local", "numbers"),
    (u.generator, "def generator", "tuple of fixed length"),
    (u.numpy_array, "np.zeros", "slm.math"),
    (u.numpy_linalg, "np.linalg", "slm.math"),
    (u.numpy_dot, "np.dot", "slm.math"),
    (u.matrix_product, "x @ x", "matrix_vector"),
    (u.method, "x.sum()", "without attributes"),
    (u.unknown_name, "undefined_name", "is not defined"),
    (u.global_dictionary, "SETTINGS", "numbers"),
    (u.global_list, "WEIGHTS", "make it a tuple"),
    (u.global_class, "Camera.fx", "can be used"),
    (u.two_numbers, "def two_numbers", "must return 1"),
    (u.nothing, "def nothing", "must return numbers"),
    (u.nested, "def nested", "must return 1"),
    (u.different_returns, "", "the same number of numbers"),
    (u.different_kinds, "", "same"),
    (u.unpack_too_few, "a, _ = x", "count them"),
    (u.starred, "first, *rest = x", "x[1:]"),
    (u.walrus, "(y := x[0]) > 0.5", "line of its own"),
    (u.deletion, "del y", "leave it out"),
    (u.index_beyond, "x[7]", "as many"),
    (u.data_index_beyond, "d[5]", "as many"),
    (u.tuple_arithmetic, "(x - d)[0]", "slm.math"),
    (u.index_of_number, "x[0][1]", "numbers have no entries"),
    (u.index_by_float, "x[d[0]]", "int("),
    (u.complex_number, "1j", "two numbers"),
    (u.star_arguments, "def star_arguments", "one by one"),
    (u.keyword_only, "def keyword_only", "one by one"),
    (u.match_, "case (a, _, _)", "if/elif"),
    (u.isinstance_, "isinstance", "of Python's functions there are"),
    (u.no_derivative, "math.comb", "no derivative"),
    (u.bits, "x[0] & 1", "arithmetic"),
    (u.error_in_helper, "return v.T", "without attributes"),
    (u.may_be_undefined, "return y", "on every way"),
    (u.starred_conditional, "(*x[:2]", "to a name first"),
    (u.large_array, "LARGE[7]", "as data"),
    (u.wrong_call_of_helper, "bad_helper(x[0], x[1])", "as many as it has parameters"),
]


def _add(function):
    problem = slm.Problem()
    x = problem.add_variables("x", np.ones((4, 3)))
    problem.add_residuals(slm.residual(dim=1)(function), x, data=np.ones((4, 2)))


@pytest.mark.parametrize(("function", "shown", "remedy"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_refused_with_line_and_remedy(function, shown, remedy):
    with pytest.raises(slm.ResidualFunctionError) as caught:
        _add(function)
    message = str(caught.value)
    assert "\n" not in message
    line = int(re.search(re.escape(u.__file__) + r":(\d+)", message)[1])
    first = function.__code__.co_firstlineno
    helpers = (u.bad_helper, u.recursive)
    starts = [(f.__code__.co_firstlineno, max(n for *_, n in f.__code__.co_lines() if n)) for f in (function, *helpers)]
    assert any(begin <= line <= end + 1 for begin, end in starts), (line, first)
    assert shown in message
    assert remedy in message


def test_a_case_is_not_refused_for_something_else():
    """The same function without what is refused does compile."""

    def fine(x, d):
        (a, b, c) = copy = x
        total = again = a * b - c + copy[0]
        return again - total + (0.0 < a < 2.0) * d[0] if b > c else total

    _add(fine)


def test_arguments_are_counted():
    @slm.residual(dim=1)
    def two(x, y, d):
        return x[0] - y[0] - d

    problem = slm.Problem()
    x = problem.add_variables("x", np.ones((4, 1)))
    with pytest.raises(slm.ProblemError, match=r"1 operands and 1 data arrays were given for 3 parameters"):
        problem.add_residuals(two, x, data=np.ones(4))
    with pytest.raises(slm.ProblemError, match=r"3 operands and 1 data"):
        problem.add_residuals(two, x, x, x, data=np.ones(4))


def test_decorator_is_told_what_it_needs():
    with pytest.raises(slm.ProblemError, match="dim"):
        slm.residual(dim=0)
    with pytest.raises(slm.ProblemError, match="Python function"):
        slm.residual(dim=1)(math.sin)
    function = slm.residual(dim=1)(u.two_numbers)
    with pytest.raises(slm.ProblemError, match="no parameter 'camera'"):
        function.prepare("camera")
