"""The peer most teams write first: msgspec, dicts and deques. Exact, the same 22 features and 20 rules, one event at a time."""

from __future__ import annotations

import math
from collections import Counter, deque

import msgspec

from benchmarks.workload import DAY_MS

MINUTE, HOUR, WEEK = 60_000, 3_600_000, 7 * DAY_MS


class Event(msgspec.Struct):
    event_id: str
    ts: int
    type: str
    user: str
    device: str
    ip: str
    card: str
    seller: str
    amount: float


class Window:
    """Events of one key within `span` ms: how many, the sum of cents, and how often each other key was seen."""

    __slots__ = ("span", "rows", "total", "squares", "seen")

    def __init__(self, span: int):
        self.span, self.rows, self.total, self.squares = span, deque(), 0, 0
        self.seen: Counter = Counter()

    def add(self, t: int, cents: int, other: str) -> None:
        self.rows.append((t, cents, other))
        self.total += cents
        self.squares += cents * cents
        self.seen[other] += 1

    def expire(self, t: int) -> None:
        rows, seen = self.rows, self.seen
        while rows and rows[0][0] < t - self.span:
            _, cents, other = rows.popleft()
            self.total -= cents
            self.squares -= cents * cents
            seen[other] -= 1
            if not seen[other]:
                del seen[other]


SPANS = {
    "user": (MINUTE, HOUR, DAY_MS, WEEK),
    "device": (HOUR, DAY_MS, WEEK),
    "ip": (MINUTE, HOUR, DAY_MS),
    "card": (HOUR,),
    "seller": (WEEK,),
}


class NaiveEngine:
    """The 22 features of `benchmarks.workload`, with Python's own containers."""

    def __init__(self) -> None:
        self.state: dict[str, dict[str, list[Window]]] = {kind: {} for kind in SPANS}
        self.last: dict[str, int] = {}
        self.first: dict[str, int] = {}

    def _windows(self, kind: str, key: str, t: int, cents: int, other: str, add: bool = True) -> list[Window]:
        table = self.state[kind]
        windows = table.get(key)
        if windows is None:
            windows = table[key] = [Window(span) for span in SPANS[kind]]
        for window in windows:
            window.expire(t)
            if add:
                window.add(t, cents, other)
        return windows

    def features(self, e: Event) -> tuple[float, ...]:
        t, cents = e.ts, round(e.amount * 100)
        idle = (t - self.last[e.user]) / 1000 if e.user in self.last else math.nan
        self.last[e.user] = t
        u = self._windows("user", e.user, t, cents, e.card)
        d = self._windows("device", e.device, t, cents, e.user)
        i = self._windows("ip", e.ip, t, cents, e.user)
        c = self._windows("card", e.card, t, cents, "", e.type == "payment_failed")
        s = self._windows("seller", e.seller, t, cents, "")[0]
        n = len(s.rows)
        return (
            *(len(w.rows) for w in u),
            u[1].total / 100, u[2].total / 100, u[3].total / 100, len(u[2].seen), idle,
            len(d[0].rows), len(d[1].rows), len(d[1].seen), len(d[2].seen),
            (t - self.first.setdefault(e.device, t)) / 1000,
            *(len(w.rows) for w in i), len(i[1].seen), len(i[2].seen), len(c[0].rows),
            s.total / n / 100, math.sqrt(n * s.squares - s.total * s.total) / n / 100,
        )  # fmt: skip


def rules(f: tuple[float, ...]) -> list[str]:
    """The 20 rules of the workload, by hand, in the order of `workload.RULES`; NaN compares False, as null does in a rule."""
    out = []
    if f[0] > 5:
        out.append("burst_1m")
    if f[1] > 20 and f[4] > 2000:
        out.append("burst_1h")
    if f[2] > 50:
        out.append("busy_day")
    if f[3] > 200 and f[6] > 20000:
        out.append("busy_week")
    if f[4] > 3000:
        out.append("spend_1h")
    if f[5] > 10000 or f[7] >= 4:
        out.append("spend_or_cards")
    if f[7] >= 3 and f[1] > 3:
        out.append("cards_and_speed")
    if f[8] < 2 and f[0] > 2:
        out.append("machine_speed")
    if f[9] > 10:
        out.append("device_hour")
    if f[10] > 60:
        out.append("device_day")
    if f[11] >= 5:
        out.append("device_users")
    if f[12] >= 10 and f[13] < 86400:
        out.append("new_shared_device")
    if f[14] > 20:
        out.append("ip_minute")
    if f[15] > 60 or f[17] > 15:
        out.append("ip_hour")
    if f[16] > 500:
        out.append("ip_day")
    if f[17] >= 8:
        out.append("ip_users_hour")
    if f[18] >= 30 and f[16] > 40:
        out.append("ip_users_day")
    if f[19] >= 2:
        out.append("card_failures")
    if f[19] >= 1 and f[7] >= 2:
        out.append("card_failure_many")
    if f[21] > 0 and f[4] > f[20] + 4 * f[21]:
        out.append("seller_outlier")
    return out  # fmt: skip


def run(blob: bytes) -> list[tuple[tuple[float, ...], list[str]]]:
    """NDJSON bytes -> (features, fired rules) of every event."""
    engine, decode, out = NaiveEngine(), msgspec.json.Decoder(Event).decode, []
    for line in blob.splitlines():
        values = engine.features(decode(line))
        out.append((values, rules(values)))
    return out
