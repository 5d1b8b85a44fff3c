"""Promo stacking: coupons, sales and partial returns piled on one another until the goods are nearly free.

The business: one person, several accounts, each order the smallest that earns its discount; the rest is cancelled or sent back.
"""

from __future__ import annotations

from dataclasses import dataclass

from shopward.market.campaigns.identities import crew, drops, enter, moments
from shopward.market.campaigns.script import Fields, Kind, Script
from shopward.market.rows import CATEGORY, DAY, MINUTE, WHY
from shopward.market.sessions import SEASON

RESALE = 0.82
GOODS = (CATEGORY["beauty"], CATEGORY["grocery"], CATEGORY["home"], CATEGORY["electronics"])


@dataclass(frozen=True, slots=True)
class Way:
    orders: int  # of each account
    per_device: int
    hours: tuple[float, float]
    cancels: float
    depth: float  # of the price that is taken off


LOUD = Way(7, 3, (3.0, 30.0), 0.45, 0.42)
QUIET = Way(2, 1, (120.0, 260.0), 0.1, 0.22)


def plan(script: Script) -> None:
    """Claim, order with everything on top, cancel what only served to reach the threshold."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    n = max(8, round(script.target / (45 * way.depth)))
    people = crew(script, -(-n // way.orders), way.per_device, 1 if script.careful else 3, role="stacker")
    homes = drops(script, -(-len(people) // (1 if script.careful else 4)), "stacker")
    cards = world.new_cards(rng, script.countries(len(people)))
    sale = int(rng.integers(0, len(world.flash)))
    for i, t in enumerate(moments(script, n, way.hours)):
        k = i % len(people)
        _stack(script, way, t, people[k], int(homes[k % len(homes)]), int(cards[k]), sale)


def _stack(script: Script, way: Way, t: int, who: Fields, address: int, card: int, sale: int) -> None:
    rng = script.rng
    label: Fields = {"source": "promo_audit", "known": t + int(rng.uniform(4, 20) * DAY)}
    t = enter(script, t, who, "SW-1011", **label)
    script.add("coupon_claim", t, "SW-1011", coupon=SEASON, discount=1500, **who, **label)
    script.add("coupon_claim", t + 9000, "SW-1011", coupon=2 + sale, discount=4000, **who, **label)
    product = int(script.goods(22, 80, GOODS, 1)[0])
    gross = script.price(product)
    off = int(gross * way.depth * rng.uniform(0.85, 1.15))
    order, t = script.purchase(
        t + script.pause(60), who, product, address, "SW-1011", amount=gross - off, discount=off, coupon=2 + sale, promotion=sale, **label
    )  # fmt: skip
    if rng.random() < way.cancels:
        what: Fields = {
            "seller": int(order["seller"][0]),
            "order": int(order["order"][0]),
            "product": product,
            "amount": gross - off,
        }
        script.add(
            "order_cancel",
            t + int(rng.uniform(1, 40) * MINUTE),
            "SW-1011",
            why=WHY["changed_mind"],
            **what,
            **who,
            **label,
        )
        return
    order["loss"] = off
    payment = script.pay(t, order, card, "SW-1011", loss=0, **label)
    script.consequences(order, payment)
    script.books.pay(0.3, "time")
    script.books.earn(1, max(0.2, (RESALE * gross - (gross - off)) / 100))


KIND = Kind(
    "promo_stacking",
    plan,
    share=0.0003,
    haul=200.0,
    likeness="bargain hunters who use what the shop allows, and families who share a sale",
)
