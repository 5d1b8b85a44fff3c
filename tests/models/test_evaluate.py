"""A score read as a risk team reads it: in money, with intervals, by segment, on first frauds and unseen campaigns, as a policy."""

from __future__ import annotations

import numpy as np
import pytest

from shopward.declare.types import Policy
from shopward.models import evaluate as ev
from shopward.models.unseen import unseen_campaigns

DAY = ev.DAY_MS


def world(seed: int = 1, n: int = 6000, skill: float = 2.0) -> ev.Judged:
    rng = np.random.default_rng(seed)
    fraud = rng.random(n) < 0.05
    raw = rng.normal(size=n) + skill * fraud - 3
    amount = np.where(fraud, rng.exponential(80, n), rng.exponential(30, n))
    kind = np.where(rng.random(n) < 0.3, "order", "payment").astype(object)
    return ev.Judged(
        np.sort(rng.integers(0, 30 * DAY, n)),
        fraud,
        1 / (1 + np.exp(-raw)),
        np.ones(n),
        amount,
        {"type": kind},
        rng.integers(1, 400, n),
    )


def test_every_headline_number_stands_in_its_interval():
    found = ev.evaluate(world())["headline"]
    for name, one in found.items():
        assert one["low"] <= one["value"] <= one["high"], name
        assert one["low"] < one["high"], name


def test_intervals_are_wider_with_fewer_events():
    wide, narrow = (ev.evaluate(world(n=n))["headline"]["roc_auc"] for n in (1500, 12_000))
    assert wide["high"] - wide["low"] > 1.5 * (narrow["high"] - narrow["low"])


def test_three_days_are_too_few_for_an_interval():
    few = world().take(np.arange(500))
    few.ts[:] = np.arange(500) % 3 * DAY
    assert ev.evaluate(few)["headline"]["roc_auc"]["low"] is None


def test_a_segment_where_the_score_knows_nothing_is_seen():
    judged = world()
    blind = judged.segments["type"] == "order"
    judged.score[blind] = np.random.default_rng(3).permutation(judged.score[blind])
    order, payment = (
        next(s for s in ev.evaluate(judged)["segments"]["type"] if s["value"] == v) for v in ("order", "payment")
    )
    assert order["recall"] < payment["recall"] / 2 and order["roc_auc"] < 0.6 < payment["roc_auc"]
    assert order["events"] + payment["events"] == len(judged)


def test_a_score_that_only_remembers_finds_no_first_fraud():
    judged = world()
    judged.score = np.full(len(judged), 0.1)
    bad: set[int] = set()
    for i, (who, fraud) in enumerate(zip(judged.entity.tolist(), judged.fraud.tolist(), strict=True)):
        judged.score[i] = 0.9 if who in bad and fraud else 0.1
        bad |= {who} if fraud else set()
    assert ev.first_frauds(judged, 0.5) == {"entities": len(bad), "first": 0.0, "later": 1.0}


def test_the_policy_saves_more_than_any_one_action_and_keeps_to_the_analysts():
    judged = world(n=20_000)
    plenty = ev.cheapest(judged, Policy(friction_cost=10, review_cost=3, review_capacity_per_day=1000))
    assert plenty["later_days"]["net_saving"] >= 0.97 * max(plenty["net_saving_of_one_action"].values())
    assert list(plenty["thresholds"].values()) == sorted(plenty["thresholds"].values())
    scarce = ev.cheapest(judged, Policy(friction_cost=10, review_cost=3, review_capacity_per_day=5))
    assert scarce["later_days"]["reviews"] < plenty["later_days"]["reviews"] and scarce["review_price"] > 0
    assert scarce["later_days"]["reviews"] <= 2 * 5 * 15


def test_friction_that_costs_nothing_denies_nearly_everybody():
    found = ev.best_steps(world(), Policy(friction_cost=0.0, review_cost=3), 0.0)
    assert list(found) == ["deny"] and found["deny"] < 0.05


def test_a_campaign_with_a_method_of_its_own_is_missed_until_it_was_seen():
    from shopward.models import logistic
    from shopward.models.dataset import Examples

    rng = np.random.default_rng(5)
    n = 4000
    x, campaign = rng.normal(size=(n, 3)), np.zeros(n, np.int64)
    campaign[:100], campaign[100:200] = 1, 2
    x[:100, 0] += 6
    x[100:200, 1] += 6
    label, one = (campaign > 0).astype(np.int8), np.ones(n)
    e = Examples(("a", "b", "c"), x, label, np.arange(n), np.arange(n), one, one.copy(), [str(i) for i in range(n)])
    fit = lambda part: logistic.fit(part.matrix, part.label == 1, weight=part.weight).raw  # noqa: E731
    found = unseen_campaigns(e, [[None, "left", "up"][c] for c in campaign], fit, policy_fpr=0.02)
    assert sorted(f["campaign"] for f in found["groups"]) == ["left", "up"]
    assert all(f["unseen"] < 0.1 < 0.7 < f["seen"] for f in found["groups"])
    assert all(f["unseen_value"] < 0.1 < 0.7 < f["seen_value"] for f in found["groups"])
    assert all(f["unseen_policy"] >= f["unseen"] and f["seen_policy"] >= f["seen"] for f in found["groups"])
    assert found["all"]["unseen"] == np.mean([f["unseen"] for f in found["groups"]]).round(6)


def test_nothing_can_be_said_without_frauds():
    judged = world()
    judged.fraud[:] = False
    found = ev.evaluate(judged)
    assert found["threshold"] is None or found["headline"]["average_precision"]["value"] is None
    assert found["policy"]["thresholds"] == {}


@pytest.mark.parametrize("n", [0, 1])
def test_no_event_and_one_event_do_not_break_it(n):
    assert ev.evaluate(world().take(np.arange(n)))["events"] == n
