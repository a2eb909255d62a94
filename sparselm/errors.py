"""Exceptions for misuse. Numerical outcomes are a :class:`sparselm.Status`, never an exception."""


class SparselmError(Exception):
    """Base of every exception this package raises on purpose."""


class ProblemError(SparselmError, ValueError):
    """The problem is ill-formed: a shape, an index, a manifold or a value does not fit."""


class ResidualFunctionError(ProblemError):
    """A residual function holds what cannot be compiled; the message names file, line and what to write instead."""


class NonFiniteStartError(ProblemError):
    """A residual block is NaN or infinite at the starting point."""


class SolverError(SparselmError, ValueError):
    """A linear solver or damping strategy cannot work on this problem, or is configured wrongly."""


class MissingDependencyError(SparselmError, ImportError):
    """An optional back end was asked for by name but is not installed."""


class PluginError(SparselmError, LookupError):
    """No plug-in of that name, or one that cannot be loaded."""


class FileFormatError(SparselmError, ValueError):
    """A data file is malformed; the message names file, line and remedy."""


class FileWarning(UserWarning):
    """A data file could be used, but something in it was ignored, completed or corrected; the message counts it."""
