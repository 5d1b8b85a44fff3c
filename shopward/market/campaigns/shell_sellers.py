"""Shell sellers: a row of shops from one desk, with one set of papers, that sell what they do not have.

The business: each shop takes a few real orders, sends nothing or a made-up tracking number, and is left behind when it is closed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shopward.market.campaigns.script import Kind, Script
from shopward.market.campaigns.shops import Shop, open_shop, parcel, take_money
from shopward.market.payouts import HOLD_DAYS
from shopward.market.rows import DAY, HOUR


@dataclass(frozen=True, slots=True)
class Way:
    shops_per_device: int
    shops_per_bank: int
    shops_per_paper: int
    gap: tuple[float, float]  # hours between two openings
    price: tuple[float, float]


LOUD = Way(6, 4, 3, (0.3, 4.0), (35.0, 150.0))
QUIET = Way(1, 1, 1, (14.0, 50.0), (20.0, 70.0))


def plan(script: Script) -> None:
    """Open, sell to three or four strangers each, be paid, vanish."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    n, price = script.orders(way.price, 2, share=3.5)
    n = min(n, 12)
    devices = script.devices(-(-n // way.shops_per_device), phones=False)
    banks, papers = (
        world.take("bank", -(-n // way.shops_per_bank)),
        world.take("document", -(-n // way.shops_per_paper)),
    )
    script.actor("document", papers, "papers")
    t = script.start
    for i in range(n):
        shop = open_shop(
            script, "SW-1030", price, int(rng.integers(2, 6)), t=t, bank=int(banks[i // way.shops_per_bank]),
            document=int(papers[i // way.shops_per_paper]), device=int(devices[i // way.shops_per_device]), one_image=not script.careful,
        )  # fmt: skip
        _trade(script, shop)
        t += int(rng.uniform(*way.gap) * HOUR)
    script.uses("SW-1036")
    script.books.pay(60.0 * len(papers) + 15.0 * n, "papers and placements")


def _trade(script: Script, shop: Shop) -> None:
    rng = script.rng
    victims = script.people(int(rng.integers(2, 6)))
    script.actor("account", victims, "victim")
    for victim, t in zip(
        victims.tolist(),
        np.sort(shop.opened + rng.uniform(0.2, 2.2, len(victims)) * DAY).astype(np.int64).tolist(),
        strict=True,
    ):
        order, payment = script.victim_order(victim, int(rng.choice(shop.products)), t)
        amount = int(payment["amount"][0])
        parcel(
            script,
            shop,
            order,
            t + script.later(1, 20),
            "SW-1038",
            int(rng.integers(10, 50)),
            loss=amount,
            arrives=False,
        )
        script.books.earn(1, amount / 100 * 0.6)
    take_money(script, shop, shop.opened + int((2.3 + HOLD_DAYS) * DAY) + script.later(2, 30), "SW-1033")


KIND = Kind(
    "shell_sellers",
    plan,
    share=0.0005,
    haul=700.0,
    likeness="a firm that opens a shop for each of its brands on one computer",
    days=6,
)
