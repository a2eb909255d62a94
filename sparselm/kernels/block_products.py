"""Sums of small products A Bᵀ over a list of pairs, written as LLVM vectors that stay in registers along the list.

What JᵀJ and Schur complements are made of: for each of their blocks

    C ← H ± Σ_t A_i(t) B_j(t)ᵀ,        A (ka, d), B (kb, d),

where the lists i, j say which blocks contribute. A and B are stored by columns of ka and kb entries.
"""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from sparselm._llvm import INDEX, address
from sparselm._llvm_sums import MARGIN, Sum

__all__ = ["MARGIN", "sum_products"]

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

        code = Sum(builder, d, ka, kb, kinds["C"].dtype.bitwidth, bool(minus))
        code.run(
            pointer("C", places["c"]), places["ldc"], pointer("H", INDEX(0)), places["h"], places["ldh"],
            pointer("A", places["a"]), (places["next_a"], places["lda"]), pointer("I", INDEX(0)),
            pointer("B", places["b"]), (places["next_b"], places["ldb"]), pointer("J", INDEX(0)),
            places["begin"], places["end"], (far_a, far_b),
        )  # fmt: skip
        return context.get_dummy_value()

    i = types.int64
    return types.void(*sizes, C, i, i, H, i, i, A, i, i, i, I, B, i, i, i, J, i, i), generate
