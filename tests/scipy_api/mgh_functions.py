"""Problems 1 to 19 of Moré, Garbow and Hillstrom as vector functions of NumPy, with starts and sums of squares.

References
----------
J. J. Moré, B. S. Garbow, K. E. Hillstrom, "Testing unconstrained optimization software", ACM Transactions on
Mathematical Software 7, 1981, 17–41.
"""

import numpy as np


def _rosenbrock(x):  # 1
    return 10.0 * (x[1] - x[0] ** 2), 1.0 - x[0]


def _freudenstein_roth(x):  # 2
    return (
        -13.0 + x[0] + ((5.0 - x[1]) * x[1] - 2.0) * x[1],
        -29.0 + x[0] + ((x[1] + 1.0) * x[1] - 14.0) * x[1],
    )


def _powell_badly_scaled(x):  # 3
    return 1e4 * x[0] * x[1] - 1.0, np.exp(-x[0]) + np.exp(-x[1]) - 1.0001


def _brown_badly_scaled(x):  # 4
    return x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2.0


def _beale(x):  # 5
    return [y - x[0] * (1.0 - x[1] ** i) for i, y in ((1, 1.5), (2, 2.25), (3, 2.625))]


def _jennrich_sampson(x):  # 6
    return [2.0 + 2.0 * i - np.exp(i * x[0]) - np.exp(i * x[1]) for i in range(1, 11)]


def _helical_valley(x):  # 7
    turn = np.arctan(x[1] / x[0]) / (2.0 * np.pi) + np.where(x[0].real < 0.0, 0.5, 0.0)
    return 10.0 * (x[2] - 10.0 * turn), 10.0 * (np.sqrt(x[0] ** 2 + x[1] ** 2) - 1.0), x[2]


def _bard(x):  # 8
    y = (0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39)
    return [y[u - 1] - x[0] - u / ((16 - u) * x[1] + min(u, 16 - u) * x[2]) for u in range(1, 16)]


def _gaussian(x):  # 9
    half = (0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521)
    y = (*half, 0.3989, *half[::-1])
    return [x[0] * np.exp(-x[1] * ((8 - i) / 2.0 - x[2]) ** 2 / 2.0) - y[i - 1] for i in range(1, 16)]


def _meyer(x):  # 10
    y = (34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872)
    return [x[0] * np.exp(x[1] / (45.0 + 5.0 * i + x[2])) - y[i - 1] for i in range(1, 17)]


def _gulf(x):  # 11
    rows = []
    for i in range(1, 100):
        t = i / 100.0
        apart = 25.0 + (-50.0 * np.log(t)) ** (2.0 / 3.0) - x[1]
        distance = np.where(apart.real < 0.0, -apart, apart)
        rows.append(np.exp(-(distance ** x[2]) / x[0]) - t)
    return rows


def _box(x):  # 12
    times = [0.1 * i for i in range(1, 11)]
    return [np.exp(-t * x[0]) - np.exp(-t * x[1]) - x[2] * (np.exp(-t) - np.exp(-10.0 * t)) for t in times]


def _powell_singular(x):  # 13
    return (
        x[0] + 10.0 * x[1],
        np.sqrt(5.0) * (x[2] - x[3]),
        (x[1] - 2.0 * x[2]) ** 2,
        np.sqrt(10.0) * (x[0] - x[3]) ** 2,
    )


def _wood(x):  # 14
    return (
        10.0 * (x[1] - x[0] ** 2),
        1.0 - x[0],
        np.sqrt(90.0) * (x[3] - x[2] ** 2),
        1.0 - x[2],
        np.sqrt(10.0) * (x[1] + x[3] - 2.0),
        (x[1] - x[3]) / np.sqrt(10.0),
    )


def _kowalik_osborne(x):  # 15
    y = (0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246)
    u = (4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625)
    return [b - x[0] * (a**2 + a * x[1]) / (a**2 + a * x[2] + x[3]) for a, b in zip(u, y, strict=True)]


def _brown_dennis(x):  # 16
    times = [i / 5.0 for i in range(1, 21)]
    return [(x[0] + t * x[1] - np.exp(t)) ** 2 + (x[2] + x[3] * np.sin(t) - np.cos(t)) ** 2 for t in times]


