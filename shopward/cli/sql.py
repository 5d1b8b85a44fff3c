"""`shopward sql`: the data folder, queried."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

import click

from shopward.cli.talk import data_option, existing, json_option, say
from shopward.errors import CorruptStore, ShopwardError, UsageError

VIEWS = (
    "there are events, decisions, findings, lists, labels, cases and audit, "
    "and after `shopward traffic assets --data` also assets, api_assets and asset_tags"
)


@click.command()
@click.argument("query")
@data_option
@click.option(
    "--format",
    "style",
    default="table",
    show_default=True,
    type=click.Choice(["table", "csv", "parquet", "json"]),
    help="How rows are written; json is one object a line.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="A file to write instead of stdout.")
@click.option("--skip-corrupt", is_flag=True, help="Leave out files of the lake that cannot be read; each is named.")
@json_option
def sql(query: str, data: Path, style: str, out: Path | None, skip_corrupt: bool, as_json: bool) -> None:
    """Run one DuckDB QUERY over the views events, decisions, findings, lists, labels, cases and audit of a data folder."""
    import duckdb

    from shopward.store.query import connect

    existing(data)
    if not query.strip():
        raise UsageError('the query is empty; for example "select * from decisions limit 10"')
    if as_json:
        style = "json"
    if style == "parquet" and out is None and sys.stdout.isatty():
        raise UsageError("--format parquet is no text: name a file with --out, or pipe it on")
    left_out = (lambda said: say(f"left out: {said}")) if skip_corrupt else None
    with connect(data, on_corrupt=left_out) as db:
        try:
            relation = db.sql(query)
            if relation is None:
                return
            if style == "table" and out is None:
                click.echo(str(relation))
                return
            table = relation.to_arrow_table()
        except duckdb.Error as error:
            raise _why(error, data) from None
    _write(table, "csv" if style == "table" else style, out)


def _why(error: Exception, data: Path) -> ShopwardError:
    """A wrong query, or a file that is damaged inside."""
    import duckdb

    from shopward.store.query import damaged

    if isinstance(error, duckdb.CatalogException) and "Table with name" in str(error):
        return UsageError(f"the query failed: {str(error).splitlines()[0]}; {VIEWS}")
    if isinstance(error, duckdb.ParserException | duckdb.BinderException | duckdb.CatalogException):
        return UsageError(f"the query failed: {error}")
    bad = damaged(data)
    return CorruptStore(f"{bad[0]}; restore it from a copy") if bad else UsageError(f"the query failed: {error}")


def _write(table, style: str, out: Path | None) -> None:
    """The rows in a format, to a file that is there whole or not at all, or to stdout."""
    if out is None:
        _rows(table, style, sys.stdout.buffer)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    temp = out.with_name(f".{out.name}.part")
    try:
        with temp.open("wb") as file:
            _rows(table, style, file)
        temp.replace(out)
    finally:
        temp.unlink(missing_ok=True)


def _rows(table, style: str, file: BinaryIO) -> None:
    import msgspec
    import pyarrow as pa
    import pyarrow.csv as pc_csv
    import pyarrow.parquet as pq

    if style == "csv":
        pc_csv.write_csv(_flat(table), file)
    elif style == "parquet":
        sink = pa.BufferOutputStream()  # a pipe cannot be asked where it is
        pq.write_table(table, sink, compression="zstd")
        file.write(sink.getvalue())
    else:
        for row in table.to_pylist():
            file.write(msgspec.json.encode(row) + b"\n")


def _flat(table):
    """Lists and maps as JSON, for a format that knows only texts and numbers."""
    import msgspec
    import pyarrow as pa

    for i, column in enumerate(table.schema):
        if pa.types.is_nested(column.type):
            texts = [None if v is None else msgspec.json.encode(v).decode() for v in table[i].to_pylist()]
            table = table.set_column(i, column.name, pa.array(texts, pa.string()))
    return table
