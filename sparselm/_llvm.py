"""LLVM code of register tiles: vectors, loops over them, and what is done with them between load and store.

What the intrinsics of ``kernels/tiles.py`` are made of. A tile is a list of vectors, one for each of its columns; UNIT is
the number of rows of the smallest one.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

UNIT = 8

INDEX = ir.IntType(64)
INT32 = ir.IntType(32)


def switch(builder, columns, most, make, least=1):
    """``make(n)`` for the number of columns at run time, least … most; what it returns, or nothing."""
    if least == most:
        return make(most)
    cases = [builder.append_basic_block(f"columns.{n}") for n in range(least, most + 1)]
    after = builder.append_basic_block("columns.after")
    branch = builder.switch(columns, cases[-1])
    results = []
    for n, case in enumerate(cases, least):
        if n < most:
            branch.add_case(INDEX(n), case)
        builder.position_at_end(case)
        results.append((make(n), builder.block))
        builder.branch(after)
    builder.position_at_end(after)
    if results[0][0] is None:
        return None
    phi = builder.phi(INDEX)
    for value, block in results:
        phi.add_incoming(value, block)
    return phi


def address(context, builder, array_type, array, index):
    """Pointer to an entry of a numba array."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def spread(builder, value, rows):
    """A vector with the same value in all lanes."""
    undefined = ir.Constant(ir.VectorType(value.type, rows), ir.Undefined)
    first = builder.insert_element(undefined, value, INT32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INT32, rows), [0] * rows))


def entry_type(bits):
    return ir.DoubleType() if bits == 64 else ir.FloatType()


