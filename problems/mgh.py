"""Problems 1 to 19 of Moré, Garbow and Hillstrom as residual functions, with data, starts and minima.

Where the problem is a fit, the function is the residual of one observation; elsewhere it is the whole residual vector. Some
of the fits are data sets of NIST too: 10 is MGH10, 15 is MGH09, 17 is MGH17.

References
----------
J. J. Moré, B. S. Garbow, K. E. Hillstrom, "Testing unconstrained optimization software", ACM Transactions on
Mathematical Software 7, 1981, 17–41: formulas, data, starts and minima.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

import sparselm as slm
from sparselm.residuals.base import UnboundResidual

Array = npt.NDArray[np.float64]

_TURN = 2.0 * math.pi


@slm.residual(dim=2)
def rosenbrock(x):
    """1."""
    return 10.0 * (x[1] - x[0] ** 2), 1.0 - x[0]


@slm.residual(dim=2)
def freudenstein_roth(x):
    """2."""
    return (
        -13.0 + x[0] + ((5.0 - x[1]) * x[1] - 2.0) * x[1],
        -29.0 + x[0] + ((x[1] + 1.0) * x[1] - 14.0) * x[1],
    )


@slm.residual(dim=2)
def powell_badly_scaled(x):
    """3."""
    return 1e4 * x[0] * x[1] - 1.0, math.exp(-x[0]) + math.exp(-x[1]) - 1.0001


@slm.residual(dim=3)
def brown_badly_scaled(x):
    """4."""
    return x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2.0


@slm.residual(dim=3)
def beale(x):
    """5."""
    return (
        1.5 - x[0] * (1.0 - x[1]),
        2.25 - x[0] * (1.0 - x[1] ** 2),
        2.625 - x[0] * (1.0 - x[1] ** 3),
    )


@slm.residual(dim=1)
def jennrich_sampson(x, i):
    """6."""
    return 2.0 + 2.0 * i - (math.exp(i * x[0]) + math.exp(i * x[1]))


@slm.residual(dim=3)
def helical_valley(x):
    """7; the angle is the paper's, whose branches meet at x₁ = 0."""
    turn = math.atan(x[1] / x[0]) / _TURN
    if x[0] < 0.0:
        turn += 0.5
    return 10.0 * (x[2] - 10.0 * turn), 10.0 * (math.sqrt(x[0] ** 2 + x[1] ** 2) - 1.0), x[2]


@slm.residual(dim=1)
def bard(x, y, u):
    """8."""
    v = 16.0 - u
    return y - (x[0] + u / (v * x[1] + min(u, v) * x[2]))


@slm.residual(dim=1)
def gaussian(x, y, t):
    """9."""
    return x[0] * math.exp(-0.5 * x[1] * (t - x[2]) ** 2) - y


@slm.residual(dim=1)
def meyer(x, y, t):
    """10."""
    return x[0] * math.exp(x[1] / (t + x[2])) - y


@slm.residual(dim=1)
def gulf(x, t, y):
    """11."""
    return math.exp(-(abs(y - x[1]) ** x[2]) / x[0]) - t


@slm.residual(dim=1)
def box(x, t):
    """12."""
    return math.exp(-t * x[0]) - math.exp(-t * x[1]) - x[2] * (math.exp(-t) - math.exp(-10.0 * t))


@slm.residual(dim=4)
def powell_singular(x):
    """13."""
    return (
        x[0] + 10.0 * x[1],
        math.sqrt(5.0) * (x[2] - x[3]),
        (x[1] - 2.0 * x[2]) ** 2,
        math.sqrt(10.0) * (x[0] - x[3]) ** 2,
    )


@slm.residual(dim=6)
def wood(x):
    """14."""
    return (
        10.0 * (x[1] - x[0] ** 2),
        1.0 - x[0],
        math.sqrt(90.0) * (x[3] - x[2] ** 2),
        1.0 - x[2],
        math.sqrt(10.0) * (x[1] + x[3] - 2.0),
        (x[1] - x[3]) / math.sqrt(10.0),
    )


@slm.residual(dim=1)
def kowalik_osborne(x, y, u):
    """15."""
    return y - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


@slm.residual(dim=1)
def brown_dennis(x, t):
    """16."""
    return (x[0] + t * x[1] - math.exp(t)) ** 2 + (x[2] + x[3] * math.sin(t) - math.cos(t)) ** 2


@slm.residual(dim=1)
def osborne_1(x, y, t):
    """17."""
    return y - (x[0] + x[1] * math.exp(-t * x[3]) + x[2] * math.exp(-t * x[4]))


@slm.residual(dim=1)
def biggs(x, y, t):
    """18."""
    return x[2] * math.exp(-t * x[0]) - x[3] * math.exp(-t * x[1]) + x[5] * math.exp(-t * x[4]) - y


@slm.residual(dim=1)
def osborne_2(x, y, t):
    """19."""
    total = x[0] * math.exp(-t * x[4])
    for k in range(3):
        total += x[1 + k] * math.exp(-((t - x[8 + k]) ** 2) * x[5 + k])
    return y - total


