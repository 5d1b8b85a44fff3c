"""Seller payout fraud: take what a shop has earned.

The business: a phished seller's balance goes to another bank account, best on the eve of payday; the mule who owns that account
keeps a third.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shopward.market.campaigns.identities import log_in
from shopward.market.campaigns.script import Fields, Kind, Script
from shopward.market.payouts import HOLD_DAYS, SELLER_SHARE
from shopward.market.rows import CHANGE, DAY, DRAIN, HOUR, METHOD, START

MULE_SHARE = 0.35
KIT = 90.0  # dollars: a phishing kit and its host


@dataclass(frozen=True, slots=True)
class Way:
    """How careful the operator is."""

    local: float
    challenge_passed: float
    new_email: float
    wait: tuple[float, float]  # hours from the new bank account to the payout
    parts: int  # payouts the balance is taken out in


LOUD = Way(0.4, 0.55, 0.45, (0.1, 9), 1)
QUIET = Way(0.97, 0.8, 0.1, (26, 75), 2)


def plan(script: Script) -> None:
    """Redirect the payouts of shops whose takings are worth it."""
    way = script.way(LOUD, QUIET)
    world = script.world
    shops = _worth_it(script)
    mules = world.take("bank", max(1, len(shops) if script.careful else (len(shops) + 1) // 2))
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
            payee=who["account"],
            amount=amount,
            loss=DRAIN,
            method=method,
            **seat,
            **label,
        )
        t += script.later(2, 14)
    script.books.earn(1, expected / 100 * (1 - MULE_SHARE))


KIND = Kind(
    "seller_payout_fraud",
    plan,
    share=0.0009,
    haul=1500.0,
    likeness="a shop that changes its bank on a new computer and is paid there",
)
