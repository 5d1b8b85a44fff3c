"""What one event needs of compiled code, as two functions that Python calls directly: no dispatcher, no conversion of arguments.

`packer` writes an event into a batch of one and hashes its texts; `runner` runs all stages over that batch. Each is a small compiled
function of the kind that CPython's own built-in functions are; what it works on is a block of addresses.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, types
from numba.extending import intrinsic

from shopward.event import MAX_TEXT
from shopward.features.arena import address
from shopward.hashing import seed_words, sip_bytes

NOARGS, FASTCALL = 0x0004, 0x0080  # how a built-in function takes its arguments (METH_NOARGS, METH_FASTCALL)
BUILTIN = types.int64(
    types.int64, types.int64, types.int64
)  # (self, arguments, how many) -> new reference, 0 with an error set


class _MethodDef(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("meth", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p))


# ---- calling C functions at an address


def _codegen(result, *arguments):
    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(result, arguments).as_pointer()
        return builder.call(builder.inttoptr(args[0], kind), args[1:])

    return codegen


_WORD, _DOUBLE = ir.IntType(64), ir.DoubleType()


@intrinsic
def _words(typingctx, address):
    """The 64-bit words at an address."""
    kind = types.CPointer(types.int64)

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(kind))

    return kind(types.int64), codegen


@intrinsic
def _stage(typingctx, function, block, lo, hi):
    return types.int64(*[types.int64] * 4), _codegen(_WORD, _WORD, _WORD, _WORD)


@intrinsic
def _ask(typingctx, function):
    return types.int64(types.int64), _codegen(_WORD)


@intrinsic
def _whole(typingctx, function, x):
    return types.int64(types.int64, types.int64), _codegen(_WORD, _WORD)


@intrinsic
def _real(typingctx, function, x):
    return types.float64(types.int64, types.int64), _codegen(_DOUBLE, _WORD)


@intrinsic
def _chars(typingctx, function, x, size):
    return types.int64(types.int64, types.int64, types.int64), _codegen(_WORD, _WORD, _WORD)


@intrinsic
def _bits(typingctx, x):
    return types.int64(types.float64), lambda context, builder, _, args: builder.bitcast(args[0], _WORD)


# ---- the two functions. `self` is a bytes object that holds the block: its words begin BYTES behind its address.

BYTES = 32  # what CPython puts before the content of a bytes object
WHOLES, REALS, MINORS, TEXTS, LANES, SIZE, NONE, K0, K1, TO_INT, TO_REAL, TO_CHARS, FAILED, FROM_INT = range(14)
STAGES, NUMBER = range(2)


def _pack(self, given, count):
    """Write the values of an event to its lanes; 0, or for a text that is too long its place among the texts, from 1."""
    P = _words(self + BYTES)
    lanes, values = _words(P[LANES]), _words(given)
    at = 0
    for _ in range(P[WHOLES]):
        lanes[at] = _whole(P[TO_INT], values[at])
        at += 1
    for _ in range(P[REALS]):
        lanes[at] = _bits(_real(P[TO_REAL], values[at]))
        at += 1
    for _ in range(P[MINORS]):
        lanes[at] = _whole(P[TO_INT], values[at])
        at += 1
    if _ask(P[FAILED]) != 0:
        return 0
    lane = at
    size = _words(P[SIZE])
    for i in range(P[TEXTS]):
        a = b = 0
        if values[at + i] != P[NONE]:
            chars = _chars(P[TO_CHARS], values[at + i], P[SIZE])
            if chars == 0:
                return 0
            if size[0] > MAX_TEXT:
                return _whole(P[FROM_INT], i + 1)
            a, b = sip_bytes(chars, 0, size[0], np.uint64(P[K0]), np.uint64(P[K1]))
        lanes[lane] = a
        lanes[lane + 1] = b
        lane += 2
    return _whole(P[FROM_INT], 0)


def _run(self, given, count):
    """All stages over one row, as `lib_jit.drive` does it and with what it returns."""
    P = _words(self + BYTES)
    table = _words(P[STAGES])
    for s in range(table[0]):
        row = _stage(table[1 + 2 * s], table[2 + 2 * s], 0, 1)
        if row != 1:
            return _whole(P[NUMBER], (s << 32) | row)
    return _whole(P[NUMBER], -1)


def possible() -> bool:
    """Whether this Python is one whose built-in functions look as they do here."""
    return sys.implementation.name == "cpython" and bytes.__basicsize__ == BYTES + 1


def packer(lanes: np.ndarray, wholes: int, reals: int, minors: int, texts: int, seed: bytes) -> Callable[..., int]:
    """A function that writes whole numbers, floats, minor units and the hashes of texts into `lanes` (int64), in this order.

    Texts are str, or None for null. It returns 0, or for a text of more than MAX_TEXT bytes its place among the texts, from 1; lanes are
    then half written. Raises UnicodeEncodeError for a text with half characters, TypeError for what is no number.

    >>> lanes = np.zeros(5, np.int64)
    >>> pack = packer(lanes, 1, 0, 0, 2, bytes(16))
    >>> pack(7, None, "device-1"), lanes.tolist()
    (0, [7, 0, 0, 5289210824661038005, -9156047219183838312])
    """
    size = np.zeros(1, np.int64)
    k0, k1 = (int(word.astype(np.int64)) for word in seed_words(seed))
    called = (_c("PyLong_AsLongLong"), _c("PyFloat_AsDouble"), _c("PyUnicode_AsUTF8AndSize"), _c("PyErr_Occurred"))
    block = (
        wholes,
        reals,
        minors,
        texts,
        address(lanes),
        address(size),
        id(None),
        k0,
        k1,
        *called,
        _c("PyLong_FromLongLong"),
    )
    return _builtin("pack", _pack, FASTCALL, block, (lanes, size))


def runner(stages: np.ndarray) -> Callable[[], int]:
    """A function that calls `drive` with these stages for a batch of one."""
    return _builtin("run", _run, NOARGS, (address(stages), _c("PyLong_FromLongLong")), stages)


def _c(name: str) -> int:
    """The address of a function of CPython."""
    return ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0


@cache
def _definition(name: str, function: Callable, flags: int) -> _MethodDef:
    compiled = cfunc(BUILTIN, cache=True, error_model="numpy")(function)
    made = _MethodDef(name.encode(), compiled.address, flags, None)
    made.compiled = compiled
    return made


def _builtin(name: str, function: Callable, flags: int, block: tuple[int, ...], held: Any) -> Callable[..., int]:
    """`function` as a built-in function with a block of its own; `held` (what the block points at) lives as long as it does."""
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.restype, new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.py_object, ctypes.py_object)
    definition = _definition(name, function, flags)
    return new(ctypes.addressof(definition), struct.pack(f"={len(block)}q", *block), held)