_BARD = (0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39)
_HALF_GAUSSIAN = (0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521)
_MEYER = (34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872)
_KOWALIK_OSBORNE = (
    (0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246),
    (4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625),
)
_OSBORNE_1 = (  # thousandths
    844, 908, 932, 936, 925, 908, 881, 850, 818, 784, 751, 718, 685, 658, 628, 603, 580, 558, 538, 522, 506, 490, 478,
    467, 457, 448, 438, 431, 424, 420, 414, 411, 406,
)  # fmt: skip
_OSBORNE_2 = (  # thousandths
    1366, 1191, 1112, 1013, 991, 885, 831, 847, 786, 725, 746, 679, 608, 655, 616, 606, 602, 626, 651, 724, 649, 649,
    694, 644, 624, 661, 612, 558, 533, 495, 500, 423, 395, 375, 372, 391, 396, 405, 428, 429, 523, 562, 607, 653, 672,
    708, 633, 668, 645, 632, 591, 559, 597, 625, 739, 710, 729, 720, 636, 581, 428, 292, 162, 98, 54,
)  # fmt: skip


def _count(first: int, last: int) -> Array:
    return np.arange(first, last + 1, dtype=np.float64)


def _gulf_data() -> tuple[Array, Array]:
    """With the paper's 99 residuals, the most there are."""
    t = _count(1, 99) / 100.0
    return t, 25.0 + (-50.0 * np.log(t)) ** (2.0 / 3.0)


def _biggs_data() -> tuple[Array, Array]:
    t = 0.1 * _count(1, 13)
    return np.exp(-t) - 5.0 * np.exp(-10.0 * t) + 3.0 * np.exp(-4.0 * t), t


@dataclass(frozen=True, eq=False)
class Case:
    """A problem of the paper.

    Attributes
    ----------
    residual : residual function
    start : tuple of float
        The standard start.
    sum_of_squares : float
        Σ r² at the minimum that the standard start leads to.
    data : sequence of arrays
        One row per observation; empty where the function is the whole residual vector.
    """

    residual: UnboundResidual
    start: tuple[float, ...]
    sum_of_squares: float
    data: Sequence[npt.ArrayLike] = ()

    def is_reached(self, sum_of_squares: float) -> bool:
        """Whether Σ r² is the minimum's or below, to 10⁻⁴; where that is 0, to 10⁻¹¹, with some 1 to 10¹² at the starts."""
        return sum_of_squares <= (self.sum_of_squares * (1.0 + 1e-4) or 1e-11)

    def problem(self, scale: float = 1.0, copies: int = 1) -> slm.Problem:
        """The problem, from ``scale`` times the standard start; or independent copies of it, the "extended" form."""
        problem = slm.Problem()
        x = problem.add_variables("x", scale * np.tile(np.array([self.start]), (copies, 1)))
        if not self.data:
            problem.add_residuals(self.residual, x, name="f")
            return problem
        data = [np.tile(np.asarray(array, dtype=np.float64), copies) for array in self.data]
        owner = np.repeat(np.arange(copies, dtype=np.int32), len(data[0]) // copies)
        problem.add_residuals(self.residual, x[owner], data=tuple(data), name="f")
        return problem


CASES: dict[str, Case] = {
    "rosenbrock": Case(rosenbrock, (-1.2, 1.0), 0.0),
    "freudenstein-roth": Case(freudenstein_roth, (0.5, -2.0), 48.9842),  # a local minimum; 0 at (5, 4)
    "powell-badly-scaled": Case(powell_badly_scaled, (0.0, 1.0), 0.0),
    "brown-badly-scaled": Case(brown_badly_scaled, (1.0, 1.0), 0.0),
    "beale": Case(beale, (1.0, 1.0), 0.0),
    "jennrich-sampson": Case(jennrich_sampson, (0.3, 0.4), 124.362, (_count(1, 10),)),
    "helical-valley": Case(helical_valley, (-1.0, 0.0, 0.0), 0.0),
    "bard": Case(bard, (1.0, 1.0, 1.0), 8.21487e-3, (_BARD, _count(1, 15))),
    "gaussian": Case(
        gaussian,
        (0.4, 1.0, 0.0),
        1.12793e-8,
        ((*_HALF_GAUSSIAN, 0.3989, *_HALF_GAUSSIAN[::-1]), (8.0 - _count(1, 15)) / 2.0),
    ),
    "meyer": Case(meyer, (0.02, 4000.0, 250.0), 87.9458, (_MEYER, 45.0 + 5.0 * _count(1, 16))),
    "gulf": Case(gulf, (5.0, 2.5, 0.15), 0.0, _gulf_data()),
    "box": Case(box, (0.0, 10.0, 20.0), 0.0, (0.1 * _count(1, 10),)),
    "powell-singular": Case(powell_singular, (3.0, -1.0, 0.0, 1.0), 0.0),
    "wood": Case(wood, (-3.0, -1.0, -3.0, -1.0), 0.0),
    "kowalik-osborne": Case(kowalik_osborne, (0.25, 0.39, 0.415, 0.39), 3.07505e-4, _KOWALIK_OSBORNE),
    "brown-dennis": Case(brown_dennis, (25.0, 5.0, -5.0, -1.0), 85822.2, (_count(1, 20) / 5.0,)),
    "osborne-1": Case(
        osborne_1, (0.5, 1.5, -1.0, 0.01, 0.02), 5.46489e-5, (np.array(_OSBORNE_1) / 1000.0, 10.0 * _count(0, 32))
    ),
    "biggs": Case(biggs, (1.0, 2.0, 1.0, 1.0, 1.0, 1.0), 0.0, _biggs_data()),  # another minimum has 5.65565e-3
    "osborne-2": Case(
        osborne_2,
        (1.3, 0.65, 0.65, 0.7, 0.6, 3.0, 5.0, 7.0, 2.0, 4.5, 5.5),
        4.01377e-2,
        (np.array(_OSBORNE_2) / 1000.0, 0.1 * _count(0, 64)),
    ),
}
