"""`shopward backtest`: what a rulebook would have done on history, in money."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from shopward.cli.decide import events_argument, labels_option, master_option, staging_option
from shopward.cli.talk import emit, json_option, load_rulebook, progress, rulebook_option, say, write_whole
from shopward.errors import BadEvent, UsageError
from shopward.words import count

LABELS_LEFT_OUT = {
    "labels_unknown_event": "for events that are not in this history",
    "labels_in_the_future": "dated after today, refused",
    "labels_after_as_of": "known only after the moment of judging, not used",
    "labels_before_their_event": "dated before the event they judge",
}
folder = click.Path(path_type=Path, file_okay=False)


@click.command()
@events_argument
@labels_option
@rulebook_option
@click.option(
    "--against", type=folder, metavar="DIR", help="Another rulebook: what would change, and what that is worth."
)
@click.option(
    "--lists",
    "lists_file",
    type=click.Path(path_type=Path, exists=True),
    help="What if these keys had been listed? Rows list, key, [valid_from], [expires].",
)
@click.option("--leave-out", metavar="RULE", help="What if this rule were not there?")
@click.option("--sweep", metavar="RULE|auto", help="Find better thresholds, of one rule or of all.")
@click.option("--by", multiple=True, metavar="FIELD", help="Segment by this field (may be repeated).")
@click.option("--as-of", metavar="TIME", help="The moment of judging (default: the last event or label).")
@click.option("--maturity", metavar="DURATION", help="How old an event must be to be judged, for example 30d.")
@click.option(
    "--unlabelled",
    type=click.Choice(["legitimate", "skip"]),
    default="legitimate",
    show_default=True,
    help="What old events without a label are.",
)
@click.option(
    "--skip-bad-files", "--skip-corrupt", is_flag=True, help="Go on where a whole file cannot be read; it is named."
)
@click.option(
    "--engine", default="native", show_default=True, type=click.Choice(["native", "spark"]), help="What replays."
)
@master_option
@staging_option
@click.option("--out", type=folder, metavar="DIR", help="Write report.html, report.json and changes.parquet here.")
@json_option
def backtest(events, labels, rulebook_dir, against, lists_file, leave_out, sweep, by, as_of, maturity, unlabelled, skip_bad_files, engine, master, staging, out, as_json) -> None:  # fmt: skip
    """Run history (EVENTS) again through a rulebook and judge it by what turned out to be true.

    Labels come from --labels (rows event_id, label, label_ts) or from the schema's label column, and are known from when they
    arrived on. Events too young for their truth to be known are counted, not judged.
    """
    from shopward.backtest.replay import OnSpark
    from shopward.backtest.run import Question, read_lists, run

    question = Question(
        events, load_rulebook(rulebook_dir), labels, load_rulebook(against) if against else None, against.name if against else "",
        read_lists(lists_file) if lists_file else (), leave_out, by, sweep, _time(as_of), _duration(maturity), unlabelled, skip_bad_files,
        OnSpark(master, staging) if engine == "spark" else None,
    )  # fmt: skip
    with progress("replaying") as question.on_progress:
        answer = run(question)
    if out:
        _write(out, answer)
    if as_json:
        return emit(answer.found)
    _tell(answer.found)
    if out:
        say(f"the report is {out / 'report.html'}")
    return None


def _time(text: str | None) -> int | None:
    from shopward.event import parse_time

    try:
        return None if text is None else parse_time(text)
    except BadEvent as wrong:
        raise UsageError(f"--as-of {text}: {wrong}") from None


def _duration(text: str | None) -> int | None:
    from shopward.declare.durations import parse_duration

    try:
        return None if text is None else 0 if text == "0" else parse_duration(text)
    except ValueError as wrong:
        raise UsageError(f"--maturity {text}: {wrong}") from None


def _write(out: Path, answer: Any) -> None:
    import msgspec

    from shopward.backtest.page import html

    write_whole(out / "report.json", msgspec.json.encode(answer.found))
    write_whole(out / "report.html", html(answer.found))
    if answer.changes is not None:
        import pyarrow.parquet as pq

        pq.write_table(answer.changes, out / "changes.parquet", compression="zstd")


def _tell(found: dict[str, Any]) -> None:
    from shopward.charts import money, percent

    cash, policy, labels = money(found["currency"]), found["policy"], found["labels"]
    share = lambda v: "n/a" if v is None else percent(v)  # noqa: E731
    say(
        f"{count(policy['events'], 'event')} in {found['seconds']:.1f} s; {policy['judged']:,} judged, {labels['unripe']:,} too young, {int(policy['fraud']):,} fraud"
    )
    click.echo(
        f"net saving {cash(policy['net_saving'])}  captured {share(policy['capture_by_value'])} by value  insult rate {share(policy['insult_rate'])}  precision {share(policy['precision'])}"
    )
    click.echo(f"{'rule':28} {'fired':>9} {'precision':>10} {'captured':>9} {'alone':>14} {'marginal':>14}  status")
    fired = [r for r in found["rules"] if r["fired"]]
    for r in sorted(fired, key=lambda r: -(r["marginal_net_saving"] or 0)):
        click.echo(
            f"{r['id'][:28]:28} {r['fired']:>9,} {share(r['precision']):>10} {share(r['capture_by_value']):>9} {cash(r['net_saving'] or 0):>14} {cash(r['marginal_net_saving'] or 0):>14}  {r['status']}"
        )
    if len(fired) < len(found["rules"]):
        click.echo(f"{len(found['rules']) - len(fired):,} of {count(len(found['rules']), 'rule')} never fired")
    if "against" in found:
        d = found["against"]["difference"]
        click.echo(
            f"against {found['against']['what']}: net saving {cash(d['net_saving']['before'])} -> {cash(d['net_saving']['after'])}, {count(found['against']['new_insults'], 'new insult')}, {found['against']['insults_spared']:,} spared"
        )
    if "sweep" in found:
        for change in found["sweep"]["best"]["changes"]:
            click.echo(
                f"better: {change['rule']}: {change['threshold']} -> {change['to']:g} (gain {cash(change['gain'])})"
            )
    for name, what in LABELS_LEFT_OUT.items():
        if labels.get(name):
            say(f"{count(labels[name], 'label')} {what}")
    if found["dead_letters"]:
        say(f"{count(found['dead_letters'], 'unusable record')}: {found['dead_reasons']}")
    say(found["bias"])
