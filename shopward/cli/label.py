"""`shopward label`: what turned out to be fraud, into the stream."""

from __future__ import annotations

from pathlib import Path

import click

from shopward.cli.talk import data_option, emit, existing, json_option, load_rulebook, rulebook_option, say
from shopward.words import count


@click.command()
@click.argument("labels", type=click.Path(path_type=Path, exists=True))
@data_option
@rulebook_option
@json_option
def label(labels: Path, data: Path, rulebook_dir: Path | None, as_json: bool) -> None:
    """Take LABELS (rows event_id, label 0/1, label_ts, [source], [amount]) into the data folder, in label_ts order.

    While `shopward serve` runs on the data folder, send labels to POST /v1/labels instead.
    """
    from shopward.decide import Engine
    from shopward.label import read_labels

    with Engine(load_rulebook(rulebook_dir), data=existing(data), clock="server", mode="interpreted") as engine:
        taken = engine.label([row.as_dict() for row in read_labels(labels)])
    if as_json:
        return emit(taken)
    say(
        f"{count(taken['taken'], 'label')} taken, {taken['repeated']:,} known before, {taken['unknown']:,} for events not in {data}"
    )
    for wrong in taken["refused"]:
        say(f"label {wrong['row']} (in label_ts order) refused: {wrong['error']}")
    return None
