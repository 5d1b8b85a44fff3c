"""Turns the spans a scanner found into columns of numbers, times and money, exactly.

Each function reads one field of many records. A value it does not know how to read exactly (17 digits, odd spacing, an exponent,
a time in another form, ...) marks its record odd; nothing is rounded here that the slow path would round differently.
"""

from __future__ import annotations

import numpy as np
from numba import int64, njit, uint64

from shopward.batch import NULL
from shopward.event import LAST_MS, MAX_TEXT
from shopward.hashing import load8, load64
from shopward.ingest.money import LIMIT
from shopward.ingest.scan import (
    ABSENT,
    DECIMAL,
    DOT,
    FALSE,
    MINUS,
    NINE,
    TEXT,
    TRUE,
    WHOLE,
    ZERO,
    find_word,
)

POWERS = tuple(10**i for i in range(19))
_TENS = np.array(POWERS, np.int64)
_FLOAT_TENS = np.array([float(p) for p in POWERS])
_ZEROS, _SIXES = np.uint64(0x3030303030303030), np.uint64(0x0606060606060606)
_HIGH_HALVES, _PAIRS = np.uint64(0xF0F0F0F0F0F0F0F0), np.uint64(0x000000FF000000FF)
_FOUR, _FIVE = np.uint64(0xFFFFFFFF), np.uint64(0xFFFFFFFFFF)
_WORD_TRUE, _WORD_FALSE = (np.uint64(int.from_bytes(word, "little")) for word in (b"true", b"false"))
# how a text field is normalised; LOWER and the others only pass what is already in its final form
AS_IS, LOWER, E164, IP64 = 0, 1, 2, 3
HOW = {None: AS_IS, "lower": LOWER, "e164": E164, "ip64": IP64}


@njit(forceinline=True)
def _eight_digits(word):
    """The number that eight digits (as bytes 0 to 9, the first in the lowest byte) stand for: pairs, then fours, then all at once."""
    word = word * uint64(10) + (word >> uint64(8))
    low = (word & _PAIRS) * uint64(0x000F424000000064)
    high = ((word >> uint64(16)) & _PAIRS) * uint64(0x0000271000000001)
    return int64((low + high) >> uint64(32))


@njit(forceinline=True)
def plain_decimal(start, stop):
    """(digits as a whole number, how many follow the point, is it negative, is it plain): at most 15 digits count as plain."""
    p = start
    negative = load8(p) == MINUS
    if negative:
        p += 1
    value = int64(0)
    digits = 0
    behind = int64(-1)
    while p < stop:
        if stop - p >= 8:
            word = load64(p) - _ZEROS
            if (word | (word + _SIXES)) & _HIGH_HALVES == uint64(0):
                value = value * 100_000_000 + _eight_digits(word)
                digits += 8
                behind += 8 * (behind >= 0)
                p += 8
                continue
        c = load8(p)
        if ZERO <= c <= NINE:
            value = value * 10 + (c - ZERO)
            digits += 1
            behind += behind >= 0
        elif c == DOT and behind < 0 and digits > 0:
            behind = int64(0)
        else:
            return int64(0), int64(0), False, False
        p += 1
    plain = 0 < digits <= 15 and behind != 0
    return value, max(behind, int64(0)), negative, plain


@njit(nogil=True, error_model="numpy", cache=True)
def read_numbers(buf, starts, stops, forms, out, odd):
    """Plain numbers as float64; null is NaN."""
    base = int64(buf.ctypes.data)
    for i in range(out.shape[0]):
        out[i] = np.nan
        form = forms[i]
        if form == ABSENT:
            continue
        if form in (WHOLE, DECIMAL, TEXT):
            value, behind, negative, plain = plain_decimal(base + int64(starts[i]), base + int64(stops[i]))
            if plain:
                number = float(value) / _FLOAT_TENS[behind] + 0.0
                out[i] = 0.0 - number if negative else number
                continue
        odd[i] = 1


