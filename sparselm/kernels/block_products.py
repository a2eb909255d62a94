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


def _fit(target, start, *factors):
    """Whether these are arrays, target and start of one precision and the others of no higher one."""
    arrays = (target, start, *factors)
    if not all(isinstance(x, types.Array) and isinstance(x.dtype, types.Float) for x in arrays):
        return False
    return target.dtype == start.dtype and all(x.dtype.bitwidth <= target.dtype.bitwidth for x in factors)


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

    C and H are of one precision; A and B may be of a lower one. The sizes, the sign (``negative``: 0 or 1), and how many
    entries of a block are to be fetched ahead (0: none, else the lists have MARGIN more items) are literals.
    """
    sizes = (d, ka, kb, negative, fetched_a, fetched_b)
    if not _fit(C, H, A, B) or not all(isinstance(x, types.Literal) for x in sizes):
        return None
    d, ka, kb, minus, far_a, far_b = (x.literal_value for x in sizes)

    def generate(context, builder, signature, args):
        places = dict(zip(_NAMES, args[len(sizes) :], strict=True))
        kinds = dict(zip(_NAMES, signature.args[len(sizes) :], strict=True))

        def pointer(array, index):
            return address(context, builder, kinds[array], places[array], index)

        left, right = (
            Items(
                kinds[name].dtype.bitwidth, pointer(name, places[start]), places[f"next_{start}"], places[f"ld{start}"],
                pointer(numbers, INDEX(0)), far,
            )
            for name, start, numbers, far in (("A", "a", "I", far_a), ("B", "b", "J", far_b))
        )  # fmt: skip
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
    starts from 0. J and Q may be of a lower precision. The five sizes are literals. The lists have MARGIN more items, which
    name any block.
    """
    sizes = (dim, width, d, ka, kb)
    if not _fit(C, H, J, Q) or not all(isinstance(x, types.Literal) for x in sizes):
        return None
    dim, width, d, ka, kb = (x.literal_value for x in sizes)

    def generate(context, builder, signature, args):
        places = dict(zip(_PROJECTED_NAMES, args[len(sizes) :], strict=True))
        kinds = dict(zip(_PROJECTED_NAMES, signature.args[len(sizes) :], strict=True))

        def pointer(array, index):
            return address(context, builder, kinds[array], places[array], index)

        lists = [pointer(name, INDEX(0)) for name in ("left", "right")]
        fetched = [width * (dim - 1) + k for k in (ka, kb)]
        of_J, of_Q = (kinds[name].dtype.bitwidth for name in "JQ")
        A, B = (
            Items(of_J, pointer("J", places[start]), INDEX(dim * width), INDEX(width), numbers, entries)
            for start, numbers, entries in zip("ab", lists, fetched, strict=True)
        )
        bases = [Items(of_Q, pointer("Q", INDEX(0)), INDEX(dim * d), INDEX(d), numbers, dim * d) for numbers in lists]
        code = ProjectedSum(builder, dim, d, ka, kb, kinds["C"].dtype.bitwidth, bases)
        target = pointer("C", places["c"]), INDEX(ka), pointer("H", INDEX(0)), places["h"], INDEX(ka)
        code.run(*target, A, B, places["begin"], places["end"])
        return context.get_dummy_value()

    i = types.int64
    return types.void(*sizes, C, i, H, i, J, i, i, Q, left, right, i, i), generate
