"""The demo as a story: what happened, what was caught, when and why, what it saved, and what slipped through.

`enrich` adds to each campaign what it did, the evidence of its first stop, and, where it got away, what would have caught it.
`print_story` reads well at 80 and at 120 columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from shopward.cli.demo import Story
    from shopward.declare.rulebook import Rulebook

REASONS_SHOWN = 3
DAY_MS = 86_400_000


def enrich(story: Story, place: Path, decisions: Path, rulebook: Rulebook) -> None:
    """Fill in what each campaign did, why it was stopped, and what would have stopped it earlier."""
    import msgspec

    from shopward.cli.demo import FIRST_EVIDENCE
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
    shape = f"{len(mine['events'])} steps on {mine['devices']} devices and {mine['ips']} addresses"
    if per <= 6:
        return f"{shape}: no counter reaches that low; a model, or links between its accounts, could"
    acts = [techniques.get(t) for t in mine["techniques"]]
    act = next((t for t in acts if t.chain_role in ("execute", "cash-out")), acts[0])
    return f"{shape}, and no rule fired: a count of {act.name.lower()} ({act.id}) per device or address"


def print_story(story: Story) -> None:
    """Print the chapters to stdout."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    for chapter in (_opening, _caught, _why, _price, _slipped, _ending):
        chapter(console, story)


def _opening(console: Console, story: Story) -> None:
    m, loss = story.market, sum(c["loss"] for c in story.campaigns)
    console.rule("[bold]What happened", style="dim", align="left")
    console.print(
        f"[bold]{m['days']} days of a marketplace with {m['accounts']:,} buyers: {story.events:,} events, {m['paid']:,.0f} paid.[/bold] "
        f"{len(story.campaigns)} gangs came for {loss:,.0f}. Made, decided on one after another and judged in {story.seconds:.0f} s: "
        f"{_list(f'{name} {n:,}' for name, n in story.decisions.items() if n)}.\n"
    )


def _list(words: Any) -> str:
    return ", ".join(words)


def _caught(console: Console, story: Story) -> None:
    from rich.table import Table

    caught = sorted((c for c in story.campaigns if c["caught"]), key=lambda c: c["start"])
    console.rule(f"[bold]What was caught: {len(caught)} of {len(story.campaigns)}", style="dim", align="left")
    table = Table(box=None, header_style="bold", pad_edge=False, expand=False)
    for name, how in (
        ("day", "right"),
        ("campaign", "left"),
        ("seen after", "right"),
        ("kept", "right"),
        ("of", "right"),
        ("by", "left"),
    ):
        table.add_column(name, justify=how, no_wrap=name != "by", overflow="fold" if name == "by" else "ellipsis")  # type: ignore[arg-type]
    first = min((c["start"] for c in story.campaigns), default=0) // DAY_MS
    for c in caught:
        table.add_row(
            str(c["start"] // DAY_MS - first + 1), words(c["kind"]), span(c["first_detection_s"]), f"{c['loss_prevented']:,.0f}", f"{c['loss']:,.0f}",
            c["seen_by"][0] if c["seen_by"] else "",
        )  # fmt: skip
    console.print(table)
    console.print()


def _why(console: Console, story: Story) -> None:
    console.rule("[bold]Why", style="dim", align="left")
    shown = [c for c in sorted(story.campaigns, key=lambda c: -c["loss_prevented"]) if c.get("first_stop")][
        :REASONS_SHOWN
    ]
    for c in shown:
        stop = c["first_stop"]
        name, _, business = c["did"].partition(":")
        console.print(f"[bold]{name}:[/bold]{business}")
        for why in stop["why"][:1]:
            console.print(f"  {stop['type']} {stop['event_id']} was answered [bold]{stop['action']}[/bold]: {why}")
        console.print(f"  techniques: {_list(dict.fromkeys(stop['techniques']))}\n")


def _price(console: Console, story: Story) -> None:
    kept = sum(c["loss_prevented"] for c in story.campaigns)
    loss = sum(c["loss"] for c in story.campaigns)
    console.rule("[bold]What it saved, and what it cost", style="dim", align="left")
    console.print(
        f"{kept:,.0f} of {loss:,.0f} was kept ({story.capture_by_value:.0%} by value). Of every 10,000 honest events {story.insult_rate * 1e4:.1f} "
        f"were challenged, held or denied; analysts looked at {story.decisions.get('review', 0):,}. After both costs: {story.net_saving:,.0f} saved.\n"
    )


def _slipped(console: Console, story: Story) -> None:
    missed = sorted((c for c in story.campaigns if c.get("would_have")), key=lambda c: c["loss_prevented"] - c["loss"])
    console.rule(f"[bold]What slipped through: {len(missed)}, and what would have caught it", style="dim", align="left")
    for c in missed:
        console.print(f"[bold]{words(c['kind'])}[/bold] took {c['loss'] - c['loss_prevented']:,.0f}: {c['would_have']}")
    if not missed:
        console.print("Nothing that cost more than half of what it was after.")
    console.print()


def _ending(console: Console, story: Story) -> None:
    caught = sum(c["caught"] for c in story.campaigns)
    console.print(
        f"[bold]{caught} of {len(story.campaigns)} campaigns caught; {story.capture_by_value:.0%} of fraud by value stopped; "
        f"{story.insult_rate:.2%} of legitimate events disturbed.[/bold] Harder attackers: shopward demo --adversary hard"
    )


def words(kind: str) -> str:
    """`card_testing` as people say it: card testing."""
    return kind.replace("_", " ")


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
