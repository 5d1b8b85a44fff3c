"""Hive's tables in and out, and our own lake as Hive's tables, with the metastore that comes with Spark."""

from __future__ import annotations

import json

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shopward import Rulebook
from shopward.errors import UsageError
from shopward.runs import decide_files, features_files
from shopward.store.ddl import ddl
from tests.backtest import shop

pytestmark = pytest.mark.slow


def statements(text: str) -> list[str]:
    return [s for s in (one.strip() for one in text.split(";\n")) if s]


def table_of_events(local, name: str, events: list[dict], **columns: str) -> None:
    frame = local.createDataFrame(pa.Table.from_pylist(events))
    frame.repartition(3, "account").write.format("hive").option("fileFormat", "parquet").mode("overwrite").saveAsTable(
        name
    )


@pytest.fixture
def events(tmp_path):
    path, labels = shop.history(tmp_path, n=800)
    return [json.loads(line) for line in path.read_text().splitlines()], path, labels


def ordered() -> Rulebook:
    files = shop.files()
    return Rulebook.from_files(files | {"schema.yaml": files["schema.yaml"] + "order: [ts, event_id]\n"})


def test_features_from_a_hive_table_into_a_hive_table(local, events, tmp_path):
    rows, path, labels = events
    local.sql("CREATE DATABASE IF NOT EXISTS shop")
    local.sql("DROP TABLE IF EXISTS shop.features")
    table_of_events(local, "shop.events", rows)
    features_files([path], ordered(), labels=labels, out=tmp_path / "native.parquet")
    native = {r["event_id"]: r for r in pq.read_table(tmp_path / "native.parquet").to_pylist()}
    for _ in range(2):  # made, then written again
        said = features_files(["hive:shop.events"], ordered(), engine="spark", labels=labels, out="hive:shop.features")
        assert said.events == len(rows)
        found = [row.asDict() for row in local.sql("SELECT * FROM shop.features").collect()]
        assert len(found) == len(native) and all(native[row["event_id"]] == row for row in found)


def test_decisions_into_a_partitioned_table_somebody_made(local, events):
    rows, path, labels = events
    local.sql("DROP TABLE IF EXISTS decided")
    local.sql(
        "CREATE TABLE decided (event_id STRING, ts TIMESTAMP, type STRING, score DOUBLE, risk DOUBLE, reasons ARRAY<STRING>, arm STRING,"
        " shadow ARRAY<STRING>, rulebook_version STRING) PARTITIONED BY (action STRING) STORED AS PARQUET"
    )
    said = decide_files([path], ordered(), engine="spark", labels=labels, out="hive:decided")
    counts = {
        r["action"]: r["n"] for r in local.sql("SELECT action, count(*) AS n FROM decided GROUP BY action").collect()
    }
    assert counts == {action: n for action, n in said.decisions.items() if n}
    assert len(local.sql("SHOW PARTITIONS decided").collect()) == len(counts) > 2


def test_what_is_no_table_or_has_no_order_is_said(local, events):
    rows, _, _ = events
    table_of_events(local, "unordered", rows[:9])
    with pytest.raises(UsageError, match=r"hive:nowhere: Hive knows no such table"):
        features_files(["hive:nowhere"], ordered(), engine="spark")
    with pytest.raises(UsageError, match="a table has no order: declare `order"):
        features_files(["hive:unordered"], shop.rulebook(), engine="spark")
    with pytest.raises(UsageError, match="expected hive:TABLE"):
        features_files(["hive:a; DROP TABLE b"], ordered(), engine="spark")


def lake_of(path, labels, folder) -> None:
    """A data folder whose lake was compacted twice and merged: the events of a shop, decided on."""
    from shopward.store.lake import compact
    from shopward.store.lake_merge import merge

    half = path.read_text().splitlines()
    for step, lines in enumerate((half[:400], half[400:])):
        (folder / f"{step}.ndjson").write_text("\n".join(lines))
        decide_files([folder / f"{step}.ndjson"], shop.rulebook(), data=folder / "data")
        compact(folder / "data")
    merge(folder / "data")


@pytest.mark.parametrize("dialect", ["hive", "spark"])
def test_our_lake_as_tables_of_a_real_metastore(dialect, local, events, tmp_path):
    rows, path, labels = events
    lake_of(path, labels, tmp_path)
    local.sql(f"CREATE DATABASE IF NOT EXISTS lake_{dialect}")
    local.sql(f"USE lake_{dialect}")
    schema = shop.rulebook().schema
    for statement in statements(
        ddl(tmp_path / "data" / "lake", dialect, schema=schema, tags={"owner": "risk", "retention": "400d"})
    ):
        local.sql(statement)
    count, day = (
        "SELECT type, count(*) AS n FROM events GROUP BY type",
        "SELECT * FROM events WHERE type = 'payment' AND date = '2026-01-09'",
    )
    assert sum(r["n"] for r in local.sql(count).collect()) == len(rows)
    assert {r["event_id"] for r in local.sql(day).collect()} == {
        r["event_id"] for r in rows if r["type"] == "payment" and 8 * shop.DAY <= r["ts"] - shop.START < 9 * shop.DAY
    }
    joined = local.sql(
        "SELECT d.action, e.amount, e.account FROM decisions d JOIN events e ON d.event_id = e.event_id WHERE d.action <> 'allow'"
    )
    assert joined.count() > 10 and str(joined.schema["amount"].dataType) == "DecimalType(18,2)"
    assert len(local.sql("SHOW PARTITIONS events").collect()) == len(
        {(r["type"], (r["ts"] - shop.START) // shop.DAY) for r in rows}
    )
    said = {r["col_name"]: r["comment"] for r in local.sql("DESCRIBE events").collect()}
    assert "personal: a pseudonym" in said["email"] and said["account"].startswith("key: account")
    tags = {r["key"]: r["value"] for r in local.sql("SHOW TBLPROPERTIES events").collect()}
    assert tags["tag.owner"] == "risk" and tags["retention"] == "400d" and tags["sensitivity.columns"] == "email"
    local.sql("USE default")


def test_a_new_day_is_found_and_columns_that_were_added_widened_and_dropped_are_read(local, tmp_path):
    def write(day: str, **columns) -> None:
        place = tmp_path / "lake" / "orders" / f"date={day}"
        place.mkdir(parents=True)
        pq.write_table(pa.table({"event_id": [day], **columns}), place / "part-0.parquet")

    write("2026-01-01", items=pa.array([1], pa.int32()), weight=pa.array([0.5], pa.float32()), gone=["g"])
    write("2026-01-02", items=pa.array([1 << 40]), weight=pa.array([0.1]), coupon=["WELCOME"])
    local.sql("DROP TABLE IF EXISTS orders")
    for statement in statements(ddl(tmp_path / "lake", "spark")):
        local.sql(statement)
    query = "SELECT event_id, items, weight, gone, coupon FROM orders ORDER BY event_id"
    expected = [("2026-01-01", 1, 0.5, "g", None), ("2026-01-02", 1 << 40, 0.1, None, "WELCOME")]
    assert [tuple(r) for r in local.sql(query).collect()] == expected
    with duckdb.connect() as db:
        db.execute(ddl(tmp_path / "lake", "duckdb"))
        assert db.execute(query).fetchall() == expected
    write("2026-01-03", items=pa.array([3]))
    local.sql("MSCK REPAIR TABLE orders")
    local.sql("REFRESH TABLE orders")
    assert [tuple(r) for r in local.sql(query).collect()][2] == ("2026-01-03", 3, None, None, None)
