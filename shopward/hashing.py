"""Who is who, in 128 bits: every key (account, device, card, ...) enters the engine as a seeded hash of its text.

The hash is SipHash-1-3 with 128-bit output, keyed by a secret 16-byte seed that lives in the snapshot, so nobody outside can
craft two keys that collide. A hash is a pair of signed 64-bit integers; (0, 0) means "no value" and is never the hash of a text.
The same text gives the same pair whether it comes from Python, from raw JSON bytes or from an Arrow column.

SipHash: J.-P. Aumasson and D. J. Bernstein, "SipHash: a fast short-input PRF", 2012.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba import carray, cfunc, int64, njit, uint64, void
from numba.extending import intrinsic
from numba.types import CPointer

if TYPE_CHECKING:
    import pyarrow as pa

Pair = tuple[int, int]
NULL_HASH: Pair = (0, 0)
SEED_BYTES = 16
FEW = 8  # texts that are hashed one by one
MASK = (1 << 64) - 1
# The four words every SipHash starts from (the bytes of "somepseudorandomlygeneratedbytes"); 0xEE and 0xDD mark 128-bit output.
S0, S1, S2, S3 = 0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573


@lru_cache(maxsize=64)
def seed_words(seed: bytes) -> tuple[np.uint64, np.uint64]:
    """The two key words of a 16-byte seed, for the compiled forms.

    >>> [hex(int(word)) for word in seed_words(bytes(range(16)))]
    ['0x706050403020100', '0xf0e0d0c0b0a0908']
    """
    if len(seed) != SEED_BYTES:
        raise ValueError(f"a hash seed is {SEED_BYTES} bytes, this one has {len(seed)}")
    k0, k1 = struct.unpack("<QQ", seed)
    return np.uint64(k0), np.uint64(k1)


@lru_cache(maxsize=64)
def _plain_words(seed: bytes) -> tuple[int, int]:
    k0, k1 = seed_words(seed)
    return int(k0), int(k1)


def canonical_text(value: Any) -> str:
    """The text under which a key value that is not a string is hashed.

    >>> [canonical_text(value) for value in ("d-1", 42, 42.0, -0.0, 0.5, True)]
    ['d-1', '42', '42', '0', '0.5', 'true']
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        value = float(value)
        return str(int(value)) if value.is_integer() else repr(value)
    return str(int(value))


# ---- one text, in plain Python: the definition the compiled forms are tested against


def siphash128_plain(data: bytes, seed: bytes, c: int = 1, d: int = 3) -> Pair:
    """SipHash-c-d-128 written down plainly, as two unsigned words; slow, for reading and for tests."""
    k0, k1 = (int(word) for word in seed_words(seed))
    v = [k0 ^ S0, k1 ^ S1 ^ 0xEE, k0 ^ S2, k1 ^ S3]
    whole = len(data) & ~7
    tail = int.from_bytes(data[whole:], "little") | (len(data) & 0xFF) << 56
    for m in (*struct.unpack(f"<{whole // 8}Q", data[:whole]), tail):
        v[3] ^= m
        _rounds_plain(v, c)
        v[0] ^= m
    v[2] ^= 0xEE
    _rounds_plain(v, d)
    first = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    _rounds_plain(v, d)
    return first, v[0] ^ v[1] ^ v[2] ^ v[3]


def _rounds_plain(v: list[int], times: int) -> None:
    a, b, c, d = v
    for _ in range(times):
        a = (a + b) & MASK
        b = ((b << 13 | b >> 51) & MASK) ^ a
        a = (a << 32 | a >> 32) & MASK
        c = (c + d) & MASK
        d = ((d << 16 | d >> 48) & MASK) ^ c
        a = (a + d) & MASK
        d = ((d << 21 | d >> 43) & MASK) ^ a
        c = (c + b) & MASK
        b = ((b << 17 | b >> 47) & MASK) ^ c
        c = (c << 32 | c >> 32) & MASK
    v[:] = a, b, c, d


