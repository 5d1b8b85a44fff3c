"""Bonus cycling: one person, one phone, wiped and signed up anew for every welcome coupon.

The business: a fresh mail address is free and a number costs cents; the same sofa, the same card, ten dollars a round.
"""

from __future__ import annotations

from dataclasses import dataclass

from shopward.market.campaigns.identities import crew, drops, enter, moments
from shopward.market.campaigns.script import Fields, Kind, Script, said
from shopward.market.rows import CATEGORY, DAY, WHY
from shopward.market.sessions import WELCOME, WELCOME_OFF

GOODS = (CATEGORY["grocery"], CATEGORY["beauty"], CATEGORY["books"], CATEGORY["home"])


@dataclass(frozen=True, slots=True)
class Way:
    rounds_per_device: int  # before the phone gets a new identity
    rounds_per_card: int
    hours: tuple[float, float]
    returns: float


LOUD = Way(4, 8, (24.0, 110.0), 0.35)
QUIET = Way(1, 2, (180.0, 300.0), 0.05)


def plan(script: Script) -> None:
    """Round after round from one home."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    n = max(5, round(script.target / (WELCOME_OFF / 100)))
    home = script.countries(1).repeat(n)
    people = crew(
        script,
        n,
        way.rounds_per_device,
        n,
        warm=False,
        disposable=0.2 * (not script.careful),
        role="cycler",
        country=home,
    )
    cards, address = (
        world.new_cards(rng, home[: -(-n // way.rounds_per_card)]),
        drops(script, 1 if not script.careful else 2, "cycler"),
    )
    script.uses("SW-1006", "SW-1003")
    for i, t in enumerate(moments(script, n, way.hours)):
        who, label = people[i], said("promo_audit", t + int(rng.uniform(5, 25) * DAY))
        t = enter(script, t, who, "SW-1013", **label)
        script.add("coupon_claim", t, "SW-1013", coupon=WELCOME, discount=WELCOME_OFF, **who, **label)
        product = int(script.goods(25, 40, GOODS, 1)[0])
        gross = max(script.price(product), 2 * WELCOME_OFF)
        order, t = script.purchase(
            t + script.pause(80), who, product, int(rng.choice(address)), "SW-1013", amount=gross - WELCOME_OFF, discount=WELCOME_OFF, coupon=WELCOME, **label
        )  # fmt: skip
        order["loss"] = WELCOME_OFF
        payment = script.pay(t, order, int(cards[i // way.rounds_per_card]), "SW-1013", loss=0, **label)
        if rng.random() < way.returns:
            what: Fields = {
                "seller": int(order["seller"][0]),
                "order": int(order["order"][0]),
                "product": product,
                "amount": gross - WELCOME_OFF,
            }
            script.add(
                "order_cancel", t + script.later(0.1, 6), "SW-1013", why=WHY["changed_mind"], **what, **who, **label
            )
        else:
            script.consequences(order, payment)
        script.books.earn(1, WELCOME_OFF / 100)


KIND = Kind(
    "bonus_cycling",
    plan,
    share=0.0002,
    haul=110.0,
    likeness="a family tablet on which one after another opens an account",
)
