"""Labels enter the stream when they become known, with the keys of the event they judge."""

from __future__ import annotations

import json
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopward.batch import Needs
from shopward.errors import BadData, UsageError
from shopward.hashing import siphash128
from shopward.ingest import DeadLetters, read
from shopward.label import Label, read_labels
from tests.ingest.conftest import SEED, Reader, book, write_lines

PAYMENTS = """
types: [payment]
fields: {{account: {{type: string, entity: account}}, shop: {{type: number, entity: shop}}, amount: money, note: string}}
constants: {{type: payment}}
{more}
"""
NEEDS = Needs(
    numbers=frozenset({"label", "amount", "shop"}),
    minor=frozenset({"label"}),
    hashes=frozenset({"account", "label_event", "label_source", "event_id", "note", "type"}),
)


def payments(more: str = "label: {field: fraud, known_after: 100ms}") -> Reader:
    return Reader(book(PAYMENTS.format(more=more)), NEEDS)


def pay(i: int, ts: int, fraud: int | None = None, **more) -> dict:
    return {"event_id": f"e{i}", "ts": ts, "account": f"a{i}", "amount": 5, "fraud": fraud, **more}


def story(events: list[dict]) -> list[str]:
    """The stream in short: e1 for an event, !e1 for a label that says fraud, ?e1 for one that says not."""
    return [e["event_id"] if e["type"] != "label" else "?!"[int(e["label"])] + e["label_event"] for e in events]


def test_the_label_column_comes_back_as_a_label_when_it_is_known(tmp_path):
    shop = payments()
    path = write_lines(tmp_path / "p.ndjson", pay(1, 0, 1, shop=7), pay(2, 50, 0), pay(3, 99), pay(4, 100), pay(5, 151))
    events = shop.events(path)
    assert story(events) == ["e1", "e2", "e3", "!e1", "e4", "?e2", "e5"], (
        "a label comes before events of its millisecond"
    )
    label = events[3]
    assert label == {
        "event_id": "label:e1:100:1:",
        "ts": 100,
        "type": "label",
        "label": 1.0,
        "label_event": "e1",
        "account": "a1",
        "shop": 7.0,
    }
    assert all("fraud" not in event for event in events), "the truth is taken out of the event"


def test_label_rows_carry_the_keys_and_nothing_else(tmp_path):
    path = write_lines(tmp_path / "p.ndjson", pay(1, 0, 1, shop=7, note="n"), pay(2, 500))
    (batch,) = payments().batches(path)
    assert batch.types.tolist() == [1, 0, 1]
    assert batch.numbers["label"].tolist()[1] == 1.0 and batch.minor["label"].tolist()[1] == 1
    assert batch.numbers["amount"].tolist()[1] != batch.numbers["amount"].tolist()[1], "null"
    assert batch.numbers["shop"].tolist()[:2] == [7.0, 7.0]
    assert tuple(batch.hashes["account"][1]) == tuple(batch.hashes["account"][0])
    assert tuple(batch.hashes["label_event"][1]) == siphash128(b"e1", SEED)
    assert batch.hashes["note"][1].tolist() == [0, 0] and batch.hashes["label_event"][0].tolist() == [0, 0]
    assert batch.hashes["event_id"][1].tolist() == list(siphash128(b"label:e1:100:1:", SEED))
    assert batch.text("account") == ["a1", "a1", "a2"] and list(batch.event_ids)[1] == "label:e1:100:1:"


def test_labels_not_known_before_the_stream_ends_come_last_but_never_from_the_future(tmp_path):
    path = write_lines(tmp_path / "p.ndjson", pay(1, 1000, 1), pay(2, 900, 0))
    assert story(payments().events(path)) == ["e1", "e2", "?e2", "!e1"]
    now = int(time.time() * 1000)
    path = write_lines(tmp_path / "today.ndjson", pay(1, now - 5, 1), pay(2, now - 4, 0))
    assert story(payments("label: {field: fraud, known_after: 7d}").events(path)) == ["e1", "e2"], "nobody knows yet"


def test_a_label_file_joins_the_events_it_judges(tmp_path):
    path = write_lines(tmp_path / "p.ndjson", pay(1, 0), pay(2, 50), pay(3, 200), pay(4, 900))
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "event_id,label,label_ts,source\ne2,1,150,analyst\ne1,0,1970-01-01T00:00:00.100Z,\ne1,1,800,chargeback\nlost,1,5,\n"
    )
    shop = payments("")
    events = shop.events(path, labels=labels)
    assert story(events) == ["e1", "e2", "?e1", "!e2", "e3", "!e1", "e4"], "a later label for the same event comes too"
    assert events[3]["label_source"] == "analyst" and events[3]["account"] == "a2"
    assert shop.dead.noted["labels of events that did not come"] == 1


