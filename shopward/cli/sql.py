"""`shopward sql`: the data folder, queried."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from shopward.cli.talk import json_option
from shopward.errors import UsageError


@click.command()
@click.argument("query")
@click.option("--data", type=click.Path(path_type=Path), default=Path("shopward-data"), show_default=True)
@click.option("--format", "style", default="table", show_default=True, type=click.Choice(["table", "csv", "json"]))
@json_option
def sql(query: str, data: Path, style: str, as_json: bool) -> None:
    """Run one DuckDB QUERY over the views events, decisions, findings, lists, labels and cases of a data folder."""
    import duckdb

    from shopward.store.query import connect

    if not data.exists():
        raise UsageError(f"no data folder at {data}; name one with --data")
    with connect(data) as db:
        try:
            relation = db.sql(query)
        except duckdb.Error as error:
            raise UsageError(f"the query failed: {error}") from None
        if relation is None:
            return
        if as_json:
            style = "json"
        if style == "table":
            click.echo(str(relation))
            return
        _write(relation, style)


def _write(relation, style: str) -> None:
    import msgspec
    import pyarrow.csv as pc_csv

    table = relation.to_arrow_table()
    if style == "csv":
        pc_csv.write_csv(table, sys.stdout.buffer)
        return
    for row in table.to_pylist():
        sys.stdout.buffer.write(msgspec.json.encode(row) + b"\n")
