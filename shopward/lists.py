"""Allow, block and watch lists: who is on which list at what moment.

A list entry says: this key is on this list from `valid_from` until just before `expires` (times in ms UTC; None is for good), and
who said so. Membership is always asked as of an event's time, in live decisions and in backtests alike.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np

from shopward.hashing import canonical_text

FOREVER = np.iinfo(np.int64).max
MOST_SAID = 16  # overlapping entries of one key that are told apart
PART = "\x1f"  # between the parts of a composite key, as text
Key = str | tuple[str, ...]  # what is on a list: one value, or the parts of a composite key


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One key on one list for a while.

    `provenance` is who put it there (`rule:card_testing`, `analyst:kim`, `file:bins.csv`); `seq` is the event that caused it
    (-1: none). `remove` ends every earlier entry of that key at `valid_from` instead of adding one.

    >>> Entry(list="blocked_devices", key="d1", valid_from=1000, expires=5000, provenance="rule:ring").covers(5000)
    False
    """

    list: str
    key: Key
    valid_from: int
    expires: int | None = None
    provenance: str = ""
    seq: int = -1
    remove: bool = False

    def covers(self, t: int) -> bool:
        return not self.remove and self.valid_from <= t < (FOREVER if self.expires is None else self.expires)

    def as_dict(self) -> dict[str, Any]:
        """The entry as the log and snapshots keep it.

        >>> Entry(list="watch", key="a1", valid_from=5, seq=7).as_dict()
        {'list': 'watch', 'key': 'a1', 'valid_from': 5, 'expires': None, 'provenance': '', 'seq': 7, 'remove': False}
        """
        return msgspec.structs.asdict(self)

    @classmethod
    def of(cls, row: dict[str, Any]) -> Entry:
        """The entry of such a dict, also after it went through JSON or msgpack."""
        given = {name: row[name] for name in cls.__struct_fields__ if name in row}
        key = given["key"]
        return cls(**given | {"key": tuple(map(canonical_text, key)) if isinstance(key, list) else key})


def key_text(key: Key) -> str:
    """The text under which a key is kept in tables; `key_of` turns it back.

    >>> key_text("d1"), key_of(key_text(("a1", "s9")))
    ('d1', ('a1', 's9'))
    """
    return key if isinstance(key, str) else PART.join(key)


def key_of(text: str) -> Key:
    return tuple(text.split(PART)) if PART in text else text


class Stay(NamedTuple):
    """How long a key is on a list, and who says so. `removed` is the event that took it off early (-1: by hand; None: it ran out)."""

    valid_from: int
    until: int
    provenance: str = ""
    seq: int = -1
    removed: int | None = None


class Changes:
    """The keys of one list that were written since somebody last looked; past a limit it only knows that there were many."""

    def __init__(self) -> None:
        self._keys: set[Key] | None = None  # None: any

    def add(self, key: Key, most: int) -> None:
        if self._keys is not None:
            self._keys.add(key)
            if len(self._keys) > most:
                self._keys = None

    def take(self) -> set[Key] | None:
        """Those keys, from now on none; None when it may be any key."""
        keys, self._keys = self._keys, set()
        return keys


