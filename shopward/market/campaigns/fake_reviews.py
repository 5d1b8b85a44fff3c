"""Fake reviews: an agency's accounts buy something small, or something paid back later, and write five stars; or one star next door.

The business: a shop pays a few dollars for each review and wins a place; buyers who believe it are what is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

from shopward.market.campaigns.identities import crew, drops, enter, moments
from shopward.market.campaigns.script import Fields, Kind, Script
from shopward.market.rows import CATEGORY, DAY

MISLED, PRICE, COST = (
    700,
    6.0,
    1.8,
)  # loss of misled buyers per review (minor units); dollars the agency gets and spends on one
GOODS = (CATEGORY["beauty"], CATEGORY["home"], CATEGORY["toys"], CATEGORY["electronics"])


@dataclass(frozen=True, slots=True)
class Way:
    per_device: int
    per_exit: int
    hours: tuple[float, float]
    texts: float  # different texts per review
    products: int


LOUD = Way(6, 8, (12.0, 70.0), 0.15, 2)
QUIET = Way(1, 1, (180.0, 320.0), 1.0, 6)


def plan(script: Script) -> None:
    """Buy, receive, praise; or, in one case of five, buy at a competitor and damn."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    n = max(8, round(script.target * 100 / MISLED))
    products = script.goods(6, 40, GOODS, way.products)
    rating = (1, 2) if rng.random() < 0.2 else (5, 5)
    people = crew(script, n, way.per_device, way.per_exit, disposable=0.0 if script.careful else 0.25, role="reviewer")
    homes, cards = drops(script, n, "reviewer"), world.new_cards(rng, script.countries(n))
    texts = 1000 + world.take("text", max(1, round(n * way.texts)))
    for i, t in enumerate(moments(script, n, way.hours)):
        review: Fields = {"rating": int(rng.integers(rating[0], rating[1] + 1)), "text": int(texts[i % len(texts)])}
        _one(script, t, people[i], int(products[i % len(products)]), int(homes[i]), int(cards[i]), review)
    script.books.pay(n * COST, "accounts and postage")
    script.books.earn(n, PRICE)


def _one(script: Script, t: int, who: Fields, product: int, address: int, card: int, review: Fields) -> None:
    rng = script.rng
    label: Fields = {"source": "trust_audit", "known": t + int(rng.uniform(9, 40) * DAY)}
    t = enter(script, t, who, "SW-1021", **label)
    order, t = script.purchase(t, who, product, address, "SW-1021", pieces=1, **label)
    payment = script.pay(t, order, card, "SW-1021", loss=0, **label)
    script.consequences(order, payment)
    who["session"] = script.session()
    script.add(
        "review", t + int(rng.uniform(1.5, 6) * DAY) if script.careful else t + script.later(4, 40), "SW-1021", seller=int(order["seller"][0]),
        order=int(order["order"][0]), product=product, category=int(order["category"][0]), loss=MISLED, **review, **who, **label,
    )  # fmt: skip


KIND = Kind(
    "fake_reviews",
    plan,
    share=0.0002,
    haul=120.0,
    likeness="a creator's followers who all bought one thing and liked it",
)