@njit(nogil=True, error_model="numpy", cache=True)
def read_fixed(buf, starts, stops, forms, digits, signed, out, odd):
    """Money and decimal(n) as whole minor units, half to even; null is NULL."""
    base = int64(buf.ctypes.data)
    for i in range(out.shape[0]):
        out[i] = NULL
        form = forms[i]
        if form == ABSENT:
            continue
        if form in (WHOLE, DECIMAL, TEXT):
            value, behind, negative, plain = plain_decimal(base + int64(starts[i]), base + int64(stops[i]))
            if plain and (digits <= behind or value <= LIMIT // _TENS[digits - behind]):
                if digits >= behind:
                    minor = value * _TENS[digits - behind]
                else:
                    cut = _TENS[behind - digits]
                    minor = value // cut
                    rest = 2 * (value - minor * cut)
                    if rest > cut or (rest == cut and minor & 1):
                        minor += 1
                if minor <= LIMIT and (signed or not negative or minor == 0):
                    out[i] = -minor if negative else minor
                    continue
        odd[i] = 1


@njit(nogil=True, error_model="numpy", cache=True)
def major_units(minor, scale, out):
    """Minor units as major ones; NULL becomes NaN."""
    for i in range(out.shape[0]):
        out[i] = np.nan if minor[i] == NULL else minor[i] / scale


@njit(nogil=True, error_model="numpy", cache=True)
def read_bools(buf, starts, stops, forms, out, odd):
    """true and false, also written 1 and 0, as 1.0 and 0.0; null is NaN."""
    base = int64(buf.ctypes.data)
    for i in range(out.shape[0]):
        out[i] = np.nan
        form = forms[i]
        if form == TRUE:
            out[i] = 1.0
        elif form == FALSE:
            out[i] = 0.0
        elif form in (WHOLE, TEXT) and stops[i] - starts[i] == 1 and load8(base + starts[i]) in (48, 49):
            out[i] = float(load8(base + starts[i]) - 48)
        elif form == TEXT and stops[i] - starts[i] == 4 and load64(base + int64(starts[i])) & _FOUR == _WORD_TRUE:
            out[i] = 1.0
        elif form == TEXT and stops[i] - starts[i] == 5 and load64(base + int64(starts[i])) & _FIVE == _WORD_FALSE:
            out[i] = 0.0
        elif form != ABSENT:
            odd[i] = 1


@njit(forceinline=True)
def _two(p):
    """The two digits at p as a number, negative when they are none."""
    a = load8(p) - ZERO
    b = load8(p + 1) - ZERO
    return a * 10 + b if 0 <= a <= 9 and 0 <= b <= 9 else int64(-10_000)


@njit(forceinline=True)
def _days(year, month, day):
    """Days since 1970-01-01 of a date of the Gregorian calendar."""
    y = year - (month <= 2)
    era = y // 400
    of_era = y - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


@njit(forceinline=True)
def _month_length(year, month):
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


@njit(forceinline=True)
def _iso_time(start, stop):
    """Epoch ms of `2026-01-31`, or of `2026-01-31T12:00:00` with a fraction and Z or an offset like +01:00; -1 when it is neither."""
    n = stop - start
    bad = int64(-1)
    if n < 10 or load8(start + 4) != MINUS or load8(start + 7) != MINUS:
        return bad
    year = _two(start) * 100 + _two(start + 2)
    month = _two(start + 5)
    day = _two(start + 8)
    if not (1970 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= _month_length(year, month)):
        return bad
    ms = _days(year, month, day) * 86_400_000
    if n == 10:
        return ms
    separator = load8(start + 10)
    if n < 19 or (separator != 84 and separator != 32) or load8(start + 13) != 58 or load8(start + 16) != 58:
        return bad
    hour = _two(start + 11)
    minute = _two(start + 14)
    second = _two(start + 17)
    if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59):
        return bad
    ms += ((hour * 60 + minute) * 60 + second) * 1000
    p = start + 19
    if p < stop and load8(p) == DOT:
        p += 1
        unit = 100
        first = p
        while p < stop and ZERO <= load8(p) <= NINE:
            ms += (load8(p) - ZERO) * unit
            unit //= 10
            p += 1
        if p == first or p - first > 9:
            return bad
    if p == stop or (p + 1 == stop and load8(p) == 90):
        return ms
    if p + 6 == stop and (load8(p) == 43 or load8(p) == MINUS) and load8(p + 3) == 58:
        hours = _two(p + 1)
        minutes = _two(p + 4)
        if 0 <= hours <= 18 and 0 <= minutes <= 59:
            shift = (hours * 60 + minutes) * 60_000
            ms = ms - shift if load8(p) == 43 else ms + shift
            return ms if ms >= 0 else bad
    return bad


