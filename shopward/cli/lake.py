"""`shopward lake`: the log as Parquet tables that DuckDB, Spark, Hive and Polars read as they are."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shopward.cli.tag import tag
from shopward.cli.talk import (
    data_option,
    emit,
    existing,
    json_option,
    load_rulebook,
    me,
    progress,
    rulebook_option,
    say,
)
from shopward.errors import UsageError
from shopward.words import count

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook


@click.group()
def lake() -> None:
    """The history as Parquet tables: compact, merge, check, describe, tag, erase."""


@lake.command()
@data_option
@click.option("--drop-log", is_flag=True, help="Then remove what the lake has and nothing else needs from the log.")
@click.option(
    "--older-than",
    metavar="SPAN",
    help="How old (90d) that must be; default: what the rulebook's longest window needs, 8 days at least.",
)
@rulebook_option
@json_option
def compact(data: Path, drop_log: bool, older_than: str | None, rulebook_dir: Path | None, as_json: bool) -> None:
    """Write what the log holds and the lake lacks into lake/events, decisions, findings and lists.

    Then days of the lake go whose events are older than `retention` in policy.yaml keeps their type.
    """
    from shopward.store import retention
    from shopward.store.lake import compact as run

    existing(data)
    keep = _kept(older_than, rulebook_dir) if drop_log else 0
    with progress("compacting") as done:
        report = run(data, on_progress=done)
    expired = retention.expire(data, dict(_rulebook(data, rulebook_dir).policy.retention))
    dropped = retention.drop_log(data, keep) if drop_log else []
    if as_json:
        return emit({**asdict(report), "expired": asdict(expired), "dropped": dropped})
    say(f"{count(report.events, 'event')} and {count(report.decisions, 'decision')} added to {data / 'lake'}")
    if expired.days:
        say(
            f"{count(expired.events, 'event')} past their retention left the lake ({count(expired.days, 'day')} of a type)"
        )
    if drop_log:
        say(f"{count(len(dropped), 'segment')} of the log dropped")
    return None


def _rulebook(data: Path, rulebook_dir: Path | None) -> Rulebook:
    """The rulebook that is named, else the one in force in the data folder."""
    from shopward.durable import in_force, kept_rulebook

    found = kept_rulebook(data, in_force(data).version) if rulebook_dir is None else None
    return found or load_rulebook(rulebook_dir)


@lake.command()
@data_option
@json_option
def merge(data: Path, as_json: bool) -> None:
    """Merge the small files of every day; whoever reads meanwhile sees a whole day, before or after."""
    from shopward.store.lake_merge import merge as run

    with progress("merging") as done:
        found = run(data, on_progress=done)
    if as_json:
        return emit(asdict(found))
    say(
        f"{count(found.files_before, 'file')} became {found.files_after:,} ({found.bytes_before / 1e6:,.1f} MB -> {found.bytes_after / 1e6:,.1f} MB)"
    )
    return None


@lake.command()
@data_option
@json_option
def stats(data: Path, as_json: bool) -> None:
    """What the lake holds: rows, files, days, which days are missing and which files cannot be read (exit code 1 then)."""
    from shopward.store.lake_stats import stats as run

    found = run(_tables_in(data))
    wrong = any(table.missing_days or table.unreadable for table in found) or any(t.missing_files for t in found)
    if as_json:
        emit([asdict(table) for table in found])
    else:
        for table in found:
            days = f", {table.first_day} to {table.last_day}" if table.first_day else ""
            small = f", {table.small_files:,} of them small" if table.small_files else ""
            click.echo(
                f"{table.name:<12} {table.rows:>13,} rows  {table.bytes / 1e6:>10,.1f} MB  {table.files:>6,} files{small}{days}"
            )
            for what, names in (
                ("no files of", table.missing_days),
                ("not readable:", table.unreadable),
                ("committed but missing:", table.missing_files),
            ):
                for name in names:
                    click.echo(f"  {what} {name}")
    if wrong:
        raise SystemExit(1)


def _tables_in(data: Path) -> Path:
    """The folder of tables: the lake of a data folder, or a folder of one's own tables."""
    existing(data)
    if (data / "lake").is_dir():
        return data / "lake"
    if (data / "log").is_dir():
        raise UsageError(f"{data}: the log is not in the lake yet; run `shopward lake compact --data {data}` first")
    return data


def _kept(older_than: str | None, rulebook_dir: Path | None) -> int:
    """Milliseconds of log to keep."""
    from shopward.declare.durations import parse_duration

    if older_than is None:
        rulebook = load_rulebook(rulebook_dir)
        longest = max((f.over + f.lag for f in rulebook.features.values() if f.over is not None), default=0)
        return max(8 * 86_400_000, longest + rulebook.policy.lateness_ms)
    try:
        return parse_duration(older_than)
    except ValueError as error:
        raise UsageError(f"--older-than: {error}") from None


@lake.command()
@click.option(
    "--entity", required=True, metavar="KIND:ID", help="Whose personal values to forget, for example account:42."
)
@data_option
@json_option
def erase(entity: str, data: Path, as_json: bool) -> None:
    """Forget a person: the personal values seen with an entity, and the keys to their pseudonyms, leave the vault for good."""
    from shopward.erase import erase as run

    done = run(data, entity, me())
    if as_json:
        return emit(done)
    say(
        f"{count(done.values, 'personal value')} forgotten; {count(done.events, 'event')} in the log with pseudonyms that nobody can resolve any more"
    )
    return None


@lake.command()
@click.argument("tables", nargs=-1)
@data_option
@click.option(
    "--dialect",
    type=click.Choice(["hive", "spark", "flink", "duckdb"]),
    default="hive",
    show_default=True,
    help="Whose words.",
)
@click.option("--location", metavar="URL", help="Where the lake lies for that engine, when not at its path here.")
@click.option(
    "--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A property of the tables: owner=..., retention=..."
)
@rulebook_option
@json_option
def ddl(tables, data, dialect, location, tags, rulebook_dir, as_json) -> None:
    """Print the statements that make the lake's TABLES (default: all) known to Hive, Spark, Flink or DuckDB."""
    from shopward.store.ddl import ddl as write

    odd = [tag for tag in tags if "=" not in tag]
    if odd:
        raise UsageError(f"--tag {odd[0]}: expected KEY=VALUE")
    folder = _tables_in(data)
    schema = load_rulebook(rulebook_dir).schema
    text = write(
        folder, dialect, schema=schema, tags=dict(tag.split("=", 1) for tag in tags), only=tables, location=location
    )
    if as_json:
        return emit({"dialect": dialect, "ddl": text})
    click.echo(text, nl=False)
    return None


lake.add_command(tag)
