"""Finds the fields of NDJSON and CSV records in raw bytes, without building a single object for an ordinary record.

A scanner writes, for every record and every known field, where its value starts and stops in the buffer and what form it has.
Whatever is not plain (escapes, nesting, exponents, a field twice, broken JSON, ...) is marked odd and left to the slow path, which
reads that record whole. So a scanner may give up at any point, but must never accept what the slow path would read differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from llvmlite import ir
from numba import int64, njit, uint64, void
from numba.extending import intrinsic

from shopward.event import MAX_FIELDS, MAX_RECORD
from shopward.hashing import load8, load32, load64

# forms of a value
ABSENT, TEXT, WHOLE, DECIMAL, FALSE, TRUE, ODD = 0, 1, 2, 3, 4, 5, 6
# how a record was found
PLAIN, STRANGE, OVERSIZE = 0, 1, 2
PADDING = 64  # readable bytes a buffer has behind its content
WIDE = 32  # bytes looked at in one step
LONGEST_NUMBER = 40  # digits behind the point, or before it
OBJECTS = 32  # of one record that are passed over
KEYS = 64  # names of a record that are remembered to find objects whose fields would collide
OPEN_LIST, CLOSE_LIST, UNDERSCORE = 91, 93, 95
QUOTE, BACKSLASH, COMMA, COLON, OPEN, CLOSE, NEWLINE, MINUS, DOT, ZERO, NINE = (
    34,
    92,
    44,
    58,
    123,
    125,
    10,
    45,
    46,
    48,
    57,
)
_NULL, _TRUE, _ALSE = (int.from_bytes(word, "little") for word in (b"null", b"true", b"alse"))


def _wide_mask(compare):
    """An intrinsic (address) -> uint64 whose bit i says whether byte i of the 32 there is one `compare` looks for."""

    @intrinsic
    def mask(typingctx, address):
        def codegen(context, builder, signature, args):
            lanes = ir.VectorType(ir.IntType(8), WIDE)
            bits = builder.bitcast(compare(builder, _load(builder, args[0], lanes), lanes), ir.IntType(WIDE))
            return builder.zext(bits, ir.IntType(64))

        return uint64(int64), codegen

    return mask


def _load(builder, address, lanes):
    word = builder.load(builder.inttoptr(address, lanes.as_pointer()))
    word.align = 1
    return word


def _all(lanes, byte):
    return ir.Constant(lanes, [byte] * WIDE)


def _ends_text(builder, word, lanes):
    quote = builder.icmp_unsigned("==", word, _all(lanes, QUOTE))
    slash = builder.icmp_unsigned("==", word, _all(lanes, BACKSLASH))
    control = builder.icmp_unsigned("<", word, _all(lanes, 32))
    return builder.or_(builder.or_(quote, slash), control)


text_stops = _wide_mask(_ends_text)
quotes = _wide_mask(lambda b, word, lanes: b.icmp_unsigned("==", word, _all(lanes, QUOTE)))
newlines = _wide_mask(lambda b, word, lanes: b.icmp_unsigned("==", word, _all(lanes, NEWLINE)))
other_than_digits = _wide_mask(
    lambda b, word, lanes: b.icmp_unsigned(">", b.sub(word, _all(lanes, ZERO)), _all(lanes, NINE - ZERO))
)
high_bytes = _wide_mask(lambda b, word, lanes: b.icmp_unsigned(">=", word, _all(lanes, 128)))


@intrinsic
def same32(typingctx, a, b):
    """Bit k: do the bytes at addresses a + k and b + k agree, for 32 bytes."""

    def codegen(context, builder, signature, args):
        lanes = ir.VectorType(ir.IntType(8), WIDE)
        same = builder.icmp_unsigned("==", _load(builder, args[0], lanes), _load(builder, args[1], lanes))
        return builder.zext(builder.bitcast(same, ir.IntType(WIDE)), ir.IntType(64))

    return uint64(int64, int64), codegen


@intrinsic
def lowest(typingctx, word):
    """The index of the lowest set bit of a non-zero uint64."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return int64(word), codegen


