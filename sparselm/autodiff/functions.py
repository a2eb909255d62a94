"""The functions of ``math``, powers, roundings, minimum and maximum on jets.

The value of f(x) is what numba computes for plain numbers; the derivatives are f′(x) times those of x, with f′ from
:mod:`sparselm.autodiff.derivatives`.
"""

from __future__ import annotations

import math
import operator

from numba.core import types
from numba.extending import intrinsic, overload

from sparselm._jit import scalar
from sparselm.autodiff.derivatives import DERIVATIVES, TWO_DERIVATIVES
from sparselm.autodiff.jet import chain, make_jet, partials_of, union, value_of
from sparselm.autodiff.operators import is_jet_operation, jet_result, register


def _plain(context, builder, function, values):
    """Call a function, as numba has it for float64 arguments; the value and its type."""
    typing = context.typing_context
    kind = typing.resolve_value_type(function)
    sig = kind.get_call_type(typing, (types.float64,) * len(values), {})
    result = context.get_function(kind, sig)(builder, values)
    return result, sig.return_type


def _unary(function, derivative):
    slope_of = scalar(derivative)

    def lowering(context, builder, sig, args):
        x = value_of(context, builder, sig.args[0], args[0])
        v, _ = _plain(context, builder, function, (x,))
        slope, _ = _plain(context, builder, slope_of, (x, v))
        partials = partials_of(builder, sig.args[0], args[0])
        return make_jet(context, builder, sig.return_type, v, chain(builder, [(slope, partials)]))

    register((function,), jet_result, lowering, 1)


def _binary(functions, derivatives):
    slopes_of = [scalar(derivative) for derivative in derivatives]

    def lowering(context, builder, sig, args):
        values = [value_of(context, builder, ty, x) for ty, x in zip(sig.args, args, strict=True)]
        v, _ = _plain(context, builder, functions[0], values)
        terms = []
        for slope_of, ty, x in zip(slopes_of, sig.args, args, strict=True):
            partials = partials_of(builder, ty, x)
            if partials:
                terms.append((_plain(context, builder, slope_of, (*values, v))[0], partials))
        return make_jet(context, builder, sig.return_type, v, chain(builder, terms))

    register(functions, jet_result, lowering, 2)


for _function, _derivative in DERIVATIVES.items():
    _unary(_function, _derivative)
for _function, _pair in TWO_DERIVATIVES.items():
    if _function is operator.pow:
        _binary((operator.pow, operator.ipow, pow), _pair)
    elif _function is operator.mod:
        _binary((operator.mod, operator.imod), _pair)
    else:
        _binary((_function,), _pair)


# -- piecewise constant functions: plain numbers ------------------------------------------------------------------------


def _constant(function, arity, result):
    def lowering(context, builder, sig, args):
        values = [value_of(context, builder, ty, x) for ty, x in zip(sig.args, args, strict=True)]
        v, kind = _plain(context, builder, function, values)
        return context.cast(builder, v, kind, sig.return_type)

    register((function,), lambda args: result, lowering, arity)


for _function in (math.floor, math.ceil, math.trunc, round, int):
    _constant(_function, 1, types.int64)
for _function in (math.isnan, math.isinf, math.isfinite):
    _constant(_function, 1, types.boolean)
for _function in (operator.floordiv, operator.ifloordiv):
    _constant(_function, 2, types.float64)


# -- minimum and maximum ------------------------------------------------------------------------------------------------


def _register_extreme(function, symbol):
    """Of numbers given one by one or as a tuple the first of the smallest (largest), with its derivatives, as in Python."""

    @intrinsic
    def extreme(typingctx, items):
        result = union(*items)

        def codegen(context, builder, sig, args):
            jets = [
                context.cast(builder, builder.extract_value(args[0], k), ty, result) for k, ty in enumerate(items)
            ]
            best = jets[0]
            for jet in jets[1:]:
                better = builder.fcmp_ordered(symbol, builder.extract_value(jet, 0), builder.extract_value(best, 0))
                best = builder.select(better, jet, best)
            return best

        return result(items), codegen

    @overload(function)
    def for_jets(*x):
        if len(x) == 1 and isinstance(x[0], types.BaseTuple) and is_jet_operation(x[0]):
            return lambda *x: extreme(x[0])
        return (lambda *x: extreme(x)) if is_jet_operation(x) else None


_register_extreme(min, "<")
_register_extreme(max, ">")
