"""The demo as a story on the terminal: what happened, what was caught, when and why, what it saved, and what slipped through.

`print_story` reads well at 80 and at 120 columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shopward.backtest.instead import span

if TYPE_CHECKING:
    from rich.console import Console

    from shopward.backtest.judged import Story

REASONS_SHOWN = 3
DAY_MS = 86_400_000


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
