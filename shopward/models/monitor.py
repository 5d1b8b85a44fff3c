"""Watching a deployed model: do its features and scores still lie as in training, and what is its precision likely to be by now?

PSI and KS per feature against the profile on the card, ADWIN (Bifet & Gavalda 2007) for the moment at which the mean score changed, and
a performance estimate without labels: calibrated scores say themselves how many of the flagged events are fraud (as CBPE does).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Any

import numpy as np

from shopward.metrics import psi_of_counts

WATCH, ALARM = 0.1, 0.25  # the usual readings of PSI; `noise` below raises them for few rows


@dataclass(frozen=True, slots=True)
class Drift:
    """How far one feature (or `score`) has moved: PSI and KS against training, the share of missing values then and now."""

    name: str
    psi: float
    ks: float
    missing_then: float
    missing_now: float
    state: str  # fine | watch | alarm


def drift(
    profile: Mapping[str, Mapping[str, Sequence[float]]], matrix: np.ndarray, names: Sequence[str]
) -> list[Drift]:
    """Drift of every feature, the worst first; matrix float64[n, d] in the order of `names`. Less than 50 rows say nothing: [].

    >>> found = drift({"x": {"edges": [0.0], "shares": [0.5, 0.5, 0.0]}}, np.ones((100, 1)), ["x"])
    >>> found[0].state, found[0].ks
    ('alarm', 0.5)
    """
    if len(matrix) < 50:
        return []
    found = [_one(name, profile[name], matrix[:, k]) for k, name in enumerate(names) if name in profile]
    return sorted(found, key=lambda d: -d.psi)


def _one(name: str, then: Mapping[str, Sequence[float]], column: np.ndarray) -> Drift:
    edges, shares = np.array(then["edges"]), np.array(then["shares"])
    place = np.where(np.isnan(column), len(edges) + 1, np.searchsorted(edges, column, side="right"))
    counts = np.bincount(place, minlength=len(edges) + 2).astype(float)
    keep = (counts > 0) | (shares > 0)
    value = psi_of_counts(shares[keep] * len(column), counts[keep])
    now = counts / counts.sum()
    ks = float(
        np.abs(
            np.cumsum(now[:-1]) / max(now[:-1].sum(), 1e-12) - np.cumsum(shares[:-1]) / max(shares[:-1].sum(), 1e-12)
        ).max()
    )
    noise = 2 * (keep.sum() - 1) / len(column)  # what chance alone does to this many rows, doubled
    state = "alarm" if value > ALARM + noise else "watch" if value > WATCH + noise else "fine"
    return Drift(name, round(value, 5), round(ks, 5), round(float(shares[-1]), 5), round(float(now[-1]), 5), state)


def expected_precision(score: np.ndarray, flagged: np.ndarray) -> float:
    """The share of fraud among flagged events that calibrated scores promise; NaN when nothing is flagged.

    >>> expected_precision(np.array([0.9, 0.7, 0.1]), np.array([True, True, False]))
    0.8
    """
    return float(score[flagged].mean()) if flagged.any() else float("nan")


def expected_recall(score: np.ndarray, flagged: np.ndarray) -> float:
    """The share of all expected fraud that stands among flagged events."""
    total = float(score.sum())
    return float(score[flagged].sum() / total) if total > 0 else float("nan")


class Adwin:
    """A window over a stream of numbers in [0, 1] that forgets its older half when both halves' means differ more than chance allows.

    Buckets of growing size keep memory at O(log n); `delta` bounds the chance of a false alarm per cut.

    >>> watch = Adwin()
    >>> changes = [i for i in range(4000) if watch.add(0.2 if i < 2000 else 0.5)]
    >>> 2000 < changes[0] < 2200
    True
    """

    PER_SIZE = 5

    def __init__(self, delta: float = 0.002):
        self.delta = delta
        self.rows: list[list[tuple[float, float]]] = [
            []
        ]  # per level: (sum, sum of squares) of 2**level values, oldest first
        self.n, self.total, self.squares, self.ticks = 0, 0.0, 0.0, 0

    @property
    def mean(self) -> float:
        return self.total / self.n if self.n else 0.0

    def add(self, value: float) -> bool:
        """Take one value; True when the mean was found to have changed (and the past before it was dropped)."""
        self.rows[0].append((value, value * value))
        self.n, self.total, self.squares = self.n + 1, self.total + value, self.squares + value * value
        self._merge()
        self.ticks += 1
        return self.ticks % 32 == 0 and self.n > 64 and self._cut()

    def _merge(self) -> None:
        for level, row in enumerate(self.rows):
            if len(row) <= self.PER_SIZE:
                return
            (a, aa), (b, bb) = row.pop(0), row.pop(0)
            if level + 1 == len(self.rows):
                self.rows.append([])
            self.rows[level + 1].append((a + b, aa + bb))

    def _cut(self) -> bool:
        changed = False
        while self.n > 64 and self._differs():
            level = max(i for i, row in enumerate(self.rows) if row)
            s, q = self.rows[level].pop(0)
            self.n, self.total, self.squares = self.n - 2**level, self.total - s, self.squares - q
            changed = True
        return changed

    def _differs(self) -> bool:
        spread = max(self.squares / self.n - self.mean**2, 0.0)
        bound = log(2 * log(self.n) / self.delta)
        old_n, old = 0, 0.0
        for level in range(len(self.rows) - 1, -1, -1):
            for s, _ in self.rows[level]:
                old_n, old = old_n + 2**level, old + s
                new_n = self.n - old_n
                if old_n < 16 or new_n < 16:
                    continue
                m = 1 / (1 / old_n + 1 / new_n)
                if abs(old / old_n - (self.total - old) / new_n) > sqrt(2 / m * spread * bound) + 2 / (3 * m) * bound:
                    return True
        return False


def paired(
    fraud: np.ndarray, day: np.ndarray, champion: np.ndarray, challenger: np.ndarray, rounds: int = 2000, seed: int = 7
) -> dict[str, float]:
    """Challenger against champion on the same events: difference in average precision with a 95 % interval over resampled days.

    `p` is the share of resamples in which the challenger is not better. Days stay whole, since events of one day are alike.
    """
    from shopward.models.measure import average_precision

    days, place = np.unique(day, return_inverse=True)
    rows = [np.flatnonzero(place == i) for i in range(len(days))]
    each = [
        (average_precision(fraud[r], challenger[r]), average_precision(fraud[r], champion[r]))
        for r in rows
        if fraud[r].any()
    ]
    gain = np.array([a - b for a, b in each])
    whole = average_precision(fraud, challenger) - average_precision(fraud, champion)
    if len(gain) < 2:
        return {
            "difference": whole,
            "low": float("nan"),
            "high": float("nan"),
            "p": float("nan"),
            "days": float(len(gain)),
        }
    rng = np.random.default_rng(seed)
    means = gain[rng.integers(0, len(gain), (rounds, len(gain)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {
        "difference": float(gain.mean()),
        "low": float(low),
        "high": float(high),
        "p": float((means <= 0).mean()),
        "days": float(len(gain)),
        "overall": float(whole),
    }


def report(meta: Mapping[str, Any], matrix: np.ndarray, score: np.ndarray) -> dict[str, Any]:
    """What `shopward model monitor` says: drift per feature, of the score, and what precision to expect at 1 % of events flagged."""
    found = drift(meta["profile"], matrix, meta["features"])
    flagged = score >= np.quantile(score, 0.99) if len(score) else np.zeros(0, bool)
    watch = Adwin()
    changes = [i for i, s in enumerate(score.tolist()) if not np.isnan(s) and watch.add(min(s, 1.0))]
    worst = [d.name for d in found if d.state == "alarm"]
    return {
        "model": meta["name"], "version": meta["version"], "events": len(score), "drift": [_as_dict(d) for d in found],
        "score_changes_at": changes[:20], "mean_score": float(np.nanmean(score)) if len(score) else None,
        "trained_fraud_rate": meta["metrics"].get("fraud_rate"), "expected_precision_top_1%": expected_precision(score, flagged),
        "expected_recall_top_1%": expected_recall(score, flagged), "alarms": worst,
    }  # fmt: skip


def _as_dict(d: Drift) -> dict[str, Any]:
    return {
        "name": d.name,
        "psi": d.psi,
        "ks": d.ks,
        "missing_then": d.missing_then,
        "missing_now": d.missing_now,
        "state": d.state,
    }
