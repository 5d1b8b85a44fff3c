"""Decisions on events where no rule fired, written from columns: as JSON for whoever waits and as the log packs them.

Most decisions say the same but for id, time and type. Those that say more are written as objects and copied to their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import int64, njit

from shopward.ingest.canonical import copy, joined, write_whole
from shopward.ingest.scan import store8
from shopward.ingest.texts import Text

_jit = njit(nogil=True, error_model="numpy", cache=True)
_ROW = 64  # bytes of numbers and marks of one row, and more
_PAD = 64
_NEWLINE, _NIL, _PAIR, _UINT64, _ARRAY32, _STR8, _STR16 = 10, 0xC0, 0x92, 0xCF, 0xDD, 0xD9, 0xDA
QUIET, OWN, NOTHING = 0, 1, 2  # a row as all say it, one of its own, none


@dataclass(frozen=True, slots=True)
class Told:
    """What is said on each of n events: `kind` QUIET, OWN (then `own[row]` is the text of it) or NOTHING."""

    kind: np.ndarray
    own: Sequence[bytes]  # of the OWN rows, in order


def packed_texts(ids: Text) -> bytes:
    """A column without nulls as a packed list of strings."""
    ids = _plain(ids)
    return _pack_texts(ids.buf, _wide(ids.starts), _wide(ids.stops)).tobytes()


def packed_rows(version: str, told: Told, ts: np.ndarray, types: np.ndarray, words: Sequence[str]) -> bytes:
    """Decisions as `frames.shortened` packs them; OWN rows are packed already."""
    text, at = _packed_words(tuple(words))
    own, own_at = joined(told.own)
    rows = _pack_rows(told.kind, own, own_at, np.ascontiguousarray(ts, np.int64), types, text, at)
    return b"\x82" + _packed("version") + _packed(version) + _packed("rows") + rows.tobytes()


def json_rows(
    before: bytes,
    between: bytes,
    after: bytes,
    told: Told,
    ids: Text,
    ts: np.ndarray,
    types: np.ndarray,
    words: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """(bytes, offsets int64[n + 1]): one line a row, `before` id `between` ts `after[type]`; ids must need no escapes."""
    ids = _plain(ids)
    tails, at = _tails(tuple(words), after)
    heads, head_at = _heads(before, between)
    own, own_at = joined(told.own)
    offsets = np.empty(len(told.kind) + 1, np.int64)
    out = _json_rows(
        told.kind, own, own_at, ids.buf, _wide(ids.starts), _wide(ids.stops), np.ascontiguousarray(ts, np.int64), types, heads, head_at,
        tails, at, offsets,
    )  # fmt: skip
    return out, offsets


@lru_cache(maxsize=64)
def _packed_words(words: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    return joined([_packed(word) for word in words])


@lru_cache(maxsize=64)
def _tails(words: tuple[str, ...], after: bytes) -> tuple[np.ndarray, np.ndarray]:
    return joined([b',"type":"' + word.encode() + after for word in words])


@lru_cache(maxsize=64)
def _heads(before: bytes, between: bytes) -> tuple[np.ndarray, np.ndarray]:
    return joined([before, between])


def _packed(word: str) -> bytes:
    raw = word.encode()
    return (bytes([0xA0 | len(raw)]) if len(raw) < 32 else b"\xd9" + bytes([len(raw)])) + raw


def _plain(ids: Text) -> Text:
    return ids.packed() if ids.extra and (ids.starts < -1).any() else ids


def _wide(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.int64)


@njit(forceinline=True)
def _big(to, value, size):
    """A number in `size` bytes, the highest first."""
    for k in range(size):
        store8(to + k, (value >> (8 * (size - 1 - k))) & 0xFF)
    return to + size


@njit(forceinline=True)
def _list_of(to, n):
    store8(to, _ARRAY32)
    return _big(to + 1, n, 4)


@_jit
def _pack_texts(buf, starts, stops):
    n = starts.shape[0]
    out = np.empty(int((stops - starts).sum()) + 5 * n + _PAD, np.uint8)
    base, source = int64(out.ctypes.data), int64(buf.ctypes.data)
    to = _list_of(base, n)
    for i in range(n):
        size = stops[i] - starts[i]
        if size < 32:
            store8(to, 0xA0 | size)
            to += 1
        elif size < 256:
            store8(to, _STR8)
            to = _big(to + 1, size, 1)
        else:
            store8(to, _STR16)
            to = _big(to + 1, size, 2)
        to = copy(to, source + starts[i], size)
    return out[: to - base]


@_jit
def _pack_rows(kind, own, own_at, ts, types, words, word_at):
    n = kind.shape[0]
    out = np.empty(n * (_ROW + word_at[-1]) + own_at[-1] + _PAD, np.uint8)
    base, own_base, words_base = int64(out.ctypes.data), int64(own.ctypes.data), int64(words.ctypes.data)
    to = _list_of(base, n)
    taken = 0
    for i in range(n):
        if kind[i] == NOTHING:
            store8(to, _NIL)
            to += 1
        elif kind[i] == OWN:
            to = copy(to, own_base + own_at[taken], own_at[taken + 1] - own_at[taken])
            taken += 1
        else:
            store8(to, _PAIR)
            to = copy(to + 1, words_base + word_at[types[i]], word_at[types[i] + 1] - word_at[types[i]])
            store8(to, _UINT64)
            to = _big(to + 1, ts[i], 8)
    return out[: to - base]


@_jit
def _json_rows(kind, own, own_at, buf, starts, stops, ts, types, heads, head_at, tails, tail_at, offsets):
    n = kind.shape[0]
    longest = int64(0)
    for k in range(tail_at.shape[0] - 1):
        longest = max(longest, tail_at[k + 1] - tail_at[k])
    size = own_at[-1] + _PAD
    for i in range(n):
        size += _ROW + head_at[-1] + longest + stops[i] - starts[i]
    out = np.empty(size, np.uint8)
    base, own_base, ids = int64(out.ctypes.data), int64(own.ctypes.data), int64(buf.ctypes.data)
    heads_base, tails_base = int64(heads.ctypes.data), int64(tails.ctypes.data)
    to = base
    taken = 0
    for i in range(n):
        offsets[i] = to - base
        if kind[i] == NOTHING:
            continue
        if kind[i] == OWN:
            to = copy(to, own_base + own_at[taken], own_at[taken + 1] - own_at[taken])
            taken += 1
        else:
            to = copy(to, heads_base, head_at[1])
            to = copy(to, ids + starts[i], stops[i] - starts[i])
            to = copy(to, heads_base + head_at[1], head_at[2] - head_at[1])
            to = write_whole(to, ts[i])
            to = copy(to, tails_base + tail_at[types[i]], tail_at[types[i] + 1] - tail_at[types[i]])
        store8(to, _NEWLINE)
        to += 1
    offsets[n] = to - base
    return out
