"""Small files become one: no row is lost or doubled, whoever reads meanwhile, whatever runs full; what is damaged is named."""

from __future__ import annotations

import json
import resource
import threading
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from shopward.cli import cli
from shopward.errors import CorruptStore, StoreFull, UsageError
from shopward.store.frames import Frame, canonical
from shopward.store.lake import compact
from shopward.store.lake_merge import exchange, merge
from shopward.store.lake_stats import stats
from shopward.store.log import Log
from shopward.store.past import Past
from shopward.store.query import connect, sql

NOON, DAY = 1_767_268_800_000, 86_400_000
COLUMNS = {"account": "string", "amount": "decimal:2"}


def add(data: Path, first: int, n: int, day: int = 0, columns: dict | None = None) -> None:
    """Some payments, compacted at once: one more small file for their day."""
    events = [
        {"event_id": f"e{first + i}", "ts": NOON + day * DAY + first + i, "type": "payment", "account": f"a{i % 7}", "amount": i + 0.5}
        for i in range(n)
    ]  # fmt: skip
    with Log.open(data / "log") as log:
        log.append(Frame("switch", log.next_seq, NOON, meta={"rulebook": "3fa9", "columns": columns or COLUMNS}))
        ids, t = [e["event_id"] for e in events], [e["ts"] for e in events]
        answers = [{"event_id": i, "ts": NOON, "type": "payment", "action": "allow", "reasons": []} for i in ids]
        log.append(Frame.of_events(log.next_seq, t[-1], canonical(events), t, ids, answers))
        log.sync()
    compact(data)


@pytest.fixture
def data(tmp_path):
    for step in range(6):
        add(tmp_path, step * 10, 10, columns=COLUMNS | ({"coupon": "string"} if step > 3 else {}))
    add(tmp_path, 60, 10, day=2)
    return tmp_path


def files(data: Path) -> list[str]:
    return sorted(str(p.relative_to(data / "lake")) for p in (data / "lake" / "events").rglob("*.parquet"))


def ids(data: Path) -> list[str]:
    return sql(data, "SELECT event_id FROM events ORDER BY seq")["event_id"].to_pylist()


EVERY = [f"e{i}" for i in range(70)]


def test_a_day_of_small_files_becomes_one_and_says_the_same(data):
    before = sql(data, "SELECT * FROM events ORDER BY seq")
    done = merge(data)
    assert (done.partitions, done.files_before, done.files_after) == (2, 12, 2) and done.bytes_after < done.bytes_before
    assert files(data) == [
        "events/type=payment/date=2026-01-01/part-0000000000000000-0000000000000059-000000000010.parquet",
        "events/type=payment/date=2026-01-03/part-0000000000000060-0000000000000069-000000000012.parquet",
    ]
    assert sql(data, "SELECT * FROM events ORDER BY seq").equals(before) and "coupon" in before.column_names
    assert not (data / "lake" / "_merge").exists() and merge(data).partitions == 0
    seen = pyarrow.dataset.dataset(data / "lake" / "events", partitioning="hive").to_table()["event_id"].to_pylist()
    assert sorted(seen) == sorted(EVERY)


def test_compaction_goes_on_after_a_merge_and_merges_again(data):
    merge(data)
    add(data, 70, 10)
    assert ids(data) == [f"e{i}" for i in range(80)]
    assert merge(data).files_before == 4 and ids(data) == [
        f"e{i}" for i in range(80)
    ]  # one more of events and of decisions


def test_readers_see_every_row_all_the_while(data):
    """One reads with DuckDB as any other program would, over and over, while files are merged, split and merged again."""
    seen, stop = set(), threading.Event()

    def look() -> None:
        while not stop.is_set():
            try:
                with duckdb.connect() as db:
                    query = f"SELECT count(*), count(DISTINCT event_id) FROM read_parquet('{data}/lake/events/*/*/*.parquet', union_by_name = true)"
                    seen.add(db.execute(query).fetchone())
            except duckdb.IOException:  # listed before, gone when opened: the reader asks again
                continue

    reader = threading.Thread(target=look)
    reader.start()
    for step in range(8):
        add(data, 70 + step * 10, 10)
        merge(data)
    stop.set()
    reader.join()
    assert {(70 + 10 * i, 70 + 10 * i) for i in range(9)} >= seen and seen


def test_a_full_disk_leaves_the_lake_as_it_was(data):
    before = files(data)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (900, limit[1]))
    try:
        with pytest.raises(StoreFull, match="free some space"):
            merge(data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, old)
    assert files(data) == before and ids(data) == EVERY and not (data / "lake" / "_merge").exists()


