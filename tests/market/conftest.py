"""Two small markets, one for each adversary, made once and read by every story."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from shopward.market import Summary, generate

SIZE = {"seed": 11, "days": 14, "accounts": 3000, "events": 75_000}


@dataclass
class Made:
    folder: Path
    summary: Summary
    events: list[dict[str, Any]]
    truth: dict[str, list[dict[str, Any]]]

    def of(self, *types: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["type"] in types]

    @cached_property
    def fraud(self) -> dict[str, dict[str, Any]]:
        return {row["event_id"]: row for row in self.truth["event_labels"] if row["label"] == 1}

    def by(self, key: str, *types: str) -> dict[str, list[dict[str, Any]]]:
        groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for event in self.of(*types) if types else self.events:
            if event.get(key) is not None:
                groups[event[key]].append(event)
        return groups


def make(folder: Path, **arguments: Any) -> Made:
    summary = generate(folder, **arguments)
    events = msgspec.json.Decoder().decode_lines((folder / "events.ndjson").read_bytes())
    truth = {path.stem: pq.read_table(path).to_pylist() for path in sorted((folder / "truth").iterdir())}
    return Made(folder, summary, events, truth)


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("normal"), **SIZE)


@pytest.fixture(scope="session")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("hard"), **SIZE, adversary="hard", access_log=False)
