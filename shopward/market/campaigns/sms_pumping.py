"""SMS pumping: codes are requested for rows of numbers whose carrier shares the fee.

The business: every code the platform sends brings two cents back; nothing is ever verified.
"""

from __future__ import annotations

from dataclasses import dataclass

from shopward.market.campaigns.identities import crew, moments, sign_up
from shopward.market.campaigns.script import Fields, Kind, Script, said
from shopward.market.rows import DAY, METHOD

PER_CODE, SHARE = 9, 0.25  # minor units the platform pays per message abroad; what comes back to the attacker


@dataclass(frozen=True, slots=True)
class Way:
    codes: int  # of each account
    per_device: int
    hours: tuple[float, float]
    servers: float
    neighbours: bool
    caught: float


LOUD = Way(12, 20, (1.0, 10.0), 0.7, True, 0.25)
QUIET = Way(3, 1, (90.0, 220.0), 0.0, False, 0.02)


def plan(script: Script) -> None:
    """Register, ask for codes, ask again."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    n = max(6, round(script.target * 100 / PER_CODE / way.codes))
    people = crew(
        script,
        n,
        way.per_device,
        way.per_device,
        warm=False,
        servers=way.servers,
        disposable=0.5 * way.neighbours,
        role="pump",
    )
    first = int(rng.integers(5_000_000, 9_000_000))
    for i, t in enumerate(moments(script, n, way.hours)):
        who, label = people[i], said("security", t + int(rng.uniform(1, 20) * DAY))
        phone = first + i if way.neighbours else int(rng.integers(5_000_000, 9_900_000))
        world.accounts.phone[who["account"]] = phone
        who["session"] = script.session()
        script.unborn.discard(who["account"])
        t = sign_up(script, t, who, "SW-1060", **label)
        script.blocks[-1]["loss"], script.blocks[-1]["method"] = PER_CODE, METHOD["otp"]
        script.verdict(t, who, "automation", way.caught)
        email = int(world.accounts.email[who["account"]])
        for _ in range(way.codes - 1):
            asks: Fields = {"email": email, "phone": phone, "method": METHOD["sms"], "loss": PER_CODE}
            script.add("password_reset", t, "SW-1060", **asks, **who, **label)
            t += script.pause(25)
        script.books.earn(way.codes, PER_CODE / 100 * SHARE)


KIND = Kind(
    "sms_pumping",
    plan,
    share=0.0001,
    haul=25.0,
    likeness="people whose code does not arrive, and who press again and again",
)
