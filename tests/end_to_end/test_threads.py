"""`shopward features --threads`: the same file as on one thread, whatever the rulebook computes, or a reason why not."""

from __future__ import annotations

import json
import random

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from shopward import Rulebook
from shopward.cli.features import features
from shopward.errors import StoreFull, UsageError
from shopward.features.lanes import Lane
from shopward.runs import features_files
from tests.end_to_end.test_features_of_data import LISTED
from tests.end_to_end.test_files_into_data import NOON, pay, write

BOOK = {
    "schema.yaml": """
types: [login, pay]
fields:
  account: {type: string, entity: account}
  card: {type: string, entity: card}
  device: {type: string, entity: device}
  city: string
  amount: money
  tags: list
money: amount
""",
    "lookups/cities.yaml": "key: string\ncolumns: {land: string}\nrows: [{key: Lyon, land: FR}, {key: Bonn, land: DE}]\n",
    "features/f.yaml": """
n_1h: {entity: account, measure: count, over: 1h}
spent_1d: {entity: account, measure: sum(amount), over: 1d, where: type == "pay"}
tags_1d: {entity: account, measure: distinct(tags), over: 1d}
city_before: {entity: account, measure: last(city), over: 1d}
first_city: {entity: device, measure: first(city), over: ever}
devices_1d: {entity: card, measure: distinct(device), over: 1d}
pair_1h: {entity: [account, card], measure: count, over: 1h, where: 'contains(city, "o")'}
bad_1d: {entity: card, measure: sum(label), over: 1d}
moved: {expr: city_before != city}
country: {lookup: cities.land, entity: city}
starts: {expr: 'startswith(city, "L")'}
is_short: {expr: len(first_city) < 5}
per_event: {ratio: [spent_1d, n_1h]}
""",
}


def stream(n: int = 3000) -> list[dict]:
    rng = random.Random(5)
    return [
        {
            "event_id": f"e{i}", "type": rng.choice(["login", "pay"]), "ts": NOON + i * 20_000, "account": f"a{rng.randrange(40)}",
            "card": rng.choice([None, f"c{rng.randrange(90)}"]), "device": f"d{rng.randrange(60)}",
            "city": rng.choice([None, "Lyon", "Bonn", f"Town {i}"]), "amount": rng.randrange(1, 9999) / 100,
            "tags": rng.sample(["x", "y", "z"], rng.randrange(3)),
        }
        for i in range(n)
    ]  # fmt: skip


def labels_of(path, events: list[dict]):
    rows = [f"{e['event_id']},{i % 2},{e['ts'] + 900_000}" for i, e in enumerate(events[::7])]
    path.write_text("\n".join(["event_id,label,label_ts", *rows]))
    return path


@pytest.mark.parametrize("threads", [2, 5])
def test_the_same_file_comes_out(tmp_path, threads, monkeypatch):
    monkeypatch.setattr("shopward.backfill.SIZE", 100)  # many batches on their way
    monkeypatch.setattr("shopward.runs.ROW_GROUP", 700)
    book, events = Rulebook.from_files(BOOK), stream()
    file, labels = write(tmp_path / "e.ndjson", [*events, events[7]]), labels_of(tmp_path / "l.csv", events)
    one = features_files([file], book, labels=labels, out=tmp_path / "one.parquet")
    more = features_files([file], book, labels=labels, out=tmp_path / "more.parquet", threads=threads)
    assert (one.events, one.repeated, one.threads) == (more.events, more.repeated, 1) == (3000, 1, 1)
    assert more.threads == threads
    found = pq.read_table(tmp_path / "one.parquet")
    assert found.equals(pq.read_table(tmp_path / "more.parquet"))
    assert all(len(set(column.to_pylist())) > 1 for column in found.columns)  # nothing is empty


def test_a_feature_that_reads_what_rules_write_is_computed_on_one_thread_and_it_is_said(tmp_path):
    events = [pay(k, amount=9.0, card="c") for k in range(5)]
    file, out = write(tmp_path / "e.ndjson", events), tmp_path / "f.parquet"
    summary = features_files([file], Rulebook.from_files(LISTED), out=out, threads=2)
    assert summary.threads == 1 and "`card_hot` reads the list `hot_cards`, which rule `hot` writes" in summary.alone
    assert pq.read_table(out)["card_hot"].to_pylist() == [0, 1, 1, 1, 1]


def test_a_thread_that_fails_fails_the_run_and_leaves_no_file(tmp_path, monkeypatch):
    def full(*_):
        raise StoreFull("no memory left for slots")

    monkeypatch.setattr(Lane, "_compute", full)
    file = write(tmp_path / "e.ndjson", stream(5))
    with pytest.raises(StoreFull, match="no memory left"):
        features_files([file], Rulebook.from_files(BOOK), out=tmp_path / "f.parquet", threads=2)
    assert not list(tmp_path.glob("*f.parquet*"))


def test_rows_that_cannot_be_written_fail_the_run_and_leave_no_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shopward.runs._open_sink", full)
    file = write(tmp_path / "e.ndjson", stream(50))
    with pytest.raises(OSError, match="No space left"):
        features_files([file], Rulebook.from_files(BOOK), out=tmp_path / "f.parquet", threads=2)
    assert not list(tmp_path.glob("*f.parquet*"))


def test_threads_are_for_the_native_engine(tmp_path):
    file = write(tmp_path / "e.ndjson", [pay(1)])
    with pytest.raises(UsageError, match="--threads is for --engine native"):
        features_files([file], Rulebook.from_files(LISTED), engine="duckdb", threads=2)
    with pytest.raises(UsageError, match="at least one"):
        features_files([file], Rulebook.from_files(LISTED), threads=0)


def test_the_command_says_on_how_many_threads(tmp_path):
    for name, text in LISTED.items():
        (tmp_path / "book" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "book" / name).write_text(text)
    file = write(tmp_path / "e.ndjson", [pay(1)])
    said = CliRunner().invoke(features, [str(file), "--rulebook", str(tmp_path / "book"), "--threads", "2", "--json"])
    assert said.exit_code == 0 and json.loads(said.stdout)["threads"] == 1
    assert "computed on one thread, not 2: feature `card_hot` reads" in said.stderr