class Tile:
    """Code of one tile: a vector of ``rows`` entries for each of ``columns`` columns."""

    def __init__(self, builder, rows, columns, bits):
        self.builder = builder
        self.entry = entry_type(bits)
        self.vector = ir.VectorType(self.entry, rows)
        self.zero = ir.Constant(self.vector, [0.0] * rows)
        self.rows = rows
        self.columns = columns
        self.bytes = bits // 8
        self._multiply_add, self._scalar_multiply_add = (
            cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), f"llvm.fmuladd.{suffix}")
            for kind, suffix in ((self.vector, f"v{rows}f{bits}"), (self.entry, f"f{bits}"))
        )

    def at(self, pointer, offset):
        return self.builder.gep(pointer, [offset])

    def load_column(self, pointer, offset):
        return self.widened_vector(self.at(pointer, offset), self.rows, 8 * self.bytes)

    def widened_vector(self, pointer, lanes, bits):
        """The first ``lanes`` entries from a pointer to numbers of so many bits on, in the tile's precision; then zeros."""
        b = self.builder
        kind = ir.VectorType(entry_type(bits), self.rows)
        if lanes == self.rows:
            value = b.load(b.bitcast(pointer, kind.as_pointer()))
            value.align = bits // 8
        else:
            value = masked_load(b, kind, pointer, first_rows(b, INDEX(lanes)), bits // 8)
        return value if bits == 8 * self.bytes else b.fpext(value, self.vector)

    def widened_number(self, pointer, bits):
        """A number of so many bits, in the tile's precision."""
        value = self.builder.load(pointer)
        return value if bits == 8 * self.bytes else self.builder.fpext(value, self.entry)

    def store_column(self, value, pointer, offset):
        target = self.builder.bitcast(self.at(pointer, offset), self.vector.as_pointer())
        self.builder.store(value, target).align = self.bytes

    def broadcast(self, value):
        return spread(self.builder, value, self.rows)

    def multiply_add(self, a, b, c):
        """a·b + c"""
        return self.builder.call(self._multiply_add, [a, b, c])

    def scalar_multiply_add(self, a, b, c):
        return self.builder.call(self._scalar_multiply_add, [a, b, c])

    def shuffle(self, a, b, lanes):
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, len(lanes)), lanes))

    def sums(self, vectors):
        """A vector whose lane j holds the sum of vector j, of at most UNIT; by halves, lanes interleaved, then added.

        Of fewer vectors, lanes after the last hold sums of these, or 0.
        """
        distance = 1
        while distance < UNIT:
            if len(vectors) % 2 and len(vectors) > 1:
                vectors = [*vectors, self.zero]
            # Of two vectors that become one, the second fills the lanes with this bit; of a single one both are the same.
            pairs = zip(vectors[::2], vectors[1::2] or vectors, strict=True)
            low = [i + (UNIT - distance if i & distance else 0) for i in range(UNIT)]
            high = [lane + distance for lane in low]
            vectors = [self.builder.fadd(self.shuffle(a, b, low), self.shuffle(a, b, high)) for a, b in pairs]
            distance *= 2
        return vectors[0]

    def over(self, begin, end, step, carried, make):
        """A loop over an index with vectors and numbers carried along: ``make(index, carried)`` returns the next ones."""
        b = self.builder
        before = b.block
        head, body, after = (b.append_basic_block(name) for name in ("over.head", "over.body", "over.after"))
        b.branch(head)
        b.position_at_end(head)
        index, *phis = [b.phi(start.type) for start in (begin, *carried)]
        for phi, start in zip((index, *phis), (begin, *carried), strict=True):
            phi.add_incoming(start, before)
        b.cbranch(b.icmp_signed("<", index, end), body, after)
        b.position_at_end(body)
        for phi, value in zip(phis, make(index, phis), strict=True):
            phi.add_incoming(value, b.block)
        index.add_incoming(b.add(index, step), b.block)
        b.branch(head)
        b.position_at_end(after)
        return phis

    def subtract_dots(self, x, L, ld, y, rows):
        """x less, for each column of the tile, the product of what L and y have in ``rows`` rows."""

        def add(row, sums):
            factor = self.load_column(y, row)
            columns = (self.load_column(L, self.builder.add(self.offset(ld, j), row)) for j in range(self.columns))
            return [self.multiply_add(column, factor, total) for column, total in zip(columns, sums, strict=True)]

        sums = self.over(INDEX(0), rows, INDEX(UNIT), [self.zero] * self.columns, add)
        return self.builder.fsub(self.load_column(x, INDEX(0)), self.sums(sums + [self.zero] * (UNIT - self.columns)))

    def solve_forward(self, vector, T, ldt, inverse_diagonal):
        """T⁻¹ x in the lanes of the columns, x less its product with the rows below T in the others.

        Each lane waits for a product of the one before it with a number that is known beforehand, T_ij / T_jj.
        """
        solved = []
        for j in range(self.columns):
            inverse = self.broadcast(self.builder.load(self.at(inverse_diagonal, INDEX(j))))
            pivot = self.shuffle(vector, vector, [j] * self.rows)
            solved.append(self.builder.fmul(pivot, inverse))
            column = self.builder.fmul(self.load_column(T, self.offset(ldt, j)), inverse)
            vector = self.multiply_add(self.builder.fneg(column), pivot, vector)
        for j, value in enumerate(solved):  # what stands above the diagonal of T has spoilt them
            lanes = list(range(self.rows))
            lanes[j] += self.rows
            vector = self.shuffle(vector, value, lanes)
        return vector

    def solve_transposed(self, vector, T, ldt, inverse_diagonal):
        """T⁻ᵀ x in the lanes of the columns, of which what the other lanes contribute is subtracted first."""
        b = self.builder
        lanes = [b.extract_element(vector, INT32(j)) for j in range(UNIT)]
        for i in reversed(range(UNIT)):
            inverse = b.load(self.at(inverse_diagonal, INDEX(i))) if i < self.columns else None
            for j in range(min(i, self.columns)):
                scalar = b.load(self.at(T, b.add(self.offset(ldt, j), INDEX(i))))
                if inverse is not None:
                    scalar = b.fmul(scalar, inverse)
                lanes[j] = self.scalar_multiply_add(b.fneg(scalar), lanes[i], lanes[j])
            if inverse is not None:
                vector = b.insert_element(vector, b.fmul(lanes[i], inverse), INT32(i))
        return vector

    def subtract_product(self, c, a, scalar):
        """c − a·scalar"""
        # Negated as a vector: that costs no instruction, and leaves the broadcast a load.
        return self.multiply_add(self.builder.fneg(a), self.broadcast(scalar), c)

    def offset(self, ld, column):
        return self.builder.mul(ld, INDEX(column))

    def load(self, C, ldc):
        return [self.load_column(C, self.offset(ldc, j)) for j in range(self.columns)]

    def store(self, tile, C, ldc):
        for j, column in enumerate(tile):
            self.store_column(column, C, self.offset(ldc, j))

    def subtract_products(self, tile, A, lda, B, next_k, next_j, k):
        """The tile minus A Bᵀ: a loop over k that carries the tile in registers; the strides of B along k and columns."""
        b = self.builder

        def subtract(index, carried):
            a = self.load_column(A, b.mul(index, lda))
            row = b.mul(index, next_k)
            scalars = (b.load(self.at(B, b.add(row, b.mul(next_j, INDEX(j))))) for j in range(self.columns))
            return [self.subtract_product(column, a, scalar) for column, scalar in zip(carried, scalars, strict=True)]

        return self.over(INDEX(0), k, INDEX(1), tile, subtract)

    def solve(self, tile, T, ldt, inverse_diagonal):
        """The tile times T⁻ᵀ."""
        solved: list[ir.Value] = []
        for j, column in enumerate(tile):
            for i, known in enumerate(solved):
                scalar = self.builder.load(self.at(T, self.builder.add(self.offset(ldt, i), INDEX(j))))
                column = self.subtract_product(column, known, scalar)
            scale = self.broadcast(self.builder.load(self.at(inverse_diagonal, INDEX(j))))
            solved.append(self.builder.fmul(column, scale))
        return solved

    def factor(self, tile, diagonal, tolerance, scale, inverse_diagonal):
        """T of a diagonal tile = T Tᵀ, and a bit for each pivot that was too small and was replaced."""
        b = self.builder
        root = cgutils.get_or_insert_function(
            b.module, ir.FunctionType(self.entry, [self.entry]), f"llvm.sqrt.f{8 * self.bytes}"
        )
        tile = list(tile)
        failed = INDEX(0)
        pivots = []
        for j in range(self.columns):
            pivot = b.extract_element(tile[j], INT32(j))
            original = b.load(self.at(diagonal, INDEX(j)))
            low = b.fcmp_unordered("<=", pivot, b.fmul(tolerance, original))  # true of NaN
            failed = b.or_(failed, b.shl(b.zext(low, INDEX), INDEX(j)))
            positive = b.fcmp_ordered(">", original, self.entry(0.0))
            pivots.append(b.select(low, b.fmul(scale, b.select(positive, original, self.entry(1.0))), pivot))
            # Columns are scaled at the end: the next pivot waits for a division, not for a root and a division.
            scaled = b.fmul(tile[j], self.broadcast(b.fdiv(self.entry(1.0), pivots[-1])))
            for i in range(j + 1, self.columns):
                tile[i] = self.subtract_product(tile[i], tile[j], b.extract_element(scaled, INT32(i)))
        for j, pivot in enumerate(pivots):
            inverse = b.fdiv(self.entry(1.0), b.call(root, [pivot]))
            b.store(inverse, self.at(inverse_diagonal, INDEX(j)))
            column = b.fmul(tile[j], self.broadcast(inverse))
            tile[j] = b.insert_element(column, b.fmul(pivot, inverse), INT32(j))
        return tile, failed


