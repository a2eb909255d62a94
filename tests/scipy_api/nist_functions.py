"""The models of NIST's nonlinear regression problems as a user of NumPy writes them, vectorised over the data."""

import numpy as np


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


# y = model(b, x) or, for Nelson, log y = model(b, x, z).
MODELS = {
    "Bennett5": lambda b, x: b[0] * (b[1] + x) ** (-1.0 / b[2]),
    "BoxBOD": lambda b, x: b[0] * (1.0 - np.exp(-b[1] * x)),
    "Chwirut1": lambda b, x: np.exp(-b[0] * x) / (b[1] + b[2] * x),
    "Chwirut2": lambda b, x: np.exp(-b[0] * x) / (b[1] + b[2] * x),
    "DanWood": lambda b, x: b[0] * x ** b[1],
    "ENSO": _oscillations,
    "Eckerle4": lambda b, x: b[0] / b[1] * np.exp(-0.5 * ((x - b[2]) / b[1]) ** 2),
    "Gauss1": _two_peaks,
    "Gauss2": _two_peaks,
    "Gauss3": _two_peaks,
    "Hahn1": lambda b, x: _rational(b, x, 3),
    "Kirby2": lambda b, x: _rational(b, x, 2),
    "Lanczos1": _three_decays,
    "Lanczos2": _three_decays,
    "Lanczos3": _three_decays,
    "MGH09": lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
    "MGH10": lambda b, x: b[0] * np.exp(b[1] / (x + b[2])),
    "MGH17": lambda b, x: b[0] + b[1] * np.exp(-x * b[3]) + b[2] * np.exp(-x * b[4]),
    "Misra1a": lambda b, x: b[0] * (1.0 - np.exp(-b[1] * x)),
    "Misra1b": lambda b, x: b[0] * (1.0 - (1.0 + 0.5 * b[1] * x) ** -2.0),
    "Misra1c": lambda b, x: b[0] * (1.0 - (1.0 + 2.0 * b[1] * x) ** -0.5),
    "Misra1d": lambda b, x: b[0] * b[1] * x / (1.0 + b[1] * x),
    "Nelson": lambda b, x, z: b[0] - b[1] * x * np.exp(-b[2] * z),
    "Rat42": lambda b, x: b[0] / (1.0 + np.exp(b[1] - b[2] * x)),
    "Rat43": lambda b, x: b[0] / (1.0 + np.exp(b[1] - b[2] * x)) ** (1.0 / b[3]),
    "Roszman1": lambda b, x: b[0] - b[1] * x - np.arctan(b[2] / (x - b[3])) / np.pi,
    "Thurber": lambda b, x: _rational(b, x, 3),
}
