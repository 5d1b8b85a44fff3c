"""`shopward rules mine`: small readable rules out of labels, as drafts with tests."""

from __future__ import annotations

from pathlib import Path

import click

from shopward.cli.decide import events_argument, labels_option
from shopward.cli.talk import emit, json_option, load_rulebook, progress, rulebook_option, say, write_whole
from shopward.words import count


@click.command()
@events_argument
@labels_option
@rulebook_option
@click.option(
    "--then",
    type=click.Choice(["review", "challenge", "hold", "deny"]),
    default="review",
    show_default=True,
    help="What the rules should do.",
)
@click.option("--most", default=5, show_default=True, help="How many rules at most.")
@click.option("--seconds", default=120.0, show_default=True, help="How long to search.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write one draft file a rule into DIR/rules.",
)
@json_option
def mine(events, labels, rulebook_dir, then, most, seconds, out, as_json) -> None:
    """Search history (EVENTS with labels) for rules of up to three conditions that add money to the rulebook's own.

    What is printed was measured on the last fifth of the days, which the search did not see.
    """
    from shopward.backtest.draft import drafts
    from shopward.backtest.mine import mine as search
    from shopward.backtest.mine import summary

    rulebook = load_rulebook(rulebook_dir)
    with progress("mining") as done:
        result = search(events, rulebook, labels=labels, then=then, most=most, seconds=seconds, on_progress=done)
        texts = drafts(result, events, rulebook, labels=labels, on_progress=done)
    for name, text in texts.items() if out else ():
        write_whole(out / name, text)
    if as_json:
        return emit({"rules": [m | {"file": f"rules/{m['id']}.yaml", "yaml": texts[f"rules/{m['id']}.yaml"]} for m in summary(result)],
                     "seconds": result.seconds, "stopped": result.stopped})  # fmt: skip
    for m in summary(result):
        late = m["held_out"]
        click.echo(f"{m['id']}  on {m['on']}: {m['when']}")
        click.echo(
            f"    since {m['held_out_from']}: fired {late['fired']:,}, precision {late['precision']:.0%}, adds {late['net_saving']:,.0f}"
        )
    say(f"{count(len(result.found), 'rule')} in {result.seconds:.0f} s: {result.stopped}")
    if out and texts:
        say(f"drafts are in {out / 'rules'}; move them into a rulebook and run `shopward rules test`")
    return None
