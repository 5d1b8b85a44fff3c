"""A small world of card payments: terminals that are compromised for a while, cards that suddenly spend five times as much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DAY = 86_400_000
START = 1_767_225_600_000
FILES = {
    "schema.yaml": """
types: [payment]
fields:
  card: {type: string, entity: card}
  terminal: {type: string, entity: terminal}
  amount: money
  country: string
money: amount
""",
    "features/own.yaml": "card_count_2d: {entity: card, measure: count, over: 2d}\n",
}


def payments(days: int = 40, a_day: int = 150, seed: int = 1) -> dict[str, np.ndarray]:
    """Columns of payments in time order, with the truth."""
    rng = np.random.default_rng(seed)
    n = days * a_day
    ts = START + np.sort(rng.integers(0, days * DAY, n))
    card, terminal = rng.integers(0, 80, n), rng.integers(0, 40, n)
    habit = rng.uniform(10, 60, 80)
    amount = np.maximum(rng.normal(habit[card], habit[card] / 3), 1.0)
    day = (ts - START) // DAY
    bad_from = rng.integers(0, days, 40)
    fraud = (rng.random(40) < 0.3)[terminal] & (day >= bad_from[terminal]) & (day < bad_from[terminal] + 12)
    stolen_from = rng.integers(0, days, 80)
    stolen = (
        (rng.random(80) < 0.25)[card]
        & (day >= stolen_from[card])
        & (day < stolen_from[card] + 6)
        & (rng.random(n) < 0.4)
    )
    amount = np.where(stolen, amount * 5, amount).round(2)
    return {"ts": ts, "card": card, "terminal": terminal, "amount": amount, "fraud": fraud | stolen,
            "country": rng.choice(["de", "fr", "us"], n)}  # fmt: skip


def write(folder: Path, delay_days: float = 3, **world) -> tuple[Path, Path]:
    """(events.parquet, labels.parquet) of such a world; truth is known `delay_days` later."""
    p = payments(**world)
    ids = [f"p{i}" for i in range(len(p["ts"]))]
    events = pa.table({
        "event_id": ids, "ts": p["ts"], "type": ["payment"] * len(ids), "card": [f"c{i}" for i in p["card"]],
        "terminal": [f"t{i}" for i in p["terminal"]], "amount": p["amount"], "country": p["country"],
    })  # fmt: skip
    labels = pa.table({"event_id": ids, "label": p["fraud"].astype(int), "label_ts": p["ts"] + int(delay_days * DAY)})
    pq.write_table(events, folder / "events.parquet")
    pq.write_table(labels, folder / "labels.parquet")
    return folder / "events.parquet", folder / "labels.parquet"


def rulebook(folder: Path, **more: str) -> Path:
    """The rulebook of this world as a folder; `more`: further files, `/` written as `__`."""
    for name, text in {**FILES, **{k.replace("__", "/") + ".yaml": v for k, v in more.items()}}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
