"""Seller payout fraud: take what a shop has earned, or open a shop that has nothing to sell.

Two businesses. *Hijack*: a phished seller's balance goes to another bank account, best on the eve of payday; the mule who owns that
account keeps a third. *Front*: a shop sells to itself with stolen cards and is paid out before their owners notice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shopward.market.campaigns.identities import fresh_accounts, log_in, raise_accounts, sign_up
from shopward.market.campaigns.script import Fields, Script
from shopward.market.payouts import HOLD_DAYS, SELLER_SHARE
from shopward.market.rows import CATEGORY, CHANGE, DAY, DRAIN, HOUR, METHOD, REASON, START
from shopward.market.world import add_products, sell_accounts

MULE_SHARE = 0.35
KIT, STOLEN_CARD, PAPERS = 90.0, 14.0, 160.0  # dollars: a phishing kit and its host; a proven card; papers for a shop


@dataclass(frozen=True, slots=True)
class Way:
    """How careful the operator is."""

    local: float
    challenge_passed: float
    new_email: float
    wait: tuple[float, float]  # hours from the new bank account to the payout
    parts: int  # payouts the balance is taken out in
    orders_per_buyer: tuple[int, int]
    buyers_per_device: int
    days_of_trade: tuple[float, float]
    basket: tuple[float, float]


LOUD = Way(0.4, 0.55, 0.45, (0.1, 9), 1, (2, 7), 4, (1, 3), (60, 320))
QUIET = Way(0.97, 0.8, 0.1, (26, 75), 2, (1, 2), 1, (4, 9), (30, 140))


def plan(script: Script) -> None:
    """Half of these campaigns hijack shops, half open one; in a short market there is no time for a front."""
    days = (script.world.end - script.start) / DAY
    way = QUIET if script.hard else LOUD
    if script.rng.random() < 0.5 and days > way.days_of_trade[1] + HOLD_DAYS + 1:
        _front(script, way)
    else:
        _hijack(script, way)


def _hijack(script: Script, way: Way) -> None:
    world = script.world
    shops = _worth_it(script)
    mules = world.take("bank", max(1, len(shops) if script.hard else (len(shops) + 1) // 2))
    script.uses("T1660", "SW-1009")
    script.actor("bank_account", mules, "mule")
    for i, shop in enumerate(shops):
        day = _eve_of_payday(script, int(world.sellers.weekday[shop]))
        _one_shop(script, way, shop, START + day * DAY, int(mules[i % len(mules)]), sure=i == 0)
    script.books.pay(KIT + 25 * len(shops), "phishing, proxies")


def _worth_it(script: Script) -> list[int]:
    """Shops whose week's takings are nearest to a share of what the operator is after."""
    world, rng = script.world, script.rng
    n = int(rng.integers(1, 4))
    takings = world.sellers.weekly / 100 * SELLER_SHARE / 100
    worth = np.where(
        (world.sellers.reg < START) & (world.sellers.rate > 0),
        np.abs(np.log((takings + 1) / (script.target / n + 1))),
        np.inf,
    )
    best = np.argsort(worth, kind="stable")[: 6 * n]
    return rng.choice(best, min(n, len(best)), replace=False).tolist()


