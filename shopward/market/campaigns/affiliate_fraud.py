"""Affiliate fraud: commission on sales the affiliate did not bring, because it stuffed the mark or bought by itself.

Two businesses. *Stuffing*: a script sets the mark in the browsers of people who were coming anyway. *Self-referral*: own accounts
order through the own link and send the goods back when the commission is booked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shopward.market.afterwards import COMMISSION
from shopward.market.campaigns.identities import crew, drops, enter, moments, raise_accounts
from shopward.market.campaigns.script import Fields, Kind, Script, said
from shopward.market.rows import CATEGORY, DAY, HOUR, METHOD

GOODS = (CATEGORY["electronics"], CATEGORY["fashion"], CATEGORY["home"])


@dataclass(frozen=True, slots=True)
class Way:
    orders: int  # of each account
    per_device: int
    hours: tuple[float, float]
    back: float  # share of orders that go back
    clicks_per_ip: int
    clicks: int  # stuffed per order that follows by chance


LOUD = Way(5, 3, (20.0, 100.0), 0.7, 40, 60)
QUIET = Way(1, 1, (150.0, 280.0), 0.15, 2, 12)


def plan(script: Script) -> None:
    """An affiliate with a past, and one of the two ways to be credited."""
    way = script.way(LOUD, QUIET)
    own = script.countries(1)
    affiliate = int(raise_accounts(script, own, script.devices(1, phones=False))[0])
    script.world.accounts.rate[affiliate] = 0.0
    script.actor("account", affiliate, "affiliate")
    if script.rng.random() < 0.4:
        _stuff(script, way, affiliate)
    else:
        _self_refer(script, way, affiliate)


def _self_refer(script: Script, way: Way, affiliate: int) -> None:
    rng, world = script.rng, script.world
    n = max(4, round(script.target / (90 * COMMISSION / 100)))
    people = crew(script, -(-n // way.orders), way.per_device, 1, role="own_customer")
    homes, cards = drops(script, len(people), "own_customer"), world.new_cards(rng, script.countries(len(people)))
    for i, t in enumerate(moments(script, n, way.hours)):
        k, label = i % len(people), said("payout_audit", t + int(rng.uniform(8, 30) * DAY))
        who = people[k]
        t = enter(script, t, who, "SW-1018.002", **label)
        product = int(script.goods(50, 160, GOODS, 1)[0])
        seller = int(world.sellers.account[world.products.seller[product]])
        script.add(
            "affiliate_click", t, "SW-1018.002", affiliate=affiliate, product=product, seller=seller, **who, **label
        )
        order, t = script.purchase(
            t + script.pause(25), who, product, int(homes[k]), "SW-1018.002", pieces=1, affiliate=affiliate, **label
        )
        payment = script.pay(t, order, int(cards[k]), "SW-1018.002", loss=0, **label)
        script.consequences(order, payment)
        _credit(script, affiliate, order, t + int(rng.uniform(1, 4) * DAY), "SW-1018.002", label)
        if rng.random() < way.back:
            who["session"] = script.session()
            sent = "as_sent"
            script.send_back(
                order,
                t + int(rng.uniform(4, 8) * DAY),
                "SW-1018.002",
                "changed_mind",
                sent,
                int(order["amount"][0]),
                0,
                who,
                **label,
            )


def _credit(script: Script, affiliate: int, order: np.ndarray, t: int, technique: str, label: Fields) -> None:
    amount = max(1, int(order["amount"][0]) * COMMISSION // 100)
    script.add(
        "commission", t, technique, account=affiliate, affiliate=affiliate, payee=affiliate, other=int(order["account"][0]), seller=int(order["seller"][0]),
        order=int(order["order"][0]), amount=amount, loss=amount, method=METHOD["affiliate"], **label,
    )  # fmt: skip
    script.books.earn(1, amount / 100)


def _stuff(script: Script, way: Way, affiliate: int) -> None:
    """Marks without a visit; some of those people buy something within the day, and the affiliate is credited for it."""
    rng, world = script.rng, script.world
    orders = max(3, round(script.target / (60 * COMMISSION / 100)))
    n = orders * way.clicks
    victims = script.people(n)
    who = victims[rng.integers(0, len(victims), n)]
    t = script.start + np.sort(rng.uniform(0, rng.uniform(*way.hours) * HOUR, n)).astype(np.int64)
    exits = script.homes(script.countries(max(1, n // way.clicks_per_ip)))
    product = rng.integers(0, world.first_products, n)
    device = script.devices(max(1, n // (2 * way.clicks_per_ip)), phones=False)
    script.add(
        "affiliate_click", t, "SW-1018.001", n=n, affiliate=affiliate, product=product, seller=world.sellers.account[world.products.seller[product]],
        device=device[rng.integers(0, len(device), n)], ip=exits[rng.integers(0, len(exits), n)], session=world.take("session", n),
        source="payout_audit", known=t + (rng.uniform(8, 30, n) * DAY).astype(np.int64),
    )  # fmt: skip
    for i in rng.choice(n, min(orders, n), replace=False).tolist():
        order, payment = script.victim_order(
            int(who[i]), int(product[i]), int(t[i]) + script.later(0.5, 20), affiliate=affiliate
        )
        script.consequences(order, payment)
        label: Fields = {"source": "payout_audit", "known": int(t[i]) + int(rng.uniform(12, 35) * DAY)}
        _credit(script, affiliate, order, int(order["t"][0]) + int(rng.uniform(1, 4) * DAY), "SW-1018.001", label)
    script.books.pay(n * 0.002, "traffic")


KIND = Kind(
    "affiliate_fraud",
    plan,
    share=0.0003,
    haul=160.0,
    likeness="a creator whose followers come at once through one link",
    days=5,
)
