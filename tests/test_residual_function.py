"""Functions of one block: arguments, derivatives in tangent spaces, prepared rows, hand-written Jacobians, plain Python."""

import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import sparselm as slm
from problems.user_written import snavely, snavely_prepared
from sparselm.datasets import street
from sparselm.testing import check_residual

SCALE = 3.0
MATRIX = np.array([[1.0, 2.0], [3.0, 4.0]])


def bundle(residual, data, hold=False):
    problem = slm.Problem()
    camera = problem.add_variables("camera", data.cameras)
    point = problem.add_variables("point", data.points)
    if hold:
        camera.fix([0])
        camera.fix(components=[7, 8])
        point.fix([2, 3], components=[1])
    problem.add_residuals(
        residual, camera[data.camera_index], point[data.point_index], data=data.pixels, name="reprojection"
    )
    return problem


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("residual", [snavely, snavely_prepared], ids=["plain", "prepared"])
def test_snavely_is_the_hand_written_kernel(residual, hold):
    data = street(6, 120, seed=3).data
    own, hand = (slm.evaluate(bundle(r, data, hold)) for r in (residual, slm.SnavelyReprojection()))
    A, B = own.jacobian.toarray(), hand.jacobian.toarray()
    A, B = (J.reshape(-1, 2, J.shape[1]) for J in (A, B))
    worst = np.abs(A - B).max(axis=(1, 2)) / np.abs(B).max(axis=(1, 2))
    assert worst.max() <= 1e-12
    np.testing.assert_allclose(own.residuals["reprojection"], hand.residuals["reprojection"], atol=1e-9)
    assert own.cost == pytest.approx(hand.cost, rel=1e-12)


def bind(function, *manifolds, data=()):
    return function.bind(manifolds, data)


@slm.residual(dim=6)
def between(a, b, z):
    return slm.math.se3_log(slm.math.se3_compose(slm.math.se3_inverse(z), slm.math.se3_between(a, b)))


@slm.residual(dim=3)
def between_se2(a, b, z):
    return slm.math.se2_log(slm.math.se2_compose(slm.math.se2_inverse(z), slm.math.se2_between(a, b)))


@slm.residual(dim=3)
def bearing(pose, point, direction):
    d = slm.math.normalize(slm.math.se3_transform_inverse(pose, point))
    return slm.math.subtract(d, direction)


@slm.residual(dim=1)
def angles(turn, camera):
    pose, focal = camera[:7], camera[7]
    return math.sin(turn[0]) * pose[0] * focal + pose[6] * pose[6]


@pytest.mark.parametrize(
    "residual",
    [
        bind(between_se2, slm.SE2(), slm.SE2(), data=((3,),)),
        bind(bearing, slm.SE3(), slm.Euclidean(3), slm.Sphere()),
        bind(angles, slm.SO2(), slm.Product(slm.SE3(), slm.Euclidean(2))),
        bind(snavely_prepared, slm.Euclidean(9), slm.Euclidean(3), data=((2,),)),
    ],
    ids=["se2", "se3-sphere", "product", "prepared"],
)
def test_contract_on_manifolds(residual):
    check_residual(residual, np.random.default_rng(1))


