"""LLVM code of sums of small products A Bᵀ over a list of pairs, whose sum stays in registers along the list.

What the intrinsic of ``kernels/block_products.py`` is made of. Rows of the sum C lie in vectors of UNIT entries; of 9 rows,
as cameras often have, the last one lies in vectors of its own along the columns, so that 9 × 9 take 10 vectors and a number
instead of 18 vectors.
"""

from __future__ import annotations

from typing import NamedTuple

from llvmlite import binding, ir
from numba.core import cgutils

from sparselm._llvm import INDEX, INT32, UNIT, Tile, first_rows, masked_load, masked_store

#: Items that a list must have after its last one where blocks are fetched ahead.
MARGIN = 4

# Accumulators that stay in registers besides what is multiplied: of 32 registers with AVX-512, of 16 half as long without.
_ACCUMULATORS = 24 if binding.get_host_cpu_features().get("avx512f", False) else 5

# Bytes of a cache line.
_LINE = 64


class Part(NamedTuple):
    """An accumulator of C: rows of one column, or (``along``) columns of the last row; of ``lanes`` entries."""

    row: int
    column: int
    lanes: int
    along: bool


def accumulators(ka: int, kb: int) -> list[Part]:
    """The accumulators of a sum of ka rows and kb columns, none of which has a vector with one row in use beside others."""
    apart = ka % UNIT == 1 and ka > 1  # the last row
    rows = ka - apart
    parts = [Part(r, c, min(UNIT, rows - r), False) for c in range(kb) for r in range(0, rows, UNIT)]
    if apart:
        parts += [Part(ka - 1, c, min(UNIT, kb - c), True) for c in range(0, kb, UNIT)]
    return parts


class Sum(Tile):
    """Code of the sum C ← H ± Σ A_i B_jᵀ of blocks A ``(ka, d)`` and B ``(kb, d)``; see ``kernels/block_products.py``."""

    def __init__(self, builder, d, ka, kb, bits, negative):
        super().__init__(builder, UNIT, 1, bits)
        self.d, self.ka, self.kb, self.negative = d, ka, kb, negative

    def run(self, C, ldc, H, h, ldh, A, strides_a, I, B, strides_b, J, begin, end, fetched):
        """Emit the loops; ``strides`` are those of a list's items and of the columns of one block."""
        parts = accumulators(self.ka, self.kb)
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
                if part.lanes == 1:
                    value = build.load(self.at(source, build.add(column, INDEX(at))))
                    sums[n] = self.scalar_multiply_add(value, scalars[along, entry], sums[n])
                    continue
                if (along, at) not in vectors:
                    vectors[along, at] = self._vector(source, build.add(column, INDEX(at)), part.lanes)
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
        kind, zero = (self.entry, self.entry(0.0)) if part.lanes == 1 else (self.vector, self.zero)
        before = b.block
        with b.if_then(given):
            base = self.at(H, h)
            if part.lanes == 1:
                value = b.load(self._entry(part, base, ldh, 0))
            elif part.along:
                value = zero
                for lane in range(part.lanes):
                    value = b.insert_element(value, b.load(self._entry(part, base, ldh, lane)), INT32(lane))
            else:
                value = self._vector(self._entry(part, base, ldh, 0), INDEX(0), part.lanes)
            inside = b.block
        phi = b.phi(kind)
        phi.add_incoming(zero, before)
        phi.add_incoming(value, inside)
        return phi

    def _store(self, part, value, C, ldc):
        b = self.builder
        if part.lanes == 1:
            b.store(value, self._entry(part, C, ldc, 0))
        elif part.along:
            for lane in range(part.lanes):
                b.store(b.extract_element(value, INT32(lane)), self._entry(part, C, ldc, lane))
        elif part.lanes == UNIT:
            self.store_column(value, self._entry(part, C, ldc, 0), INDEX(0))
        else:
            place = self._entry(part, C, ldc, 0)
            masked_store(b, value, place, first_rows(b, INDEX(part.lanes)), self.bytes)
