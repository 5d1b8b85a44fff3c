"""Brushing: orders that are no sales lift a shop in the ranking; an empty letter makes each look fulfilled.

The business: the shop pays itself and gets its money back less the fee, each false order costs a buyer's fee and a stamp, and the
better place sells real goods for weeks. What is lost is what honest shops would have sold there.
"""

from __future__ import annotations

from dataclasses import dataclass

from shopward.market.campaigns.identities import crew, drops, enter, moments
from shopward.market.campaigns.script import Fields, Kind, Script
from shopward.market.campaigns.shops import Shop, open_shop, parcel
from shopward.market.rows import DAY

DISPLACED = 0.12  # of a false order's value, in sales that honest shops lose
PER_ORDER, UPLIFT = 1.6, 4.5  # dollars: a brusher's fee and a stamp; what a false order brings in real margin


@dataclass(frozen=True, slots=True)
class Way:
    per_device: int
    per_exit: int
    per_address: int
    orders: int  # of each brusher
    hours: tuple[float, float]
    reviews: float
    looks: float  # chance that somebody looks at the product before ordering it


LOUD = Way(5, 6, 5, 3, (10.0, 60.0), 0.75, 0.1)
QUIET = Way(1, 1, 1, 1, (150.0, 300.0), 0.25, 0.8)


def plan(script: Script) -> None:
    """A shop, a crew of buyers, order after order with five stars at the end."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    shop = open_shop(script, "SW-1020", (8, 45), 4, source="trust_audit")
    script.start = shop.opened
    n = max(8, round(script.target / (26 * DISPLACED)))
    people = crew(script, -(-n // way.orders), way.per_device, way.per_exit, role="brusher")
    homes = drops(script, -(-len(people) // way.per_address), "brusher")
    cards = world.new_cards(rng, script.countries(len(homes)))
    praise = 1000 + world.take("text", max(2, n // 6))
    for i, t in enumerate(moments(script, n, way.hours)):
        _false_order(
            script,
            way,
            shop,
            t,
            people[i % len(people)],
            int(homes[i % len(homes)]),
            int(cards[i % len(homes)]),
            int(rng.choice(praise)),
        )
    script.books.pay(n * PER_ORDER, "brushers and stamps")
    script.books.earn(n, UPLIFT)


def _false_order(
    script: Script, way: Way, shop: Shop, t: int, who: Fields, address: int, card: int, praise: int
) -> None:
    rng, product = script.rng, int(script.rng.choice(shop.products))
    label: Fields = {"source": "trust_audit", "known": t + int(rng.uniform(6, 30) * DAY)}
    t = enter(script, t, who, "SW-1020", **label)
    t = script.browse(t, who, product, "SW-1024", way.looks, **label)
    order, t = script.purchase(t, who, product, address, "SW-1020", pieces=1, **label)
    order["loss"] = int(order["amount"][0] * DISPLACED)
    script.pay(t, order, card, "SW-1020", loss=0, **label)
    there = parcel(script, shop, order, t + script.later(2, 30), "SW-1020.001", int(rng.integers(8, 40)))
    if rng.random() < way.reviews:
        who["session"] = script.session()
        script.add(
            "review", there + script.later(1, 40), "SW-1021", seller=shop.account, order=int(order["order"][0]), product=product,
            category=int(order["category"][0]), rating=5, text=praise, **who, **label,
        )  # fmt: skip


KIND = Kind(
    "brushing", plan, share=0.00015, haul=160.0, likeness="a new shop whose family and fans order first and praise it"
)
