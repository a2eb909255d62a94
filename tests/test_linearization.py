"""The numeric core against dense NumPy: J, gradient, diagonal, cost, weights, losses, held components, thread counts."""

import functools

import numba
import numpy as np
import pytest
from small_problems import LinearBlocks, Rosenbrock, mixed_problem

import sparselm as slm
from sparselm import evaluator
from sparselm.evaluator import Evaluator
from sparselm.gather import PIECE
from sparselm.structure import Structure


def dense_oracle(problem):
    """J over all tangent components of all variables (held ones included), and r, in the user's order of blocks."""
    starts = np.cumsum([0] + [v.values.size for v in problem.variables])
    rows_J, rows_r = [], []
    for group in problem.residuals:
        A, c = group.data
        for block in range(group.num_blocks):
            J = np.zeros((group.residual.dim, starts[-1]))
            r = -c[block].copy()
            at = 0
            for operand in group.operands:
                number = next(i for i, v in enumerate(problem.variables) if v is operand.variables)
                width = operand.variables.values.shape[1]
                first = starts[number] + width * operand.index[block]
                part = A[block][:, at : at + width]
                J[:, first : first + width] += part
                r += part @ operand.variables.values[operand.index[block]]
                at += width
            if group.sqrt_information is not None:
                W = group.sqrt_information[block if len(group.sqrt_information) > 1 else 0]
                W = W * np.eye(group.residual.dim) if W.shape == (1, 1) else W
                J, r = W @ J, W @ r
            rows_J.append(J)
            rows_r.append(r)
    free = np.concatenate(
        [np.ones(v.values.size, bool) if v.fixed is None else ~v.fixed.ravel() for v in problem.variables]
    )
    return rows_J, rows_r, free


def user_order(structure, problem):
    """For each row of J the row it has in the user's order of groups and blocks."""
    first = np.cumsum([0] + [g.num_blocks * g.residual.dim for g in problem.residuals])
    out = []
    for span in structure.spans:
        for block in range(span.num_blocks):
            begin = first[span.group] + span.original_block(block) * span.dim
            out += list(range(begin, begin + span.dim))
    return np.array(out)


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("keep_held_columns", [False, True])
@pytest.mark.parametrize("weight", ["none", "scalar", "per block", "matrix", "matrices", "information"])
def test_linearization_equals_the_dense_oracle(hold, keep_held_columns, weight):
    rng = np.random.default_rng(7)
    problem = mixed_problem(rng, hold=hold)
    for group in problem.residuals:
        n, dim = group.num_blocks, group.residual.dim
        root = rng.standard_normal((n, dim, dim))
        choices = {
            "none": {},
            "scalar": {"sqrt_information": 0.7},
            "per block": {"information": rng.uniform(0.1, 2.0, n)},
            "matrix": {"sqrt_information": root[0]},
            "matrices": {"sqrt_information": root},
            "information": {"information": np.einsum("nki,nkj->nij", root, root)},
        }
        group.set_weight(**choices[weight])
    structure = Structure(problem, keep_held_columns=keep_held_columns)
    lin = Evaluator(problem, structure).linearize()
    J_blocks, r_blocks, free = dense_oracle(problem)
    J, r = np.vstack(J_blocks), np.concatenate(r_blocks)
    order = user_order(structure, problem)
    kept = np.ones(J.shape[1], bool) if keep_held_columns else free
    expected = J[order][:, kept]
    expected[:, ~free[kept]] = 0.0  # what is held but kept its columns has no derivatives
    scale = np.abs(expected).max()
    assert lin.jacobian().shape == expected.shape
    np.testing.assert_allclose(lin.jacobian().toarray(), expected, atol=1e-13 * scale)
    np.testing.assert_allclose(lin.residual, r[order], atol=1e-12 * np.abs(r).max())
    gradient = expected.T @ r[order]
    np.testing.assert_allclose(lin.gradient, gradient, atol=1e-12 * np.abs(gradient).max())
    np.testing.assert_allclose(lin.diagonal, (expected**2).sum(axis=0), atol=1e-12 * scale**2)
    assert lin.cost == pytest.approx(0.5 * r @ r, rel=1e-14)
    v, u = rng.standard_normal(expected.shape[1]), rng.standard_normal(expected.shape[0])
    out = np.empty(expected.shape[0])
    lin.jvp(v, out)
    np.testing.assert_allclose(out, expected @ v, atol=1e-12 * np.abs(out).max())
    out = np.empty(expected.shape[1])
    lin.vjp(u, out)
    np.testing.assert_allclose(out, expected.T @ u, atol=1e-12 * np.abs(out).max())
    operator = lin.as_linear_operator()
    np.testing.assert_allclose(operator @ v, expected @ v, atol=1e-12 * np.abs(expected @ v).max())
    np.testing.assert_allclose(operator.T @ u, expected.T @ u, atol=1e-12 * np.abs(expected.T @ u).max())
    assert lin.predicted_reduction(expected @ v) == pytest.approx(0.5 * r @ r - 0.5 * np.sum((r[order] + expected @ v) ** 2))


