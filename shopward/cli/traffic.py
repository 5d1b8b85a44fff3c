"""`shopward traffic`: what HTTP traffic shows."""

from __future__ import annotations

from pathlib import Path

import click

from shopward.cli.assets import assets
from shopward.cli.leaks import exposure, leaks
from shopward.cli.talk import emit, json_option, progress, say, write_whole
from shopward.words import count

requests_argument = click.argument(
    "requests", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True)
)
format_option = click.option(
    "--format", "log_format", help="combined, json, har, or a log format of Apache or nginx (default: by looking)."
)
dead_option = click.option("--dead-letters", type=click.Path(path_type=Path), help="Where unusable lines go (NDJSON).")
data_option = click.option(
    "--data", type=click.Path(path_type=Path), help="A data folder whose lake takes the findings."
)
resume_option = click.option(
    "--resume",
    type=click.Path(path_type=Path),
    help="A position file: read only what logs gained since the last run with it, also across rotation.",
)


@click.group()
def traffic() -> None:
    """Look at HTTP traffic: access logs, HAR, NDJSON, CSV or Parquet of requests."""


traffic.add_command(assets)
traffic.add_command(leaks)
traffic.add_command(exposure)


@traffic.command()
@requests_argument
@click.option("--out", type=click.Path(path_type=Path), help="Verdicts: .parquet, .csv or .ndjson.")
@format_option
@click.option(
    "--sigma",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Sigma rules for web servers and proxies (a file or folder).",
)
@click.option("--profile", is_flag=True, help="Learn what each parameter usually is, and weigh what is unlike it.")
@click.option(
    "--campaigns",
    "campaigns_out",
    type=click.Path(path_type=Path),
    help="Attacks grouped into campaigns with a proposed rule each (.json).",
)
@click.option(
    "--engine",
    type=click.Choice(["hyperscan", "literals"]),
    help="The pattern engine (default: hyperscan when installed).",
)
@click.option(
    "--skip", type=click.IntRange(min=0), default=0, help="Pass over this many requests, to go on where a run stopped."
)
@resume_option
@data_option
@dead_option
@json_option
def attacks(
    requests, out, log_format, sigma, profile, campaigns_out, engine, skip, resume, data, dead_letters, as_json
) -> None:
    """Which of REQUESTS (files, folders, or `-`) are attacks, where, with which bytes, and whether they worked."""
    from shopward.traffic.attacks.run import attacks_in_files

    with progress("looking for attacks") as done:
        summary = attacks_in_files(
            requests, out=out, format=log_format, sigma=sigma, profile=profile, campaigns=campaigns_out is not None, data=data,
            engine=engine, dead_letters=dead_letters, skip=skip, resume=resume, on_progress=done,
        )  # fmt: skip
    if campaigns_out is not None:
        _write_json(campaigns_out, summary.campaigns)
    if as_json:
        emit(
            {name: getattr(summary, name) for name in summary.__dataclass_fields__ if name != "campaigns"}
            | {"campaigns": len(summary.campaigns)}
        )
        return
    _tell(summary)
    if out:
        say(f"verdicts are in {out}")


def _write_json(path: Path, rows: list) -> None:
    import msgspec

    write_whole(path, msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")


def _tell(summary) -> None:
    rate = summary.requests / summary.seconds if summary.seconds else 0
    say(f"{count(summary.requests, 'request')} in {summary.seconds:.1f} s ({rate:,.0f} a second, {summary.engine})")
    click.echo(count(summary.attacks, "attack") + (":" if summary.classes else ""))
    for name, n in summary.classes.most_common():
        click.echo(f"  {n:>9,}  {name}")
    for title, counts in (
        ("outcome", summary.worked),
        ("not HTTP as it should be", summary.protocol),
        ("odd", summary.oddities),
        ("Sigma", summary.sigma),
    ):
        for name, n in counts.most_common(8):
            click.echo(f"  {n:>9,}  {title}: {name}")
    for campaign in summary.campaigns[:5]:
        click.echo(
            f"  campaign {campaign['id']}: {count(campaign['requests'], 'request')} from {count(campaign['senders'], 'sender')}, {', '.join(campaign['classes'])}"
        )
    if summary.dead_letters:
        say(f"{count(summary.dead_letters, 'unusable record')}: {summary.reasons}")


@traffic.command()
@requests_argument
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder: attacks.parquet, assets.parquet, exposure.parquet, campaigns.json, dead.ndjson.",
)
@format_option
@click.option(
    "--engine",
    type=click.Choice(["hyperscan", "literals"]),
    help="The pattern engine (default: hyperscan when installed).",
)
@resume_option
@data_option
@json_option
def scan(requests, out, log_format, engine, resume, data, as_json) -> None:
    """Interfaces, exposure and attacks of REQUESTS (files, folders, or `-`) over one reading."""
    from shopward.traffic.scan import scan_files

    with progress("looking at requests") as done:
        summary = scan_files(
            requests, out, format=log_format, data=data, engine=engine, resume=resume, on_progress=done
        )
    if as_json:
        kept = (
            "requests",
            "attacks",
            "classes",
            "worked",
            "appeared",
            "dead_letters",
            "reasons",
            "waiting",
            "engine",
            "seconds",
        )
        emit(
            {name: getattr(summary, name) for name in kept}
            | {"campaigns": len(summary.campaigns), "assets": len(summary.assets), "exposure": len(summary.exposure)}
        )
        return
    _tell_all(summary)
    if out:
        say(f"all rows are in {out}")


def _tell_all(summary) -> None:
    rate = summary.requests / summary.seconds if summary.seconds else 0
    say(f"{count(summary.requests, 'request')} in {summary.seconds:.1f} s ({rate:,.0f} a second, {summary.engine})")
    click.echo(f"{count(summary.attacks, 'attack')} in {count(len(summary.campaigns), 'campaign')}")
    for name, n in summary.classes.most_common(10):
        click.echo(f"  {n:>9,}  {name}")
    click.echo(
        count(len(summary.assets), "interface")
        + (f", {len(summary.appeared):,} of them new" if summary.appeared else "")
    )
    for row in summary.assets[:5]:
        click.echo(f"  risk {row['risk']:>3}  {row['calls']:>8,} calls  {row['asset']}")
    click.echo(count(len(summary.exposure), "sign of exposure", "signs of exposure"))
    for found in summary.exposure[:5]:
        click.echo(f"  {found.entity}: {found.what}")
    if summary.dead_letters:
        say(f"{count(summary.dead_letters, 'unusable record')}: {summary.reasons}")
    if summary.waiting:
        say(f"{summary.waiting} line still being written is left for the next run")


@traffic.command()
@requests_argument
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Events: .parquet, .csv or .ndjson.")
@format_option
@resume_option
@dead_option
@json_option
def events(requests, out, log_format, resume, dead_letters, as_json) -> None:
    """REQUESTS as `http_request` events, so that their rates and sessions are ordinary features of a rulebook."""
    from shopward.traffic.scan import events_of_files

    with progress("reading requests") as done:
        summary = events_of_files(
            requests, out, format=log_format, resume=resume, dead_letters=dead_letters, on_progress=done
        )
    if as_json:
        emit(summary)
        return
    say(f"{count(summary['events'], 'event')} in {out}")
    if summary["dead_letters"]:
        say(f"{count(summary['dead_letters'], 'unusable record')}: {summary['reasons']}")
