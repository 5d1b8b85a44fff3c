"""The lake's tables for other engines: `create table` in the words of Hive, Spark, Flink or DuckDB, over the files as they are.

Columns come from the files themselves (a column that was added later is there, one that grew is as wide as the widest), comments and
tags from the rulebook: what a field is, whose key it is, whether it is personal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from shopward.errors import BadData, UsageError
from shopward.store.lake import belongs, last_commit

if TYPE_CHECKING:
    from shopward.declare.types import Schema

DIALECTS = ("hive", "spark", "flink", "duckdb")
RESERVED = ("owner", "provider", "location", "comment", "external", "is_managed_location", "collation")
COMMENTS = {
    "seq": "place in the order of arrival",
    "t": "stamped time, ms UTC: ts within the clock's lateness and skew",
    "event_id": "id of the event, as given",
    "ts": "when it happened, UTC",
    "type": "event type",
    "date": "day of ts, UTC",
    "action": "allow, limit, challenge, review, hold or deny",
    "reasons": "ids of the live rules that fired, strongest first",
    "shadow": "ids of the shadow rules that fired",
    "arm": "treated, or control: let through to keep labels honest",
    "extra": "what the schema does not name, as JSON",
    "rulebook_version": "the rulebook that decided",
}


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the lake: columns in file order, partition columns in path order (the values are in the path, as text)."""

    name: str
    folder: Path
    columns: pa.Schema
    partitions: tuple[str, ...]
    files: int


def tables(lake: Path) -> list[Table]:
    """The tables of a lake folder, or of any folder of `table/key=value/.../*.parquet`. Raises BadData for a file that is not readable
    or whose column cannot be the same column as another file's."""
    if not lake.is_dir():
        raise UsageError(f"{lake}: there is no such folder")
    found = [
        t
        for folder in sorted(lake.iterdir())
        if folder.is_dir() and folder.name[0] not in "._" and (t := _table(lake, folder))
    ]
    if not found:
        raise UsageError(f"{lake}: no table with a Parquet file in this folder")
    return found


def _table(lake: Path, folder: Path) -> Table | None:
    commit = last_commit(lake)
    files = [p for p in sorted(folder.rglob("*.parquet")) if p.name[0] not in "._" and belongs(p.name, commit)]
    if not files:
        return None
    partitions = _partitions(files[0], folder)
    schema = pa.schema([])
    for path in files:
        if _partitions(path, folder) != partitions:
            raise BadData(
                f"{path}: its folders say {_partitions(path, folder)}, those of {files[0]} say {partitions}; one table is cut one way"
            )
        schema = _wider(schema, path)
    kept = pa.schema([f.remove_metadata() for f in schema if f.name not in partitions])
    return Table(folder.name, folder, kept, partitions, len(files))


def _partitions(path: Path, folder: Path) -> tuple[str, ...]:
    return tuple(part.split("=", 1)[0] for part in path.relative_to(folder).parts[:-1] if "=" in part)


