"""What a feature's value usually is: its median and 99th percentile among events of one type, from one event in sixteen.

Evidence shows them beside the value that made a rule fire. Each pair of event type and feature has one histogram with sixteen
bins per doubling (whole numbers up to 16 exact, above that within 6 %), so memory is bounded and nothing of a single event is
kept. Where fewer than 20 different entities stand behind a histogram nothing is told: it would be about them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from shopward.batch import LABEL

if TYPE_CHECKING:
    from shopward.batch import Batch
    from shopward.declare.rulebook import Rulebook

K_ANONYMOUS = 20  # entities behind what is told
FEWEST = 50  # values behind it
PUBLISH_EVERY = 1 << 16  # events after which what is told is worked out anew
SAMPLED = 16
MOST_PAIRS = 4096  # of event type and feature
MOST_SEEN = 1 << 20  # values in one histogram; then all its counts are halved, so that it follows the times
SUB, LOWEST, HIGHEST = 16, -16, 46  # bins a doubling; exponents of two
ZERO, NEGATIVE = 0, 1
BINS = 2 + SUB * (HIGHEST - LOWEST)
_ODD = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: spreads consecutive numbers evenly (D. Knuth, TAOCP 6.4)
_WORD = (1 << 64) - 1


@njit(nogil=True, cache=True)
def _bin(value):
    if value <= 0.0:
        return ZERO if value == 0.0 else NEGATIVE
    if value > 1e300:
        return BINS - 1
    mantissa, exponent = math.frexp(value)
    at = (exponent - LOWEST) * SUB + int((mantissa - 0.5) * 2 * SUB)
    return 2 + min(max(at, 0), BINS - 3)


@njit(nogil=True, cache=True)
def _add(rows, types, values, entity_of, entities, slot, used, counts, total, seen, distinct):
    """Count the values of the rows; returns how many pairs are in use. Pairs beyond the room there is are left out."""
    for i in range(len(rows)):
        row = rows[i]
        for f in range(values.shape[0]):
            value, who = values[f, row], entity_of[f]
            if value != value or who < 0 or entities[who, i] == 0:
                continue
            at = slot[types[row], f]
            if at < 0:
                if used == len(counts):
                    continue
                at = slot[types[row], f] = used
                used += 1
            counts[at, _bin(value)] += 1
            total[at] += 1
            if total[at] >= MOST_SEEN:
                total[at] = 0
                for b in range(counts.shape[1]):
                    counts[at, b] >>= 1
                    total[at] += counts[at, b]
            if distinct[at] < K_ANONYMOUS:
                known = False
                for d in range(distinct[at]):
                    known |= seen[at, d] == entities[who, i]
                if not known:
                    seen[at, distinct[at]] = entities[who, i]
                    distinct[at] += 1
    return used


class Usual:
    """Learns from a stream what is usual; `shown` holds what is told of it: (event type, feature) -> (median, 99th percentile).

    What is told changes at `publish` only, by itself every 65,536 events.
    """

    def __init__(self, rulebook: Rulebook):
        self.types, self.features = rulebook.schema.types, tuple(rulebook.features)
        self.shown: dict[tuple[str, str], tuple[float, float]] = {}
        roles = [_role(rulebook, name) for name in self.features]
        self.roles = tuple(dict.fromkeys(role for role in roles if role is not None))
        places = [-1 if role is None else self.roles.index(role) for role in roles]
        self._entity_of = np.array(places, np.int64)
        pairs = min(len(self.types) * len(self.features), MOST_PAIRS)
        self._slot = np.full((len(self.types), len(self.features)), -1, np.int64)
        self._counts, self._total = np.zeros((pairs, BINS), np.uint32), np.zeros(pairs, np.int64)
        self._seen, self._distinct = np.zeros((pairs, K_ANONYMOUS), np.int64), np.zeros(pairs, np.int64)
        self._used = 0
        self._next = _sampled(0)
        self._publish_at = PUBLISH_EVERY

    def watch(self, batch: Batch, values: np.ndarray) -> None:
        """Learn from a batch; `values` float64[features, n] are its features in the rulebook's order. Which rows count depends on
        their seq alone, so batches may be cut anywhere.
        """
        stop = batch.seq0 + batch.n
        if self._next < batch.seq0:
            self._next = _sampled(batch.seq0)
        if self._next < stop:
            rows = np.flatnonzero(_sampled_rows(batch.seq0, batch.n) & (batch.types != LABEL))
            if len(rows) and len(self.features):
                self._learn(rows, batch, values)
            self._next = _sampled(stop)
        if stop >= self._publish_at:
            self.publish()
            self._publish_at = stop - stop % PUBLISH_EVERY + PUBLISH_EVERY

    def publish(self) -> None:
        """Work out what is told from now on."""
        self.shown.clear()
        quantiles = _quantiles(self._counts[: self._used])
        behind = (self._distinct >= K_ANONYMOUS) & (self._total >= FEWEST)
        for code, feature in np.argwhere(self._slot >= 0).tolist():
            at = self._slot[code, feature]
            low, high = quantiles[at].tolist()
            if behind[at] and low == low:
                self.shown[self.types[code], self.features[feature]] = (low, high)

    def snapshot(self) -> dict[str, np.ndarray]:
        """What was learnt, as arrays."""
        n = self._used
        return {"slot": self._slot, "counts": self._counts[:n], "total": self._total[:n], "seen": self._seen[:n],
                "distinct": self._distinct[:n]}  # fmt: skip

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take that back; arrays of other event types or features are left alone."""
        if "slot" not in arrays or arrays["slot"].shape != self._slot.shape:
            return
        self._slot = np.array(arrays["slot"])
        n = self._used = len(arrays["total"])
        mine: dict[str, np.ndarray] = {
            "counts": self._counts,
            "total": self._total,
            "seen": self._seen,
            "distinct": self._distinct,
        }
        for name, array in mine.items():
            array[:n] = arrays[name]

    def _learn(self, rows: np.ndarray, batch: Batch, values: np.ndarray) -> None:
        entities = np.array([_keys(batch, role, rows) for role in self.roles], np.int64).reshape(
            len(self.roles), len(rows)
        )
        self._used = _add(
            rows, batch.types, values, self._entity_of, entities, self._slot, self._used, self._counts, self._total, self._seen,
            self._distinct,
        )  # fmt: skip


