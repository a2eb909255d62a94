"""Register tiles of a dense Cholesky factorisation, written as LLVM vectors: the innermost loops of fronts and solves.

Matrices are stored by columns and told by an array, the index of an entry and the distance ``ld`` between columns. A tile
is a few rows, as one vector per column, by at most eight columns; it stays in registers while

    C ← C − A Bᵀ,            A (rows, k), B (columns, k)

runs over k, and, before it is stored,

* :func:`update_tile` does nothing more,
* :func:`solve_tile` does C ← C T⁻ᵀ with the triangle T (columns, columns) that a diagonal tile has left,
* :func:`factor_tile` does C = T Tᵀ for the diagonal tile itself, and solves for the rows of the tile below T.

Every entry sees the same operations in the same order whatever tile it falls into, so factors do not depend on how a
matrix is cut into tiles. Solves have tiles of their own, of one column of right-hand sides or a few; those that multiply
with a transpose sum over rows, in an order that depends on where these begin. Strips (see ``strips.py``) are the tiles of a
packed factor, and blocks are set, added and cleared by vectors too.

Rows are touched ``UNIT`` at a time: what stands between the last row and the next multiple of it is read, and overwritten
by nonsense, as is what stands above the diagonal. LLVM splits the vectors to what the processor has.
"""

from __future__ import annotations

from llvmlite import binding
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sparselm._llvm import INDEX, UNIT, BlockTransfer, Strip, Tile, address, switch

# Of the 32 registers of 64 bytes that AVX-512 has, 16 hold a tall tile; 16 registers of 32 bytes take half of both.
_WIDE = binding.get_host_cpu_features().get("avx512f", False)

#: Bytes of a column of the tall tile, and columns of the widest tile that is only updated.
TALL_BYTES = 128 if _WIDE else 64
UPDATE_COLUMNS = UNIT if _WIDE else UNIT // 2


def _array_types(*arrays):
    """True where all are arrays of one floating-point type."""
    dtypes = {a.dtype if isinstance(a, types.Array) else None for a in arrays}
    return len(dtypes) == 1 and isinstance(dtypes.pop(), types.Float)


def _rows(tall, bits):
    return 8 * TALL_BYTES // bits if tall else UNIT


@intrinsic(prefer_literal=True)
def update_tile(typing_context, tall, columns, C, c, ldc, A, a, b, lda, k):
    """C ← C − A Bᵀ, A and B both in the array ``A``, at ``a`` and ``b``.

    ``tall`` is a literal, True for tall tiles, which always have UPDATE_COLUMNS columns.
    """
    if not _array_types(C, A):
        return None

    def generate(context, builder, signature, args):
        _, columns, C, c, ldc, A, a, b, lda, k = args
        C = address(context, builder, signature.args[2], C, c)
        b = address(context, builder, signature.args[5], A, b)
        a = address(context, builder, signature.args[5], A, a)
        bits = signature.args[2].dtype.bitwidth

        def make(n):
            t = Tile(builder, _rows(tall.literal_value, bits), n, bits)
            t.store(t.subtract_products(t.load(C, ldc), a, lda, b, lda, INDEX(1), k), C, ldc)

        switch(builder, columns, UPDATE_COLUMNS, make, UPDATE_COLUMNS if tall.literal_value else 1)
        return context.get_dummy_value()

    index = types.int64
    return types.void(tall, index, C, index, index, A, index, index, index, index), generate


