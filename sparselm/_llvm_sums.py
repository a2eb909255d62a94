"""LLVM code of sums of small products A Bᵀ over a list of pairs, whose sum stays in registers along the list.

What the intrinsic of ``kernels/block_products.py`` is made of. Rows of the sum C lie in vectors of UNIT entries; of 9 rows,
as cameras often have, the last one lies in vectors of its own along the columns, so that 9 × 9 take 10 vectors and a number
instead of 18 vectors.
"""

from __future__ import annotations

from typing import NamedTuple

from llvmlite import binding, ir
from numba.core import cgutils

from sparselm._llvm import INDEX, INT32, UNIT, Tile, first_rows, masked_store

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


class Items(NamedTuple):
    """A list of blocks: item t is number ``numbers[t]`` of those that begin at ``base``, ``next`` entries apart.

    ``bits``: of an entry, at most those of the sum's. ``fetched``: entries of a block that are to be fetched ahead.
    """

    bits: int
    base: ir.Value
    next: ir.Value
    ld: ir.Value
    numbers: ir.Value
    fetched: int

    def pointer(self, code, t):
        """Where item t begins."""
        b = code.builder
        number = b.sext(b.load(b.gep(self.numbers, [t])), INDEX)
        return b.gep(self.base, [b.mul(number, self.next)])

    def block(self, code, t):
        """Item t; that of a later turn is fetched."""
        if self.fetched:
            prefetch(code, self.pointer(code, code.builder.add(t, INDEX(MARGIN))), self.fetched, self.bits)
        return Columns(code, self.pointer(code, t), self.ld, self.bits)


def prefetch(code, pointer, entries, bits):
    """Ask for the cache lines of some entries."""
    b, byte = code.builder, ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, INT32, INT32, INT32])
    function = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0")
    for entry in range(0, entries, 8 * _LINE // bits):
        line = b.bitcast(code.at(pointer, INDEX(entry)), byte)
        b.call(function, [line, INT32(0), INT32(3), INT32(1)])  # to be read, and to stay; data


class Columns:
    """Columns of one block of a sum, as they are stored."""

    def __init__(self, code, pointer, ld, bits):
        self.code, self.pointer, self.ld, self.bits = code, pointer, ld, bits

    def _at(self, column, entry):
        b = self.code.builder
        return self.code.at(self.pointer, b.add(b.mul(self.ld, INDEX(column)), INDEX(entry)))

    def vector(self, column, entry, lanes):
        """Entries of a column from ``entry`` on; those after the first ``lanes`` are 0."""
        return self.code.widened_vector(self._at(column, entry), lanes, self.bits)

    def number(self, column, entry):
        """One entry."""
        return self.code.widened_number(self._at(column, entry), self.bits)


class CombinedColumns:
    """Columns Σ_r M_rs a_r for the columns a of a block and a small matrix M of numbers."""

    def __init__(self, code, columns, matrix):
        self.code, self.columns, self.matrix = code, columns, matrix

    def _combine(self, terms, column, multiply_add, zero, widen):
        total = zero
        for term, row in zip(terms, self.matrix, strict=True):
            total = multiply_add(term, widen(row[column]), total)
        return total

    def vector(self, column, entry, lanes):
        """Entries of a column from ``entry`` on."""
        terms = [self.columns.vector(r, entry, lanes) for r in range(len(self.matrix))]
        return self._combine(terms, column, self.code.multiply_add, self.code.zero, self.code.broadcast)

    def number(self, column, entry):
        """One entry."""
        terms = [self.columns.number(r, entry) for r in range(len(self.matrix))]
        return self._combine(terms, column, self.code.scalar_multiply_add, self.code.entry(0.0), lambda value: value)


class Sum(Tile):
    """Code of the sum C ← H ± Σ A_i B_jᵀ of blocks A ``(ka, d)`` and B ``(kb, d)``; see ``kernels/block_products.py``."""

    def __init__(self, builder, d, ka, kb, bits, negative):
        super().__init__(builder, UNIT, 1, bits)
        self.d, self.ka, self.kb, self.negative = d, ka, kb, negative

    def run(self, C, ldc, H, h, ldh, left, right, begin, end):
        """Emit the loops; ``left`` and ``right`` are the lists of A and B."""
        parts = accumulators(self.ka, self.kb)
        for first in range(0, len(parts), _ACCUMULATORS):
            chosen = parts[first : first + _ACCUMULATORS]
            start = [self._load(part, H, h, ldh) for part in chosen]

            def add(t, sums, chosen=chosen):
                a, b = self.blocks(left, right, t)
                return self._add(chosen, a, b, sums)

            sums = self.over(begin, end, INDEX(1), start, add)
            for part, value in zip(chosen, sums, strict=True):
                self._store(part, value, C, ldc)

    def blocks(self, left, right, t):
        """A and B of item t."""
        return left.block(self, t), right.block(self, t)

    def _add(self, parts, a, b, sums):
        sums = list(sums)
        for k in range(self.d):
            vectors, scalars = {}, {}
            for n, part in enumerate(parts):
                along = part.along
                # Vectors lie along rows, of A, or along columns, of B; what they are multiplied with comes from the other.
                source, at, other, entry = (b, part.column, a, part.row) if along else (a, part.row, b, part.column)
                if (along, entry) not in scalars:
                    value = other.number(k, entry)
                    scalars[along, entry] = self.builder.fneg(value) if self.negative else value
                if part.lanes == 1:
                    sums[n] = self.scalar_multiply_add(source.number(k, at), scalars[along, entry], sums[n])
                    continue
                if (along, at) not in vectors:
                    vectors[along, at] = source.vector(k, at, part.lanes)
                sums[n] = self.multiply_add(vectors[along, at], self.broadcast(scalars[along, entry]), sums[n])
        return sums

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
                value = self.widened_vector(self._entry(part, base, ldh, 0), part.lanes, 8 * self.bytes)
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


class ProjectedSum(Sum):
    """Code of C ← H − Σ A_i (Q_i Q_jᵀ) B_jᵀ with A ``(ka, dim)``, B ``(kb, dim)`` and Q ``(dim, d)`` by rows."""

    def __init__(self, builder, dim, d, ka, kb, bits, bases):
        super().__init__(builder, dim, ka, kb, bits, True)
        self.inner, self.bases = d, bases

    def blocks(self, left, right, t):
        """A Q_i Q_jᵀ, and B."""
        a, b = super().blocks(left, right, t)
        q, p = (items.block(self, t) for items in self.bases)
        return CombinedColumns(self, a, [[self._dot(q, r, p, s) for s in range(self.d)] for r in range(self.d)]), b

    def _dot(self, q, r, p, s):
        """Row r of one Q times row s of another."""
        total = self.entry(0.0)
        for m in range(self.inner):
            total = self.scalar_multiply_add(q.number(r, m), p.number(s, m), total)
        return total
