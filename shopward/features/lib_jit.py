"""The functions of `lib`, compiled: the same text, working on raw memory instead of memoryviews.

A block is an array of 64-bit integers, most of them addresses. Only the primitives (typed pointers, casts, prefetch, 128-bit
arithmetic) are written here; everything else is `lib` itself, handed to numba.
"""

from __future__ import annotations

import functools
import types as python_types

import numpy as np
from llvmlite import ir
from numba import cfunc, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from shopward.features import lib
from shopward.hashing import sip_end, sip_start, sip_word

I = np.int64  # noqa: E741
F = np.float64
NAN = np.nan
OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "boundscheck": False}
WORD = types.CPointer(types.int64)
globals().update(
    {name: value for name, value in vars(lib).items() if name.isupper() and len(name) > 1}
)  # its constants


def _pointer(dtype):
    """A primitive that reads an address from a block and gives it a type."""

    @intrinsic
    def view(typingctx, block, slot):
        def codegen(context, builder, signature, args):
            address = builder.load(builder.gep(args[0], [args[1]]))
            return builder.inttoptr(address, context.get_value_type(signature.return_type))

        return types.CPointer(dtype)(block, types.intp), codegen

    return view


i64 = _pointer(types.int64)
u32 = _pointer(types.uint32)
f64 = _pointer(types.float64)
i16 = _pointer(types.int16)
sub = i64


@njit(inline="always")
def num(block, slot):
    return block[slot]


@intrinsic
def touch(typingctx, memory, index):
    def codegen(context, builder, signature, args):
        byte = ir.IntType(8).as_pointer()
        i32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        at = builder.bitcast(builder.gep(args[0], [args[1]]), byte)
        builder.call(function, [at, ir.Constant(i32, 1), ir.Constant(i32, 3), ir.Constant(i32, 1)])
        return context.get_dummy_value()

    return types.void(memory, types.int64), codegen


@intrinsic
def bits(typingctx, x):
    def codegen(context, builder, signature, args):
        positive = builder.fadd(args[0], ir.Constant(ir.DoubleType(), 0.0))
        return builder.bitcast(positive, ir.IntType(64))

    return types.int64(types.float64), codegen


@intrinsic
def unbits(typingctx, x):
    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@njit(inline="always")
def wide(low, high):
    return np.int64(low) | (np.int64(high) << 32)


@njit(inline="always")
def scatter(x, seed):
    x = np.uint64(x ^ seed) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64(x ^ (x >> np.uint64(31)))


@njit(inline="always")
def home(key, mask):
    return np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask


@intrinsic
def spread(typingctx, n, s, q1, q0):
    """n * (q1 * 2**40 + q0) - s * s in 128 bits, then to a float in two exact halves."""

    def codegen(context, builder, signature, args):
        i128, i64_, double = ir.IntType(128), ir.IntType(64), ir.DoubleType()
        n, s, q1, q0 = (builder.sext(a, i128) for a in args)
        q = builder.add(builder.shl(q1, ir.Constant(i128, 40)), q0)
        d = builder.sub(builder.mul(n, q), builder.mul(s, s))
        high = builder.trunc(builder.lshr(d, ir.Constant(i128, 62)), i64_)
        low = builder.and_(builder.trunc(d, i64_), ir.Constant(i64_, lib.LOW62))
        scaled = builder.fmul(builder.uitofp(high, double), ir.Constant(double, 4611686018427387904.0))
        return builder.fadd(scaled, builder.uitofp(low, double))

    return types.float64(types.int64, types.int64, types.int64, types.int64), codegen


@intrinsic
def call_stage(typingctx, function, block, lo, hi):
    """Call the compiled stage at an address."""

    def codegen(context, builder, signature, args):
        word = ir.IntType(64)
        kind = ir.FunctionType(word, [word, word, word]).as_pointer()
        return builder.call(builder.inttoptr(args[0], kind), args[1:])

    return types.int64(types.int64, types.int64, types.int64, types.int64), codegen


@intrinsic
def pointer(typingctx, address):
    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return WORD(types.int64), codegen


def _compiled(name):
    """One function of `lib`, with this module's primitives in place of the plain ones."""
    plain = getattr(lib, name)
    function = python_types.FunctionType(plain.__code__, globals(), name, plain.__defaults__)
    function.__module__ = __name__
    function.__doc__ = plain.__doc__
    return njit(**OPTIONS)(function)


