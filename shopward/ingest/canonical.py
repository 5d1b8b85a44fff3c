"""Events as the log keeps them, written from columns: NDJSON with sorted names, byte for byte what `store.frames.canonical` makes of
the same event.

A row with a value that cannot be written exactly like that from here (a tiny number) is marked odd, and left to whoever reads odd rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import int64, njit, uint64

from shopward.batch import NULL
from shopward.hashing import address_of, load64, nth
from shopward.ingest.columns import POWERS, plain_decimal
from shopward.ingest.scan import ABSENT, store8, store64

TEXT, NUMBER, MINOR, BOOL, MOMENT, WHOLE, CODE = range(7)
SMALL = 4  # digits behind the point up to which a number is surely written without an exponent
_TENS = np.array(POWERS, np.int64)
_WIDEST = 32  # bytes of a number or truth value
PAD = 64
COMMA, COLON, QUOTE, MINUS, DOT, ZERO, OPEN, CLOSE, NEWLINE = 44, 58, 34, 45, 46, 48, 123, 125, 10
_TRUE, _FALSE = (int.from_bytes(word, "little") for word in (b"true", b"fals"))


@dataclass(frozen=True, slots=True)
class Written:
    """One column to write: what it is (TEXT ...), under which name, and where it lies.

    TEXT    `base` address, `starts` and `stops` (int32 or int64, equal kinds); a negative start is null
    NUMBER  the same spans of digits, and `values` (float64), NaN is null
    MINOR   `values` int64 of minor units, NULL is null; `digits` of them stand behind the point
    BOOL    `values` float64, 0 or 1, NaN is null;  MOMENT the same, whole milliseconds
    WHOLE   `values` int64;  CODE `values` int16, places in a table of words
    """

    kind: int
    name: str
    values: np.ndarray | None = None
    base: int = 0
    starts: np.ndarray | None = None
    stops: np.ndarray | None = None
    digits: int = 0


def address(array: np.ndarray | None) -> int:
    return 0 if array is None else address_of(array)


def joined(words: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """(bytes one behind the other, padded; where each starts)."""
    at = np.cumsum([0, *map(len, words)], dtype=np.int64)
    return np.frombuffer(bytearray(b"".join(words) + bytes(PAD)), np.uint8), at


@lru_cache(maxsize=512)
def _in_quotes(words: tuple[str, ...], after: str) -> tuple[np.ndarray, np.ndarray]:
    """The same of words in quotes: of the same ones mostly, so it is kept."""
    return joined([f'"{word}"{after}'.encode() for word in words])


def lines_of(
    columns: Sequence[Written], types: Sequence[str], odd: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(buffer, starts, stops) of the lines of all rows that are not odd; those of odd rows start at -1. May mark more rows odd.

    Each line ends in its newline.
    """
    ordered = sorted(columns, key=lambda column: column.name)
    names, name_at = _in_quotes(tuple(column.name for column in ordered), ":")
    words, word_at = _in_quotes(tuple(types), "")
    plan = np.array(
        [
            (
                c.kind, address(names) + name_at[i], name_at[i + 1] - name_at[i], c.base, address(c.starts), address(c.stops),
                4 if c.starts is None else c.starts.itemsize, address(c.values), c.digits,
            )
            for i, c in enumerate(ordered)
        ],
        np.int64,
    ).reshape(-1, 9)  # fmt: skip
    starts, stops = np.empty(len(odd), np.int64), np.empty(len(odd), np.int64)
    return _write(plan, words, word_at, odd, starts, stops), starts, stops


@njit(forceinline=True)
def copy(to, start, length):
    """Copies `length` bytes eight at a time; a few behind them may be read and written, too."""
    done = int64(0)
    while done < length:
        store64(to + done, int64(load64(start + done)))
        done += 8
    return to + length


@njit(forceinline=True)
def write_whole(to, value):
    """The digits of a number that is not negative."""
    size = int64(1)
    while size < 19 and value >= _TENS[size]:
        size += 1
    p = to + size
    while p > to:
        p -= 1
        store8(p, ZERO + value % 10)
        value //= 10
    return to + size


