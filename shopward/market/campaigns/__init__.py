"""The attackers: one file per kind of campaign, each an economic actor with costs, revenue and a break-even.

`schedule` decides how many campaigns a market of a given size attracts and how much each is after. That depends on what can be
earned there and on nothing the defender does.

    plan(script)  ->  rows of events, each with its technique, and the books of the business
"""

from __future__ import annotations

from importlib import import_module

import numpy as np

from shopward.market.campaigns.script import TECHNIQUES, Kind, Script
from shopward.market.rows import DAY, HOUR, START
from shopward.market.world import World

FILES = (
    "takeover", "card_testing", "coupon_ring", "payout_fraud", "bust_out", "brushing", "fake_reviews", "review_extortion", "refund_abuse",
    "empty_parcel", "triangulation", "promo_stacking", "referral_farm", "bonus_cycling", "shell_sellers", "counterfeit_wave", "price_error",
    "seckill_bots", "inventory_hoarding", "affiliate_fraud", "free_sample_fraud", "gift_laundering", "chargeback_ring", "scraping",
    "account_farming", "session_hijack", "message_scams", "sms_pumping", "ad_click_fraud", "self_dealing", "room_inflation",
)  # fmt: skip
KINDS: dict[str, Kind] = {kind.name: kind for kind in (import_module(f"{__name__}.{file}").KIND for file in FILES)}

# The hard adversary. Three in four of its campaigns are low and slow from the first day; the others begin half careful, and learn.
SLOW_OF_FOUR = (0, 1, 3)
DENIED = 0.85  # chance that a wave of somebody who takes no care at all is stopped; attackers learn this from their own orders
GIVES_UP = 0.15  # of those who were stopped
WAVES = 3


def schedule(world: World, turnover: float, hard: bool, seeds: np.random.SeedSequence) -> list[Script]:
    """Plan every campaign of a market with `turnover` dollars; at least one of each kind that its life is long enough for."""
    scripts: list[Script] = []
    for kind, seed in zip(KINDS.values(), seeds.spawn(len(KINDS)), strict=True):
        if kind.days > world.days:
            continue
        rng = np.random.default_rng(seed)
        budget = turnover * kind.share
        n = max(1, round(budget / kind.haul))
        weights = rng.lognormal(0, 0.55, n)
        for weight in (weights / weights.sum()).tolist():
            script = Script(world, len(scripts) + 1, kind.name, budget * weight, START, rng)
            _campaign(script, kind, hard)
            script.finish()
            scripts.append(script)
    return scripts


def _campaign(script: Script, kind: Kind, hard: bool) -> None:
    """Against the normal defence one wave, in a hurry; the hard adversary comes in waves and adapts between them."""
    script.start = _start(script, kind, hard)
    if not hard:
        script.caution = float(script.rng.choice([0.0, 0.25], p=[0.8, 0.2]))
        return kind.plan(script)
    if script.code % 4 in SLOW_OF_FOUR:
        script.caution = 1.0
        return kind.plan(script)
    script.caution = float(script.rng.uniform(0.45, 0.7))
    return _waves(script, kind)


def _waves(script: Script, kind: Kind) -> None:
    """Try with a part, look at what was stopped, change the way of working, go on with the rest."""
    rng, left = script.rng, script.target
    waves = WAVES if left > 0.75 * kind.haul else 2
    for wave in range(waves):
        script.target = left if wave == waves - 1 else left * rng.uniform(0.3, 0.6)
        left -= script.target
        kind.plan(script)
        script.waves = wave + 1
        script.start = script.last + int(rng.uniform(4, 40) * HOUR)
        if script.start > script.world.end - DAY:
            return
        if rng.random() < DENIED * (1.1 - script.caution):
            if rng.random() < GIVES_UP:
                return
            _adapt(script)


def _adapt(script: Script) -> None:
    """What somebody does who was stopped: everything is slower and spread wider, on new devices, from new addresses."""
    before = script.caution
    script.caution = min(1.0, before + float(script.rng.uniform(0.12, 0.36)))
    lesson = f"new devices and addresses, caution {before:.2f} to {script.caution:.2f}"
    script.adaptations.append(lesson + (", accounts with a past" if before < 0.5 <= script.caution else ""))


def _start(script: Script, kind: Kind, hard: bool) -> int:
    """Any time from the second day on, leaving the campaign the days that its kind needs; the slow need more."""
    days = script.world.days
    first = min(1.0, days * 0.1)
    latest = min(days * (0.5 if hard else 0.72), days - kind.days)
    return START + int(script.rng.uniform(first, max(first + 0.2, latest)) * DAY)


__all__ = ["KINDS", "TECHNIQUES", "Kind", "Script", "schedule"]
