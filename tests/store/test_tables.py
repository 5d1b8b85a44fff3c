"""The shared tables, on a real SQLite and a real PostgreSQL."""

from __future__ import annotations

import importlib.util

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from shopward.errors import MissingExtra, StoreFull, UsageError
from shopward.lists import Entry, ListIndex
from shopward.store import tables as t
from shopward.store.tables import Tables


@pytest.fixture
def tables(database):
    opened = Tables.open(database)
    yield opened
    opened.close()


def test_list_entries_come_back_in_the_order_they_were_written(tables):
    written = [
        Entry(list="blocked", key="d1", valid_from=10, expires=50, provenance="rule:ring", seq=7),
        Entry(list="family", key="d2", valid_from=0),
        Entry(list="pairs", key=("a1", "s9"), valid_from=5),
        Entry(list="blocked", key="d1", valid_from=30, remove=True, provenance="analyst:kim"),
    ]
    tables.write_lists(written)
    assert list(tables.list_entries()) == written
    assert [e.key for e in tables.list_entries("family")] == ["d2"]
    index = ListIndex(tables.list_entries())
    assert [index.contains("blocked", "d1", at) for at in (9, 10, 29, 30)] == [False, True, True, False]
    assert index.contains("pairs", ("a1", "s9"), 5)


def test_writes_of_a_frame_may_be_repeated_after_a_crash(tables):
    entries = [Entry(list="blocked", key=k, valid_from=0, seq=4) for k in ("a", "b")]
    tables.write_lists(entries[:1], frame=3)  # died half way
    tables.write_lists(entries, frame=3)
    tables.write_lists(entries, frame=3)
    assert list(tables.list_entries()) == entries


def test_labels_of_the_log_may_be_repeated(tables):
    rows = [{"seq": 5, "event_id": "e1", "label": 1.0, "label_ts": 99, "source": "chargeback"}]
    tables.write_labels(rows)
    tables.write_labels(rows)
    assert tables.rows(sa.select(t.labels)) == [rows[0] | {"amount": None}]


def test_the_audit_table_only_grows(tables):
    tables.record("kim", "closed a case", "case:7", {"why": "family device"})
    for statement in (sa.update(t.audit).values(who="nobody"), sa.delete(t.audit)):
        with pytest.raises(DBAPIError, match="append-only"), tables.writing() as connection:
            connection.execute(statement)
    (line,) = tables.rows(sa.select(t.audit))
    assert (line["who"], line["did"], line["subject"]) == ("kim", "closed a case", "case:7")


def test_meta_keeps_the_last_value(tables):
    assert tables.get("x") is None and tables.get("x", "y") == "y"
    tables.put("x", "1")
    tables.put("x", "2")
    assert tables.get("x") == "2"


def test_tables_are_there_after_reopening(database):
    first = Tables.open(database)
    first.write_lists([Entry(list="l", key="k", valid_from=1)])
    first.close()
    again = Tables.open(database)
    assert [e.key for e in again.list_entries()] == ["k"]
    again.close()


def test_tables_of_another_version_are_refused(database):
    tables = Tables.open(database)
    tables.put("version", "99")
    tables.close()
    with pytest.raises(UsageError, match="written by a version of Shopward with tables 99, this one has 1"):
        Tables.open(database)


def test_a_reader_beside_a_writer(tmp_path):
    writer, reader = Tables.open(tmp_path / "x.db"), Tables.open(tmp_path / "x.db")
    with writer.writing() as connection:
        connection.execute(sa.insert(t.cases).values(entity="account:a1", opened=1))
        assert reader.rows(sa.select(t.cases)) == []
    assert [case["state"] for case in reader.rows(sa.select(t.cases))] == ["open"]


def test_a_full_disk_is_told_apart_from_other_errors(tmp_path):
    tables = Tables.open(tmp_path / "x.db")
    with tables.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1")
    with pytest.raises(StoreFull, match="x.db: database or disk is full; free some space"):
        tables.record("kim", "wrote a novel", "x" * 1_000_000)
    tables.close()


def test_a_missing_driver_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"this needs psycopg: pip install 'shopward\[postgres\]'"):
        Tables.open("postgresql://localhost/x")


def test_a_database_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(UsageError, match=r"--db mysql://\.\.\.: expected a SQLite file or postgresql://"):
        Tables.open("mysql://localhost/x")
    with pytest.raises(UsageError, match="--db sqlite:///.*unable to open database file"):
        Tables.open(tmp_path / "no such folder" / "x.db")


def test_an_unreachable_postgres_hides_the_password():
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed")
    with pytest.raises(UsageError, match=r"--db postgresql\+psycopg://kim:\*\*\*@127.0.0.1:1/x: ") as error:
        Tables.open("postgresql://kim:hunter2@127.0.0.1:1/x")
    assert "hunter2" not in str(error.value)
