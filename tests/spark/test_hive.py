"""Hive's tables in and out, and our own lake as Hive's tables, with the metastore that comes with Spark."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shopward import Rulebook
from shopward.errors import UsageError
from shopward.runs import decide_files, features_files
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
