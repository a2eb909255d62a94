"""Moré's strategy against a dense oracle of its subproblem, and its rules one by one."""

import numpy as np
import pytest

from sparselm.damping import More
from sparselm.linear_solvers.base import Failure, SolveFacts


class Quadratic:
    """m(δ) = ½‖r + Jδ‖² with dense algebra; counts its factorisations."""

    def __init__(self, J, r):
        self.J, self.r = J, r
        self.gradient, self.diagonal = J.T @ r, (J * J).sum(axis=0)
        self.factorizations = 0

    def new_vector(self):
        return np.zeros(self.J.shape[1])

    def squared_norm(self, v):
        return float(v @ v)

    def factorize(self, damping):
        self.factorizations += 1
        H = self.J.T @ self.J + np.diag(damping)
        if np.linalg.cond(H) > 1e14:
            return Failure("singular")
        return H

    def solve(self, factor, rhs, out):
        out[:] = np.linalg.solve(factor, rhs)
        return SolveFacts()

    def confine(self, damping, rhs, delta, facts):
        return facts

    def predicted_reduction(self, delta):
        Jd = self.J @ delta
        return -float(Jd @ (self.r + 0.5 * Jd))


def problem(seed, m=12, n=5, rank=None):
    rng = np.random.default_rng(seed)
    J = rng.standard_normal((m, n)) * np.logspace(-3, 3, n)
    if rank is not None:
        J[:, rank:] = J[:, :1]
    return Quadratic(J, rng.standard_normal(m))


def length(model, delta):
    return float(np.linalg.norm(np.sqrt(model.diagonal) * delta))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("fraction", [1e-6, 1e-3, 0.1, 0.5, 0.85])
@pytest.mark.parametrize("rank", [None, 3])
def test_the_step_solves_the_subproblem(seed, fraction, rank):
    model = problem(seed, rank=rank)
    D = np.sqrt(model.diagonal)
    newton = D * np.linalg.lstsq(model.J, -model.r, rcond=None)[0]
    radius = fraction * float(np.linalg.norm(np.linalg.lstsq(model.J / D, -model.r, rcond=None)[0]))
    assert np.linalg.norm(newton) >= radius
    damping = More(initial_radius=radius)
    trial = damping.step(model, damping.start(model))
    assert not trial.failed
    assert length(model, trial.delta) == pytest.approx(radius, rel=1e-9)
    # The step of the λ found, before it was stretched by a tenth at most: parallel to it, and λ in the right place.
    exact = np.linalg.solve(model.J.T @ model.J + trial.state.lambda_ * np.diag(model.diagonal), -model.gradient)
    np.testing.assert_allclose(trial.delta / length(model, trial.delta), exact / length(model, exact), atol=1e-6)
    assert 0.9 * radius <= length(model, exact) * (1 + 1e-9) and length(model, exact) <= 1.1 * radius * (1 + 1e-9)
    assert model.factorizations <= 8
    assert trial.predicted == pytest.approx(model.predicted_reduction(trial.delta))


def test_a_gauss_newton_step_inside_the_radius_is_taken():
    model = problem(1)
    newton = np.linalg.lstsq(model.J, -model.r, rcond=None)[0]
    for factor in (0.92, 1.0, 50.0):
        damping = More(initial_radius=factor * length(model, newton))
        trial = damping.step(model, damping.start(model))
        np.testing.assert_allclose(trial.delta, newton, rtol=1e-8)
        assert trial.state.lambda_ == 0.0


def trial_and(model, radius):
    damping = More(initial_radius=radius)
    return damping, damping.step(model, damping.start(model))


def test_success_doubles_and_failure_shrinks_the_radius():
    model = problem(2)
    damping, trial = trial_and(model, 0.1 * length(model, np.linalg.lstsq(model.J, -model.r, rcond=None)[0]))
    size = length(model, trial.delta)
    slope = model.gradient @ trial.delta
    cases = [
        (0.9 * trial.predicted, True, 2.0 * size),
        (0.5 * trial.predicted, True, size),
        (0.2 * trial.predicted, True, 0.5 * size),
        (0.00005 * trial.predicted, False, 0.5 * size),
        (-trial.predicted, False, 0.5 * slope / (slope - trial.predicted) * size),
        (-1e6 * trial.predicted, False, 0.1 * size),
    ]
    for reduction, accepted, radius in cases:
        found, state = damping.judge(trial, reduction, trial.state)
        assert found is accepted
        assert state.radius == pytest.approx(radius)


def test_the_first_radius_is_cut_to_the_first_step():
    model = problem(3)
    damping, trial = trial_and(model, 1e6)
    _, state = damping.judge(trial, 0.5 * trial.predicted, trial.state)
    assert state.lambda_ == 0.0 and state.radius == pytest.approx(2.0 * length(model, trial.delta))
    _, state = damping.judge(trial, -1e9 * trial.predicted, trial.state)
    assert state.radius == pytest.approx(0.1 * length(model, trial.delta))


def test_scales_never_shrink():
    model = problem(4)
    damping = More()
    state = damping.start(model)
    before = state.scale.copy()
    smaller = Quadratic(model.J * np.array([0.1, 1.0, 3.0, 1.0, 0.5]), model.r)
    trial = damping.step(smaller, state)
    np.testing.assert_allclose(trial.state.scale, before * np.array([1.0, 1.0, 3.0, 1.0, 1.0]))


def test_invalid_steps_shrink_the_radius_until_it_is_exhausted():
    model = problem(5)
    damping, trial = trial_and(model, 1.0)
    state, count = trial.state, 0
    while not damping.exhausted(state):
        state, count = damping.invalid(state), count + 1
    assert 20 < count < 100
