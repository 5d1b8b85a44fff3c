"""Each metric against what a person would count by hand, and against scikit-learn where it has the same one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopward import metrics
from shopward.declare.types import ACTIONS, Policy

POLICY = Policy(friction_cost=2.5, review_cost=3.0, challenge_stop_rate=0.7)


@st.composite
def histories(draw):
    n = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    action = rng.integers(0, len(ACTIONS), n)
    fraud = rng.random(n) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    amount = np.where(rng.random(n) < 0.1, np.nan, rng.integers(0, 50_000, n) / 100)
    return action, fraud, amount, rng.integers(0, 4, n), rng


def _by_hand(action, fraud, amount) -> dict[str, float]:
    """The same words, one event at a time."""
    stopped = stopped_value = insults = reviews = flagged = flagged_fraud = approved_value = denied = 0.0
    for a, f, m in zip(action, fraud, amount, strict=True):
        name, value = ACTIONS[a], 0.0 if math.isnan(m) else m
        share = {"deny": 1.0, "hold": 1.0, "review": 1.0, "challenge": 0.7}.get(name, 0.0)
        stopped += share * f
        stopped_value += share * f * value
        insults += (not f) and name in ("deny", "hold", "challenge")
        reviews += name == "review"
        flagged += name not in ("allow", "limit")
        flagged_fraud += f and name not in ("allow", "limit")
        approved_value += value if name in ("allow", "limit") else 0.0
        denied += name in ("deny", "hold")
    values = np.nan_to_num(amount)
    frauds, fraud_value, value = fraud.sum(), values[fraud].sum(), values.sum()
    per = lambda a, b: a / b if b > 0 else math.nan  # noqa: E731
    n = len(action)
    return {
        "capture": per(stopped, frauds),
        "capture_by_value": per(stopped_value, fraud_value),
        "precision": per(flagged_fraud, flagged),
        "insult_rate": per(insults, n - frauds),
        "review_rate": reviews / n,
        "approval_rate": (n - flagged) / n,
        "approval_by_value": per(approved_value, value),
        "loss_bps": per((fraud_value - stopped_value) * 1e4, value),
        "chargeback_ratio": per(frauds - stopped, n - denied),
        "net_saving": stopped_value - 2.5 * insults - 3.0 * reviews,
    }


@settings(max_examples=80, deadline=None)
@given(histories())
def test_every_rate_is_what_a_person_would_count(history):
    action, fraud, amount, _, _ = history
    found = metrics.rates_of(metrics.tally(action, fraud, amount, POLICY)[0], POLICY)
    for name, expected in _by_hand(action, fraud, amount).items():
        assert found[name] == pytest.approx(expected, nan_ok=True, abs=1e-9), name


@settings(max_examples=40, deadline=None)
@given(histories())
def test_groups_add_up_to_the_whole(history):
    action, fraud, amount, group, _ = history
    parts = metrics.tally(action, fraud, amount, POLICY, group, 4)
    assert np.allclose(parts.sum(axis=0), metrics.tally(action, fraud, amount, POLICY)[0])
    mine = group == 2
    assert np.allclose(parts[2], metrics.tally(action[mine], fraud[mine], amount[mine], POLICY)[0])


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(1, 6))
def test_scores_are_judged_as_scikit_learn_judges_them(history, levels):
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is in the extra [ml]")
    _, fraud, _, day, rng = history
    score = rng.integers(0, levels * 5, len(fraud)) / 10  # ties
    if 0 < fraud.sum() < len(fraud):
        assert metrics.roc_auc(fraud, score) == pytest.approx(sklearn.roc_auc_score(fraud, score))
        assert metrics.gini(fraud, score) == pytest.approx(2 * sklearn.roc_auc_score(fraud, score) - 1)
        assert metrics.average_precision(fraud, score) == pytest.approx(sklearn.average_precision_score(fraud, score))
        wrong, caught, _ = sklearn.roc_curve(fraud, score, drop_intermediate=False)
        assert metrics.ks(fraud, score) == pytest.approx(np.abs(wrong - caught).max())
        assert metrics.recall_at_fpr(fraud, score, 0.25) == pytest.approx(caught[wrong <= 0.25].max())
    else:
        assert math.isnan(metrics.roc_auc(fraud, score)) and math.isnan(metrics.ks(fraud, score))


@settings(max_examples=40, deadline=None)
@given(histories(), st.integers(1, 5))
def test_precision_at_k_counts_the_top_of_every_day(history, k):
    _, fraud, _, day, rng = history
    score = rng.permutation(len(fraud)).astype(float)
    hits, best = [], []
    for d in np.unique(day):
        rows = np.flatnonzero(day == d)
        top = rows[np.argsort(-score[rows])][:k]
        hits.append(fraud[top].sum() / k)
        best.append(min(k, fraud[rows].sum()) / k)
    found, ceiling = metrics.precision_at_k(day, fraud, score, k)
    assert (
        found == pytest.approx(np.mean(hits)) and ceiling == pytest.approx(np.mean(best)) and found <= ceiling + 1e-12
    )


@settings(max_examples=40, deadline=None)
@given(histories())
def test_first_fraud_and_time_to_detect_entity_by_entity(history):
    action, fraud, _, entity, rng = history
    ts = rng.permutation(len(action)) * 1000
    firsts, waits = [], []
    for e in np.unique(entity[fraud]):
        rows = [i for i in np.argsort(ts) if entity[i] == e and fraud[i]]
        firsts.append(metrics.stopped_share(action[rows[0]], POLICY))
        seen = [ts[i] for i in rows if action[i] >= metrics.REVIEW]
        waits.append((seen[0] - ts[rows[0]]) / 1000 if seen else math.nan)
    found = metrics.first_fraud_recall(entity, ts, action, fraud, POLICY)
    assert found == pytest.approx(np.mean(firsts) if firsts else math.nan, nan_ok=True)
    assert np.array_equal(metrics.time_to_detect(entity, ts, action, fraud), np.array(waits), equal_nan=True)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(11)
    inside = 0
    for trial in range(200):
        daily = np.stack([rng.poisson(20, 60), np.full(60, 1000)], axis=1).astype(float)
        low, high = metrics.day_interval(daily, lambda s: s[:, 0] / s[:, 1], rounds=200, seed=trial)
        inside += low <= 0.02 <= high
    assert 0.85 <= inside / 200 <= 0.99  # 95 % wanted; blocks of a week out of two months are few


def test_the_interval_of_attacks_that_last_for_days_is_wider_than_single_days_suggest():
    daily = np.zeros((60, 2))
    daily[:, 1] = 100
    daily[20:27, 0] = 30  # one attack of a week
    blocks = metrics.day_interval(daily, lambda s: s[:, 0] / s[:, 1])
    single = metrics.day_interval(daily, lambda s: s[:, 0] / s[:, 1], block=1)
    assert blocks[1] - blocks[0] > single[1] - single[0]


def test_a_shifted_population_is_told_from_an_equal_one():
    rng = np.random.default_rng(3)
    usual = rng.normal(size=5000)
    assert metrics.psi(usual, rng.normal(size=5000)) < 0.01
    assert metrics.psi(usual, rng.normal(1, size=5000)) > 0.25
    assert metrics.psi(usual, np.where(rng.random(5000) < 0.5, np.nan, usual)) > 0.25  # gone missing is a shift too


def test_nothing_to_judge_is_nan_not_a_crash():
    none = np.empty(0)
    assert math.isnan(metrics.roc_auc(none.astype(bool), none)) and math.isnan(metrics.psi(none, none))
    found = metrics.rates_of(metrics.tally(none.astype(int), none.astype(bool), none, POLICY)[0], POLICY)
    assert math.isnan(found["capture"]) and found["net_saving"] == 0.0
    assert math.isnan(metrics.first_fraud_recall(none, none, none.astype(int), none.astype(bool), POLICY))
