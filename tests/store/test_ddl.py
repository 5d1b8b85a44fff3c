"""The lake as other engines see it: statements that run, columns that grew, files that are no tables."""

from __future__ import annotations

import re

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from shopward import Rulebook
from shopward.cli import cli
from shopward.errors import BadData, UsageError
from shopward.store.ddl import ddl, tables

BOOK = {
    "schema.yaml": "types: [order]\nfields:\n  account: {type: string, entity: account, doc: who's buying}\n"
    "  email: {type: string, pii: true}\n  amount: money\n"
}


def _write(folder, day, **columns):
    place = folder / "events" / "type=order" / f"date={day}"
    place.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), place / "part-0.parquet")
    return place / "part-0.parquet"


@pytest.fixture
def lake(tmp_path):
    """Two days; a column was added on the second, and one grew wider."""
    _write(tmp_path, "2026-01-01", event_id=["a"], account=["x"], email=["p1"], items=pa.array([1], pa.int32()))
    _write(
        tmp_path,
        "2026-01-02",
        event_id=["b"],
        account=["y"],
        email=["p2"],
        items=pa.array([2], pa.int64()),
        tags=[["t", "u"]],
    )
    return tmp_path


def test_columns_added_and_widened_are_in_the_table(lake):
    (table,) = tables(lake)
    assert table.partitions == ("type", "date") and table.files == 2
    assert table.columns.field("items").type == pa.int64() and "tags" in table.columns.names


def test_duckdb_reads_what_its_statements_declare(lake):
    db = duckdb.connect()
    db.execute(ddl(lake, "duckdb", schema=Rulebook.from_files(BOOK).schema, tags={"owner": "payments"}))
    rows = db.execute("select event_id, type, date, items, tags from events order by date").fetchall()
    assert rows == [("a", "order", "2026-01-01", 1, None), ("b", "order", "2026-01-02", 2, ["t", "u"])]
    said = dict(db.execute("select column_name, comment from duckdb_columns() where table_name = 'events'").fetchall())
    assert said["account"] == "who's buying; key: account" and said["email"] == "personal: a pseudonym"


def test_hive_statement_as_a_person_would_write_it(lake):
    text = ddl(
        lake,
        "hive",
        schema=Rulebook.from_files(BOOK).schema,
        tags={"owner": "payments", "retention": "400d"},
        location="s3://b/lake/",
    )
    assert text == (
        "CREATE EXTERNAL TABLE IF NOT EXISTS `events` (\n"
        "  `event_id` STRING COMMENT 'id of the event, as given',\n"
        "  `account` STRING COMMENT 'who\\'s buying; key: account',\n"
        "  `email` STRING COMMENT 'personal: a pseudonym',\n"
        "  `items` BIGINT,\n"
        "  `tags` ARRAY<STRING>\n"
        ")\n"
        "PARTITIONED BY (`type` STRING COMMENT 'event type', `date` STRING COMMENT 'day of ts, UTC')\n"
        "STORED AS PARQUET\n"
        "LOCATION 's3://b/lake/events'\n"
        "TBLPROPERTIES ('sensitivity' = 'personal', 'sensitivity.columns' = 'email', 'tag.owner' = 'payments', 'retention' = '400d');\n"
        "MSCK REPAIR TABLE `events`;\n"
    )


def test_spark_and_flink_declare_partitions_as_columns(lake):
    spark, flink = ddl(lake, "spark"), ddl(lake, "flink")
    assert "USING PARQUET\nPARTITIONED BY (`type`, `date`)" in spark and "  `date` STRING" in spark
    assert "'connector' = 'filesystem'" in flink and re.search(r"'format' = 'parquet'\);", flink)


def test_what_cannot_be_one_table_is_named(lake):
    bad = _write(lake, "2026-01-03", event_id=["c"], items=[["not", "a number"]])
    with pytest.raises(BadData, match=f"{bad}.*items"):
        tables(lake)
    bad.write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(BadData, match=f"{bad}: not a Parquet file|{bad}: "):
        tables(lake)


def test_partitions_cut_another_way_are_named(lake):
    odd = lake / "events" / "date=2026-01-05"
    odd.mkdir()
    pq.write_table(pa.table({"event_id": ["z"]}), odd / "p.parquet")
    with pytest.raises(BadData, match="one table is cut one way"):
        tables(lake)


def test_the_command_line_prints_statements_or_says_what_is_there(lake):
    result = CliRunner().invoke(cli, ["lake", "ddl", "--data", str(lake), "--dialect", "spark", "--tag", "owner=kim"])
    assert result.exit_code == 0 and "'tag.owner' = 'kim'" in result.output
    with pytest.raises(UsageError, match="no table orders; there are events"):
        ddl(lake, "hive", only=("orders",))
    with pytest.raises(UsageError, match="no table with a Parquet file"):
        ddl(lake / "events" / "type=order" / "date=2026-01-01", "hive")
