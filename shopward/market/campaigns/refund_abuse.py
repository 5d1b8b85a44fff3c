"""Refund abuse: parcels that "never came", boxes that come back empty, a specialist who wins refunds for a share.

The business: the goods are paid for, arrive, and the money comes back as well; what limits it is how often one account can be unlucky.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from shopward.market.campaigns.identities import crew, drops, enter, moments
from shopward.market.campaigns.script import Fields, Kind, Script
from shopward.market.rows import CATEGORY, CHANGE, DAY, METHOD

RESALE, SERVICE = 0.65, 0.2  # of the price: what goods bring; the specialist's share
INSIDE = 0.5  # of claims in a hurry: the specialist is given the account
GOODS = (CATEGORY["electronics"], CATEGORY["fashion"], CATEGORY["sports"])
CLAIMS = (
    ("not_received", None, "SW-1040.001"),
    ("not_as_described", "empty", "SW-1040.002"),
    ("damaged", "different", "SW-1040.002"),
)


@dataclass(frozen=True, slots=True)
class Way:
    claims: int  # of each account
    per_address: int
    hours: tuple[float, float]
    price: tuple[float, float]
    warm: bool


LOUD = Way(4, 3, (20.0, 110.0), (80.0, 420.0), False)
QUIET = Way(1, 1, (150.0, 260.0), (40.0, 160.0), True)


def plan(script: Script) -> None:
    """Order what sells on, receive it, claim."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    n, price = script.orders(way.price, 4)
    people = crew(
        script,
        -(-n // way.claims),
        2 if not script.careful else 1,
        1,
        warm=way.warm or rng.random() < 0.5,
        role="claimant",
    )
    homes = drops(script, -(-len(people) // way.per_address), "claimant")
    cards = world.new_cards(rng, script.countries(len(people)))
    desk, met = int(script.devices(1, phones=False)[0]), set[int]()
    script.actor("device", [desk], "specialist")
    for i, t in enumerate(moments(script, n, way.hours)):
        k = i % len(people)
        _claim(script, price, t, people[k], int(homes[k % len(homes)]), int(cards[k]), desk, met)


def _claim(
    script: Script, price: tuple[float, float], t: int, who: Fields, address: int, card: int, desk: int, met: set[int]
) -> None:
    rng = script.rng
    why, condition, technique = CLAIMS[int(rng.choice(3, p=[0.5, 0.3, 0.2]))]
    label: Fields = {"source": "trust_audit", "known": t + int(rng.uniform(8, 35) * DAY)}
    t = enter(script, t, who, technique, **label)
    order, t = script.purchase(t, who, int(script.goods(*price, GOODS, 1)[0]), address, technique, pieces=1, **label)
    payment = script.pay(t, order, card, technique, loss=0, **label)
    script.consequences(order, payment)
    script.uses("SW-1040.003")
    amount = int(payment["amount"][0])
    who["session"] = script.session()
    t += int(rng.uniform(2.5, 6) * DAY)
    if not script.careful and rng.random() < INSIDE:
        who, t = _hand_over(script, t, who, desk, met, **label)
    script.send_back(order, t, technique, why, condition, amount, amount, who, **label)
    script.books.pay(amount / 100 * SERVICE, "the specialist")
    script.books.earn(1, amount / 100 * RESALE)


def _hand_over(script: Script, t: int, who: Fields, desk: int, met: set[int], **label: Any) -> tuple[Fields, int]:
    """The specialist claims from inside the customer's account: their machine (known to accounts in `met`), their password."""
    country = script.world.accounts.country[[who["account"]]].astype(np.int64)
    seat: Fields = {**who, "device": desk, "ip": int(script.homes(country)[0])}
    email, new = int(script.world.accounts.email[who["account"]]), int(who["account"] not in met)
    met.add(who["account"])
    script.add(
        "login", t, "SW-1040.003", email=email, method=METHOD["password"], success=1, new_device=new, **seat, **label
    )
    t += script.pause(90)
    script.add("profile_change", t, "SW-1040.003", changed=CHANGE["password"], new_device=new, **seat, **label)
    return seat, t + script.pause(240)


KIND = Kind(
    "refund_abuse",
    plan,
    share=0.0006,
    haul=500.0,
    likeness="serial returners, and people at a door from which parcels are stolen",
    days=8,
)
