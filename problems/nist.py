"""The nonlinear regression problems of NIST's Statistical Reference Datasets, from both certified starts.

Few parameters, all in one variable; each observation is a residual block. The models, from exponentials that nearly
cancel to rational functions, have badly conditioned Jacobians: a test of accuracy, not of speed. Names are
``nist-<dataset>-1`` (far start) and ``nist-<dataset>-2`` (near start).

References
----------
NIST StRD, Nonlinear Regression, https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import sparselm as slm
from problems.base import NamedProblem, require_data
from problems.formula import Formula

Array = npt.NDArray[np.float64]


class Dataset(NamedTuple):
    """A parsed file: observations y, predictors (num_observations, 1 or 2), two starts, the certified parameters."""

    y: Array
    predictors: Array
    starts: Array
    certified: Array


def read_dataset(path: Path) -> Dataset:
    """Read a NIST .dat file."""
    parameters, rows = [], []
    in_data = False
    for line in path.read_text().splitlines():
        words = line.split()
        if line.startswith("Data:") and words[1] == "y":
            in_data = True
        elif in_data and words:
            rows.append([float(word) for word in words])
        elif len(words) == 6 and words[1] == "=" and words[0].startswith("b"):
            parameters.append([float(word) for word in words[2:5]])
    data, table = np.array(rows), np.array(parameters)
    return Dataset(data[:, 0], data[:, 1:], table[:, :2].T, table[:, 2])


def _rational(b, x, top):
    numerator = sum(b[k] * x**k for k in range(top + 1))
    return numerator / (1.0 + sum(b[top + k] * x**k for k in range(1, len(b) - top)))


def _two_peaks(b, x):
    first, second = ((x - b[3]) / b[4]) ** 2, ((x - b[6]) / b[7]) ** 2
    return b[0] * np.exp(-b[1] * x) + b[2] * np.exp(-first) + b[5] * np.exp(-second)


def _three_decays(b, x):
    return b[0] * np.exp(-b[1] * x) + b[2] * np.exp(-b[3] * x) + b[4] * np.exp(-b[5] * x)


def _oscillations(b, x):
    def wave(period, cosine, sine):
        return cosine * np.cos(2.0 * np.pi * x / period) + sine * np.sin(2.0 * np.pi * x / period)

    return b[0] + wave(12.0, b[1], b[2]) + wave(b[3], b[4], b[5]) + wave(b[6], b[7], b[8])


# Model and certified residual sum of squares. Lanczos1 is exact data: its sum of squares, 1.4e-25, is rounding.
_MODELS: dict[str, tuple[Callable[..., Array], float]] = {
    "Bennett5": (lambda b, x: b[0] * (b[1] + x) ** (-1.0 / b[2]), 5.2404744073e-04),
    "BoxBOD": (lambda b, x: b[0] * (1.0 - np.exp(-b[1] * x)), 1.1680088766e03),
    "Chwirut1": (lambda b, x: np.exp(-b[0] * x) / (b[1] + b[2] * x), 2.3844771393e03),
    "Chwirut2": (lambda b, x: np.exp(-b[0] * x) / (b[1] + b[2] * x), 5.1304802941e02),
    "DanWood": (lambda b, x: b[0] * x ** b[1], 4.3173084083e-03),
    "ENSO": (_oscillations, 7.8853978668e02),
    "Eckerle4": (lambda b, x: b[0] / b[1] * np.exp(-0.5 * ((x - b[2]) / b[1]) ** 2), 1.4635887487e-03),
    "Gauss1": (_two_peaks, 1.3158222432e03),
    "Gauss2": (_two_peaks, 1.2475282092e03),
    "Gauss3": (_two_peaks, 1.2444846360e03),
    "Hahn1": (lambda b, x: _rational(b, x, 3), 1.5324382854e00),
    "Kirby2": (lambda b, x: _rational(b, x, 2), 3.9050739624e00),
    "Lanczos1": (_three_decays, 0.0),
    "Lanczos2": (_three_decays, 2.2299428125e-11),
    "Lanczos3": (_three_decays, 1.6117193594e-08),
    "MGH09": (lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]), 3.0750560385e-04),
    "MGH10": (lambda b, x: b[0] * np.exp(b[1] / (x + b[2])), 8.7945855171e01),
    "MGH17": (lambda b, x: b[0] + b[1] * np.exp(-x * b[3]) + b[2] * np.exp(-x * b[4]), 5.4648946975e-05),
    "Misra1a": (lambda b, x: b[0] * (1.0 - np.exp(-b[1] * x)), 1.2455138894e-01),
    "Misra1b": (lambda b, x: b[0] * (1.0 - (1.0 + 0.5 * b[1] * x) ** -2.0), 7.5464681533e-02),
    "Misra1c": (lambda b, x: b[0] * (1.0 - (1.0 + 2.0 * b[1] * x) ** -0.5), 4.0966836971e-02),
    "Misra1d": (lambda b, x: b[0] * b[1] * x / (1.0 + b[1] * x), 5.6419295283e-02),
    "Nelson": (lambda b, x, z: b[0] - b[1] * x * np.exp(-b[2] * z), 3.7976833176e00),
    "Rat42": (lambda b, x: b[0] / (1.0 + np.exp(b[1] - b[2] * x)), 8.0565229338e00),
    "Rat43": (lambda b, x: b[0] / (1.0 + np.exp(b[1] - b[2] * x)) ** (1.0 / b[3]), 8.7864049080e03),
    "Roszman1": (lambda b, x: b[0] - b[1] * x - np.arctan(b[2] / (x - b[3])) / np.pi, 4.9484847331e-04),
    "Thurber": (lambda b, x: _rational(b, x, 3), 5.6427082397e03),
}

# NIST publishes Lanczos2 and 3 with residuals near the rounding of the data as printed.
_TOLERANCES = {"Lanczos1": 1e-18, "Lanczos2": 1e-5, "Lanczos3": 1e-6}

_CAVEATS = {
    ("BoxBOD", 1): "a large first step flattens the model to a constant, where its derivative is zero",
    ("MGH17", 1): "an exponential overflows in more trial steps running than are allowed",
}


def _build(dataset: str, start: int) -> slm.Problem:
    parsed = read_dataset(require_data(f"nist/{dataset}.dat"))
    model = _MODELS[dataset][0]
    y = np.log(parsed.y) if dataset == "Nelson" else parsed.y
    data = np.column_stack([y, parsed.predictors])
    residual = Formula(
        lambda b, given: (given[0] - model(b, *given[1:]),), (len(parsed.certified),), 1, data_length=data.shape[1]
    )
    problem = slm.Problem()
    b = problem.add_variables("b", parsed.starts[start - 1 : start])
    problem.add_residuals(residual, b[np.zeros(len(y), dtype=np.int32)], data=data, name="observation")
    return problem


def _named(dataset: str, start: int) -> NamedProblem:
    return NamedProblem(
        f"nist-{dataset.lower()}-{start}",
        "nist",
        lambda: _build(dataset, start),
        optimum=0.5 * _MODELS[dataset][1],
        tolerance=_TOLERANCES.get(dataset, 1e-8),
        needs_data=f"nist/{dataset}.dat",
        options={"max_iterations": 2000, "function_tolerance": 1e-15, "parameter_tolerance": 1e-14},
        source="NIST StRD, certified residual sum of squares",
        caveat=_CAVEATS.get((dataset, start), ""),
    )


PROBLEMS = tuple(_named(dataset, start) for dataset in _MODELS for start in (1, 2))
