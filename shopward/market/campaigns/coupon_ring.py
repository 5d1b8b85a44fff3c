"""A coupon ring: many new customers who are one person, each with a welcome coupon.

The business: an account costs a text message and a few minutes of a phone; the coupon pays ten dollars towards goods that sell on
for a little less than they cost. Profit per account is small, so it has to be many, and phones and addresses are used again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shopward.market.campaigns.identities import fresh_accounts, log_in, sign_up
from shopward.market.campaigns.script import Fields, Kind, Script
from shopward.market.rows import CATEGORY, DAY, HOUR, REASON
from shopward.market.sessions import WELCOME, WELCOME_OFF

RESALE = 0.86  # of the shop price: new, sealed, small goods
PER_ACCOUNT, PER_PHONE = 0.45, 4.0  # dollars: a number to receive the code; wear of a phone for the campaign
GOODS = (CATEGORY["beauty"], CATEGORY["toys"], CATEGORY["grocery"], CATEGORY["electronics"], CATEGORY["home"])


@dataclass(frozen=True, slots=True)
class Way:
    """How careful the ring is."""

    accounts_per_phone: tuple[int, int]
    phones_per_exit: tuple[int, int]
    accounts_per_address: int
    accounts_per_card: int
    hours: tuple[float, float]  # the whole ring takes
    wait: tuple[float, float]  # hours from signing up to the coupon
    disposable: float


LOUD = Way((4, 14), (2, 6), 7, 3, (8, 90), (0.02, 0.4), 0.35)
QUIET = Way((1, 2), (1, 1), 1, 1, (120, 420), (20, 130), 0.0)


def plan(script: Script) -> None:
    """Sign up, claim, order, pay; account after account."""
    way, rng, world = script.way(LOUD, QUIET), script.rng, script.world
    n = max(8, round(script.target / (WELCOME_OFF / 100) / 0.9))
    phone_of = np.repeat(np.arange(n), rng.integers(way.accounts_per_phone[0], way.accounts_per_phone[1] + 1, n))[:n]
    exit_of = phone_of // int(rng.integers(way.phones_per_exit[0], way.phones_per_exit[1] + 1))
    phones = script.devices(int(phone_of[-1]) + 1)
    land = np.full(int(exit_of[-1]) + 1, int(script.countries(1)[0]))
    exits = script.homes(land)
    accounts = fresh_accounts(script, land[exit_of], phones[phone_of], way.disposable)
    addresses = world.take("address", -(-n // way.accounts_per_address))
    cards = world.new_cards(rng, np.full(-(-n // way.accounts_per_card), land[0]))
    begins = script.start + np.sort(rng.uniform(0, rng.uniform(*way.hours) * HOUR, n)).astype(np.int64)
    script.uses("SW-1003", "SW-1005", *(() if script.careful else ("SW-1006",)))
    for kind, codes in (
        ("account", accounts),
        ("device", phones),
        ("ip", exits),
        ("card", cards),
        ("address", addresses),
    ):
        script.actor(kind, codes, "ring")
    for i, begin in enumerate(begins.tolist()):
        who: Fields = {"account": int(accounts[i]), "device": int(phones[phone_of[i]]), "ip": int(exits[exit_of[i]])}
        _one(
            script,
            way,
            who,
            begin,
            int(cards[i // way.accounts_per_card]),
            int(addresses[i // way.accounts_per_address]),
        )
    script.books.pay(n * PER_ACCOUNT + len(phones) * PER_PHONE, "numbers and phones")


def _one(script: Script, way: Way, base: Fields, t: int, card: int, address: int) -> None:
    """One of the ring's customers."""
    rng = script.rng
    who: Fields = {**base, "session": script.session()}
    label: Fields = {"source": "promo_audit", "known": t + script.later(*way.wait) + int(rng.uniform(2, 14) * DAY)}
    t = sign_up(script, t, who, "SW-1003", **label)
    wait = script.later(*way.wait)
    if wait > HOUR:
        who["session"] = script.session()
        t = log_in(script, t + wait, who, "SW-1011.001", **label)
    else:
        t += wait
    script.add("coupon_claim", t, "SW-1011.001", coupon=WELCOME, **who, **label)
    t += script.pause(50)
    if rng.random() < 0.06:
        return  # forgotten, or asked for a code that did not come
    product = int(script.goods(25, 48, GOODS, 1)[0])
    gross = script.price(product)
    off = WELCOME_OFF if gross >= 2 * WELCOME_OFF else gross // 3
    t = script.browse(t, who, product, "SW-1011.001", 0.25, **label)
    order, t = script.purchase(
        t, who, product, address, "SW-1011.001", amount=gross - off, discount=off, coupon=WELCOME, **label
    )
    if rng.random() < 0.05:
        script.decline(t, order, card, REASON["insufficient_funds"], "SW-1011.001", **label)
        return
    order["loss"] = off  # the discount is what is taken; the goods themselves are paid for
    payment = script.pay(t, order, card, "SW-1011.001", loss=0, **label)
    script.consequences(order, payment)
    script.books.earn(1, max(0.3, (RESALE * gross - (gross - off)) / 100))


KIND = Kind(
    "coupon_ring",
    plan,
    share=0.0004,
    haul=220.0,
    likeness="dormitories, families and handed-down phones that claim a welcome coupon each",
)
