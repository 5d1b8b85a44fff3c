"""The tables people share: lists, labels, cases, audit, jobs, and the vault of personal values. SQLite, or PostgreSQL by URL.

SQLite needs nothing and lives in the data folder; several people work on one PostgreSQL (`--db postgresql://...`). Writes that
follow from the log carry its seq and may be repeated after a crash without harm.
"""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from shopward.errors import MissingExtra, StoreFull, UsageError
from shopward.lists import Entry, key_of, key_text

VERSION = "1"
PATIENCE_MS = 10_000
schema = sa.MetaData()
Big = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers rows itself only for INTEGER

lists = sa.Table(
    "lists",
    schema,
    sa.Column("id", Big, primary_key=True, autoincrement=True),
    sa.Column("list", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("valid_from", sa.BigInteger, nullable=False),
    sa.Column("expires", sa.BigInteger),
    sa.Column("remove", sa.Boolean, nullable=False, default=False),
    sa.Column("provenance", sa.Text, nullable=False, default=""),
    sa.Column("seq", sa.BigInteger, nullable=False, default=-1),
    sa.Column("frame", sa.BigInteger),  # log position; NULL: written by hand
    sa.Column("nth", sa.Integer),  # which write of that frame
    sa.UniqueConstraint("frame", "nth"),
)
sa.Index("lists_by_key", lists.c.list, lists.c.key)

labels = sa.Table(
    "labels",
    schema,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("event_id", sa.Text, nullable=False, index=True),
    sa.Column("label", sa.Float, nullable=False),
    sa.Column("label_ts", sa.BigInteger, nullable=False),
    sa.Column("source", sa.Text, nullable=False, default=""),
    sa.Column("amount", sa.Float),
)

cases = sa.Table(
    "cases",
    schema,
    sa.Column("id", Big, primary_key=True, autoincrement=True),
    sa.Column("entity", sa.Text, nullable=False, index=True),
    sa.Column("title", sa.Text, nullable=False, default=""),
    sa.Column("state", sa.Text, nullable=False, default="open"),
    sa.Column("severity", sa.Text, nullable=False, default="medium"),
    sa.Column("owner", sa.Text),
    sa.Column("opened", sa.BigInteger, nullable=False),
    sa.Column("closed", sa.BigInteger),
    sa.Column("evidence", sa.Text, nullable=False, default="[]"),  # JSON list of Evidence
)

audit = sa.Table(
    "audit",
    schema,
    sa.Column("id", Big, primary_key=True, autoincrement=True),
    sa.Column("ts", sa.BigInteger, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("did", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False, default=""),
    sa.Column("detail", sa.Text, nullable=False, default="{}"),
)

vault = sa.Table(
    "vault",
    schema,
    sa.Column("tag", sa.LargeBinary(16), primary_key=True),  # keyed hash of the value: finds it
    sa.Column("pseudonym", sa.Text, nullable=False, unique=True),
    sa.Column("own_key", sa.LargeBinary(16), nullable=False),  # what ties the pseudonym to the value; gone when erased
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("since", sa.BigInteger, nullable=False),
)

tokens = sa.Table(
    "tokens",
    schema,
    sa.Column("id", Big, primary_key=True, autoincrement=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False, unique=True),  # SHA-256 of the token, hex
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("expires", sa.BigInteger),
    sa.Column("rate", sa.Float),  # events a second
    sa.Column("revoked", sa.BigInteger),
)

jobs = sa.Table(
    "jobs",
    schema,
    sa.Column("id", Big, primary_key=True, autoincrement=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False, default="waiting"),
    sa.Column("arguments", sa.Text, nullable=False, default="{}"),
    sa.Column("created", sa.BigInteger, nullable=False),
    sa.Column("started", sa.BigInteger),
    sa.Column("finished", sa.BigInteger),
    sa.Column("error", sa.Text),
)

meta = sa.Table(
    "meta", schema, sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
)

APPEND_ONLY = {
    "sqlite": [
        f"CREATE TRIGGER IF NOT EXISTS audit_no_{what.lower()} BEFORE {what} ON audit "
        "BEGIN SELECT RAISE(ABORT, 'the audit table is append-only'); END"
        for what in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit table is append-only'; END $$",
        "CREATE OR REPLACE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()",
    ],
}


def _entry_row(entry: Entry) -> dict[str, Any]:
    return msgspec.structs.asdict(entry) | {"key": key_text(entry.key)}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Tables:
    """One connection pool to the tables.

    >>> tables = Tables.open("sqlite://")
    >>> tables.write_lists([Entry(list="blocked", key="d1", valid_from=1000, provenance="analyst:kim")])
    >>> [(e.key, e.provenance) for e in tables.list_entries()]
    [('d1', 'analyst:kim')]
    """

    def __init__(self, engine: sa.Engine):
        self.engine = engine

    @classmethod
    def open(cls, where: Path | str, patience_ms: int = PATIENCE_MS) -> Tables:
        """Open (and where needed create) the tables in a SQLite file or at a database URL.

        `patience_ms` is how long a writer waits for another process that writes to the same SQLite file.

        Raises MissingExtra when the driver is not installed, UsageError when the database cannot be reached.
        """
        url = _url(where)
        engine = sa.create_engine(url, **_pool(url))
        if url.get_backend_name() == "sqlite":
            sa.event.listen(engine, "connect", lambda connection, _: _tune_sqlite(connection, patience_ms))
        tables = cls(engine)
        try:
            tables._create()
        except DBAPIError as error:
            raise UsageError(f"--db {url.render_as_string()}: {_first_line(error)}") from error
        return tables

    def close(self) -> None:
        self.engine.dispose()

    def __enter__(self) -> Tables:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction, durable when it ends without an error. Raises StoreFull when the disk is full."""
        with self._room(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, sqlite3.OperationalError) as error:
            if "is full" in str(error) or "No space left" in str(error):
                raise StoreFull(
                    f"{self.engine.url.render_as_string()}: {_first_line(error)}; free some space"
                ) from error
            raise

    def append(self, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows, durable when this returns; in SQLite without the machinery between, since the vault does this for every flush.

        Raises StoreFull when the disk is full, sqlalchemy's IntegrityError when a row is there already.
        """
        if not self.is_sqlite:
            with self.writing() as connection:
                connection.execute(sa.insert(table), [*rows])
            return
        names = [column.name for column in table.columns]
        statement = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        raw = self.engine.raw_connection()
        try:
            with self._room():
                raw.cursor().executemany(statement, [tuple(row[name] for name in names) for row in rows])
                raw.commit()
        except sqlite3.IntegrityError as error:
            raise IntegrityError(statement, None, error) from error
        finally:
            raw.close()

    def rows(self, query: sa.Executable) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    # ---- lists

    def write_lists(self, entries: Iterable[Entry], frame: int | None = None) -> None:
        """Keep list entries. With the number of the log frame they stand in, writing them again changes nothing."""
        rows = [_entry_row(e) | {"frame": frame, "nth": None if frame is None else i} for i, e in enumerate(entries)]
        if rows:
            with self.writing() as connection:
                connection.execute(self.insert_new(lists), rows)

    def list_entries(self, list: str | None = None) -> Iterator[Entry]:
        """Entries in the order in which they were written: what a ListIndex is built from."""
        query = sa.select(lists).order_by(lists.c.id)
        if list is not None:
            query = query.where(lists.c.list == list)
        with self.engine.connect() as connection:
            for row in connection.execution_options(yield_per=10_000).execute(query).mappings():
                yield Entry(**{name: row[name] for name in Entry.__struct_fields__} | {"key": key_of(row["key"])})

    # ---- labels, audit, meta

    def write_labels(self, rows: Sequence[dict[str, Any]]) -> None:
        """Keep labels: dicts of seq, event_id, label, label_ts, source, amount. The same seq again changes nothing."""
        if rows:
            with self.writing() as connection:
                connection.execute(self.insert_new(labels), [{"source": "", "amount": None} | row for row in rows])

    def record(self, who: str, did: str, subject: str = "", detail: dict[str, Any] | None = None) -> None:
        """Add a line to the audit table; the database refuses to change or remove one."""
        with self.writing() as connection:
            line = {"ts": now_ms(), "who": who, "did": did, "subject": subject, "detail": json.dumps(detail or {})}
            connection.execute(sa.insert(audit).values(line))

    def get(self, key: str, default: str | None = None) -> str | None:
        with self.engine.connect() as connection:
            found = connection.execute(sa.select(meta.c.value).where(meta.c.key == key)).scalar()
        return default if found is None else found

    def put(self, key: str, value: str) -> None:
        insert = self.dialect_insert(meta).values(key=key, value=value)
        with self.writing() as connection:
            connection.execute(insert.on_conflict_do_update(index_elements=["key"], set_={"value": value}))

    def scrub(self, table: sa.Table) -> None:
        """Make what was deleted from a table unreadable: old pages and the write-ahead log are rewritten, not only marked free.

        Raises UsageError when another process still reads old pages.
        """
        statement = "VACUUM" if self.is_sqlite else f"VACUUM FULL {table.name}"
        with self._room(), self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text(statement))
            if self.is_sqlite:
                busy = connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)")).scalar()
                if busy:
                    raise UsageError(
                        f"{self.engine.url.database}: erased, but another process still reads old pages; run it again"
                    )

    # ---- inside

    def dialect_insert(self, table: sa.Table) -> Any:
        from sqlalchemy.dialects import postgresql, sqlite

        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def insert_new(self, table: sa.Table) -> Any:
        """An insert that leaves rows alone that are already there."""
        return self.dialect_insert(table).on_conflict_do_nothing()

    def _create(self) -> None:
        with self.writing() as connection:
            schema.create_all(connection)
            for statement in APPEND_ONLY[self.engine.dialect.name]:
                connection.execute(sa.text(statement))
            connection.execute(self.insert_new(meta).values(key="version", value=VERSION))
        found = self.get("version")
        if found != VERSION:
            raise UsageError(
                f"{self.engine.url.render_as_string()}: written by a version of Shopward with tables {found}, this one has {VERSION}"
            )


def _url(where: Path | str) -> sa.URL:
    if isinstance(where, Path) or "://" not in where:
        return sa.URL.create("sqlite", database=str(where))
    url = sa.make_url(where)
    if url.get_backend_name() == "sqlite":
        return url
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise UsageError(f"--db {url.drivername}://...: expected a SQLite file or postgresql://user@host/name")
    if importlib.util.find_spec("psycopg") is None:
        raise MissingExtra("postgres", "psycopg")
    return url.set(drivername="postgresql+psycopg")


def _pool(url: sa.URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        return {"poolclass": sa.pool.StaticPool, "connect_args": {"check_same_thread": False}}
    return {} if url.get_backend_name() == "sqlite" else {"pool_pre_ping": True}


def _tune_sqlite(connection: Any, patience_ms: int) -> None:
    """Readers beside one writer, every commit on disk before it returns, erased rows overwritten, no temporary files."""
    settings = (
        f"busy_timeout={patience_ms}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "secure_delete=ON",
        "temp_store=MEMORY",
    )
    for setting in settings:
        connection.execute(f"PRAGMA {setting}")


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", error)).strip().splitlines()[0]
