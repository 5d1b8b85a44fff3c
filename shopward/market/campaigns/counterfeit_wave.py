"""A counterfeit wave: dozens of listings in an evening, a famous name, one stolen picture, a third of the price.

The business: imitations cost five dollars, sell for forty, and the wave is over before the brand's owner has written his complaint.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shopward.market.campaigns.script import Kind, Script
from shopward.market.campaigns.shops import open_shop, parcel, put_up, take_money
from shopward.market.payouts import HOLD_DAYS
from shopward.market.rows import CATEGORY, DAY, METHOD, WHY
from shopward.market.texts import LUXURY
from shopward.market.world import add_products

GOODS = (CATEGORY["fashion"], CATEGORY["beauty"], CATEGORY["electronics"])


@dataclass(frozen=True, slots=True)
class Way:
    listings: int
    price: tuple[float, float]
    claimed: float  # share of listings that claim the brand openly
    diverts: float  # share of listings that lead to a chat outside
    one_image: bool


LOUD = Way(40, (22.0, 80.0), 1.0, 0.4, True)
QUIET = Way(7, (35.0, 120.0), 0.3, 0.0, False)


def plan(script: Script) -> None:
    """Open, flood, sell, be paid."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    brand = int(rng.choice(LUXURY))
    shop = open_shop(script, "SW-1031", way.price, 2, categories=GOODS, source="trust_audit", listed={"brand": brand})
    more = add_products(
        world, rng, np.full(way.listings, world.products.seller[shop.products[0]]), rng.choice(GOODS, way.listings)
    )
    world.products.price[more] = (rng.uniform(*way.price, way.listings).astype(np.int64) + 1) * 100 - 1
    claims, leads = rng.random(way.listings) < way.claimed, rng.random(way.listings) < way.diverts
    t = shop.opened + script.later(0.5, 10)
    for some, columns in (
        (claims & ~leads, {"brand": brand}),
        (claims & leads, {"brand": brand, "contact": 1}),
        (~claims, {}),
    ):
        t = put_up(
            script, more[some], t, shop.at(script), "SW-1031", shop.label, {**columns, "before": 29900}, way.one_image
        )
    n, _ = script.orders(way.price, 3)
    victims = script.people(n)
    script.actor("account", victims, "victim")
    until = t + int(rng.uniform(1, 4) * DAY)
    for victim, when in zip(
        victims.tolist(), np.sort(rng.uniform(t, until, len(victims))).astype(np.int64).tolist(), strict=True
    ):
        order, payment = script.victim_order(victim, int(rng.choice(more)), when)
        amount = int(payment["amount"][0])
        there = parcel(
            script, shop, order, when + script.later(5, 50), "SW-1031", int(rng.integers(150, 700)), loss=amount
        )
        if rng.random() < 0.35:
            script.plain(script.carrier(
                "refund", there + script.later(8, 120), order, product=int(order["product"][0]), category=int(order["category"][0]), amount=amount,
                method=METHOD["original"], why=WHY["not_as_described"], device=int(order["device"][0]), ip=int(order["ip"][0]), session=script.session(),
            ))  # fmt: skip
        script.books.earn(1, amount / 100 * 0.9 - 5)
    script.books.pay(120.0 + 6.0 * n, "papers, imitations, placements")
    take_money(script, shop, until + HOLD_DAYS * DAY + script.later(2, 20), "SW-1033")


KIND = Kind(
    "counterfeit_wave",
    plan,
    share=0.0005,
    haul=450.0,
    likeness="an outlet that puts up its season of brand goods at once",
    days=5,
)
