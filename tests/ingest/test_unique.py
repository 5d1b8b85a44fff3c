"""An event id counts once in a run over files, however it is repeated."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from shopward import Rulebook
from shopward.event import parse_time
from shopward.ingest.unique import Unique
from shopward.runs import decide_files, features_files
from tests.end_to_end.test_files_into_data import BOOK, NOON, pay, rows, write


@pytest.fixture(scope="module")
def book() -> Rulebook:
    return Rulebook.from_files(BOOK)


def test_a_file_exported_twice_is_decided_once(book, tmp_path):
    once = write(tmp_path / "a.ndjson", [pay(i) for i in range(60)])
    twice = write(tmp_path / "b.ndjson", [pay(i) for i in range(60)])
    decide_files([once], book, out=tmp_path / "once.parquet")
    summary = decide_files([once, twice], book, out=tmp_path / "both.parquet")
    assert rows(tmp_path / "once.parquet") == rows(tmp_path / "both.parquet")
    assert (summary.events, summary.repeated, summary.conflicts) == (60, 60, 0)


def test_other_content_under_a_known_id_is_a_conflict_and_the_first_counts(book, tmp_path):
    events = write(
        tmp_path / "e.ndjson", [pay(1), pay(1, card="card-9"), pay(1), pay(2), pay(1, note="nobody reads it")]
    )
    summary = decide_files([events], book)
    assert (summary.events, summary.repeated, summary.conflicts) == (2, 3, 1)


def test_events_without_an_id_are_never_the_same(book, tmp_path):
    nameless = [{k: v for k, v in pay(1).items() if k != "event_id"} for _ in range(3)]
    assert decide_files([write(tmp_path / "e.ndjson", nameless)], book).events == 3


@pytest.mark.parametrize("engine", ["native", "duckdb"])
def test_every_engine_leaves_out_the_same_rows(book, tmp_path, engine):
    events = write(tmp_path / "e.ndjson", [pay(i % 30) for i in range(90)])
    summary = features_files([events], book, engine=engine, out=tmp_path / f"{engine}.parquet")
    assert (summary.events, summary.repeated) == (30, 60)
    found = pq.read_table(tmp_path / f"{engine}.parquet").to_pylist()
    assert [row["card_pays_7d"] for row in found] == [i // 5 + 1 for i in range(30)]


def test_ids_that_left_memory_are_still_known(book, tmp_path):
    from shopward import Engine

    events = write(tmp_path / "e.ndjson", [pay(i % 20_000) for i in range(50_000)])
    engine = Engine(book, mode="compiled")
    with Unique(engine.seed, table_rows=1_000) as unique:
        assert sum(batch.n for batch in engine.read([events], unique=unique)) == 20_000
        assert unique._known.memory()["runs"] > 0
        folder = unique._folder.name
    assert unique.repeated == 30_000 and not Path(folder).exists()


def test_times_in_text_files_are_iso_and_ids_as_given(book, tmp_path):
    event = pay(1, event_id="007", ts=NOON + 250)
    events = write(tmp_path / "e.ndjson", [event])
    for ending in ("csv", "ndjson"):
        decide_files([events], book, out=tmp_path / f"o.{ending}")
    with (tmp_path / "o.csv").open() as lines:
        (as_csv,) = csv.DictReader(lines)
    as_json = json.loads((tmp_path / "o.ndjson").read_text())
    assert as_csv["event_id"] == as_json["event_id"] == "007"
    assert as_csv["ts"] == "2026-01-01T12:00:00.250Z"
    assert parse_time(as_csv["ts"]) == parse_time(as_json["ts"]) == NOON + 250
