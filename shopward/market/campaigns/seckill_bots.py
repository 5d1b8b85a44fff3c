"""Seckill bots: scripts that win the timed sale in its first seconds, for resale at the usual price.

The business: forty accounts that click within two seconds of the start; a quarter of the price each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shopward.market.campaigns.identities import crew, drops, enter
from shopward.market.campaigns.script import Fields, Kind, Script
from shopward.market.rows import DAY, HOUR, MINUTE, START
from shopward.market.sessions import discount

RESALE = 0.95


@dataclass(frozen=True, slots=True)
class Way:
    seconds: tuple[float, float]  # after the start of the sale
    per_device: int
    per_exit: int
    warm: bool
    emulator: float
    caught: float  # chance that the bot detection in front notices a session


LOUD = Way((0.4, 20.0), 6, 10, False, 0.6, 0.35)
QUIET = Way((15.0, 900.0), 1, 1, True, 0.05, 0.03)


def plan(script: Script) -> None:
    """Be logged in before, order at the stroke of the hour."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    sale = int(rng.integers(0, len(world.flash)))
    day, hour, product = world.flash[sale]
    opens = START + day * DAY + int(hour * HOUR)
    price = int(world.products.price[product])
    off = int(discount(np.array([price]), np.array([2 + sale]))[0]) or 1
    n = int(max(6, min(60, round(script.target * 100 / off))))
    people = crew(script, n, way.per_device, way.per_exit, warm=way.warm, disposable=0.2 * (not way.warm), servers=0.3 * (not way.warm), role="bot",
                  emulator=way.emulator)  # fmt: skip
    homes, cards = drops(script, -(-n // 5), "bot"), world.new_cards(rng, script.countries(-(-n // 3)))
    for i, who in enumerate(people):
        label: Fields = {"source": "promo_audit", "known": opens + int(rng.uniform(1, 9) * DAY)}
        before = enter(script, opens - int(rng.uniform(2, 50) * MINUTE), who, "SW-1016", **label)
        script.verdict(before, who, "automation", way.caught)
        script.add(
            "coupon_claim", opens + int(rng.uniform(50, 900)), "SW-1016", coupon=2 + sale, discount=4000, **who, **label
        )
        t = opens + int(1000 * np.exp(rng.uniform(np.log(way.seconds[0]), np.log(way.seconds[1])))) + 900
        shown: Fields = {"amount": price - off, "discount": off, "coupon": 2 + sale, "promotion": sale}
        order, t = script.purchase(t, who, product, int(homes[i // 5]), "SW-1016", **shown, **label)
        order["loss"] = off
        payment = script.pay(
            int(order["t"][0]) + int(rng.uniform(300, 2500)), order, int(cards[i // 3]), "OAT-006", loss=0, **label
        )
        script.consequences(order, payment)
        script.books.earn(1, max(0.2, (price * RESALE - (price - off)) / 100))
    script.books.pay(40.0, "a script")
    script.uses("OAT-005", "SW-1063")


KIND = Kind(
    "seckill_bots",
    plan,
    share=0.0002,
    haul=160.0,
    likeness="the crowd that waits for the sale and clicks as fast as it can",
)
