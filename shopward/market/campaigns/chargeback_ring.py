"""A chargeback ring: buyers who know one another order, receive, and tell their banks they never did.

The business: the goods stay, the money comes back, the bank believes its customer; each card can do it two or three times.
"""

from __future__ import annotations

from dataclasses import dataclass

from shopward.market.campaigns.identities import crew, drops, enter, moments
from shopward.market.campaigns.script import Fields, Kind, Script
from shopward.market.rows import CATEGORY, DAY, WHY

RESALE = 0.65
GOODS = (CATEGORY["electronics"], CATEGORY["sports"], CATEGORY["fashion"])


@dataclass(frozen=True, slots=True)
class Way:
    orders: int  # of each account
    per_device: int
    per_address: int
    hours: tuple[float, float]
    price: tuple[float, float]


LOUD = Way(4, 3, 4, (10.0, 80.0), (90.0, 450.0))
QUIET = Way(1, 1, 1, (150.0, 280.0), (45.0, 170.0))


def plan(script: Script) -> None:
    """Real names, real cards, one story."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    n, price = script.orders(way.price, 4)
    land = script.countries(1).repeat(-(-n // way.orders))
    people = crew(script, len(land), way.per_device, 1, country=land, role="disputer")
    homes, cards = drops(script, -(-len(people) // way.per_address), "disputer"), world.new_cards(rng, land)
    for i, t in enumerate(moments(script, n, way.hours)):
        k = i % len(people)
        who = people[k]
        label: Fields = {"source": "chargeback", "known": t + int(rng.uniform(12, 44) * DAY)}
        t = enter(script, t, who, "SW-1041", **label)
        order, t = script.purchase(
            t, who, int(script.goods(*price, GOODS, 1)[0]), int(homes[k % len(homes)]), "SW-1041", pieces=1, **label
        )
        payment = script.pay(t, order, int(cards[k]), "F1024", **label)
        script.consequences(order, payment)
        script.blocks[-1]["why"] = WHY["not_received" if rng.random() < 0.6 else "fraud"]
        script.books.pay(1.0, "time")
        script.books.earn(1, int(payment["amount"][0]) / 100 * RESALE)


KIND = Kind(
    "chargeback_ring",
    plan,
    share=0.0004,
    haul=500.0,
    likeness="people at a door from which parcels are stolen, who dispute",
)
