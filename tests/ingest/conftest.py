"""A small shop's rulebook, and ways to read files with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shopward.batch import Needs
from shopward.declare.rulebook import Rulebook
from shopward.ingest import Clock, DeadLetters, read

SEED = bytes(range(16))
SCHEMA = """
types: [login, order, payment, refund]
fields:
  account: {type: string, entity: account}
  seller: {type: string, entity: account}
  device: {type: string, entity: device}
  email: {type: string, pii: true, normalise: lower}
  phone: {type: string, pii: true, normalise: e164}
  mail_domain: {type: string, entity: mail_domain, derive: domain(email)}
  ip: {type: string, entity: ip}
  net: {type: string, entity: ip64, derive: ip64(ip)}
  amount: money
  balance: {type: money, signed: true}
  weight: decimal(3)
  rating: number
  success: bool
  born: time
  tags: list
  note: string
money: amount
"""
EVERYTHING = Needs(
    numbers=frozenset({"amount", "balance", "rating", "success", "born", "weight", "label", "ts"}),
    minor=frozenset({"amount", "balance", "weight", "label"}),
    hashes=frozenset(
        {"account", "seller", "device", "email", "phone", "mail_domain", "ip", "net", "note", "label_event", "event_id"}
    ),
    lists=frozenset({"tags"}),
    text=frozenset({"note"}),
)


def book(schema: str = SCHEMA, **files: str) -> Rulebook:
    return Rulebook.from_files(
        {"schema.yaml": schema} | {name.replace("__", "/") + ".yaml": text for name, text in files.items()}
    )


class Reader:
    """Reads with one rulebook and remembers the dead letters."""

    def __init__(self, rulebook: Rulebook, needs: Needs = EVERYTHING):
        self.rulebook, self.needs = rulebook, needs
        self.dead = DeadLetters()

    def batches(self, paths, **options):
        options = {"records": True, "dead": self.dead} | options
        return list(read(paths, self.rulebook, self.needs, SEED, **options))

    def events(self, paths, **options) -> list[dict]:
        return [record for batch in self.batches(paths, **options) for record in batch.records()]


@pytest.fixture
def shop() -> Reader:
    return Reader(book())


def write_lines(path: Path, *records) -> Path:
    """NDJSON; a record may be a dict, a string or bytes."""
    lines = [
        r if isinstance(r, bytes) else r.encode() if isinstance(r, str) else json.dumps(r, ensure_ascii=False).encode()
        for r in records
    ]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def same_columns(a, b) -> None:
    """Two batches say the same in every column."""
    assert list(a.event_ids) == list(b.event_ids)
    for name in ("ts", "types", "t"):
        assert getattr(a, name).tolist() == getattr(b, name).tolist(), name
    for table in ("numbers", "minor", "hashes"):
        mine, yours = getattr(a, table), getattr(b, table)
        assert mine.keys() == yours.keys()
        for name in mine:
            np.testing.assert_array_equal(mine[name], yours[name], err_msg=f"{table} {name}")
    for name in a.lists:
        for mine, yours in zip(a.lists[name], b.lists[name], strict=True):
            np.testing.assert_array_equal(mine, yours, err_msg=name)


__all__ = ["SEED", "Clock", "Reader", "book", "same_columns", "write_lines"]