@intrinsic(prefer_literal=True)
def solve_tile(typing_context, tall, columns, L, c, a, b, t, ld, k, inverse, i):
    """C ← (C − A Bᵀ) T⁻ᵀ, all in the array ``L``, at ``c``, ``a``, ``b`` and ``t``; ``inverse[i:]`` holds 1/T_jj.

    ``tall`` is a literal, True for tall tiles, which always have UNIT columns.
    """
    if not _array_types(L, inverse):
        return None

    def generate(context, builder, signature, args):
        _, columns, L, c, a, b, t, ld, k, inverse, i = args
        c, a, b, t = (address(context, builder, signature.args[2], L, index) for index in (c, a, b, t))
        inverse = address(context, builder, signature.args[9], inverse, i)
        bits = signature.args[2].dtype.bitwidth

        def make(n):
            tile = Tile(builder, _rows(tall.literal_value, bits), n, bits)
            reduced = tile.subtract_products(tile.load(c, ld), a, ld, b, ld, INDEX(1), k)
            tile.store(tile.solve(reduced, t, ld, inverse), c, ld)

        switch(builder, columns, UNIT, make, UNIT if tall.literal_value else 1)
        return context.get_dummy_value()

    index = types.int64
    return types.void(tall, index, L, index, index, index, index, index, index, inverse, index), generate


@intrinsic
def factor_tile(typing_context, columns, L, c, a, ld, k, diagonal, tolerance, scale, inverse, i):
    """T of C − A Aᵀ = T Tᵀ, C and A in the array ``L``; bit j of the result: pivot j was too small.

    That is, not above ``tolerance · diagonal[i + j]``; such a pivot is replaced by ``scale · diagonal[i + j]``, or by
    ``scale`` where that entry is not positive, and with a scale of NaN all that depends on it becomes NaN.
    ``inverse[i + j]`` becomes 1/T_jj.
    """
    if not _array_types(L, diagonal, inverse):
        return None

    def generate(context, builder, signature, args):
        columns, L, c, a, ld, k, diagonal, tolerance, scale, inverse, i = args
        c, a = (address(context, builder, signature.args[1], L, index) for index in (c, a))
        diagonal = address(context, builder, signature.args[6], diagonal, i)
        inverse = address(context, builder, signature.args[9], inverse, i)

        def make(n):
            tile = Tile(builder, UNIT, n, L_bits)
            reduced = tile.subtract_products(tile.load(c, ld), a, ld, a, ld, INDEX(1), k)
            factor, failed = tile.factor(reduced, diagonal, tolerance, scale, inverse)
            tile.store(factor, c, ld)
            return failed

        return switch(builder, columns, UNIT, make)

    index, L_bits = types.int64, L.dtype.bitwidth
    return index(index, L, index, index, index, index, diagonal, L.dtype, L.dtype, inverse, index), generate


@intrinsic(prefer_literal=True)
def multiply_tile(typing_context, tall, columns, C, c, ldc, A, a, lda, b, k):
    """C ← C − A B, B (k, columns) in the array ``C`` at ``b``, its columns as far apart as those of C."""
    if not _array_types(C, A):
        return None

    def generate(context, builder, signature, args):
        _, columns, C, c, ldc, A, a, lda, b, k = args
        b = address(context, builder, signature.args[2], C, b)
        C = address(context, builder, signature.args[2], C, c)
        a = address(context, builder, signature.args[5], A, a)
        bits = signature.args[2].dtype.bitwidth

        def make(n):
            t = Tile(builder, _rows(tall.literal_value, bits), n, bits)
            t.store(t.subtract_products(t.load(C, ldc), a, lda, b, INDEX(1), ldc, k), C, ldc)

        switch(builder, columns, UPDATE_COLUMNS, make)
        return context.get_dummy_value()

    index = types.int64
    return types.void(tall, index, C, index, index, A, index, index, index, index), generate


@intrinsic
def forward_tile(typing_context, columns, L, t, ld, inverse, i, X, x):
    """Solve T y = x for a diagonal tile at ``t`` of L, and subtract L y from the rows of the tile below T."""
    if not _array_types(L, inverse, X):
        return None

    def generate(context, builder, signature, args):
        columns, L, t, ld, inverse, i, X, x = args
        t = address(context, builder, signature.args[1], L, t)
        inverse = address(context, builder, signature.args[4], inverse, i)
        x = address(context, builder, signature.args[6], X, x)
        bits = signature.args[1].dtype.bitwidth

        def make(n):
            tile = Tile(builder, UNIT, n, bits)
            vector = tile.solve_forward(tile.load_column(x, INDEX(0)), t, ld, inverse)
            tile.store_column(vector, x, INDEX(0))

        switch(builder, columns, UNIT, make)
        return context.get_dummy_value()

    index = types.int64
    return types.void(index, L, index, index, inverse, index, X, index), generate