def test_what_a_crash_left_is_thrown_away(data):
    left = data / "lake" / "_merge" / "events" / "type=payment" / "date=2026-01-01"
    left.mkdir(parents=True)
    (left / "part-half.parquet").write_bytes(b"PAR1")
    assert ids(data) == EVERY
    merge(data)
    assert ids(data) == EVERY and not (data / "lake" / "_merge").exists()


def test_one_writer_at_a_time(data):
    from shopward.store.lake import take_lock

    unlock = take_lock(data / "lake")
    with pytest.raises(UsageError, match="in use by process"):
        merge(data)
    unlock()


def test_who_looked_before_the_merge_finds_an_old_event_after_it(data):
    past = Past(data)
    assert past.events(["e3"])["e3"]["account"] == "a3"
    merge(data)
    assert past.events(["e4"])["e4"]["account"] == "a4"
    past.close()


def test_a_column_that_grew_is_as_wide_as_its_widest(data):
    first = data / "lake" / files(data)[0]
    table = pq.read_table(first, partitioning=None)
    pq.write_table(table.append_column("items", pa.array([1] * 10, pa.int32())), first)
    second = data / "lake" / files(data)[1]
    pq.write_table(pq.read_table(second, partitioning=None).append_column("items", pa.array([1 << 40] * 10)), second)
    expected = [(1, 10), (1 << 40, 10), (None, 50)]
    query = "SELECT items, count(*) FROM events GROUP BY items ORDER BY items NULLS LAST"
    for _ in range(2):
        with connect(data) as db:
            assert db.execute(query).fetchall() == expected
        merge(data)


def test_folders_are_exchanged_in_one_step_or_not_at_all(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("")
    exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "b").exists() and (tmp_path / "b" / "a").exists()
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "a", tmp_path / "nothing")


@pytest.mark.parametrize("where", ["footer", "pages"])
def test_a_damaged_file_is_named_and_left_out_only_on_request(data, where):
    bad = data / "lake" / files(data)[2]
    content = bytearray(bad.read_bytes())
    content[4:200] = b"\x5a" * 196
    if where == "footer":  # a copy that was cut off
        del content[-200:]
    bad.write_bytes(content)
    query = ["sql", "SELECT * FROM events", "--data", str(data), "--format", "json"]
    found = CliRunner().invoke(cli, query)
    assert isinstance(found.exception, CorruptStore) and str(bad) in str(found.exception), found.output[:300]
    found = CliRunner().invoke(cli, [*query, "--skip-corrupt"])
    assert found.exit_code == 0 and str(bad) in found.stderr
    assert sorted(json.loads(line)["event_id"] for line in found.stdout.splitlines()) == sorted(
        {*EVERY} - {f"e{i}" for i in range(20, 30)}
    )
    with pytest.raises(CorruptStore, match="not a readable Parquet file"):
        merge(data)
    assert len(files(data)) == 7


def test_statistics_name_missing_days_missing_and_damaged_files(data):
    events = next(t for t in stats(data / "lake") if t.name == "events")
    assert (events.rows, events.files, events.partitions, events.small_files) == (70, 7, 2, 7)
    assert (events.first_day, events.last_day, events.missing_days) == ("2026-01-01", "2026-01-03", ["2026-01-02"])
    gone, bad = files(data)[0], files(data)[1]
    (data / "lake" / gone).unlink()
    (data / "lake" / bad).write_bytes(b"PAR1 nothing PAR1")
    found = CliRunner().invoke(cli, ["lake", "stats", "--data", str(data)])
    assert (
        found.exit_code == 1
        and f"committed but missing: {gone}" in found.output
        and f"not readable: {bad}" in found.output
    )


def test_sql_writes_every_format(data, tmp_path):
    query = ["sql", "SELECT event_id, amount, [1, 2] AS pair FROM events ORDER BY seq LIMIT 2", "--data", str(data)]
    told = {
        style: CliRunner().invoke(cli, [*query, "--format", style]) for style in ("table", "csv", "json", "parquet")
    }
    assert all(found.exit_code == 0 for found in told.values())
    assert told["csv"].stdout == '"event_id","amount","pair"\n"e0",0.50,"[1,2]"\n"e1",1.50,"[1,2]"\n'
    assert json.loads(told["json"].stdout.splitlines()[1])["event_id"] == "e1" and "e1" in told["table"].stdout
    assert pq.read_table(pa.BufferReader(told["parquet"].stdout_bytes))["pair"].to_pylist() == [[1, 2], [1, 2]]
    out = tmp_path / "rows.parquet"
    assert CliRunner().invoke(cli, [*query, "--format", "parquet", "--out", str(out)]).exit_code == 0
    assert pq.read_table(out).num_rows == 2