@pytest.mark.parametrize("keep_held_columns", [False, True])
def test_single_precision_rounds_what_double_precision_has(keep_held_columns, monkeypatch):
    """In several chunks, with weights and losses; twice, since the chunks' buffers serve again."""
    monkeypatch.setattr(evaluator, "CHUNK", 16)
    rng = np.random.default_rng(4)
    problem = mixed_problem(rng)
    for group, loss in zip(problem.residuals, (None, slm.Huber(0.3), slm.Cauchy(1.0)), strict=True):
        group.set_weight(sqrt_information=rng.standard_normal((group.residual.dim, group.residual.dim)))
        group.loss = loss
    structure = Structure(problem, keep_held_columns=keep_held_columns)
    double, single = (Evaluator(problem, structure, precision) for precision in ("float64", "float32"))
    for _ in range(2):
        one, other = double.linearize(), single.linearize()
        assert other.values.dtype == np.float32
        np.testing.assert_array_equal(other.values, one.values.astype(np.float32))
        np.testing.assert_array_equal(other.residual, one.residual)
        assert other.cost == one.cost
        J, u = other.jacobian().toarray().astype(np.float64), rng.standard_normal(structure.num_rows)
        close = functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12 * np.abs(J).max() ** 2)
        close(other.gradient, J.T @ other.residual)
        close(other.diagonal, (J**2).sum(axis=0))
        v, products = rng.standard_normal(structure.num_columns), (np.empty(len(u)), np.empty(structure.num_columns))
        other.jvp(v, products[0])
        other.vjp(u, products[1])
        close(products[0], J @ v)
        close(products[1], J.T @ u)
        for evaluated in (double, single):
            evaluated.move_trial(0.1 * v)
            evaluated.accept_trial()


def test_spans_share_one_buffer_of_double_precision():
    """Many small spans: a buffer for each would be as large as J."""
    rng = np.random.default_rng(0)
    problem = slm.Problem()
    x = problem.add_variables("x", rng.standard_normal((50, 4)))
    for dim in range(1, 9):
        data = (rng.standard_normal((50, dim, 4)), rng.standard_normal((50, dim)))
        problem.add_residuals(LinearBlocks(dim, (4,)), x, data=data)
    single = Evaluator(problem, Structure(problem), "float32")
    assert single._double.size == 50 * 8 * 4
    assert all(np.shares_memory(batch.J, single._double) for batches in single._batches for batch in batches)


@pytest.mark.parametrize("num_blocks", [40, 2000])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_diagonal_blocks_come_with_the_gradient(precision, num_blocks):
    """By the kernel of any sizes and by that of known ones, whose wider operand is summed by vectors."""
    rng = np.random.default_rng(0)
    problem = slm.Problem()
    wide, narrow = (problem.add_variables(name, rng.standard_normal((5, k))) for name, k in (("wide", 9), ("narrow", 3)))
    index = [np.append(rng.integers(0, 4, num_blocks - 1), 4) for _ in range(2)]  # most are seen often, one once
    data = (rng.standard_normal((num_blocks, 2, 12)), rng.standard_normal((num_blocks, 2)))
    problem.add_residuals(LinearBlocks(2, (9, 3)), wide[index[0]], narrow[index[1]], data=data)
    evaluator = Evaluator(problem, Structure(problem), precision)
    evaluator.linearization.announce_diagonal_blocks()
    lin = evaluator.linearize()
    (span,) = lin.structure.spans
    J = lin.blocks(span).astype(np.float64)
    for operand in span.operands:
        A = J[:, :, operand.start : operand.start + operand.width]
        products = np.einsum("bic,bid->bcd", A, A)
        gradients = np.einsum("bic,bi->bc", A, lin.block_residuals(span))
        for row, first in enumerate(operand.layout.column):
            own = operand.index == row
            expected = products[own].sum(axis=0)
            columns = slice(first, first + operand.width)
            close = functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12 * np.abs(expected).max())
            close(lin.diagonal_blocks(operand)[row], expected.ravel())
            close(lin.diagonal[columns], expected.diagonal())
            close(lin.gradient[columns], gradients[own].sum(axis=0), atol=1e-11 * np.abs(gradients).sum())


