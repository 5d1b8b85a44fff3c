"""A story in a few events, told by every way of computing features; they must all tell the same."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import duckdb
import numpy as np

from shopward.declare.rulebook import Rulebook
from shopward.features import sql
from shopward.features.live import Windows
from shopward.ingest.clock import Clock
from tests.properties.agree import differences, shown, table_of
from tests.properties.batches import SEED, by_engine
from tests.properties.reference import compute

DAY = 1_767_225_600_000  # 2026-01-01T00:00Z
MARKET = """
types: [login, order, payment, payment_failed, refund]
fields:
  account: {type: string, entity: account}
  seller: {type: string, entity: account}
  device: {type: string, entity: device}
  amount: money
  change: {type: money, signed: true}
  weight: decimal(3)
  temperature: number
  success: bool
  method: string
  tags: list
"""


def rulebook(features: str, schema: str = MARKET) -> Rulebook:
    return Rulebook.from_files({"schema.yaml": schema, "features/story.yaml": features})


def ms(when: str) -> int:
    """`10:00`, `10:00:00`, `10:00:00.001`, or with days before: `2d 10:00`."""
    days, _, clock = when.rpartition(" ")
    parts = [Decimal(p) for p in clock.split(":")] + [Decimal(0)]
    seconds = parts[0] * 3600 + parts[1] * 60 + parts[2]
    return DAY + int(days.rstrip("d") or 0) * 86_400_000 + int(seconds * 1000)


def ev(when: str, kind: str = "login", **fields: Any) -> dict[str, Any]:
    """An event; the account is `a` unless it says otherwise, money is written in major units."""
    event = {"type": kind, "ts": ms(when), "account": "a", **fields}
    digits = {"amount": 2, "change": 2, "weight": 3}
    return event | {
        name: int(Decimal(str(event[name])).scaleb(n)) for name, n in digits.items() if event.get(name) is not None
    }


def verdict(when: str, of: str, label: int, **fields: Any) -> dict[str, Any]:
    """A label event: event `of` (e0, e1, ...) was fraud (1) or not (0)."""
    return ev(when, "label", label_event=of, label=label, **fields)


def told(features: str, *events: dict[str, Any], schema: str = MARKET) -> dict[str, list[Any]]:
    """Feature -> its value at each event that is not a label. Events are e0, e1, ... in arrival order."""
    book = rulebook(features, schema)
    stamped = Clock().stamp(np.array([e["ts"] for e in events], np.int64)).tolist()
    stream = [
        {"event_id": f"e{i}", "seq": i, "t": t, **e} for i, (e, t) in enumerate(zip(events, stamped, strict=True))
    ]
    rows = [e for e in stream if e["type"] != "label"]
    truth = compute(stream, sql.needed_for(book.features, book.features), book.schema)
    expected = shown({name: truth[name] for name in book.features}, stream)
    for way, found in ways(stream, book):
        assert differences(expected, found, rows) == [], way
    return expected


def ways(stream: list[dict], book: Rulebook):
    """Every other way of computing the same."""
    table = table_of(stream, book.schema)
    yield "one statement", sql.run(table, book, threads=1).drop_columns("event_id").to_pydict()
    with duckdb.connect(config={"threads": 1}) as db:
        db.register("events", table)
        words = {name: db.execute(sql.feature_sql(f, book)).fetchall() for name, f in book.features.items()}
    yield "its own words", {name: [row[1] for row in rows] for name, rows in words.items()}
    for size in (1, 3, len(stream)):
        windows = Windows(book, SEED, mode="interpreted")
        yield f"batches of {size}", shown(by_engine(windows, stream, book, [size]), stream)
