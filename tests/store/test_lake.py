"""Every event is in the lake exactly once, whatever crashed; other engines read it as it is; SQL sees what was acknowledged."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path
from random import Random

import duckdb
import polars
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from forgetful import ForgetfulDisk, PowerCut
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopward.errors import CorruptStore, StoreFull, UsageError
from shopward.evidence import Evidence
from shopward.lists import Entry
from shopward.store.findings import write_findings
from shopward.store.frames import Frame, canonical
from shopward.store.lake import compact
from shopward.store.log import Log
from shopward.store.query import connect, sql
from shopward.store.tables import Tables

NOON = 1_767_268_800_000  # 2026-01-01T12:00:00Z
DAY = 86_400_000
HERE = Path("/data")
COLUMNS = {
    "account": "string",
    "amount": "decimal:2",
    "items": "number",
    "success": "bool",
    "tags": "list",
    "born": "time",
}


def take(log: Log, events: list[dict], columns: dict | None = None, writes: list[dict] = ()) -> None:
    """Append events as the engine does: stamped with their own time, judged when they are not labels."""
    if columns:
        log.append(Frame("switch", log.next_seq, NOON, meta={"rulebook": "3fa9", "columns": columns}))
    decisions = [
        None if e["type"] == "label" else {"event_id": e["event_id"], "ts": e["ts"], "type": e["type"], "action": "allow", "reasons": []}
        | e.get("decision", {})
        for e in events
    ]  # fmt: skip
    records = [{k: v for k, v in e.items() if k != "decision"} for e in events]
    ids, t = [e["event_id"] for e in events], [e["ts"] for e in events]
    log.append(Frame.of_events(log.next_seq, t[-1], canonical(records), t, ids, decisions, writes=writes))
    log.sync()


def evidence(**more) -> dict:
    return {
        "source": "rule:ring",
        "what": "3 accounts on one device",
        "entity": "device:d1",
        "value": 3,
        "ts": NOON,
    } | more


SHOP = [
    {"event_id": "e1", "ts": NOON, "type": "login", "account": "a1", "success": True, "unknown_field": {"deep": [1]}},
    {"event_id": "e2", "ts": NOON + 5, "type": "payment", "account": "a1", "amount": 12.34, "items": 2, "tags": ["x", "y"],
     "decision": {"action": "deny", "score": 0.9, "reasons": ["ring"], "arm": "treated", "evidence": [evidence()]}},
    {"event_id": "e3", "ts": NOON + DAY, "type": "payment", "account": "a2", "amount": 99_999_999.99, "born": NOON},
    {"event_id": "l1", "ts": NOON + DAY + 1, "type": "label", "label": 1.0, "label_event": "e2", "label_source": "chargeback",
     "label_amount": 12.34},
]  # fmt: skip


@pytest.fixture
def data(tmp_path):
    with Log.open(tmp_path / "log") as log:
        write = {
            "list": "blocked",
            "key": ["a1", "d1"],
            "valid_from": NOON,
            "expires": NOON + DAY,
            "remove": False,
            "provenance": "rule:ring",
            "seq": 1,
        }
        take(log, SHOP, COLUMNS, [write])
    return tmp_path


def test_a_compacted_log_is_hive_partitioned_parquet(data):
    report = compact(data)
    assert (report.events, report.decisions, report.findings, report.list_writes) == (4, 3, 1, 1)
    assert sorted(str(p.relative_to(data / "lake")) for p in (data / "lake").rglob("*.parquet")) == [
        "decisions/date=2026-01-01/part-0000000000000000-0000000000000003-000000000000.parquet",
        "decisions/date=2026-01-02/part-0000000000000000-0000000000000003-000000000000.parquet",
        "events/type=label/date=2026-01-02/part-0000000000000000-0000000000000003-000000000000.parquet",
        "events/type=login/date=2026-01-01/part-0000000000000000-0000000000000003-000000000000.parquet",
        "events/type=payment/date=2026-01-01/part-0000000000000000-0000000000000003-000000000000.parquet",
        "events/type=payment/date=2026-01-02/part-0000000000000000-0000000000000003-000000000000.parquet",
        "findings/finder=rule/date=2026-01-01/part-0000000000000000-0000000000000003-000000000000.parquet",
        "lists/date=2026-01-02/part-0000000000000000-0000000000000003-000000000000.parquet",
    ]


def test_values_keep_their_types_and_unknown_fields_are_kept(data):
    compact(data)
    rows = sql(data, "SELECT * FROM events ORDER BY seq").to_pylist()
    assert [r["seq"] for r in rows] == [0, 1, 2, 3]
    assert rows[0]["success"] is True and rows[0]["extra"] == '{"unknown_field":{"deep":[1]}}'
    assert str(rows[1]["amount"]) == "12.34" and rows[1]["items"] == 2.0 and rows[1]["tags"] == ["x", "y"]
    assert str(rows[2]["amount"]) == "99999999.99" and rows[2]["born"].isoformat() == "2026-01-01T12:00:00+00:00"
    assert rows[1]["extra"] is None and rows[1]["t"] == NOON + 5
    assert rows[2]["ts"].isoformat() == "2026-01-02T12:00:00+00:00" and str(rows[2]["date"]) == "2026-01-02"


def test_duckdb_polars_and_arrow_read_it_as_it_is(data):
    compact(data)
    files = f"{data}/lake/events/*/*/*.parquet"
    assert duckdb.sql(
        f"SELECT sum(amount)::VARCHAR FROM read_parquet('{files}', hive_partitioning=true) WHERE type='payment'"
    ).fetchall() == [("100000012.33",)]
    frame = polars.read_parquet(f"{data}/lake/events/", hive_partitioning=True)
    assert sorted(frame["type"].to_list()) == ["label", "login", "payment", "payment"]
    table = pyarrow.dataset.dataset(data / "lake" / "events", partitioning="hive").to_table()
    assert table.num_rows == 4 and pa.types.is_decimal(table.schema.field("amount").type)


def test_compaction_goes_on_where_it_stopped(data):
    compact(data)
    assert compact(data).files == 0
    with Log.open(data / "log") as log:
        take(log, [SHOP[0] | {"event_id": "e9"}])
    seen = []
    assert compact(data, on_progress=seen.append).events == 1 and seen == [1]
    assert sql(data, "SELECT event_id FROM events ORDER BY seq")["event_id"].to_pylist() == [
        "e1",
        "e2",
        "e3",
        "l1",
        "e9",
    ]


def test_queries_see_what_is_not_yet_compacted(data):
    every = "SELECT event_id, type, amount, date FROM events ORDER BY seq"
    before = sql(data, every)
    assert before["event_id"].to_pylist() == ["e1", "e2", "e3", "l1"] and not (data / "lake").exists()
    compact(data)
    assert sql(data, every).equals(before)
    with Log.open(data / "log") as log:
        take(log, [SHOP[1] | {"event_id": "e9"}])
    assert sql(data, every)["event_id"].to_pylist() == ["e1", "e2", "e3", "l1", "e9"]


def test_a_long_tail_is_compacted_by_the_query(data, monkeypatch):
    from shopward.store import query

    monkeypatch.setattr(query, "TAIL_EVENTS", 2)
    assert sql(data, "SELECT count(*) AS n FROM events")["n"].to_pylist() == [4]
    assert len(list((data / "lake" / "events").rglob("*.parquet"))) == 4


def test_what_another_process_compacts_meanwhile_is_not_seen_twice(data):
    with connect(data) as early:
        compact(data)
        assert early.execute("SELECT count(*) FROM events").fetchall() == [(4,)]


def test_every_view(data):
    with Tables.open(data / "shopward.db") as tables:
        tables.write_lists([Entry(list="family", key="d9", valid_from=NOON, provenance="analyst:kim")])
        tables.write_lists([Entry(list="blocked", key=("a1", "d1"), valid_from=NOON)], frame=1)  # already in the log
        tables.write_labels([{"seq": 3, "event_id": "e2", "label": 1.0, "label_ts": NOON}])  # as well
    for _ in range(2):
        assert sql(data, "SELECT event_id, action, score, reasons FROM decisions ORDER BY seq").to_pylist() == [
            {"event_id": "e1", "action": "allow", "score": None, "reasons": []},
            {"event_id": "e2", "action": "deny", "score": 0.9, "reasons": ["ring"]},
            {"event_id": "e3", "action": "allow", "score": None, "reasons": []},
        ]
        assert sql(data, "SELECT entity, value, value_number, seq FROM findings").to_pylist() == [
            {"entity": "device:d1", "value": "3", "value_number": 3.0, "seq": 1}
        ]
        assert sql(
            data, "SELECT list, key, provenance, epoch_ms(expires) AS e, seq FROM lists ORDER BY list"
        ).to_pylist() == [
            {"list": "blocked", "key": "a1|d1", "provenance": "rule:ring", "e": NOON + DAY, "seq": 1},
            {"list": "family", "key": "d9", "provenance": "analyst:kim", "e": None, "seq": -1},
        ]
        assert sql(data, "SELECT event_id, label, source, amount, seq FROM labels").to_pylist() == [
            {"event_id": "e2", "label": 1.0, "source": "chargeback", "amount": 12.34, "seq": 3}
        ]
        assert sql(data, "SELECT * FROM cases").num_rows == 0
        compact(data)


def test_the_vault_is_not_a_view(data):
    with pytest.raises(UsageError, match="the query failed: .*vault"):
        sql(data, "SELECT * FROM vault")


def test_an_empty_folder_has_every_view_with_its_columns(tmp_path):
    for view in ("events", "decisions", "findings", "lists", "labels", "cases"):
        assert sql(tmp_path, f"SELECT * FROM {view}").num_rows == 0
    assert sql(tmp_path, "SELECT seq, event_id, ts, type, date FROM events").column_names == [
        "seq",
        "event_id",
        "ts",
        "type",
        "date",
    ]
    assert list(tmp_path.iterdir()) == []


def test_findings_from_elsewhere_stand_beside_those_of_rules(data):
    found = [Evidence(**evidence(source="scan:leaks", value="masked", ts=NOON + i * DAY)) for i in range(2)]
    write_findings(data, found)
    write_findings(data, found)
    compact(data)
    assert sql(data, "SELECT source, value FROM findings ORDER BY source, ts").to_pylist() == [
        {"source": "rule:ring", "value": "3"},
        {"source": "scan:leaks", "value": "masked"},
        {"source": "scan:leaks", "value": "masked"},
    ]


def test_without_a_schema_columns_are_guessed_once_and_keep_their_type(tmp_path):
    with Log.open(tmp_path / "log") as log:
        take(log, [{"event_id": "e1", "ts": NOON, "type": "x", "n": 1, "s": "a"}])
        compact(tmp_path)
        take(log, [{"event_id": "e2", "ts": NOON, "type": "x", "n": "many", "s": "b"}])
    assert sql(tmp_path, "SELECT n, s, extra FROM events ORDER BY seq").to_pylist() == [
        {"n": 1.0, "s": "a", "extra": None},
        {"n": None, "s": "b", "extra": '{"n":"many"}'},
    ]


def test_a_changed_schema_adds_columns_and_keeps_the_old_ones(data):
    compact(data)
    with Log.open(data / "log") as log:
        take(
            log,
            [SHOP[0] | {"event_id": "e9", "card": "c1", "amount": "text now"}],
            {"card": "string", "amount": "string"},
        )
    for _ in range(2):
        assert sql(data, "SELECT card, amount, extra FROM events WHERE event_id = 'e9'").to_pylist() == [
            {"card": "c1", "amount": None, "extra": '{"unknown_field":{"deep":[1]},"amount":"text now"}'}
        ]
        compact(data)


def test_a_type_that_is_no_folder_name_does_no_harm(tmp_path):
    with Log.open(tmp_path / "log") as log:
        take(log, [{"event_id": "e1", "ts": NOON, "type": "../../x y"}])
    assert sql(tmp_path, "SELECT type FROM events")["type"].to_pylist() == ["../../x y"]
    compact(tmp_path)
    assert sql(tmp_path, "SELECT type FROM events")["type"].to_pylist() == ["../../x y"]


def test_frames_dropped_before_compaction_are_an_error(tmp_path):
    with Log.open(tmp_path / "log", segment_bytes=1) as log:
        for i in range(4):
            take(log, [SHOP[0] | {"event_id": f"e{i}"}])
        log.drop_before(2)
    with pytest.raises(CorruptStore, match="starts at frame 2, but the lake ends at frame 0"):
        compact(tmp_path)


def test_a_committed_file_that_went_missing_is_an_error(data):
    compact(data)
    next((data / "lake" / "events").rglob("*.parquet")).unlink()
    with pytest.raises(CorruptStore, match="committed to the lake, but missing"):
        compact(data)


def test_compaction_sweeps_its_own_leftovers_and_leaves_a_finder_that_is_writing_alone(data):
    folder = data / "lake" / "findings" / "finder=rule" / "date=2026-01-01"
    folder.mkdir(parents=True)
    own = folder / ".part-0000000000000000-0000000000000003-000000000000.parquet.tmp"
    other = folder / ".part-0123456789abcdef.parquet.tmp"
    own.write_bytes(b"half")
    other.write_bytes(b"half")
    compact(data)
    assert other.exists() and not own.exists()


def test_two_compactions_at_once_are_refused(data):
    from shopward.store.files import REAL

    (data / "lake").mkdir()
    unlock = REAL.lock(data / "lake" / "_lock")
    with pytest.raises(UsageError, match=f"in use by process {os.getpid()}"):
        compact(data)
    unlock()
    assert compact(data).events == 4


def lake_ids(disk: ForgetfulDisk) -> list[str]:
    """Every event id a reader of lake/events would see."""
    found = []
    for path, folder in disk.folders.items():
        if path.is_relative_to(HERE / "lake" / "events"):
            for name in folder.seen:
                if not name.startswith((".", "_")):
                    found += pq.read_table(io.BytesIO(disk.read(path / name)))["event_id"].to_pylist()
    return sorted(found, key=lambda id: int(id[1:]))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.sampled_from(["take", "take", "compact", "cut", "cut", "crash", "full"]), max_size=14),
    st.integers(0, 1 << 32),
)
def test_after_any_crash_every_event_is_in_the_lake_exactly_once(steps, seed):
    chance, disk = Random(seed), ForgetfulDisk()
    disk.make_folder(HERE)
    log = Log.open(HERE / "log", disk, segment_bytes=600)
    for step in [*steps, "crash", "take", "compact"]:
        if step == "take":
            kind, day = chance.choice(["login", "payment"]), chance.randrange(2)
            take(
                log,
                [
                    {"event_id": f"e{log.next_seq + i}", "ts": NOON + day * DAY, "type": kind}
                    for i in range(chance.randrange(1, 4))
                ],
            )
        elif step in ("crash", "cut"):
            if step == "cut":
                disk.operations_left = chance.randrange(60)
                with suppress(PowerCut):
                    compact(HERE, COLUMNS, disk=disk, chunk_events=3)
            disk = disk.crash(chance)
            log = Log.open(HERE / "log", disk, segment_bytes=600)
        elif step == "full":
            disk.capacity = chance.randrange(40_000)
            with suppress(StoreFull):
                compact(HERE, COLUMNS, disk=disk, chunk_events=3)
            disk.capacity = 1 << 40
        else:
            compact(HERE, COLUMNS, disk=disk, chunk_events=3)
            assert lake_ids(disk) == [f"e{i}" for i in range(log.next_seq)]
        seen = lake_ids(disk)
        assert len(seen) == len(set(seen))
    assert not [
        name
        for path, folder in disk.folders.items()
        for name in folder.seen
        if name.endswith(".tmp") and "events" in str(path)
    ]


def test_a_crash_between_commit_and_names_is_finished(data, monkeypatch):
    from shopward.store import lake

    with monkeypatch.context() as patched:
        patched.setattr(lake, "_publish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            compact(data)
    assert list((data / "lake").rglob("part-*.parquet")) == []
    assert sql(data, "SELECT count(*) AS n FROM events")["n"].to_pylist() == [4]
    assert compact(data).events == 0
    assert sql(data, "SELECT count(*) AS n FROM events")["n"].to_pylist() == [4]
