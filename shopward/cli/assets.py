"""`shopward traffic assets`: the interfaces that traffic shows, as a governed table."""

from __future__ import annotations

from pathlib import Path

import click

from shopward.cli.talk import emit, json_option, progress, say
from shopward.words import count


@click.command()
@click.argument("requests", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--out", type=click.Path(path_type=Path), help="Assets: .parquet, .csv or .ndjson.")
@click.option(
    "--map", "map_out", type=click.Path(path_type=Path), help="Rows id, asset: which request belongs to which."
)
@click.option(
    "--decisions", type=click.Path(path_type=Path, exists=True), help="YAML of templates and tags that people decided."
)
@click.option(
    "--compare", "document", type=click.Path(path_type=Path, exists=True), help="An OpenAPI document to compare with."
)
@click.option("--openapi", "openapi_out", type=click.Path(path_type=Path), help="Write the inventory as OpenAPI 3.1.")
@click.option(
    "--data", type=click.Path(path_type=Path), help="A data folder whose lake keeps table, history and findings."
)
@click.option(
    "--format", "log_format", help="combined, json, har, or a log format of Apache or nginx (default: by looking)."
)
@click.option("--dead-letters", type=click.Path(path_type=Path), help="Where unusable lines go (NDJSON).")
@json_option
def assets(requests, out, map_out, decisions, document, openapi_out, data, log_format, dead_letters, as_json) -> None:
    """Which interfaces REQUESTS (access logs, HAR, NDJSON, tables) show: templates, access, data, lifecycle and risk."""
    from shopward.traffic.assets.run import assets_in_files

    with progress("reading") as done:
        summary = assets_in_files(
            requests, out=out, map_out=map_out, decisions=decisions, document=document, openapi_out=openapi_out, data=data,
            log_format=log_format, dead_letters=dead_letters, on_progress=done,
        )  # fmt: skip
    if as_json:
        emit(summary | {"assets": len(summary["assets"])})
        return
    _tell(summary)
    for name, path in (("assets", out), ("the map", map_out), ("the document", openapi_out)):
        if path:
            say(f"{name}: {path}")


def _tell(summary: dict) -> None:
    """The inventory for people: how many, the most dangerous, what does not agree with the document, what is new."""
    rows = summary["assets"]
    say(
        f"{count(summary['requests'], 'request')} in {summary['seconds']:.1f} s; {summary['not_there']:,} asked for what is not there"
    )
    if summary["dead_letters"]:
        say(count(summary["dead_letters"], "unusable line"))
    click.echo(count(len(rows), "interface"))
    for row in rows[:15]:
        click.echo(
            f"  risk {row['risk']:>3}  level {row['level']}  {row['access']:<8} {row['lifecycle']:<8} {row['calls']:>8,}  {row['asset']}"
        )
        for reason in row["reasons"]:
            click.echo(f"            {reason}")
    for kind, names in summary.get("compared", {}).items():
        click.echo(f"{kind}: {len(names)}" + "".join(f"\n  {name}" for name in names[:10]))
    if summary.get("appeared"):
        click.echo(
            f"appeared since the last look: {len(summary['appeared'])}"
            + "".join(f"\n  {name}" for name in summary["appeared"][:10])
        )
