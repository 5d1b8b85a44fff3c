"""`shopward features --data`: the features of what a data folder holds are those its decisions saw."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from shopward import Engine, Rulebook
from shopward.cli.features import features
from shopward.errors import UsageError
from shopward.lists import Entry
from shopward.runs import decide_files, features_data, features_files
from tests.end_to_end.test_files_into_data import BOOK, DAY, NOON, pay, write

LISTED = BOOK | {
    "lists/l.yaml": "hot_cards: {kind: watch, entity: card}\n",
    "features/l.yaml": "card_hot: {list: hot_cards, entity: card}\n",
    "rules/hot.yaml": "id: hot\ntitle: Hot\non: [pay]\nwhen: amount > 8\nthen: {action: review, list: {add: hot_cards, key: card}}\n"
    "tests: [{name: quiet, events: [{type: pay, ts: 0, card: c, amount: 1}], expect: {fires: false}}]\n",
}


def columns(path) -> dict:
    return pq.read_table(path).to_pydict()


def test_features_of_a_folder_are_those_of_its_files(tmp_path):
    book, events = Rulebook.from_files(BOOK), [pay(k, ts=NOON + k * DAY // 7) for k in range(120)]
    file = write(tmp_path / "e.ndjson", events)
    decide_files([file], book, data=tmp_path / "data", out=tmp_path / "d.parquet")
    features_files([file], book, out=tmp_path / "files.parquet")
    summary = features_data(tmp_path / "data", out=tmp_path / "data.parquet")
    assert summary.events == 120
    assert columns(tmp_path / "data.parquet") == columns(tmp_path / "files.parquet")


def test_lists_stand_as_they_stood_when_each_event_was_taken(tmp_path):
    with Engine(Rulebook.from_files(LISTED), data=tmp_path / "data", mode="interpreted") as engine:
        first = {"type": "pay", "ts": NOON, "card": "c1", "amount": 9.0}
        engine.decide_events([{**first, "event_id": f"a{i}", "ts": NOON + i} for i in range(3)])
        engine.write_lists([Entry(list="hot_cards", key="c2", valid_from=NOON)])
        engine.decide_events([{**first, "event_id": "b", "card": "c2", "ts": NOON + 9}])
    features_data(tmp_path / "data", out=tmp_path / "f.parquet")
    found = columns(tmp_path / "f.parquet")
    assert dict(zip(found["event_id"], found["card_hot"], strict=True)) == {"a0": 0.0, "a1": 1.0, "a2": 1.0, "b": 1.0}


def test_a_folder_without_its_beginning_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no rulebook|no log"):
        features_data(tmp_path)
    with Engine(Rulebook.from_files(BOOK), data=tmp_path / "data", mode="interpreted") as engine:
        engine.journal.log.segment_bytes = 1
        for k in range(3):
            engine.decide_events([pay(k)])
    for segment in sorted((tmp_path / "data/log").glob("*-*"))[:2]:
        segment.unlink()
    with pytest.raises(UsageError, match="the log begins at event"):
        features_data(tmp_path / "data")


def test_the_command_takes_files_or_a_folder(tmp_path):
    with Engine(Rulebook.from_files(BOOK), data=tmp_path / "data", mode="interpreted") as engine:
        engine.decide_events([pay(1)])
    said = CliRunner().invoke(features, ["--data", str(tmp_path / "data"), "--json"])
    assert said.exit_code == 0 and json.loads(said.stdout)["events"] == 1
    both = CliRunner().invoke(features, ["x.ndjson", "--data", str(tmp_path / "data")])
    assert isinstance(both.exception, UsageError)
