"""Allow, block and watch lists: who is on which list at what moment.

A list entry says: this key is on this list from `valid_from` until just before `expires` (times in ms UTC; None is for good), and
who said so. Membership is always asked as of an event's time, in live decisions and in backtests alike.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

FOREVER = np.iinfo(np.int64).max
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


def key_text(key: Key) -> str:
    """The text under which a key is kept in tables; `key_of` turns it back.

    >>> key_text("d1"), key_of(key_text(("a1", "s9")))
    ('d1', ('a1', 's9'))
    """
    return key if isinstance(key, str) else PART.join(key)


def key_of(text: str) -> Key:
    return tuple(text.split(PART)) if PART in text else text


class ListIndex:
    """Every list in memory, for the path of a decision.

    The union of a key's entries is kept as spans that do not touch, so asking is one dictionary look and (almost always) two
    comparisons, however often the key was written.

    >>> index = ListIndex()
    >>> index.add("blocked", "d1", 1000, 5000)
    >>> [index.contains("blocked", "d1", t) for t in (999, 1000, 4999, 5000)]
    [False, True, True, False]
    >>> index.remove("blocked", "d1", 3000)
    >>> index.contains_many("blocked", ["d1", "d1", None, "d2"], [2999, 3000, 2000, 2000]).tolist()
    [True, False, False, False]
    """

    def __init__(self, entries: Iterable[Entry] = ()):
        self._lists: dict[str, dict[Key, tuple[int, ...]]] = {}  # list -> key -> (from, until, from, until, ...)
        self.apply(entries)

    def apply(self, entries: Iterable[Entry]) -> None:
        """Take entries in the order in which they were written."""
        for entry in entries:
            if entry.remove:
                self.remove(entry.list, entry.key, entry.valid_from)
            else:
                self.add(entry.list, entry.key, entry.valid_from, entry.expires)

    def add(self, list: str, key: Key, valid_from: int = -FOREVER, expires: int | None = None) -> None:
        """Put a key on a list for [valid_from, expires)."""
        until = FOREVER if expires is None else expires
        if until > valid_from:
            keys = self._lists.setdefault(list, {})
            spans = keys.get(key)
            keys[key] = (valid_from, until) if spans is None else _union(spans, valid_from, until)

    def remove(self, list: str, key: Key, t: int | None = None) -> None:
        """Take a key off a list from `t` on, whatever was said about it before; without `t` as if it had never been there."""
        keys = self._lists.get(list, {})
        spans = () if t is None else _until(keys.get(key, ()), t)
        if spans:
            keys[key] = spans
        else:
            keys.pop(key, None)

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

    def entries(self) -> list[dict[str, Any]]:
        """Everything that is or was on a list, as dicts of list, key, valid_from, expires: what a snapshot keeps.

        >>> ListIndex([Entry(list="l", key="k", valid_from=5)]).entries()
        [{'list': 'l', 'key': 'k', 'valid_from': 5, 'expires': None}]
        """
        return [
            {"list": name, "key": key, "valid_from": start, "expires": None if stop == FOREVER else stop}
            for name, keys in self._lists.items()
            for key, spans in keys.items()
            for start, stop in zip(spans[::2], spans[1::2], strict=True)
        ]

    def names(self) -> tuple[str, ...]:
        """The lists that hold anything."""
        return tuple(name for name, keys in self._lists.items() if keys)

    def size(self, list: str) -> int:
        """How many keys are or were on a list."""
        return len(self._lists.get(list, ()))

    def forget_before(self, t: int) -> int:
        """Drop what ended before `t`, which no event can ask about any more; returns how many keys left."""
        gone = 0
        for keys in self._lists.values():
            over = [key for key, spans in keys.items() if spans[-1] <= t]
            gone += len(over)
            for key in over:
                del keys[key]
        return gone


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
