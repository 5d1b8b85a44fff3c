"""A synthetic market decided and judged against its truth: what was caught, when, what it saved and what it cost.

`decide` runs the engine over a generated market, `judge` joins its decisions with the truth tables, and `enrich` (in `instead.py`)
adds what each campaign did and what would have stopped it. The demo prints the result; benchmarks and reports read it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from shopward.decision import Decision
    from shopward.declare.rulebook import Rulebook

FIRST_EVIDENCE = "evidence.json"  # of the events with which campaigns were first stopped


@dataclass(slots=True)
class Story:
    """What was found; `campaigns` in the shape of the contract plus what they did, who saw them and what would have."""

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


def decide(place: Path, rulebook: Rulebook, out: Path, done: Callable[[int], None]) -> dict[str, int]:
    """Decide on every event of the market generated at `place`, in order, into the file `out`; how many met which action.

    The evidence of each campaign's first stop is kept beside the market. Kernels that are not compiled yet are interpreted.
    """
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


def judge(place: Path, decisions: Path, rulebook: Rulebook) -> Story:
    """Join a file of decisions with the truth of the market at `place`, and measure: in money, by campaign, by rule."""
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
