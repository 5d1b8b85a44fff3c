"""Account farming and resale: accounts are signed up in series, kept alive, and sold with their past.

The business: a number and a minute of a phone make an account, a few weeks of taps make it worth ten times as much.
"""

from __future__ import annotations

from dataclasses import dataclass

from shopward.market.campaigns.identities import crew, enter, log_in, moments
from shopward.market.campaigns.script import Fields, Kind, Script
from shopward.market.rows import CHANGE, DAY

LOSS, PRICE = 400, 5.5  # minor units of harm a sold account does, at least; dollars it brings


@dataclass(frozen=True, slots=True)
class Way:
    per_device: int
    per_exit: int
    hours: tuple[float, float]
    taps: int
    emulator: float
    disposable: float
    rest: tuple[float, float]  # days from the last tap to the sale
    settle: tuple[float, float]  # hours from the sale until the buyer makes it his own


LOUD = Way(12, 16, (3.0, 24.0), 3, 0.6, 0.35, (0.3, 2.0), (0.01, 0.1))
QUIET = Way(1, 2, (120.0, 200.0), 8, 0.0, 0.0, (2.0, 5.0), (30.0, 150.0))


def plan(script: Script) -> None:
    """Sign up, tap, hand over."""
    way, rng = script.way(LOUD, QUIET), script.rng
    n = max(10, round(script.target * 100 / LOSS))
    people = crew(
        script,
        n,
        way.per_device,
        way.per_exit,
        warm=False,
        disposable=way.disposable,
        role="farmed",
        emulator=way.emulator,
    )
    script.uses("SW-1003", "SW-1004", *(() if script.careful else ("SW-1005",)))
    for i, t in enumerate(moments(script, n, way.hours)):
        label: Fields = {"source": "security", "known": t + int(rng.uniform(4, 30) * DAY)}
        t = enter(script, t, people[i], "SW-1003", **label)
        if not script.careful:
            script.verdict(t, people[i], "automation", 0.1)
        t = _taps(script, way, t, people[i], label)
        _sell(script, way, t + int(rng.uniform(*way.rest) * DAY), people[i], label)


def _taps(script: Script, way: Way, t: int, who: Fields, label: Fields) -> int:
    """A look, a like, a follow: what keeps an account from looking empty."""
    rng, world = script.rng, script.world
    for _ in range(1 + int(rng.integers(0, way.taps))):
        product = int(rng.integers(0, world.first_products))
        shop = int(world.sellers.account[world.products.seller[product]])
        kind = str(rng.choice(["like", "follow", "session_view"], p=[0.45, 0.3, 0.25]))
        more: Fields = {"like": {"product": product, "other": shop}, "follow": {"other": shop}}.get(kind) or {
            "product": product, "seller": shop, "category": int(world.products.category[product]),
        }  # fmt: skip
        script.add(kind, t, "SW-1001", **more, **who, **label)
        t += script.pause(15) if not script.careful else script.later(0.05, 20)
    return t


def _sell(script: Script, way: Way, t: int, who: Fields, label: Fields) -> None:
    """The buyer of the account comes from somewhere else and makes it his own."""
    rng, world = script.rng, script.world
    seat: Fields = {
        "account": who["account"], "device": int(script.devices(1)[0]), "ip": int(script.homes(script.countries(1))[0]), "session": script.session(),
    }  # fmt: skip
    t = log_in(script, t, seat, "SW-1002", new=1, **label)
    script.blocks[-1]["loss"] = LOSS
    t += script.later(*way.settle)
    seat["session"] = script.session() if way.settle[0] > 1 else seat["session"]
    fresh = int(world.new_emails(rng, 1)[0])
    script.add("profile_change", t, "F1005.004", changed=CHANGE["email"], email=fresh, new_device=1, **seat, **label)
    if rng.random() < 0.5:
        script.add(
            "profile_change",
            t + script.pause(40),
            "F1005.004",
            changed=CHANGE["password"],
            new_device=1,
            **seat,
            **label,
        )
    script.books.earn(1, PRICE)


KIND = Kind(
    "account_farming",
    plan,
    share=0.0002,
    haul=130.0,
    likeness="a school class that joins for a gift on the library computer",
)