# ---- compiled


def address_of(array: np.ndarray) -> int:
    """Where an array's first element lies.

    >>> address_of(np.zeros(3)) % 8
    0
    """
    try:  # a third of what numpy's own way takes
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]
    except (TypeError, ValueError):  # read-only, empty, or with gaps
        return array.__array_interface__["data"][0]


@intrinsic
def load64(typingctx, address):
    """The 8 bytes at an address as a little-endian word, at any alignment; the caller knows they exist.

    Addresses instead of arrays: compiled code then neither copies array headers nor counts references in its inner loops.
    """

    def codegen(context, builder, signature, args):
        word = builder.load(builder.inttoptr(args[0], ir.IntType(64).as_pointer()))
        word.align = 1
        return word

    return uint64(int64), codegen


@intrinsic
def load32(typingctx, address):
    """The signed 4 bytes at an address, at any alignment."""

    def codegen(context, builder, signature, args):
        word = builder.load(builder.inttoptr(args[0], ir.IntType(32).as_pointer()))
        word.align = 1
        return builder.sext(word, ir.IntType(64))

    return int64(int64), codegen


@intrinsic
def load8(typingctx, address):
    """The byte at an address."""

    def codegen(context, builder, signature, args):
        return builder.zext(builder.load(builder.inttoptr(args[0], ir.IntType(8).as_pointer())), ir.IntType(64))

    return int64(int64), codegen


@njit(forceinline=True)
def _rotate(x, bits):
    return (x << uint64(bits)) | (x >> uint64(64 - bits))


@njit(forceinline=True)
def sip_round(v0, v1, v2, v3):
    v0 += v1
    v2 += v3
    v1 = _rotate(v1, 13) ^ v0
    v3 = _rotate(v3, 16) ^ v2
    v0 = _rotate(v0, 32)
    v2 += v1
    v0 += v3
    v1 = _rotate(v1, 17) ^ v2
    v3 = _rotate(v3, 21) ^ v0
    v2 = _rotate(v2, 32)
    return v0, v1, v2, v3


@njit(forceinline=True)
def sip_start(k0, k1):
    """The state before the first word."""
    k0 = uint64(k0)
    k1 = uint64(k1)
    return k0 ^ uint64(S0), k1 ^ uint64(S1 ^ 0xEE), k0 ^ uint64(S2), k1 ^ uint64(S3)


@njit(forceinline=True)
def sip_word(v0, v1, v2, v3, word):
    """The state after one more 8-byte word."""
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3 ^ word)
    return v0 ^ word, v1, v2, v3


@njit(forceinline=True)
def sip_end(v0, v1, v2, v3):
    """The pair of a finished state; the one state whose pair would be (0, 0) gives (0, 1)."""
    v2 ^= uint64(0xEE)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    first = v0 ^ v1 ^ v2 ^ v3
    v1 ^= uint64(0xDD)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    second = v0 ^ v1 ^ v2 ^ v3
    if first | second == uint64(0):
        second = uint64(1)
    return int64(first), int64(second)


@njit(forceinline=True)
def tail_word(address, at, stop):
    """The last 0 to 7 of `stop` bytes as a word, zero-padded; never reads outside them."""
    rest = stop - at
    if rest == 0:
        return uint64(0)
    if stop >= 8:
        return load64(address + stop - 8) >> uint64(64 - 8 * rest)
    word = uint64(0)
    for i in range(rest):
        word |= uint64(load8(address + at + i)) << uint64(8 * i)
    return word


@njit(forceinline=True)
def sip_bytes(address, start, stop, k0, k1):
    """The hash of the bytes from address + start to address + stop; the memory from `address` on is readable."""
    v0, v1, v2, v3 = sip_start(k0, k1)
    at = start
    while at + 8 <= stop:
        v0, v1, v2, v3 = sip_word(v0, v1, v2, v3, load64(address + at))
        at += 8
    length = uint64((stop - start) & 255) << uint64(56)
    v0, v1, v2, v3 = sip_word(v0, v1, v2, v3, tail_word(address, at, stop) | length)
    return sip_end(v0, v1, v2, v3)