def _role(rulebook: Rulebook, name: str) -> str | None:
    """The field whose values are the entities a feature is about: its own, that of what it is made of, else the first role."""
    found = _first_key(rulebook, name)
    return found if found is not None else next(iter(rulebook.schema.roles), None)


def _first_key(rulebook: Rulebook, name: str) -> str | None:
    feature = rulebook.features.get(name)
    if feature is None:
        return None
    return (
        feature.entity[0]
        if feature.entity
        else next((r for n in feature.reads if (r := _first_key(rulebook, n))), None)
    )


def _keys(batch: Batch, role: str, rows: np.ndarray) -> np.ndarray:
    """One integer a row that names the entity; 0 where there is none."""
    if role in batch.hashes:
        return batch.hashes[role][rows, 0]
    if role in batch.numbers:
        numbers = np.ascontiguousarray(batch.numbers[role][rows])
        return np.where(np.isnan(numbers), 0, numbers.view(np.int64))
    return np.zeros(len(rows), np.int64)


def _sampled_rows(seq0: int, n: int) -> np.ndarray:
    seqs = np.arange(seq0, seq0 + n, dtype=np.uint64)
    return (seqs * np.uint64(_ODD)) >> np.uint64(60) == 0


def _sampled(seq: int) -> int:
    """The first seq from this one on that counts.

    >>> [_sampled(0), _sampled(1)]
    [0, 13]
    """
    while (seq * _ODD & _WORD) >> 60:
        seq += 1
    return seq


def _quantiles(counts: np.ndarray) -> np.ndarray:
    """float64[pairs, 2]: the lower edges of the bins that hold the median and the 99th percentile; NaN for negative ones."""
    order = np.array([NEGATIVE, ZERO, *range(2, BINS)])
    running = np.cumsum(counts[:, order], axis=1, dtype=np.int64)
    places = [(running < part * running[:, -1:]).sum(axis=1) for part in (0.5, 0.99)]
    exponent, sub = np.divmod(np.arange(BINS - 2), SUB)
    edges = np.array([np.nan, 0.0, *(2.0 ** (exponent + LOWEST) * (0.5 + sub / (2 * SUB)))])
    return edges[np.column_stack(places)]