release = _compiled("release")
grow = _compiled("grow")
index_put = _compiled("index_put")
index_pop = _compiled("index_pop")
index_rehash = _compiled("index_rehash")
earlier = _compiled("earlier")
settle = _compiled("settle")
forget = _compiled("forget")
drop_slot = _compiled("drop_slot")
find_seq = _compiled("find_seq")
queue_first = _compiled("queue_first")
queue_move = _compiled("queue_move")
ordered = _compiled("ordered")
identify = _compiled("identify")
table_rehash = _compiled("table_rehash")
table_fill = _compiled("table_fill")
table_remove = _compiled("table_remove")
clear_row = _compiled("clear_row")
count_row = _compiled("count_row")
index_row = _compiled("index_row")
count_rows = _compiled("count_rows")
index_rows = _compiled("index_rows")
sweep = _compiled("sweep")
early = _compiled("early")
assign = _compiled("assign")
assign_numbers = _compiled("assign_numbers")
assign_lists = _compiled("assign_lists")
replaced = _compiled("replaced")
name_values = _compiled("name_values")


@njit(**OPTIONS)
def compose(P, lo, hi):
    """Composite keys of whole columns: SipHash over the words of the parts, as `hashing.combine` does it."""
    out = i64(P, 0)
    parts = P[1]
    for i in range(lo, hi):
        v0, v1, v2, v3 = sip_start(np.uint64(P[2]), np.uint64(P[3]))
        whole = True
        for c in range(parts):
            column = i64(P, 4 + c)
            a = column[2 * i]
            b = column[2 * i + 1]
            whole = whole and (a != 0 or b != 0)
            v0, v1, v2, v3 = sip_word(v0, v1, v2, v3, np.uint64(a))
            v0, v1, v2, v3 = sip_word(v0, v1, v2, v3, np.uint64(b))
        out[2 * i] = 0
        out[2 * i + 1] = 0
        if whole:
            v0, v1, v2, v3 = sip_word(v0, v1, v2, v3, np.uint64((16 * parts) & 255) << np.uint64(56))
            out[2 * i], out[2 * i + 1] = sip_end(v0, v1, v2, v3)
    return hi


STAGES = ("compose", "assign", "assign_numbers", "assign_lists", "replaced", "name_values")
STAGE = types.int64(WORD, types.int64, types.int64)


def stage(function):
    """A function (block, lo, hi) -> row as something with an address, kept in numba's cache."""
    return cfunc(STAGE, cache=True, error_model="numpy")(function)


@functools.cache
def stage_address(name):
    """Where the compiled form of one of the ready-made stages can be called."""
    return stage(globals()[name].py_func).address


@njit(types.int64(types.int64, types.int64, types.int64, types.int64, types.int64), **OPTIONS)
def drive(stages, first, at, lo, hi):
    """Run the stages one after another over rows lo to hi; the first one starts at row `at`.

    `stages` is the address of [count, function, block, function, block, ...]. Returns -1 when done, else
    stage * 2**32 + row: that stage needs space before it can go on from that row.
    """
    table = pointer(stages)
    for s in range(first, table[0]):
        row = call_stage(table[1 + 2 * s], table[2 + 2 * s], at, hi)
        if row != hi:
            return (s << 32) | row
        at = lo
    return -1


@njit(types.void(types.int64, types.int64, types.int64, types.int64, types.int64), **OPTIONS)
def sweep_at(block, families, count, horizon, steps):
    sweep(pointer(block), pointer(families), count, horizon, steps)


@njit(types.void(types.int64, types.int64, types.int64, types.int64), **OPTIONS)
def index_rehash_at(old, old_header, new, new_header):
    index_rehash(pointer(old), pointer(old_header), pointer(new), pointer(new_header))


@njit(types.void(types.int64, types.int64, types.int64, types.int64), **OPTIONS)
def table_rehash_at(old, old_mask, new, new_mask):
    table_rehash(pointer(old), old_mask, pointer(new), new_mask)


@njit(types.void(types.int64, types.int64, types.int64, types.int64), **OPTIONS)
def table_fill_at(known, ids, table, mask):
    table_fill(pointer(known), ids, pointer(table), mask)


@njit(types.void(types.int64, types.int64, types.int64), **OPTIONS)
def count_rows_at(block, ids, out):
    count_rows(pointer(block), ids, pointer(out))


@njit(types.void(types.int64, types.int64), **OPTIONS)
def index_rows_at(block, ids):
    index_rows(pointer(block), ids)