@njit(nogil=True, error_model="numpy", cache=True)
def siphash128_nb(buf, start, stop, k0, k1):
    """SipHash-1-3-128 of the bytes buf[start:stop] as (int64, int64); `buf` is a contiguous uint8 array."""
    return sip_bytes(int64(buf.ctypes.data), int64(start), int64(stop), k0, k1)


@njit(nogil=True, error_model="numpy", cache=True)
def combine2_nb(a0, a1, b0, b1, k0, k1):
    """The key of two parts, each a pair; null if either is null."""
    if (a0 | a1) == 0 or (b0 | b1) == 0:
        return int64(0), int64(0)
    v0, v1, v2, v3 = sip_start(k0, k1)
    v0, v1, v2, v3 = sip_word(v0, v1, v2, v3, uint64(a0))
    v0, v1, v2, v3 = sip_word(v0, v1, v2, v3, uint64(a1))
    v0, v1, v2, v3 = sip_word(v0, v1, v2, v3, uint64(b0))
    v0, v1, v2, v3 = sip_word(v0, v1, v2, v3, uint64(b1))
    v0, v1, v2, v3 = sip_word(v0, v1, v2, v3, uint64(32) << uint64(56))
    return sip_end(v0, v1, v2, v3)


@njit(nogil=True, error_model="numpy", cache=True)
def combine_nb(words, k0, k1):
    """The key of any number of parts: `words` is int64[parts, 2]; null if any part is null."""
    v0, v1, v2, v3 = sip_start(k0, k1)
    parts = words.shape[0]
    for i in range(parts):
        if (words[i, 0] | words[i, 1]) == 0:
            return int64(0), int64(0)
        v0, v1, v2, v3 = sip_word(v0, v1, v2, v3, uint64(words[i, 0]))
        v0, v1, v2, v3 = sip_word(v0, v1, v2, v3, uint64(words[i, 1]))
    v0, v1, v2, v3 = sip_word(v0, v1, v2, v3, uint64((16 * parts) & 255) << uint64(56))
    return sip_end(v0, v1, v2, v3)


@njit(nogil=True, error_model="numpy", cache=True)
def _combine_rows(parts, k0, k1, out):
    for i in range(out.shape[0]):
        out[i, 0], out[i, 1] = combine_nb(parts[i], k0, k1)


# ---- many texts at once: eight side by side in vector registers, as long as they have equally many whole words

LANES = 8


def _vector_hash(blocks):
    """An intrinsic that hashes eight texts of `blocks` whole words (at addresses a0...a7) and a tail (t0...t7 with the length in the
    top byte), and writes eight pairs to `out`. It computes what sip_bytes does, lane by lane."""

    @intrinsic
    def hash8(typingctx, a0, a1, a2, a3, a4, a5, a6, a7, t0, t1, t2, t3, t4, t5, t6, t7, k0, k1, out):
        signature = void(*[int64] * LANES, *[uint64] * (LANES + 2), int64)
        return signature, lambda context, builder, _, args: _write_hash8(context, builder, args, blocks)

    return hash8