class Strip(Tile):
    """Code of a strip of a packed factor: a few columns in runs of at most UNIT rows; see ``kernels/strips.py``.

    ``values`` points to its first value; ``x`` to position 0 of the vector, ``own`` to that of the first column; ``runs`` to
    the table of runs, of which the strip has ``begin`` … ``end``. A *wide* vector has UNIT right-hand sides by position.
    """

    def __init__(self, builder, columns, bits):
        super().__init__(builder, UNIT, columns, bits)
        self.below = columns * (columns - 1) // 2  # values of the triangle

    def triangle(self, values, i, j):
        """Entry i, j of the triangle below the diagonal, of which columns get shorter by one each."""
        return self.builder.load(self.at(values, INDEX(self.triangle_column(j) + i - j - 1)))

    def triangle_column(self, j):
        """Where column j of the triangle begins among the values."""
        return j * (self.columns - 1) - j * (j - 1) // 2

    def over_runs(self, runs, begin, end, carried, make):
        """A loop over runs: ``make(run, position, rows, place of the values, carried)`` returns what the next run gets."""
        b = self.builder

        def one(run, phis):
            at, *phis = phis
            entry = b.shl(run, INDEX(1))
            position, rows = (b.sext(b.load(b.gep(runs, [b.add(entry, INDEX(k))])), INDEX) for k in range(2))
            results = make(run, position, rows, at, phis)
            return [b.add(at, b.mul(rows, INDEX(self.columns))), *results]

        return self.over(begin, end, INDEX(1), [INDEX(self.below), *carried], one)[1:]

    def run_columns(self, rows, at):
        """Where the columns of a run stand among the values, the first one at ``at``."""
        for _ in range(self.columns):
            yield at
            at = self.builder.add(at, rows)

    def pack(self, values, L, ld, inverse, runs, begin, end, panel_rows):
        """The values of the strip: those of a panel, of which ``L`` points to its first diagonal entry, scaled."""
        b = self.builder
        scales = [self.broadcast(b.load(self.at(inverse, INDEX(j)))) for j in range(self.columns)]

        def copy(column, row, j, target, mask):
            scaled = b.fmul(self.load_column(L, b.add(row, column)), scales[j])
            masked_store(b, scaled, self.at(values, target), mask, self.bytes)

        for j in range(self.columns - 1):
            mask = ir.Constant(ir.VectorType(ir.IntType(1), UNIT), [k < self.columns - 1 - j for k in range(UNIT)])
            copy(self.offset(ld, j), INDEX(j + 1), j, INDEX(self.triangle_column(j)), mask)

        def one(run, position, rows, at, carried):
            row = b.sext(b.load(b.gep(panel_rows, [run])), INDEX)
            mask = first_rows(b, rows)
            for j, target in enumerate(self.run_columns(rows, at)):
                copy(self.offset(ld, j), row, j, target, mask)
            return carried

        self.over_runs(runs, begin, end, [], one)

    def forward(self, values, x, own, runs, begin, end):
        """x ← x less the columns times the solution of their triangle."""
        b = self.builder
        y = self.solve_triangle([self.broadcast(b.load(self.at(own, INDEX(j)))) for j in range(self.columns)], values)
        for i, solved in enumerate(y[1:], 1):
            b.store(b.extract_element(solved, INT32(0)), self.at(own, INDEX(i)))

        def subtract(run, position, rows, at, carried):
            place = self.at(x, position)
            total = self.load_column(place, INDEX(0))
            for column, solved in zip(self.run_columns(rows, at), y, strict=True):
                total = self.multiply_add(b.fneg(self.load_column(values, column)), solved, total)
            masked_store(b, total, place, first_rows(b, rows), self.bytes)
            return carried

        self.over_runs(runs, begin, end, [], subtract)

    def solve_triangle(self, y, values):
        """The triangle, its diagonal being 1, solved for vectors of one right-hand side a lane."""
        for i in range(1, self.columns):
            for j in range(i):
                y[i] = self.subtract_product(y[i], y[j], self.triangle(values, i, j))
        return y

    def backward(self, values, x, own, runs, begin, end):
        """The transpose of :meth:`forward`."""
        b = self.builder

        def add(run, position, rows, at, carried):
            factor = masked_load(b, self.vector, self.at(x, position), first_rows(b, rows), self.bytes)
            return [
                self.multiply_add(self.load_column(values, column), factor, total)
                for column, total in zip(self.run_columns(rows, at), carried, strict=True)
            ]

        sums = self.sums(self.over_runs(runs, begin, end, [self.zero] * self.columns, add))
        y = [b.fsub(b.load(self.at(own, INDEX(j))), b.extract_element(sums, INT32(j))) for j in range(self.columns)]
        for i in reversed(range(self.columns)):
            for j in range(i):
                y[j] = self.scalar_multiply_add(b.fneg(self.triangle(values, i, j)), y[i], y[j])
            b.store(y[i], self.at(own, INDEX(i)))

    def wide_forward(self, values, x, own, runs, begin, end):
        """:meth:`forward` for UNIT right-hand sides."""
        b = self.builder
        y = self.solve_triangle(self.load(own, INDEX(UNIT)), values)
        self.store(y, own, INDEX(UNIT))

        def subtract(run, position, rows, at, carried):
            def one(row, _):
                vector = b.mul(b.add(position, row), INDEX(UNIT))
                total = self.load_column(x, vector)
                for place, solved in zip(self.run_columns(rows, b.add(at, row)), y, strict=True):
                    total = self.subtract_product(total, solved, b.load(self.at(values, place)))
                self.store_column(total, x, vector)
                return []

            self.over(INDEX(0), rows, INDEX(1), [], one)
            return carried

        self.over_runs(runs, begin, end, [], subtract)

    def wide_backward(self, values, x, own, runs, begin, end):
        """:meth:`backward` for UNIT right-hand sides."""
        b = self.builder

        def subtract(run, position, rows, at, carried):
            def one(row, totals):
                factor = self.load_column(x, b.mul(b.add(position, row), INDEX(UNIT)))
                places = self.run_columns(rows, b.add(at, row))
                return [
                    self.subtract_product(total, factor, b.load(self.at(values, place)))
                    for total, place in zip(totals, places, strict=True)
                ]

            return self.over(INDEX(0), rows, INDEX(1), carried, one)

        y = self.over_runs(runs, begin, end, self.load(own, INDEX(UNIT)), subtract)
        for i in reversed(range(self.columns)):
            for j in range(i):
                y[j] = self.subtract_product(y[j], y[i], self.triangle(values, i, j))
        self.store(y, own, INDEX(UNIT))


