"""Python's operators on jets, straight to LLVM: compiling one costs a fraction of a millisecond."""

from __future__ import annotations

import itertools
import operator

from llvmlite import ir
from numba.core import types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

from sparselm.autodiff.jet import PLAIN, Jet, chain, make_jet, partials_of, union, value_of

_OPERANDS = (Jet, types.Float, types.Integer, types.Boolean)


def is_jet_operation(args):
    """Whether all arguments are numbers and one of them is a jet."""
    return any(isinstance(a, Jet) for a in args) and all(isinstance(a, (Jet, *PLAIN)) for a in args)


def jet_result(args):
    """The result of a smooth operation on some numbers: a jet with the derivatives of all of them."""
    return union(*args)


def register(functions, result, lowering, arity):
    """Teach numba functions of ``arity`` numbers of which one is a jet.

    Parameters
    ----------
    functions : sequence
        The Python callables that mean this operation (``operator.add`` and ``operator.iadd``).
    result : callable
        From the argument types to the result type.
    lowering : callable
        ``(context, builder, signature, args) -> LLVM value``.
    arity : int
        Number of arguments.
    """

    class Template(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) != arity or kws or not is_jet_operation(args):
                return None
            return signature(result(args), *args)

    for function in functions:
        infer_global(function)(type(f"Jet_{function.__name__}", (Template,), {}))
        for kinds in _jet_signatures(arity):
            lower_builtin(function, *kinds)(lowering)


def _jet_signatures(arity):
    return [kinds for kinds in itertools.product(_OPERANDS, repeat=arity) if Jet in kinds]


# -- + − × / ------------------------------------------------------------------------------------------------------------


def _parts(context, builder, sig, args):
    values = [value_of(context, builder, ty, x) for ty, x in zip(sig.args, args, strict=True)]
    return values, [partials_of(builder, ty, x) for ty, x in zip(sig.args, args, strict=True)]


def _add(context, builder, sig, args):
    (a, b), (da, db) = _parts(context, builder, sig, args)
    return make_jet(context, builder, sig.return_type, builder.fadd(a, b), chain(builder, [(None, da), (None, db)]))


def _subtract(context, builder, sig, args):
    (a, b), (da, db) = _parts(context, builder, sig, args)
    partials = dict(da)
    for k, d in db.items():
        partials[k] = builder.fsub(da[k], d) if k in da else builder.fneg(d)
    return make_jet(context, builder, sig.return_type, builder.fsub(a, b), partials)


def _multiply(context, builder, sig, args):
    (a, b), (da, db) = _parts(context, builder, sig, args)
    return make_jet(context, builder, sig.return_type, builder.fmul(a, b), chain(builder, [(b, da), (a, db)]))


def _divide(context, builder, sig, args):
    (a, b), (da, db) = _parts(context, builder, sig, args)
    quotient = builder.fdiv(a, b)
    inverse = builder.fdiv(ir.Constant(ir.DoubleType(), 1.0), b)
    terms = [(inverse, da), (builder.fneg(builder.fmul(quotient, inverse)), db)]
    return make_jet(context, builder, sig.return_type, quotient, chain(builder, terms))


def _negate(context, builder, sig, args):
    (a,), (da,) = _parts(context, builder, sig, args)
    return make_jet(context, builder, sig.return_type, builder.fneg(a), {k: builder.fneg(d) for k, d in da.items()})


def _same(context, builder, sig, args):
    return args[0]


register((operator.add, operator.iadd), jet_result, _add, 2)
register((operator.sub, operator.isub), jet_result, _subtract, 2)
register((operator.mul, operator.imul), jet_result, _multiply, 2)
register((operator.truediv, operator.itruediv), jet_result, _divide, 2)
register((operator.neg,), jet_result, _negate, 1)
register((operator.pos, float), jet_result, _same, 1)


# -- comparisons ----------------------------------------------------------------------------------------------------------


def _comparison(symbol):
    def lowering(context, builder, sig, args):
        (a, b), _ = _parts(context, builder, sig, args)
        # A NaN is unequal to everything and in no order with anything.
        compare = builder.fcmp_unordered if symbol == "!=" else builder.fcmp_ordered
        return compare(symbol, a, b)

    return lowering


def _boolean(args):
    return types.boolean


for _function, _symbol in (
    (operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">="), (operator.eq, "=="),
    (operator.ne, "!="),
):  # fmt: skip
    register((_function,), _boolean, _comparison(_symbol), 2)


def _truth(context, builder, sig, args):
    (a,), _ = _parts(context, builder, sig, args)
    return builder.fcmp_unordered("!=", a, ir.Constant(ir.DoubleType(), 0.0))


def _not(context, builder, sig, args):
    return builder.not_(_truth(context, builder, sig, args))


register((bool, operator.truth), _boolean, _truth, 1)
register((operator.not_,), _boolean, _not, 1)