def _write_hash8(context, builder, args, blocks):
    word, lanes = ir.IntType(64), ir.VectorType(ir.IntType(64), LANES)
    addresses, tails, (k0, k1, out) = args[:LANES], args[LANES : 2 * LANES], args[2 * LANES :]

    def splat(value):
        return ir.Constant(lanes, [value & MASK] * LANES)

    def gather(values):
        vector = ir.Constant(lanes, ir.Undefined)
        for i, value in enumerate(values):
            vector = builder.insert_element(vector, value, ir.Constant(ir.IntType(32), i))
        return vector

    def load(address, offset):
        found = builder.load(builder.inttoptr(builder.add(address, ir.Constant(word, offset)), word.as_pointer()))
        found.align = 1
        return found

    def rotate(x, bits):
        return builder.or_(builder.shl(x, splat(bits)), builder.lshr(x, splat(64 - bits)))

    def mix(v, times):
        a, b, c, d = v
        for _ in range(times):
            a, c = builder.add(a, b), builder.add(c, d)
            b, d = builder.xor(rotate(b, 13), a), builder.xor(rotate(d, 16), c)
            a = rotate(a, 32)
            c, a = builder.add(c, b), builder.add(a, d)
            b, d = builder.xor(rotate(b, 17), c), builder.xor(rotate(d, 21), a)
            c = rotate(c, 32)
        return a, b, c, d

    def folded(v):
        return builder.xor(builder.xor(v[0], v[1]), builder.xor(v[2], v[3]))

    k0, k1 = gather([k0] * LANES), gather([k1] * LANES)
    v = tuple(builder.xor(k, splat(s)) for k, s in ((k0, S0), (k1, S1 ^ 0xEE), (k0, S2), (k1, S3)))
    messages = [gather([load(address, 8 * i) for address in addresses]) for i in range(blocks)] + [gather(tails)]
    for m in messages:
        a, b, c, d = mix((v[0], v[1], v[2], builder.xor(v[3], m)), 1)
        v = builder.xor(a, m), b, c, d
    v = mix((v[0], v[1], builder.xor(v[2], splat(0xEE)), v[3]), 3)
    first = folded(v)
    second = folded(mix((v[0], builder.xor(v[1], splat(0xDD)), v[2], v[3]), 3))
    nothing = builder.icmp_unsigned("==", builder.or_(first, second), splat(0))
    second = builder.select(nothing, splat(1), second)
    for half in (0, 1):
        places = [half * LANES // 2 + i // 2 + LANES * (i % 2) for i in range(LANES)]
        pairs = builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(ir.IntType(32), LANES), places))
        at = builder.inttoptr(builder.add(out, ir.Constant(word, half * 8 * LANES)), lanes.as_pointer())
        builder.store(pairs, at).align = 8
    return context.get_dummy_value()


_hash8_0, _hash8_1, _hash8_2, _hash8_3 = (_vector_hash(blocks) for blocks in range(4))


@njit(forceinline=True)
def _tail_of(address, start, stop):
    """The tail of a text with its length in the top byte; the 8 bytes before its end are readable. 0 for null (start below 0)."""
    length = stop - start
    word = (load64(address + stop - 8) >> uint64(56 - 8 * (length & 7))) >> uint64(8)
    return word | (uint64(length & 255) << uint64(56))


@njit(forceinline=True)
def _hash_group(address, s, e, k0, k1, out):
    """Hashes eight texts, s[i] to e[i] behind `address`, together; False when they are too different for that."""
    s0, s1, s2, s3, s4, s5, s6, s7 = s
    e0, e1, e2, e3, e4, e5, e6, e7 = e
    blocks = (e0 - s0) >> 3
    alike = ((e1 - s1) >> 3) == blocks and ((e2 - s2) >> 3) == blocks and ((e3 - s3) >> 3) == blocks
    alike = alike and ((e4 - s4) >> 3) == blocks and ((e5 - s5) >> 3) == blocks
    alike = alike and ((e6 - s6) >> 3) == blocks and ((e7 - s7) >> 3) == blocks
    if not alike or blocks > 3:
        return False
    if min(s0, s1, s2, s3, s4, s5, s6, s7) < 0 or min(e0, e1, e2, e3, e4, e5, e6, e7) < 8:
        return False
    a0, a1, a2, a3 = address + s0, address + s1, address + s2, address + s3
    a4, a5, a6, a7 = address + s4, address + s5, address + s6, address + s7
    t0, t1, t2, t3 = (
        _tail_of(address, s0, e0),
        _tail_of(address, s1, e1),
        _tail_of(address, s2, e2),
        _tail_of(address, s3, e3),
    )
    t4, t5, t6, t7 = (
        _tail_of(address, s4, e4),
        _tail_of(address, s5, e5),
        _tail_of(address, s6, e6),
        _tail_of(address, s7, e7),
    )
    if blocks == 0:
        _hash8_0(a0, a1, a2, a3, a4, a5, a6, a7, t0, t1, t2, t3, t4, t5, t6, t7, k0, k1, out)
    elif blocks == 1:
        _hash8_1(a0, a1, a2, a3, a4, a5, a6, a7, t0, t1, t2, t3, t4, t5, t6, t7, k0, k1, out)
    elif blocks == 2:
        _hash8_2(a0, a1, a2, a3, a4, a5, a6, a7, t0, t1, t2, t3, t4, t5, t6, t7, k0, k1, out)
    else:
        _hash8_3(a0, a1, a2, a3, a4, a5, a6, a7, t0, t1, t2, t3, t4, t5, t6, t7, k0, k1, out)
    return True


