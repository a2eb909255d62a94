"""Partial Cholesky factorisation of one front: w pivot columns eliminated from a dense symmetric matrix of m rows.

    ⎡F11  ·⎤   ⎡L11  ·⎤ ⎡L11ᵀ L21ᵀ⎤
    ⎣F21 F22⎦ = ⎣L21  I⎦ ⎣ ·    U  ⎦ ,       U = F22 − L21 L21ᵀ,

lower triangles only. The panel (F11, F21), overwritten by (L11, L21), is stored by columns from ``l`` on, ``ld`` apart;
the update matrix U ``(m − w, m − w)`` from ``u`` on, ``ldu`` apart; both distances are multiples of ``tiles.UNIT``. The
columns are done in blocks of ``BLOCK``: within one, each ``UNIT`` columns take in what the earlier ones of the block
subtract (left-looking); then the block is subtracted from all that is to its right (right-looking).
"""

from __future__ import annotations

import numpy as np

from sparselm._jit import borrower
from sparselm._llvm import UNIT
from sparselm.kernels.tiles import TALL_BYTES, UPDATE_COLUMNS, factor_tile, solve_tile, update_tile

#: Columns of a block: deep enough that loading and storing a tile costs little, and UNIT · BLOCK entries stay in L1.
BLOCK = 96


@borrower
def padded(rows):
    """The distance of columns for so many rows."""
    return (rows + UNIT - 1) // UNIT * UNIT


@borrower
def solve_rows(L, l, ld, first, j, columns, begin, end, inverse, p):
    """Finish columns j … j + columns of rows begin … end, the diagonal tile being done; ``first`` begins the block."""
    tall = TALL_BYTES // L.itemsize
    row = begin
    while row < end:
        c = l + j * ld + row
        a = l + first * ld + row
        b = l + first * ld + j
        t = l + j * ld + j
        if columns == UNIT and end - row > tall - UNIT:
            solve_tile(True, columns, L, c, a, b, t, ld, j - first, inverse, p + j)
            row += tall
        else:
            solve_tile(False, columns, L, c, a, b, t, ld, j - first, inverse, p + j)
            row += UNIT


@borrower
def factor_block(L, l, ld, first, last, end, diagonal, tolerance, scale, inverse, bad, p):
    """Factorise columns first … last in rows first … end; sets ``bad[p + j]`` where pivot j was too small."""
    for j in range(first, last, UNIT):
        columns = min(UNIT, last - j)
        failed = factor_tile(
            columns, L, l + j * ld + j, l + first * ld + j, ld, j - first, diagonal, tolerance, scale, inverse, p + j
        )
        i = p + j
        while failed != 0:
            if failed & 1:
                bad[i] = True
            failed >>= 1
            i += 1
        solve_rows(L, l, ld, first, j, columns, j + UNIT, end, inverse, p)


@borrower
def solve_block(L, l, ld, first, last, begin, end, inverse, p):
    """Columns first … last in rows begin … end, below a diagonal block that is done."""
    for j in range(first, last, UNIT):
        solve_rows(L, l, ld, first, j, min(UNIT, last - j), begin, end, inverse, p)


@borrower
def subtract_products(C, c, ldc, A, a, lda, k, row_begin, row_end, column_begin, column_end):
    """C_ij ← C_ij − Σ_k A_ik A_jk for i in rows, j in columns, i ≥ j (and some entries above the diagonal)."""
    tall = TALL_BYTES // C.itemsize
    for j in range(column_begin, column_end, UPDATE_COLUMNS):
        columns = min(UPDATE_COLUMNS, column_end - j)
        row = max(row_begin, j - j % UNIT)
        while row < row_end:
            if columns == UPDATE_COLUMNS and row_end - row > tall - UNIT:
                update_tile(True, columns, C, c + j * ldc + row, ldc, A, a + row, a + j, lda, k)
                row += tall
            else:
                update_tile(False, columns, C, c + j * ldc + row, ldc, A, a + row, a + j, lda, k)
                row += UNIT


@borrower
def factor_front(L, l, ld, w, m, U, u, ldu, diagonal, tolerance, scale, inverse, bad, p):
    """The whole front; ``p`` is the place of its first pivot in ``diagonal``, ``inverse`` and ``bad``."""
    zero = np.int64(0)  # a literal would have numba compile what is called for it alone
    for first in range(0, w, BLOCK):
        last = min(first + BLOCK, w)
        factor_block(L, l, ld, first, last, m, diagonal, tolerance, scale, inverse, bad, p)
        if last < w:
            subtract_products(L, l, ld, L, l + first * ld, ld, last - first, last, m, last, w)
        if m > w:
            subtract_products(U, u, ldu, L, l + first * ld + w, ld, last - first, zero, m - w, zero, m - w)