@intrinsic
def backward_tile(typing_context, columns, L, t, ld, rows, inverse, i, X, x):
    """x ← T⁻ᵀ (x − Bᵀ y): T the diagonal tile of L at ``t``, B all that is below it, x and y one after the other in X.

    B has what is below T in the tile itself, and ``rows`` more, a multiple of UNIT, of which those beyond the last one are
    0 in L and in X.
    """
    if not _array_types(L, inverse, X):
        return None

    def generate(context, builder, signature, args):
        columns, L, t, ld, rows, inverse, i, X, x = args
        t = address(context, builder, signature.args[1], L, t)
        inverse = address(context, builder, signature.args[5], inverse, i)
        x = address(context, builder, signature.args[7], X, x)
        bits = signature.args[1].dtype.bitwidth

        def make(n):
            tile = Tile(builder, UNIT, n, bits)
            below = tile.subtract_dots(x, tile.at(t, INDEX(UNIT)), ld, tile.at(x, INDEX(UNIT)), rows)
            tile.store_column(tile.solve_transposed(below, t, ld, inverse), x, INDEX(0))

        switch(builder, columns, UNIT, make)
        return context.get_dummy_value()

    index = types.int64
    return types.void(index, L, index, index, index, inverse, index, X, index), generate


@intrinsic
def multiply_transposed_tile(typing_context, columns, X, x, L, b, ld, y, rows):
    """x ← x − Bᵀ y: B has ``rows`` rows, a multiple of UNIT, and begins at ``b`` in L; x and y are both in X."""
    if not _array_types(L, X):
        return None

    def generate(context, builder, signature, args):
        columns, X, x, L, b, ld, y, rows = args
        x, y = (address(context, builder, signature.args[1], X, index) for index in (x, y))
        L = address(context, builder, signature.args[3], L, b)
        bits = signature.args[3].dtype.bitwidth

        def make(n):
            tile = Tile(builder, UNIT, n, bits)
            tile.store_column(tile.subtract_dots(x, L, ld, y, rows), x, INDEX(0))

        switch(builder, columns, UNIT, make)
        return context.get_dummy_value()

    index = types.int64
    return types.void(index, X, index, L, index, index, index, index), generate


