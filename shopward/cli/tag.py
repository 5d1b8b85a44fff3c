"""`shopward lake tag`: what people decide about interfaces; who, when, what stood before, and back again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from shopward.cli.talk import data_option, emit, existing, json_option, me, say
from shopward.errors import UsageError
from shopward.words import count

TAKE_AWAY = "none"


@click.command()
@click.argument("asset", required=False)
@click.option("--owner", help="Who answers for it.")
@click.option("--level", help="1 public, 2 internal, 3 personal, 4 money or identity.")
@click.option("--domain", help="The business domain.")
@click.option("--lifecycle", help="new, active, deprecated, zombie, shadow or orphan.")
@click.option("--retention", help="How long its data is kept: 400d.")
@click.option("--template", metavar="PATH", help="Decide that PATH is a template: merges with {}, splits without.")
@click.option("--forget-template", metavar="PATH", help="Take such a decision back.")
@click.option("--undo", is_flag=True, help="Take the newest decision (about ASSET) back.")
@click.option("--undo-id", type=int, metavar="ID", help="Take the decision with this id back.")
@click.option("--history", "show", is_flag=True, help="Every decision (about ASSET), newest last.")
@click.option("--note", default="", help="Why.")
@data_option
@json_option
def tag(asset: str | None, template: str | None, forget_template: str | None, undo: bool, undo_id: int | None, show: bool, note: str, data: Path,
        as_json: bool, **fields: Any) -> None:  # fmt: skip
    """Tag ASSET ("GET shop.example/api/orders/{order_id}", or a template for all that have it); without options, show what stands.

    A value of `none` takes a tag away. Tags and templates hold in every later `shopward traffic assets --data`.
    """
    from shopward.traffic.assets import tags

    existing(data)
    changes = {name: None if value == TAKE_AWAY else value for name, value in fields.items() if value is not None}
    if changes and asset is None:
        raise UsageError("name the asset that the tags are for")
    rows: list[dict[str, Any]] = []
    if undo or undo_id is not None:
        rows.append(tags.undo(data, me(), asset, undo_id))
    if template is not None:
        rows += tags.decide_template(data, template, me(), note=note)
    if forget_template is not None:
        rows += tags.decide_template(data, forget_template, me(), keep=False, note=note)
    if changes and asset is not None:
        rows += tags.tag(data, asset, changes, me(), note)
    asked = undo or undo_id is not None or template or forget_template or changes
    _tell(data, asset, rows if asked else None, show, as_json)


def _tell(data: Path, asset: str | None, rows: list[dict[str, Any]] | None, show: bool, as_json: bool) -> None:
    from shopward.traffic.assets import tags

    templates, standing = tags.standing(data)
    standing = {name: said for name, said in standing.items() if asset in (None, name)}
    ids = {row["id"] for row in rows or ()}
    told = [row for row in tags.history(data) if row["id"] in ids or (show and asset in (None, row["asset"]))]
    if as_json:
        return emit({"decisions": told, "tags": standing, "templates": templates})
    for row in told:
        click.echo(_line(row))
    if rows is not None:
        say(f"{count(len(rows), 'decision')} written" if rows else "nothing new")
        return None
    if not show:
        for name, said in standing.items():
            click.echo(f"{name}  " + "  ".join(f"{field}: {value}" for field, value in said.items()))
        for path in templates if asset is None else ():
            click.echo(f"template  {path}")
    return None


def _line(row: dict[str, Any]) -> str:
    back = f"  (takes back {row['undoes']})" if row["undoes"] is not None else ""
    when = row["ts"].strftime("%Y-%m-%d %H:%M")
    why = f"  {row['note']}" if row["note"] else ""
    change = f"{row['before'] or TAKE_AWAY} -> {row['after'] or TAKE_AWAY}"
    return f"{row['id']:>5}  {when}  {row['who']}  {row['asset']}  {row['field']}: {change}{back}{why}"