@pytest.mark.parametrize(("function", "manifold"), [(between, slm.SE3()), (between_se2, slm.SE2())], ids=["se3", "se2"])
def test_relative_poses_are_those_of_between(function, manifold):
    """Full logarithms of the same group elements: values and Jacobians to rounding, also near zero and near π."""
    hand = slm.Between(manifold)
    rng = np.random.default_rng(5)
    problem = slm.Problem()
    n = 300
    poses = problem.add_variables("pose", manifold.random(rng, n), manifold=manifold)
    first, second = np.arange(n - 1), np.arange(1, n)
    relative = np.empty((n - 1, manifold.ambient_dim))
    step = rng.standard_normal((n - 1, manifold.tangent_dim))
    step *= (rng.choice([1e-9, 1e-4, 0.3, 2.0, 3.0], n - 1) / np.linalg.norm(step, axis=1))[:, None]
    data = np.empty((n - 1, manifold.ambient_dim))
    x, y = poses.values[:-1].copy(), poses.values[1:].copy()
    local = np.empty((n - 1, manifold.tangent_dim))
    manifold.local(x, y, local)
    identity = np.zeros((n - 1, manifold.ambient_dim))
    identity[:, -1] = 1.0 if manifold.ambient_dim == 7 else 0.0
    manifold.retract(identity, local, relative)  # X⁻¹ Y
    manifold.retract(relative, step, data)
    problem.add_residuals(hand, poses[first], poses[second], data=data, name="hand")
    group = problem.add_residuals(function, poses[first], poses[second], data=data, name="own")
    found = slm.evaluate(problem)
    np.testing.assert_allclose(found.residuals["own"], found.residuals["hand"], atol=1e-12)
    rows = group.num_blocks * hand.dim
    A, B = found.jacobian.toarray()[rows:], found.jacobian.toarray()[:rows]
    assert np.abs(A - B).max() <= 1e-10 * np.abs(B).max()


@slm.residual(dim=2)
def with_rig(camera, point, pixel, rig=None):
    if rig is None:
        p = slm.math.add(point, camera)
    else:
        p = slm.math.add(slm.math.add(point, camera), rig)
    u, v = slm.math.project_pinhole(p)
    return u - pixel[0], v - pixel[1]


def test_an_optional_operand():
    problem = slm.Problem()
    camera = problem.add_variables("camera", [[0.0, 0.0, 4.0], [1.0, 0.0, 5.0]])
    point = problem.add_variables("point", [[0.5, 0.2, 0.1], [0.3, 0.4, 0.1]])
    rig = problem.add_variables("rig", [[0.1, 0.2, 0.3]])
    pixels = np.zeros((2, 2))
    problem.add_residuals(with_rig, camera, point, data=pixels, name="left")
    problem.add_residuals(with_rig, camera, point, rig[[0, 0]], data=pixels, name="right")
    problem.add_residuals(with_rig, camera, point, None, data=pixels, name="none")
    found = slm.evaluate(problem)
    for name, offset in (("left", 0.0), ("right", rig.values[0]), ("none", 0.0)):
        p = camera.values + point.values + offset
        np.testing.assert_allclose(found.residuals[name], p[:, :2] / p[:, 2:], rtol=1e-14)
    J = found.jacobian.toarray()
    assert J.shape == (12, 15)
    assert (J[:4, 12:] == 0).all() and (J[4:8, 12:] != 0).any()


@slm.residual(dim=1)
def same_variable(a, b):
    return a[0] * b[0] - 6.0


def test_two_operands_of_one_group_and_the_same_row_twice():
    problem = slm.Problem()
    x = problem.add_variables("x", [[2.0], [5.0]])
    problem.add_residuals(same_variable, x[[0, 1]], x[[1, 1]])
    found = slm.evaluate(problem)
    assert found.residuals["same_variable"].ravel().tolist() == [4.0, 19.0]
    assert found.jacobian.toarray().tolist() == [[5.0, 2.0], [0.0, 10.0]]


@slm.residual(dim=3)
def all_kinds_of_data(x, scalar, row, matrix, long, power=2):
    total = 0.0
    for k in range(80):
        total += long[k]
    return x[0] * scalar + row[1], matrix[1][0] * x[0] ** power, total * x[0] + MATRIX[1, 0] * SCALE


