"""Triangulation: sell to a real buyer below price, and buy the goods elsewhere on the market with a stolen card.

The business: the buyer's money is clean, the goods come from an honest shop, the card's owner disputes weeks later.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shopward.market.campaigns.identities import crew, enter
from shopward.market.campaigns.script import Fields, Kind, Script
from shopward.market.campaigns.shops import Shop, open_shop, take_money
from shopward.market.payouts import HOLD_DAYS
from shopward.market.rows import CATEGORY, DAY, METHOD, REASON

GOODS = (CATEGORY["electronics"], CATEGORY["home"], CATEGORY["sports"], CATEGORY["toys"])


@dataclass(frozen=True, slots=True)
class Way:
    orders: int  # of each buying account
    per_device: int
    days: tuple[float, float]
    price: tuple[float, float]


LOUD = Way(6, 3, (1.0, 3.0), (60.0, 260.0))
QUIET = Way(1, 1, (4.0, 8.0), (30.0, 110.0))


def plan(script: Script) -> None:
    """A shop without stock, a crew with stolen cards, and customers between them."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    n, price = script.orders(way.price, 4)
    shop = open_shop(script, "SW-1032", price, int(rng.integers(3, 8)), categories=GOODS)
    people = crew(script, -(-n // way.orders), way.per_device, 1, role="buyer_with_stolen_cards")
    victims, cards = script.people(n), world.new_cards(rng, script.countries(n)).tolist()
    script.actor("account", victims, "victim")
    until = shop.opened + int(rng.uniform(*way.days) * DAY)
    when = np.sort(rng.uniform(shop.opened, until, len(victims))).astype(np.int64).tolist()
    later = script.later(0.3, 20, len(victims))
    for i in np.argsort(np.array(when) + later).tolist():
        sold, _ = script.victim_order(int(victims[i]), int(rng.choice(shop.products)), when[i])
        _three_corners(script, price, shop, sold, when[i] + int(later[i]), people[i % len(people)], cards[i])
    script.books.pay(160 + 14.0 * n, "papers and cards")
    take_money(script, shop, until + HOLD_DAYS * DAY + script.later(10, 60), "SW-1033")


def _three_corners(
    script: Script, price: tuple[float, float], shop: Shop, sold: np.ndarray, t: int, who: Fields, card: int
) -> None:
    rng, world, victim = script.rng, script.world, int(sold["account"][0])
    label: Fields = {"source": "chargeback", "known": script.chargeback_at(t)}
    t = enter(script, t, who, "F1028", **label)
    order, t = script.purchase(
        t, who, int(script.goods(*price, GOODS, 1)[0]), int(sold["address"][0]), "SW-1032", pieces=1, **label
    )
    if rng.random() < 0.15:
        script.decline(t, order, card, REASON["do_not_honor"], "F1028", **label)
        t += script.pause(60)
        card = int(world.new_cards(rng, script.countries(1))[0])
    payment = script.pay(t, order, card, "SW-1032", **label)
    script.consequences(order, payment)
    # the shop claims to have sent it: the tracking number is the honest shop's
    script.add(
        "shipment", t + script.later(20, 60), "SW-1038", account=shop.account, seller=shop.account, other=victim, order=int(sold["order"][0]), items=1,
        method=METHOD["parcel"], tracking=int(world.take("tracking", 1)[0]), weight=int(rng.integers(300, 1800)), address=int(sold["address"][0]), **shop.label,
    )  # fmt: skip
    script.books.earn(1, int(sold["amount"][0]) / 100 * 0.9)


KIND = Kind(
    "triangulation",
    plan,
    share=0.0003,
    haul=400.0,
    likeness="resellers, who order much and have half of it sent to others",
    days=5,
)
