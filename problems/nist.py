"""The nonlinear regression problems of NIST's Statistical Reference Datasets, from both certified starts.

Few parameters, all in one variable; each observation is a residual block. The models, from exponentials that nearly
cancel to rational functions, have badly conditioned Jacobians: a test of accuracy, not of speed. Names are
``nist-<dataset>-1`` (far start) and ``nist-<dataset>-2`` (near start).

References
----------
NIST StRD, Nonlinear Regression, https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import sparselm as slm
from problems import mgh
from problems import nist_models as models
from problems.base import NamedProblem, require_data
from sparselm.residuals.base import UnboundResidual

Array = npt.NDArray[np.float64]

# Digits to which NIST prints certified values.
CERTIFIED_DIGITS = 11


class Dataset(NamedTuple):
    """A parsed file: observations y, predictors (num_observations, 1 or 2), two starts, the certified parameters."""

    y: Array
    predictors: Array
    starts: Array
    certified: Array


# Model and certified residual sum of squares. Lanczos1 is exact data: its sum of squares, 1.4e-25, is rounding.
MODELS: dict[str, tuple[UnboundResidual, float]] = {
    "Bennett5": (models.bennett5, 5.2404744073e-04),
    "BoxBOD": (models.saturation, 1.1680088766e03),
    "Chwirut1": (models.chwirut, 2.3844771393e03),
    "Chwirut2": (models.chwirut, 5.1304802941e02),
    "DanWood": (models.danwood, 4.3173084083e-03),
    "ENSO": (models.enso, 7.8853978668e02),
    "Eckerle4": (models.eckerle4, 1.4635887487e-03),
    "Gauss1": (models.two_peaks, 1.3158222432e03),
    "Gauss2": (models.two_peaks, 1.2475282092e03),
    "Gauss3": (models.two_peaks, 1.2444846360e03),
    "Hahn1": (models.cubic_over_cubic, 1.5324382854e00),
    "Kirby2": (models.kirby2, 3.9050739624e00),
    "Lanczos1": (models.lanczos, 0.0),
    "Lanczos2": (models.lanczos, 2.2299428125e-11),
    "Lanczos3": (models.lanczos, 1.6117193594e-08),
    "MGH09": (mgh.kowalik_osborne, 3.0750560385e-04),
    "MGH10": (mgh.meyer, 8.7945855171e01),
    "MGH17": (mgh.osborne_1, 5.4648946975e-05),
    "Misra1a": (models.saturation, 1.2455138894e-01),
    "Misra1b": (models.misra1b, 7.5464681533e-02),
    "Misra1c": (models.misra1c, 4.0966836971e-02),
    "Misra1d": (models.misra1d, 5.6419295283e-02),
    "Nelson": (models.nelson, 3.7976833176e00),
    "Rat42": (models.rat42, 8.0565229338e00),
    "Rat43": (models.rat43, 8.7864049080e03),
    "Roszman1": (models.roszman1, 4.9484847331e-04),
    "Thurber": (models.cubic_over_cubic, 5.6427082397e03),
}

# NIST publishes Lanczos2 and 3 with residuals near the rounding of the data as printed.
_TOLERANCES = {"Lanczos1": 1e-18, "Lanczos2": 1e-5, "Lanczos3": 1e-6}

# There are copies of Roszman1.dat in which b1 reads 1.20196866396E-0; its sum of squares is not the certified one.
_CERTIFIED = {("Roszman1", 0): 2.0196866396e-01}

_OPTIONS = {
    "max_iterations": 2000, "function_tolerance": 1e-15, "parameter_tolerance": 1e-14, "damping": slm.More()
}  # fmt: skip

_BOXBOD = (
    "the first step flattens the model to a constant, where its derivative is zero; a smaller radius of the default damping "
    "(1, 0.01) does not help"
)
_CAVEATS = {("BoxBOD", 1): _BOXBOD}


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


def load(dataset: str) -> Dataset:
    """The data set of that name, such as "Misra1a"."""
    found = read_dataset(require_data(f"nist/{dataset}.dat"))
    for (name, parameter), value in _CERTIFIED.items():
        if name == dataset:
            found.certified[parameter] = value
    return found


def correct_digits(found: Array, certified: Array) -> Array:
    """−log₁₀(|b − c| / |c|) of each parameter (NIST's LRE), between 0 and the 11 digits that are certified."""
    error = np.abs(found - certified) / np.abs(certified)
    smallest = 10.0**-CERTIFIED_DIGITS
    return np.clip(-np.log10(np.maximum(error, smallest)), 0.0, CERTIFIED_DIGITS)


def _build(dataset: str, start: int) -> slm.Problem:
    parsed = load(dataset)
    y = np.log(parsed.y) if dataset == "Nelson" else parsed.y
    problem = slm.Problem()
    b = problem.add_variables("b", parsed.starts[start - 1 : start])
    every = b[np.zeros(len(y), dtype=np.int32)]
    problem.add_residuals(MODELS[dataset][0], every, data=(y, *parsed.predictors.T), name="observation")
    return problem


def _named(dataset: str, start: int) -> NamedProblem:
    return NamedProblem(
        f"nist-{dataset.lower()}-{start}",
        "nist",
        lambda: _build(dataset, start),
        optimum=0.5 * MODELS[dataset][1],
        tolerance=_TOLERANCES.get(dataset, 1e-8),
        needs_data=f"nist/{dataset}.dat",
        options=_OPTIONS,
        source="NIST StRD, certified residual sum of squares",
        caveat=_CAVEATS.get((dataset, start), ""),
        certified=lambda: load(dataset).certified,
    )


PROBLEMS = tuple(_named(dataset, start) for dataset in MODELS for start in (1, 2))