def first_rows(builder, rows):
    """A mask of the first ``rows`` lanes of a vector of UNIT rows."""
    lanes = ir.Constant(ir.VectorType(INDEX, UNIT), list(range(UNIT)))
    return builder.icmp_signed("<", lanes, spread(builder, rows, UNIT))


def masked_load(builder, vector, pointer, mask, alignment):
    """The lanes of the mask, 0 in the others."""
    place = builder.bitcast(pointer, vector.as_pointer())
    zero = ir.Constant(vector, [0.0] * vector.count)
    function = _masked(builder, "load", vector, vector, [place.type, INT32, mask.type, vector])
    return builder.call(function, [place, INT32(alignment), mask, zero])


def masked_store(builder, value, pointer, mask, alignment):
    place = builder.bitcast(pointer, value.type.as_pointer())
    function = _masked(builder, "store", value.type, ir.VoidType(), [value.type, place.type, INT32, mask.type])
    builder.call(function, [value, place, INT32(alignment), mask])


def _masked(builder, name, vector, result, arguments):
    bits = 64 if vector.element == ir.DoubleType() else 32
    signature = ir.FunctionType(result, arguments)
    return cgutils.get_or_insert_function(
        builder.module, signature, f"llvm.masked.{name}.v{vector.count}f{bits}.p0"
    )


