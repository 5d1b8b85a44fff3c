"""Message scams: buyers are told in the shop's name to pay, verify or chat somewhere else.

The business: a thousand messages cost nothing, one in sixty is believed, and a believed one is worth forty dollars.
"""

from __future__ import annotations

from dataclasses import dataclass

from shopward.market.campaigns.identities import crew, enter, moments
from shopward.market.campaigns.script import Fields, Kind, Script, said
from shopward.market.rows import DAY

BELIEVED = (1500, 9000)  # minor units a victim sends


@dataclass(frozen=True, slots=True)
class Way:
    messages: int  # of each account
    per_device: int
    hours: tuple[float, float]
    texts: float  # different texts per message
    link: float
    contact: float
    fit: float  # share of messages that are believed


LOUD = Way(45, 3, (3.0, 20.0), 0.02, 0.6, 0.5, 0.012)
QUIET = Way(4, 1, (130.0, 260.0), 0.6, 0.05, 0.2, 0.07)


def plan(script: Script) -> None:
    """Write to many, wait for the few."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    n = max(20, round(script.target / (way.fit * 45)))
    people = crew(
        script, -(-n // way.messages), way.per_device, 1, warm=script.careful or rng.random() < 0.3, role="scammer"
    )
    receivers = script.people(n)
    texts = 6_000_000 + world.take("text", max(1, round(n * way.texts)))
    believed = rng.random(n) < way.fit
    believed[int(rng.integers(0, n))] = True
    for i, t in enumerate(moments(script, n, way.hours)):
        who, label = people[i // way.messages], said("buyer_report", t + int(rng.uniform(0.3, 9) * DAY))
        if i % way.messages == 0 or script.careful:
            t = enter(script, t, who, "SW-1035", **label)
        loss = int(rng.integers(*BELIEVED)) if believed[i] else 0
        flags: Fields = {
            "link": 1 if rng.random() < way.link else -1,
            "contact": 1 if rng.random() < way.contact else -1,
        }
        script.add(
            "message",
            t,
            "SW-1035",
            other=int(receivers[i % len(receivers)]),
            text=int(texts[i % len(texts)]),
            loss=loss,
            **flags,
            **who,
            **label,
        )
        if loss:
            script.actor("account", int(receivers[i % len(receivers)]), "victim")
            script.books.earn(1, loss / 100 * 0.8)


KIND = Kind(
    "message_scams",
    plan,
    share=0.0003,
    haul=220.0,
    likeness="shops that answer many buyers with one prepared text and a tracking link",
)