@pytest.mark.parametrize("ending", ["ndjson", "parquet", "csv"])
def test_label_files_of_every_kind_say_the_same(tmp_path, ending):
    rows = [{"event_id": "e2", "label": 1, "label_ts": "2026-01-02T00:00:00Z", "amount": 5.5}, {"event_id": "e1", "label": 0, "label_ts": "2026-01-01", "amount": None}]  # fmt: skip
    path = tmp_path / f"labels.{ending}"
    if ending == "ndjson":
        write_lines(path, *rows)
    elif ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(
            "event_id,label,label_ts,amount\n"
            + "".join(f"{r['event_id']},{r['label']},{r['label_ts']},{r['amount'] or ''}\n" for r in rows)
        )
    assert list(read_labels(path)) == [
        Label(event_id="e1", label=0, ts=1767225600000),
        Label(event_id="e2", label=1, ts=1767312000000, amount=5.5),
    ]


def test_a_label_file_that_cannot_be_used_says_where(tmp_path):
    bad = tmp_path / "labels.csv"
    bad.write_text("event_id,label,label_ts\ne1,0,5\ne2,maybe,6\n")
    with pytest.raises(BadData, match="row 2: label: expected 0 or 1"):
        list(read_labels(bad))
    bad.write_text("event_id,label\ne1,0\n")
    with pytest.raises(BadData, match="missing: label_ts"):
        list(read_labels(bad))
    with pytest.raises(UsageError, match="the ending must be"):
        list(read_labels(tmp_path / "labels.txt"))
    with pytest.raises(BadData, match=r"labels.ndjson:2: label_ts: missing"):
        list(
            read_labels(
                write_lines(
                    tmp_path / "labels.ndjson",
                    {"event_id": "a", "label": 1, "label_ts": 1},
                    {"event_id": "a", "label": 1},
                )
            )
        )


def naive(events: list[dict], labels: list[tuple[str, int, int]], after: int) -> list[str]:
    """The same told slowly: before each event, every label whose moment the clock has reached."""
    out, waiting, clock, order = [], [], 0, 0
    for event in events:
        clock = max(clock, event["ts"])
        due = sorted(w for w in waiting if w[0] <= clock)
        waiting = [w for w in waiting if w[0] > clock]
        out += [name for _, _, name in due] + [event["event_id"]]
        mine = [(event["ts"] + after, event["fraud"])] if event["fraud"] is not None else []
        for ts, verdict in mine + sorted(
            [(ts, v) for e, v, ts in labels if e == event["event_id"]], key=lambda x: x[0]
        ):
            waiting.append((ts, order, "?!"[verdict] + event["event_id"]))
            order += 1
    return out + [name for _, _, name in sorted(waiting)]


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, 400), st.sampled_from([None, 0, 1])), min_size=1, max_size=30),
    st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from([0, 1]), st.integers(0, 900)),
        max_size=10,
        unique_by=lambda x: (x[0], x[2]),
    ),
    st.integers(0, 300),
    st.integers(1, 7),
)
def test_labels_are_woven_as_told_slowly_however_the_file_is_cut(tmp_path_factory, told, given_labels, after, rows):
    events = [pay(i, ts, fraud) for i, (ts, fraud) in enumerate(told)]
    labels = [(f"e{i}", verdict, ts) for i, verdict, ts in given_labels]
    folder = tmp_path_factory.mktemp("weave")
    path = write_lines(folder / "p.ndjson", *events)
    file = write_lines(folder / "l.ndjson", *[{"event_id": e, "label": v, "label_ts": ts} for e, v, ts in labels])
    shop = payments(f"label: {{field: fraud, known_after: {after}ms}}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shopward.ingest.blocks.ROWS", rows)
        got = story(
            [
                r
                for b in read(path, shop.rulebook, NEEDS, SEED, labels=file, records=True, dead=DeadLetters())
                for r in b.records()
            ]
        )
    wanted = naive(events, labels, after)
    assert [name for name in got if name[0] == "e"] == [name for name in wanted if name[0] == "e"]
    assert got == wanted


def test_seq_and_stamped_time_go_on_through_label_rows(tmp_path):
    path = write_lines(tmp_path / "p.ndjson", *[pay(i, i * 40, i % 2) for i in range(20)])
    shop = payments()
    whole = shop.batches(path, batch_size=1000)
    cut = shop.batches(path, batch_size=3, seq0=0)
    assert sum(b.n for b in cut) == whole[0].n + (whole[1].n if len(whole) > 1 else 0)
    seqs = [b.seq0 + i for b in cut for i in range(b.n)]
    assert seqs == list(range(len(seqs)))
    assert [t for b in cut for t in b.t.tolist()] == [t for b in whole for t in b.t.tolist()]
    assert json.dumps([r for b in cut for r in b.records()]) == json.dumps([r for b in whole for r in b.records()])
