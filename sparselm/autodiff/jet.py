"""Jets: a number with its partial derivatives, as a type of numba's.

A jet a + Σ_k a_k ε_k, with ε_i ε_j = 0, carries a value and its derivatives with respect to some tangent components k.
Arithmetic on jets is forward-mode differentiation: f(a + Σ a_k ε_k) = f(a) + f′(a) Σ a_k ε_k, exact to rounding.

*Which* derivatives a jet carries is part of its type: ``Jet((0, 3))`` has those with respect to components 0 and 3, and
all others are zero and neither stored nor computed. A sum of ``Jet((0,))`` and ``Jet((3,))`` is a ``Jet((0, 3))``. So the
compiler, not the running program, finds out which entries of a Jacobian vanish, and a rotation costs three derivatives
although its camera has nine parameters. Where paths of a program meet, the union is taken, and plain numbers become jets
with derivatives zero.

Importing this module teaches numba the type; it is imported only where something is compiled.

References
----------
A. Griewank, A. Walther, "Evaluating Derivatives", SIAM, 2nd edition, 2008, chapters 3 (forward mode) and 7 (sparse forward
mode).
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.core.errors import TypingError
from numba.core.imputils import lower_cast
from numba.core.typeconv import Conversion
from numba.extending import intrinsic, models, register_model

PLAIN = (types.Float, types.Integer, types.Boolean)


class Jet(types.Type):
    """A float64 with derivatives with respect to the tangent components ``active`` (ascending)."""

    def __init__(self, active):
        self.active = tuple(active)
        super().__init__(name=f"jet({', '.join(map(str, self.active))})")

    @property
    def key(self):
        return self.active

    def unify(self, typingctx, other):
        if isinstance(other, Jet):
            return union(self, other)
        return self if isinstance(other, PLAIN) else None

    def can_convert_to(self, typingctx, other):
        if isinstance(other, Jet) and set(self.active) <= set(other.active):
            return Conversion.promote
        return None

    def can_convert_from(self, typingctx, other):
        return Conversion.promote if isinstance(other, PLAIN) else None


def union(*jets):
    """The jet type that has the derivatives of all of them; plain numbers among them count for nothing."""
    return Jet(sorted(set().union(*(jet.active for jet in jets if isinstance(jet, Jet)))))


@register_model(Jet)
class _JetModel(models.StructModel):
    def __init__(self, dmm, fe_type):
        members = [("value", types.float64)] + [(f"d{k}", types.float64) for k in fe_type.active]
        super().__init__(dmm, fe_type, members)


# -- building blocks of the lowering --------------------------------------------------------------------------------------


def value_of(context, builder, ty, x):
    """The value of a jet, or a plain number as float64 (LLVM)."""
    if isinstance(ty, Jet):
        return builder.extract_value(x, 0)
    return context.cast(builder, x, ty, types.float64)


def partials_of(builder, ty, x):
    """The stored derivatives by component; none for a plain number."""
    if not isinstance(ty, Jet):
        return {}
    return {k: builder.extract_value(x, 1 + i) for i, k in enumerate(ty.active)}


def make_jet(context, builder, ty, value, partials):
    """A jet from its value and its derivatives; those that are missing are zero."""
    jet = ir.Constant(context.get_value_type(ty), ir.Undefined)
    jet = builder.insert_value(jet, value, 0)
    zero = ir.Constant(ir.DoubleType(), 0.0)
    for i, k in enumerate(ty.active):
        jet = builder.insert_value(jet, partials.get(k, zero), 1 + i)
    return jet


def chain(builder, terms):
    """Σ factor · derivatives over terms (factor or None for 1, derivatives by component): the chain rule."""
    total = {}
    for factor, partials in terms:
        for k, partial in partials.items():
            term = partial if factor is None else builder.fmul(factor, partial)
            total[k] = builder.fadd(total[k], term) if k in total else term
    return total


@lower_cast(types.Float, Jet)
@lower_cast(types.Integer, Jet)
@lower_cast(types.Boolean, Jet)
def _plain_to_jet(context, builder, fromty, toty, x):
    return make_jet(context, builder, toty, context.cast(builder, x, fromty, types.float64), {})


@lower_cast(Jet, Jet)
def _widen(context, builder, fromty, toty, x):
    return make_jet(context, builder, toty, builder.extract_value(x, 0), partials_of(builder, fromty, x))


# -- what generated loops use ---------------------------------------------------------------------------------------------


def literal(ty):
    """The value of a constant argument. numba tries such a call without constants as well where it failed with them."""
    if not isinstance(ty, types.Literal):
        raise TypingError("a constant is expected here")
    return ty.literal_value


@intrinsic(prefer_literal=True)
def variable(typingctx, value, component):
    """A number that is itself the tangent component: a + ε_k."""
    ty = Jet((literal(component),))

    def codegen(context, builder, signature, args):
        one = ir.Constant(ir.DoubleType(), 1.0)
        return make_jet(context, builder, ty, args[0], {ty.active[0]: one})

    return ty(types.float64, component), codegen


@intrinsic
def constant(typingctx, value):
    """A jet without derivatives.

    Where only residuals are wanted blocks are made of these and not of plain numbers: both loops then run the same code, and
    the operations on jets give inf and NaN where numba's on numbers may raise, as 0.0 ** −1 does.
    """
    ty = Jet(())

    def codegen(context, builder, signature, args):
        return make_jet(context, builder, ty, args[0], {})

    return ty(types.float64), codegen


@intrinsic(prefer_literal=True)
def load_jet(typingctx, value, components, table, row, column):
    """A number with the derivatives ``table[row, column:]`` for the components listed in a string, as "0,1,2"."""
    ty = Jet(map(int, literal(components).split(",")))

    def codegen(context, builder, signature, args):
        pointer = row_pointer(context, builder, table, args[2], args[3])
        begin = literal(column)
        partials = {k: builder.load(at(builder, pointer, begin + i)) for i, k in enumerate(ty.active)}
        return make_jet(context, builder, ty, args[0], partials)

    return ty(types.float64, components, table, types.intp, column), codegen


@intrinsic(prefer_literal=True)
def store_partials(typingctx, x, out, row, width):
    """``out[row, k] ← ∂x/∂(component k)`` for k below the literal ``width``; out is C-contiguous."""
    num = literal(width)

    def codegen(context, builder, signature, args):
        partials = partials_of(builder, x, args[0])
        zero = ir.Constant(ir.DoubleType(), 0.0)
        pointer = row_pointer(context, builder, out, args[1], args[2])
        for k in range(num):
            builder.store(partials.get(k, zero), at(builder, pointer, k))
        return context.get_dummy_value()

    return types.none(x, out, types.intp, width), codegen


@intrinsic
def plain_value(typingctx, x):
    """The value of a jet; a plain number as float64."""

    def codegen(context, builder, signature, args):
        return value_of(context, builder, x, args[0])

    return types.float64(x), codegen


def row_pointer(context, builder, ty, array, row):
    """Address of ``array[row, 0]`` of a C-contiguous matrix."""
    view = context.make_array(ty)(context, builder, array)
    return builder.gep(view.data, [builder.mul(row, builder.extract_value(view.shape, 1))])


def at(builder, pointer, offset):
    """The address ``offset`` numbers further on."""
    return builder.gep(pointer, [ir.Constant(ir.IntType(64), offset)])
