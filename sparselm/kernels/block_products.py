"""Sums of small products A Bᵀ over a list of pairs, written as LLVM vectors that stay in registers along the list.

What JᵀJ and Schur complements are made of: for each of their blocks

    C ← H ± Σ_t A_i(t) B_j(t)ᵀ,        A (ka, d), B (kb, d),

where the lists i, j say which blocks contribute. A and B are stored by columns of ka and kb entries. Rows of C lie in vectors
of UNIT entries; of 9 rows, as cameras often have, the last one lies in a vector of its own along the columns, so that 9 × 9
take 10 vectors and a number instead of 18 vectors.
"""

from __future__ import annotations

from typing import NamedTuple

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sparselm._llvm import INDEX, INT32, UNIT, Tile, address, first_rows, masked_load, masked_store

#: Items that a list must have after its last one where blocks are fetched ahead.
MARGIN = 4

# Accumulators that stay in registers besides what is multiplied: of 32 registers with AVX-512, of 16 half as long without.
_ACCUMULATORS = 24 if binding.get_host_cpu_features().get("avx512f", False) else 5

_LINE = 64


class _Part(NamedTuple):
    """An accumulator of C: rows of one column, or (``along``) columns of the last row; ``count`` entries of the vector."""

    row: int
    column: int
    count: int
    along: bool


def _parts(ka: int, kb: int) -> list[_Part]:
    rest = ka % UNIT
    apart = rest == 1 and ka > 1  # the last row
    rows = ka - apart
    parts = [_Part(r, c, min(UNIT, rows - r), False) for c in range(kb) for r in range(0, rows, UNIT)]
    if apart:
        parts += [_Part(ka - 1, c, min(UNIT, kb - c), True) for c in range(0, kb, UNIT)]
    return parts


