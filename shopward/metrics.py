"""Every risk metric once, in the words of a risk team. Arrays in, a number out; money in major units of the base currency.

Actions are indexes into ACTIONS (allow, limit, challenge, review, hold, deny); `fraud` is bool per event; `amount` is what the
event is worth. Everything that counts or adds up money goes through one table, `tally`, so that a policy, a rule, a segment and a
day mean the same by the same word; `RATES` says what is divided by what, and whose definition it is. What has no cases is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from shopward.declare.types import ACTIONS, Policy

CHALLENGE, REVIEW, HOLD, DENY = (ACTIONS.index(a) for a in ("challenge", "review", "hold", "deny"))
_DISTURBS = np.isin(np.arange(len(ACTIONS)), (CHALLENGE, HOLD, DENY))

# ---- what is counted, and what is divided by what

COLUMNS = (
    "events",
    "value",
    "fraud",
    "fraud_value",
    "legitimate",
    "stopped",  # frauds stopped; a challenge counts at `challenge_stop_rate`
    "stopped_value",
    "flagged",  # challenged, reviewed, held or denied
    "flagged_fraud",
    "insults",  # legitimate and denied, held or challenged
    "challenged",
    "reviewed",
    "denied",  # or held
    "approved",  # allowed, or only limited
    "approved_value",
)
_AT = {name: i for i, name in enumerate(COLUMNS)}


@dataclass(frozen=True, slots=True)
class Rate:
    """A metric that is one sum over another, times `scale`; `source` says whose definition it is."""

    over: str
    under: str
    means: str
    source: str
    scale: float = 1.0


RATES = {
    "capture": Rate("stopped", "fraud", "frauds stopped / all frauds", "true-positive rate, AWS Fraud Detector"),
    "capture_by_value": Rate(
        "stopped_value", "fraud_value", "value of fraud stopped / value of all fraud", "hit rate by value, fraudaverse"
    ),
    "precision": Rate("flagged_fraud", "flagged", "frauds among flagged events / flagged events", "AWS Fraud Detector"),
    "insult_rate": Rate(
        "insults",
        "legitimate",
        "legitimate events denied, held or challenged / all legitimate",
        "false-positive rate, AWS Fraud Detector; Stripe quotes 0.1 % for wrongly blocked payments",
    ),
    "challenge_rate": Rate("challenged", "events", "events challenged / all events", "Microsoft Dynamics summary"),
    "review_rate": Rate("reviewed", "events", "events a person looks at / all events", "Microsoft Dynamics summary"),
    "approval_rate": Rate(
        "approved", "events", "events let through at once / all events", "Microsoft Dynamics summary"
    ),
    "approval_by_value": Rate(
        "approved_value", "value", "value let through at once / all value", "Microsoft Dynamics summary"
    ),
    "fraud_rate": Rate("fraud", "events", "frauds / events", "base rate"),
    "loss_bps": Rate(
        "lost_value",
        "value",
        "value of fraud that got through / gross value, in 1/10,000",
        "Uber RADAR",
        scale=10_000.0,
    ),
    "chargeback_ratio": Rate(
        "lost", "settled", "frauds that got through / events settled, by count", "card schemes' monitoring (VAMP)"
    ),
}


def tally(
    action: np.ndarray,
    fraud: np.ndarray,
    amount: np.ndarray,
    policy: Policy,
    group: np.ndarray | None = None,
    groups: int = 1,
) -> np.ndarray:
    """Sums per group: float64[groups, len(COLUMNS)]; `group` int[n] in [0, groups), all one group when not given.

    >>> sums = tally(np.array([5, 0, 2]), np.array([True, True, False]), np.array([100.0, 50.0, 50.0]), Policy())
    >>> dict(zip(COLUMNS, sums[0].tolist()))["stopped_value"], sums.shape
    (100.0, (1, 15))
    """
    where = np.zeros(len(action), np.int64) if group is None else group
    amount, fraud = np.nan_to_num(np.asarray(amount, np.float64)), np.asarray(fraud, bool)
    share, flagged = stopped_share(action, policy), action >= CHALLENGE
    columns = {
        "events": None,
        "value": amount,
        "fraud": fraud,
        "fraud_value": fraud * amount,
        "legitimate": ~fraud,
        "stopped": fraud * share,
        "stopped_value": fraud * amount * share,
        "flagged": flagged,
        "flagged_fraud": flagged & fraud,
        "insults": _DISTURBS[action] & ~fraud,
        "challenged": action == CHALLENGE,
        "reviewed": action == REVIEW,
        "denied": action >= HOLD,
        "approved": ~flagged,
        "approved_value": ~flagged * amount,
    }
    return np.stack([np.bincount(where, weights, groups).astype(np.float64) for weights in columns.values()], axis=1)


def column(sums: np.ndarray, name: str) -> np.ndarray:
    """One column of a tally, or one of its differences: `lost`, `lost_value` (fraud that got through), `settled` (went through)."""
    if name in _AT:
        return sums[..., _AT[name]]
    if name == "lost":
        return column(sums, "fraud") - column(sums, "stopped")
    if name == "lost_value":
        return column(sums, "fraud_value") - column(sums, "stopped_value")
    if name == "settled":
        return column(sums, "events") - column(sums, "denied")
    raise KeyError(name)


def rate(sums: np.ndarray, name: str) -> np.ndarray:
    """One metric of `RATES` from a tally [..., columns]; NaN where there is nothing to divide by.

    >>> sums = tally(np.array([5, 0, 2]), np.array([True, True, True]), np.array([100.0, 50.0, 50.0]), Policy())
    >>> rate(sums, "capture").tolist(), rate(sums, "loss_bps").tolist()
    ([0.5], [3750.0])
    """
    one = RATES[name]
    over, under = np.asarray(column(sums, one.over)), np.asarray(column(sums, one.under))
    return np.divide(over * one.scale, under, out=np.full(over.shape, np.nan), where=under > 0)


def saving(sums: np.ndarray, policy: Policy) -> np.ndarray:
    """Net saving from a tally: blocked fraud value - friction cost x insults - review cost x reviews."""
    costs = policy.friction_cost * column(sums, "insults") + policy.review_cost * column(sums, "reviewed")
    return column(sums, "stopped_value") - costs


def stopped_share(action: np.ndarray, policy: Policy) -> np.ndarray:
    """How much of each event's value its action stops: 1 for deny, hold and review, `challenge_stop_rate` for challenge, else 0.

    >>> stopped_share(np.array([0, 2, 3, 5]), Policy(challenge_stop_rate=0.5)).tolist()
    [0.0, 0.5, 1.0, 1.0]
    """
    share = np.zeros(len(ACTIONS))
    share[[REVIEW, HOLD, DENY]] = 1.0
    share[CHALLENGE] = policy.challenge_stop_rate
    return share[action]


def capture_by_value(action: np.ndarray, fraud: np.ndarray, amount: np.ndarray, policy: Policy) -> float:
    """Value of fraud stopped / value of all fraud; NaN when there is no fraud of any value.

    >>> capture_by_value(np.array([5, 0, 2]), np.array([True, True, True]), np.array([100.0, 50.0, 50.0]), Policy())
    0.625
    """
    return float(rate(tally(action, fraud, amount, policy), "capture_by_value")[0])


def insult_rate(action: np.ndarray, fraud: np.ndarray) -> float:
    """Legitimate events denied, held or challenged / all legitimate events (Stripe quotes 0.1 % for wrongly blocked payments).

    >>> insult_rate(np.array([0, 0, 2, 5]), np.array([False, False, False, True]))
    0.3333333333333333
    """
    return float(rate(tally(action, fraud, np.zeros(len(action)), Policy()), "insult_rate")[0])


def net_saving(action: np.ndarray, fraud: np.ndarray, amount: np.ndarray, policy: Policy) -> float:
    """Blocked fraud value - friction cost x insults - review cost x reviews.

    >>> policy = Policy(friction_cost=2.0, review_cost=1.0)
    >>> net_saving(np.array([5, 3, 2]), np.array([True, False, False]), np.array([100.0, 20.0, 30.0]), policy)
    97.0
    """
    return float(saving(tally(action, fraud, amount, policy), policy)[0])


def alert_to_case(alerts: int, cases: int) -> float:
    """Cases opened / alerts raised: how many alerts an analyst merges into one piece of work, or throws away.

    >>> alert_to_case(400, 50)
    0.125
    """
    return cases / alerts if alerts else float("nan")


def case_yield(cases: int, confirmed: int) -> float:
    """Confirmed cases / cases.

    >>> case_yield(50, 20)
    0.4
    """
    return confirmed / cases if cases else float("nan")


# ---- how sure we are


def day_interval(
    daily: np.ndarray,
    measure: Callable[[np.ndarray], np.ndarray],
    *,
    block: int = 7,
    rounds: int = 1000,
    level: float = 0.95,
    seed: int = 7,
) -> tuple[float, float]:
    """A confidence interval of a metric from its daily sums, by a circular block bootstrap (Politis & Romano 1992).

    Days of one week resemble each other and attacks last for days, so blocks of `block` neighbouring days are drawn, not events.
    daily    float64[days, columns], for example tallies by day; measure: sums [rounds, columns] -> values [rounds]
    NaN, NaN with fewer than four days.

    >>> daily = np.stack([np.tile([10.0, 20.0, 30.0], 20), np.full(60, 100.0)], axis=1)
    >>> low, high = day_interval(daily, lambda sums: sums[:, 0] / sums[:, 1])
    >>> round(low, 3), round(high, 3)
    (0.192, 0.208)
    """
    days = len(daily)
    if days < 4:
        return float("nan"), float("nan")
    sums = resampled(daily, block=block, rounds=rounds, seed=seed)
    values = measure(sums)
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)


def resampled(daily: np.ndarray, *, block: int = 7, rounds: int = 1000, seed: int = 7) -> np.ndarray:
    """Sums of `rounds` resampled histories, float64[rounds, columns]; a short history gets shorter blocks."""
    days = len(daily)
    block = max(1, min(block, days // 4))
    rng = np.random.default_rng(seed)
    ring = np.concatenate([daily, daily[: block - 1]]) if block > 1 else daily
    padded = np.concatenate([np.zeros((1, daily.shape[1])), ring.cumsum(axis=0)])
    blocks = padded[block:] - padded[:-block]  # the sum of each block, by its first day
    starts = rng.integers(0, days, (rounds, -(-days // block)))
    scale = days / (starts.shape[1] * block)
    out = np.zeros((rounds, daily.shape[1]))
    for j in range(starts.shape[1]):
        out += blocks[starts[:, j]]
    return out * scale


# ---- scores


def roc_auc(fraud: np.ndarray, score: np.ndarray) -> float:
    """The chance that a random fraud scores above a random honest event, ties counting half.

    >>> roc_auc(np.array([False, True, False, True]), np.array([0.1, 0.8, 0.4, 0.4]))
    0.875
    """
    fraud = np.asarray(fraud, bool)
    n, m = int(fraud.sum()), int((~fraud).sum())
    if not n or not m:
        return float("nan")
    ranks = _mean_ranks(np.asarray(score, np.float64))
    return float((ranks[fraud].sum() - n * (n + 1) / 2) / (n * m))


def _mean_ranks(score: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal scores share the mean of theirs."""
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    return (ends - (counts - 1) / 2)[place]