@njit(forceinline=True)
def nth(values, i, size):
    """Element i of the array of int32 (size 4) or int64 (8) at an address."""
    return load32(values + 4 * i) if size == 4 else int64(load64(values + 8 * i))


@njit(forceinline=True)
def _eight(values, i, size):
    return (
        nth(values, i, size), nth(values, i + 1, size), nth(values, i + 2, size), nth(values, i + 3, size),
        nth(values, i + 4, size), nth(values, i + 5, size), nth(values, i + 6, size), nth(values, i + 7, size),
    )  # fmt: skip


@njit(nogil=True, error_model="numpy", cache=True)
def _hash_spans(address, starts, stops, size, k0, k1, out):
    place = int64(out.ctypes.data)
    n = out.shape[0]
    i = 0
    while i < n:
        if i + LANES <= n and _hash_group(
            address, _eight(starts, i, size), _eight(stops, i, size), k0, k1, place + 16 * i
        ):
            i += LANES
            continue
        for j in range(i, min(i + LANES, n)):
            start = nth(starts, j, size)
            if start < 0:
                out[j, 0] = 0
                out[j, 1] = 0
            else:
                out[j, 0], out[j, 1] = sip_bytes(address, start, nth(stops, j, size), k0, k1)
        i += LANES


def hash_slices(
    buf: np.ndarray, starts: np.ndarray, stops: np.ndarray, k0: np.uint64, k1: np.uint64, out: np.ndarray
) -> None:
    """out[i] = hash of buf[starts[i]:stops[i]]; a negative start is null. `buf` is bytes (uint8), `out` a contiguous int64[n, 2]."""
    kind = np.int32 if starts.dtype == stops.dtype == np.int32 else np.int64
    starts, stops = (np.ascontiguousarray(part, kind) for part in (starts, stops))
    _hash_spans(address_of(buf), address_of(starts), address_of(stops), starts.itemsize, k0, k1, out)


@njit(nogil=True, error_model="numpy", cache=True)
def hash_int_nb(value, k0, k1):
    """The hash of an int64's decimal text, built in registers: 24 bytes hold every sign and digit."""
    left = uint64(value)
    if value < 0:
        left = uint64(0) - left
    w0, w1, w2 = uint64(0), uint64(0), uint64(0)
    length = 0
    while True:
        w2 = (w2 << uint64(8)) | (w1 >> uint64(56))
        w1 = (w1 << uint64(8)) | (w0 >> uint64(56))
        w0 = (w0 << uint64(8)) | (uint64(48) + left % uint64(10))
        left //= uint64(10)
        length += 1
        if left == uint64(0):
            break
    if value < 0:
        w2 = (w2 << uint64(8)) | (w1 >> uint64(56))
        w1 = (w1 << uint64(8)) | (w0 >> uint64(56))
        w0 = (w0 << uint64(8)) | uint64(45)
        length += 1
    v0, v1, v2, v3 = sip_start(k0, k1)
    end = uint64(length) << uint64(56)
    if length >= 8:
        v0, v1, v2, v3 = sip_word(v0, v1, v2, v3, w0)
        w0 = w1
    if length >= 16:
        v0, v1, v2, v3 = sip_word(v0, v1, v2, v3, w1)
        w0 = w2
    v0, v1, v2, v3 = sip_word(v0, v1, v2, v3, w0 | end)
    return sip_end(v0, v1, v2, v3)


