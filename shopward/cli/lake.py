"""`shopward lake`: the log as Parquet tables that DuckDB, Spark, Hive and Polars read as they are."""

from __future__ import annotations

from pathlib import Path

import click

from shopward.cli.talk import emit, json_option, progress, say
from shopward.errors import UsageError


@click.group()
def lake() -> None:
    """Compact the log into Parquet tables."""


@lake.command()
@click.option("--data", type=click.Path(path_type=Path), default=Path("shopward-data"), show_default=True)
@json_option
def compact(data: Path, as_json: bool) -> None:
    """Write what the log holds and the lake lacks into lake/events and lake/decisions."""
    from shopward.store.lake import compact as run

    if not data.exists():
        raise UsageError(f"no data folder at {data}; name one with --data")
    with progress("compacting") as done:
        report = run(data, on_progress=done)
    if as_json:
        return emit(report)
    say(f"{report.events:,} events and {report.decisions:,} decisions added to {data / 'lake'}")
    return None
