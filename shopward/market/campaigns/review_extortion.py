"""Review extortion: bad reviews in series, and a message with the price of taking them back.

The business: an order of ten dollars, a star, a message; one shop in three pays with a refund for goods that are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from shopward.market.campaigns.identities import crew, drops, enter, moments
from shopward.market.campaigns.script import Fields, Kind, Script
from shopward.market.rows import CATEGORY, DAY, METHOD, WHY

GOODS = (CATEGORY["fashion"], CATEGORY["home"], CATEGORY["beauty"], CATEGORY["electronics"])


@dataclass(frozen=True, slots=True)
class Way:
    orders: int  # of each account
    per_device: int
    hours: tuple[float, float]
    contact: float  # chance that the message names a channel outside
    texts: float  # different texts per review
    price: tuple[float, float]


LOUD = Way(5, 3, (30.0, 90.0), 0.8, 0.2, (15.0, 70.0))
QUIET = Way(1, 1, (180.0, 300.0), 0.15, 1.0, (25.0, 80.0))


def plan(script: Script) -> None:
    """Order from small shops, threaten, be refunded."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    n = max(6, round(script.target / 30))
    people = crew(script, -(-n // way.orders), way.per_device, 1, role="extorter")
    homes, cards = drops(script, len(people), "extorter"), world.new_cards(rng, script.countries(len(people)))
    texts, threat = 1000 + world.take("text", max(1, round(n * way.texts))), 6_000_000 + int(world.take("text", 1)[0])
    for i, t in enumerate(moments(script, n, way.hours)):
        k = i % len(people)
        _squeeze(
            script,
            way,
            t,
            people[k],
            int(homes[k]),
            int(cards[k]),
            int(texts[i % len(texts)]),
            threat if not script.careful else threat + i,
            sure=i == 0,
        )


def _squeeze(
    script: Script, way: Way, t: int, who: Fields, address: int, card: int, text: int, threat: int, sure: bool
) -> None:
    rng = script.rng
    product = int(script.goods(*way.price, GOODS, 1)[0])
    label: Fields = {"source": "seller_report", "known": t + int(rng.uniform(5, 20) * DAY)}
    t = enter(script, t, who, "SW-1022", **label)
    order, t = script.purchase(t, who, product, address, "SW-1022", pieces=1, **label)
    payment = script.pay(t, order, card, "SW-1022", loss=0, **label)
    script.consequences(order, payment)
    amount, seller, number = int(payment["amount"][0]), int(order["seller"][0]), int(order["order"][0])
    same: Fields = {"seller": seller, "product": product}
    t = int(t + rng.uniform(1, 4) * DAY)
    who["session"] = script.session()
    script.add(
        "review",
        t,
        "SW-1022",
        order=number,
        category=int(order["category"][0]),
        rating=1,
        text=text,
        **same,
        **who,
        **label,
    )
    contact = 1 if rng.random() < way.contact else -1
    script.add(
        "message", t + script.pause(400), "SW-1022", other=seller, text=threat, contact=contact, **same, **who, **label
    )
    script.books.pay(amount / 100 * 0.3 + 1, "goods that are worth less to the extorter, accounts")
    if sure or rng.random() < 0.6:
        script.add(
            "refund", t + script.later(3, 40), "SW-1022", order=number, amount=amount, loss=amount, method=METHOD["original"],
            why=WHY["not_as_described"], category=int(order["category"][0]), **same, **who, **label,
        )  # fmt: skip
        script.books.earn(1, amount / 100)


KIND = Kind(
    "review_extortion",
    plan,
    share=0.0002,
    haul=180.0,
    likeness="an unhappy buyer who writes to the shop, is refunded and says so",
    days=7,
)
