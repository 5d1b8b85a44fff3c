"""The last events of each entity, as they stood when an event was decided on: what a sequence network reads.

    batches in arrival order -> one ring of the last `steps` events per entity -> float32[events, steps + 1, values]

Only strictly earlier events of the entity are shown, and no labels at all: what became of them is left to the features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

MOST_ENTITIES = 1_000_000  # whose events are remembered; beyond, those not seen for longest are forgotten
STEPS = 16


@dataclass(frozen=True, slots=True)
class Past:
    """Whose history is read and what of it: `names` of fields (texts by place in `texts`), and which `roles` were the same as now."""

    entity: str
    names: tuple[str, ...]
    roles: tuple[str, ...] = ()
    steps: int = STEPS
    texts: Mapping[str, Sequence[str]] | None = None


class History:
    """Rings of the last events of entities.

    >>> h = History(steps=2, values=1, roles=0)
    >>> none = np.empty((3, 0), np.int64)
    >>> seen = h.take(np.array([7, 7, 7]), np.array([0, 1000, 1000]), np.array([[5.0], [6.0], [8.0]]), none, np.ones(3, bool))
    >>> seen[2, :, 2].tolist()  # what is older than a second: the first event; the second one is not strictly earlier
    [nan, 5.0, 8.0]
    """

    def __init__(self, steps: int, values: int, roles: int):
        self.slots: dict[int, int] = {}
        self.steps, self.width = steps, 2 + values + roles
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
        at = self._places(keys)
        _walk(at, ts, values.astype(np.float32), others, keep, self.count, self.ts, self.values, self.others, out)
        return out

    def _places(self, keys: np.ndarray) -> np.ndarray:
        """The ring of each event, -1 without an entity."""
        found, where = np.unique(keys, return_inverse=True)
        if len(self.slots) + len(found) > MOST_ENTITIES:
            self._forget()
        rings = [-1 if key == 0 else self.slots.setdefault(key, len(self.slots)) for key in found.tolist()]
        if len(self.slots) > len(self.count):
            self._resize(np.arange(len(self.count)), 2 * len(self.slots))
        return np.array(rings, np.int64)[where]

    def _forget(self) -> None:
        """Drop the half of the entities that were not seen for longest."""
        many = len(self.slots)
        last = self.ts[np.arange(many), (self.count[:many] - 1) % self.steps]
        kept = np.sort(np.argsort(last, kind="stable")[many // 2 :])
        place = {old: new for new, old in enumerate(kept.tolist())}
        self.slots = {key: place[old] for key, old in self.slots.items() if old in place}
        self._resize(kept, len(self.count))

    def _resize(self, kept: np.ndarray, rows: int) -> None:
        for name in ("count", "ts", "values", "others"):
            old = getattr(self, name)
            new = np.zeros((rows, *old.shape[1:]), old.dtype)
            new[: len(kept)] = old[kept]
            setattr(self, name, new)


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
