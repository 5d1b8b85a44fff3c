"""The rulebook and the stream of the durability stories."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from shopward import Rulebook
from tests.rules.books import book, rule

START = 1_767_225_600_000


def rulebook() -> Rulebook:
    return book(
        rule("fanout", "device_accounts_24h >= 4", "challenge"),
        rule(
            "jump",
            "amount > 90 and spend_jump > 3",
            "{action: review, list: {add: blocked_devices, key: device, expires: 1h}}",
        ),
        rule("listed", 'listed("blocked_devices", device)', "deny", on="[order]"),
    )


def write_events(path: Path, n: int, seed: int = 1) -> list[str]:
    """`n` events, some late, one in fifty sent twice; returns the distinct event ids in order."""
    rng = np.random.default_rng(seed)
    gaps = rng.integers(0, 4_000, n).cumsum()
    events = []
    for i in range(n):
        late = int(rng.integers(0, 3_000_000)) if rng.random() < 0.1 else 0
        events.append(
            {"event_id": f"e{i}", "ts": START + int(gaps[i]) - late, "type": ("login", "order", "coupon_claim")[rng.integers(3)],
             "account": f"a{rng.integers(n // 20 + 2)}", "device": f"d{rng.integers(n // 40 + 2)}", "email": f"p{i % 97}@private.example",
             "amount": float(rng.integers(0, 10_000)) / 100, "country": ("US", "DE", "CN")[rng.integers(3)]}
        )  # fmt: skip
        if i % 50 == 49:
            events.append(events[-int(rng.integers(1, 50))])
    path.write_bytes(b"\n".join(map(msgspec.json.encode, events)) + b"\n")
    return [f"e{i}" for i in range(n)]