def test_held_components_have_no_columns_and_spans_follow_them():
    problem = mixed_problem(np.random.default_rng(3))
    structure = Structure(problem)
    assert structure.num_columns == 6 * 3 - 3 - 4 + 9 * 2 - 4 - 1 + 8
    widths = {(span.group, span.width) for span in structure.spans}
    assert len(structure.spans) > len(problem.residuals)
    assert all(width <= 9 for _, width in widths)
    for span in structure.spans:
        assert (span.columns >= 0).sum() == span.width
    names = [structure.describe_block(b) for b in range(structure.num_blocks)]
    assert names[0] == "a[0]"
    assert names[1] == "a[2]"  # row 1 is held and has no block
    assert structure.block_of_column(structure.block_columns[1]) == 1


def test_many_patterns_of_held_components_keep_their_columns():
    rng = np.random.default_rng(0)
    problem = slm.Problem()
    a = problem.add_variables("a", rng.standard_normal((40, 5)))
    for row in range(40):
        a.fix([row], components=[c for c in range(5) if (row % 32) >> c & 1])
    residual = LinearBlocks(2, (5,))
    problem.add_residuals(residual, a, data=(rng.standard_normal((40, 2, 5)), rng.standard_normal((40, 2))))
    structure = Structure(problem)
    assert len(structure.spans) == 1
    assert structure.num_columns == 200
    held = structure.held_columns(problem)
    np.testing.assert_array_equal(held, a.fixed.ravel())
    result = slm.solve(problem)
    moved = result[a] != a.values
    assert not moved[a.fixed].any()
    assert moved[~a.fixed].all()


def test_gathered_sums_split_popular_variables_and_do_not_depend_on_threads():
    rng = np.random.default_rng(5)
    n = 5 * PIECE + 13
    problem = slm.Problem()
    hub = problem.add_variables("hub", rng.standard_normal((1, 3)))
    leaf = problem.add_variables("leaf", rng.standard_normal((n, 2)))
    data = (rng.standard_normal((n, 2, 5)), rng.standard_normal((n, 2)))
    problem.add_residuals(
        LinearBlocks(2, (3, 2)), hub[np.zeros(n, np.int32)], leaf, data=data, loss=slm.Cauchy(0.5),
        sqrt_information=rng.standard_normal((n, 2, 2)),
    )  # fmt: skip
    structure = Structure(problem)
    assert structure.spans[0].operands[0].gather.num_slots == 6
    outcomes = []
    before = numba.get_num_threads()
    for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
        numba.set_num_threads(threads)
        lin = Evaluator(problem, structure).linearize()
        out = np.empty(structure.num_rows)
        lin.jvp(lin.gradient, out)
        outcomes.append((lin.values.copy(), lin.gradient.copy(), lin.diagonal.copy(), out, lin.cost))
    numba.set_num_threads(before)
    for left, right in zip(*outcomes, strict=True):
        np.testing.assert_array_equal(left, right)
    J = lin.jacobian()
    np.testing.assert_allclose(lin.gradient, J.T @ lin.residual, atol=1e-11)


@pytest.mark.parametrize("loss", [slm.Huber(0.5), slm.Cauchy(0.3), slm.Tolerant(1.0, 0.2), slm.Scaled(slm.SoftL1(), 3.0)])
def test_losses_give_the_gradient_of_the_robust_cost(loss):
    rng = np.random.default_rng(11)
    problem = slm.Problem()
    x = problem.add_variables("x", rng.standard_normal((5, 2)))
    data = (rng.standard_normal((30, 3, 2)), 2.0 * rng.standard_normal((30, 3)))
    problem.add_residuals(LinearBlocks(3, (2,)), x[rng.integers(0, 5, 30)], data=data, loss=loss)
    structure = Structure(problem)

    def cost(values):
        x.values = values
        return Evaluator(problem, structure).linearize().cost

    start = x.values.copy()
    lin = Evaluator(problem, structure).linearize()
    step = 1e-6
    for component in range(start.size):
        shift = np.zeros(start.size)
        shift[component] = step
        shift = shift.reshape(start.shape)
        difference = (cost(start + shift) - cost(start - shift)) / (2 * step)
        assert lin.gradient[component] == pytest.approx(difference, rel=1e-6, abs=1e-7)