@njit(forceinline=True)
def _write_decimal(to, value, behind, negative):
    """value / 10**behind as JSON writes a float: without zeros at its end, but always with a digit behind the point."""
    if negative and value:
        store8(to, MINUS)
        to += 1
    while behind > 0 and value % 10 == 0:
        value //= 10
        behind -= 1
    unit = _TENS[behind]
    to = write_whole(to, value // unit)
    store8(to, DOT)
    to += 1
    rest = value % unit
    for k in range(behind):
        unit //= 10
        store8(to + k, ZERO + rest // unit)
        rest %= unit
    if behind == 0:
        store8(to, ZERO)
        return to + 1
    return to + behind


@njit(forceinline=True)
def _tiny(value, behind):
    """Might it be written with an exponent?"""
    return behind > SMALL and 0 < value < _TENS[behind - SMALL]


@njit(forceinline=True)
def _room(plan, word_at, odd):
    """Bytes that all lines may take at most."""
    n, size = odd.shape[0], int64(PAD)
    for k in range(plan.shape[0]):
        size += n * (plan[k, 2] + _WIDEST)
        if plan[k, 0] == TEXT:
            for i in range(n):
                start = nth(plan[k, 4], i, plan[k, 6])
                if start >= 0 and not odd[i]:
                    size += nth(plan[k, 5], i, plan[k, 6]) - start
        elif plan[k, 0] == CODE:
            size += n * word_at[-1]
    return size


@njit(forceinline=True)
def _named(to, plan, k):
    """A comma and the name of column k."""
    store8(to, COMMA)
    return copy(to + 1, plan[k, 1], plan[k, 2])


@njit(forceinline=True)
def _text(to, plan, k, i):
    """A text in quotes, nothing where it is null."""
    start = nth(plan[k, 4], i, plan[k, 6])
    if start < 0:
        return to
    to = _named(to, plan, k)
    store8(to, QUOTE)
    to = copy(to + 1, plan[k, 3] + start, nth(plan[k, 5], i, plan[k, 6]) - start)
    store8(to, QUOTE)
    return to + 1


@njit(forceinline=True)
def _coded(to, plan, k, i, words_at, word_at):
    """One of the known words."""
    code = int64(load64(plan[k, 7] + 2 * i) & uint64(0xFFFF))
    return copy(_named(to, plan, k), words_at + word_at[code], word_at[code + 1] - word_at[code])


@njit(forceinline=True)
def _integer(to, plan, k, word):
    """A whole number or money; -1 where it might need an exponent."""
    if plan[k, 0] == WHOLE:
        return write_whole(_named(to, plan, k), word)
    if word == NULL:
        return to
    if _tiny(abs(word), plan[k, 8]):
        return int64(-1)
    return _write_decimal(_named(to, plan, k), abs(word), plan[k, 8], word < 0)


@njit(forceinline=True)
def _float(to, plan, k, i, word):
    """A number as it was written, a moment or a truth; -1 where it might need an exponent."""
    if word & 0x7FF0000000000000 == 0x7FF0000000000000:  # NaN
        return to
    if plan[k, 0] == NUMBER:
        start, stop = nth(plan[k, 4], i, plan[k, 6]), nth(plan[k, 5], i, plan[k, 6])
        value, behind, negative, _ = plain_decimal(plan[k, 3] + start, plan[k, 3] + stop)
        if _tiny(value, behind):
            return int64(-1)
        return _write_decimal(_named(to, plan, k), value, behind, negative)
    to = _named(to, plan, k)
    if plan[k, 0] == MOMENT:
        return write_whole(to, _whole_of(word))
    if word == 0:
        store64(to, _FALSE)
        store8(to + 4, 101)
        return to + 5
    store64(to, _TRUE)
    return to + 4


@njit(forceinline=True)
def _value(to, plan, k, i, words_at, word_at):
    """Column k of row i; where the next one goes, or -1 where the row has to be written elsewhere."""
    kind = plan[k, 0]
    if kind == TEXT:
        return _text(to, plan, k, i)
    if kind == CODE:
        return _coded(to, plan, k, i, words_at, word_at)
    word = int64(load64(plan[k, 7] + 8 * i))
    return _integer(to, plan, k, word) if kind in (MINOR, WHOLE) else _float(to, plan, k, i, word)


@njit(nogil=True, error_model="numpy", cache=True)
def _write(plan, words, word_at, odd, starts, stops):
    out = np.empty(_room(plan, word_at, odd), np.uint8)
    base, words_at = int64(out.ctypes.data), int64(words.ctypes.data)
    begin = base
    for i in range(odd.shape[0]):
        starts[i] = -1
        stops[i] = -1
        to = int64(-1) if odd[i] else begin
        for k in range(plan.shape[0]):
            if to >= 0:
                to = _value(to, plan, k, i, words_at, word_at)
        if to < 0:
            odd[i] = 1
            continue
        store8(begin, OPEN)
        store8(to, CLOSE)
        store8(to + 1, NEWLINE)
        starts[i] = begin - base
        stops[i] = to + 2 - base
        begin = to + 2
    return out


@njit(forceinline=True)
def _whole_of(word):
    """A float64 that is a whole number from 0 to 2**53, given by its bits."""
    if word == 0:
        return int64(0)
    exponent = (word >> 52) - 1075
    digits = (word & 0xFFFFFFFFFFFFF) | 0x10000000000000
    return digits << exponent if exponent >= 0 else digits >> -exponent


__all__ = [
    "ABSENT",
    "BOOL",
    "CODE",
    "MINOR",
    "MOMENT",
    "NUMBER",
    "TEXT",
    "WHOLE",
    "Written",
    "copy",
    "joined",
    "lines_of",
    "write_whole",
]
