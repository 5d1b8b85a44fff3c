"""`shopward traffic leaks`: personal data and secrets in texts, files and folders."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from shopward.cli.talk import emit, json_option, progress, say
from shopward.words import count


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
    say(f"{count(summary['texts'], 'text')}, {count(summary['characters'], 'character')} in {summary['seconds']:.1f} s")
    for kind, n in Counter(summary["types"]).most_common():
        click.echo(f"{n:>9,}  {kind:<24} {', '.join(summary['examples'][kind])}")
    if not summary["types"]:
        click.echo("nothing found")
    for reason, n in summary["unusable"].items():
        say(f"{n:,} x {reason}")
    if out:
        say(f"findings are in {out}")


@click.command()
@click.argument("requests", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--out", type=click.Path(path_type=Path), help="Findings: .parquet, .csv or .ndjson.")
@click.option("--data", type=click.Path(path_type=Path), help="A data folder whose lake takes the findings.")
@click.option(
    "--format", "log_format", help="combined, json, har, or a log format of Apache or nginx (default: by looking)."
)
@click.option("--dead-letters", type=click.Path(path_type=Path), help="Where unusable lines go (NDJSON).")
@json_option
def exposure(requests, out, data, log_format, dead_letters, as_json) -> None:
    """Who was shown too much in REQUESTS: ids walked, other people's data, crowds in one answer, exports, secrets in addresses."""
    from shopward.traffic.leaks.report import exposure_in_files

    with progress("reading") as done:
        summary = exposure_in_files(
            requests, out, data=data, log_format=log_format, dead_letters=dead_letters, on_progress=done
        )
    if as_json:
        emit({name: summary[name] for name in summary if name != "findings"} | {"findings": len(summary["findings"])})
        return
    say(f"{count(summary['requests'], 'request')} in {summary['seconds']:.1f} s")
    for found in summary["findings"][:20]:
        click.echo(f"  {found.confidence:.1f}  {found.entity}: {found.what}")
    if not summary["findings"]:
        click.echo("nobody stands out")
    if out:
        say(f"findings are in {out}")
