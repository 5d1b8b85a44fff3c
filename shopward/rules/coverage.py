"""Which techniques a rulebook looks at, and which it does not: blind spots, said before an attacker finds them.

A technique is *covered* when a live rule names it or its parent, *open* when some event or request of ours could show it and no live
rule looks, and *unseen* when nothing we receive could show it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shopward import techniques
from shopward.techniques import Technique

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook


@dataclass(frozen=True, slots=True)
class Coverage:
    """A technique and the live rules that look at it; `state` is covered, open or unseen."""

    technique: Technique
    rules: tuple[str, ...]

    @property
    def state(self) -> str:
        return "covered" if self.rules else "open" if self.technique.observable else "unseen"

    @property
    def by_traffic(self) -> bool:
        """Only requests show it, so it is for traffic analysis, not for rules on events."""
        return all(s.startswith("request.") for s in self.technique.signals)


def coverage(rulebook: Rulebook) -> list[Coverage]:
    """Every technique of the taxonomy, in its order.

    >>> from shopward import Rulebook
    >>> found = {c.technique.id: c for c in coverage(Rulebook.default())}
    >>> found["SW-1011.001"].state, found["T1451"].state
    ('covered', 'open')
    """
    live = [r for r in rulebook.rules.values() if r.state == "live"]
    return [Coverage(t, tuple(r.id for r in live if techniques.covers(r.techniques, t.id))) for t in techniques.all()]


def markdown(rulebook: Rulebook) -> str:
    """Two tables: what is covered by which rules, and the blind spots with where they would show."""
    every = coverage(rulebook)
    covered, open_ = ([c for c in every if c.state == state] for state in ("covered", "open"))
    unseen = len(every) - len(covered) - len(open_)
    lines = [
        "## Techniques with rules",
        "",
        f"{len(covered)} of {len(every)} techniques; {len(open_)} more could be seen and are not looked at, {unseen} leave no trace here.",
        "",
        "| technique | name | rules |",
        "|---|---|---|",
        *(f"| {c.technique.id} | {c.technique.name} | {', '.join(f'`{r}`' for r in c.rules)} |" for c in covered),
        "",
        "## Blind spots",
        "",
        "Techniques that leave a trace in our events or requests and have no live rule. Those that only requests show are for traffic",
        "analysis, which tells rules about them through `traffic_verdict`.",
        "",
        "| technique | name | where it would show | seen in |",
        "|---|---|---|---|",
        *(
            f"| {c.technique.id} | {c.technique.name} | {' '.join(c.technique.signals)} | {'requests' if c.by_traffic else 'events'} |"
            for c in open_
        ),
    ]
    return "\n".join(lines) + "\n"
