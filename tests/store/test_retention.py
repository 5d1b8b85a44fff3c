"""The old end of the log goes when nothing needs it, and nothing that is asked afterwards is lost."""

from __future__ import annotations

import pytest

from shopward import Engine, Rulebook
from shopward.errors import UsageError
from shopward.runs import decide_files
from shopward.store import dedup
from shopward.store.lake import compact
from shopward.store.query import sql
from shopward.store.retention import drop_log
from tests.end_to_end.test_files_into_data import BOOK, DAY, NOON, pay, rows, write


@pytest.fixture
def small(monkeypatch):
    """Ids leave memory early, so that a short log has an old end."""
    monkeypatch.setattr(dedup, "TABLE_ROWS", 20)
    monkeypatch.setattr(dedup, "MERGE_RUNS", 99)


def opened(path) -> Engine:
    engine = Engine(Rulebook.from_files(BOOK), data=path, mode="interpreted")
    engine.journal.log.segment_bytes = 1
    return engine


def fill(path, n: int = 100) -> list[dict]:
    with opened(path) as engine:
        for i in range(0, n, 5):
            engine.decide_events([pay(k, ts=NOON + k * DAY // 10 - 90 * DAY) for k in range(i, i + 5)])
            if i in (60, 80):
                engine.snapshot()
        return [engine.find(f"e{i}") for i in range(n)]


def test_what_was_dropped_is_still_found_labelled_and_answered(small, tmp_path):
    before = fill(tmp_path)
    events = [pay(k, ts=NOON + k * DAY // 10 - 90 * DAY) for k in range(100)]
    assert drop_log(tmp_path, DAY) == [], "not in the lake yet"
    compact(tmp_path)
    with opened(tmp_path) as engine:
        hashed = engine.state_hash()
    dropped = drop_log(tmp_path, DAY)
    assert len(dropped) >= 8
    with opened(tmp_path) as engine:
        assert engine.journal.log.first_seq > 20 and engine.state_hash() == hashed
        assert [engine.find(f"e{i}") for i in range(100)] == before
        taken = engine.label([{"event_id": "e0", "label": 1, "label_ts": NOON - 50 * DAY, "amount": 5.25}])
        assert (taken["taken"], taken["unknown"]) == (1, 0)
        assert engine.find("never") is None
    summary = decide_files(
        [write(tmp_path / "e.ndjson", events)], Rulebook.from_files(BOOK), data=tmp_path, out=tmp_path / "o.parquet"
    )
    assert summary.repeated == 100
    assert [row["reasons"] for row in rows(tmp_path / "o.parquet")] == [d["reasons"] for d in before]
    cards = sql(tmp_path, "SELECT card FROM events WHERE type = 'label' OR event_id = 'e0'").to_pylist()
    assert len(cards) == 2 and cards[0] == cards[1]
    assert compact(tmp_path).events >= 1


def test_what_is_young_stays(small, tmp_path):
    fill(tmp_path)
    compact(tmp_path)
    assert drop_log(tmp_path, 365 * DAY) == []


def test_a_log_in_use_is_left_alone(small, tmp_path):
    fill(tmp_path)
    compact(tmp_path)
    with opened(tmp_path), pytest.raises(UsageError, match="in use by process"):
        drop_log(tmp_path, DAY)
