"""Session hijack: a cookie stolen by malware is used elsewhere, with no login and no password, until it runs out.

The business: logs of infected computers are sold by the gigabyte; a live shop session with a stored card buys gift cards in minutes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shopward.market.campaigns.identities import drops
from shopward.market.campaigns.script import Fields, Kind, Script
from shopward.market.rows import CATEGORY, DAY, HOUR, REASON, START, block
from shopward.market.world import home_address

RESALE, LOG = 0.6, 4.0  # of the price; dollars a stolen session
GOODS = (CATEGORY["gift_cards"], CATEGORY["electronics"], CATEGORY["digital"])


@dataclass(frozen=True, slots=True)
class Way:
    same_device: float  # the stolen profile is imported whole: the device id comes with it
    local: float
    orders: int
    price: tuple[float, float]
    wait: tuple[float, float]  # hours from the owner's visit
    home: float  # share sent to the owner's own address, or as a code


LOUD = Way(0.3, 0.2, 3, (45.0, 240.0), (0.1, 3.0), 0.2)
QUIET = Way(0.97, 0.97, 1, (20.0, 70.0), (4.0, 40.0), 0.8)


def plan(script: Script) -> None:
    """Open stolen sessions one after another and buy."""
    way, rng = script.way(LOUD, QUIET), script.rng
    bought = (1 + way.orders) / 2
    n, price = script.orders(way.price, 2, share=bought)
    victims = script.people(n)
    script.actor("account", victims, "victim")
    homes = drops(script, -(-n // (1 if script.careful else 4)))
    for i, victim in enumerate(victims.tolist()):
        _one(
            script,
            way,
            price,
            victim,
            script.start + int(rng.uniform(0, 30 if not script.careful else 200) * HOUR),
            int(homes[i % len(homes)]),
        )
    script.uses("T1539")
    script.books.pay(LOG * n * 3, "logs, two in three of them stale")


def _one(script: Script, way: Way, price: tuple[float, float], victim: int, t: int, drop: int) -> None:
    rng, world, accounts = script.rng, script.world, script.world.accounts
    session = script.session()
    own: Fields = {"account": victim, "device": int(accounts.first[victim]), "session": session}
    day = max(0, (t - START) // DAY)
    view = int(rng.integers(0, world.first_products))
    script.plain(block(
        "session_view", 1, t=t, product=view, seller=world.sellers.account[world.products.seller[view]], category=world.products.category[view],
        ip=home_address(world, np.array([victim]), int(day)), **own,
    ))  # fmt: skip
    country = accounts.country[[victim]].astype(np.int64) if rng.random() < way.local else script.countries(1)
    device = own["device"] if rng.random() < way.same_device else int(script.devices(1, phones=False)[0])
    who: Fields = {"account": victim, "device": device, "ip": int(script.homes(country)[0]), "session": session}
    t += script.later(*way.wait)
    for _ in range(1 + int(rng.integers(0, way.orders))):
        label: Fields = {"source": "account_report", "known": t + script.later(10, 150)}
        product = int(script.goods(*price, GOODS, 1)[0])
        address = int(accounts.address[victim]) if rng.random() < way.home else drop
        order, t = script.purchase(t, who, product, address, "F1004", pieces=1, **label)
        card = int(accounts.card[victim])
        if rng.random() < 0.1:
            script.decline(t, order, card, REASON["do_not_honor"], "F1004", **label)
            continue
        payment = script.pay(t, order, card, "F1028", **label)
        script.consequences(order, payment)
        script.uses("SW-1042")
        script.books.earn(1, int(payment["amount"][0]) / 100 * RESALE)
        t += script.pause(120)


KIND = Kind(
    "session_hijack",
    plan,
    share=0.0005,
    haul=450.0,
    likeness="people who turn on a VPN, or leave home for the train, in the middle of a visit",
)
