"""CSV, Parquet, Arrow, pipes and folders: the same events from every format."""

from __future__ import annotations

import gzip
import io
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopward.errors import UsageError
from shopward.ingest import DeadLetters, from_dicts, read
from tests.ingest.conftest import EVERYTHING, SEED, Reader, book, same_columns, write_lines

ROWS = [
    {"event_id": "1", "type": "login", "ts": 1767225600000, "account": "007", "success": True, "rating": -1.5, "born": "2001-02-03"},
    {"event_id": "2", "type": "payment", "ts": 1767225601000, "account": "ann, the \"first\"", "amount": 12.345, "email": "Ann@Example.com"},
    {"event_id": "3", "type": "order", "ts": 1767225602000, "note": "two\nlines", "ip": "2001:db8::1", "tags": ["a", "b"], "weight": 0.0005},
]  # fmt: skip


def quoted(value) -> str:
    text = "|".join(value) if isinstance(value, list) else "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n\r') else text


def write_csv(path, rows, header=None):
    header = header or list(dict.fromkeys(name for row in rows for name in row))
    path.write_text(
        "\n".join([",".join(header), *(",".join(quoted(row.get(name)) for name in header) for row in rows)]) + "\n",
        newline="",
    )
    return path


def test_csv_and_ndjson_give_the_same_events(shop, tmp_path):
    lines = shop.events(write_lines(tmp_path / "e.ndjson", *ROWS))
    cells = shop.events(write_csv(tmp_path / "e.csv", ROWS))
    assert cells == lines
    assert cells[0]["account"] == "007", "an id keeps its zeros"
    assert cells[1]["amount"] == 12.34 and cells[2]["tags"] == ["a", "b"]


@settings(deadline=None, max_examples=150)
@given(st.lists(st.fixed_dictionaries({
    "type": st.sampled_from(["login", "order", "nothing"]), "ts": st.sampled_from(["2026-01-01", "1767225600000", "x", ""]),
    "account": st.text(st.sampled_from("ab,\"\n\r é;|"), max_size=8), "note": st.text(st.sampled_from("ab,\"\n\r é;|"), max_size=8),
    "amount": st.sampled_from(["1", "1.005", "-1", "", "1e2", " 3", "x"]), "unknown": st.text(st.sampled_from("a,\"\n"), max_size=4),
}), min_size=1, max_size=8), st.integers(20, 200))  # fmt: skip
def test_any_csv_is_read_as_pythons_csv_reads_it(tmp_path_factory, rows, block):
    path = write_csv(tmp_path_factory.mktemp("csv") / "e.csv", rows)
    rulebook, dead = book(), DeadLetters()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shopward.ingest.blocks.BLOCK", block)
        batches = list(read(path, rulebook, EVERYTHING, SEED, records=True, dead=dead))
    got = [record for batch in batches for record in batch.records()]
    import csv

    wanted = []
    from shopward.errors import BadEvent
    from shopward.ingest import normalise

    for row in csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")):
        try:
            wanted.append(normalise({k: v for k, v in row.items() if v != ""}, rulebook.schema))
        except BadEvent:
            continue
    assert [{k: v for k, v in record.items() if k != "event_id"} for record in got] == wanted
    assert dead.count == len(rows) - len(wanted)
    for batch in batches:
        same_columns(
            batch, from_dicts(batch.records(), rulebook, EVERYTHING, SEED, settled=True, seq0=batch.seq0, t=batch.t)
        )


def test_csv_lines_that_do_not_fit_are_dead_letters(shop, tmp_path):
    path = tmp_path / "e.csv"
    path.write_bytes(
        b'\xef\xbb\xbftype;ts;account\r\nlogin;1;ann\r\nlogin;2\r\nlogin;3;b;c\r\n\r\nlogin;4;\xff\r\nlogin;5;"bo""b"\r\n'
    )
    assert [(e["ts"], e.get("account")) for e in shop.events(path)] == [(1, "ann"), (5, 'bo"b')]
    assert shop.dead.why() == f"2 cells where the header has 3 (1; first at {path}:3); 4 cells where the header has 3 (1; first at {path}:4); not valid UTF-8 (1; first at {path}:6)"  # fmt: skip


def test_an_arrow_table_of_any_types_gives_the_same_events(shop):
    table = pa.table({
        "event_id": pa.array([1, 2, 3], pa.int32()),
        "type": pa.array(["login", "payment", "order"]).dictionary_encode(),
        "ts": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 3, pa.timestamp("ns", "UTC")),
        "account": pa.array([7.0, None, 9.0]),
        "amount": pa.array([Decimal("12.345"), None, Decimal("0.285")], pa.decimal128(12, 3)),
        "rating": pa.array([1, None, float("nan")]),
        "success": pa.array([True, None, False]),
        "born": pa.array([datetime(2001, 2, 3).date(), None, None], pa.date32()),
        "tags": pa.array([["a"], None, []]),
        "card": pa.array([{"bin": "411111"}, None, {"bin": None}]),
        "note": pa.array(["x", None, "é"], pa.large_string()),
    })  # fmt: skip
    events = shop.events(table)
    assert events[0] == {
        "event_id": "1", "ts": 1767225600000, "type": "login", "account": "7", "amount": 12.34, "rating": 1.0, "success": True,
        "born": 981158400000, "tags": ["a"], "card_bin": "411111", "note": "x",
    }  # fmt: skip
    assert events[2]["amount"] == 0.28 and "rating" not in events[2]
    assert shop.dead.count == 0 and shop.dead.noted == {"rating: NaN taken as null": 1}
    (batch,) = shop.batches(table)
    same_columns(batch, from_dicts(events, shop.rulebook, EVERYTHING, SEED, settled=True))


