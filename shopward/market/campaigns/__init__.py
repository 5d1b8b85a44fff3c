"""The attackers: one file per kind of campaign, each an economic actor with costs, revenue and a break-even.

`schedule` decides how many campaigns a market of a given size attracts and how much each is after. That depends on what can be
earned there and on nothing the defender does.
"""

from __future__ import annotations

import numpy as np

from shopward.market.campaigns import card_testing, coupon_ring, payout_fraud, takeover
from shopward.market.campaigns.script import TECHNIQUES, Script
from shopward.market.rows import DAY, START
from shopward.market.world import World

# kind: how it is done, share of the market's turnover it is after, a typical haul in dollars
KINDS = {
    "account_takeover": (takeover.plan, 0.0019, 900.0),
    "card_testing": (card_testing.plan, 0.0016, 800.0),
    "coupon_ring": (coupon_ring.plan, 0.0006, 300.0),
    "seller_payout_fraud": (payout_fraud.plan, 0.0014, 1500.0),
}


def schedule(world: World, turnover: float, hard: bool, seeds: np.random.SeedSequence) -> list[Script]:
    """Plan every campaign of a market with `turnover` dollars; at least one of each kind, however small the market."""
    scripts: list[Script] = []
    for (kind, (plan, share, haul)), seed in zip(KINDS.items(), seeds.spawn(len(KINDS)), strict=True):
        rng = np.random.default_rng(seed)
        budget = turnover * share
        n = max(1, round(budget / haul))
        weights = rng.lognormal(0, 0.55, n)
        for weight in (weights / weights.sum()).tolist():
            script = Script(world, len(scripts) + 1, kind, hard, budget * weight, _start(world, rng), rng)
            plan(script)
            scripts.append(script)
    return scripts


def _start(world: World, rng: np.random.Generator) -> int:
    """Any time from the second day on, leaving the campaign some of the market's life."""
    days = world.days
    return START + int(rng.uniform(min(1.0, days * 0.1), max(0.3, days * 0.72)) * DAY)


__all__ = ["KINDS", "TECHNIQUES", "Script", "schedule"]
