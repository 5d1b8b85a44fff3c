"""Inventory hoarding: a competitor's stock is ordered and never paid, on the days when it would sell.

The business: unpaid orders hold goods for half an hour each; the competitor looks sold out, and buyers go next door.
"""

from __future__ import annotations

from dataclasses import dataclass

from shopward.market.campaigns.identities import crew, drops, enter, moments
from shopward.market.campaigns.script import Fields, Kind, Script
from shopward.market.rows import CATEGORY, DAY, MINUTE, WHY

LOST_SALES = 0.08  # of the value held


@dataclass(frozen=True, slots=True)
class Way:
    orders: int  # of each account
    per_device: int
    pieces: tuple[int, int]
    hours: tuple[float, float]


LOUD = Way(8, 3, (5, 20), (4.0, 30.0))
QUIET = Way(2, 1, (2, 4), (90.0, 200.0))


def plan(script: Script) -> None:
    """Fill baskets, order, let the orders lapse, again."""
    way, rng = script.way(LOUD, QUIET), script.rng
    target = script.goods(15, 70, (CATEGORY["home"], CATEGORY["toys"], CATEGORY["electronics"], CATEGORY["fashion"]), 1)
    product = int(target[0])
    pieces = sum(way.pieces) / 2
    n = int(max(6, min(400, round(script.target * 100 / (script.price(product) * pieces * LOST_SALES)))))
    small = min(1.0, script.target * 100 / (n * script.price(product) * pieces * LOST_SALES))
    people = crew(script, -(-n // way.orders), way.per_device, 1 if script.careful else 4, role="hoarder")
    homes = drops(script, max(1, len(people) // 3), "hoarder")
    for i, t in enumerate(moments(script, n, way.hours)):
        who, quantity = (
            people[i % len(people)],
            max(2, round(int(rng.integers(way.pieces[0], way.pieces[1] + 1)) * small)),
        )
        label: Fields = {"source": "seller_report", "known": t + int(rng.uniform(1, 8) * DAY)}
        t = enter(script, t, who, "SW-1017", **label)
        seller, price = (
            int(script.world.sellers.account[script.world.products.seller[product]]),
            script.price(product, quantity),
        )
        script.add(
            "cart", t, "SW-1017", seller=seller, product=product, quantity=quantity, amount=price, **who, **label
        )
        order, t = script.purchase(
            t + script.pause(20), who, product, int(homes[i % len(homes)]), "SW-1017", amount=price, **label
        )
        order["quantity"], order["loss"] = quantity, max(1, int(price * LOST_SALES))
        lapses = script.carrier(
            "order_cancel",
            t + 30 * MINUTE + int(rng.integers(0, 20 * MINUTE)),
            order,
            product=product,
            amount=price,
            why=WHY["unpaid"],
        )
        script.plain(lapses)
        script.books.earn(1, price / 100 * LOST_SALES * 0.6)


KIND = Kind(
    "inventory_hoarding",
    plan,
    share=0.0002,
    haul=200.0,
    likeness="resellers who order twenty and forget to pay for half of them",
)