_OSBORNE_1 = (  # thousandths
    844, 908, 932, 936, 925, 908, 881, 850, 818, 784, 751, 718, 685, 658, 628, 603, 580, 558, 538, 522, 506, 490, 478,
    467, 457, 448, 438, 431, 424, 420, 414, 411, 406,
)  # fmt: skip


def _osborne_1(x):  # 17
    return [
        y / 1000.0 - x[0] - x[1] * np.exp(-10.0 * i * x[3]) - x[2] * np.exp(-10.0 * i * x[4])
        for i, y in enumerate(_OSBORNE_1)
    ]


def _biggs(x):  # 18
    rows = []
    for i in range(1, 14):
        t = 0.1 * i
        y = np.exp(-t) - 5.0 * np.exp(-10.0 * t) + 3.0 * np.exp(-4.0 * t)
        rows.append(x[2] * np.exp(-t * x[0]) - x[3] * np.exp(-t * x[1]) + x[5] * np.exp(-t * x[4]) - y)
    return rows


_OSBORNE_2 = (  # thousandths
    1366, 1191, 1112, 1013, 991, 885, 831, 847, 786, 725, 746, 679, 608, 655, 616, 606, 602, 626, 651, 724, 649, 649,
    694, 644, 624, 661, 612, 558, 533, 495, 500, 423, 395, 375, 372, 391, 396, 405, 428, 429, 523, 562, 607, 653, 672,
    708, 633, 668, 645, 632, 591, 559, 597, 625, 739, 710, 729, 720, 636, 581, 428, 292, 162, 98, 54,
)  # fmt: skip


def _osborne_2(x):  # 19
    rows = []
    for i, y in enumerate(_OSBORNE_2):
        t = 0.1 * i
        bumps = [x[1 + k] * np.exp(-((t - x[8 + k]) ** 2) * x[5 + k]) for k in range(3)]
        rows.append(y / 1000.0 - x[0] * np.exp(-t * x[4]) - sum(bumps))
    return rows


# Function, standard start, sums of squares at the minima that the paper names (to six digits), or at stationary points.
PROBLEMS = {
    "rosenbrock": (_rosenbrock, (-1.2, 1.0), (0.0,)),
    "freudenstein-roth": (_freudenstein_roth, (0.5, -2.0), (0.0, 48.9842)),
    "powell-badly-scaled": (_powell_badly_scaled, (0.0, 1.0), (0.0,)),
    "brown-badly-scaled": (_brown_badly_scaled, (1.0, 1.0), (0.0,)),
    "beale": (_beale, (1.0, 1.0), (0.0,)),
    "jennrich-sampson": (_jennrich_sampson, (0.3, 0.4), (124.362,)),
    "helical-valley": (_helical_valley, (-1.0, 0.0, 0.0), (0.0,)),
    "bard": (_bard, (1.0, 1.0, 1.0), (8.21487e-3, 17.4286)),
    "gaussian": (_gaussian, (0.4, 1.0, 0.0), (1.12793e-8,)),
    "meyer": (_meyer, (0.02, 4000.0, 250.0), (87.9458,)),
    "gulf": (_gulf, (5.0, 2.5, 0.15), (0.0,)),
    "box": (_box, (0.0, 10.0, 20.0), (0.0,)),
    "powell-singular": (_powell_singular, (3.0, -1.0, 0.0, 1.0), (0.0,)),
    "wood": (_wood, (-3.0, -1.0, -3.0, -1.0), (0.0,)),
    "kowalik-osborne": (_kowalik_osborne, (0.25, 0.39, 0.415, 0.39), (3.07505e-4, 1.02734e-3)),
    "brown-dennis": (_brown_dennis, (25.0, 5.0, -5.0, -1.0), (85822.2,)),
    "osborne-1": (_osborne_1, (0.5, 1.5, -1.0, 0.01, 0.02), (5.46489e-5,)),
    "biggs": (_biggs, (1.0, 2.0, 1.0, 1.0, 1.0, 1.0), (0.0, 5.65565e-3)),
    "osborne-2": (_osborne_2, (1.3, 0.65, 0.65, 0.7, 0.6, 3.0, 5.0, 7.0, 2.0, 4.5, 5.5), (4.01377e-2,)),
}