@njit(nogil=True, error_model="numpy", cache=True)
def _hash_ints(values, k0, k1, out):
    for i in range(out.shape[0]):
        out[i, 0], out[i, 1] = hash_int_nb(int64(values[i]), k0, k1)


@cfunc(void(int64, int64, CPointer(int64)), error_model="numpy", cache=True)
def _sip_at(address, size, words):
    state = carray(words, 4)  # the seed, the hash
    state[2], state[3] = sip_bytes(address, int64(0), size, uint64(state[0]), uint64(state[1]))


# Called through ctypes: handing bytes to a compiled function costs a fifth of what numba's own dispatch does.
_SIP_AT = ctypes.PYFUNCTYPE(None, ctypes.c_char_p, ctypes.c_int64, ctypes.c_void_p)(_sip_at.address)
_FourWords = ctypes.c_uint64 * 4
_signed_hash = struct.Struct("=16x2q").unpack


def _siphash_bytes(data: bytes, k0: int, k1: int) -> Pair:
    state = _FourWords(k0, k1)
    _SIP_AT(data, len(data), state)
    return _signed_hash(state)


class RawHash:
    """The 16 bytes of a hash, for one thread that hashes one text after the other.

    >>> RawHash(bytes(16))(b"device-1") == struct.pack("=2q", *siphash128(b"device-1", bytes(16)))
    True
    """

    __slots__ = ("_at", "_hash")

    def __init__(self, seed: bytes):
        state = _FourWords(*_plain_words(seed))
        self._at, self._hash = ctypes.byref(state), memoryview(state).cast("B")[16:]

    def __call__(self, data: bytes) -> bytes:
        _SIP_AT(data, len(data), self._at)
        return self._hash.tobytes()


# ---- one value


def siphash128(data: bytes, seed: bytes) -> Pair:
    """The 128-bit hash of some bytes as two signed 64-bit integers, never (0, 0).

    >>> siphash128(b"device-1", bytes(16))
    (5289210824661038005, -9156047219183838312)
    """
    return _siphash_bytes(data, *_plain_words(seed))


def combine_one(parts: Sequence[Pair], seed: bytes) -> Pair:
    """The key of several parts (say account and seller) from their hashes; null if any part is null.

    >>> combine_one([(1, 2), (0, 0)], bytes(16))
    (0, 0)
    """
    if any(part == NULL_HASH for part in parts):
        return NULL_HASH
    return siphash128(struct.pack(f"<{2 * len(parts)}q", *(word for part in parts for word in part)), seed)


class TextHash:
    """Hashes one text at a time and remembers the recent ones: the form for single events.

    The memory holds at most twice `limit` texts: when the young half is full it becomes the old half, and what is
    asked for again moves back.

    >>> hashed = TextHash(bytes(16))
    >>> hashed("device-1") == siphash128(b"device-1", bytes(16))
    True
    >>> hashed(None)
    (0, 0)
    """

    __slots__ = ("_k0", "_k1", "_old", "limit", "young")

    def __init__(self, seed: bytes, limit: int = 50_000):
        self._k0, self._k1 = _plain_words(seed)
        self.limit = limit
        self.young: dict[str | None, Pair] = {None: NULL_HASH}
        self._old: dict[str | None, Pair] = {}

    def __call__(self, text: str | None) -> Pair:
        pair = self.young.get(text)
        return pair if pair is not None else self._miss(text)

    def _miss(self, text: str | None) -> Pair:
        pair = self._old.get(text)
        if pair is None:
            assert text is not None
            pair = _siphash_bytes(text.encode("utf-8", "surrogatepass"), self._k0, self._k1)
        if len(self.young) >= self.limit:
            self._old, self.young = self.young, {None: NULL_HASH}
        self.young[text] = pair
        return pair


