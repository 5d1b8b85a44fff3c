"""`shopward init DIR --pack buyer`: a rulebook folder to edit."""

from __future__ import annotations

from pathlib import Path

import click

from shopward.cli.talk import emit, json_option, say
from shopward.errors import UsageError
from shopward.words import count

PACKS = ("buyer", "seller", "creator", "all")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--pack",
    "packs",
    type=click.Choice(PACKS),
    multiple=True,
    help="Whom to protect; may be given several times (default: all).",
)
@json_option
def init(folder: Path, packs: tuple[str, ...], as_json: bool) -> None:
    """Write a rulebook to start from: the rules of one or more packs, with the features, lists and lookups they need."""
    from shopward.declare.pack import cut, readme
    from shopward.declare.rulebook import Rulebook

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not an empty folder: nothing was written")
    packs = packs or ("all",)
    files = cut(Rulebook.default(), packs)
    made = Rulebook.from_files(files)
    for name, text in {**files, "README.md": readme(made, packs)}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    if as_json:
        emit(
            {
                "folder": str(folder),
                "packs": packs,
                "rules": len(made.rules),
                "features": len(made.features),
                "version": made.version,
            }
        )
    else:
        click.echo(f"{folder}: {count(len(made.rules), 'rule')}, {count(len(made.features), 'feature')}")
        say(f"next: read {folder / 'README.md'}, then `shopward rules test {folder}`")
