"""Long streams by seed: enough events for rings to grow, for hot keys with hundreds of values, and for idle keys to be recycled."""

from __future__ import annotations

import random
from typing import Any

from tests.properties.streams import AMOUNTS, CHANGES, LATE, LATENESS, NUMBERS, START, TYPES, WEIGHTS

PACES = [
    [0, 0, 1, 5],
    [0, 400, 9_000],
    [0, 20_000, 60_000, 60_001],
    [0, 1_200_000, 3_600_000],
    [0, 7_000_000, 90_000_000],
]


def long_stream(n: int, seed: int, keys: int = 40) -> list[dict[str, Any]]:
    """Busy and quiet stretches in turns; a third of the events belong to one account. Keys come up and are never seen again."""
    rng = random.Random(seed)
    clock, events, judged = START, [], []
    for seq in range(n):
        clock += rng.choice(PACES[(seq // 97) % len(PACES)])
        t = clock - rng.choice(LATE)
        old = rng.choice(judged[-200:]) if judged and rng.random() < 0.1 else None
        event = label(rng, old) if old else plain(rng, t, keys, seq // 500)
        event |= {"seq": seq, "t": max(t, clock - LATENESS), "ts": t, "event_id": f"e{seq}"}
        events.append(event)
        judged += [] if old else [event]
    return events


def plain(rng: random.Random, t: int, keys: int, era: int) -> dict[str, Any]:
    def key(prefix: str) -> str | None:
        x = rng.random()
        return (
            None if x < 0.03 else f"{prefix}0" if x < 0.36 else f"{prefix}{rng.randrange(keys)}.{era if x < 0.7 else 0}"
        )

    return {
        "type": rng.choice(TYPES),
        "account": key("a"),
        "seller": key("a"),
        "device": key("d"),
        "card": key("c"),
        "amount": rng.choice([*AMOUNTS, rng.randrange(10**6)]),
        "change": rng.choice([*CHANGES, rng.randrange(-(10**12), 10**12)]),
        "weight": rng.choice(WEIGHTS),
        "score_raw": rng.choice([*NUMBERS, rng.uniform(-9, 9)]),
        "success": rng.choice([None, True, False]),
        "method": rng.choice([None, "password", "otp", "social"]),
        "seen_at": rng.choice([None, t, t - 60_000]),
        "tags": rng.choice([None, [], ["x"], [f"t{rng.randrange(30)}" for _ in range(rng.randrange(4))]]),
    }


def label(rng: random.Random, old: dict[str, Any]) -> dict[str, Any]:
    keys = {role: old[role] for role in ("account", "seller", "device", "card")}
    return {
        "type": "label", "label": rng.randrange(2), "label_event": old["event_id"], "label_source": rng.choice([None, "bank"]), **keys
    }  # fmt: skip
