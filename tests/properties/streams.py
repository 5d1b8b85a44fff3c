"""Random streams of events: few keys and few moments, so that windows are full of ties, edges and late arrivals."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

START = 1_767_225_600_000  # 2026-01-01
LATENESS = 3_600_000
# One busy key and some rare ones: most events meet in the same windows.
ACCOUNTS = ["a", "a", "a", "a", "ü-東京", "ü-東京", "a'\"; --", " ", None]
DEVICES = ["d1", "d1", "d1", "d2", "d2", "デ\u0000x", None]
CARDS = ["c1", "c1", "c2", None]
TYPES = ["login", "order", "payment", "payment_failed", "refund"]
# Steps of the clock in ms: ties, the edges of 1 ms, 1 minute and 1 hour windows, one more and one less, and long gaps.
STEPS = [
    *[0] * 4,
    1,
    1,
    30_000,
    30_000,
    59_999,
    60_000,
    60_000,
    60_001,
    1_800_000,
    3_540_000,
    3_600_000,
    3_600_001,
    90_000_000,
]
LATE = [0, 0, 0, 0, 1, 60_000, 60_001, 1_800_000, 3_600_000]
AMOUNTS = [None, 0, 1, 2, 285, 1_000, 10_001, 999_999_999_999, 10**12]
CHANGES = [None, 0, -1, 5, -250_000, 10**12, -(10**12)]
WEIGHTS = [None, 0, 1, 999, 1_000, 2_500, 10**12]
NUMBERS = [None, 0.0, 1.0, 2.5, -3.0, 0.1, 1e300, -1e-300, 5e-324]


def amounts(common: list[Any], least: int) -> st.SearchStrategy:
    return st.one_of(st.sampled_from(common), st.integers(least, 10**12))


@st.composite
def streams(draw, labels: bool = False, longest: int = 48) -> list[dict[str, Any]]:
    """Events in arrival order, stamped: late ones keep their time back to `clock - lateness`."""
    clock, events, judged = START, [], []
    for seq in range(draw(st.sampled_from([longest, longest, longest // 2, 6, 2, 1, 0]))):
        clock += draw(st.sampled_from(STEPS))
        t = clock - draw(st.sampled_from(LATE))
        old = draw(st.sampled_from(judged)) if labels and judged and draw(st.booleans()) else None
        event = draw(label_of(old)) if old else draw(plain(seq, t))
        event |= {"seq": seq, "t": max(t, clock - LATENESS), "ts": t, "event_id": f"e{seq}"}
        events.append(event)
        judged += [event] if labels and not old else []
    return events


@st.composite
def plain(draw, seq: int, t: int) -> dict[str, Any]:
    return {
        "type": draw(st.sampled_from(TYPES)),
        "account": draw(st.sampled_from(ACCOUNTS)),
        "seller": draw(st.sampled_from(ACCOUNTS)),
        "device": draw(st.sampled_from(DEVICES)),
        "card": draw(st.sampled_from(CARDS)),
        "amount": draw(amounts(AMOUNTS, 0)),
        "change": draw(amounts(CHANGES, -(10**12))),
        "weight": draw(amounts(WEIGHTS, -(10**12))),
        "score_raw": draw(st.one_of(st.sampled_from(NUMBERS), st.floats(-1e6, 1e6).map(lambda x: x + 0.0))),
        "success": draw(st.sampled_from([None, True, False])),
        "method": draw(st.sampled_from([None, "password", "otp", "social", "Ⅻ"])),
        "seen_at": draw(st.sampled_from([None, t, t - 59_999, t - 60_000, 0])),
        "tags": draw(st.one_of(st.none(), st.lists(st.sampled_from(["x", "y", "ž", ""]), max_size=3))),
    }


@st.composite
def label_of(draw, event: dict[str, Any]) -> dict[str, Any]:
    """A label event: it judges an event and carries its keys."""
    keys = {role: event[role] for role in ("account", "seller", "device", "card")}
    source = draw(st.sampled_from([None, "bank", "analyst"]))
    return {
        "type": "label",
        "label": draw(st.integers(0, 1)),
        "label_event": event["event_id"],
        "label_source": source,
        **keys,
    }
