"""Every registered loss keeps the contract."""

from importlib.metadata import entry_points

import numpy as np
import pytest

from sparselm.losses import AbstractLoss, Composed, Huber, Scaled, Trivial
from sparselm.testing import check_loss

REGISTERED = [entry.load() for entry in sorted(entry_points(group="sparselm.losses"), key=lambda entry: entry.name)]
INSTANCES = [loss for cls in (*REGISTERED, Scaled, Composed) for loss in cls.examples()]


def test_all_losses_are_registered():
    assert len(REGISTERED) >= 9


@pytest.mark.parametrize("loss", INSTANCES, ids=repr)
def test_contract(loss):
    check_loss(loss)


@pytest.mark.parametrize("loss", INSTANCES, ids=repr)
def test_trivial_means_the_identity(loss):
    s = np.array([0.0, 1e-9, 1.0, 1e9])
    out = np.empty((4, 3))
    loss.rho(s, out)
    identity = np.column_stack([s, np.ones(4), np.zeros(4)])
    assert loss.is_trivial == np.array_equal(out, identity)


class _Faulty(AbstractLoss):
    """A Huber loss with one fault."""

    def __init__(self, fault):
        self.fault = fault

    def rho(self, s, out):
        Huber(1.0).rho(s, out)
        self.fault(s, out)


def _offset(s, out):
    out[:, 0] += 1.0


def _negative_slope(s, out):
    out[s > 100.0, 1] *= -1.0


def _wrong_slope(s, out):
    out[:, 1] *= 1.001


def _wrong_curvature(s, out):
    out[:, 2] *= 1.001


def _decreasing(s, out):
    out[s > 1e3, 0] = 1.0


def _infinite(s, out):
    out[s > 1e200, 0] = np.inf


def _overwrites_argument(s, out):
    s *= 0.5


def _hides_nan(s, out):
    out[np.isnan(s), 0] = 0.0


def _depends_on_batch(s, out):
    out[:, 1] *= 1.0 + 1e-13 * (len(s) % 2)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (_offset, "expected 0"),
        (_negative_slope, "negative"),
        (_wrong_slope, "rho' disagrees"),
        (_wrong_curvature, "rho'' disagrees"),
        (_decreasing, "rho decreases"),
        (_infinite, "not finite"),
        (_overwrites_argument, "changes its argument"),
        (_hides_nan, "hides an invalid block"),
        (_depends_on_batch, "batches of"),
    ],
)
def test_check_loss_finds_faults(fault, message):
    check_loss(_Faulty(lambda s, out: None))
    with pytest.raises(AssertionError, match=message):
        check_loss(_Faulty(fault))


class _Incomplete(AbstractLoss):
    def rho(self, s, out):
        out[:, 0] = s
        out[1:, 1] = 1.0
        out[:, 2] = 0.0


def test_check_loss_finds_unwritten_entries():
    with pytest.raises(AssertionError, match="unwritten"):
        check_loss(_Incomplete())


def test_check_loss_finds_warnings():
    def divides_by_zero(s, out):
        out[:, 2] += 0.0 / s

    with pytest.raises(FloatingPointError):
        check_loss(_Faulty(divides_by_zero))


def test_default_example_is_the_default_instance():
    assert Trivial.examples() == (Trivial(),)
