"""Accounts that attackers act with: signed up for the occasion, or raised for months and bought."""

from __future__ import annotations

from typing import Any

import numpy as np

from shopward.market.campaigns.script import Fields, Script
from shopward.market.rows import DAY, HOUR, METHOD, START
from shopward.market.texts import DISPOSABLE


def fresh_accounts(script: Script, country: np.ndarray, devices: np.ndarray, disposable: float) -> np.ndarray:
    """Accounts that will sign up when the campaign needs them."""
    rng, world, n = script.rng, script.world, len(country)
    throwaway = rng.random(n) < disposable
    domains = np.where(throwaway, rng.choice(DISPOSABLE, n), rng.integers(0, 6, n))
    if disposable:
        script.uses("SW-1003.001")
    return world.strangers(
        rng, n, country=country, first=devices, email=world.new_emails(rng, n, domains), card=-1, reg=START
    )


def raise_accounts(script: Script, country: np.ndarray, devices: np.ndarray) -> np.ndarray:
    """Accounts bought from somebody who raises them: months old, with a visit and a small order now and then."""
    rng, world, n = script.rng, script.world, len(country)
    script.uses("SW-1001")
    cards = world.new_cards(rng, country)
    age = (rng.uniform(25, 200, n) * DAY).astype(np.int64)
    return world.strangers(
        rng, n, country=country, first=devices, reg=START - age, rate=rng.uniform(0.03, 0.15, n), card=cards, convert=0.35, card2=-1,
        address=world.take("address", n), favourite=-1, kiosk=-1,
    )  # fmt: skip


def sign_up(script: Script, t: int, who: Fields, technique: str, **label: Any) -> int:
    """Register a fresh account at `t`; returns the moment it is ready."""
    world = script.world
    world.accounts.reg[who["account"]] = t
    contact: Fields = {
        "email": int(world.accounts.email[who["account"]]),
        "phone": int(world.accounts.phone[who["account"]]),
    }
    method = METHOD["password" if script.rng.random() < 0.72 else "otp"]
    script.add("register", t, technique, method=method, **contact, **who, **label)
    return t + script.pause(35)


def log_in(script: Script, t: int, who: Fields, technique: str, new: int = 0, **label: Any) -> int:
    email = int(script.world.accounts.email[who["account"]])
    script.add("login", t, technique, email=email, method=METHOD["password"], success=1, new_device=new, **who, **label)
    return t + script.pause(20)


def crew(
    script: Script, n: int, per_device: int = 1, per_exit: int = 1, warm: bool | None = None, disposable: float = 0.0, servers: float = 0.0,
    role: str = "crew", country: np.ndarray | None = None, emulator: float = 0.0,
) -> list[Fields]:  # fmt: skip
    """`n` accounts with the device and address each acts from: fresh ones that sign up when they first `enter`, or warmed ones.

    Without `warm`, careful campaigns use warmed accounts. Costs go to the campaign's books.
    """
    rng = script.rng
    warm = script.careful if warm is None else warm
    country = np.repeat(script.countries(-(-n // per_exit)), per_exit)[:n] if country is None else country
    devices = script.devices(-(-n // per_device))[np.arange(n) // per_device]
    exits = np.where(rng.random(n) < servers, script.servers(n) if servers else -1, script.homes(country))
    exits = exits[np.arange(n) // per_exit * per_exit]
    make = raise_accounts(script, country, devices) if warm else fresh_accounts(script, country, devices, disposable)
    if not warm:
        script.unborn.update(make.tolist())
    for kind, codes in (("account", make), ("device", devices), ("ip", exits)):
        script.actor(kind, codes, role)
    script.books.pay(n * (6.0 if warm else 0.45) + 1.0 * len(np.unique(devices)), "accounts and phones")
    if emulator:
        script.uses("SW-1006")
        script.world.devices.emulator[devices[rng.random(n) < emulator]] = 1
        script.scripted(devices, emulator * 0.7)
    seats = zip(make.tolist(), devices.tolist(), exits.tolist(), strict=True)
    return [{"account": a, "device": d, "ip": i} for a, d, i in seats]


def enter(script: Script, t: int, who: Fields, technique: str, more: Fields | None = None, **label: Any) -> int:
    """Come in with a new session: sign up the first time (with `more` on the registration), log in afterwards."""
    who["session"] = script.session()
    if who["account"] in script.unborn:
        script.unborn.discard(who["account"])
        return sign_up(script, int(t), who, "T1585", **(more or {}), **label)
    return log_in(script, int(t), who, technique, **label)


def drops(script: Script, n: int, role: str = "drop") -> np.ndarray:
    """Addresses where somebody receives for the campaign."""
    found = script.world.take("address", max(1, n))
    script.actor("address", found, role)
    return found


def moments(script: Script, n: int, hours: tuple[float, float]) -> list[int]:
    """`n` moments from the start on, in order, spread over a number of hours between two bounds."""
    begins = script.rng.uniform(0, script.rng.uniform(*hours) * HOUR, n)
    return (script.start + np.sort(begins).astype(np.int64)).tolist()
