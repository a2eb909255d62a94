"""Certified values of NIST, and the problems of Moré, Garbow and Hillstrom next to MINPACK."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from mgh_functions import PROBLEMS
from nist_functions import MODELS

import sparselm as slm
from problems.base import data_path
from problems.nist import read_dataset

BEST = {"jac": "3-point", "ftol": 1e-12, "xtol": 1e-12, "gtol": 1e-12}

# The file of Roszman1 that circulates prints b1 as "1.20196866396E-0"; NIST publishes this value, with which the residual
# sum of squares is the one that the file certifies.
CORRECTED = {("Roszman1", 0): 2.0196866396e-01}


def nist(name):
    """Residuals as a function of b, the two starts and the certified values."""
    path = data_path(f"nist/{name}.dat")
    if path is None:
        pytest.skip("needs the data sets of NIST below $SPARSELM_DATA")
    data = read_dataset(path)
    y = np.log(data.y) if name == "Nelson" else data.y
    certified = data.certified.copy()
    for (dataset, index), value in CORRECTED.items():
        if dataset == name:
            certified[index] = value
    return lambda b: y - MODELS[name](b, *data.predictors.T), data.starts, certified


@pytest.mark.parametrize("options", [{}, BEST], ids=["defaults", "best"])
@pytest.mark.parametrize("start", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_nist_parameters_to_four_digits(name, start, options):
    fun, starts, certified = nist(name)
    with np.errstate(all="ignore"):
        result = slm.least_squares(fun, starts[start - 1], **options)
    assert result.success
    assert (np.abs(result.x - certified) <= 1e-4 * np.abs(certified)).all()


def minimum(name, scale, solver, **options):
    """The sum of squares found from a multiple of the standard start."""
    fun, start, _ = PROBLEMS[name]

    def residuals(x):
        return np.array([np.asarray(row, dtype=float) for row in fun(np.asarray(x))]).ravel()

    with np.errstate(all="ignore"):
        return 2.0 * solver(residuals, scale * np.array(start), **options).cost


def reached(name, sum_of_squares):
    return any(abs(sum_of_squares - known) <= 1e-4 * known + 1e-8 * (known == 0.0) for known in PROBLEMS[name][2])


# From a first radius a hundredth of MINPACK's it follows another branch, with x1 → ∞.
ELSEWHERE = {("kowalik-osborne", 10)}


@pytest.mark.parametrize("scale", [1, 10])
@pytest.mark.parametrize("name", PROBLEMS)
def test_minima_that_minpack_reaches_are_reached(name, scale):
    if not reached(name, minimum(name, scale, scipy.optimize.least_squares, method="lm")):
        pytest.skip("MINPACK does not get there")
    assert reached(name, minimum(name, scale, slm.least_squares, method="lm"))
    assert reached(name, minimum(name, scale, slm.least_squares)) == ((name, scale) not in ELSEWHERE)


@pytest.mark.parametrize("name", PROBLEMS)
def test_all_minima_are_reached_from_the_standard_start(name):
    assert reached(name, minimum(name, 1, slm.least_squares))