class BlockTransfer:
    """Code of a sum of blocks, or a copy: vectors of UNIT rows, the last of them masked, row vector by row vector."""

    def __init__(self, builder, bits, add=True):
        self.b = builder
        self.bits = bits  # of target and source
        self.add = add
        self.vectors = [ir.VectorType(entry_type(bits), UNIT) for bits in self.bits]

    def load(self, which, pointer, mask):
        vector, alignment = self.vectors[which], self.bits[which] // 8
        if mask is not None:
            return masked_load(self.b, vector, pointer, mask, alignment)
        value = self.b.load(self.b.bitcast(pointer, vector.as_pointer()))
        value.align = alignment
        return value

    def store(self, value, pointer, mask):
        alignment = self.bits[0] // 8
        if mask is not None:
            masked_store(self.b, value, pointer, mask, alignment)
        else:
            self.b.store(value, self.b.bitcast(pointer, value.type.as_pointer())).align = alignment

    def columns(self, row, columns, C, ldc, A, lda, mask):
        """Add the rows of one vector in all columns."""
        with cgutils.for_range(self.b, columns) as loop:
            target = self.b.gep(C, [self.b.add(self.b.mul(loop.index, ldc), row)])
            addend = self.load(1, self.b.gep(A, [self.b.add(self.b.mul(loop.index, lda), row)]), mask)
            if self.bits[0] < self.bits[1]:
                addend = self.b.fptrunc(addend, self.vectors[0])
            elif self.bits[0] > self.bits[1]:
                addend = self.b.fpext(addend, self.vectors[0])
            if self.add:
                addend = self.b.fadd(self.load(0, target, mask), addend)
            self.store(addend, target, mask)

    def run(self, rows, columns, C, ldc, A, lda):
        b = self.b
        whole = b.and_(rows, INDEX(-UNIT))
        with cgutils.for_range_slice(b, INDEX(0), whole, INDEX(UNIT), intp=INDEX) as (row, _):
            self.columns(row, columns, C, ldc, A, lda, None)
        rest = b.sub(rows, whole)
        with b.if_then(b.icmp_signed(">", rest, INDEX(0))):
            self.columns(whole, columns, C, ldc, A, lda, first_rows(b, rest))
