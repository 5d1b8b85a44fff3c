"""Talking to people: progress on stderr when it is a terminal, tables in words, JSON on stdout for programs."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from shopward.errors import RulebookError, UsageError

rulebook_option = click.option(
    "--rulebook",
    "rulebook_dir",
    type=click.Path(path_type=Path),
    default=None,
    help="A rulebook folder (default: the shipped marketplace rulebook).",
)
data_option = click.option(
    "--data", type=click.Path(path_type=Path), default=Path("shopward-data"), show_default=True, help="The data folder."
)
adversary_option = click.option(
    "--adversary",
    default="normal",
    show_default=True,
    type=click.Choice(["normal", "hard"]),
    help="How careful the attackers are.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")


def load_rulebook(path: Path | None):
    """The rulebook in `path`, or the shipped one."""
    from shopward.declare.rulebook import Rulebook

    try:
        return Rulebook(path) if path else Rulebook.default()
    except RulebookError:
        say(f"the rulebook in {path} does not check:")
        raise


def emit(value: object) -> None:
    """One JSON object on a line of stdout."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def say(text: str = "") -> None:
    """A line for people, on stderr."""
    click.echo(text, err=True)


def existing(data: Path) -> Path:
    """The data folder, which must be there: a mistyped path makes no new one."""
    if not data.is_dir():
        raise UsageError(f"no data folder at {data}; name one with --data")
    return data


def me() -> str:
    """Who gives this command, for the audit table."""
    try:
        return f"user:{getpass.getuser()}"
    except (KeyError, OSError):  # a container without a name for its user
        return f"user:{os.getuid()}"


def write_whole(path: Path, body: str | bytes) -> None:
    """Write a file that appears under its name only when it is complete; folders above it are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(body.encode() if isinstance(body, str) else body)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr while the block runs; the yielded function takes how much was done since its last call.

    Nothing is drawn when stderr is not a terminal.
    """
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.advance(task, done)