class _Sum(Tile):
    """Code of one sum."""

    def __init__(self, builder, d, ka, kb, bits, negative):
        super().__init__(builder, UNIT, 1, bits)
        self.d, self.ka, self.kb, self.negative = d, ka, kb, negative

    def run(self, C, ldc, H, h, ldh, A, strides_a, I, B, strides_b, J, begin, end, fetched):
        """Emit the loops; ``strides`` are those of a list's items and of the columns of one block."""
        parts = _parts(self.ka, self.kb)
        for first in range(0, len(parts), _ACCUMULATORS):
            chosen = parts[first : first + _ACCUMULATORS]
            start = [self._load(part, H, h, ldh) for part in chosen]

            def add(t, sums, chosen=chosen):
                a, b = self._item(A, strides_a, I, t), self._item(B, strides_b, J, t)
                if fetched[0]:
                    later = self.builder.add(t, INDEX(MARGIN))
                    self._prefetch(self._item(A, strides_a, I, later), fetched[0])
                    self._prefetch(self._item(B, strides_b, J, later), fetched[1])
                return self._add(chosen, a, strides_a[1], b, strides_b[1], sums)

            sums = self.over(begin, end, INDEX(1), start, add)
            for part, value in zip(chosen, sums, strict=True):
                self._store(part, value, C, ldc)

    def _item(self, base, strides, items, t):
        b = self.builder
        item = b.sext(b.load(b.gep(items, [t])), INDEX)
        return b.gep(base, [b.mul(item, strides[0])])

    def _prefetch(self, pointer, entries):
        b, byte = self.builder, ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, INT32, INT32, INT32])
        function = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0")
        for entry in range(0, entries, _LINE // self.bytes):
            line = b.bitcast(self.at(pointer, INDEX(entry)), byte)
            b.call(function, [line, INT32(0), INT32(3), INT32(1)])  # to be read, and to stay; data

    def _add(self, parts, a, lda, b, ldb, sums):
        build = self.builder
        sums = list(sums)
        for k in range(self.d):
            column_a, column_b = build.mul(lda, INDEX(k)), build.mul(ldb, INDEX(k))

            def number(pointer, column, entry):
                value = build.load(self.at(pointer, build.add(column, INDEX(entry))))
                return build.fneg(value) if self.negative else value

            vectors, scalars = {}, {}
            for n, part in enumerate(parts):
                along = part.along
                # Vectors lie along rows, of A, or along columns, of B; what they are multiplied with comes from the other.
                source, column, at = (b, column_b, part.column) if along else (a, column_a, part.row)
                other, other_column, entry = (a, column_a, part.row) if along else (b, column_b, part.column)
                if (along, entry) not in scalars:
                    scalars[along, entry] = number(other, other_column, entry)
                if part.count == 1:
                    value = build.load(self.at(source, build.add(column, INDEX(at))))
                    sums[n] = self.scalar_multiply_add(value, scalars[along, entry], sums[n])
                    continue
                if (along, at) not in vectors:
                    vectors[along, at] = self._vector(source, build.add(column, INDEX(at)), part.count)
                sums[n] = self.multiply_add(vectors[along, at], self.broadcast(scalars[along, entry]), sums[n])
        return sums

    def _vector(self, pointer, index, count):
        if count == UNIT:
            return self.load_column(pointer, index)
        mask = first_rows(self.builder, INDEX(count))
        return masked_load(self.builder, self.vector, self.at(pointer, index), mask, self.bytes)

    def _entry(self, part, base, ld, lane):
        """Pointer to an entry of C or H."""
        row, column = (part.row, part.column + lane) if part.along else (part.row + lane, part.column)
        b = self.builder
        return self.at(base, b.add(b.mul(ld, INDEX(column)), INDEX(row)))

    def _load(self, part, H, h, ldh):
        """What the sum starts with: 0 where h is negative."""
        b = self.builder
        given = b.icmp_signed(">=", h, INDEX(0))
        kind, zero = (self.entry, self.entry(0.0)) if part.count == 1 else (self.vector, self.zero)
        before = b.block
        with b.if_then(given):
            base = self.at(H, h)
            if part.count == 1:
                value = b.load(self._entry(part, base, ldh, 0))
            elif part.along:
                value = zero
                for lane in range(part.count):
                    value = b.insert_element(value, b.load(self._entry(part, base, ldh, lane)), INT32(lane))
            else:
                value = self._vector(self._entry(part, base, ldh, 0), INDEX(0), part.count)
            inside = b.block
        phi = b.phi(kind)
        phi.add_incoming(zero, before)
        phi.add_incoming(value, inside)
        return phi

    def _store(self, part, value, C, ldc):
        b = self.builder
        if part.count == 1:
            b.store(value, self._entry(part, C, ldc, 0))
        elif part.along:
            for lane in range(part.count):
                b.store(b.extract_element(value, INT32(lane)), self._entry(part, C, ldc, lane))
        elif part.count == UNIT:
            self.store_column(value, self._entry(part, C, ldc, 0), INDEX(0))
        else:
            place = self._entry(part, C, ldc, 0)
            masked_store(b, value, place, first_rows(b, INDEX(part.count)), self.bytes)


@intrinsic(prefer_literal=True)
def sum_products(
    typing_context, d, ka, kb, negative, fetched_a, fetched_b,
    C, c, ldc, H, h, ldh, A, a, next_a, lda, I, B, b, next_b, ldb, J, begin, end,
):  # fmt: skip
    """C ← H ± Σ A_i B_jᵀ over t = begin … end of the lists ``I`` and ``J``.

    Column k of A_i begins at ``a + I[t] next_a + k lda``, likewise of B; column c of C at ``c + column · ldc``, of H at
    ``h + column · ldh``, and with h < 0 the sum starts from 0. The sizes, the sign, and how many entries of a block are to be
    fetched ahead (0: none, else the lists have MARGIN more items) are literals.
    """
    arrays = (C, H, A, B)
    sizes = (d, ka, kb, negative, fetched_a, fetched_b)
    if not all(isinstance(x, types.Array) for x in arrays) or len({x.dtype for x in arrays}) != 1:
        return None
    if not all(isinstance(x, types.Literal) for x in sizes):
        return None
    d, ka, kb, minus, far_a, far_b = (x.literal_value for x in sizes)

    def generate(context, builder, signature, args):
        places = dict(zip(["C", "c", "ldc", "H", "h", "ldh", "A", "a", "next_a", "lda", "I", "B", "b", "next_b", "ldb", "J", "begin", "end"], args[6:], strict=True))
        kinds = dict(zip(["C", "c", "ldc", "H", "h", "ldh", "A", "a", "next_a", "lda", "I", "B", "b", "next_b", "ldb", "J", "begin", "end"], signature.args[6:], strict=True))

        def pointer(array, index):
            return address(context, builder, kinds[array], places[array], index)

        code = _Sum(builder, d, ka, kb, kinds["C"].dtype.bitwidth, bool(minus))
        code.run(
            pointer("C", places["c"]), places["ldc"], pointer("H", INDEX(0)), places["h"], places["ldh"],
            pointer("A", places["a"]), (places["next_a"], places["lda"]), pointer("I", INDEX(0)),
            pointer("B", places["b"]), (places["next_b"], places["ldb"]), pointer("J", INDEX(0)),
            places["begin"], places["end"], (far_a, far_b),
        )  # fmt: skip
        return context.get_dummy_value()

    i = types.int64
    return types.void(*sizes, C, i, i, H, i, i, A, i, i, i, I, B, i, i, i, J, i, i), generate
