"""Calls of a user's NumPy function over blocks: what goes in cannot be changed, what comes out is checked."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from sparselm.errors import ProblemError

Array = npt.NDArray[np.float64]
AnyArray = npt.NDArray[Any]


def function_name(fun: Callable[..., Any]) -> str:
    """What a callable is called in messages and reports."""
    while isinstance(fun, functools.partial):
        fun = fun.func
    name = str(getattr(fun, "__name__", type(fun).__name__))
    return "lambda" if name == "<lambda>" else name


@final
@dataclass(frozen=True)
class UserFunction:
    """A function of k operands and m data arrays, of all blocks at a time or, not vectorised, of one.

    Parameters
    ----------
    fun : callable
    dim : int
        Numbers per block that it returns, or rows of the Jacobians.
    vectorized : bool
        True where ``fun`` takes arrays ``(n, …)``; else it takes one block's ``(…)`` and is called n times.
    what : str
        Which function it is, at the head of error messages.
    """

    fun: Callable[..., Any]
    dim: int
    vectorized: bool
    what: str

    def check_arguments(self, num_operands: int, num_data: int) -> None:
        """Raise ProblemError where the function's signature does not take so many arguments."""
        try:
            signature = inspect.signature(self.fun)
        except (TypeError, ValueError):  # built-ins and extension functions have none
            return
        try:
            signature.bind(*[None] * (num_operands + num_data))
        except TypeError as error:
            raise ProblemError(
                f"{self.what}{signature} is to be called with {num_operands} operands and {num_data} data arrays: {error}"
            ) from None

    def write(self, operands: Sequence[Array], data: Sequence[Array], out: Array) -> None:
        """Write its values ``(n, dim)``; ``out`` may be reused by the next call, whatever the function returned."""
        if self.vectorized:
            out[...] = self._value(operands, data, out.shape, np.floating)
            return
        for b in range(len(out)):
            block = [x[b] for x in operands], [array[b] for array in data]
            out[b] = self._value(*block, out.shape[1:], np.floating)

    def write_imaginary(self, operands: Sequence[AnyArray], data: Sequence[Array], out: Array) -> None:
        """Write the imaginary part of its values where one operand is complex."""
        if self.vectorized:
            out[...] = self._value(operands, data, out.shape, np.complexfloating).imag
            return
        for b in range(len(out)):
            block = [x[b] for x in operands], [array[b] for array in data]
            out[b] = self._value(*block, out.shape[1:], np.complexfloating).imag

    def jacobians(self, operands: Sequence[Array], data: Sequence[Array], widths: Sequence[int]) -> list[Array]:
        """The function as a Jacobian: an array ``(n, dim, width)`` for each operand."""
        if self.vectorized:
            return self._jacobians(operands, data, [(len(operands[0]), self.dim, width) for width in widths])
        found = [np.empty((len(operands[0]), self.dim, width)) for width in widths]
        for b in range(len(operands[0])):
            block = [x[b] for x in operands], [array[b] for array in data]
            for part, own in zip(found, self._jacobians(*block, [(self.dim, width) for width in widths]), strict=True):
                part[b] = own
        return found

    def _call(self, operands: Sequence[AnyArray], data: Sequence[Array]) -> Any:
        # A trial step may go anywhere: a residual that overflows there makes the step invalid, and is no warning.
        with np.errstate(all="ignore"):
            return self.fun(*operands, *data)

    def _value(
        self, operands: Sequence[AnyArray], data: Sequence[Array], shape: tuple[int, ...], kind: type[np.generic]
    ) -> AnyArray:
        value = self._call(operands, data)
        if self.vectorized and isinstance(value, (tuple, list)):
            raise ProblemError(
                f"{self.what} returned a {type(value).__name__} of {len(value)}, expected an array of shape {shape} = "
                f"{self._axes()}; give np.stack((…), axis=1)"
            )
        array = self._array(value, "", f"an array of shape {shape} = {self._axes()}")
        if self.dim == 1 and array.shape == shape[:-1]:
            array = array[..., None]
        if array.shape != shape:
            raise ProblemError(f"{self.what} returned shape {array.shape}, expected {shape} = {self._axes()}")
        if kind is np.complexfloating and array.dtype.kind != "c":
            raise ProblemError(
                f"{self.what} returned {array.dtype} for a complex operand, expected complex128: it drops the imaginary "
                "part, which carries the derivative; give jac='central'"
            )
        if kind is np.floating and array.dtype.kind == "c":
            raise ProblemError(f"{self.what} returned {array.dtype} for real operands, expected real numbers")
        return array

    def _jacobians(
        self, operands: Sequence[Array], data: Sequence[Array], shapes: list[tuple[int, ...]]
    ) -> list[Array]:
        parts = self._call(operands, data)
        if len(shapes) == 1 and isinstance(parts, np.ndarray):
            parts = (parts,)
        expected = f"a tuple of {len(shapes)} arrays {self._axes()[:-1]}, tangent_dim), one per operand"
        if not isinstance(parts, (tuple, list)) or len(parts) != len(shapes):
            got = f"{len(parts)} parts" if isinstance(parts, (tuple, list)) else type(parts).__name__
            raise ProblemError(f"{self.what} returned {got}, expected {expected}")
        arrays = []
        for operand, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
            array = self._array(part, f" for operand {operand}", expected)
            if array.shape != shape or array.dtype.kind == "c":
                raise ProblemError(
                    f"{self.what} returned {array.dtype} of shape {array.shape} for operand {operand}, expected real "
                    f"numbers of shape {shape} = {self._axes()[:-1]}, tangent_dim)"
                )
            arrays.append(array)
        return arrays

    def _array(self, value: Any, where: str, expected: str) -> AnyArray:
        try:
            array = np.asarray(value)
        except ValueError:
            raise ProblemError(f"{self.what} returned a ragged {type(value).__name__}{where}, expected {expected}") from None
        if array.dtype.kind not in "fciub":
            got = type(value).__name__ if array.dtype == object else str(array.dtype)
            raise ProblemError(f"{self.what} returned {got}{where}, expected {expected}")
        return array

    def _axes(self) -> str:
        return "(n, dim)" if self.vectorized else "(dim,)"