@njit(nogil=True, error_model="numpy", cache=True)
def read_times(buf, starts, stops, forms, out, odd):
    """Times as epoch ms; null is NULL."""
    base = int64(buf.ctypes.data)
    for i in range(out.shape[0]):
        out[i] = NULL
        form = forms[i]
        if form == ABSENT:
            continue
        start = base + int64(starts[i])
        stop = base + int64(stops[i])
        if form in (WHOLE, TEXT):
            if form == TEXT and stop - start >= 10 and load8(start + 4) == MINUS:
                ms = _iso_time(start, stop)
            else:
                ms, behind, negative, plain = plain_decimal(start, stop)
                if negative or not plain or behind > 0 or ms > LAST_MS:
                    ms = int64(-1)
            if ms >= 0:
                out[i] = ms
                continue
        odd[i] = 1


@njit(nogil=True, error_model="numpy", cache=True)
def read_texts(buf, starts, stops, forms, how, key, out, odd):
    """Where each text starts in `out`, -1 for null; a whole number is its own text, an empty key is null."""
    base = int64(buf.ctypes.data)
    for i in range(out.shape[0]):
        out[i] = -1
        form = forms[i]
        if form == ABSENT:
            continue
        start = base + int64(starts[i])
        stop = base + int64(stops[i])
        if form == TEXT and stop - start <= MAX_TEXT and _final(start, stop, how):
            if stop > start or not key:
                out[i] = starts[i]
        elif (
            form == WHOLE
            and how == AS_IS
            and stop - start <= 18
            and (load8(start) != MINUS or load8(start + 1) != ZERO)
        ):
            out[i] = starts[i]
        else:
            odd[i] = 1


@njit(forceinline=True)
def _final(start, stop, how):
    """Would normalising leave this text as it is? When in doubt, no."""
    if how == AS_IS:
        return True
    if how == LOWER:
        for p in range(start, stop):
            c = load8(p)
            if c <= 32 or c >= 128 or 65 <= c <= 90:
                return False
        return True
    if how == E164:
        if not 8 <= stop - start <= 16 or load8(start) != 43:
            return False
        for p in range(start + 1, stop):  # noqa: SIM110  (compiled code)
            if not ZERO <= load8(p) <= NINE:
                return False
        return True
    for p in range(start, stop):  # noqa: SIM110
        if load8(p) == 58:
            return False
    return True


@njit(nogil=True, error_model="numpy", cache=True)
def read_words(buf, starts, stops, forms, text, stride, lengths, heads, slots, out, odd):
    """The number of each value in a table of words (event types); what is in none of them is odd."""
    base = int64(buf.ctypes.data)
    table, size = int64(text.ctypes.data), int64(slots.shape[0])
    lengths_at, heads_at, slots_at = int64(lengths.ctypes.data), int64(heads.ctypes.data), int64(slots.ctypes.data)
    for i in range(out.shape[0]):
        form = forms[i]
        if form == ABSENT:
            continue
        word = int64(-1)
        if form == TEXT:
            word = find_word(
                base + int64(starts[i]), base + int64(stops[i]), table, stride, lengths_at, heads_at, slots_at, size
            )
        if word < 0:
            odd[i] = 1
        else:
            out[i] = word


