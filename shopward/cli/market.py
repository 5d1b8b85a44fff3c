"""`shopward market`: a synthetic marketplace on disk, with attackers and the truth."""

from __future__ import annotations

from pathlib import Path

import click

from shopward.cli.talk import adversary_option, emit, json_option, progress, say
from shopward.words import count


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--seed", default=1, show_default=True, type=click.IntRange(0), help="The same seed gives the same bytes."
)
@click.option("--days", default=14, show_default=True, type=click.IntRange(1, 3650), help="How long it lives.")
@click.option("--accounts", default=10_000, show_default=True, type=click.IntRange(100), help="How many buyers.")
@adversary_option
@click.option("--access-log/--no-access-log", default=True, help="Write access.ndjson too.")
@click.option("--events", type=click.IntRange(1), help="About how many events (default: what the accounts do).")
@json_option
def market(directory, seed, days, accounts, adversary, access_log, events, as_json) -> None:
    """Write DIRECTORY/events.ndjson, access.ndjson and truth/*.parquet; the same seed gives the same bytes."""
    from shopward.market import generate

    with progress("making a marketplace", days) as done:
        summary = generate(
            directory,
            seed=seed,
            days=days,
            accounts=accounts,
            adversary=adversary,
            access_log=access_log,
            events=events,
            on_progress=done,
        )
    if as_json:
        return emit(summary)
    say(
        f"{count(summary.events, 'event')}, {count(summary.campaigns, 'campaign')}, {summary.seconds:.1f} s; in {directory}"
    )
    return None