def test_data_of_every_shape():
    rng = np.random.default_rng(0)
    n = 3
    scalar, row, matrix, long = (rng.standard_normal((n, *s)) for s in ((), (2,), (2, 3), (80,)))
    problem = slm.Problem()
    x = problem.add_variables("x", rng.standard_normal((n, 1)))
    group = problem.add_residuals(all_kinds_of_data, x, data=(scalar, row, matrix, long))
    v = x.values[:, 0]
    expected = np.column_stack([v * scalar + row[:, 1], matrix[:, 1, 0] * v**2, long.sum(axis=1) * v + 9.0])
    found = slm.evaluate(problem)
    np.testing.assert_allclose(found.residuals[group.name], expected, rtol=1e-13)
    slopes = np.stack([scalar, 2 * matrix[:, 1, 0] * v, long.sum(axis=1)], axis=1)
    own = found.jacobian.toarray()[np.arange(3 * n), np.repeat(np.arange(n), 3)]
    np.testing.assert_allclose(own, slopes.ravel(), rtol=1e-12)
    for block in range(n):
        np.testing.assert_allclose(slm.debug(group, block), expected[block], rtol=1e-13)


@slm.residual(dim=2)
def circle(center, radius, p):
    dx, dy = p[0] - center[0], p[1] - center[1]
    return math.hypot(dx, dy) - radius[0], radius[0] * center[0]


def circle_problem(function=circle):
    rng = np.random.default_rng(2)
    problem = slm.Problem()
    center = problem.add_variables("center", [[0.1, 0.2]])
    radius = problem.add_variables("radius", [[0.8]])
    index = np.zeros(20, dtype=np.int32)
    problem.add_residuals(function, center[index], radius[index], data=rng.standard_normal((20, 2)), name="circle")
    return problem


def with_jacobian(write):
    function = slm.residual(dim=2)(circle.function)
    function.jacobian(write)
    return function


def right(center, radius, p):
    dx, dy = p[0] - center[0], p[1] - center[1]
    d = math.hypot(dx, dy)
    return (-dx / d, -dy / d, -1.0), (radius[0], 0.0, center[0])


def nearly_right(center, radius, p):
    first, second = right(center, radius, p)
    return first, (second[0] * (1.0 + 1e-10), 0.0, center[0])


def wrong_sign(center, radius, p):
    dx, dy = p[0] - center[0], p[1] - center[1]
    d = math.hypot(dx, dy)
    return (-dx / d, dy / d, -1.0), (radius[0], 0.0, center[0])


def too_short(center, radius, p):
    return (1.0, 2.0), (1.0, 2.0)