def _eve_of_payday(script: Script, weekday: int) -> int:
    """The day before the next payday that leaves the shop a few days to earn; earlier if the market is short."""
    first = max((script.start - START) // DAY, HOLD_DAYS + 2)
    day = first + (weekday - 1 - first) % 7
    return int(min(day, script.world.days - 1))


def _one_shop(script: Script, way: Way, shop: int, morning: int, mule: int, sure: bool) -> None:
    """Log in as the owner, pass the challenge (`sure`: with certainty; who fails everywhere runs no campaign), redirect, draw."""
    world, rng = script.world, script.rng
    owner = int(world.sellers.account[shop])
    country = world.accounts.country[[owner]].astype(np.int64)
    ip = int(script.homes(country if rng.random() < way.local else script.countries(1))[0])
    device = int(script.devices(1, phones=False)[0])
    script.actor("account", owner, "victim")
    script.actor("device", device, "hijacker")
    script.actor("ip", ip, "hijacker")
    wait = script.later(*way.wait)
    t = max(script.start, morning + int(rng.uniform(0, 20) * HOUR) - wait)
    who: Fields = {"account": owner, "device": device, "ip": ip, "session": script.session()}
    label: Fields = {"source": "seller_report", "known": t + wait + script.later(6, 90)}
    t = log_in(script, t, who, "F1006.002", new=1, **label)
    if rng.random() < 0.6:
        passed = sure or rng.random() < way.challenge_passed
        script.add("challenge_result", t, "T1111", method=METHOD["sms"], success=int(passed), **who, **label)
        if not passed:
            return
        t += script.pause(45)
    if rng.random() < way.new_email:
        fresh = int(world.new_emails(rng, 1)[0])
        script.add("profile_change", t, "F1005.004", changed=CHANGE["email"], email=fresh, new_device=1, **who, **label)
        t += script.pause(80)
    script.add(
        "profile_change",
        t,
        "SW-1034",
        changed=CHANGE["bank_account"],
        bank=mule,
        seller=owner,
        new_device=1,
        **who,
        **label,
    )
    _draw(script, way, t + wait, who, mule, label, expected=int(world.sellers.weekly[shop] * SELLER_SHARE // 100))


def _draw(script: Script, way: Way, t: int, who: Fields, mule: int, label: Fields, expected: int) -> None:
    """Take the balance out, in one go or in parts."""
    for part in range(way.parts):
        last = part == way.parts - 1
        seat: Fields = {**who, "session": script.session()}
        t = log_in(script, t, seat, "F1006.002", **label)
        method = METHOD["instant_card"] if script.rng.random() < 0.35 else METHOD["bank_transfer"]
        amount = DRAIN if last else int(expected * script.rng.uniform(0.35, 0.55))
        script.add(
            "seller_payout",
            t,
            "SW-1009",
            seller=who["account"],
            bank=mule,
            amount=amount,
            method=method,
            **seat,
            **label,
        )
        t += script.later(2, 14)
    script.books.earn(1, expected / 100 * (1 - MULE_SHARE))


def _front(script: Script, way: Way) -> None:
    """A shop opens, its customers are all the same people, the money leaves as soon as it is free."""
    world, rng = script.world, script.rng
    basket = float(np.sqrt(way.basket[0] * way.basket[1]))
    orders = max(5, round(script.target / (basket * SELLER_SHARE / 100)))
    shop, who, products, opened = _open_shop(script, way)
    until = opened + int(rng.uniform(*way.days_of_trade) * DAY)
    buyers = _buyers(script, way, orders)
    moments = np.sort(rng.uniform(opened + 6 * HOUR, until, len(buyers))).astype(np.int64).tolist()
    cards = world.new_cards(rng, script.countries(len(buyers)))
    joined: set[int] = set()
    for t, buyer, card in zip(moments, buyers, cards.tolist(), strict=True):
        _self_deal(script, way, int(t), buyer, card, products, joined)
    script.books.pay(PAPERS + STOLEN_CARD * len(cards), "papers and cards")
    payday = until + HOLD_DAYS * DAY + script.later(5, 40)
    audit: Fields = {"source": "payout_audit", "known": payday + int(rng.uniform(4, 21) * DAY)}
    bank = int(world.sellers.bank[shop])
    seat: Fields = {**who, "session": script.session()}
    t = log_in(script, payday, seat, "SW-1033", **audit)
    script.add(
        "seller_payout",
        t,
        "SW-1033",
        seller=who["account"],
        bank=bank,
        amount=DRAIN,
        method=METHOD["instant_card"],
        **seat,
        **audit,
    )
    script.books.earn(1, script.target * (1 - MULE_SHARE))


def _open_shop(script: Script, way: Way) -> tuple[int, Fields, np.ndarray, int]:
    world, rng = script.world, script.rng
    owner = sell_accounts(world, rng, 1, reg=START)
    country = world.accounts.country[owner].astype(np.int64)
    ip = int(script.homes(country)[0])
    who: Fields = {
        "account": int(owner[0]),
        "device": int(world.accounts.first[owner[0]]),
        "ip": ip,
        "session": script.session(),
    }
    label: Fields = {"source": "payout_audit", "known": script.start + int(rng.uniform(14, 35) * DAY)}
    t = sign_up(script, script.start, who, "T1585", **label) + int(rng.uniform(0.2, 20) * HOUR)
    bank = world.take("bank", 1)
    seller = who["account"]
    shop = int(
        world.sellers.add(1, account=seller, reg=t, bank=bank, weekday=-1, hour=0.0, automatic=0, rate=0.0, weekly=0.0)[
            0
        ]
    )
    contact: Fields = {
        "email": int(world.accounts.email[seller]),
        "phone": int(world.accounts.phone[seller]),
        "address": int(world.accounts.address[seller]),
    }
    script.add("seller_onboard", t, "F1021", seller=seller, bank=int(bank[0]), **contact, **who, **label)
    n = int(rng.integers(4, 12))
    categories = rng.choice([CATEGORY["electronics"], CATEGORY["fashion"], CATEGORY["home"]], n)
    products = add_products(world, rng, np.full(n, shop), categories)
    world.products.price[products] = (rng.uniform(*way.basket, n).astype(np.int64) + 1) * 100 - 1
    listed = t
    for k, product in enumerate(products.tolist()):
        listed += script.pause(150)
        script.add(
            "listing", listed, "F1021", seller=seller, product=product, category=int(categories[k]),
            amount=int(world.products.price[product]), quantity=int(rng.integers(20, 500)), text=1000 + int(world.take("text", 1)[0]), **who, **label,
        )  # fmt: skip
    for kind, code in (("account", seller), ("device", who["device"]), ("ip", ip), ("bank_account", bank)):
        script.actor(kind, code, "front_shop")
    return shop, who, products, t


def _buyers(script: Script, way: Way, orders: int) -> list[Fields]:
    """Who buys: one entry per order, accounts of the operator, several orders each."""
    rng = script.rng
    sizes: list[int] = []
    while sum(sizes) < orders:
        sizes.append(min(int(rng.integers(way.orders_per_buyer[0], way.orders_per_buyer[1] + 1)), orders - sum(sizes)))
    n = len(sizes)
    country = script.countries(n)
    devices = script.devices(-(-n // way.buyers_per_device))[np.arange(n) // way.buyers_per_device]
    accounts = (
        raise_accounts(script, country, devices) if script.hard else fresh_accounts(script, country, devices, 0.2)
    )
    exits = script.homes(country)
    addresses = script.world.take("address", -(-n // (1 if script.hard else 3)))
    for kind, codes in (("account", accounts), ("device", devices), ("ip", exits), ("address", addresses)):
        script.actor(kind, codes, "straw_buyer")
    people = [
        {
            "account": int(accounts[i]),
            "device": int(devices[i]),
            "ip": int(exits[i]),
            "address": int(addresses[i % len(addresses)]),
        }
        for i in range(n)
    ]
    order_of = np.repeat(np.arange(n), sizes)
    rng.shuffle(order_of)
    return [people[i] for i in order_of]


def _self_deal(
    script: Script, way: Way, t: int, buyer: Fields, card: int, products: np.ndarray, joined: set[int]
) -> None:
    """One order of the shop at itself: a stolen card, an empty letter."""
    rng, address = script.rng, buyer["address"]
    who: Fields = {name: buyer[name] for name in ("account", "device", "ip")} | {"session": script.session()}
    label: Fields = {"source": "chargeback", "known": script.chargeback_at(t)}
    fresh = not script.hard and who["account"] not in joined
    joined.add(who["account"])
    t = sign_up(script, t, who, "T1585", **label) if fresh else log_in(script, t, who, "SW-1039", **label)
    product = int(rng.choice(products))
    t = script.browse(t, who, product, "SW-1039", 0.2, **label)
    order, t = script.purchase(t, who, product, address, "SW-1039", **label)
    if rng.random() < 0.15:
        script.decline(t, order, card, REASON["do_not_honor"], "SW-1039", **label)
        return
    payment = script.pay(t, order, card, "SW-1039", loss=0, **label)  # what is lost is lost when the shop is paid out
    script.uses("SW-1038")
    script.consequences(order, payment)
