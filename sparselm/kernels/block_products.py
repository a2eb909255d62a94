"""Sums of small products A Bᵀ over a list of pairs, written as LLVM vectors that stay in registers along the list.

What JᵀJ and Schur complements are made of: for each of their blocks

    C ← H ± Σ_t A_i(t) B_j(t)ᵀ,        A (ka, d), B (kb, d),

where the lists i, j say which blocks contribute. A and B are stored by columns of ka and kb entries.
"""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from sparselm._llvm import INDEX, address
from sparselm._llvm_sums import MARGIN, Items, ProjectedSum, Sum

__all__ = ["FEWEST", "MARGIN", "MOST", "sum_products", "sum_projected_products"]

#: Columns of the larger block between which sums are worth being written as vectors: smaller blocks gain nothing, and the
#: code for larger ones is long and slow to compile.
FEWEST, MOST = 6, 16

# Arguments of ``sum_products`` after those that must be literals.
_NAMES = ("C", "c", "ldc", "H", "h", "ldh", "A", "a", "next_a", "lda", "I", "B", "b", "next_b", "ldb", "J", "begin", "end")


@intrinsic(prefer_literal=True)
def sum_products(
    typing_context, d, ka, kb, negative, fetched_a, fetched_b,
    C, c, ldc, H, h, ldh, A, a, next_a, lda, I, B, b, next_b, ldb, J, begin, end,
):  # fmt: skip
    """C ← H ± Σ A_i B_jᵀ over t = begin … end of the lists ``I`` and ``J``.

    Column k of A_i begins at ``a + I[t] next_a + k lda``, likewise of B; column c of C at ``c + column · ldc``, of H at
    ``h + column · ldh``, and with h < 0 the sum starts from 0. H may be C. The lists are int32.

    The sizes, the sign (``negative``: 0 or 1), and how many entries of a block are to be fetched ahead (0: none, else the
    lists have MARGIN more items) are literals.
    """
    arrays = (C, H, A, B)
    sizes = (d, ka, kb, negative, fetched_a, fetched_b)
    if not all(isinstance(x, types.Array) for x in arrays) or len({x.dtype for x in arrays}) != 1:
        return None
    if not all(isinstance(x, types.Literal) for x in sizes):
        return None
    d, ka, kb, minus, far_a, far_b = (x.literal_value for x in sizes)

    def generate(context, builder, signature, args):
        places = dict(zip(_NAMES, args[len(sizes) :], strict=True))
        kinds = dict(zip(_NAMES, signature.args[len(sizes) :], strict=True))

        def pointer(array, index):
            return address(context, builder, kinds[array], places[array], index)

        left = Items(pointer("A", places["a"]), places["next_a"], places["lda"], pointer("I", INDEX(0)), far_a)
        right = Items(pointer("B", places["b"]), places["next_b"], places["ldb"], pointer("J", INDEX(0)), far_b)
        code = Sum(builder, d, ka, kb, kinds["C"].dtype.bitwidth, bool(minus))
        target = pointer("C", places["c"]), places["ldc"], pointer("H", INDEX(0)), places["h"], places["ldh"]
        code.run(*target, left, right, places["begin"], places["end"])
        return context.get_dummy_value()

    i = types.int64
    return types.void(*sizes, C, i, i, H, i, i, A, i, i, i, I, B, i, i, i, J, i, i), generate


# Arguments of ``sum_projected_products`` after those that must be literals.
_PROJECTED_NAMES = ("C", "c", "H", "h", "J", "a", "b", "Q", "left", "right", "begin", "end")


@intrinsic(prefer_literal=True)
def sum_projected_products(
    typing_context, dim, width, d, ka, kb, C, c, H, h, J, a, b, Q, left, right, begin, end
):  # fmt: skip
    """C ← H − Σ A_iᵀ (Q_i Q_jᵀ) B_j over t = begin … end of the lists ``left`` and ``right``, which name residual blocks.

    ``J`` is ``(n, dim, width)`` and ``Q`` ``(n, dim, d)``; A_i and B_j are the columns ``a … a + ka`` of block i and
    ``b … b + kb`` of block j of J. C and H are stored by columns of ka entries, from ``c`` and ``h`` on; with h < 0 the sum
    starts from 0. The five sizes are literals. The lists have MARGIN more items, which name any block.
    """
    arrays = (C, H, J, Q)
    sizes = (dim, width, d, ka, kb)
    if not all(isinstance(x, types.Array) for x in arrays) or len({x.dtype for x in arrays}) != 1:
        return None
    if not all(isinstance(x, types.Literal) for x in sizes):
        return None
    dim, width, d, ka, kb = (x.literal_value for x in sizes)

    def generate(context, builder, signature, args):
        places = dict(zip(_PROJECTED_NAMES, args[len(sizes) :], strict=True))
        kinds = dict(zip(_PROJECTED_NAMES, signature.args[len(sizes) :], strict=True))

        def pointer(array, index):
            return address(context, builder, kinds[array], places[array], index)

        lists = [pointer(name, INDEX(0)) for name in ("left", "right")]
        fetched = [width * (dim - 1) + k for k in (ka, kb)]
        A, B = (
            Items(pointer("J", places[start]), INDEX(dim * width), INDEX(width), numbers, entries)
            for start, numbers, entries in zip("ab", lists, fetched, strict=True)
        )
        bases = [Items(pointer("Q", INDEX(0)), INDEX(dim * d), INDEX(d), numbers, dim * d) for numbers in lists]
        code = ProjectedSum(builder, dim, d, ka, kb, kinds["C"].dtype.bitwidth, bases)
        target = pointer("C", places["c"]), INDEX(ka), pointer("H", INDEX(0)), places["h"], INDEX(ka)
        code.run(*target, A, B, places["begin"], places["end"])
        return context.get_dummy_value()

    i = types.int64
    return types.void(*sizes, C, i, H, i, J, i, i, Q, left, right, i, i), generate
