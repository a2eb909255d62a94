"""SciPy's tests of ``least_squares``, as they stand in its wheel, run on ours."""

from __future__ import annotations

import importlib
import importlib.util
import inspect

import pytest
import scipy
from scipy_exceptions import EXCEPTIONS

import sparselm as slm

NAME = "scipy.optimize.tests.test_least_squares"
MODULE = None
# Some builds leave the tests out, and older ones test an older interface.
if int(scipy.__version__.split(".")[1]) >= 17 and importlib.util.find_spec("scipy.optimize.tests") is not None:
    MODULE = importlib.import_module(NAME)
pytestmark = pytest.mark.skipif(MODULE is None, reason="needs SciPy 1.17 or newer, installed with its tests")


def _tests():
    """Name and function of each test, bound to an instance of its class."""
    found = {}
    for name, item in vars(MODULE).items():
        if name.startswith("test_") and inspect.isfunction(item):
            found[name] = item
        elif name.startswith("Test") and inspect.isclass(item):
            for method in dir(item):
                if method.startswith("test_"):
                    found[f"{name}::{method}"] = getattr(item(), method)
    return found


TESTS = {} if MODULE is None else _tests()


@pytest.mark.parametrize("name", TESTS)
def test_scipy(name, monkeypatch):
    monkeypatch.setattr(MODULE, "least_squares", slm.least_squares)
    if name not in EXCEPTIONS:
        TESTS[name]()
        return
    try:
        TESTS[name]()
    except Exception:
        return
    pytest.fail(f"{name} passes: take it out of the exceptions")


def test_exceptions_name_tests_and_are_few():
    assert set(EXCEPTIONS) <= set(TESTS)
    assert len(EXCEPTIONS) <= 10
    assert all(EXCEPTIONS.values())


def test_there_are_as_many_as_scipy_has():
    assert len(TESTS) >= 120
