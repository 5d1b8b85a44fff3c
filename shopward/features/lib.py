"""The small steps every window kernel is made of: rings that grow, ids for keys, exact distinct counts, queues for min and max.

Each function here is written once in a subset of Python that numba also understands. Called as it stands it works on memoryviews
(the interpreted engine); `lib_jit` compiles the same functions to work on raw memory. Only the primitives at the top differ.

Words used throughout
    position   a slot's number in its ring since the ring began, modulo 2**32; it lives at `base + (position & mask)`
    FLAG       top bit of an id lane: a later slot holds the same value, so this one no longer counts for distinct
    key        id of the entity in the upper 32 bits, id of the value in the lower
"""

from __future__ import annotations

import math
import struct

from shopward.hashing import combine_one

M32 = 0xFFFFFFFF
FLAG = 0x80000000  # top bit of an id lane: superseded; the lane 0 is null
VALUE = 0x7FFFFFFF  # the id without the flag
NEAR = 8  # how many newest slots are searched directly; older latest slots are found through the index
AHEAD = 12  # rows between asking for memory and using it
NAN = math.nan
NULL = -(1 << 63)  # a missing value in a column of minor units
START = 1 << 62  # added to every time, so that 0 means "never" and times before 1970 still compare
LOW62 = (1 << 62) - 1

# Fields of a domain's header: the ids of one kind of key.
NEXT, FREE, MASK, LIMIT, ROOM, LIVE, CLOCK, FRESH, HAND, SEED, BEGAN, SWEPT = range(12)
DOMAIN_HEADER = 16
# An identity: two hash words, when it was last seen (stream clock), and one word for text or labels.
IDENTITY = 4


# ---- primitives that differ between the interpreted and the compiled engine


def I(x):  # noqa: E743
    return int(x)


def F(x):
    return float(x)


def i64(block, slot):
    return block[slot].q


def u32(block, slot):
    return block[slot].I


def f64(block, slot):
    return block[slot].d


def i16(block, slot):
    return block[slot].h


def num(block, slot):
    return block[slot]


def sub(block, slot):
    return block[slot]


def touch(memory, index):
    """Ask for a cache line early; nothing to do when interpreted."""


def bits(x):
    """The 64 bits of a float as an integer; -0.0 counts as 0.0."""
    return struct.unpack("<q", struct.pack("<d", x + 0.0))[0]


def unbits(x):
    return struct.unpack("<d", struct.pack("<q", x))[0]


def wide(low, high):
    """Two 32-bit lanes as one signed 64-bit integer."""
    x = low | (high << 32)
    return x - (1 << 64) if x >= 1 << 63 else x


