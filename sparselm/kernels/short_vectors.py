"""Products with a few rows of J, written as LLVM vectors: a row has some three to fifteen numbers in use, and loops over so
few are not made into vectors by the compiler, least of all where they add to memory.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from sparselm._llvm import INDEX, INT32, UNIT, Tile, address, first_rows, masked_store


def _code(builder):
    return Tile(builder, UNIT, 1, 64)


def _chunks(k):
    """Where vectors of k numbers begin, and how many lanes of each are in use."""
    return [(at, min(UNIT, k - at)) for at in range(0, k, UNIT)]


@intrinsic(prefer_literal=True)
def dot_short(typing_context, k, A, a, x, c):
    """Σ A[a + r] x[c + r] over r < k, a literal; A in double or single precision, x in double. Arrays are taken as flat."""
    if not isinstance(k, types.Literal) or x.dtype != types.float64:
        return None
    size, bits = k.literal_value, A.dtype.bitwidth

    def generate(context, builder, signature, args):
        _, A, a, x, c = args
        A = address(context, builder, signature.args[1], A, a)
        x = address(context, builder, signature.args[3], x, c)
        code = _code(builder)
        total, rest = None, code.entry(0.0)
        for at, lanes in _chunks(size):
            own, other = builder.gep(A, [INDEX(at)]), builder.gep(x, [INDEX(at)])
            if lanes == 1:
                rest = builder.fmul(code.widened_number(own, bits), builder.load(other))
                continue
            left, right = code.widened_vector(own, lanes, bits), code.widened_vector(other, lanes, 64)
            total = builder.fmul(left, right) if total is None else code.multiply_add(left, right, total)
        if total is None:
            return rest
        width = UNIT
        while width > 1:
            width //= 2
            low, high = (
                builder.shuffle_vector(total, total, ir.Constant(ir.VectorType(INT32, width), list(range(s, s + width))))
                for s in (0, width)
            )
            total = builder.fadd(low, high)
        return builder.fadd(builder.extract_element(total, INT32(0)), rest)

    i = types.int64
    return types.float64(k, A, i, x, i), generate


@intrinsic(prefer_literal=True)
def add_rows(typing_context, k, dim, y, c, A, a, ld, v, at):
    """y[c + r] += Σ_i v[at + i] A[a + i ld + r] over r < k and i < dim, both literals; y and v in double precision."""
    if not isinstance(k, types.Literal) or not isinstance(dim, types.Literal):
        return None
    size, rows, bits = k.literal_value, dim.literal_value, A.dtype.bitwidth

    def generate(context, builder, signature, args):
        _, _, y, c, A, a, ld, v, at = args
        y = address(context, builder, signature.args[2], y, c)
        A = address(context, builder, signature.args[4], A, a)
        v = address(context, builder, signature.args[7], v, at)
        code = _code(builder)
        factors = [builder.load(builder.gep(v, [INDEX(i)])) for i in range(rows)]
        starts = [builder.gep(A, [builder.mul(ld, INDEX(i))]) for i in range(rows)]
        for first, lanes in _chunks(size):
            place = builder.gep(y, [INDEX(first)])
            if lanes == 1:
                total = builder.load(place)
                for start, factor in zip(starts, factors, strict=True):
                    value = code.widened_number(builder.gep(start, [INDEX(first)]), bits)
                    total = code.scalar_multiply_add(value, factor, total)
                builder.store(total, place)
                continue
            total = code.widened_vector(place, lanes, 64)
            for start, factor in zip(starts, factors, strict=True):
                value = code.widened_vector(builder.gep(start, [INDEX(first)]), lanes, bits)
                total = code.multiply_add(value, code.broadcast(factor), total)
            if lanes == UNIT:
                code.store_column(total, place, INDEX(0))
            else:
                masked_store(builder, total, place, first_rows(builder, INDEX(lanes)), 8)
        return context.get_dummy_value()

    i = types.int64
    return types.void(k, dim, y, i, A, i, i, v, i), generate
