"""`shopward features`: every feature of every event, the list of features, or what one means in SQL."""

from __future__ import annotations

from pathlib import Path

import click

from shopward.cli.decide import dead_option, labels_option, master_option, staging_option, tell_losses
from shopward.cli.talk import emit, json_option, load_rulebook, progress, rulebook_option, say
from shopward.errors import UsageError
from shopward.words import count


@click.command()
@click.argument("events", nargs=-1, type=click.Path(path_type=Path, allow_dash=True))
@rulebook_option
@labels_option
@click.option(
    "--engine",
    default="native",
    show_default=True,
    type=click.Choice(["native", "duckdb", "spark", "flink"]),
    help="What computes them; all give the same values.",
)
@click.option(
    "--threads",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="How many threads the native engine computes on; values are the same.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Rows: .parquet, .csv or .ndjson.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="The events of this data folder instead of files, as they were taken.",
)
@dead_option
@master_option
@staging_option
@click.option("--list", "list_", is_flag=True, help="List the declared features and what they mean.")
@click.option("--sql", "sql_of", metavar="NAME", help="Print the DuckDB SQL of one feature (`all` for every one).")
@json_option
def features(
    events, rulebook_dir, labels, engine, threads, out, data, dead_letters, master, staging, list_, sql_of, as_json
) -> None:
    """Compute every declared feature for every event of EVENTS, as of that event.

    With --data the events are those of a data folder, and the rulebook, when none is named, is the one in force there.
    """
    if data is not None and not (list_ or sql_of):
        if events or labels or engine != "native" or threads > 1:
            raise UsageError("--data names the events: leave out files, --labels, --engine and --threads")
        return _of_data(data, rulebook_dir, out, as_json)
    rulebook = load_rulebook(rulebook_dir)
    if list_:
        return _list(rulebook, as_json)
    if sql_of:
        return _sql(rulebook, sql_of)
    if not events:
        raise UsageError("name the files to read, or --data DIR, or --list, or --sql NAME")
    from shopward.runs import features_files

    with progress("computing") as done:
        summary = features_files(
            events, rulebook, engine=engine, out=out, labels=labels, dead_letters=dead_letters, master=master,
            staging=staging, threads=threads, on_progress=done,
        )  # fmt: skip
    n = len(rulebook.features) - len(summary.left_out)
    report = {
        "events": summary.events,
        "features": n,
        "left_out": summary.left_out,
        "dead_letters": summary.dead_letters,
    }
    if summary.alone:
        say(f"computed on one thread, not {threads}: {summary.alone}")
    if as_json:
        return emit({**report, "engine": engine, "threads": summary.threads, "seconds": summary.seconds})
    on = f"{engine}, {summary.threads} threads" if summary.threads > 1 else engine
    say(f"{count(summary.events, 'event')} x {count(n, 'feature')} in {summary.seconds:.1f} s ({on})")
    tell_losses(summary)
    return None


def _of_data(data: Path, rulebook_dir: Path | None, out: Path | None, as_json: bool) -> None:
    from shopward.runs import features_data

    with progress("computing") as done:
        summary = features_data(data, load_rulebook(rulebook_dir) if rulebook_dir else None, out=out, on_progress=done)
    if as_json:
        return emit({"events": summary.events, "data": str(data), "seconds": summary.seconds})
    say(f"features of {count(summary.events, 'event')} of {data} in {summary.seconds:.1f} s")
    return None


def _list(rulebook, as_json: bool) -> None:
    if as_json:
        return emit([{"name": f.name, "type": f.type, "entity": list(f.entity), "doc": f.doc, "portable": f.portable}
                     for f in rulebook.features.values()])  # fmt: skip
    width = max((len(name) for name in rulebook.features), default=0)
    for feature in rulebook.features.values():
        click.echo(f"{feature.name:<{width}}  {feature.doc or _meaning(feature)}")
    return None


def _meaning(feature) -> str:
    """A sentence for a feature without a doc."""
    over = "ever" if feature.over is None else f"over {feature.over / 3_600_000:g} h"
    where = f" where {feature.where.source}" if feature.where else ""
    if feature.graph:
        from shopward.features.sql_meaning import sentence

        return sentence(feature) + where
    what = f"{feature.measure}({feature.arg})" if feature.arg else feature.measure
    return f"{what} by {', '.join(feature.entity) or 'event'} {over}{where}"


def _sql(rulebook, name: str) -> None:
    from difflib import get_close_matches

    from shopward.features import sql

    if name == "all":
        return click.echo(sql.to_sql(rulebook))
    if name not in rulebook.features:
        near = get_close_matches(name, rulebook.features, n=1)
        raise UsageError(f"unknown feature `{name}`" + (f"; did you mean `{near[0]}`?" if near else ""))
    return click.echo(sql.feature_sql(rulebook.features[name], rulebook))