def gini(fraud: np.ndarray, score: np.ndarray) -> float:
    """2 AUC - 1.

    >>> gini(np.array([False, True, False, True]), np.array([0.1, 0.8, 0.4, 0.4]))
    0.75
    """
    return 2 * roc_auc(fraud, score) - 1


def roc(fraud: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(false-positive rate, recall, threshold) at every distinct score, strictest first, beginning at (0, 0, inf)."""
    order = np.argsort(-np.asarray(score, np.float64), kind="stable")
    score, fraud = np.asarray(score, np.float64)[order], np.asarray(fraud, bool)[order]
    last = np.append(np.flatnonzero(score[1:] != score[:-1]), len(score) - 1) if len(score) else np.empty(0, np.int64)
    caught = np.concatenate([[0], fraud.cumsum()[last]]).astype(float)
    wrong = np.concatenate([[0], (~fraud).cumsum()[last]]).astype(float)
    frauds, honest = max(int(fraud.sum()), 1), max(int((~fraud).sum()), 1)
    return wrong / honest, caught / frauds, np.concatenate([[np.inf], score[last]])


def recall_at_fpr(fraud: np.ndarray, score: np.ndarray, fpr: float) -> float:
    """Share of frauds found by the lowest threshold that wrongs at most `fpr` of honest events.

    >>> recall_at_fpr(np.array([True, False, True, False, False]), np.array([0.9, 0.8, 0.7, 0.2, 0.1]), 0.0)
    0.5
    """
    if not np.asarray(fraud).any():
        return float("nan")
    wrong, caught, _ = roc(fraud, score)
    return float(caught[wrong <= fpr].max())


def average_precision(fraud: np.ndarray, score: np.ndarray) -> float:
    """Precision averaged over recall, by steps (no interpolation).

    >>> average_precision(np.array([True, False, True]), np.array([0.9, 0.8, 0.7]))
    0.8333333333333333
    """
    fraud = np.asarray(fraud, bool)
    if not fraud.any():
        return float("nan")
    wrong, caught, _ = roc(fraud, score)
    hits, misses = caught * fraud.sum(), wrong * max((~fraud).sum(), 1)
    precision = np.divide(hits, hits + misses, out=np.ones_like(hits), where=hits + misses > 0)
    return float((np.diff(caught) * precision[1:]).sum())


def ks(fraud: np.ndarray, score: np.ndarray) -> float:
    """Kolmogorov-Smirnov: the largest gap between the score distributions of fraud and of honest events.

    >>> ks(np.array([False, False, True, True]), np.array([0.1, 0.3, 0.2, 0.9]))
    0.5
    """
    fraud = np.asarray(fraud, bool)
    if not fraud.any() or fraud.all():
        return float("nan")
    wrong, caught, _ = roc(fraud, score)
    return float(np.abs(caught - wrong).max())


def precision_at_k(day: np.ndarray, fraud: np.ndarray, score: np.ndarray, k: int) -> tuple[float, float]:
    """Mean over days of the share of fraud among that day's k highest scores, and the ceiling: the most any score could reach.

    A day with less than k frauds cannot reach 1: judge a model by how near it comes to its ceiling (Le Borgne et al., Fraud
    Detection Handbook). Equal scores stand in the order given.

    >>> precision_at_k(np.array([1, 1, 1, 2, 2]), np.array([True, False, False, True, True]), np.array([0.9, 0.8, 0.1, 0.3, 0.7]), 2)
    (0.75, 0.75)
    """
    if not len(day) or k < 1:
        return float("nan"), float("nan")
    order = np.lexsort((-np.asarray(score, np.float64), day))
    first = np.flatnonzero(np.append(True, day[order][1:] != day[order][:-1]))
    rank = np.arange(len(day)) - np.repeat(first, np.diff(np.append(first, len(day))))
    hits = np.asarray(fraud, bool)[order]
    per_day = np.add.reduceat(hits & (rank < k), first) / k
    best = np.minimum(np.add.reduceat(hits, first), k) / k
    return float(per_day.mean()), float(best.mean())


def psi(expected: np.ndarray, actual: np.ndarray, bins: int = 10) -> float:
    """Population stability index: sum (a - e) ln(a / e) over `bins` quantiles of the expected values.

    0.1 and 0.25 are conventions, not a test: the value grows with fewer rows (Yurdakul & Naranjo 2020). Empty bins count as half
    a row. NaN values are a bin of their own.

    >>> psi(np.arange(1000.0), np.arange(1000.0)), round(psi(np.arange(1000.0), np.arange(1000.0) + 200), 3)
    (0.0, 1.274)
    """
    expected, actual = np.asarray(expected, np.float64), np.asarray(actual, np.float64)
    if not len(expected) or not len(actual):
        return float("nan")
    known = expected[~np.isnan(expected)]
    edges = np.unique(np.quantile(known, np.arange(1, bins) / bins)) if len(known) else np.empty(0)
    e, a = (np.bincount(_bin(v, edges), minlength=len(edges) + 2).astype(float) for v in (expected, actual))
    return psi_of_counts(e[(e + a) > 0], a[(e + a) > 0])


def psi_of_counts(expected: np.ndarray, actual: np.ndarray) -> float:
    """PSI of counts per bin.

    >>> round(psi_of_counts(np.array([50.0, 50.0]), np.array([90.0, 10.0])), 3)
    0.879
    """
    e, a = (np.maximum(c, 0.5) / max(c.sum(), 1.0) for c in (np.asarray(expected, float), np.asarray(actual, float)))
    return float(((a - e) * np.log(a / e)).sum())


def _bin(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    place = np.searchsorted(edges, values, side="right")
    place[np.isnan(values)] = len(edges) + 1
    return place


def calibration(fraud: np.ndarray, score: np.ndarray, bins: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean score, share of fraud, events) of `bins` groups of equal size by score: a calibrated score lies on the diagonal.

    >>> mean, share, n = calibration(np.array([False, False, True, True]), np.array([0.1, 0.3, 0.6, 0.8]), bins=2)
    >>> mean.tolist(), share.tolist(), n.tolist()
    ([0.2, 0.7], [0.0, 1.0], [2, 2])
    """
    order = np.argsort(np.asarray(score, np.float64), kind="stable")
    parts = [p for p in np.array_split(order, bins) if len(p)]
    means = np.array([np.asarray(score, np.float64)[p].mean() for p in parts])
    shares = np.array([np.asarray(fraud, bool)[p].mean() for p in parts])
    return means, shares, np.array([len(p) for p in parts])


def calibration_error(fraud: np.ndarray, score: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: how far the share of fraud lies from the mean score, averaged over events.

    >>> round(calibration_error(np.array([False, False, True, True]), np.array([0.1, 0.3, 0.6, 0.8]), bins=2), 3)
    0.25
    """
    if not len(score):
        return float("nan")
    means, shares, n = calibration(fraud, score, bins)
    return float((np.abs(means - shares) * n).sum() / n.sum())


# ---- over time


def label_maturity(delay: np.ndarray, ages: np.ndarray) -> np.ndarray:
    """Share of labels that had arrived by each age; `delay` and `ages` in the same unit.

    >>> label_maturity(np.array([1.0, 2.0, 2.0, 9.0]), np.array([0.0, 2.0, 10.0])).tolist()
    [0.0, 0.75, 1.0]
    """
    if not len(delay):
        return np.full(len(ages), np.nan)
    return np.searchsorted(np.sort(delay), ages, side="right") / len(delay)


def first_fraud_recall(
    entity: np.ndarray, ts: np.ndarray, action: np.ndarray, fraud: np.ndarray, policy: Policy
) -> float:
    """Of the entities that ever commit (or suffer) fraud: the share whose first fraud was stopped, before any label could tell.

    entity   int[n], negative for none; equal times keep the order given

    >>> first_fraud_recall(np.array([1, 1, 2]), np.array([0, 5, 9]), np.array([0, 5, 5]), np.array([True, True, True]), Policy())
    0.5
    """
    rows = np.flatnonzero(np.asarray(fraud, bool) & (entity >= 0))
    if not len(rows):
        return float("nan")
    rows = rows[np.lexsort((ts[rows], entity[rows]))]
    first = rows[np.append(True, entity[rows][1:] != entity[rows][:-1])]
    return float(stopped_share(action[first], policy).mean())


def time_to_detect(entity: np.ndarray, ts: np.ndarray, action: np.ndarray, fraud: np.ndarray) -> np.ndarray:
    """Seconds from each entity's first fraud to its first fraud denied, held or reviewed; NaN where none ever was.

    One value an entity that has fraud, in order of entity. `ts` in ms.

    >>> time_to_detect(np.array([1, 1, 2]), np.array([0, 5000, 9]), np.array([0, 5, 0]), np.array([True, True, True])).tolist()
    [5.0, nan]
    """
    rows = np.flatnonzero(np.asarray(fraud, bool) & (entity >= 0))
    if not len(rows):
        return np.empty(0)
    rows = rows[np.lexsort((ts[rows], entity[rows]))]
    start = np.flatnonzero(np.append(True, entity[rows][1:] != entity[rows][:-1]))
    never = np.iinfo(np.int64).max
    seen = np.minimum.reduceat(np.where(action[rows] >= REVIEW, ts[rows].astype(np.int64), never), start)
    return np.where(seen == never, np.nan, (seen - ts[rows][start]) / 1000)


@dataclass(frozen=True, slots=True)
class CampaignResult:
    """How one campaign fared. `first_detection_s` counts from its first event; None: never denied, held or reviewed."""

    caught: bool
    first_detection_s: float | None
    loss: float
    loss_prevented: float


def campaign_result(ts: np.ndarray, action: np.ndarray, amount: np.ndarray, policy: Policy) -> CampaignResult:
    """Judge one campaign from its events in time order (`ts` ms): caught means denied, held or reviewed before half of its loss.

    `amount` is what each event would cost; steps that cost nothing in themselves (a login) carry 0.

    >>> campaign_result(np.array([0, 1000, 2000]), np.array([0, 5, 5]), np.array([10.0, 45.0, 45.0]), Policy())
    CampaignResult(caught=True, first_detection_s=1.0, loss=100.0, loss_prevented=90.0)
    """
    amount = np.nan_to_num(amount)
    loss = float(amount.sum())
    seen = np.flatnonzero(action >= REVIEW)
    prevented = float((amount * stopped_share(action, policy)).sum())
    if not len(seen):
        return CampaignResult(False, None, loss, prevented)
    lost_before = float(amount[: seen[0]].sum())
    caught = lost_before < loss / 2 if loss > 0 else True
    return CampaignResult(caught, float(ts[seen[0]] - ts[0]) / 1000, loss, prevented)


def rates_of(sums: np.ndarray, policy: Policy) -> Mapping[str, float]:
    """Every rate and the net saving of one tally row.

    >>> sums = tally(np.array([5, 0]), np.array([True, False]), np.array([100.0, 50.0]), Policy())[0]
    >>> found = rates_of(sums, Policy()); found["capture"], found["insult_rate"], found["net_saving"]
    (1.0, 0.0, 100.0)
    """
    found = {name: float(rate(sums, name)) for name in RATES}
    return found | {"net_saving": float(saving(sums, policy))}
