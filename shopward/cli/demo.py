"""`shopward demo`: a small marketplace with attackers, decided from end to end, and judged against the truth."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shopward.cli.talk import adversary_option, emit, json_option, progress, say

if TYPE_CHECKING:
    from shopward.backtest.judged import Story
    from shopward.declare.rulebook import Rulebook

SEED, DAYS, ACCOUNTS = 20, 14, 4_000


@click.command()
@click.option("--once", is_flag=True, help="Run once and end (the default).")
@click.option("--seed", default=SEED, show_default=True, help="Another seed, another marketplace.")
@adversary_option
@json_option
def demo(once: bool, seed: int, adversary: str, as_json: bool) -> None:
    """Make a small marketplace, decide on every event with the shipped rulebook, and tell what was caught, why, and what was not."""
    from shopward.cli.telling import print_story
    from shopward.declare.rulebook import Rulebook

    story = tell(Rulebook.default(), seed, adversary)
    if as_json:
        return emit(asdict(story))
    print_story(story)
    say("next: shopward decide FILE --rulebook DIR   (shopward --help)")
    return None


def tell(rulebook: Rulebook, seed: int = SEED, adversary: str = "normal") -> Story:
    """Generate, decide, judge, and look at what slipped through."""
    from shopward.backtest.instead import enrich
    from shopward.backtest.judged import decide, judge
    from shopward.market import generate

    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="shopward-demo-") as folder:
        place = Path(folder)
        with progress("two weeks of a marketplace", DAYS) as done:
            made = generate(
                place, seed=seed, days=DAYS, accounts=ACCOUNTS, adversary=adversary, access_log=False, on_progress=done
            )
        out = place / "decisions.parquet"
        with progress("deciding on every event", made.events) as done:
            decisions = decide(place, rulebook, out, done)
        story = judge(place, out, rulebook)
        enrich(story, place, out, rulebook)
    story.events, story.decisions = made.events, decisions
    story.market = {
        "accounts": ACCOUNTS,
        "days": DAYS,
        "adversary": adversary,
        "paid": round(made.paid, 2),
        "fraud_events": made.fraud_events,
    }
    story.seconds = round(time.perf_counter() - started, 2)
    return story