def scatter(x, seed):
    """A one-to-one scrambling of 64 bits, so that numbers spread over a hash table nobody can aim at (splitmix64's finish)."""
    x = ((x ^ seed) + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    x ^= x >> 31
    return x - (1 << 64) if x >= 1 << 63 else x


def home(key, mask):
    """Where a (key, value) pair is first looked for in an index."""
    return (((key * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF) >> 32) & mask


def spread(n, s, q1, q0):
    """n * Q - S * S as a float, from exact integers (Q = q1 * 2**40 + q0): n * n times the variance.

    >>> spread(2, 3, 0, 5)         # values 1 and 2
    1.0
    """
    d = n * ((q1 << 40) + q0) - s * s
    return float(d >> 62) * 4611686018427387904.0 + float(d & LOW62)


# ---- rings


def grow(S, A, base, cap, stride, head, tail):
    """Move a ring to a block of twice the size (4 slots at first); the new base, or -1 when the arena must be enlarged first.

    A[0] is the first unused slot of the arena, A[1] its size in slots, A[2 + i] the list of free blocks of 2**i slots.
    """
    new_cap = cap * 2 if cap else 4
    size_class = 2
    while (1 << size_class) < new_cap:
        size_class += 1
    free = A[2 + size_class]
    if free:
        new_base = free - 1
        A[2 + size_class] = I(S[new_base * stride])
    else:
        new_base = A[0]
        if new_base + new_cap > A[1]:
            return -1
        A[0] = new_base + new_cap
    mask = cap - 1
    new_mask = new_cap - 1
    p = head
    while p != tail:
        a = (base + (p & mask)) * stride
        b = (new_base + (p & new_mask)) * stride
        for lane in range(stride):
            S[b + lane] = S[a + lane]
        p = (p + 1) & M32
    if cap:
        release(S, A, base, cap, stride)
    return new_base


def release(S, A, base, cap, stride):
    """Put a block on its free list (its first lane then links to the next free block)."""
    size_class = 2
    while (1 << size_class) < cap:
        size_class += 1
    S[base * stride] = A[2 + size_class]
    A[2 + size_class] = base + 1


# ---- the index of values whose latest slot is no longer among the newest few: (key, value) -> position


def index_put(X, H, key, position):
    mask = H[1]
    i = home(key, mask)
    while X[2 * i] != 0 and X[2 * i] != key:
        i = (i + 1) & mask
    if X[2 * i] == 0:
        H[0] = H[0] + 1
    X[2 * i] = key
    X[2 * i + 1] = position


def index_pop(X, H, key):
    """Take a key out; its position, or -1 if it was not there. Closes the gap, so there are no tombstones."""
    mask = H[1]
    i = home(key, mask)
    while X[2 * i] != key:
        if X[2 * i] == 0:
            return -1
        i = (i + 1) & mask
    position = X[2 * i + 1]
    H[0] = H[0] - 1
    j = i
    while True:
        j = (j + 1) & mask
        if X[2 * j] == 0:
            break
        if ((j - home(X[2 * j], mask)) & mask) >= ((j - i) & mask):
            X[2 * i] = X[2 * j]
            X[2 * i + 1] = X[2 * j + 1]
            i = j
    X[2 * i] = 0
    return position


def index_rehash(X, H, Y, G):
    """Copy an index into a larger empty one."""
    for i in range(H[1] + 1):
        if X[2 * i] != 0:
            index_put(Y, G, X[2 * i], X[2 * i + 1])


# ---- exact distinct


def earlier(S, base, mask, stride, lane, position, head, value, X, H, key):
    """The position of the slot in [head, position) that holds `value` and still counts; -1 if there is none."""
    n = (position - head) & M32
    near = NEAR if n > NEAR else n
    p = position
    for _ in range(near):
        p = (p - 1) & M32
        if I(S[(base + (p & mask)) * stride + lane]) == value:
            return p
    if n > NEAR:
        return index_pop(X, H, key)
    return -1


def settle(S, base, mask, stride, lane, position, head, X, H, k):
    """After `position` was filled: the slot that just left the newest few goes into the index if it still counts."""
    if ((position - head) & M32) >= NEAR:
        p = (position - NEAR) & M32
        value = I(S[(base + (p & mask)) * stride + lane])
        if 0 < value < FLAG:
            index_put(X, H, (k << 32) | value, p)


def forget(S, base, mask, stride, lane, head, end, X, H, k):
    """Take all of a ring's values out of the index."""
    p = head
    while ((end - p) & M32) > NEAR:
        value = I(S[(base + (p & mask)) * stride + lane])
        if 0 < value < FLAG:
            index_pop(X, H, (k << 32) | value)
        p = (p + 1) & M32


def drop_slot(S, base, mask, stride, head, position, queues):
    """Remove one slot: the older ones move up by one, the ring's head becomes head + 1. The last `queues` lanes stay in place."""
    p = position
    while p != head:
        q = (p - 1) & M32
        a = (base + (q & mask)) * stride
        b = (base + (p & mask)) * stride
        for lane in range(stride - queues):
            S[b + lane] = S[a + lane]
        p = q


def find_seq(S, base, mask, stride, lane, head, tail, seq):
    """The position of the slot written by event `seq` in [head, tail), or -1. Sequence numbers rise along a ring."""
    n = (tail - head) & M32
    low = 0
    high = n
    first = I(S[(base + (head & mask)) * stride + lane]) if n else 0
    wanted = (seq - first) & M32
    while low < high:
        middle = (low + high) >> 1
        here = (I(S[(base + ((head + middle) & mask)) * stride + lane]) - first) & M32
        if here < wanted:
            low = middle + 1
        else:
            high = middle
    if low < n and I(S[(base + ((head + low) & mask)) * stride + lane]) == (seq & M32):
        return (head + low) & M32
    return -1


# ---- min and max: a queue of positions whose values rise (min) or fall (max), kept in a lane of the ring's own slots


def queue_first(S, base, mask, stride, lane, first, last, end, n):
    """The first queued position that lies among the newest `n` before `end`, or -1."""
    low = 0
    high = (last - first) & M32
    length = high
    while low < high:
        middle = (low + high) >> 1
        p = I(S[(base + ((first + middle) & mask)) * stride + lane])
        if ((end - p) & M32) <= n:
            high = middle
        else:
            low = middle + 1
    if low == length:
        return -1
    return I(S[(base + ((first + low) & mask)) * stride + lane])


def queue_move(S, base, mask, new_base, new_mask, stride, lane, first, last):
    """Copy a queue after its ring has moved (the old block's first lane may be gone, its other lanes are still there)."""
    p = first
    while p != last:
        S[(new_base + (p & new_mask)) * stride + lane] = S[(base + (p & mask)) * stride + lane]
        p = (p + 1) & M32


def ordered(x):
    """The bits of a float as an integer that orders like the float; its own inverse."""
    return x ^ ((x >> 63) & 0x7FFFFFFFFFFFFFFF)


# ---- ids: every key and every counted value gets a small number


def identify(K, table, D, free, a, b, now):
    """The id of the identity (a, b), made on first sight. Space was checked before."""
    mask = D[MASK]
    tag = (a >> 1) & VALUE
    i = tag & mask
    while True:
        entry = table[i]
        if entry == 0:
            break
        if (entry >> 32) == tag:
            k = entry & M32
            if K[k * IDENTITY] == a and K[k * IDENTITY + 1] == b:
                K[k * IDENTITY + 2] = now
                return k
        i = (i + 1) & mask
    if D[FREE]:
        D[FREE] = D[FREE] - 1
        k = I(free[D[FREE]])
    else:
        k = D[NEXT]
        D[NEXT] = k + 1
    D[LIVE] = D[LIVE] + 1
    table[i] = (tag << 32) | k
    K[k * IDENTITY] = a
    K[k * IDENTITY + 1] = b
    K[k * IDENTITY + 2] = now
    K[k * IDENTITY + 3] = 0
    return k


def table_rehash(old, old_mask, new, new_mask):
    for i in range(old_mask + 1):
        entry = old[i]
        if entry != 0:
            j = (entry >> 32) & new_mask
            while new[j] != 0:
                j = (j + 1) & new_mask
            new[j] = entry


def table_fill(K, ids, table, mask):
    """Every live id at its place in an empty table, in id order."""
    for k in range(1, ids):
        if K[k * IDENTITY + 2] != 0:
            tag = (K[k * IDENTITY] >> 1) & VALUE
            i = tag & mask
            while table[i] != 0:
                i = (i + 1) & mask
            table[i] = (tag << 32) | k


def table_remove(table, mask, tag, k):
    wanted = (tag << 32) | k
    i = tag & mask
    while table[i] != wanted:
        i = (i + 1) & mask
    j = i
    while True:
        j = (j + 1) & mask
        if table[j] == 0:
            break
        if ((j - (table[j] >> 32)) & mask) >= ((j - i) & mask):
            table[i] = table[j]
            i = j
    table[i] = 0


# ---- what a recycled key leaves behind. A family block: 0 rows, 1 words per row, 2 rings, then from slot 4 per ring
#      slots, arena, stride, the lanes of the row that hold its base, cap, oldest position and tail, number of distinct
#      fields, then per distinct field: its lane in a slot, index, index header, the lanes of the row with its head and end.


def clear_row(Q, k):
    R = i64(Q, 0)
    r = u32(Q, 0)
    words = num(Q, 1)
    row = k * words
    if R[row] == 0:
        return
    at = 4
    for _ in range(num(Q, 2)):
        S = u32(Q, at)
        A = i64(Q, at + 1)
        stride = num(Q, at + 2)
        base = I(r[2 * row + num(Q, at + 3)])
        cap = I(r[2 * row + num(Q, at + 4)])
        fields = num(Q, at + 7)
        at += 8
        for _f in range(fields):
            if cap:
                head = I(r[2 * row + num(Q, at + 3)])
                end = I(r[2 * row + num(Q, at + 4)])
                forget(S, base, cap - 1, stride, num(Q, at), head, end, i64(Q, at + 1), i64(Q, at + 2), k)
            at += 5
        if cap:
            release(S, A, base, cap, stride)
    for w in range(words):
        R[row + w] = 0


def count_row(Q, k, out):
    """Add up what one key holds: out[0] slots in use, out[1 + ...] index entries per distinct field in order."""
    R = i64(Q, 0)
    r = u32(Q, 0)
    row = k * num(Q, 1)
    if R[row] == 0:
        return
    at = 4
    nth = 1
    for _ in range(num(Q, 2)):
        S = u32(Q, at)
        stride = num(Q, at + 2)
        base = I(r[2 * row + num(Q, at + 3)])
        cap = I(r[2 * row + num(Q, at + 4)])
        head = I(r[2 * row + num(Q, at + 5)])
        tail = I(r[2 * row + num(Q, at + 6)])
        fields = num(Q, at + 7)
        if cap:
            out[0] = out[0] + ((tail - head) & M32)
        at += 8
        for _f in range(fields):
            if cap:
                lane = num(Q, at)
                p = I(r[2 * row + num(Q, at + 3)])
                end = I(r[2 * row + num(Q, at + 4)])
                while ((end - p) & M32) > NEAR:
                    if 0 < I(S[(base + (p & (cap - 1))) * stride + lane]) < FLAG:
                        out[nth] = out[nth] + 1
                    p = (p + 1) & M32
            nth += 1
            at += 5


def index_row(Q, k):
    """Put one key's values back into the indexes (they are not part of a snapshot)."""
    R = i64(Q, 0)
    r = u32(Q, 0)
    row = k * num(Q, 1)
    if R[row] == 0:
        return
    at = 4
    for _ in range(num(Q, 2)):
        S = u32(Q, at)
        stride = num(Q, at + 2)
        base = I(r[2 * row + num(Q, at + 3)])
        cap = I(r[2 * row + num(Q, at + 4)])
        fields = num(Q, at + 7)
        at += 8
        for _f in range(fields):
            if cap:
                lane = num(Q, at)
                p = I(r[2 * row + num(Q, at + 3)])
                end = I(r[2 * row + num(Q, at + 4)])
                while ((end - p) & M32) > NEAR:
                    value = I(S[(base + (p & (cap - 1))) * stride + lane])
                    if 0 < value < FLAG:
                        index_put(i64(Q, at + 1), i64(Q, at + 2), (k << 32) | value, p)
                    p = (p + 1) & M32
            at += 5


def count_rows(Q, ids, out):
    for k in range(1, ids):
        count_row(Q, k, out)


def index_rows(Q, ids):
    for k in range(1, ids):
        index_row(Q, k)


def sweep(P, Q, families, horizon, steps):
    """Recycle ids unseen for longer than `horizon`: look at the next `steps` ids, in id order, round and round.

    P is the domain's block (0 identities, 1 table, 2 header, 3 free ids); Q holds the block of each family keyed by it.
    """
    K = i64(P, 0)
    table = i64(P, 1)
    D = i64(P, 2)
    free = u32(P, 3)
    now = D[CLOCK]
    k = D[HAND]
    ids = D[NEXT]
    if ids - 1 < steps:
        steps = ids - 1
    for _ in range(steps):
        k += 1
        if k >= ids:
            k = 1
        seen = K[k * IDENTITY + 2]
        if seen != 0 and now - seen > horizon:
            for f in range(families):
                clear_row(sub(Q, f), k)
            table_remove(table, D[MASK], (K[k * IDENTITY] >> 1) & VALUE, k)
            for w in range(IDENTITY):
                K[k * IDENTITY + w] = 0
            free[D[FREE]] = k
            D[FREE] = D[FREE] + 1
            D[LIVE] = D[LIVE] - 1
    D[HAND] = k


# ---- stages that are the same for every rulebook. All take (block, from row, to row) and return the row they stopped at.


def early(K, table, mask, column, i):
    """Ask for the table slot of the row 2 * AHEAD further on, and for the identity of the one AHEAD."""
    touch(table, ((column[2 * (i + 2 * AHEAD)] >> 1) & VALUE) & mask)
    entry = table[((column[2 * (i + AHEAD)] >> 1) & VALUE) & mask]
    touch(K, (entry & M32) * IDENTITY)


def assign(P, lo, hi):
    """Ids of hashed columns, row by row. Block: 0 identities, 1 table, 2 header, 3 free ids, 4 t, 5 ids out, 6 rows per
    column, 7 columns, 8 fresh rows out (or nothing), 9 keep text, 10 columns from here on (int64[n, 2])."""
    K = i64(P, 0)
    table = i64(P, 1)
    D = i64(P, 2)
    free = u32(P, 3)
    T = i64(P, 4)
    ids = u32(P, 5)
    n = num(P, 6)
    columns = num(P, 7)
    fresh = u32(P, 8)
    keep = num(P, 9)
    now = D[CLOCK]
    for i in range(lo, hi):
        if D[LIVE] + columns > D[LIMIT] or D[NEXT] + columns > D[ROOM]:
            D[CLOCK] = now
            return i
        if i + 2 * AHEAD < hi:
            for c in range(columns):
                early(K, table, D[MASK], i64(P, 10 + c), i)
        t = T[i] + START
        if t > now:
            now = t
            if D[BEGAN] == 0:
                D[BEGAN] = now
        for c in range(columns):
            column = i64(P, 10 + c)
            a = column[2 * i]
            b = column[2 * i + 1]
            k = 0
            if a != 0 or b != 0:
                k = identify(K, table, D, free, a, b, now)
                if keep and K[k * IDENTITY + 3] == 0:
                    K[k * IDENTITY + 3] = 1
                    fresh[2 * D[FRESH]] = c
                    fresh[2 * D[FRESH] + 1] = i
                    D[FRESH] = D[FRESH] + 1
            ids[c * n + i] = k
    D[CLOCK] = now
    return hi


def compose(P, lo, hi):
    """Composite keys. Block: 0 out (int64[n, 2]), 1 parts, 2 and 3 the seed's words, 4 the parts' columns from here on."""
    out = i64(P, 0)
    seed = struct.pack("<qq", P[2], P[3])
    columns = [i64(P, 4 + c) for c in range(num(P, 1))]
    for i in range(lo, hi):
        out[2 * i], out[2 * i + 1] = combine_one([(c[2 * i], c[2 * i + 1]) for c in columns], seed)
    return hi


def assign_numbers(P, lo, hi):
    """Ids of a column of floats (or, with slot 9 set, of minor units): the value itself is the identity."""
    K = i64(P, 0)
    table = i64(P, 1)
    D = i64(P, 2)
    free = u32(P, 3)
    T = i64(P, 4)
    ids = u32(P, 5)
    minor = num(P, 9)
    whole = i64(P, 10)
    floats = f64(P, 10)
    now = D[CLOCK]
    for i in range(lo, hi):
        if D[LIVE] + 1 > D[LIMIT] or D[NEXT] + 1 > D[ROOM]:
            D[CLOCK] = now
            return i
        t = T[i] + START
        if t > now:
            now = t
            if D[BEGAN] == 0:
                D[BEGAN] = now
        k = 0
        if minor:
            x = whole[i]
            if x != NULL:
                k = identify(K, table, D, free, scatter(x, D[SEED]), x, now)
        else:
            y = floats[i]
            if y == y:
                x = bits(y)
                k = identify(K, table, D, free, scatter(x, D[SEED]), x, now)
        ids[i] = k
    D[CLOCK] = now
    return hi


def assign_lists(P, lo, hi):
    """Ids of the elements of a list column. Slot 10 offsets, 11 element hashes; ids out has one entry per element."""
    K = i64(P, 0)
    table = i64(P, 1)
    D = i64(P, 2)
    free = u32(P, 3)
    T = i64(P, 4)
    ids = u32(P, 5)
    offsets = i64(P, 10)
    elements = i64(P, 11)
    now = D[CLOCK]
    for i in range(lo, hi):
        m = offsets[i + 1] - offsets[i]
        if D[LIVE] + m > D[LIMIT] or D[NEXT] + m > D[ROOM]:
            D[CLOCK] = now
            return i
        t = T[i] + START
        if t > now:
            now = t
            if D[BEGAN] == 0:
                D[BEGAN] = now
        for j in range(offsets[i], offsets[i + 1]):
            a = elements[2 * j]
            b = elements[2 * j + 1]
            k = 0
            if a != 0 or b != 0:
                k = identify(K, table, D, free, a, b, now)
            ids[j] = k
    D[CLOCK] = now
    return hi


def replaced(P, lo, hi):
    """For each label event, the sequence number + 1 of the label it replaces (0: none). Slots as `assign`, and
    5 out (int64), 7 sequence number of row 0, 9 event types, 10 hashes of the judged event."""
    K = i64(P, 0)
    table = i64(P, 1)
    D = i64(P, 2)
    free = u32(P, 3)
    T = i64(P, 4)
    out = i64(P, 5)
    seq0 = num(P, 7)
    types = i16(P, 9)
    judged = i64(P, 10)
    now = D[CLOCK]
    for i in range(lo, hi):
        if D[LIVE] + 1 > D[LIMIT] or D[NEXT] + 1 > D[ROOM]:
            D[CLOCK] = now
            return i
        t = T[i] + START
        if t > now:
            now = t
            if D[BEGAN] == 0:
                D[BEGAN] = now
        out[i] = 0
        if types[i] == 0 and (judged[2 * i] != 0 or judged[2 * i + 1] != 0):
            k = identify(K, table, D, free, judged[2 * i], judged[2 * i + 1], now)
            out[i] = K[k * IDENTITY + 3]
            K[k * IDENTITY + 3] = seq0 + i + 1
    D[CLOCK] = now
    return hi


def name_values(P, lo, hi):
    """String features: from the id a window kernel wrote to the value's hash. Block: 0 identities, 1 ids (float64), 2 out."""
    K = i64(P, 0)
    ids = f64(P, 1)
    out = i64(P, 2)
    for i in range(lo, hi):
        k = 0
        if ids[i] == ids[i]:
            k = I(ids[i])
        out[2 * i] = K[k * IDENTITY]
        out[2 * i + 1] = K[k * IDENTITY + 1]
    return hi
