"""A micro-batch: events in arrival order, as columns. Data enters every engine in this one shape.

A batch holds only the columns a rulebook needs; everything else of an event stays in `records` (its JSON form), which is what
the log keeps. One event is a batch of one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

NULL = np.iinfo(np.int64).min  # a missing value in `minor`
LABEL = 0  # the type code of label events; every schema has it first
LATENESS_MS = 3_600_000  # how far behind the clock an event's time may lie (design: 1 h)
SKEW_MS = 300_000  # how far ahead (5 min)


@dataclass(slots=True)
class Batch:
    """Columns of `n` events in arrival order.

    seq0      sequence number of row 0; row i has seq0 + i
    t         int64[n], stamped time: `ts` clamped to [clock - lateness, clock + skew], ms UTC
    ts        int64[n], the event's own time, ms UTC
    types     int16[n], index into `schema.types` (LABEL = 0 is `label`)
    numbers   field -> float64[n]; number, bool (0/1) and time (ms) fields, and money in major units; NaN is null
    minor     field -> int64[n]; money and decimal(n) fields as integers of minor units; NULL is null
    hashes    field -> int64[n, 2]; seeded 128-bit hash of string fields; (0, 0) is null.  Lists: see `lists`
    lists     field -> (offsets int64[n + 1], hashes int64[m, 2]); list-of-string fields
    event_ids list of str, echoed as given
    text      text(field) -> list of str | None, the strings themselves, decoded on demand
    records   records() -> list of dict, the whole events (flattened, typed, unknown fields kept), decoded on demand
    """

    n: int
    seq0: int
    t: np.ndarray
    ts: np.ndarray
    types: np.ndarray
    event_ids: list[str]
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    minor: dict[str, np.ndarray] = field(default_factory=dict)
    hashes: dict[str, np.ndarray] = field(default_factory=dict)
    lists: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    text: Callable[[str], list[str | None]] = lambda name: []
    records: Callable[[], list[dict]] = list


@dataclass(frozen=True, slots=True)
class Needs:
    """Which columns a rulebook reads, so that a reader decodes nothing else.

    >>> both = Needs(numbers=frozenset({"amount"}), hashes=frozenset({"account"})) | Needs(hashes=frozenset({"card"}))
    >>> sorted(both.numbers), sorted(both.hashes)
    (['amount'], ['account', 'card'])
    """

    numbers: frozenset[str] = frozenset()
    minor: frozenset[str] = frozenset()
    hashes: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()
    text: frozenset[str] = frozenset()  # string fields whose characters are read (functions such as `contains`)

    def __or__(self, other: Needs) -> Needs:
        return Needs(*(getattr(self, s) | getattr(other, s) for s in ("numbers", "minor", "hashes", "lists", "text")))
