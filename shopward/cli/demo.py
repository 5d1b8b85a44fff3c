"""`shopward demo`: a small marketplace with attackers, decided from end to end, and judged against the truth."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shopward.cli.talk import emit, json_option, progress, say

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook

SEED, DAYS, ACCOUNTS = 20, 14, 6_000


@dataclass(slots=True)
class Story:
    """What the demo found; `campaigns` in the shape of the contract plus the rules that saw them and the first reason."""

    events: int
    seconds: float
    decisions: dict[str, int]
    capture_by_value: float
    insult_rate: float
    campaigns: list[dict]
    net_saving: float = 0.0
    rules: list[dict] = field(default_factory=list)
    example: dict | None = None


@click.command()
@click.option("--once", is_flag=True, help="Run once and end (the default).")
@click.option("--seed", default=SEED, show_default=True)
@json_option
def demo(once: bool, seed: int, as_json: bool) -> None:
    """Make a small marketplace, decide on every event with the shipped rulebook, and say what was caught and why."""
    from shopward.declare.rulebook import Rulebook

    with progress("demo", 3) as done:
        story = tell(Rulebook.default(), seed, done)
    if as_json:
        return emit(asdict(story))
    _print(story)
    return None


def tell(rulebook: Rulebook, seed: int = SEED, on_progress=lambda done: None) -> Story:
    """Generate, decide, judge."""
    from shopward.market import generate
    from shopward.runs import decide_files

    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="shopward-demo-") as folder:
        place = Path(folder)
        generate(place, seed=seed, days=DAYS, accounts=ACCOUNTS, access_log=False)
        on_progress(1)
        out = place / "decisions.parquet"
        summary = decide_files([place / "events.ndjson"], rulebook, out=out)
        on_progress(1)
        story = _judge(place, out, rulebook)
        on_progress(1)
    story.events, story.decisions = summary.events, summary.decisions
    story.seconds = round(time.perf_counter() - started, 2)
    return story


def _judge(place: Path, decisions: Path, rulebook: Rulebook) -> Story:
    """Join decisions with the truth and measure."""
    import duckdb
    import numpy as np

    from shopward import metrics
    from shopward.declare.types import ACTIONS

    db = duckdb.connect()
    db.execute("SET threads = 1")
    rows = db.execute(
        """SELECT epoch_ms(d.ts) AS ts, d.action, coalesce(l.label, 0) = 1 AS fraud, coalesce(l.amount, 0)::DOUBLE AS amount,
                  coalesce(l.campaign, '') AS campaign, d.reasons, d.event_id, d.type
           FROM read_parquet(?) d LEFT JOIN read_parquet(?) l USING (event_id) ORDER BY d.ts""",
        [str(decisions), str(place / "truth/event_labels.parquet")],
    ).fetchnumpy()
    code = {name: i for i, name in enumerate(ACTIONS)}
    action = np.array([code[a] for a in rows["action"]], np.int8)
    fraud, amount, ts = rows["fraud"].astype(bool), rows["amount"].astype(float), rows["ts"].astype(np.int64)
    campaigns = []
    for name, kind in db.execute(
        "SELECT id, kind FROM read_parquet(?) ORDER BY start", [str(place / "truth/campaigns.parquet")]
    ).fetchall():
        mine = (rows["campaign"] == name) & fraud
        if not mine.any():
            continue
        result = metrics.campaign_result(ts[mine], action[mine], amount[mine], rulebook.policy)
        why = [r for rs, a in zip(rows["reasons"][mine], action[mine], strict=True) if a >= metrics.REVIEW for r in rs]
        campaigns.append(
            {"id": name, "kind": kind, **_rounded(asdict(result)), "seen_by": sorted(set(why), key=why.index)}
        )
    reasons = [r for rs in rows["reasons"] for r in rs]
    right = [r for rs in rows["reasons"][fraud] for r in rs]
    table = [
        {"rule": rule, "fired": reasons.count(rule), "precision": round(right.count(rule) / reasons.count(rule), 3)}
        for rule in sorted(set(reasons), key=lambda r: -reasons.count(r))
    ]
    return Story(
        events=len(ts), seconds=0.0, decisions={},
        capture_by_value=round(metrics.capture_by_value(action, fraud, amount, rulebook.policy), 4),
        insult_rate=round(metrics.insult_rate(action, fraud), 5),
        net_saving=round(metrics.net_saving(action, fraud, amount, rulebook.policy), 2),
        campaigns=campaigns, rules=table, example=_example(place, rows, action, rulebook),
    )  # fmt: skip


def _example(place: Path, rows, action, rulebook: Rulebook) -> dict | None:
    """The first denied event with its evidence, decided again one event at a time to show its reasons."""
    import numpy as np

    from shopward.decide import Engine
    from shopward.ingest import DeadLetters

    denied = np.flatnonzero((action == action.max()) & (action > 0))
    if not len(denied):
        return None
    wanted = rows["event_id"][denied[0]]
    engine = Engine(rulebook, mode="compiled")
    for batch in engine.read([place / "events.ndjson"], dead=DeadLetters(None)):
        decisions = engine.decide_batch(batch)
        if wanted in batch.event_ids:
            found = next(d for d in decisions if d.event_id == wanted)
            return {"event_id": found.event_id, "type": found.type, "action": found.action,
                    "why": [e.what for e in found.evidence], "techniques": [t for e in found.evidence for t in e.techniques]}  # fmt: skip
    return None


def _rounded(values: dict) -> dict:
    return {k: round(v, 2) if isinstance(v, float) else v for k, v in values.items()}


def _print(story: Story) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=None)
    acts = "  ".join(f"{name} {n:,}" for name, n in story.decisions.items() if n)
    console.print(
        f"[bold]{story.events:,} events of a small marketplace, decided in {story.seconds:.1f} s[/bold]\n{acts}\n"
    )
    table = Table(
        "campaign", "caught", "first seen after", "loss", "prevented", "seen by", box=None, header_style="bold"
    )
    for c in story.campaigns:
        after = "never" if c["first_detection_s"] is None else _span(c["first_detection_s"])
        table.add_row(
            c["kind"], "yes" if c["caught"] else "no", after, f"{c['loss']:,.0f}", f"{c['loss_prevented']:,.0f}",
            ", ".join(c["seen_by"][:3]),
        )  # fmt: skip
    console.print(table)
    if story.example:
        e = story.example
        console.print(f"\n[bold]Why was {e['type']} {e['event_id']} answered `{e['action']}`?[/bold]")
        for why in e["why"]:
            console.print(f"  - {why}")
        console.print(f"  techniques: {', '.join(dict.fromkeys(e['techniques']))}")
    caught = sum(c["caught"] for c in story.campaigns)
    console.print(
        f"\n{caught} of {len(story.campaigns)} campaigns caught; {story.capture_by_value:.0%} of fraud by value stopped; "
        f"{story.insult_rate:.2%} of legitimate events disturbed; net saving {story.net_saving:,.0f}"
    )
    say("next: shopward decide FILE --rulebook DIR   (shopward --help)")


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