class ListIndex:
    """Every list in memory, for the path of a decision.

    The union of a key's entries is kept as spans that do not touch, so asking is one dictionary look and (almost always) two
    comparisons, however often the key was written. Who said it is kept beside, for people.

    What an event caused (`seq` >= 0) holds for every event after it in arrival order. Late ones among them are older by their own
    time, at most by `slack`: so much earlier such an entry begins to match. `valid_from` itself stays the time of the cause.

    >>> index = ListIndex(slack=600)
    >>> index.add("blocked", "d1", 1000, 5000)
    >>> [index.contains("blocked", "d1", t) for t in (999, 1000, 4999, 5000)]
    [False, True, True, False]
    >>> index.remove("blocked", "d1", 3000)
    >>> index.contains_many("blocked", ["d1", "d1", None, "d2"], [2999, 3000, 2000, 2000]).tolist()
    [True, False, False, False]
    >>> index.add("blocked", "d2", 1000, provenance="rule:ring", seq=7)
    >>> index.contains("blocked", "d2", 400), index.said("blocked", "d2", 400).provenance
    (True, 'rule:ring')
    """

    def __init__(self, entries: Iterable[Entry] = (), slack: int = 0):
        self.slack = slack
        self._lists: dict[str, dict[Key, tuple[int, ...]]] = {}  # list -> key -> (from, until, from, until, ...)
        self._stays: dict[str, dict[Key, tuple[Stay, ...]]] = {}  # list -> key -> what was said, in order of time
        self._watched: dict[str, list[Changes]] = {}
        self.apply(entries)

    def apply(self, entries: Iterable[Entry]) -> None:
        """Take entries in the order in which they were written."""
        for entry in entries:
            if entry.remove:
                self.remove(entry.list, entry.key, entry.valid_from, entry.seq)
            else:
                self.add(entry.list, entry.key, entry.valid_from, entry.expires, entry.provenance, entry.seq)

    def add(
        self,
        list: str,
        key: Key,
        valid_from: int = -FOREVER,
        expires: int | None = None,
        provenance: str = "",
        seq: int = -1,
    ) -> None:
        """Put a key on a list for [valid_from, expires)."""
        until = FOREVER if expires is None else expires
        if until > valid_from:
            self._put(list, key, Stay(valid_from, until, provenance, seq))

    def remove(self, list: str, key: Key, t: int | None = None, seq: int = -1) -> None:
        """Take a key off a list from `t` on, whatever was said about it before; without `t` as if it had never been there."""
        keys, stays = self._lists.get(list, {}), self._stays.get(list, {})
        end = None if t is None else self._matches_from(t, seq)
        spans = () if end is None else _until(keys.get(key, ()), end)
        if t is not None and end is not None and spans:
            keys[key] = spans
            stays[key] = tuple(self._ended(s, t, end, seq) for s in stays[key] if self._begins(s) < end)
        else:
            keys.pop(key, None)
            stays.pop(key, None)
        self._changed(list, key)

    def restore(self, rows: Iterable[dict[str, Any]]) -> None:
        """Take back what `entries` gave, also after it went through JSON or msgpack."""
        for row in rows:
            key, until = row["key"], row["expires"]
            stay = Stay(
                row["valid_from"], FOREVER if until is None else until, row.get("provenance", ""), row.get("seq", -1),
                row.get("removed"),
            )  # fmt: skip
            self._put(row["list"], key if isinstance(key, str) else tuple(key), stay)

    def said(self, list: str, key: Key, t: int) -> Entry | None:
        """Why a key is on a list at time t: of the entries that hold, the one that began last."""
        found = [s for s in self._stays.get(list, {}).get(key, ()) if self._begins(s) <= t < self._stops(s)]
        return _entry(list, key, found[-1]) if found else None

    def _put(self, list: str, key: Key, stay: Stay) -> None:
        keys, stays = self._lists.setdefault(list, {}), self._stays.setdefault(list, {})
        start, stop = self._begins(stay), self._stops(stay)
        spans = keys.get(key)
        keys[key] = (start, stop) if spans is None else _union(spans, start, stop)
        stays[key] = _joined(stays.get(key, ()), stay)
        self._changed(list, key)

    def watch(self, list: str) -> Changes:
        """What is written to a list from now on; at first any key may be new.

        >>> index = ListIndex()
        >>> changes = index.watch("blocked")
        >>> index.add("blocked", "d1", 5)
        >>> changes.take(), changes.take()
        (None, set())
        >>> index.add("blocked", "d2", 5)
        >>> changes.take(), index.spans("blocked")["d2"] == (5, FOREVER)
        ({'d2'}, True)
        """
        self._watched.setdefault(list, []).append(changes := Changes())
        return changes

    def spans(self, list: str) -> Mapping[Key, tuple[int, ...]]:
        """When each key is on a list: (from, until, from, until, ...) that do not touch."""
        return self._lists.get(list, {})

    def _changed(self, list: str, key: Key) -> None:
        for changes in self._watched.get(list, ()):
            changes.add(key, 1024 + 2 * len(self._lists.get(list, ())))

    def _matches_from(self, t: int, seq: int) -> int:
        return t - self.slack if seq >= 0 else t

    def _begins(self, stay: Stay) -> int:
        return self._matches_from(stay.valid_from, stay.seq)

    def _stops(self, stay: Stay) -> int:
        return stay.until if stay.removed is None else self._matches_from(stay.until, stay.removed)

    def _ended(self, stay: Stay, t: int, end: int, seq: int) -> Stay:
        return stay if self._stops(stay) <= end else stay._replace(until=t, removed=seq)

    def contains(self, list: str, key: Key | None, t: int) -> bool:
        """Is the key on the list at time t? A missing key and an unknown list are on nothing."""
        keys = self._lists.get(list)
        spans = keys.get(key) if keys is not None else None  # type: ignore[arg-type]
        if spans is None:
            return False
        if len(spans) == 2:
            return spans[0] <= t < spans[1]
        return bisect_right(spans, t) % 2 == 1

    def contains_many(self, list: str, keys: Sequence[Key | None], t: Sequence[int] | np.ndarray) -> np.ndarray:
        """The same for a column of keys and times, bool[n]."""
        out = np.zeros(len(keys), bool)
        found = self._lists.get(list)
        if not found:
            return out
        times = t.tolist() if isinstance(t, np.ndarray) else t
        for i, spans in enumerate(map(found.get, keys)):  # type: ignore[arg-type]
            if spans is not None:
                out[i] = bisect_right(spans, times[i]) % 2
        return out

    def entries(self, after: int = -FOREVER) -> list[dict[str, Any]]:
        """Everything that is or was on a list (and matches later than `after`), as dicts: what a snapshot keeps.

        >>> ListIndex([Entry(list="l", key="k", valid_from=5, provenance="analyst:kim")]).entries()
        [{'list': 'l', 'key': 'k', 'valid_from': 5, 'expires': None, 'provenance': 'analyst:kim', 'seq': -1, 'removed': None}]
        """
        return [
            {"list": name, "key": key, "valid_from": stay.valid_from, "expires": None if stay.until == FOREVER else stay.until,
             "provenance": stay.provenance, "seq": stay.seq, "removed": stay.removed}
            for name, keys in self._stays.items()
            for key, stays in keys.items()
            for stay in stays
            if self._stops(stay) > after
        ]  # fmt: skip

    def names(self) -> tuple[str, ...]:
        """The lists that hold anything."""
        return tuple(name for name, keys in self._lists.items() if keys)

    def size(self, list: str) -> int:
        """How many keys are or were on a list."""
        return len(self._lists.get(list, ()))

    def forget_before(self, t: int) -> int:
        """Drop what ended before `t`, which no event can ask about any more; returns how many keys left.

        Of keys that were listed again since, the old spans go.

        >>> index = ListIndex()
        >>> for day in range(1000):
        ...     index.add("watch", "d1", day * 10, day * 10 + 5, provenance="rule:ring")
        >>> index.forget_before(9_970), index.contains("watch", "d1", 9_972), len(index.entries())
        (0, True, 3)
        """
        gone = 0
        for name, keys in self._lists.items():
            over = [key for key, spans in keys.items() if spans[-1] <= t]
            gone += len(over)
            for key in over:
                del keys[key], self._stays[name][key]
                self._changed(name, key)
            for key, spans in [(key, spans) for key, spans in keys.items() if len(spans) > 2 and spans[1] <= t]:
                keys[key] = spans[2 * sum(stop <= t for stop in spans[1::2]) :]
                self._changed(name, key)
            self._forget_said(name, t)
        return gone

    def _forget_said(self, name: str, t: int) -> None:
        stays = self._stays[name]
        for key, said in [(key, said) for key, said in stays.items() if len(said) > 1]:
            stays[key] = tuple(stay for stay in said if self._stops(stay) > t)


