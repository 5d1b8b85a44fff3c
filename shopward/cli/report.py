"""`shopward report`: how the defence did over the last days, for the terminal, a program or a web page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shopward.cli.talk import data_option, emit, existing, json_option, load_rulebook, rulebook_option, say, write_whole
from shopward.errors import UsageError
from shopward.words import count

if TYPE_CHECKING:
    from shopward.report import Report


@click.command()
@data_option
@click.option(
    "--since",
    default="7d",
    show_default=True,
    help="How far to look back from the latest decision, for example 24h or 30d.",
)
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Write an HTML page with charts.")
@rulebook_option
@json_option
def report(data: Path, since: str, out: Path | None, rulebook_dir: Path | None, as_json: bool) -> None:
    """Loss, chargebacks, insults, review load, time to detect, the rules that earned their place and the fraud that got through."""
    from dataclasses import asdict

    from shopward.declare.durations import parse_duration
    from shopward.report import report as judged

    existing(data)
    if out is not None and out.suffix != ".html":
        raise UsageError(f"--out {out}: the page must end in .html")
    rulebook = load_rulebook(rulebook_dir)
    try:
        since_ms = parse_duration(since)
    except ValueError as error:
        raise UsageError(f"--since: {error}; write for example 24h or 30d") from None
    found = judged(data, rulebook.policy, since_ms, money=rulebook.schema.money)
    if out is not None:
        write_whole(out, html(found, rulebook.policy.base_currency))
        say(f"written: {out}")
    if as_json:
        emit(asdict(found))
    elif out is None:
        _print(found, rulebook.policy.base_currency)


def figures(r: Report, currency: str) -> list[tuple[str, str, str]]:
    """(name, value, what it means) of the headline figures."""
    capacity = f"of {r.review_capacity_per_day} a day" if r.review_capacity_per_day else "a day"
    return [
        ("loss", _or(r.loss_bps, lambda v: f"{v:,.1f} bps"), f"{r.loss:,.0f} {currency} of {r.gross_value:,.0f} paid"),
        ("fraud stopped", _or(r.capture_by_value, lambda v: f"{v:.0%}"), f"of {r.fraud_value:,.0f} {currency} in {count(r.fraud, 'event')}"),
        ("chargeback ratio", _or(r.chargeback_ratio, lambda v: f"{v:.2%}"), f"{r.chargebacks:,} of {count(r.payments, 'payment')}"),
        ("insult rate", _or(r.insult_rate, lambda v: f"{v:.3%}"), f"{count(r.insults, 'legitimate event')} denied, held or challenged"),
        ("review load", f"{r.reviews_per_day:,.1f}", capacity),
        ("time to detect", _or(r.time_to_detect_s, span), f"median; {_or(r.detected, lambda v: f'{v:.0%}')} of entities with fraud were detected"),
        ("net saving", f"{r.net_saving:,.0f}", f"{currency}, after friction and review"),
    ]  # fmt: skip


def _or(value: float | None, show: Any) -> str:
    return "unknown" if value is None else show(value)


def span(seconds: float) -> str:
    """A duration in its largest unit.

    >>> span(90), span(5400), span(3.0)
    ('1.5 min', '1.5 h', '3 s')
    """
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _print(r: Report, currency: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"[bold]{r.start} to {r.end}[/bold]: {count(r.events, 'event')}, {r.labelled:,} with a known truth\n")
    table = Table(box=None, show_header=False)
    for name, value, means in figures(r, currency):
        table.add_row(name, f"[bold]{value}[/bold]", f"[dim]{means}[/dim]")
    console.print(table)
    if r.rules:
        rules = Table(
            "rule",
            "fired",
            "precision",
            "stopped",
            box=None,
            header_style="bold",
            title="\nRules by what they stopped",
            title_justify="left",
        )
        for row in r.rules[:15]:
            rules.add_row(
                row["rule"], f"{row['fired']:,}", _or(row["precision"], lambda v: f"{v:.0%}"), f"{row['stopped']:,.0f}"
            )
        console.print(rules)
    if r.misses:
        misses = Table(
            "who",
            "lost",
            "events",
            "dearest",
            "answered",
            box=None,
            header_style="bold",
            title="\nWhat got through",
            title_justify="left",
        )
        for row in r.misses:
            misses.add_row(
                row["entity"],
                f"{row['lost']:,.0f}",
                str(row["events"]),
                f"{row['type']} {row['event_id']}",
                row["action"],
            )
        console.print(misses)


def html(r: Report, currency: str) -> str:
    """The page."""
    from datetime import date

    from markupsafe import Markup

    from shopward import charts

    dates = [date.fromisoformat(day["date"]) for day in r.days]
    series = {
        name: [_nan(day[name]) for day in r.days] for name in ("loss", "stopped", "loss_bps", "insult_rate", "reviews")
    }
    cash = charts.money(currency)
    money = charts.line(
        "Fraud per day", dates, {"stopped": series["stopped"], "lost": series["loss"]}, y_format=cash, width=500
    )
    bps = charts.line("Loss, in 1/10,000 of what was paid", dates, {"loss bps": series["loss_bps"]}, width=500)
    insult = charts.line(
        "Insult rate", dates, {"insult rate": series["insult_rate"]}, y_format=charts.percent, width=500
    )
    load = {"reviews": series["reviews"]}
    if r.review_capacity_per_day:
        load["capacity"] = [float(r.review_capacity_per_day)] * len(dates)
    reviews = charts.line("Events a person looks at", dates, load, width=500)
    top = r.rules[:12]
    earned = charts.bars(
        "Value stopped by rule",
        [x["rule"] for x in top],
        {"stopped": [x["stopped"] for x in top]},
        horizontal=True,
        format=cash,
    )
    rules = charts.table(
        ["rule", "fired", "fraud", "precision", f"stopped ({currency})"],
        [
            [x["rule"], x["fired"], x["fraud"], _or(x["precision"], charts.percent), f"{x['stopped']:,.0f}"]
            for x in r.rules
        ],
    )
    misses = charts.table(
        ["who", f"lost ({currency})", "events", "dearest event", "type", "answered"],
        [[m["entity"], f"{m['lost']:,.0f}", m["events"], m["event_id"], m["type"], m["action"]] for m in r.misses],
    )
    lead = f"{r.start} to {r.end}: {count(r.events, 'event')}, the truth of {r.labelled:,} is known. What is not known counts as honest, so recent days look better than they are."
    sections = [
        charts.Section("In short", charts.tiles(figures(r, currency))),
        charts.Section("Day by day", Markup("").join([money, bps, insult, reviews])),
        charts.Section("Rules that fired", Markup("").join([earned, rules])),
        charts.Section("What got through", misses if r.misses else "Nothing that is known."),
    ]
    return charts.page("How the defence did", sections, lead=lead)


def _nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)
