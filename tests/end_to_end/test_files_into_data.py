"""`decide FILE --data DIR`: a run over files that is durable, can be repeated and goes on after a crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from shopward import Engine, Rulebook
from shopward.errors import BadData
from shopward.runs import decide_files
from shopward.store.findings import read_findings
from shopward.store.lake import compact
from shopward.store.query import sql

NOON = 1_767_268_800_000
DAY = 86_400_000
BOOK = {
    "schema.yaml": """
types: [pay]
fields:
  account: {type: string, entity: account}
  card: {type: string, entity: card, pii: true}
  amount: money
""",
    "features/f.yaml": """
card_pays_7d: {entity: card, measure: count, over: 7d}
card_frauds: {entity: card, measure: sum(label), over: 200d, where: type == "label"}
""",
    "rules/many.yaml": "id: many\ntitle: Many payments\non: [pay]\nwhen: card_pays_7d > 3\nthen: review\n"
    "tests: [{name: one, events: [{type: pay, ts: 0, account: a}], expect: {fires: false}}]",
    "rules/bad.yaml": "id: bad\ntitle: A card of fraud\non: [pay]\nwhen: card_frauds > 0\nthen: deny\n"
    "tests: [{name: one, events: [{type: pay, ts: 0, account: a}], expect: {fires: false}}]",
}


@pytest.fixture(scope="module")
def book() -> Rulebook:
    return Rulebook.from_files(BOOK)


def pay(i: int, ts: int | None = None, **more) -> dict:
    return {"event_id": f"e{i}", "type": "pay", "ts": NOON + i * 1000 if ts is None else ts, "account": f"a{i % 7}",
            "card": f"card-{i % 5}", "amount": 5.25} | more  # fmt: skip


def write(path: Path, events: list[dict]) -> Path:
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def rows(path: Path) -> list[dict]:
    return pq.read_table(path).to_pylist()


def test_it_says_what_a_pure_run_says_and_says_it_again(book, tmp_path):
    events = write(tmp_path / "e.ndjson", [pay(i) for i in range(40)])
    labels = tmp_path / "labels.csv"
    labels.write_text(f"event_id,label,label_ts,source,amount\ne1,1,{NOON + 20_500},chargeback,5.25\n")
    outs = [tmp_path / f"{name}.parquet" for name in ("pure", "first", "again")]
    pure = decide_files([events], book, labels=labels, out=outs[0])
    first, again = (decide_files([events], book, labels=labels, out=out, data=tmp_path / "d") for out in outs[1:])
    assert rows(outs[0]) == rows(outs[1]) == rows(outs[2]) and len(rows(outs[0])) == 40
    assert pure.decisions == first.decisions == again.decisions and first.decisions["deny"] == 4
    assert pure.rules == first.rules == again.rules and first.labels == again.labels == 1
    assert (first.repeated, again.repeated, again.conflicts) == (0, 41, 0)
    assert sql(tmp_path / "d", "SELECT count(*) AS n FROM events")["n"].to_pylist() == [41]
    assert sql(tmp_path / "d", "SELECT source, amount FROM labels").to_pylist() == [
        {"source": "chargeback", "amount": 5.25}
    ]


def test_a_second_file_goes_on_where_the_first_ended(book, tmp_path):
    whole = write(tmp_path / "whole.ndjson", [pay(i) for i in range(30)])
    parts = [write(tmp_path / f"p{k}.ndjson", [pay(i) for i in range(15 * k, 15 * k + 15)]) for k in range(2)]
    decide_files([whole], book, out=tmp_path / "whole.parquet")
    for k, part in enumerate(parts):
        decide_files([part], book, out=tmp_path / f"p{k}.parquet", data=tmp_path / "d")
    assert rows(tmp_path / "p0.parquet") + rows(tmp_path / "p1.parquet") == rows(tmp_path / "whole.parquet")


def test_personal_values_are_only_in_the_vault_and_findings_are_kept(book, tmp_path):
    decide_files(
        [write(tmp_path / "e.ndjson", [pay(i, card="card-secret") for i in range(9)])], book, data=tmp_path / "d"
    )
    found = read_findings(tmp_path / "d", source="rule:many")
    assert len(found) == 6 and found[0].entity.startswith("card:p_")
    kept = [p for p in (tmp_path / "d").rglob("*") if p.is_file() and not p.name.startswith("shopward.db")]
    assert not [p for p in kept if b"card-secret" in p.read_bytes()]


def test_the_state_is_that_of_a_replay_of_its_log(book, tmp_path):
    decide_files([write(tmp_path / "e.ndjson", [pay(i) for i in range(50)])], book, data=tmp_path / "d")
    with Engine(book, data=tmp_path / "d", mode="interpreted") as engine:
        hashed = engine.state_hash()
    for snapshot in (tmp_path / "d" / "state").glob("*.snap*"):
        snapshot.unlink()
    with Engine(book, data=tmp_path / "d", mode="interpreted") as engine:
        assert engine.state_hash() == hashed and engine.seq == 50


def test_the_same_id_with_other_content_keeps_the_first_answer(book, tmp_path):
    decide_files([write(tmp_path / "a.ndjson", [pay(1)])], book, data=tmp_path / "d")
    summary = decide_files([write(tmp_path / "b.ndjson", [pay(1, amount=9), pay(2)])], book, data=tmp_path / "d")
    assert (summary.events, summary.repeated, summary.conflicts) == (2, 1, 1)
    assert sql(tmp_path / "d", "SELECT amount::VARCHAR AS a FROM events WHERE event_id = 'e1'")["a"].to_pylist() == [
        "5.25"
    ]


def test_a_year_of_events_can_be_given_again_when_their_ids_are_forgotten(book, tmp_path, monkeypatch):
    from shopward.store import dedup

    monkeypatch.setattr(dedup, "FIND_MS", 30 * DAY)
    year = [pay(i, ts=NOON + (i - 365) * DAY) for i in range(365)]
    events = write(tmp_path / "e.ndjson", year)
    first = decide_files([events], book, out=tmp_path / "a.parquet", data=tmp_path / "d")
    again = decide_files([events], book, out=tmp_path / "b.parquet", data=tmp_path / "d")
    compact(tmp_path / "d")
    third = decide_files([events], book, out=tmp_path / "c.parquet", data=tmp_path / "d")
    assert rows(tmp_path / "a.parquet") == rows(tmp_path / "b.parquet") == rows(tmp_path / "c.parquet")
    assert again.repeated == third.repeated == first.events == 365
    assert sql(tmp_path / "d", "SELECT count(*) AS n FROM events")["n"].to_pylist() == [365]


def test_nothing_usable_is_bad_data_and_leaves_the_folder_free(book, tmp_path):
    with pytest.raises(BadData):
        decide_files([write(tmp_path / "e.ndjson", [{"x": 1}])], book, data=tmp_path / "d", out=tmp_path / "o.parquet")
    assert decide_files([write(tmp_path / "g.ndjson", [pay(1)])], book, data=tmp_path / "d").events == 1


RUN = """
import sys
from pathlib import Path
from shopward import Rulebook
from shopward.runs import decide_files
from tests.end_to_end.test_files_into_data import BOOK
done = lambda n: print(n, flush=True)
decide_files([Path(sys.argv[1])], Rulebook.from_files(BOOK), out=Path(sys.argv[2]), data=Path(sys.argv[3]), on_progress=done)
"""


def test_a_killed_run_goes_on_and_gives_the_same_rows(book, tmp_path):
    events = write(tmp_path / "e.ndjson", [pay(i) for i in range(40_000)])
    decide_files([events], book, out=tmp_path / "pure.parquet")
    out, data = tmp_path / "o.parquet", tmp_path / "d"
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(events), str(out), str(data)], stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    for _ in range(4):
        run.stdout.readline()
    time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert not out.exists()
    decide_files([events], book, out=out, data=data)
    assert rows(out) == rows(tmp_path / "pure.parquet")
    n = sql(data, "SELECT count(*) AS n, count(DISTINCT event_id) AS ids, max(seq) AS last FROM events").to_pylist()[0]
    assert n == {"n": 40_000, "ids": 40_000, "last": 39_999}
