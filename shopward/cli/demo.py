"""`shopward demo`: a small marketplace with attackers, decided from end to end, and judged against the truth."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from shopward.cli.talk import emit, json_option, progress, say

if TYPE_CHECKING:
    from shopward.decision import Decision
    from shopward.declare.rulebook import Rulebook

SEED, DAYS, ACCOUNTS = 20, 14, 4_000
FIRST_EVIDENCE = "evidence.json"  # of the events with which campaigns were first stopped


@dataclass(slots=True)
class Story:
    """What the demo found; `campaigns` in the shape of the contract plus what they did, who saw them and what would have."""

    events: int
    seconds: float
    decisions: dict[str, int]
    capture_by_value: float
    insult_rate: float
    campaigns: list[dict]
    net_saving: float = 0.0
    rules: list[dict] = field(default_factory=list)
    example: dict | None = None
    market: dict = field(default_factory=dict)


@click.command()
@click.option("--once", is_flag=True, help="Run once and end (the default).")
@click.option("--seed", default=SEED, show_default=True)
@click.option("--adversary", default="normal", show_default=True, type=click.Choice(["normal", "hard"]))
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
    from shopward.cli.telling import enrich
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
            decisions = _decide(place, rulebook, out, done)
        story = _judge(place, out, rulebook)
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


def _decide(place: Path, rulebook: Rulebook, out: Path, done: Callable[[int], None]) -> dict[str, int]:
    """Decide on every event in order; keep the evidence of each campaign's first stop. Kernels that are not compiled yet are interpreted."""
    import numpy as np

    from shopward.decide import Engine
    from shopward.ingest import DeadLetters
    from shopward.metrics import REVIEW
    from shopward.runs import Rows

    engine, rows, seen = Engine(rulebook, mode="auto"), Rows(out), {}
    counts: Counter[str] = Counter()
    campaign_of = _campaigns_of_events(place)
    for batch in engine.read([place / "events.ndjson"], dead=DeadLetters(None)):
        decisions = engine.decide_batch(batch)
        rows.write(decisions.table())
        counts.update(decisions.counts())
        for i in np.flatnonzero(decisions.action >= REVIEW).tolist():
            campaign = campaign_of.get(batch.event_ids[int(decisions.rows[i])])
            if campaign and campaign not in seen:
                seen[campaign] = _told(decisions[i])
        done(batch.n)
    rows.close()
    (place / FIRST_EVIDENCE).write_bytes(msgspec.json.encode(seen))
    return dict(counts)


def _campaigns_of_events(place: Path) -> dict[str, str]:
    import pyarrow.parquet as pq

    steps = pq.read_table(place / "truth/steps.parquet", columns=["event_id", "campaign"])
    return dict(zip(steps["event_id"].to_pylist(), steps["campaign"].to_pylist(), strict=True))


def _told(decision: Decision) -> dict:
    return {
        "event_id": decision.event_id, "type": decision.type, "action": decision.action, "why": [e.what for e in decision.evidence],
        "techniques": [t for e in decision.evidence for t in e.techniques],
    }  # fmt: skip


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
    """The first denied event of a campaign with its evidence."""
    seen = msgspec.json.decode((place / FIRST_EVIDENCE).read_bytes())
    denied = [found for found in seen.values() if found["action"] == "deny"]
    return min(denied, key=lambda found: found["event_id"], default=None)


def _rounded(values: dict) -> dict:
    return {k: round(v, 2) if isinstance(v, float) else v for k, v in values.items()}