def test_second_order_term_of_triggs_is_used_where_rho_curves_up():
    """With ρ″ > 0 the corrected JᵀJ is ρ′ JᵀJ + 2ρ″ Jᵀr rᵀJ, the Gauss–Newton matrix of ½ρ(‖r‖²)."""
    rng = np.random.default_rng(2)
    problem = slm.Problem()
    x = problem.add_variables("x", rng.standard_normal((1, 2)))
    A, c = rng.standard_normal((1, 3, 2)), rng.standard_normal((1, 3))
    loss = slm.Tolerant(1.0, 0.5)
    problem.add_residuals(LinearBlocks(3, (2,)), x, data=(A, c), loss=loss)
    J = Evaluator(problem, Structure(problem)).linearize().jacobian().toarray()
    r = A[0] @ x.values[0] - c[0]
    rho = np.empty((1, 3))
    loss.rho(np.array([r @ r]), rho)
    assert rho[0, 2] > 0
    expected = rho[0, 1] * A[0].T @ A[0] + 2 * rho[0, 2] * np.outer(A[0].T @ r, A[0].T @ r)
    np.testing.assert_allclose(J.T @ J, expected, rtol=1e-12)


def test_jacobian_is_zero_copy_only_where_rows_are_sorted():
    rng = np.random.default_rng(1)
    for sorted_operands in (True, False):
        problem = slm.Problem()
        a = problem.add_variables("a", rng.standard_normal((4, 2)))
        b = problem.add_variables("b", rng.standard_normal((4, 2)))
        operands = (a, b) if sorted_operands else (b, a)
        data = (rng.standard_normal((4, 2, 4)), rng.standard_normal((4, 2)))
        problem.add_residuals(LinearBlocks(2, (2, 2)), *operands, data=data)
        lin = Evaluator(problem, Structure(problem)).linearize()
        before = lin.values.copy()
        J = lin.jacobian()
        abs(J).max()
        J.sort_indices()
        assert np.shares_memory(J.data, lin.values) is sorted_operands
        np.testing.assert_array_equal(lin.values, before)
        assert J.has_sorted_indices


def test_ambient_jacobians_are_multiplied_by_plus_jacobian():
    class Direction(Rosenbrock):
        """r = x − target in R³ for x on the sphere, derivatives in ambient numbers."""

        ambient_jacobian = True

        @property
        def dim(self):
            return 3

        @property
        def manifolds(self):
            return (slm.Euclidean(3),)

        @property
        def data_shapes(self):
            return ((3,),)

        def evaluate(self, blocks, data, r):
            r[:] = blocks[0].values[blocks[0].index] - data[0]

        def linearize(self, blocks, data, columns, r, J):
            self.evaluate(blocks, data, r)
            J[:] = np.eye(3)

    rng = np.random.default_rng(4)
    target = rng.standard_normal((6, 3))
    problem = slm.Problem()
    x = problem.add_variables("x", rng.standard_normal((6, 3)), manifold=slm.Sphere())
    problem.add_residuals(Direction(), x, data=target)
    result = slm.solve(problem, function_tolerance=0, parameter_tolerance=0)
    expected = target / np.linalg.norm(target, axis=1, keepdims=True)
    np.testing.assert_allclose(result[x], expected, atol=1e-7)


def test_nan_at_the_start_names_block_operands_and_data():
    rng = np.random.default_rng(0)
    problem = slm.Problem()
    x = problem.add_variables("x", rng.standard_normal((3, 2)))
    x.fix([0])
    A, c = rng.standard_normal((5, 2, 2)), rng.standard_normal((5, 2))
    group = problem.add_residuals(LinearBlocks(2, (2,)), x[[0, 1, 2, 1, 0]], data=(A, c), name="pull")
    A[3, 0, 0] = np.nan
    group.set_data((A, c))
    with pytest.raises(slm.NonFiniteStartError, match=r"'pull'.*residual of block 3.*x\[1\] = .*data \[\[.*nan"):
        slm.solve(problem)
