"""The old end of the log goes when nothing needs it, and nothing that is asked afterwards is lost."""

from __future__ import annotations

import json

import pytest

from shopward import Engine, Rulebook
from shopward.errors import RulebookError, UsageError
from shopward.runs import decide_files
from shopward.store import dedup
from shopward.store.files import REAL
from shopward.store.lake import compact
from shopward.store.query import sql
from shopward.store.retention import drop_log, expire
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


RETENTION = BOOK | {"policy.yaml": BOOK.get("policy.yaml", "") + "\nretention: {pay: 5d}\n"}


def types_and_days(path) -> dict[str, list[float]]:
    """How many days before the newest event each stored event of a type is."""
    found = sql(path, "SELECT type, t FROM events").to_pylist()
    newest = max(row["t"] for row in found)
    return {
        kind: sorted((newest - row["t"]) / DAY for row in found if row["type"] == kind)
        for kind in {r["type"] for r in found}
    }


def test_events_past_their_retention_leave_the_lake_and_younger_ones_stay(tmp_path):
    fill(tmp_path)
    with opened(tmp_path) as engine:
        engine.label([{"event_id": "e0", "label": 1, "label_ts": NOON - 85 * DAY}])
    assert (compact(tmp_path).events, expire(tmp_path, {"label": 5 * DAY}).events) == (101, 0)
    before = types_and_days(tmp_path)["pay"]
    gone = expire(tmp_path, dict(Rulebook.from_files(RETENTION).policy.retention))
    left = types_and_days(tmp_path)
    assert left["pay"] == [age for age in before if age <= max(left["pay"])] and 5 <= max(left["pay"]) < 6.5
    assert gone.events == gone.decisions == len(before) - len(left["pay"]) > 30 and gone.days > 2
    kept = sql(tmp_path, "SELECT d.seq AS seq FROM decisions d JOIN events e USING (seq)").num_rows
    assert kept == sql(tmp_path, "SELECT * FROM decisions").num_rows == len(left["pay"]), (
        "decisions go with their events"
    )
    assert sql(tmp_path, "SELECT * FROM findings f ANTI JOIN events e USING (seq)").num_rows == 0
    assert len(left["label"]) == 1, "a type that is not named stays"
    assert expire(tmp_path, {"pay": 5 * DAY}).events == 0
    with opened(tmp_path) as engine:
        engine.decide_events([pay(500)])
    assert compact(tmp_path).events == 1, "the lake goes on where it was"


def test_an_expiry_cut_off_by_a_crash_is_finished_by_the_next(tmp_path, monkeypatch):
    fill(tmp_path)
    compact(tmp_path)

    class Gone(Exception):
        pass

    class Failing(type(REAL)):
        left = 4

        def remove(self, path):
            self.left -= 1
            if self.left < 0:
                raise Gone
            super().remove(path)

    with pytest.raises(Gone):
        expire(tmp_path, {"pay": 5 * DAY}, Failing())
    sql(tmp_path, "SELECT count(*) FROM events")
    expire(tmp_path, {"pay": 5 * DAY})
    assert max(types_and_days(tmp_path)["pay"]) < 6.5
    assert compact(tmp_path).events == 0


def test_a_server_that_looked_back_before_the_expiry_still_answers_after_it(small, tmp_path):
    fill(tmp_path)
    compact(tmp_path)
    drop_log(tmp_path, DAY)
    with opened(tmp_path) as engine:
        assert engine.find("e0") and engine.find("e40")
        expire(tmp_path, {"pay": 5 * DAY})
        assert engine.find("e1") is None


def test_the_cli_applies_the_retention_of_the_rulebook_in_force(tmp_path):
    from click.testing import CliRunner

    from shopward.cli.lake import lake

    with Engine(Rulebook.from_files(RETENTION), data=tmp_path, mode="interpreted") as engine:
        engine.decide_events([pay(k, ts=NOON - (30 - k) * DAY) for k in range(30)])
    ran = CliRunner().invoke(lake, ["compact", "--data", str(tmp_path), "--json"])
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.output)["expired"] == {"events": 24, "days": 24, "decisions": 24, "findings": 0}
    assert types_and_days(tmp_path)["pay"] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("text", ["{pays: 5d}", "{pay: 12h}", "{pay: 36h}", "5d"])
def test_a_retention_that_cannot_be_meant_is_refused(text):
    with pytest.raises(RulebookError, match="retention|pays|whole days|at least"):
        Rulebook.from_files(BOOK | {"policy.yaml": f"retention: {text}\n"})
