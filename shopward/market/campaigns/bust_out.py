"""Payout bust-out: open a shop that has nothing to sell, and be paid before anybody notices.

The business: the shop sells to itself with stolen cards, ships empty letters so that its orders count as fulfilled, and takes the
money as soon as it is free. Papers and cards cost; a mule keeps a third.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shopward.market.campaigns.identities import crew, drops, enter
from shopward.market.campaigns.script import Fields, Kind, Script
from shopward.market.campaigns.shops import MULE_SHARE, Shop, open_shop, parcel, take_money
from shopward.market.payouts import HOLD_DAYS, SELLER_SHARE
from shopward.market.rows import CODE, DAY, DRAIN, HOUR, REASON

STOLEN_CARD, PAPERS = 14.0, 160.0  # dollars: a proven card; papers for a shop


@dataclass(frozen=True, slots=True)
class Way:
    """How careful the operator is."""

    orders_per_buyer: tuple[int, int]
    buyers_per_device: int
    days_of_trade: tuple[float, float]
    basket: tuple[float, float]


LOUD = Way((2, 7), 4, (1.0, 3.0), (60.0, 320.0))
QUIET = Way((1, 2), 1, (4.0, 9.0), (30.0, 140.0))


def plan(script: Script) -> None:
    """A shop opens, its customers are all the same people, the money leaves as soon as it is free."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    trade = rng.uniform(*way.days_of_trade) * DAY
    latest = world.end - (HOLD_DAYS + 3) * DAY - trade
    script.start = int(max(min(script.start, latest), world.end - world.days * DAY + HOUR))
    orders, basket = script.orders(way.basket, 5, share=SELLER_SHARE / 100)
    shop = open_shop(script, "F1021", basket, int(rng.integers(4, 12)))
    until = shop.opened + int(trade)
    sizes = rng.integers(way.orders_per_buyer[0], way.orders_per_buyer[1] + 1, orders)
    buyer_of = rng.permutation(np.repeat(np.arange(orders), sizes)[:orders])
    people = crew(
        script,
        int(buyer_of.max()) + 1,
        per_device=way.buyers_per_device,
        disposable=0 if script.careful else 0.2,
        role="straw_buyer",
    )
    homes = drops(script, -(-len(people) // (1 if script.careful else 3)), "straw_buyer")
    cards = world.new_cards(rng, script.countries(orders)).tolist()
    when = np.sort(rng.uniform(shop.opened + 6 * HOUR, until, orders)).astype(np.int64).tolist()
    for t, buyer, card in zip(when, buyer_of.tolist(), cards, strict=True):
        _self_deal(script, shop, t, people[buyer], card, int(homes[buyer % len(homes)]))
    script.books.pay(PAPERS + STOLEN_CARD * orders, "papers and cards")
    take_money(script, shop, until + HOLD_DAYS * DAY + script.later(5, 40), "SW-1033", loss=DRAIN)
    taken = sum(
        int(rows["amount"][0])
        for rows in script.blocks
        if rows["type"][0] == CODE["payment"] and rows["campaign"][0] > 0
    )
    script.books.earn(1, taken / 100 * SELLER_SHARE / 100 * (1 - MULE_SHARE))


def _self_deal(script: Script, shop: Shop, t: int, who: Fields, card: int, address: int) -> None:
    """One order of the shop at itself: a stolen card, an empty letter. What is lost is lost when the shop is paid out."""
    rng = script.rng
    label: Fields = {"source": "chargeback", "known": script.chargeback_at(t)}
    t = enter(script, t, who, "SW-1039", **label)
    product = int(rng.choice(shop.products))
    t = script.browse(t, who, product, "SW-1039", 0.2, **label)
    order, t = script.purchase(t, who, product, address, "SW-1039", **label)
    if rng.random() < 0.15:
        script.decline(t, order, card, REASON["do_not_honor"], "SW-1039", **label)
        return
    payment = script.pay(t, order, card, "SW-1039", loss=0, **label)
    parcel(script, shop, order, t + script.later(3, 30), "SW-1038", int(rng.integers(15, 60)))
    script.dispute(payment)


KIND = Kind(
    "payout_bust_out", plan, share=0.0005, haul=900.0, days=6,
    likeness="a new shop with a good first week, bought by friends and fans, paid at once",
)  # fmt: skip
