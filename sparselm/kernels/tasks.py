"""A fixed list of tasks, done by the threads of one parallel loop, each as soon as what it needs is there.

Threads take tasks in the order of the list. A task waits until its counter has reached its target, and adds one to another
counter when it is done: so every task that it waits for must come before it in the list. Whatever waits then waits for
something that another thread is working on, or that this one has done: one thread alone comes through too.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sparselm._jit import borrower
from sparselm._llvm import address

# Looks at a counter, some 0.4 ms, before a waiting thread sleeps, for at least so many microseconds. Where other processes
# want the processors, the thread that it waits for may have lost its own, for 16 ms at a time; it gets the one of a
# sleeping thread. With 10 µs of looking, naps of 75 µs made small factorisations twice as slow as on one thread.
LOOKS, NAP = 200_000, 20


@intrinsic
def fetch_add(typing_context, array, index):
    """Add one to an entry of an int64 array, as one step for all threads; what it was before."""

    def generate(context, builder, signature, args):
        entry = address(context, builder, signature.args[0], *args)
        return builder.atomic_rmw("add", entry, ir.Constant(ir.IntType(64), 1), "acq_rel")

    return types.int64(array, types.int64), generate


@intrinsic
def load(typing_context, array, index):
    """An entry of an int64 array that other threads write."""

    def generate(context, builder, signature, args):
        return builder.load_atomic(address(context, builder, signature.args[0], *args), "acquire", 8)

    return types.int64(array, types.int64), generate


@intrinsic
def nap(typing_context, microseconds):
    """Sleep (POSIX usleep), and leave the processor to another thread."""

    def generate(context, builder, signature, args):
        function_type = ir.FunctionType(ir.IntType(32), [ir.IntType(32)])
        function = cgutils.get_or_insert_function(builder.module, function_type, "usleep")
        builder.call(function, [builder.trunc(args[0], ir.IntType(32))])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@borrower
def wait_for(counters, counter, target):
    """Return once a counter has reached a target."""
    looks = 0
    while load(counters, counter) < target:
        looks += 1
        if looks > LOOKS:
            nap(NAP)