FLOATS = st.one_of(
    st.decimals(0, 10**6, places=2).map(float), st.decimals(0, 10**6, places=3).map(float), st.floats(-1, 1e13), st.none(), st.just(float("nan")),
    st.sampled_from([0.285, 1071.1499999999999, 0.005, 1e10, 1e10 + 1, float("inf"), -0.0]),
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(FLOATS, FLOATS, FLOATS, st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))),
        min_size=1,
        max_size=10,
    )
)
def test_number_columns_mean_what_the_same_numbers_mean_in_records(rows):
    rulebook, dead = book(), DeadLetters()
    n = len(rows)
    table = pa.table({
        "type": ["login"] * n, "ts": [1] * n, "event_id": [str(i) for i in range(n)], "amount": pa.array([r[0] for r in rows], pa.float64()),
        "balance": pa.array([r[1] for r in rows], pa.float64()), "rating": pa.array([r[2] for r in rows], pa.float64()),
        "account": pa.array([r[3] for r in rows], pa.int64()),
    })  # fmt: skip
    from shopward.errors import BadEvent
    from shopward.ingest import Normaliser

    normaliser, wanted = Normaliser.of(rulebook), []
    for record in table.to_pylist():
        try:
            wanted.append(normaliser(record))
        except BadEvent:
            continue
    batches = list(read(table, rulebook, EVERYTHING, SEED, dead=dead))
    assert sum(b.n for b in batches) == len(wanted) == n - dead.count
    assert dead.noted == normaliser.notes
    for batch in batches:
        same_columns(batch, from_dicts(wanted, rulebook, EVERYTHING, SEED, settled=True))


def test_parquet_reads_only_what_is_needed_but_keeps_whole_records_when_asked(shop, tmp_path):
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table({"type": ["login"], "ts": [5], "account": ["a"], "colour": ["red"]}), path)
    assert shop.events(path)[0]["colour"] == "red"
    (batch,) = shop.batches(path, records=False)
    assert batch.text("account") == ["a"]
    with pytest.raises(UsageError, match="records=True"):
        batch.records()


def test_folders_are_read_in_name_order_and_hive_folders_are_columns(shop, tmp_path):
    write_lines(tmp_path / "b.ndjson", {"type": "login", "ts": 3})
    with gzip.open(tmp_path / "a.ndjson.gz", "wb") as packed:
        packed.write(b'{"type":"login","ts":1}\n')
    zst = pa.compress(b"type,ts\nlogin,2\n", codec="zstd", asbytes=True)
    (tmp_path / "a.z.csv.zst").write_bytes(zst)
    (tmp_path / ".hidden.ndjson").write_text("nonsense\n")
    (tmp_path / "readme.txt").write_text("nonsense\n")
    hive = tmp_path / "c" / "type=refund"
    hive.mkdir(parents=True)
    pq.write_table(pa.table({"ts": [4]}), hive / "x.parquet")
    assert [(e["type"], e["ts"]) for e in shop.events(tmp_path)] == [
        ("login", 1),
        ("login", 2),
        ("login", 3),
        ("refund", 4),
    ]
    assert shop.dead.count == 0


def test_records_can_be_piped_in(shop, monkeypatch):
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"type":"login","ts":1}\n{"type":"login","ts":2}\n'))
    )
    assert [e["ts"] for e in shop.events("-")] == [1, 2]


def test_what_is_no_input_is_said(shop, tmp_path):
    (tmp_path / "e.xlsx").write_text("")
    with pytest.raises(UsageError, match="the ending must be one of .ndjson, .jsonl, .csv, .parquet"):
        shop.events(tmp_path / "e.xlsx")
    with pytest.raises(UsageError, match="there is no such file"):
        shop.events(tmp_path / "missing.csv")
    with pytest.raises(UsageError, match="no .ndjson"):
        shop.events(tmp_path)


def test_a_damaged_file_is_a_dead_letter_and_the_others_are_read(shop, tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nonsense")
    (tmp_path / "b.ndjson.gz").write_bytes(gzip.compress(b'{"type":"login","ts":1}\n' * 1000)[:-20])
    write_lines(tmp_path / "c.ndjson", {"type": "login", "ts": 3})
    assert [e["ts"] for e in shop.events(tmp_path)][-1] == 3
    assert "a.parquet: not a readable Parquet file" in shop.dead.why() and "damaged compressed data" in shop.dead.why()


def test_a_declared_order_sorts_the_whole_input(tmp_path):
    schema = "{types: [login], fields: {account: string}, order: [ts, event_id]}"
    shop = Reader(book(schema), EVERYTHING.__class__(hashes=frozenset({"account"})))
    path = write_lines(
        tmp_path / "e.ndjson",
        *[
            {"type": "login", "ts": ts, "event_id": i, "account": str(i)}
            for ts, i in [(5, 10), (5, 9), (1, 3), (5, "x"), (1, 20)]
        ],
    )
    assert [e["event_id"] for e in shop.events(path)] == ["3", "20", "9", "x", "10"], (
        "shorter ids first, so that numbers count up"
    )
    table = pa.table({"type": ["login"] * 4, "ts": [5, 5, 1, 1], "event_id": [10, 9, 20, 3]})
    assert [e["event_id"] for e in shop.events(table)] == ["3", "20", "9", "10"]


def test_a_seq_column_wins(shop):
    table = pa.table({"type": ["login"] * 3, "ts": [1, 2, 3], "seq": [3, 1, 2]})
    assert [e["ts"] for e in shop.events(table)] == [2, 3, 1]
