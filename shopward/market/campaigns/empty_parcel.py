"""Empty parcel: a shop takes real orders and ships something worthless with a valid tracking number.

The business: the carrier says delivered, the platform pays out, the buyers' complaints come days later. Ten grams of paper a sale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shopward.market.campaigns.script import Kind, Script
from shopward.market.campaigns.shops import MULE_SHARE, Shop, open_shop, parcel, take_money
from shopward.market.payouts import HOLD_DAYS
from shopward.market.rows import DAY, METHOD, WHY


@dataclass(frozen=True, slots=True)
class Way:
    weight: tuple[int, int]  # grams
    price: tuple[float, float]
    days: tuple[float, float]  # of trade
    real: float  # share of orders that are sent as ordered


LOUD = Way((8, 40), (45.0, 190.0), (1.0, 3.0), 0.0)
QUIET = Way((90, 400), (25.0, 90.0), (4.0, 8.0), 0.45)


def plan(script: Script) -> None:
    """Open cheap and shiny, sell to strangers, send paper, be paid."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    n, price = script.orders(way.price, 3, share=0.7 * (1 - way.real))
    shop = open_shop(script, "SW-1030", price, int(rng.integers(3, 8)))
    world.products.price[shop.products] = world.products.price[shop.products] * 7 // 10  # too good
    until = shop.opened + int(rng.uniform(*way.days) * DAY)
    victims = script.people(n)
    script.actor("account", victims, "victim")
    for victim, t in zip(
        victims.tolist(), np.sort(rng.uniform(shop.opened, until, len(victims))).astype(np.int64).tolist(), strict=True
    ):
        _cheat(script, way, shop, victim, t)
    take_money(script, shop, until + HOLD_DAYS * DAY + script.later(2, 30), "SW-1033")
    script.books.pay(160 + 2.0 * n, "papers, stamps, placements")


def _cheat(script: Script, way: Way, shop: Shop, victim: int, t: int) -> None:
    rng = script.rng
    order, payment = script.victim_order(victim, int(rng.choice(shop.products)), t)
    amount = int(payment["amount"][0])
    honest = rng.random() < way.real
    weight = int(rng.integers(400, 1500)) if honest else int(rng.integers(*way.weight))
    there = parcel(script, shop, order, t + script.later(6, 40), "SW-1020.001", weight, loss=0 if honest else amount)
    if honest:
        return
    script.books.earn(1, amount / 100 * 0.9 * (1 - MULE_SHARE))
    if rng.random() < 0.5:
        back = script.carrier(
            "refund", there + script.later(10, 90), order, product=int(order["product"][0]), category=int(order["category"][0]), amount=amount,
            method=METHOD["original"], why=WHY["not_as_described"], device=int(order["device"][0]), ip=int(order["ip"][0]), session=script.session(),
        )  # fmt: skip
        script.plain(back)


KIND = Kind(
    "empty_parcel",
    plan,
    share=0.0004,
    haul=400.0,
    likeness="a shop that sells stickers, screws and jewellery: light parcels, too",
    days=5,
)
