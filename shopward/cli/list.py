"""`shopward list`: put somebody on an allow, block or watch list, take them off, or see who is on it and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from shopward.cli.talk import data_option, emit, existing, json_option, load_rulebook, rulebook_option, say
from shopward.words import count

reason_option = click.option("--reason", default="", help="Why, for whoever reads the entry later.")
key_argument = click.argument("key", nargs=-1, required=True)


@click.group()
def list() -> None:  # the verb; in this file the builtin is not used
    """Entries of the rulebook's lists. KEY is one value, or the parts of a composite key.

    While `shopward serve` runs on the data folder, send entries to POST /v1/lists instead.
    """


@list.command()
@click.argument("name", metavar="LIST")
@key_argument
@click.option("--expires", help="When it ends: a duration from now such as 7d, or a time. Without it the entry stays.")
@reason_option
@data_option
@rulebook_option
@json_option
def add(name: str, key: tuple[str, ...], expires: str | None, reason: str, **options: Any) -> None:
    """Put KEY on LIST from now on."""
    _write({"list": name, "key": [*key], "expires": expires}, reason, f"{' '.join(key)} is on {name}", **options)


@list.command()
@click.argument("name", metavar="LIST")
@key_argument
@reason_option
@data_option
@rulebook_option
@json_option
def remove(name: str, key: tuple[str, ...], reason: str, **options: Any) -> None:
    """Take KEY off LIST from now on."""
    _write({"list": name, "key": [*key], "remove": True}, reason, f"{' '.join(key)} is off {name}", **options)


@list.command()
@click.argument("name", metavar="LIST")
@click.argument("key", nargs=-1)
@data_option
@json_option
def show(name: str, key: tuple[str, ...], data: Path, as_json: bool) -> None:
    """What was written to LIST (about KEY), oldest first: from when, until when, by whom. Personal values show as pseudonyms."""
    rows = [row for row in _written(existing(data), name) if not key or row["key"] == "|".join(key)]
    if as_json:
        return emit({"list": name, "entries": rows})
    for row in rows:
        end = "for good" if row["expires"] is None else f"until {row['expires']}"
        what = "removed" if row["remove"] else end
        click.echo(f"{row['key']}  from {row['valid_from']}  {what}  {row['provenance']}")
    say(count(len(rows), "entry", "entries"))
    return None


def _write(row: dict[str, Any], reason: str, done: str, data: Path, rulebook_dir: Path | None, as_json: bool) -> None:
    from shopward.decide import Engine
    from shopward.errors import BadEvent, UsageError
    from shopward.store.entries import read_entry

    provenance = f"by hand: {reason}" if reason else "by hand"
    with Engine(load_rulebook(rulebook_dir), data=data, clock="server", mode="interpreted") as engine:
        try:
            taken = engine.write_lists([read_entry(row | {"provenance": provenance}, engine.clock.now())])
        except BadEvent as wrong:
            raise UsageError(str(wrong).removeprefix("entry 1: ")) from None
    if as_json:
        return emit({"taken": taken})
    say(done)
    return None


def _written(data: Path, name: str) -> Sequence[dict[str, Any]]:
    """The writes of one list, with times as people read them."""
    from shopward.event import format_time
    from shopward.store.query import connect

    columns = "key, epoch_ms(valid_from), epoch_ms(expires), remove, provenance, seq"
    with connect(data) as db:
        found = db.execute(f"SELECT {columns} FROM lists WHERE list = ? ORDER BY valid_from, seq", [name]).fetchall()
    return [
        {"key": key, "valid_from": format_time(since), "expires": None if end is None else format_time(end),
         "remove": remove, "provenance": provenance, "seq": seq}
        for key, since, end, remove, provenance, seq in found
    ]  # fmt: skip