def _wider(schema: pa.Schema, path: Path) -> pa.Schema:
    """The columns of all files so far and of this one."""
    try:
        return pa.unify_schemas([schema, pq.read_schema(path).remove_metadata()], promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as wrong:
        raise BadData(f"{path}: {str(wrong).splitlines()[0]}") from None
    except OSError as wrong:
        raise BadData(f"{path}: not a Parquet file ({str(wrong).splitlines()[0]})") from None


def ddl(
    lake: Path,
    dialect: str,
    *,
    schema: Schema | None = None,
    tags: Mapping[str, str] | None = None,
    only: tuple[str, ...] = (),
    location: str | None = None,
) -> str:
    """The statements that make the lake's tables known to an engine.

    dialect    hive, spark, flink or duckdb
    schema     for comments on fields, and which are personal
    tags       properties of every table (owner, retention, ...)
    location   where the lake lies for that engine (`s3://bucket/lake`), when not at its path here
    """  # fmt: skip
    if dialect not in DIALECTS:
        raise UsageError(f"--dialect {dialect}: one of {', '.join(DIALECTS)}")
    found = [t for t in tables(lake) if not only or t.name in only]
    if only and len(found) < len(only):
        raise UsageError(
            f"{lake}: no table {', '.join(sorted(set(only) - {t.name for t in found}))}; there are {', '.join(t.name for t in tables(lake))}"
        )
    write = {"hive": _hive, "spark": _spark, "flink": _flink, "duckdb": _duckdb}[dialect]
    base = (location or str(lake.resolve())).rstrip("/")
    return "\n".join(write(t, f"{base}/{t.name}", _comments(t, schema), _tags(t, schema, tags or {})) for t in found)


def _comments(table: Table, schema: Schema | None) -> dict[str, str]:
    out = {name: text for name, text in COMMENTS.items() if name in (*table.columns.names, *table.partitions)}
    for name, f in (schema.fields if schema else {}).items():
        if name in table.columns.names:
            said = [f.doc] if f.doc else []
            said += [f"key: {f.entity}"] if f.entity else []
            said += ["personal: a pseudonym"] if f.pii else []
            out[name] = "; ".join(said) or out.get(name, "")
    return {name: text for name, text in out.items() if text}


def _tags(table: Table, schema: Schema | None, tags: Mapping[str, str]) -> dict[str, str]:
    personal = [n for n, f in (schema.fields if schema else {}).items() if f.pii and n in table.columns.names]
    sensitivity = {"sensitivity": "personal", "sensitivity.columns": ",".join(personal)} if personal else {}
    return {**sensitivity, **tags}


def _unreserved(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as table properties: a name that Spark keeps for itself (`owner` is who made the table) becomes `tag.owner`."""
    return {f"tag.{name}" if name in RESERVED else name: value for name, value in tags.items()}


# ---- one dialect each


def _hive(t: Table, place: str, comments: Mapping[str, str], tags: Mapping[str, str]) -> str:
    columns = ",\n".join(
        f"  {_tick(f.name)} {_type(f.type, 'TIMESTAMP')}{_comment(comments.get(f.name), _escaped)}" for f in t.columns
    )
    cut = ", ".join(f"{_tick(p)} STRING{_comment(comments.get(p), _escaped)}" for p in t.partitions)
    partitioned = f"\nPARTITIONED BY ({cut})" if cut else ""
    repair = f"MSCK REPAIR TABLE {_tick(t.name)};\n" if cut else ""
    return f"CREATE EXTERNAL TABLE IF NOT EXISTS {_tick(t.name)} (\n{columns}\n){partitioned}\nSTORED AS PARQUET\nLOCATION {_escaped(place)}{_properties('TBLPROPERTIES', _unreserved(tags), _escaped)};\n{repair}"


def _spark(t: Table, place: str, comments: Mapping[str, str], tags: Mapping[str, str]) -> str:
    columns = [
        f"  {_tick(f.name)} {_type(f.type, 'TIMESTAMP')}{_comment(comments.get(f.name), _escaped)}" for f in t.columns
    ]
    columns += [f"  {_tick(p)} STRING{_comment(comments.get(p), _escaped)}" for p in t.partitions]
    cut = f"\nPARTITIONED BY ({', '.join(map(_tick, t.partitions))})" if t.partitions else ""
    repair = f"MSCK REPAIR TABLE {_tick(t.name)};\n" if cut else ""
    body = ",\n".join(columns)
    return f"CREATE TABLE IF NOT EXISTS {_tick(t.name)} (\n{body}\n) USING PARQUET{cut}\nLOCATION {_escaped(place)}{_properties('TBLPROPERTIES', _unreserved(tags), _escaped)};\n{repair}"


def _flink(t: Table, place: str, comments: Mapping[str, str], tags: Mapping[str, str]) -> str:
    columns = [
        f"  {_tick(f.name)} {_type(f.type, 'TIMESTAMP_LTZ(3)')}{_comment(comments.get(f.name))}" for f in t.columns
    ]
    columns += [f"  {_tick(p)} STRING{_comment(comments.get(p))}" for p in t.partitions]
    cut = f" PARTITIONED BY ({', '.join(map(_tick, t.partitions))})" if t.partitions else ""
    said = f"\nCOMMENT {_text('; '.join(f'{k}={v}' for k, v in tags.items()))}" if tags else ""
    body = ",\n".join(columns)
    options = _properties("WITH", {"connector": "filesystem", "path": place, "format": "parquet"})
    return f"CREATE TABLE IF NOT EXISTS {_tick(t.name)} (\n{body}\n){said}{cut}{options};\n"


def _duckdb(t: Table, place: str, comments: Mapping[str, str], tags: Mapping[str, str]) -> str:
    glob = place + "/**/*.parquet"
    view = f"CREATE OR REPLACE VIEW {_quote(t.name)} AS SELECT * FROM read_parquet({_text(glob)}, hive_partitioning = true, hive_types_autocast = false, union_by_name = true);\n"
    said = "; ".join(f"{k}={v}" for k, v in tags.items())
    about = f"COMMENT ON VIEW {_quote(t.name)} IS {_text(said)};\n" if said else ""
    return (
        view
        + about
        + "".join(
            f"COMMENT ON COLUMN {_quote(t.name)}.{_quote(c)} IS {_text(words)};\n" for c, words in comments.items()
        )
    )


_SIMPLE: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
    (pa.types.is_boolean, "BOOLEAN"), (pa.types.is_int8, "TINYINT"), (pa.types.is_int16, "SMALLINT"), (pa.types.is_int32, "INT"),
    (pa.types.is_integer, "BIGINT"), (pa.types.is_float32, "FLOAT"), (pa.types.is_floating, "DOUBLE"), (pa.types.is_date, "DATE"),
    (pa.types.is_binary, "BINARY"), (pa.types.is_large_binary, "BINARY"),
)  # fmt: skip


def _type(kind: pa.DataType, moment: str) -> str:
    """A type in the words that Hive, Spark and Flink share; they differ in what a moment in UTC is called."""
    if pa.types.is_timestamp(kind):
        return moment
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"ARRAY<{_type(kind.value_type, moment)}>"
    if pa.types.is_map(kind):
        return f"MAP<{_type(kind.key_type, moment)}, {_type(kind.item_type, moment)}>"
    if pa.types.is_dictionary(kind):
        return _type(kind.value_type, moment)
    return next((name for test, name in _SIMPLE if test(kind)), "STRING")


def _tick(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(words: str) -> str:
    return "'" + words.replace("'", "''") + "'"


def _escaped(words: str) -> str:
    """A text for Hive and Spark, where two quotes in a row are two texts."""
    return "'" + words.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _comment(words: str | None, text: Callable[[str], str] = _text) -> str:
    return f" COMMENT {text(words)}" if words else ""


def _properties(word: str, pairs: Mapping[str, str], text: Callable[[str], str] = _text) -> str:
    inner = ", ".join(f"{text(k)} = {text(v)}" for k, v in pairs.items())
    return f"\n{word} ({inner})" if inner else ""
