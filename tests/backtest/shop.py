"""A small shop for the stories: its rulebook, and a history of five weeks in which somebody always lies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from shopward import Rulebook

DAY = 86_400_000
START = 1_767_225_600_000  # 2026-01-01
SCHEMA = """
types: [payment, login]
fields:
  account: {type: string, entity: account}
  device: {type: string, entity: device}
  country: string
  email: {type: string, pii: true}
  amount: money
money: amount
"""
FEATURES = """
device_accounts_7d: {entity: device, measure: distinct(account), over: 7d}
account_spend_1d: {entity: account, measure: sum(amount), over: 1d}
"""
RULES = {
    "big": "on: [payment]\nwhen: amount > 400\nthen: review",
    "shared": "on: [payment]\nwhen: device_accounts_7d >= 4 and (amount > 50 or country == 'XX')\nthen: deny",
    "spree": "on: [payment]\nwhen: account_spend_1d > 600\nthen: challenge",
    "friend": "on: [payment]\nwhen: amount < 5 and country == 'DE'\nthen: allow\noverride: true",
    "frozen": "on: [payment]\nwhen: listed('blocked', account)\nthen: deny\nmandatory: true",
    "watched": "on: [payment]\nwhen: country == 'XX'\nthen: deny\nstate: shadow",
    "never": "on: [payment]\nwhen: amount > 1000000\nthen: deny",
}
POLICY = "base_currency: EUR\nfriction_cost: 2.5\nreview_cost: 3\nchallenge_stop_rate: 0.7\nreview_capacity_per_day: 10\nlabel_maturity: 10d\n"


def files(rules: dict[str, str] | None = None, policy: str = POLICY) -> dict[str, str]:
    """The rulebook as texts."""
    named = RULES if rules is None else rules
    texts = {"schema.yaml": SCHEMA, "features/f.yaml": FEATURES, "policy.yaml": policy}
    texts["lists/lists.yaml"] = "blocked: {kind: block, entity: account}\n"
    return texts | {
        f"rules/{name}.yaml": f"id: {name}\ntitle: The rule {name}\n{text}\n" for name, text in named.items()
    }


def rulebook(rules: dict[str, str] | None = None, policy: str = POLICY) -> Rulebook:
    return Rulebook.from_files(files(rules, policy))


def write(folder: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def history(folder: Path, n: int = 3000, seed: int = 4) -> tuple[Path, Path]:
    """Events and labels of 35 days: fraud comes from shared devices, in large sums; labels come after one to nine days."""
    rng = np.random.default_rng(seed)
    ts = np.sort(rng.integers(START, START + 35 * DAY, n))
    events, labels = [], []
    for i in range(n):
        ring = rng.random() < 0.08
        fraud = ring and rng.random() < 0.6 or rng.random() < 0.004
        amount = round(float(rng.exponential(300 if fraud else 60)) + 1, 2)
        event = {"event_id": f"e{i}", "ts": int(ts[i]), "type": "payment" if rng.random() < 0.9 else "login"}
        event |= {
            "account": f"a{rng.integers(0, 400)}",
            "device": f"d{rng.integers(0, 4) if ring else rng.integers(4, 600)}",
        }
        event |= {"country": str(rng.choice(["DE", "FR", "XX"])), "email": f"p{i}@example.com", "amount": amount}
        events.append(event)
        if fraud or rng.random() < 0.3:
            labels.append(
                {"event_id": f"e{i}", "label": int(fraud), "label_ts": int(ts[i] + rng.integers(DAY, 9 * DAY))}
            )
    write(
        folder,
        {"events.ndjson": "\n".join(map(json.dumps, events)), "labels.ndjson": "\n".join(map(json.dumps, labels))},
    )
    return folder / "events.ndjson", folder / "labels.ndjson"
