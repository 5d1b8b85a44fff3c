"""Accounts that attackers act with: signed up for the occasion, or raised for months and bought."""

from __future__ import annotations

from typing import Any

import numpy as np

from shopward.market.campaigns.script import Fields, Script
from shopward.market.rows import DAY, METHOD, START
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
