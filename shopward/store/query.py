"""Everything a data folder holds, as SQL: the views `events`, `decisions`, `findings`, `lists`, `labels`, `cases` and `audit`;
`assets`, `api_assets` and `asset_tags` where interfaces were looked at.

What is not yet in the lake is read from the log, so a query sees every event that was acknowledged. The vault is never a view.
An empty folder gives empty views with their columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import sqlalchemy as sa

from shopward.errors import CorruptStore, UsageError
from shopward.store import lake as lakes
from shopward.store import rows
from shopward.store import tables as t
from shopward.store.lake import DATASETS
from shopward.store.rows import Gathered
from shopward.store.tables import Tables

if TYPE_CHECKING:
    import duckdb

TAIL_EVENTS = 200_000  # a longer tail of the log is compacted first

_FOLDERS = {"events": ("type", "date"), "decisions": ("date",), "findings": ("finder", "date"), "lists": ("date",)}
_NOWHERE = {"type": "none", "finder": "none", "date": "1970-01-01"}

FINDINGS = """
    SELECT * FROM written_findings
    QUALIFY row_number() OVER (PARTITION BY id ORDER BY written DESC, seq DESC NULLS LAST, what) = 1
"""  # found again, it stands once: the newest
LABELS = """
    SELECT label_event AS event_id, label, ts AS label_ts, label_source AS source, label_amount AS amount, seq
    FROM events WHERE type = 'label'
    UNION ALL BY NAME SELECT * FROM shared_labels WHERE seq NOT IN (SELECT seq FROM events WHERE type = 'label')
"""
CASES = pa.schema(
    {
        "id": pa.int64(), "entity": pa.string(), "title": pa.string(), "state": pa.string(), "severity": pa.string(),
        "owner": pa.string(), "opened": rows.TIME, "closed": rows.TIME, "evidence": pa.string(),
    }
)  # fmt: skip
AUDIT = pa.schema(
    {
        "id": pa.int64(), "ts": rows.TIME, "who": pa.string(), "did": pa.string(), "subject": pa.string(), "detail": pa.string(),
    }
)  # fmt: skip
SHARED_LABELS = pa.schema(
    {
        "event_id": pa.string(), "label": pa.float64(), "label_ts": rows.TIME, "source": pa.string(), "amount": pa.float64(),
        "seq": pa.int64(),
    }
)  # fmt: skip


def connect(
    data: Path | str, db: str | None = None, on_corrupt: Callable[[str], Any] | None = None
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with the views of a data folder; `db` is the URL of shared tables, if they are not in the folder.

    A file of the lake that is not readable raises CorruptStore, unless `on_corrupt` is there to be told: then it is left out, which takes a look at every page of every file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as data, connect(data) as db:
    ...     db.execute("SELECT count(*) FROM events WHERE type = 'login'").fetchall(), db.sql("SELECT * FROM decisions").columns[:5]
    ([(0,)], ['seq', 'event_id', 'ts', 'type', 'action'])
    """
    import duckdb

    data = Path(data)
    commit, tail, columns = _tail(data)
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    young = _young(tail, columns)
    for name in DATASETS:
        files = [p for p in sorted((data / "lake" / name).rglob("part-*.parquet")) if lakes.belongs(p.name, commit)]
        if on_corrupt is not None:
            files = _readable(files, on_corrupt)
        try:
            _view(connection, name, files, young[name])
        except duckdb.Error:
            _readable(files, None)
            raise
    _shared(connection, data, db)
    connection.execute(f"CREATE VIEW findings AS {FINDINGS}")
    connection.execute(f"CREATE VIEW labels AS {LABELS}")
    _governed(connection, data / "lake")
    return connection


def _governed(connection: duckdb.DuckDBPyConnection, lake: Path) -> None:
    """The interfaces: `api_assets` has every look at them, `assets` the newest row of each, `asset_tags` what people decided."""
    for name in ("api_assets", "asset_tags"):
        if any((lake / name).glob("date=*/part-*.parquet")):
            place = str(lake / name / "date=*" / "part-*.parquet").replace("'", "''")
            read = f"read_parquet('{place}', hive_partitioning = true, union_by_name = true)"
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {read}")
            if name == "api_assets":
                newest = "QUALIFY row_number() OVER (PARTITION BY asset ORDER BY taken DESC) = 1"
                connection.execute(f"CREATE VIEW assets AS SELECT * FROM api_assets {newest}")


def sql(data: Path | str, text: str, db: str | None = None) -> pa.Table:
    """The answer to one query over a data folder, as an Arrow table. Raises UsageError when the query is wrong."""
    import duckdb

    with connect(data, db) as connection:
        try:
            relation = connection.sql(text)
            return pa.table({}) if relation is None else relation.to_arrow_table()
        except duckdb.Error as error:
            raise UsageError(f"the query failed: {error}") from None


