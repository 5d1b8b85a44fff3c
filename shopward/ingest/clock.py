"""Stream time: the moment a record counts for, between what it says about itself and what the clock allows."""

from __future__ import annotations

import time

import numpy as np

from shopward.batch import LATENESS_MS, SKEW_MS


def machine_ms() -> int:
    """The machine's time in epoch milliseconds."""
    return time.time_ns() // 1_000_000


class Clock:
    """Stamps events with t = ts clamped to [clock - lateness, clock + skew].

    For files the clock is the largest ts seen so far; for a server it is the machine's time at arrival, and it never goes back
    even when the machine's does. `value` is the clock at the last stamp, and is what a log remembers.

    >>> clock = Clock(lateness=3_600_000)
    >>> clock.stamp(np.array([10_000_000, 20_000_000, 15_000_000])).tolist(), clock.value
    ([10000000, 20000000, 16400000], 20000000)
    """

    __slots__ = ("lateness", "server", "skew", "value")

    def __init__(self, lateness: int = LATENESS_MS, skew: int = SKEW_MS, server: bool = False, value: int = 0):
        self.lateness, self.skew, self.server, self.value = lateness, skew, server, value

    def now(self) -> int:
        """The clock's time: the machine's for a server, else the latest event time seen."""
        return max(self.value, machine_ms()) if self.server else self.value

    def latest(self) -> int:
        """The latest ts a file may hold: nothing happens after now, but for a little skew."""
        return machine_ms() + self.skew

    def stamp(self, ts: np.ndarray) -> np.ndarray:
        """The stamped time of events in arrival order; moves the clock."""
        if not len(ts):
            return ts.astype(np.int64)
        if self.server:
            self.value = self.now()
            return np.clip(ts, self.value - self.lateness, self.value + self.skew)
        clock = np.maximum.accumulate(np.maximum(ts, self.value))
        self.value = int(clock[-1])
        return np.maximum(ts, clock - self.lateness)