@intrinsic
def clear(typing_context, C, begin, count):
    """C[begin : begin + count] ← 0"""
    if not _array_types(C):
        return None

    def generate(context, builder, signature, args):
        C, begin, count = args
        size = builder.mul(count, INDEX(signature.args[0].dtype.bitwidth // 8))
        cgutils.memset(builder, address(context, builder, signature.args[0], C, begin), size, 0)
        return context.get_dummy_value()

    return types.void(C, types.int64, types.int64), generate


@intrinsic
def add_block(typing_context, rows, columns, C, c, ldc, A, a, lda):
    """C ← C + A, A perhaps of another precision; no entry beyond the rows is touched, since others may write there."""
    if not (_array_types(C) and _array_types(A)):
        return None

    def generate(context, builder, signature, args):
        rows, columns, C, c, ldc, A, a, lda = args
        b = builder
        C = address(context, b, signature.args[2], C, c)
        A = address(context, b, signature.args[5], A, a)
        bits = (signature.args[2].dtype.bitwidth, signature.args[5].dtype.bitwidth)
        BlockTransfer(b, bits).run(rows, columns, C, ldc, A, lda)
        return context.get_dummy_value()

    index = types.int64
    return types.void(index, index, C, index, index, A, index, index), generate


@intrinsic
def copy_run(typing_context, rows, C, c, A, a):
    """C[c + i] ← A[a + i], i < rows, both of one precision and apart; made for short runs."""
    if not _array_types(C, A):
        return None

    def generate(context, builder, signature, args):
        rows, C, c, A, a = args
        C = address(context, builder, signature.args[1], C, c)
        A = address(context, builder, signature.args[3], A, a)
        bits = signature.args[1].dtype.bitwidth
        BlockTransfer(builder, (bits, bits), add=False).run(rows, INDEX(1), C, INDEX(0), A, INDEX(0))
        return context.get_dummy_value()

    return types.void(types.int64, C, types.int64, A, types.int64), generate


def _strip(columns, values, v, x, p, runs, begin, end, make, width=1):
    """Signature and code of what is done with one strip: ``make(strip, …)`` with pointers; x has ``width`` columns."""
    if not _array_types(values, x):
        return None

    def generate(context, builder, signature, args):
        columns, values, v, x, p, runs, begin, end = args
        values = address(context, builder, signature.args[1], values, v)
        own = address(context, builder, signature.args[3], x, builder.mul(p, INDEX(width)))
        x = address(context, builder, signature.args[3], x, INDEX(0))
        runs = address(context, builder, signature.args[5], runs, INDEX(0))
        bits = signature.args[1].dtype.bitwidth

        switch(builder, columns, UNIT, lambda n: make(Strip(builder, n, bits), values, x, own, runs, begin, end))
        return context.get_dummy_value()

    index = types.int64
    return types.void(index, values, index, x, index, runs, index, index), generate


@intrinsic
def forward_strip(typing_context, columns, values, v, x, p, runs, begin, end):
    """Solve with the triangle of a strip, whose values start at ``v``, and subtract what is below it from x."""
    return _strip(columns, values, v, x, p, runs, begin, end, Strip.forward)


@intrinsic
def backward_strip(typing_context, columns, values, v, x, p, runs, begin, end):
    """Subtract what is below the triangle of a strip, transposed, from its positions of x, and solve with the transpose."""
    return _strip(columns, values, v, x, p, runs, begin, end, Strip.backward)


@intrinsic
def wide_forward_strip(typing_context, columns, values, v, x, p, runs, begin, end):
    """:func:`forward_strip` for UNIT right-hand sides, x ``(n, UNIT)``."""
    return _strip(columns, values, v, x, p, runs, begin, end, Strip.wide_forward, UNIT)


@intrinsic
def wide_backward_strip(typing_context, columns, values, v, x, p, runs, begin, end):
    """:func:`backward_strip` for UNIT right-hand sides, x ``(n, UNIT)``."""
    return _strip(columns, values, v, x, p, runs, begin, end, Strip.wide_backward, UNIT)


@intrinsic
def pack_strip(typing_context, columns, L, l, ld, inverse, p, values, v, runs, begin, end, panel_rows):
    """The values of a strip, from ``v`` on, out of a panel in which it starts at ``l``; 1/L_jj is ``inverse[p + j]``."""
    if not _array_types(L, inverse, values):
        return None

    def generate(context, builder, signature, args):
        columns, L, l, ld, inverse, p, values, v, runs, begin, end, panel_rows = args
        L = address(context, builder, signature.args[1], L, l)
        inverse = address(context, builder, signature.args[4], inverse, p)
        values = address(context, builder, signature.args[6], values, v)
        runs = address(context, builder, signature.args[8], runs, INDEX(0))
        panel_rows = address(context, builder, signature.args[11], panel_rows, INDEX(0))
        bits = signature.args[1].dtype.bitwidth

        def make(n):
            Strip(builder, n, bits).pack(values, L, ld, inverse, runs, begin, end, panel_rows)

        switch(builder, columns, UNIT, make)
        return context.get_dummy_value()

    index = types.int64
    return types.void(index, L, index, index, inverse, index, values, index, runs, index, index, panel_rows), generate