# ---- columns


def combine(parts: Sequence[np.ndarray], seed: bytes) -> np.ndarray:
    """Composite keys of whole columns: int64[n, 2] parts in, int64[n, 2] out; a row with any null part is null."""
    stacked = np.ascontiguousarray(np.stack([np.asarray(part, np.int64) for part in parts], axis=1))
    out = np.empty((len(stacked), 2), np.int64)
    _combine_rows(stacked, *seed_words(seed), out)
    return out


def hash_strings(values: pa.Array | pa.ChunkedArray | Sequence[Any], seed: bytes) -> np.ndarray:
    """The hashes of a column as int64[n, 2]; nulls are (0, 0).

    Takes a list, or an Arrow array of strings, dictionary-encoded strings, integers, floats or booleans (all but strings are
    hashed by their canonical text, so the integer 7 and the string "7" are the same key).

    >>> hash_strings(["7", None, 7], bytes(16)).tolist() == [list(siphash128(b"7", bytes(16))), [0, 0], list(siphash128(b"7", bytes(16)))]
    True
    """
    if values.__class__ is list and len(values) <= FEW and (found := _hash_few(values, seed)) is not None:
        return found
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray):
        chunks = [hash_strings(chunk, seed) for chunk in values.chunks]
        return np.concatenate(chunks) if chunks else np.empty((0, 2), np.int64)
    if not isinstance(values, pa.Array):
        values = pa.array([None if v is None else canonical_text(v) for v in values], pa.large_string())
    out = _hash_array(values, seed)
    if values.null_count:
        out[np.asarray(values.is_null())] = 0
    return out


def _hash_few(values: list, seed: bytes) -> np.ndarray | None:
    """The same for a few plain texts, without a column; None: they are not."""
    if not values or not all(value.__class__ is str and value.isascii() for value in values):
        return None
    k0, k1 = _plain_words(seed)
    return np.array([_siphash_bytes(value.encode(), k0, k1) for value in values], np.int64)


def _hash_array(values: pa.Array, seed: bytes) -> np.ndarray:
    import pyarrow as pa

    kind = values.type
    if pa.types.is_dictionary(kind):
        codes = np.asarray(values.indices.fill_null(0), np.int64)
        return (
            hash_strings(values.dictionary, seed)[codes]
            if len(values.dictionary)
            else np.zeros((len(values), 2), np.int64)
        )
    if (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    ):
        return _hash_text(values, seed)
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return _hash_whole(np.array(values.fill_null(0), np.int64), seed)
    if pa.types.is_null(kind):
        return np.zeros((len(values), 2), np.int64)
    if pa.types.is_string_view(kind):
        return _hash_text(values.cast(pa.large_string()), seed)
    return _hash_distinct(values, seed)


def _hash_text(values: pa.Array, seed: bytes) -> np.ndarray:
    import pyarrow as pa

    wide = pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)
    _, offsets, data = values.buffers()
    out = np.empty((len(values), 2), np.int64)
    if offsets is None:
        return out
    at = np.frombuffer(offsets, np.int64 if wide else np.int32)[values.offset : values.offset + len(values) + 1]
    buf = np.frombuffer(data, np.uint8) if data is not None and data.size else np.empty(0, np.uint8)
    hash_slices(buf, at[:-1], at[1:], *seed_words(seed), out)
    return out


def _hash_whole(values: np.ndarray, seed: bytes) -> np.ndarray:
    out = np.empty((len(values), 2), np.int64)
    _hash_ints(values, *seed_words(seed), out)
    return out


def _hash_distinct(values: pa.Array, seed: bytes) -> np.ndarray:
    encoded = values.dictionary_encode()
    if not len(encoded.dictionary):
        return np.zeros((len(values), 2), np.int64)
    table = hash_strings([canonical_text(v) for v in encoded.dictionary.to_pylist()], seed)
    return table[np.asarray(encoded.indices.fill_null(0), np.int64)]
