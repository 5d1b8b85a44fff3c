"""The last events of each entity, as they stood when an event was decided on: what a sequence network reads.

    batches in arrival order -> one ring of the last `steps` events per entity -> float32[events, steps + 1, values]

Only strictly earlier events of the entity are shown, and no labels at all: what became of them is left to the features. What is shown
and what is remembered follow from the order of events alone, never from how they were cut into batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numba import njit

MOST_ENTITIES = 1_000_000  # whose events are remembered; the next one makes the half forgotten not seen for longest
ROOM = 1 << 30  # bytes of one history: where events are wide, fewer entities are remembered
PLACE = 140  # bytes of an entity's place in a dict
STEPS = 16


@dataclass(frozen=True, slots=True)
class Past:
    """Whose history is read and what of it: `names` of fields (texts by place in `texts`), and which `roles` were the same as now."""

    entity: str
    names: tuple[str, ...]
    roles: tuple[str, ...] = ()
    steps: int = STEPS
    texts: Mapping[str, Sequence[str]] | None = None

    @property
    def width(self) -> int:
        """Values of an event: two times, its own values, and whether its roles were the same."""
        return 2 + len(self.names) + len(self.roles)

    @property
    def feature(self) -> str:
        """What reasons call it."""
        return f"{self.entity}_history"

    @property
    def meaning(self) -> str:
        """A hash of what is remembered: equal ones share a history."""
        texts = sorted((name, tuple(known)) for name, known in (self.texts or {}).items())
        said = repr((self.entity, self.names, self.roles, self.steps, texts))
        return sha256(said.encode()).hexdigest()[:16]


def past_of(about: Mapping[str, Any] | None) -> Past | None:
    """What a model reads by its description (`sequence` in its `model.json`); None where its network has no say."""
    if about is None or not about["share"]:
        return None
    return Past(about["entity"], tuple(about["names"]), tuple(about["roles"]), about["steps"], about["texts"])


class History:
    """Rings of the last events of entities.

    >>> h = History(steps=2, values=1, roles=0)
    >>> none = np.empty((3, 0), np.int64)
    >>> seen = h.take(np.array([7, 7, 7]), np.array([0, 1000, 1000]), np.array([[5.0], [6.0], [8.0]]), none, np.ones(3, bool))
    >>> seen[2, :, 2].tolist()  # what is older than a second: the first event; the second one is not strictly earlier
    [nan, 5.0, 8.0]
    """

    def __init__(self, steps: int, values: int, roles: int):
        self.slots: dict[int, int] = {}  # in the order of the rings
        self.steps, self.width = steps, 2 + values + roles
        self.each = PLACE + 8 + steps * (8 + 4 * values + 8 * roles)  # bytes of an entity
        self.most = min(MOST_ENTITIES, ROOM // self.each)
        self.count = np.zeros(1024, np.int64)
        self.ts = np.zeros((1024, steps), np.int64)
        self.values = np.zeros((1024, steps, values), np.float32)
        self.others = np.zeros((1024, steps, roles), np.int64)

    def take(
        self, keys: np.ndarray, ts: np.ndarray, values: np.ndarray, others: np.ndarray, keep: np.ndarray
    ) -> np.ndarray:
        """Remember n events and return the past of those to keep: float32[m, steps + 1, 2 + values + roles], oldest first.

        keys    int64[n] the entity (0: none)         values  float[n, v] of each event
        others  int64[n, r] hashes of its other roles  keep   bool[n]
        The last step is the event itself. First come log seconds since then, and since the event before; NaN rows are no event.
        """
        out = np.full((int(keep.sum()), self.steps + 1, self.width), np.nan, np.float32)
        values = np.where(np.isnan(values), np.nan, values).astype(np.float32)  # one bit pattern for what is missing
        lo = row = 0
        while lo < len(keys):
            places = self._places(keys[lo:])
            now = slice(lo, lo + len(places))
            rings = self.count, self.ts, self.values, self.others
            _walk(places, ts[now], values[now], others[now], keep[now], *rings, out[row:])
            row, lo = row + int(keep[now].sum()), now.stop
            if lo < len(keys):
                self._forget()
        return out

    def _places(self, keys: np.ndarray) -> np.ndarray:
        """The ring of each event, -1 without an entity; only up to the first entity that finds no room."""
        slots, places = self.slots, []
        for key in keys.tolist():
            if key and key not in slots:
                if len(slots) == self.most:
                    break
                slots[key] = len(slots)
            places.append(slots[key] if key else -1)
        if len(slots) > len(self.count):
            self._resize(np.arange(len(self.count)), min(2 * len(slots), self.most))
        return np.array(places, np.int64)

    def _forget(self) -> None:
        """Drop the half of the entities that were not seen for longest."""
        many = len(self.slots)
        last = self.ts[np.arange(many), (self.count[:many] - 1) % self.steps]
        kept = np.sort(np.argsort(last, kind="stable")[(many + 1) // 2 :])
        keys = np.fromiter(self.slots, np.int64, many)[kept].tolist()
        self.slots = {key: place for place, key in enumerate(keys)}
        self._resize(kept, len(self.count))

    def _resize(self, kept: np.ndarray, rows: int) -> None:
        for name in ARRAYS:
            old = getattr(self, name)
            new = np.zeros((rows, *old.shape[1:]), old.dtype)
            new[: len(kept)] = old[kept]
            setattr(self, name, new)

    # --- kept and restored

    def parts(self) -> dict[str, np.ndarray]:
        """All that is remembered, as arrays (views, until the next event): equal for equal streams."""
        many = len(self.slots)
        return {"keys": np.fromiter(self.slots, np.int64, many)} | {n: getattr(self, n)[:many] for n in ARRAYS}

    def fill(self, parts: dict[str, np.ndarray]) -> None:
        """Become what `parts` told."""
        self.slots = {key: place for place, key in enumerate(parts["keys"].tolist())}
        many = len(self.slots)
        for name in ARRAYS:
            setattr(self, name, parts[name].reshape(many, *getattr(self, name).shape[1:]))
        self._resize(np.arange(many), max(min(2 * many, self.most), 1024))

    def memory(self) -> int:
        """Bytes in use, about."""
        return len(self.slots) * self.each


ARRAYS = ("count", "ts", "values", "others")


@njit(cache=True, nogil=True)
def _walk(at, ts, values, others, keep, count, ring_ts, ring_values, ring_others, out):
    steps, v, r, row = ring_ts.shape[1], values.shape[1], others.shape[1], 0
    for i in range(len(at)):
        s = at[i]
        if keep[i]:
            out[row, steps, 0] = out[row, steps, 1] = 0.0
            out[row, steps, 2 : 2 + v] = values[i]
            out[row, steps, 2 + v :] = 1.0
            place, newer = steps, ts[i]
            for j in range(min(count[s], steps) if s >= 0 else 0):
                e = (count[s] - 1 - j) % steps
                if ring_ts[s, e] >= ts[i]:
                    continue
                out[row, place, 1] = np.log1p(abs(newer - ring_ts[s, e]) / 1000.0)
                place, newer = place - 1, ring_ts[s, e]
                out[row, place, 0] = np.log1p((ts[i] - newer) / 1000.0)
                out[row, place, 1] = 0.0
                out[row, place, 2 : 2 + v] = ring_values[s, e]
                for k in range(r):
                    out[row, place, 2 + v + k] = ring_others[s, e, k] == others[i, k] and others[i, k] != 0
            row += 1
        if s >= 0:
            e = count[s] % steps
            ring_ts[s, e], ring_values[s, e], ring_others[s, e] = ts[i], values[i], others[i]
            count[s] += 1