def _tail(data: Path) -> tuple[lakes.Commit | None, Gathered, rows.Columns]:
    """What the lake lacks; if that is a lot, the lake is brought up to date first."""
    for last_try in (False, True):
        commit = lakes.last_commit(data / "lake", published=True)
        gathered, frames = Gathered(), []
        for frame in lakes.tail(data, commit):
            gathered.add(frame)
            frames.append(frame)
            if gathered.count > TAIL_EVENTS and not last_try:
                break
        if last_try or gathered.count <= TAIL_EVENTS:
            return commit, gathered, lakes.known_columns(frames, commit)
        with suppress(UsageError):  # another process compacts already
            lakes.compact(data)
    raise AssertionError("the second try returns")


def _young(gathered: Gathered, columns: rows.Columns) -> dict[str, pa.Table]:
    """The tail as one table a view, with the partition columns that the lake has in its paths."""
    schema = rows.events_schema(columns)
    makers: dict[str, Callable[[Any], pa.Table]] = {
        "events": lambda found: rows.events_table(found, schema),
        "decisions": rows.decisions_table,
        "findings": rows.findings_table,
        "lists": rows.lists_table,
    }
    parts = {name: getattr(gathered, name) for name in DATASETS}
    return {name: _stacked(name, parts[name], make) for name, make in makers.items()}


def _stacked(name: str, parts: dict[str, list], make: Any) -> pa.Table:
    found = [("/".join(f"{column}={_NOWHERE[column]}" for column in _FOLDERS[name]), []), *parts.items()]
    return pa.concat_tables([_placed(make(some), folder.split("/")) for folder, some in found])


def _placed(table: pa.Table, folders: Sequence[str]) -> pa.Table:
    from urllib.parse import unquote

    for name, value in (folder.split("=", 1) for folder in folders):
        column = pa.array([unquote(value)] * table.num_rows, pa.string())
        table = table.append_column(name, column.cast(pa.date32()) if name == "date" else column)
    return table


def _view(connection: duckdb.DuckDBPyConnection, name: str, files: Sequence[Path], young: pa.Table) -> None:
    connection.register(f"young_{name}", young)
    query = f"SELECT * FROM young_{name}"
    if files:
        listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
        hive = (
            "{"
            + ", ".join(f"'{column}': {'DATE' if column == 'date' else 'VARCHAR'}" for column in _FOLDERS[name])
            + "}"
        )
        read = f"read_parquet([{listed}], hive_partitioning = true, hive_types = {hive}, union_by_name = true)"
        query = f"SELECT * FROM {read} UNION ALL BY NAME {query}"
    connection.execute(f"CREATE VIEW {f'written_{name}' if name in ('lists', 'findings') else name} AS {query}")


def _readable(files: Sequence[Path], on_corrupt: Callable[[str], Any] | None) -> list[Path]:
    """The files that can be read. Raises CorruptStore for the first that cannot, unless somebody is told."""
    import pyarrow.parquet as pq

    kept = []
    for path in files:
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                for _ in file.iter_batches(1 << 16):
                    pass
            kept.append(path)
        except (OSError, pa.ArrowInvalid) as wrong:
            said = f"{path}: not a readable Parquet file ({str(wrong).splitlines()[0]})"
            if on_corrupt is None:
                raise CorruptStore(f"{said}; restore it from a copy, or leave it out with --skip-corrupt") from None
            on_corrupt(said)
    return kept


def damaged(data: Path | str) -> list[str]:
    """What of a lake cannot be read, file by file: every page of every file is looked at."""
    found: list[str] = []
    for name in DATASETS:
        _readable(sorted((Path(data) / "lake" / name).rglob("part-*.parquet")), found.append)
    return found


def _shared(connection: duckdb.DuckDBPyConnection, data: Path, db: str | None) -> None:
    """Views of what people share: lists written by hand, labels, cases, and who did what."""
    entries, labels, cases, audit = _read_shared(data, db)
    connection.register("shared_lists", rows.lists_table([(e["seq"], e) for e in entries]))
    connection.register("shared_labels", _table(labels, SHARED_LABELS))
    connection.register("cases", _table(cases, CASES))
    connection.register("audit", _table(audit, AUDIT))
    columns = ", ".join(rows.LISTS.names)
    connection.execute(
        f"CREATE VIEW lists AS SELECT {columns} FROM written_lists UNION ALL SELECT {columns} FROM shared_lists"
    )


def _read_shared(data: Path, db: str | None) -> tuple[list[dict], list[dict], list[dict], list[dict]]:
    path = data / "shopward.db"
    if db is None and not path.exists():
        return [], [], [], []
    shared = Tables.open(db or path)
    try:
        by_hand = sa.select(t.lists).where(t.lists.c.frame.is_(None)).order_by(t.lists.c.id)
        labels, cases, audit = (shared.rows(sa.select(table)) for table in (t.labels, t.cases, t.audit))
        return shared.rows(by_hand), labels, cases, audit
    finally:
        shared.close()


def _table(found: list[dict], schema: pa.Schema) -> pa.Table:
    return pa.table({name: [row[name] for row in found] for name in schema.names}, schema=schema)
