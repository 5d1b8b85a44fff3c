"""A referral farm: invite accounts of one's own making and collect the reward for each.

The business: a rented number for the code, a phone in a rack, the smallest order that counts; five dollars a head.
"""

from __future__ import annotations

from dataclasses import dataclass

from shopward.market.afterwards import REFERRAL
from shopward.market.campaigns.identities import crew, drops, enter, moments
from shopward.market.campaigns.script import Fields, Kind, Script
from shopward.market.rows import CATEGORY, DAY, HOUR, METHOD

GOODS = (CATEGORY["books"], CATEGORY["grocery"], CATEGORY["beauty"], CATEGORY["digital"])


@dataclass(frozen=True, slots=True)
class Way:
    per_device: int
    per_exit: int
    per_inviter: int
    hours: tuple[float, float]
    emulator: float
    numbers: bool  # are the phone numbers from mixed sources (otherwise neighbours, rented together)


LOUD = Way(8, 12, 25, (5.0, 40.0), 0.5, False)
QUIET = Way(1, 1, 3, (150.0, 280.0), 0.0, True)


def plan(script: Script) -> None:
    """Inviters with a past, invited accounts without one."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    n = max(6, round(script.target * 100 / REFERRAL))
    inviters = crew(script, -(-n // way.per_inviter), 1, 1, warm=True, role="inviter")
    people = crew(
        script,
        n,
        way.per_device,
        way.per_exit,
        warm=False,
        disposable=0.3 * (not script.careful),
        role="invited",
        emulator=way.emulator,
    )
    if not way.numbers:
        rented = world.accounts.phone[people[0]["account"]]
        for i, who in enumerate(people):
            world.accounts.phone[who["account"]] = rented + i
    homes, cards = drops(script, -(-n // 5), "invited"), world.new_cards(rng, script.countries(-(-n // 4)))
    script.uses("SW-1004", *(() if script.careful else ("SW-1005",)))
    for i, t in enumerate(moments(script, n, way.hours)):
        _invited(
            script,
            t,
            people[i],
            inviters[i // way.per_inviter % len(inviters)]["account"],
            int(homes[i // 5]),
            int(cards[i // 4]),
        )


def _invited(script: Script, t: int, who: Fields, inviter: int, address: int, card: int) -> None:
    rng = script.rng
    label: Fields = {"source": "promo_audit", "known": t + int(rng.uniform(5, 25) * DAY)}
    t = enter(script, t, who, "SW-1012", {"other": inviter}, **label)
    t += script.later(0.1, 30)
    order, t = script.purchase(t, who, int(script.goods(3, 9, GOODS, 1)[0]), address, "SW-1012", pieces=1, **label)
    payment = script.pay(t, order, card, "SW-1012", loss=0, **label)
    script.consequences(order, payment)
    script.add(
        "commission", t + int(rng.uniform(1, 40) * HOUR), "SW-1012", account=inviter, affiliate=inviter, payee=inviter, other=who["account"],
        seller=int(order["seller"][0]), order=int(order["order"][0]), amount=REFERRAL, loss=REFERRAL, method=METHOD["referral"], **label,
    )  # fmt: skip
    script.books.earn(1, REFERRAL / 100)


KIND = Kind(
    "referral_farm", plan, share=0.0002, haul=100.0, likeness="somebody popular who really brings a dozen friends"
)