def _entry(list: str, key: Key, stay: Stay) -> Entry:
    expires = None if stay.until == FOREVER else stay.until
    return Entry(
        list=list, key=key, valid_from=stay.valid_from, expires=expires, provenance=stay.provenance, seq=stay.seq
    )


def _joined(stays: tuple[Stay, ...], new: Stay) -> tuple[Stay, ...]:
    """Stays with one more; those that touch and were said by the same are one, so that repeating oneself costs nothing."""
    kept = []
    for stay in stays:
        same = stay.provenance == new.provenance and (stay.seq >= 0) == (new.seq >= 0)
        if (
            same
            and stay.removed is None is new.removed
            and stay.valid_from <= new.until
            and new.valid_from <= stay.until
        ):
            start, until = min(stay.valid_from, new.valid_from), max(stay.until, new.until)
            new = Stay(start, until, new.provenance, max(stay.seq, new.seq))
        else:
            kept.append(stay)
    found = sorted([*kept, new], key=_by_time)
    while len(found) > MOST_SAID and (pair := _mergeable(found)) is not None:
        a, b = found[pair], found[pair + 1]
        found[pair : pair + 2] = [b._replace(valid_from=a.valid_from, until=max(a.until, b.until))]
    return tuple(found)


def _mergeable(stays: Sequence[Stay]) -> int | None:
    """The first of two stays, one after the other, that can be told as one without changing when the key is listed."""
    for i, (a, b) in enumerate(pairwise(stays)):
        if a.removed is None is b.removed and (a.seq >= 0) == (b.seq >= 0) and b.valid_from <= a.until:
            return i
    return None


def _by_time(stay: Stay) -> tuple[int, int, str, int]:
    return stay.valid_from, stay.until, stay.provenance, stay.seq


def _union(spans: tuple[int, ...], start: int, stop: int) -> tuple[int, ...]:
    """Spans with [start, stop) added; spans that touch become one."""
    out: list[int] = []
    for a, b in zip(spans[::2], spans[1::2], strict=True):
        if b < start or a > stop:
            out += (a, b)
        else:
            start, stop = min(a, start), max(b, stop)
    pairs = sorted([*zip(out[::2], out[1::2], strict=True), (start, stop)])
    return tuple(edge for pair in pairs for edge in pair)


def _until(spans: tuple[int, ...], t: int) -> tuple[int, ...]:
    """Spans cut off at t."""
    return tuple(e for a, b in zip(spans[::2], spans[1::2], strict=True) if a < t for e in (a, min(b, t)))
