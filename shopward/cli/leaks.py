"""`shopward traffic leaks`: personal data and secrets in texts, files and folders."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from shopward.cli.talk import emit, json_option, progress, say


@click.command()
@click.argument("texts", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Findings: .parquet, .csv or .ndjson.")
@click.option(
    "--min-confidence", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Leave less sure ones out."
)
@json_option
def leaks(texts, out, min_confidence, as_json) -> None:
    """Find personal data and secrets in TEXTS: tables with columns id and text, or files and folders of any text.

    Every value is shown masked. Rows: id, type, start, end, line, confidence, masked, key.
    """
    from shopward.traffic.leaks.report import write_leaks

    with progress("reading") as done:
        summary = write_leaks(texts, out, min_confidence, on_progress=done)
    if as_json:
        emit(summary)
        return
    say(f"{summary['texts']:,} texts, {summary['characters']:,} characters in {summary['seconds']:.1f} s")
    for kind, n in Counter(summary["types"]).most_common():
        click.echo(f"{n:>9,}  {kind:<24} {', '.join(summary['examples'][kind])}")
    if not summary["types"]:
        click.echo("nothing found")
    for reason, n in summary["unusable"].items():
        say(f"{n:,} x {reason}")
    if out:
        say(f"findings are in {out}")
