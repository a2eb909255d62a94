"""Functions that cannot be residual functions, one for each reason.

Not a test module, since pytest rewrites ``assert`` in those.
"""

import math

import numpy as np

SETTINGS = {"a": 1.0}
WEIGHTS = [1.0, 2.0]
counter = 0
LARGE = np.ones(200_000)


class Camera:
    fx = 1.0


def recursive(n):
    return n if n < 1.0 else recursive(n - 1.0)


def bad_helper(v):
    return v.T


def calls_print(x, d):
    print(x[0])
    return x[0]


def dictionary(x, d):
    q = {1: x[0]}
    return q[1]


def dictionary_comprehension(x, d):
    return sum({k: k * x[0] for k in range(3)}.values())


def set_(x, d):
    return x[0] if x[0] in {x[1], x[2]} else x[1]


def growing_list(x, d):
    q = []
    for i in range(3):
        q.append(x[i])
    return q[0]


def list_literal(x, d):
    q = [x[0], x[1]]
    return q[0]


def list_comprehension(x, d):
    return sum([v * v for v in x])


def generator_expression(x, d):
    return sum(v * v for v in x)


def string(x, d):
    mode = "a"
    return x[0] if mode == "a" else x[1]


def formatted(x, d):
    _ = f"{x[0]}"
    return x[0]


def global_mutation(x, d):
    global counter
    counter += 1
    return x[0]


def recursion_in_helper(x, d):
    return recursive(x[0])


def recursion(x, d):
    return recursion(x, d)


def item_assignment(x, d):
    x[0] = 1.0
    return x[0]


def attribute_assignment(x, d):
    Camera.fx = x[0]
    return x[0]


def try_(x, d):
    try:
        return 1.0 / x[0]
    except ZeroDivisionError:
        return 0.0


def raise_(x, d):
    if x[0] < 0:
        raise ValueError("negative")
    return x[0]


def assert_(x, d):
    assert x[0] > 0
    return x[0]


def with_(x, d):
    with open("f"):
        pass
    return x[0]


def lambda_(x, d):
    square = lambda v: v * v  # noqa: E731
    return square(x[0])


def inner_function(x, d):
    def square(v):
        return v * v

    return square(x[0])


def import_(x, d):
    import cmath

    return cmath.pi * x[0]


def class_(x, d):
    class Local:
        pass

    return x[0]


def generator(x, d):
    yield x[0]


def numpy_array(x, d):
    return np.zeros(2)[0] + x[0]


def numpy_linalg(x, d):
    return np.linalg.norm(x)


def numpy_dot(x, d):
    return np.dot(x, x)


def matrix_product(x, d):
    return x @ x


def method(x, d):
    return x.sum()


def unknown_name(x, d):
    return undefined_name(x[0])  # noqa: F821


def global_dictionary(x, d):
    return x[0] * SETTINGS["a"]


def global_list(x, d):
    return x[0] * WEIGHTS[0]


def global_class(x, d):
    return x[0] * Camera.fx


def two_numbers(x, d):
    return x[0], x[1]


def nothing(x, d):
    x[0]


def nested(x, d):
    return (x[0], (x[1], x[2]))


def different_returns(x, d):
    if x[0] > 0:
        return x[0]
    return x[0], x[1]


def different_kinds(x, d):
    if x[0] > 0:
        y = x[0]
    else:
        y = (x[0], x[1])
    return y


def unpack_too_few(x, d):
    a, _ = x
    return a


def starred(x, d):
    first, *rest = x
    return first + rest[0]


def walrus(x, d):
    if (y := x[0]) > 0.5:
        return y
    return x[1]


def deletion(x, d):
    y = x[0]
    del y
    return x[1]


def index_beyond(x, d):
    return x[7]


def data_index_beyond(x, d):
    return x[0] - d[5]


def tuple_arithmetic(x, d):
    return (x - d)[0]


def index_of_number(x, d):
    return x[0][1]


def index_by_float(x, d):
    return x[d[0]]


def complex_number(x, d):
    return (x[0] * 1j).imag


def star_arguments(x, *d):
    return x[0]


def keyword_only(x, d, *, k=1.0):
    return x[0] * k


def match_(x, d):
    match x:
        case (a, _, _):
            return a
    return x[0]


def isinstance_(x, d):
    return x[0] if isinstance(x[0], float) else x[1]


def no_derivative(x, d):
    return math.comb(5, 2) * x[0]


def bits(x, d):
    return x[0] & 1


def error_in_helper(x, d):
    return bad_helper(x[0])


def may_be_undefined(x, d):
    if x[0] > 0:
        y = x[0]
    return y


def starred_conditional(x, d):
    y = (*x[:2], x[2] if x[0] > 0 else x[1])
    return y[2]


def large_array(x, d):
    return x[0] * LARGE[7]


def wrong_call_of_helper(x, d):
    return bad_helper(x[0], x[1])