def test_a_hand_written_jacobian_is_used_and_checked():
    functions = circle, with_jacobian(right), with_jacobian(nearly_right)
    automatic, by_hand, used = (slm.evaluate(circle_problem(f)).jacobian.toarray() for f in functions)
    np.testing.assert_allclose(by_hand, automatic, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(used[1::2, 0] / automatic[1::2, 0] - 1.0, 1e-10, rtol=1e-4)
    message = r"hand-written Jacobian is wrong in block \d+: ∂r\[0\]/∂\(component 1 of operand 0"
    with pytest.raises(slm.ProblemError, match=message):
        slm.evaluate(circle_problem(with_jacobian(wrong_sign)))
    with pytest.raises(slm.ResidualFunctionError, match="4 numbers, but a Jacobian has 6 = 2 rows × 3"):
        circle_problem(with_jacobian(too_short))


def test_a_hand_written_jacobian_keeps_the_contract():
    residual = with_jacobian(right).bind((slm.Euclidean(2), slm.Euclidean(1)), ((2,),))
    check_residual(residual, np.random.default_rng(4))


@slm.residual(dim=1)
def unit(q, x):
    return slm.math.rotate_quaternion(q, x)[0]


@unit.prepare("q")
def as_matrix(q):
    return slm.math.rotation_matrix(q)


def test_prepared_rows_of_a_manifold():
    @slm.residual(dim=1)
    def rotated(q, x):
        return slm.math.dot(q[0], x)

    rotated.prepare("q")(as_matrix)
    check_residual(rotated.bind((slm.SO3(), slm.Euclidean(3)), ()), np.random.default_rng(6))


def test_it_runs_as_plain_python():
    data = street(4, 60, seed=1).data
    problem = bundle(snavely_prepared, data)
    group = problem.residuals[0]
    found = slm.evaluate(problem).residuals["reprojection"]
    seen = []

    def spy(camera, point, pixel):
        seen.append(type(point))
        return snavely_prepared.function(camera, point, pixel)

    spied = slm.residual(dim=2)(spy)
    camera, point = data.cameras[data.camera_index[5]], data.points[data.point_index[5]]
    assert spied(snavely_prepared._prepare["camera"](camera), point, data.pixels[5]) == pytest.approx(found[5], rel=1e-9)
    assert seen == [np.ndarray]
    assert slm.debug(group, 5) == pytest.approx(found[5], rel=1e-9)
    with pytest.raises(slm.ProblemError, match="no block"):
        slm.debug(group, 10**6)
    with pytest.raises(slm.ProblemError, match=r"@slm\.residual"):
        slm.debug(bundle(slm.SnavelyReprojection(), data).residuals[0], 0)


def test_a_block_that_is_not_finite_is_named_at_the_start():
    problem = circle_problem()
    problem.variables[0].values = np.array([problem.residuals[0].data[0][7]])
    problem.variables[1].values = [[0.5]]

    @slm.residual(dim=1)
    def inverse(center, p):
        return 1.0 / (center[0] - p[0])

    problem.add_residuals(inverse, problem.variables[0][np.zeros(20, np.int32)], data=problem.residuals[0].data[0])
    with pytest.raises(slm.NonFiniteStartError, match=r"residual of block 7|Jacobian of block 7"):
        slm.solve(problem)


def test_many_blocks_on_one_and_two_threads_have_the_same_bits():
    data = street(8, 900, seed=4).data
    problem = bundle(snavely, data)
    results = [slm.solve(problem, num_threads=n, max_iterations=3, linear_solver=slm.SuperLU()) for n in (1, 2)]
    assert results[0].iterations[1].cost == results[1].iterations[1].cost


def test_a_residual_function_cannot_be_passed_where_none_is_known():
    with pytest.raises(slm.ProblemError, match=r"@slm\.residual\(dim=…\)"):
        slm.Problem().add_residuals(circle.function)


@slm.residual(dim=1)
def many_defaults(x, d, power=2, shift=None):
    if shift is None:
        return x[0] ** power - d
    return (x[0] + shift[0]) ** power - d


def test_a_number_as_default_stands_beside_an_optional_operand():
    problem = slm.Problem()
    x = problem.add_variables("x", [[3.0]])
    shift = problem.add_variables("shift", [[1.0]])
    groups = [problem.add_residuals(many_defaults, *o, data=[1.0]) for o in ((x,), (x, shift))]
    found = slm.evaluate(problem)
    assert [found.residuals[g.name][0, 0] for g in groups] == [8.0, 15.0] == [slm.debug(g, 0) for g in groups]


def test_problems_can_be_copied_and_pickled():
    data = street(4, 60, seed=1).data
    problem = bundle(snavely_prepared, data)
    copy = pickle.loads(pickle.dumps(problem))
    assert slm.evaluate(copy).cost == slm.evaluate(problem).cost
    assert copy.residuals[0].residual is problem.residuals[0].residual  # of the same process: one and the same


def test_closed_over_modules_functions_and_numbers():
    import numpy as local_numpy

    factor = 2.0

    def square(v):
        return v * v

    @slm.residual(dim=1)
    def inner(x):
        return local_numpy.sqrt(x[0]) * factor + square(x[0])

    problem = slm.Problem()
    group = problem.add_residuals(inner, problem.add_variables("x", [[4.0]]))
    found = slm.evaluate(problem)
    assert found.residuals[group.name].tolist() == [[20.0]]
    assert found.jacobian.toarray().tolist() == [[8.5]]


def test_a_function_that_prepares_is_no_helper():
    @slm.residual(dim=2)
    def calls(camera, point, pixel):
        return snavely_prepared(camera, point, pixel)

    with pytest.raises(slm.ResidualFunctionError, match="prepared rows"):
        bundle(calls, street(4, 60, seed=1).data)


def test_one_row_stands_for_all_blocks():
    rng = np.random.default_rng(3)
    points = rng.standard_normal((20, 2))
    problem = slm.Problem()
    center = problem.add_variables("center", [[0.0, 0.0], [0.1, 0.2]])
    radius = problem.add_variables("radius", [[0.8]])
    for operands in ((center[1], radius), (center[np.ones(20, dtype=int)], radius[np.zeros(20, dtype=int)])):
        problem.add_residuals(circle, *operands, data=points)
    found = slm.evaluate(problem)
    J = found.jacobian.toarray()
    np.testing.assert_array_equal(found.residuals["circle"], found.residuals["circle-2"])
    np.testing.assert_array_equal(J[:40], J[40:])
    with pytest.raises(slm.ProblemError, match="operand 0 2; each must select one row per block"):
        problem.add_residuals(circle, center, radius[np.zeros(20, dtype=int)], data=points)


TABLE = np.arange(4.0)


@slm.residual(dim=2)
def indexed(x, k):
    return x[int(k)], x[0] * TABLE[int(k)]


def test_an_index_beyond_the_end_makes_its_block_not_finite():
    problem = slm.Problem()
    x = problem.add_variables("x", np.ones((5000, 2)))
    k = np.zeros(5000)
    k[3000], k[4000] = 3.0, 7.0
    problem.add_residuals(indexed, x, data=k)
    found = slm.evaluate(problem)
    bad = np.flatnonzero(np.isnan(found.residuals["indexed"]).any(axis=1))
    assert bad.tolist() == [3000, 4000]
    with pytest.raises(slm.NonFiniteStartError, match="block 3000"):
        slm.solve(problem)


@slm.residual(dim=4)
def extremes(x, d):
    return max(x), min(x[0], x[1], d, 1.0, 2.0), np.clip(x[0], 0.0, d), np.sign(x[0]) * np.square(x[1])


def test_extremes_of_tuples_and_many_numbers():
    problem = slm.Problem()
    problem.add_residuals(extremes, problem.add_variables("x", [[0.5, -3.0], [4.0, 5.0]]), data=[0.7, 0.7])
    found = slm.evaluate(problem)
    assert found.residuals["extremes"].tolist() == [[0.5, -3.0, 0.5, 9.0], [5.0, 0.7, 0.7, 25.0]]
    J = found.jacobian.toarray()
    assert J[:4, :2].tolist() == [[1, 0], [0, 1], [1, 0], [0, -6]]
    assert J[4:, 2:].tolist() == [[0, 1], [0, 0], [0, 0], [0, 10]]


def test_vectors_of_another_length_are_refused_where_they_are_passed():
    @slm.residual(dim=1)
    def wrong(x):
        return slm.math.norm(x)

    problem = slm.Problem()
    x = problem.add_variables("x", np.ones((2, 4)))
    with pytest.raises(slm.ResidualFunctionError, match=r"return slm\.math\.norm\(x\).*count them"):
        problem.add_residuals(wrong, x)
    with pytest.raises(ValueError, match="unpack"):
        wrong((1.0, 1.0, 1.0, 1.0))


def test_the_decorator_without_parentheses():
    with pytest.raises(slm.ProblemError, match=r"@slm\.residual\(dim=2\)"):

        @slm.residual
        def bare(x):
            return x[0]


def _values(function, *, x=(0.7, 1.5, 2.0), data=0.25):
    problem = slm.Problem()
    variables = problem.add_variables("x", [list(x)])
    group = problem.add_residuals(slm.residual(dim=1)(function), variables, data=[data])
    found = slm.evaluate(problem)
    assert slm.debug(group, 0) == pytest.approx(found.residuals[group.name][0, 0], rel=1e-13)
    return found.residuals[group.name][0, 0], found.jacobian.toarray()[0]


MIXED = (1, 0.5, 0.25)


def nested_loops(x, d):
    rows = ((x[0], 1.0, 0.0), (x[1], x[2], d), (0.0, x[0], 2))
    total = 0.0
    for i in range(3):
        for j in range(3):
            total += rows[i][j] * MIXED[j]
    for row in rows:
        total += row[1] * (not x[0]) + (1.0 if x[0] and not d > 1.0 else 0.0)
    for y in x:
        z = y * y
    return total + z


def test_nested_tuples_mixed_constants_and_loops_that_assign():
    _, slope = _values(nested_loops)
    assert slope == pytest.approx([1.0 + 0.5, 1.0, 0.5 + 4.0], rel=1e-14)


def test_modulo_counts_as_its_value_does():
    value, slope = _values(lambda x, d: x[0] % x[1], x=(1.0, 0.1, 0.0))
    assert value == pytest.approx(0.1) and slope.tolist() == [1.0, -9.0, 0.0]


def test_constants_are_those_of_when_the_group_was_added():
    array = np.array([1.0, 2.0])

    def scaled(x, d):
        return array[0] * x[0]

    problem = slm.Problem()
    x = problem.add_variables("x", [[3.0]])
    function = slm.residual(dim=1)(scaled)
    function.jacobian(lambda x, d: 1.0 * array[0])
    first = problem.add_residuals(function, x, data=[0.0])
    array[0] = 1.0 + 1e-9
    second = problem.add_residuals(function, x, data=[0.0])
    found = slm.evaluate(problem)
    assert [found.residuals[g.name][0, 0] for g in (first, second)] == [3.0, 3.0 * (1.0 + 1e-9)]


def test_arrays_in_defaults_and_tuples_are_told_apart():
    def make(value):
        array = np.zeros(2000)
        array[500] = value
        pair = (array, 1.0)

        def f(x, d, K=array):
            return x[0] * K[500] * pair[0][500]

        return f

    assert [_values(make(v))[0] for v in (1.0, 2.0, 1.0 + 1e-9)] == pytest.approx([0.7, 2.8, 0.7 * (1 + 2e-9)], rel=1e-15)


def test_numpys_maximum_keeps_nan():
    def larger(x, d):
        return np.maximum(x[0], d) + np.floor(x[1])

    assert _values(larger, data=1.0)[0] == 2.0
    problem = slm.Problem()
    problem.add_residuals(slm.residual(dim=1)(larger), problem.add_variables("x", [[1.0, 2.0]]), data=[np.nan], name="r")
    assert np.isnan(slm.evaluate(problem).residuals["r"]).all()


def test_one_function_added_from_several_threads():
    def shared(x, d):
        return x[0] * 3.25 + math.sin(x[1]) - d

    with ThreadPoolExecutor(4) as pool:
        values = list(pool.map(lambda _: _values(shared)[0], range(8)))
    assert len(set(values)) == 1


def test_messages_say_what_the_parameters_get():
    @slm.residual(dim=1)
    def swapped(camera, point, pixel):
        return camera[5] - point[0] - pixel[0]

    problem = slm.Problem()
    camera, point = problem.add_variables("camera", np.ones((1, 6))), problem.add_variables("point", np.ones((1, 3)))
    message = r"parameters get: camera 3 numbers \(operand\), point 6 numbers \(operand\), pixel 2 numbers \(data\)"
    with pytest.raises(slm.ResidualFunctionError, match=message):
        problem.add_residuals(swapped, point, camera, data=np.ones((1, 2)))
    swapped.prepare("camera")(lambda camera: None)
    with pytest.raises(slm.ResidualFunctionError, match=r"'<lambda>'.*returns nothing"):
        problem.add_residuals(swapped, camera, point, data=np.ones((1, 2)))