def _store(width):
    """An intrinsic (address, int64) that writes the low `width` bits there."""

    @intrinsic
    def store(typingctx, address, value):
        def codegen(context, builder, signature, args):
            cell = builder.inttoptr(args[0], ir.IntType(width).as_pointer())
            builder.store(builder.trunc(args[1], ir.IntType(width)) if width < 64 else args[1], cell)
            return context.get_dummy_value()

        return void(int64, int64), codegen

    return store


store8, store32, store64 = (_store(width) for width in (8, 32, 64))


# ---- known words: field names and event types


@dataclass(frozen=True, slots=True)
class Words:
    """A fixed set of words as an open-addressing table the compiled code can search.

    `values[i]` is what word i stands for (a field's number, a type's code); `text` holds each word padded to `stride` bytes.
    """

    text: np.ndarray
    stride: int
    lengths: np.ndarray
    values: np.ndarray
    heads: np.ndarray
    slots: np.ndarray

    @property
    def place(self) -> tuple[int, int, int, int, int, int]:
        """What find_word needs to know."""
        at = (
            self.text.ctypes.data,
            self.stride,
            self.lengths.ctypes.data,
            self.heads.ctypes.data,
            self.slots.ctypes.data,
        )
        return (*at, len(self.slots))


def words(entries: Sequence[tuple[bytes, int]]) -> Words:
    """The table of (word, value) pairs."""
    longest = max((len(word) for word, _ in entries), default=0)
    stride = (longest // WIDE + 2) * WIDE  # room for a quote and a colon behind each word
    text = np.zeros(stride * max(1, len(entries)), np.uint8)
    lengths = np.zeros(len(entries), np.int64)
    heads = np.zeros(len(entries), np.uint64)
    for i, (word, _) in enumerate(entries):
        text[i * stride : i * stride + len(word)] = np.frombuffer(word, np.uint8)
        text[i * stride + len(word) : i * stride + len(word) + 2] = (QUOTE, COLON)
        lengths[i] = len(word)
        heads[i] = int.from_bytes(word[:8], "little")
    size = 16
    while size < 4 * len(entries):
        size *= 2
    slots = np.full(size, -1, np.int32)
    for i in range(len(entries)):
        at = int(_slot(heads[i], lengths[i], size - 1))
        while slots[at] >= 0:
            at = (at + 1) & (size - 1)
        slots[at] = i
    return Words(text, stride, lengths, np.array([value for _, value in entries], np.int32), heads, slots)


@njit(forceinline=True)
def _slot(head, length, mask):
    mixed = (head ^ (uint64(length) * uint64(0x9E3779B97F4A7C15))) * uint64(0xFF51AFD7ED558CCD)
    return int64(mixed >> uint64(40)) & mask


@njit(forceinline=True)
def find_word(start, stop, table, stride, lengths, heads, slots, size):
    """The number of the word from address `start` to `stop`, -1 when it is none of them. Reads up to 32 bytes behind `stop`.

    `table`, `lengths`, `heads` and `slots` are the addresses of the arrays of Words, `size` is the number of slots."""
    length = stop - start
    head = load64(start)
    if length < 8:
        head &= (uint64(1) << uint64(8 * length)) - uint64(1)
    at = _slot(head, length, size - 1)
    word = load32(slots + 4 * at)
    while word >= 0:
        same = load64(heads + 8 * word) == head and int64(load64(lengths + 8 * word)) == length
        if same and _same(start, table + word * stride, length):
            break
        at = (at + 1) & (size - 1)
        word = load32(slots + 4 * at)
    return word


@njit(forceinline=True)
def _same(a, b, length):
    """Do the words of this length agree behind their first 8 bytes?"""
    done = int64(8)
    same = True
    while same and done < length:
        left = length - done
        wanted = uint64(0xFFFFFFFF) if left >= WIDE else (uint64(1) << uint64(left)) - uint64(1)
        same = same32(a + done, b + done) & wanted == wanted
        done += WIDE
    return same


# ---- pieces of JSON


@njit(forceinline=True)
def _skip_blanks(p):
    while load8(p) <= 32 and load8(p) in (32, 9, 13):
        p += 1
    return p


@njit(forceinline=True)
def _text_end(p):
    """Where the next quote, backslash or control character is, from p on; the padding behind the buffer holds newlines."""
    while True:
        mask = text_stops(p)
        if mask != uint64(0):
            return p + lowest(mask)
        p += WIDE


@njit(forceinline=True)
def _is_hex(byte):
    return (48 <= byte <= 57) or (65 <= byte <= 70) or (97 <= byte <= 102)


@njit(nogil=True, error_model="numpy", cache=True)
def _skip_escapes(p):
    """From a backslash inside a text nobody reads to its closing quote; -1 when the text needs a closer look."""
    while True:
        if load8(p) == BACKSLASH:
            escape = load8(p + 1)
            if escape == 117:  # \uXXXX; surrogates are left to the slow path
                if not (
                    _is_hex(load8(p + 2)) and _is_hex(load8(p + 3)) and _is_hex(load8(p + 4)) and _is_hex(load8(p + 5))
                ):
                    return int64(-1)
                if load8(p + 2) == 68 or load8(p + 2) == 100:
                    return int64(-1)
                p += 6
            elif escape in (34, 92, 47, 98, 102, 110, 114, 116):  # " \\ / b f n r t
                p += 2
            else:
                return int64(-1)
        elif load8(p) == QUOTE:
            return p
        else:
            return int64(-1)
        p = _text_end(p)


@njit(forceinline=True)
def _digits_end(p):
    while True:
        mask = other_than_digits(p)
        if mask != uint64(0):
            return p + lowest(mask)
        p += WIDE


@njit(forceinline=True)
def _number_end(p):
    """(end, form) of the number at p; form ODD for exponents and for what is no JSON number."""
    if load8(p) == MINUS:
        p += 1
    first = p
    p = _digits_end(p)
    if p == first or (load8(first) == ZERO and p - first > 1):
        return p, int64(ODD)
    form = int64(WHOLE)
    if load8(p) == DOT:
        p += 1
        first = p
        p = _digits_end(p)
        form = int64(DECIMAL) if p > first else int64(ODD)
    if load8(p) == 101 or load8(p) == 69 or p - first > LONGEST_NUMBER:
        form = int64(ODD)
    return p, form


@njit(forceinline=True)
def _value(p, known):
    """(start, stop, form, next) of the value at p. `known`: somebody reads it; else a text only needs to be valid."""
    c = load8(p)
    if c == QUOTE:
        start = p + 1
        p = _text_end(start)
        if load8(p) == QUOTE:
            return start, p, int64(TEXT), p + 1
        if load8(p) != BACKSLASH or known:
            return start, p, int64(ODD), p
        p = _skip_escapes(p)
        return start, p, int64(ODD) if p < 0 else int64(TEXT), p + 1
    if c == MINUS or ZERO <= c <= NINE:
        stop, form = _number_end(p)
        return p, stop, form, stop
    word = load64(p) & uint64(0xFFFFFFFF)
    if word == uint64(_NULL):
        return p, p + 4, int64(ABSENT), p + 4
    if word == uint64(_TRUE):
        return p, p + 4, int64(TRUE), p + 4
    if c == 102 and load64(p + 1) & uint64(0xFFFFFFFF) == uint64(_ALSE):
        return p, p + 5, int64(FALSE), p + 5
    return p, p, int64(ODD), p


@njit(forceinline=True)
def _line_end(p, n):
    """The address of the next newline, n when there is none. Reads up to 32 bytes behind n."""
    while p < n:
        mask = newlines(p)
        if mask != uint64(0):
            return min(p + lowest(mask), n)
        p += WIDE
    return n


@njit(forceinline=True)
def _list_end(p):
    """Behind the list of plain values at p; -1 when it needs a closer look."""
    p = _skip_blanks(p + 1)
    if load8(p) == CLOSE_LIST:
        return p + 1
    while True:
        _, _, form, p = _value(p, False)
        if form == ODD:
            return int64(-1)
        p = _skip_blanks(p)
        if load8(p) == CLOSE_LIST:
            return p + 1
        if load8(p) != COMMA:
            return int64(-1)
        p = _skip_blanks(p + 1)


@njit(nogil=True, error_model="numpy")
def _object_end(p, keys):
    """(behind the flat object at p, how many fields it has); -1 when it is not flat, has a field twice or needs a closer look.
    `keys` is the address of room for 2 * KEYS words."""
    p = _skip_blanks(p + 1)
    count = int64(0)
    if load8(p) == CLOSE:
        return p + 1, count
    while count < KEYS:
        if load8(p) != QUOTE:
            break
        stop = _text_end(p + 1)
        if load8(stop) != QUOTE or _listed(p + 1, stop, keys, count):
            break
        store64(keys + 16 * count, p + 1)
        store64(keys + 16 * count + 8, stop)
        count += 1
        p = _skip_blanks(stop + 1)
        if load8(p) != COLON:
            break
        p = _skip_blanks(p + 1)
        if load8(p) == OPEN_LIST:
            p = _list_end(p)
            if p < 0:
                break
        else:
            _, _, form, p = _value(p, False)
            if form == ODD:
                break
        p = _skip_blanks(p)
        if load8(p) == CLOSE:
            return p + 1, count
        if load8(p) != COMMA:
            break
        p = _skip_blanks(p + 1)
    return int64(-1), count


@njit(forceinline=True)
def _same_bytes(a, b, length):
    for i in range(length):  # noqa: SIM110  (compiled code)
        if load8(a + i) != load8(b + i):
            return False
    return True


@njit(nogil=True, error_model="numpy")
def _listed(start, stop, keys, count):
    """Is this name among the first `count` keys?"""
    for i in range(count):
        other = int64(load64(keys + 16 * i))
        if int64(load64(keys + 16 * i + 8)) - other == stop - start and _same_bytes(start, other, stop - start):
            return True
    return False


@njit(nogil=True, error_model="numpy")
def _may_collide(start, stop, keys, count):
    """Does another of the names equal this object's, or begin with it and an underscore?"""
    length = stop - start
    found = False
    for i in range(count):
        other = int64(load64(keys + 16 * i))
        longer = int64(load64(keys + 16 * i + 8)) - other
        if other != start and longer >= length and _same_bytes(start, other, length):
            found = longer == length or load8(other + length) == UNDERSCORE
        if found:
            break
    return found


@njit(nogil=True, error_model="numpy", cache=True)
def line_end(buf, begin, n):
    """The index of the next newline of buf[begin:n], n when there is none; the buffer is padded."""
    base = int64(buf.ctypes.data)
    return _line_end(base + begin, base + n) - base


# Room for the names of one record: three counters (names, objects, fields of objects), which names are objects, the spans of the
# names, the spans of the names in one object. Offsets in bytes.
_OBJECTS_AT, _INNER_AT, _WHICH_AT = 8, 16, 32
_NAMES_AT = _WHICH_AT + 8 * OBJECTS
_OBJECT_NAMES_AT = _NAMES_AT + 16 * KEYS
ROOM = _OBJECT_NAMES_AT + 16 * KEYS


@njit(nogil=True, error_model="numpy")
def _pass_over(p, name, stop, room, begins):
    """Behind a value at p that nobody reads, -1 when it is odd; its name and what it is are noted in `room`."""
    names = int64(load64(room))
    store64(room, names + 1)
    if names < KEYS:
        store64(room + _NAMES_AT + 16 * names, name)
        store64(room + _NAMES_AT + 16 * names + 8, stop)
    if load8(p) == OPEN_LIST:
        return _list_end(p)
    if load8(p) == OPEN:
        table, stride, lengths, heads, slots, size = begins
        objects = int64(load64(room + _OBJECTS_AT))
        if (
            names >= KEYS
            or objects == OBJECTS
            or find_word(name, stop, table, stride, lengths, heads, slots, size) >= 0
        ):
            return int64(-1)
        store64(room + _WHICH_AT + 8 * objects, names)
        store64(room + _OBJECTS_AT, objects + 1)
        p, inner = _object_end(p, room + _OBJECT_NAMES_AT)
        store64(room + _INNER_AT, int64(load64(room + _INNER_AT)) + inner)
        return p
    _, _, form, p = _value(p, False)
    return int64(-1) if form == ODD else p


@njit(nogil=True, error_model="numpy")
def _objects_fit(pairs, room):
    """Could no field of the record's objects be taken for another, and are they not too many?"""
    names = int64(load64(room))
    if names > KEYS or pairs + int64(load64(room + _INNER_AT)) > MAX_FIELDS:
        return False
    for i in range(int64(load64(room + _OBJECTS_AT))):
        at = room + _NAMES_AT + 16 * int64(load64(room + _WHICH_AT + 8 * i))
        if _may_collide(int64(load64(at)), int64(load64(at + 8)), room + _NAMES_AT, names):
            return False
    return True


def _reader(careful):
    """The function that reads one object: the quick one gives up on lists and objects that nobody reads, the careful one passes
    over them if they are flat and none of their fields could be taken for another."""

    @njit(forceinline=not careful, nogil=True, error_model="numpy")
    def record(p, row, stamp, base, known, fields, count, guess, starts, stops, forms, wide, seen, begins, room):
        """Reads the object at p; returns where it ends, or -1 when it is odd. All arrays are addresses: a record costs no reference
        counting. `guess[k]` is the key that last followed key k; starts, stops and forms have `wide` places for each field."""
        table, stride, lengths, heads, slots, size = known
        if load8(p) != OPEN:
            return int64(-1)
        p = _skip_blanks(p + 1)
        last = count
        pairs = int64(0)
        if careful:
            store64(room, 0)
            store64(room + _OBJECTS_AT, 0)
            store64(room + _INNER_AT, 0)
        if load8(p) == CLOSE:
            return p + 1
        while True:
            if load8(p) != QUOTE:
                return int64(-1)
            p += 1
            name = p
            end = p
            word = load32(guess + 4 * last)
            length = int64(0)
            if word >= 0:
                length = int64(load64(lengths + 8 * word)) + 2
            wanted = (uint64(1) << uint64(length)) - uint64(1)
            if word >= 0 and length <= WIDE and same32(p, table + word * stride) & wanted == wanted:
                p = _skip_blanks(p + length)
            else:
                end = _text_end(p)
                if load8(end) != QUOTE:
                    return int64(-1)
                word = find_word(p, end, table, stride, lengths, heads, slots, size)
                store32(guess + 4 * last, word)
                p = _skip_blanks(end + 1)
                if load8(p) != COLON:
                    return int64(-1)
                p = _skip_blanks(p + 1)
            last = count
            if careful and word < 0:
                store64(seen - 8, stamp)
                p = _pass_over(p, name, end, room, begins)
                if p < 0:
                    return p
            else:
                start, stop, form, p = _value(p, word >= 0)
                if form == ODD:
                    return int64(-1)
                if word < 0:
                    store64(seen - 8, stamp)
                else:
                    field = load32(fields + 4 * word)
                    if int64(load64(seen + 8 * field)) == stamp:
                        return int64(-1)
                    store64(seen + 8 * field, stamp)
                    place = field * wide + row
                    store32(starts + 4 * place, start - base)
                    store32(stops + 4 * place, stop - base)
                    store8(forms + place, form)
                    last = word
            pairs += 1
            p = _skip_blanks(p)
            if pairs > MAX_FIELDS:
                return int64(-1)
            if load8(p) == CLOSE:
                break
            if load8(p) != COMMA:
                return int64(-1)
            p = _skip_blanks(p + 1)
        if careful and not _objects_fit(pairs, room):
            return int64(-1)
        return p + 1

    return record


_quick_record, _careful_record = _reader(False), _reader(True)


@njit(nogil=True, error_model="numpy", cache=True)
def scan_ndjson(buf, begin, n, last, known, fields, begins, guess, starts, stops, forms, seen, status, lines, room):
    """Reads records from buf[begin:n] until the arrays are full or no whole line is left.

    `last`: the input ends at n, so a line without a newline counts. `known` and `begins` are the addresses of two sets of Words,
    `fields` says which field each known word is. lines[:, row] = start, stop, line breaks before it (from begin), and whether it has
    a field that nobody knows. `seen` has a place for each field and one before them. Returns (rows, where it stopped, line breaks passed).
    """
    base = int64(buf.ctypes.data)
    fields_at, guess_at, seen_at, count = (
        int64(fields.ctypes.data),
        int64(guess.ctypes.data),
        int64(seen.ctypes.data) + 8,
        fields.shape[0],
    )
    starts_at, stops_at, forms_at = int64(starts.ctypes.data), int64(stops.ctypes.data), int64(forms.ctypes.data)
    room_at = int64(room.ctypes.data)
    p = base + begin
    n = base + n
    row = int64(0)
    breaks = int64(0)
    capacity = int64(status.shape[0])
    forms[:] = ABSENT
    seen[:] = -1
    while p < n and row < capacity:
        start = _skip_blanks(p)
        if start < n and load8(start) == NEWLINE:
            breaks += 1
            p = start + 1
            continue
        end = _quick_record(
            start,
            row,
            row,
            base,
            known,
            fields_at,
            count,
            guess_at,
            starts_at,
            stops_at,
            forms_at,
            capacity,
            seen_at,
            begins,
            room_at,
        )
        if end < 0:
            end = _careful_record(
                start, row, row + capacity, base, known, fields_at, count, guess_at, starts_at, stops_at, forms_at, capacity, seen_at,
                begins, room_at,
            )  # fmt: skip
        status[row] = PLAIN
        if end >= 0:
            end = _skip_blanks(end)
        if end < 0 or end > n or (end < n and load8(end) != NEWLINE):
            end = _line_end(p, n)
            status[row] = STRANGE
        if end == n and not last:
            break
        if end - p > MAX_RECORD:
            status[row] = OVERSIZE
        if status[row] != PLAIN or not _utf8(p, end):
            status[row] = max(status[row], STRANGE)
            for field in range(forms.shape[0]):
                forms[field, row] = ABSENT
        if start < end:
            lines[0, row] = start - base
            lines[1, row] = end - base
            lines[2, row] = breaks
            lines[3, row] = seen[0] == row or seen[0] == row + capacity
            row += 1
        breaks += 1
        p = end + 1
    return row, min(p, n) - base, breaks


@njit(forceinline=True)
def _utf8(start, stop):
    """Are the bytes from address start to stop valid UTF-8?"""
    p = start
    while p < stop:
        mask = high_bytes(p)
        if mask == uint64(0):
            p += WIDE
            continue
        p += lowest(mask)
        if p >= stop:
            return True
        c = load8(p)
        width = 2 if 0xC2 <= c <= 0xDF else 3 if 0xE0 <= c <= 0xEF else 4 if 0xF0 <= c <= 0xF4 else 0
        if width == 0 or p + width > stop:
            return False
        for i in range(1, width):
            if load8(p + i) & 0xC0 != 0x80:
                return False
        second = load8(p + 1)
        if (c == 0xE0 and second < 0xA0) or (c == 0xED and second > 0x9F):
            return False
        if (c == 0xF0 and second < 0x90) or (c == 0xF4 and second > 0x8F):
            return False
        p += width
    return True


@njit(nogil=True, error_model="numpy", cache=True)
def measure(buf):
    """(name-value pairs, depth) of a JSON text, counted without building it: what a reader of it would have to hold."""
    pairs = 0
    depth = 0
    deepest = 0
    inside = False
    p = int64(buf.ctypes.data)
    stop = p + buf.shape[0]
    while p < stop:
        c = load8(p)
        if inside:
            if c == BACKSLASH:
                p += 1
            elif c == QUOTE:
                inside = False
        elif c == QUOTE:
            inside = True
        elif c == COLON:
            pairs += 1
        elif c == OPEN or c == 91:
            depth += 1
            deepest = max(deepest, depth)
        elif c == CLOSE or c == 93:
            depth -= 1
        p += 1
    return pairs, deepest


# ---- CSV


@njit(nogil=True, error_model="numpy", cache=True)
def scan_csv(buf, begin, n, last, comma, columns, starts, stops, forms, status, lines):
    """Reads CSV records like scan_ndjson; columns[c] is the field of column c, -1 when nobody reads it."""
    base = int64(buf.ctypes.data)
    p = base + begin
    n = base + n
    row = int64(0)
    breaks = int64(0)
    capacity = int64(status.shape[0])
    forms[:] = ABSENT
    while p < n and row < capacity:
        start = p
        status[row] = PLAIN
        column = 0
        line_breaks = 0
        while True:
            first, stop, form, p, inner = _cell(p, n, comma)
            line_breaks += inner
            if form == ODD:
                status[row] = STRANGE
            elif column < columns.shape[0] and columns[column] >= 0:
                starts[columns[column], row] = first - base
                stops[columns[column], row] = stop - base
                forms[columns[column], row] = form
            column += 1
            if p >= n or load8(p) != comma:
                break
            p += 1
        if p >= n and not last:
            p = start
            break
        stop = p
        if stop > start and load8(stop - 1) == 13:
            stop -= 1
        if column != columns.shape[0]:
            status[row] = STRANGE
        if p - start > MAX_RECORD:
            status[row] = OVERSIZE
        if status[row] != PLAIN or not _utf8(start, stop):
            status[row] = max(status[row], STRANGE)
            for field in range(forms.shape[0]):
                forms[field, row] = ABSENT
        if stop > start:
            lines[0, row] = start - base
            lines[1, row] = stop - base
            lines[2, row] = breaks
            row += 1
        breaks += line_breaks + 1
        p += 1
    return row, min(p, n) - base, breaks


@njit(forceinline=True)
def _cell(p, n, comma):
    """(start, stop, form, where it ends, line breaks inside) of the cell at p; an empty one is absent."""
    breaks = 0
    if p < n and load8(p) == QUOTE:
        start = p + 1
        p = start
        form = int64(TEXT)
        while True:
            while p < n and load8(p) != QUOTE:
                breaks += load8(p) == NEWLINE
                p += 1
            if p + 1 < n and load8(p + 1) == QUOTE:
                form = int64(ODD)
                p += 2
                continue
            break
        stop = p
        p += 1
        if p < n and load8(p) == 13 and p + 1 < n and load8(p + 1) == NEWLINE:
            p += 1
        if p < n and load8(p) != comma and load8(p) != NEWLINE:
            form = int64(ODD)
            while p < n and load8(p) != comma and load8(p) != NEWLINE:
                p += 1
        return start, stop, form if stop > start else int64(ABSENT) if form == TEXT else form, min(p, n), breaks
    start = p
    while p < n and load8(p) != comma and load8(p) != NEWLINE:
        p += 1
    stop = p
    if stop > start and load8(stop - 1) == 13 and (p >= n or load8(p) == NEWLINE):
        stop -= 1
    return start, stop, int64(TEXT) if stop > start else int64(ABSENT), p, breaks
