"""`shopward decide`: files in, rows of decisions out."""

from __future__ import annotations

from pathlib import Path

import click

from shopward.cli.talk import emit, json_option, load_rulebook, progress, rulebook_option, say
from shopward.words import count

events_argument = click.argument("events", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
labels_option = click.option(
    "--labels", type=click.Path(path_type=Path, exists=True), help="Rows event_id, label, label_ts."
)
dead_option = click.option(
    "--dead-letters", type=click.Path(path_type=Path), help="Where unusable records go (NDJSON)."
)
data_option = click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="Start from this data folder, and add to it."
)

master_option = click.option(
    "--master", metavar="URL", help="Spark: local[2], spark://HOST:7077, ... (default: local[*])."
)
staging_option = click.option(
    "--staging", type=click.Path(path_type=Path, file_okay=False), help="Spark: a folder that driver and workers share."
)


@click.command()
@events_argument
@rulebook_option
@labels_option
@click.option("--out", type=click.Path(path_type=Path), help="Decisions: .parquet, .csv or .ndjson.")
@dead_option
@data_option
@click.option(
    "--engine", default="native", show_default=True, type=click.Choice(["native", "spark"]), help="What decides."
)
@master_option
@staging_option
@json_option
def decide(events, rulebook_dir, labels, out, dead_letters, data, engine, master, staging, as_json) -> None:
    """Decide on every event of EVENTS (files or folders of .ndjson, .csv, .parquet; `-` reads NDJSON from stdin).

    From empty state, unless --data names a data folder: then events, decisions and findings are kept there, and an event that is
    there already gets the answer it got, so the same command can be given again after a crash.
    """
    from shopward.runs import decide_files

    rulebook = load_rulebook(rulebook_dir)
    with progress("deciding") as done:
        summary = decide_files(
            events, rulebook, out=out, labels=labels, dead_letters=dead_letters, data=data, engine=engine, master=master,
            staging=staging, on_progress=done,
        )  # fmt: skip
    if as_json:
        emit(
            {
                "events": summary.events,
                "decisions": summary.decisions,
                "rules": summary.rules,
                "labels": summary.labels,
                "repeated": summary.repeated,
                "conflicts": summary.conflicts,
                "dead_letters": summary.dead_letters,
                "nulls": summary.nulls,
                "seconds": summary.seconds,
            }
        )
        return
    rate = summary.events / summary.seconds if summary.seconds else 0
    say(f"{count(summary.events, 'event')} in {summary.seconds:.1f} s ({rate:,.0f} a second)")
    click.echo("  ".join(f"{action} {n:,}" for action, n in summary.decisions.items() if n))
    for rule, n in sorted(summary.rules.items(), key=lambda item: -item[1]):
        if n:
            click.echo(f"  {n:>9,}  {rule}: {rulebook.rules[rule].title}")
    tell_losses(summary)
    if out:
        say(f"decisions are in {out}")


def tell_losses(summary) -> None:
    """What came twice, what could not be used, and what became null."""
    for name, why in summary.left_out.items():
        say(f"left out: {name}: {why}")
    if summary.repeated:
        other = f" ({summary.conflicts:,} of them with other content; the first counts)" if summary.conflicts else ""
        say(f"{count(summary.repeated, 'event')} came before{other}")
    if summary.dead_letters:
        say(f"{count(summary.dead_letters, 'unusable record')}: {summary.reasons}")
    for reason, n in summary.nulls.items():
        say(f"{n:,} x {reason}")
