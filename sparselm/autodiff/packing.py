"""What a user's function returns, into arrays and back: nested tuples of numbers and jets, laid out flat.

A prepared row holds the values of what the function returned, in order, then their derivatives, each with respect to the
components that its type lists. Who reads the row knows the types, since numba infers them from the function.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from sparselm.autodiff.jet import PLAIN, Jet, at, literal, make_jet, partials_of, row_pointer, value_of

#: Starts the message of an error about what a user's function returns; the rest is meant for the user.
RETURNS = "the function returns "


def _leaves(ty, path=()):
    """Types of the numbers in nested tuples, with their places."""
    if isinstance(ty, (Jet, *PLAIN)):
        return [(path, ty)]
    if isinstance(ty, types.BaseTuple):
        return [leaf for k, item in enumerate(ty) for leaf in _leaves(item, (*path, k))]
    what = "nothing (None)" if isinstance(ty, types.NoneType) else f"a {ty}"
    raise TypingError(f"{RETURNS}{what}; it must return numbers or (nested) tuples of numbers")


def _tuple_of(items):
    return types.BaseTuple.from_types(tuple(items))


def _take(builder, x, path):
    for k in path:
        x = builder.extract_value(x, k)
    return x


@intrinsic(prefer_literal=True)
def packed_width(typingctx, result):
    """How many numbers a row takes: values and derivatives."""
    count = sum(1 + len(getattr(ty, "active", ())) for _, ty in _leaves(result))

    def codegen(context, builder, signature, args):
        return context.get_constant(types.intp, count)

    return types.intp(result), codegen


@intrinsic(prefer_literal=True)
def pack(typingctx, result, out, row, offset):
    """Write values and derivatives into ``out[row, offset:]``; from a function of plain numbers there are no derivatives."""
    leaves = _leaves(result)

    def codegen(context, builder, signature, args):
        pointer = row_pointer(context, builder, out, args[1], args[2])
        place, rest = literal(offset), literal(offset) + len(leaves)
        for path, ty in leaves:
            x = _take(builder, args[0], path)
            builder.store(value_of(context, builder, ty, x), at(builder, pointer, place))
            place += 1
            for partial in partials_of(builder, ty, x).values():
                builder.store(partial, at(builder, pointer, rest))
                rest += 1
        return context.get_dummy_value()

    return types.none(result, out, types.intp, offset), codegen


@intrinsic(prefer_literal=True)
def unpack(typingctx, function, block, table, row, offset, first):
    """What ``function(block)`` returned when row ``row`` of the table was packed; components shifted by ``first``."""
    result = function.get_call_type(typingctx, (block,), {}).return_type
    leaves = _leaves(result)
    shift = literal(first)

    def shifted(ty):
        if isinstance(ty, types.BaseTuple):
            return _tuple_of(shifted(item) for item in ty)
        return Jet(k + shift for k in ty.active) if isinstance(ty, Jet) else types.float64

    whole = shifted(result)

    def codegen(context, builder, signature, args):
        pointer = row_pointer(context, builder, table, args[2], args[3])
        place, rest = literal(offset), literal(offset) + len(leaves)
        packed = ir.Constant(context.get_value_type(whole), ir.Undefined)
        for path, ty in leaves:
            x = builder.load(at(builder, pointer, place))
            place += 1
            if isinstance(ty, Jet):
                partials = {}
                for k in ty.active:
                    partials[k + shift] = builder.load(at(builder, pointer, rest))
                    rest += 1
                x = make_jet(context, builder, shifted(ty), x, partials)
            packed = builder.insert_value(packed, x, path) if path else x
        return packed

    return whole(function, block, table, types.intp, offset, first), codegen


@intrinsic
def guarded(typingctx, function, arguments):
    """``function(*arguments)``, NaN where it raises: an index computed at run time may leave its tuple or array.

    An exception could not leave a parallel loop; a block that cannot be computed is NaN, and its step rejected.
    """
    sig = function.get_call_type(typingctx, tuple(arguments), {})
    leaves = _leaves(sig.return_type)
    result = _without_integers(sig.return_type)

    def codegen(context, builder, signature, args):
        compiled = function.dispatcher.overloads[sig.args]
        context.add_linking_libs([compiled.library])
        callee = context.declare_function(builder.module, compiled.fndesc)
        values = [
            context.cast(builder, builder.extract_value(args[1], k), ty, expected)
            for k, (ty, expected) in enumerate(zip(arguments, sig.args, strict=True))
        ]
        status, value = context.call_conv.call_function(builder, callee, sig.return_type, sig.args, values)
        safe = ir.Constant(context.get_value_type(result), ir.Undefined)
        for path, ty in leaves:
            number = context.cast(builder, _take(builder, value, path), ty, _without_integers(ty))
            safe = builder.insert_value(safe, number, path) if path else number
        return builder.select(status.is_error, _not_a_number(context, result), safe)

    return result(function, arguments), codegen


def _without_integers(ty):
    """The type with all plain numbers as float64: integers have no NaN."""
    if isinstance(ty, types.BaseTuple):
        return _tuple_of(_without_integers(item) for item in ty)
    return ty if isinstance(ty, Jet) else types.float64


def _not_a_number(context, ty):
    """A constant of this type that is NaN throughout."""
    llvm = context.get_value_type(ty)
    if isinstance(ty, types.BaseTuple):
        return ir.Constant(llvm, [_not_a_number(context, item) for item in ty])
    if isinstance(ty, Jet):
        return ir.Constant(llvm, [ir.Constant(item, float("nan")) for item in llvm.elements])
    return ir.Constant(llvm, float("nan"))


@intrinsic(prefer_literal=True)
def residual_row(typingctx, result, dim):
    """What a residual function returned as a tuple of ``dim`` numbers."""
    leaves = _leaves(result)
    count = literal(dim)
    if len(leaves) != count or any(len(path) > 1 for path, _ in leaves):
        shown = f"{len(leaves)} number{'s' * (len(leaves) != 1)}"
        shown += " in nested tuples" * any(len(path) > 1 for path, _ in leaves)
        raise TypingError(f"{RETURNS}{shown}, but dim={count} was declared; it must return {count} of them, in one tuple")
    whole = _tuple_of(ty for _, ty in leaves)

    is_tuple = bool(leaves[0][0])

    def codegen(context, builder, signature, args):
        return args[0] if is_tuple else context.make_tuple(builder, whole, args[:1])

    return whole(result, dim), codegen


@intrinsic(prefer_literal=True)
def store_jacobian(typingctx, result, out, dim, width):
    """Write what a hand-written Jacobian returned, row by row, into ``out (dim, width)``."""
    leaves = _leaves(result)
    expected = literal(dim) * literal(width)
    if len(leaves) != expected:
        raise TypingError(
            f"{RETURNS}{len(leaves)} numbers, but a Jacobian has {expected} = {literal(dim)} rows × "
            f"{literal(width)} tangent components; give the operands' components in order, row by row"
        )

    def codegen(context, builder, signature, args):
        zero = ir.Constant(ir.IntType(64), 0)
        pointer = row_pointer(context, builder, out, args[1], zero)
        for k, (path, ty) in enumerate(leaves):
            builder.store(value_of(context, builder, ty, _take(builder, args[0], path)), at(builder, pointer, k))
        return context.get_dummy_value()

    return types.none(result, out, dim, width), codegen
