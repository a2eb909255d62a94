"""Every registered linear solver keeps the contract."""

import dataclasses
from importlib.metadata import entry_points
from importlib.util import find_spec

import numpy as np
import pytest

from sparselm.linear_solvers import DenseCholesky
from sparselm.linear_solvers.schur import SchurPCG
from sparselm.testing import check_linear_solver

REGISTERED = {entry.name: entry.load() for entry in entry_points(group="sparselm.linear_solvers")}


def instance(name):
    """A solver, with what it takes to make an iterative one exact, and how exact it then is."""
    cls = REGISTERED[name]
    options = {field.name for field in dataclasses.fields(cls)}
    if "tolerance" in options:
        return cls(tolerance=1e-14, max_iterations=2000), {"tolerance": 1e-11, "fails_when_singular": False}
    return cls(), {}


def test_all_solvers_are_registered():
    expected = {"block-cholesky", "schur-cholesky", "schur-pcg", "cholmod", "superlu"}
    expected |= {"lsqr", "lsmr", "dense-cholesky", "dense-qr"}
    assert expected <= set(REGISTERED)


@pytest.mark.parametrize("name", sorted(REGISTERED))
def test_contract(name):
    if name == "cholmod" and find_spec("sksparse") is None:
        pytest.skip("scikit-sparse is not installed")
    solver, options = instance(name)
    check_linear_solver(solver, **options)


def test_contract_with_the_jacobian_in_single_precision():
    solver = SchurPCG(form="explicit", precision="float32", tolerance=1e-14, max_iterations=2000)
    check_linear_solver(solver, tolerance=1e-11, fails_when_singular=False)


class _Faulty(DenseCholesky):
    """A dense Cholesky factorisation with a fault."""

    def solve(self, factor, rhs, out, *, tolerance=None, guess=None):
        facts = super().solve(factor, rhs, out)
        self.fault(rhs, out)
        return facts


def _inexact(rhs, out):
    out *= 1.0 + 1e-9


def _overwrites(rhs, out):
    rhs[0] += 1.0


def _unwritten(rhs, out):
    out[-1] = np.nan


def _moves_held(rhs, out):
    out[out == 0.0] = 1e-300


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (_inexact, "backward error"),
        (_overwrites, "changes the right-hand side"),
        (_unwritten, "unwritten"),
        (_moves_held, "held by"),
    ],
)
def test_check_finds_faults(fault, message):
    cls = type("_Fault", (_Faulty,), {"fault": staticmethod(fault)})
    with pytest.raises(AssertionError, match=message):
        check_linear_solver(cls())


def test_check_finds_solvers_that_ignore_singularity():
    class Ignores(DenseCholesky):
        def factorize(self, system, damping):
            return super().factorize(system, np.maximum(damping, 1e-8))

    with pytest.raises(AssertionError, match="no Failure"):
        check_linear_solver(Ignores(), tolerance=1e-6)
