"""The models of NIST's nonlinear regression problems, as residuals of one observation; data sets share them."""

from __future__ import annotations

import math

import sparselm as slm

_TURN = 2.0 * math.pi


@slm.residual(dim=1)
def bennett5(b, y, x):
    """Bennett5."""
    return y - b[0] * (b[1] + x) ** (-1.0 / b[2])


@slm.residual(dim=1)
def saturation(b, y, x):
    """BoxBOD, Misra1a."""
    return y - b[0] * (1.0 - math.exp(-b[1] * x))


@slm.residual(dim=1)
def chwirut(b, y, x):
    """Chwirut1, Chwirut2."""
    return y - math.exp(-b[0] * x) / (b[1] + b[2] * x)


@slm.residual(dim=1)
def danwood(b, y, x):
    """DanWood."""
    return y - b[0] * x ** b[1]


@slm.residual(dim=1)
def eckerle4(b, y, x):
    """Eckerle4."""
    return y - b[0] / b[1] * math.exp(-0.5 * ((x - b[2]) / b[1]) ** 2)


def wave(turns, cosine, sine):
    return cosine * math.cos(_TURN * turns) + sine * math.sin(_TURN * turns)


@slm.residual(dim=1)
def enso(b, y, x):
    """ENSO: the year, and two cycles of unknown length."""
    return y - (b[0] + wave(x / 12.0, b[1], b[2]) + wave(x / b[3], b[4], b[5]) + wave(x / b[6], b[7], b[8]))


@slm.residual(dim=1)
def two_peaks(b, y, x):
    """Gauss1, Gauss2, Gauss3."""
    first, second = ((x - b[3]) / b[4]) ** 2, ((x - b[6]) / b[7]) ** 2
    return y - (b[0] * math.exp(-b[1] * x) + b[2] * math.exp(-first) + b[5] * math.exp(-second))


@slm.residual(dim=1)
def cubic_over_cubic(b, y, x):
    """Hahn1, Thurber."""
    top = b[0] + x * (b[1] + x * (b[2] + x * b[3]))
    return y - top / (1.0 + x * (b[4] + x * (b[5] + x * b[6])))


@slm.residual(dim=1)
def kirby2(b, y, x):
    """Kirby2."""
    return y - (b[0] + x * (b[1] + x * b[2])) / (1.0 + x * (b[3] + x * b[4]))


@slm.residual(dim=1)
def lanczos(b, y, x):
    """Lanczos1, Lanczos2, Lanczos3."""
    return y - (b[0] * math.exp(-b[1] * x) + b[2] * math.exp(-b[3] * x) + b[4] * math.exp(-b[5] * x))


@slm.residual(dim=1)
def misra1b(b, y, x):
    """Misra1b."""
    return y - b[0] * (1.0 - (1.0 + 0.5 * b[1] * x) ** -2.0)


@slm.residual(dim=1)
def misra1c(b, y, x):
    """Misra1c."""
    return y - b[0] * (1.0 - (1.0 + 2.0 * b[1] * x) ** -0.5)


@slm.residual(dim=1)
def misra1d(b, y, x):
    """Misra1d."""
    return y - b[0] * b[1] * x / (1.0 + b[1] * x)


@slm.residual(dim=1)
def nelson(b, log_y, time, temperature):
    """Nelson, which is stated for log y."""
    return log_y - (b[0] - b[1] * time * math.exp(-b[2] * temperature))


@slm.residual(dim=1)
def rat42(b, y, x):
    """Rat42."""
    return y - b[0] / (1.0 + math.exp(b[1] - b[2] * x))


@slm.residual(dim=1)
def rat43(b, y, x):
    """Rat43."""
    return y - b[0] / (1.0 + math.exp(b[1] - b[2] * x)) ** (1.0 / b[3])


@slm.residual(dim=1)
def roszman1(b, y, x):
    """Roszman1."""
    return y - (b[0] - b[1] * x - math.atan(b[2] / (x - b[3])) / math.pi)