@njit(forceinline=True)
def _is_ipv4(start, stop):
    """Is it an IPv4 address in its usual form: four numbers up to 255 without leading zeros?"""
    dots = 0
    value = int64(-1)
    for p in range(start, stop):
        c = load8(p)
        if ZERO <= c <= NINE:
            if value == 0:
                return False
            value = (c - ZERO) if value < 0 else value * 10 + (c - ZERO)
            if value > 255:
                return False
        elif c == DOT and value >= 0:
            dots += 1
            value = int64(-1)
        else:
            return False
    return dots == 3 and value >= 0


@njit(nogil=True, error_model="numpy", cache=True)
def part_ip64(buf, starts, stops, doubt):
    """What ip64() gives of plain IPv4 addresses is themselves; all others are in doubt."""
    base = int64(buf.ctypes.data)
    for i in range(starts.shape[0]):
        if starts[i] < -1 or (starts[i] >= 0 and not _is_ipv4(base + int64(starts[i]), base + int64(stops[i]))):
            doubt[i] = 1


@njit(nogil=True, error_model="numpy", cache=True)
def part_domain(buf, starts, stops, doubt):
    """What domain() gives of plain addresses is what follows their last @; others are in doubt."""
    base = int64(buf.ctypes.data)
    for i in range(starts.shape[0]):
        if starts[i] < 0:
            doubt[i] = starts[i] < -1
            continue
        p = int64(stops[i]) - 1
        plain = True
        while p >= starts[i] and load8(base + p) != 64:
            c = load8(base + p)
            plain = plain and c < 128 and not 65 <= c <= 90
            p -= 1
        if plain and p >= starts[i] and p + 1 < stops[i]:
            starts[i] = p + 1
        else:
            doubt[i] = 1


@njit(nogil=True, error_model="numpy", cache=True)
def mark_present(forms, odd):
    """Every record that has this field at all is odd."""
    for i in range(odd.shape[0]):
        if forms[i] != ABSENT:
            odd[i] = 1


@njit(nogil=True, error_model="numpy", cache=True)
def read_reals(values, valid, digits, signed, out, odd):
    """Money and decimal(n) from float64, as from the shortest text of each float: near a tie the slow path decides."""
    scale = _FLOAT_TENS[digits]
    for i in range(out.shape[0]):
        out[i] = NULL
        if not valid[i] or values[i] != values[i]:
            continue
        minor = values[i] * scale
        whole = np.rint(minor)
        if abs(minor) <= LIMIT // 2 and abs(minor - whole) < 0.49 and (signed or whole > 0 or values[i] == 0):
            out[i] = int64(whole)
        else:
            odd[i] = 1


@njit(nogil=True, error_model="numpy", cache=True)
def mark_other(buf, starts, stops, wanted, odd):
    """Every record whose text is there and is not `wanted` is odd."""
    base = int64(buf.ctypes.data)
    for i in range(odd.shape[0]):
        if starts[i] == -1:
            continue
        same = starts[i] >= 0 and stops[i] - starts[i] == wanted.shape[0]
        if same:
            for k in range(wanted.shape[0]):
                same = same and load8(base + starts[i] + k) == wanted[k]
        if not same:
            odd[i] = 1


@njit(nogil=True, error_model="numpy", cache=True)
def copy_spans(buf, starts, stops, out, offsets):
    """Puts the spans one behind the other: offsets[i] to offsets[i + 1] of `out`. Negative starts are empty."""
    base = int64(buf.ctypes.data)
    at = int64(0)
    for i in range(starts.shape[0]):
        offsets[i] = at
        if starts[i] >= 0:
            for p in range(base + int64(starts[i]), base + int64(stops[i])):
                out[at] = load8(p)
                at += 1
    offsets[starts.shape[0]] = at
