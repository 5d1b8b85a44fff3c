"""Room inflation: a phone farm fills a creator's live room, and the platform pays the bonus for a full one.

The business: the bonus is paid by heads; a head is an account with a code from a rented number, and a phone holds a dozen.
"""

from __future__ import annotations

from dataclasses import dataclass

from shopward.market.campaigns.identities import crew, enter, log_in
from shopward.market.campaigns.script import Fields, Kind, Script, said
from shopward.market.rows import DAY, HOUR, METHOD, MINUTE
from shopward.market.world import sell_accounts

BONUS = 300  # minor units a head


@dataclass(frozen=True, slots=True)
class Way:
    per_device: int
    per_exit: int
    evenings: int  # over which the heads are spread
    likes: int
    coins: float  # chance that a head throws a free coin
    desks: int  # phones on which the creator's own account is open
    seen: float


LOUD = Way(9, 18, 1, 4, 0.4, 6, 0.15)
QUIET = Way(1, 1, 9, 1, 0.05, 1, 0.02)


def plan(script: Script) -> None:
    """A creator, a room, heads."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    creator = int(sell_accounts(world, rng, 1)[0])
    bank = int(world.take("bank", 1)[0])
    number = int(world.creators.add(1, account=creator, bank=bank, weekday=-1, hour=0.0, live=0.0)[0])
    script.actor("account", creator, "creator")
    n = max(18, round(script.target * 100 / BONUS))
    people = crew(script, n, way.per_device, way.per_exit, warm=False, emulator=0.3 * (not script.careful), role="head")
    for evening in range(way.evenings):
        opens = script.start + evening * DAY + 19 * HOUR
        _open(script, way, creator, opens)
        for i in range(evening, n, way.evenings):
            _head(script, way, opens + int(rng.uniform(1, 50) * MINUTE), people[i], creator, number * 4096 + evening)
    script.uses("SW-1051", "SW-1005")
    script.books.pay(30, "numbers")


def _open(script: Script, way: Way, creator: int, t: int) -> None:
    """The creator's account is open on the phones of the farm, to steer it."""
    for device in script.devices(way.desks).tolist():
        seat: Fields = {"account": creator, "device": device, "ip": int(script.homes(script.countries(1))[0]), "session": script.session()}  # fmt: skip
        log_in(
            script,
            t - int(script.rng.uniform(5, 40) * MINUTE),
            seat,
            "SW-1025",
            new=1,
            **said("trust_audit", t + 12 * DAY),
        )


def _head(script: Script, way: Way, t: int, who: Fields, creator: int, room: int) -> None:
    """One account: a code, a trusted phone, a follow, some hearts."""
    rng, label = script.rng, said("trust_audit", t + int(script.rng.uniform(5, 25) * DAY))
    t = enter(script, t, who, "SW-1025", **label)
    script.verdict(t, who, "automation", way.seen)
    script.add("challenge_result", t, "SW-1004", method=METHOD["sms"], success=1, **who, **label)
    script.add("device_bind", t + script.pause(8), "SW-1005", new_device=1, **who, **label)
    t += script.pause(20)
    script.add("follow", t, "SW-1025", other=creator, room=room, loss=BONUS, **who, **label)
    for _ in range(int(rng.integers(0, way.likes + 1))):
        t += script.pause(12)
        script.add("like", t, "SW-1025", other=creator, room=room, **who, **label)
    if rng.random() < way.coins:
        script.add(
            "live_gift",
            t + script.pause(30),
            "SW-1051",
            creator=creator,
            room=room,
            amount=100,
            quantity=1,
            card=-1,
            **who,
            **label,
        )
    script.books.earn(1, BONUS / 100 * 0.8)


KIND = Kind(
    "room_inflation",
    plan,
    share=0.0001,
    haul=90.0,
    likeness="a class that joins a friend's first live show from one school network",
    days=1,
)
