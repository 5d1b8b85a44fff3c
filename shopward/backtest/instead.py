"""What each campaign of a market did, why it was stopped, and, where it got away, what would have caught it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from shopward.words import count

if TYPE_CHECKING:
    from shopward.backtest.judged import Story
    from shopward.declare.rulebook import Rulebook


def enrich(story: Story, place: Path, decisions: Path, rulebook: Rulebook) -> None:
    """Fill in what each campaign did, why it was stopped, and what would have stopped it earlier."""
    import msgspec

    from shopward.backtest.judged import FIRST_EVIDENCE
    from shopward.market.campaigns import KINDS

    evidence = msgspec.json.decode((place / FIRST_EVIDENCE).read_bytes())
    rows = _rows(place, decisions)
    for campaign in story.campaigns:
        mine = rows[campaign["id"]]
        campaign["did"] = KINDS[campaign["kind"]].told
        campaign["start"] = mine["start"]
        campaign |= {name: mine[name] for name in ("accounts", "devices", "ips", "techniques")}
        campaign["first_stop"] = evidence.get(campaign["id"])
        if campaign["loss"] and campaign["loss_prevented"] < 0.5 * campaign["loss"]:
            campaign["would_have"] = _instead(mine, campaign, rulebook)


def _rows(place: Path, decisions: Path) -> dict[str, dict[str, Any]]:
    """Each campaign's row of the truth, with its `events` in time order: when, at what loss, decided how, and what fired."""
    import duckdb

    with duckdb.connect() as db:
        db.execute("SET threads = 1")
        truth = str(place / "truth")
        campaigns = db.execute(
            """SELECT id, epoch_ms(start) AS start, accounts, devices, ips, techniques FROM read_parquet(? || '/campaigns.parquet')""", [truth]
        ).fetchall()  # fmt: skip
        events = db.execute(
            """SELECT l.campaign, epoch_ms(d.ts), coalesce(l.amount, 0)::DOUBLE, d.action, d.reasons, d.shadow, epoch_ms(l.label_ts)
               FROM read_parquet(?) d JOIN read_parquet(? || '/event_labels.parquet') l USING (event_id) WHERE l.label = 1 ORDER BY d.ts""",
            [str(decisions), truth],
        ).fetchall()
    names = ("id", "start", "accounts", "devices", "ips", "techniques")
    out = {row[0]: dict(zip(names, row, strict=True)) | {"events": []} for row in campaigns}
    for campaign, *event in events:
        out[campaign]["events"].append(event)
    return out


def _instead(mine: dict[str, Any], campaign: dict[str, Any], rulebook: Rulebook) -> str:
    """What would have kept most of this campaign's loss: something that saw it and had no say, a report, or a rule not yet written."""
    events = mine["events"]
    for found in (_weaker(events, rulebook), _reported(events), _late(events, campaign)):
        if found:
            return found
    return _unseen(mine, rulebook)


def _left(events: list, moment: int) -> float:
    return sum(amount for t, amount, *_ in events if t >= moment)


def _weaker(events: list, rulebook: Rulebook) -> str | None:
    """A rule that fired in shadow, or with an answer too weak to stop anything."""
    first: dict[str, int] = {}
    for t, _, action, reasons, shadow, _ in events:
        if action in ("allow", "limit", "challenge"):
            for rule in (*reasons, *shadow):
                first.setdefault(rule, t)
    best = max(first, key=lambda rule: _left(events, first[rule]), default=None)
    total = _left(events, 0)
    if best is None or _left(events, first[best]) < 0.25 * total:
        return None
    rule = rulebook.rules[best]
    how = "is in shadow" if rule.state == "shadow" else f"only answers `{rule.then}`"
    return f"`{best}` saw it, but {how}: a review would have kept {_left(events, first[best]):,.0f} of {total:,.0f}"


def _reported(events: list) -> str | None:
    """What was lost after the first victim or auditor reported it."""
    report = min((known for *_, known in events), default=None)
    total = _left(events, 0)
    if report is None or _left(events, report) < 0.25 * total:
        return None
    after = span((report - events[0][0]) / 1000)
    return f"it was reported after {after}: blocking its accounts and devices then would have kept {_left(events, report):,.0f} of {total:,.0f}"


def _late(events: list, campaign: dict[str, Any]) -> str | None:
    if campaign["first_detection_s"] is None:
        return None
    gone = _left(events, 0) - _left(events, events[0][0] + int(campaign["first_detection_s"] * 1000))
    by = campaign["seen_by"][0] if campaign["seen_by"] else "a rule"
    if gone > 0.25 * campaign["loss"]:
        return f"`{by}` came after {span(campaign['first_detection_s'])}, when {gone / campaign['loss']:.0%} was gone: a rule on an earlier step"
    return f"`{by}` stopped one step and let the others pass: hold everything of an account that was stopped"


def _unseen(mine: dict[str, Any], rulebook: Rulebook) -> str:
    """Nothing fired: a technique nobody looks for, or too few events per account, device and address for any counter."""
    from shopward import techniques

    watched = {t for rule in rulebook.rules.values() if rule.state == "live" for t in rule.techniques}
    blind = [t for t in mine["techniques"] if t.startswith("SW-") and not techniques.covers(watched, t)]
    if blind:
        return f"no live rule looks for {blind[0]} ({techniques.get(blind[0]).name}): a blind spot"
    per = len(mine["events"]) / max(1, mine["devices"])
    shape = f"{count(len(mine['events']), 'step')} on {count(mine['devices'], 'device')} and {count(mine['ips'], 'address', 'addresses')}"
    if per <= 6:
        return f"{shape}: no counter reaches that low; a model, or links between its accounts, could"
    acts = [techniques.get(t) for t in mine["techniques"]]
    act = next((t for t in acts if t.chain_role in ("execute", "cash-out")), acts[0])
    return f"{shape}, and no rule fired: a rule against {act.name.lower()} ({act.id}) that counts per device or address"


def span(seconds: float | None) -> str:
    """A duration in the unit people would use.

    >>> span(40), span(7200), span(200_000), span(None)
    ('40 s', '2.0 h', '2.3 d', 'never')
    """
    if seconds is None:
        return "never"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
