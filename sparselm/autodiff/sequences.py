"""Tuples of jets: iteration, and indices that are only known at run time.

The numbers of a block are a tuple whose entries have different types, since each carries its own derivative. numba indexes
such a tuple with constants only, and does not iterate over it. Where a function does, each entry is widened to a jet with
the derivatives of all.
"""

from __future__ import annotations

import operator

from numba.core import types
from numba.core.typing.templates import AbstractTemplate, infer, infer_global, signature

from sparselm.autodiff.jet import PLAIN, Jet, union


def _uniform(ty):
    """The tuple type that a tuple with jets widens to, all of its entries alike; None for any other type."""
    if not isinstance(ty, types.Tuple) or not _has_jet(ty):
        return None
    entry = _join(tuple(ty))
    return None if entry is None else types.UniTuple(entry, len(ty))


def _has_jet(ty):
    return any(map(_has_jet, ty)) if isinstance(ty, types.BaseTuple) else isinstance(ty, Jet)


def _join(kinds):
    """The type that numbers, or tuples of the same lengths, all widen to; None where there is none."""
    if all(isinstance(ty, types.BaseTuple) for ty in kinds):
        if len({len(ty) for ty in kinds}) != 1:
            return None
        columns = [_join(column) for column in zip(*kinds, strict=True)]
        return None if None in columns else types.BaseTuple.from_types(tuple(columns))
    if not all(isinstance(ty, (Jet, *PLAIN)) for ty in kinds):
        return None
    if any(isinstance(ty, Jet) for ty in kinds):
        return union(*kinds)
    return kinds[0] if len(set(kinds)) == 1 else types.float64


# Each template answers with a signature for the widened tuple; numba then casts the argument, and has the rest.


@infer_global(operator.getitem)
class _GetItem(AbstractTemplate):
    def generic(self, args, kws):
        uniform = _uniform(args[0])
        if uniform is None or len(args) != 2 or not isinstance(args[1], types.Integer):
            return None
        return signature(uniform.dtype, uniform, types.intp)


@infer
class _GetIter(AbstractTemplate):
    key = "getiter"

    def generic(self, args, kws):
        uniform = _uniform(args[0])
        return None if uniform is None else signature(uniform.iterator_type, uniform)


@infer_global(enumerate)
class _Enumerate(AbstractTemplate):
    def generic(self, args, kws):
        uniform = _uniform(args[0]) if args else None
        if uniform is None:
            return None
        return signature(types.EnumerateType(uniform), uniform, *args[1:])


@infer_global(zip)
class _Zip(AbstractTemplate):
    def generic(self, args, kws):
        uniform = [_uniform(ty) or ty for ty in args]
        if uniform == list(args):
            return None
        return signature(types.ZipType(uniform), *uniform)
