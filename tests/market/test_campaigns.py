"""The attackers as a population: how many there are, how careful, what they learn, and whether they are businesses."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from shopward.market.campaigns import KINDS, SLOW_OF_FOUR
from shopward.market.campaigns.script import between
from shopward.market.making import Market
from shopward.market.world import MEAN_ORDER, ORDERS_PER_SESSION

BIG = {"seed": 4, "days": 28, "accounts": 40_000}


@pytest.fixture(scope="module")
def plans():
    """Both adversaries' plans for a market of 40,000 accounts; nothing is lived."""
    return {adversary: Market(**BIG, adversary=adversary).scripts for adversary in ("normal", "hard")}


def test_every_kind_appears_at_its_documented_rate(plans):
    turnover = 40_000 * 0.3 * 28 * ORDERS_PER_SESSION * MEAN_ORDER
    for scripts in plans.values():
        found = Counter(script.kind for script in scripts)
        assert found == {name: max(1, round(turnover * kind.share / kind.haul)) for name, kind in KINDS.items()}


def test_the_loss_is_near_what_the_kinds_are_after():
    """Without payouts, whose size only the ledger knows; a factor of two for baskets, luck, and days that end."""
    market = Market(**BIG)
    rows = np.concatenate([script.rows() for script in market.scripts])
    rows = rows[rows["t"] < market.world.end]
    loss = np.maximum(rows["loss"], 0).sum() / 100
    turnover = 40_000 * 0.3 * 28 * ORDERS_PER_SESSION * MEAN_ORDER
    shares = sum(kind.share for kind in KINDS.values() if kind.name not in ("seller_payout_fraud", "payout_bust_out"))
    assert 0.5 < loss / (turnover * shares) < 2


def test_together_they_are_after_about_a_hundredth_of_turnover():
    assert 0.009 < sum(kind.share for kind in KINDS.values()) < 0.013


def test_a_short_market_has_the_kinds_that_have_time():
    kinds = {script.kind for script in Market(seed=1, days=3, accounts=400).scripts}
    assert kinds == {name for name, kind in KINDS.items() if kind.days <= 3}


def test_two_in_five_hard_campaigns_are_low_and_slow(plans):
    slow = [script.caution == 1.0 and not script.adaptations for script in plans["hard"]]
    assert np.mean(slow) >= len(SLOW_OF_FOUR) / 4 - 0.05
    assert {script.caution for script in plans["normal"]} <= {0.0, 0.25}


def test_who_is_denied_comes_back_more_careful_or_not_at_all(plans):
    learnt = [script for script in plans["hard"] if script.adaptations]
    assert len(learnt) > (1 - len(SLOW_OF_FOUR) / 4) * len(plans["hard"]) / 3
    for script in learnt:
        assert script.waves >= 2 and script.caution > 0.45
    assert not any(script.adaptations for script in plans["normal"])
    assert any(
        script.waves == 1 and 0.4 < script.caution < 1 for script in plans["hard"]
    )  # gave up, or ran out of days


def test_a_new_wave_comes_on_new_devices(plans):
    for script in plans["hard"]:
        if script.kind == "brushing" and script.adaptations:
            rows = script.rows()
            mine = rows[(rows["campaign"] == script.code) & (rows["type"] == 0)]  # sign-ups
            gaps = np.diff(np.sort(mine["t"]))
            wave = np.sort(mine["t"])[int(gaps.argmax())]
            before, after = mine[mine["t"] <= wave]["device"], mine[mine["t"] > wave]["device"]
            assert not set(before.tolist()) & set(after.tolist())


def test_the_careful_use_more_devices_for_less(plans):
    def per_device(scripts):
        rows = np.concatenate(
            [s.rows() for s in scripts if s.kind in ("coupon_ring", "brushing", "referral_farm", "account_farming")]
        )
        rows = rows[(rows["campaign"] > 0) & (rows["device"] >= 0)]
        return len(rows) / len(np.unique(rows["device"]))

    assert per_device(plans["normal"]) > 1.8 * per_device(plans["hard"])


def test_most_campaigns_of_a_market_of_some_size_pay(plans):
    """Attackers are businesses: where there is enough to take, revenue exceeds cost for most."""
    for scripts in plans.values():
        pays = [script.books.revenue > script.books.cost for script in scripts]
        assert np.mean(pays) > 0.6


def test_every_campaign_says_what_it_does_in_one_paragraph():
    for kind in KINDS.values():
        assert kind.told.endswith(".") and ":" in kind.told and len(kind.told) < 220
        assert kind.likeness


def test_caution_lies_between_the_loud_and_the_quiet_way():
    assert between((100.0, 4), (1.0, 1), 0.0) == (100.0, 4)
    assert between((100.0, 4), (1.0, 1), 1.0) == (1.0, 1)
    assert between(0.4, 0.0, 0.5) == 0.2
