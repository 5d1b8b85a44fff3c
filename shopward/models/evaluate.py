"""How a risk team reads a score: in money, with intervals, by segment, on first frauds, and as a policy.

    scores and what became true -> headline with intervals by day -> segments -> first frauds -> thresholds that cost least

Thresholds are set on the earlier half of the days and judged on the later one, so that what they promise is what they kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shopward.declare.types import Policy
from shopward.models.dataset import Examples
from shopward.models.measure import auc, average_precision, threshold_at

DAY_MS = 86_400_000
FPR = 0.005  # where recall is read
ROUNDS = 300
STEPS = ("allow", "challenge", "review", "deny")  # what rising scores may meet, in this order
BINS = 80
MOST_SEGMENTS = 12
FEW = 5  # frauds below which a segment is not judged


@dataclass(slots=True)
class Judged:
    """n scored events whose truth is known.

    ts int64[n] ms, fraud bool[n], score float64[n] (a probability), weight float64[n] (how many events a row stands for), amount float64[n]
    segments   field -> text per row (None where missing); entity int64[n], 0 nobody
    """

    ts: np.ndarray
    fraud: np.ndarray
    score: np.ndarray
    weight: np.ndarray
    amount: np.ndarray
    segments: dict[str, np.ndarray] = field(default_factory=dict)
    entity: np.ndarray | None = None

    @classmethod
    def of(cls, examples: Examples, score: np.ndarray) -> Judged:
        """From examples: their texts are segments, their first group says who an event is about."""
        texts = {}
        for name, known in examples.categories.items():
            codes = examples.matrix[:, examples.names.index(name)]
            words = np.array([*known, "(others)", None], object)
            place = np.where(np.isnan(codes), len(known) + 1, np.where(codes < 0, len(known), codes)).astype(np.int64)
            texts[name] = words[place]
        entity = next(iter(examples.groups.values()), None)
        return cls(examples.ts, examples.label == 1, score, examples.weight, examples.amount, texts, entity)

    def take(self, rows: np.ndarray) -> Judged:
        cut = {n: getattr(self, n)[rows] for n in ("ts", "fraud", "score", "weight", "amount")}
        entity = None if self.entity is None else self.entity[rows]
        return Judged(**cut, segments={k: v[rows] for k, v in self.segments.items()}, entity=entity)

    def __len__(self) -> int:
        return len(self.ts)


def evaluate(judged: Judged, policy: Policy | None = None) -> dict[str, Any]:
    """Everything as JSON. Fields that the events do not have are absent; what has too few cases is None."""
    at = threshold_at(judged.fraud, judged.score, judged.weight, FPR)
    out: dict[str, Any] = {
        "events": len(judged), "frauds": int(judged.fraud.sum()), "days": len(np.unique(judged.ts // DAY_MS)),
        "threshold": at if np.isfinite(at) else None, "headline": headline(judged, at), "segments": segments(judged, at),
    }  # fmt: skip
    if judged.entity is not None:
        out["first_frauds"] = first_frauds(judged, at)
    out["policy"] = cheapest(judged, policy or Policy())
    return out


# --- the headline


def headline(judged: Judged, at: float) -> dict[str, dict[str, float | None]]:
    """name -> {value, low, high}: 95 % intervals from whole days drawn again, since events of one day are alike."""
    weights = day_draws(judged.ts)
    hit = judged.score >= at
    found: dict[str, Callable[[np.ndarray], float]] = {
        "average_precision": lambda w: _ranked(average_precision, judged, w),
        "roc_auc": lambda w: _ranked(auc, judged, w),
        "recall_at_0.5%_fpr": lambda w: _share(w, judged.fraud & hit, judged.fraud),
        "value_recall_at_0.5%_fpr": lambda w: _share(w * judged.amount, judged.fraud & hit, judged.fraud),
        "false_positive_rate": lambda w: _share(w, ~judged.fraud & hit, ~judged.fraud),
        "precision": lambda w: _share(w, judged.fraud & hit, hit),
    }
    out: dict[str, dict[str, float | None]] = {}
    for name, measure in found.items():
        drawn = np.array([measure(judged.weight * w) for w in weights])
        drawn = drawn[np.isfinite(drawn)]
        low, high = np.quantile(drawn, (0.025, 0.975)) if len(drawn) >= ROUNDS / 2 else (np.nan, np.nan)
        out[name] = {k: _number(v) for k, v in zip(("value", "low", "high"), (measure(judged.weight), low, high), strict=True)}  # fmt: skip
    return out


def day_draws(ts: np.ndarray, rounds: int | None = None, block: int = 3, seed: int = 7) -> list[np.ndarray]:
    """How often each event stands in each of `rounds` histories drawn from blocks of neighbouring days; [] with fewer than four days.

    Rounds are fewer where events are many, so that an evaluation stays within seconds.

    >>> draws = day_draws(np.arange(10) * 86_400_000, rounds=2)
    >>> [float(d.sum()) for d in draws]
    [10.0, 10.0]
    """
    days, place = np.unique(ts // DAY_MS, return_inverse=True)
    if len(days) < 4:
        return []
    rounds = rounds or max(60, min(ROUNDS, 20_000_000 // len(ts)))
    rng, block = np.random.default_rng(seed), min(block, len(days) // 4) or 1
    out = []
    for _ in range(rounds):
        starts = rng.integers(0, len(days), -(-len(days) // block))
        drawn = (starts[:, None] + np.arange(block)) % len(days)
        out.append(np.bincount(drawn.ravel(), minlength=len(days)).astype(float)[place])
    return out


def _ranked(measure: Callable[..., float], judged: Judged, weight: np.ndarray) -> float:
    """A measure of ranking over the rows that were drawn at all."""
    drawn = weight > 0
    return measure(judged.fraud[drawn], judged.score[drawn], weight[drawn])


def _share(weight: np.ndarray, of: np.ndarray, among: np.ndarray) -> float:
    under = float(weight[among].sum())
    return float(weight[of].sum()) / under if under > 0 else float("nan")


def _number(value: float) -> float | None:
    return None if not np.isfinite(value) else round(float(value), 6)


def disturbed(judged: Judged, found: Mapping[str, Any]) -> float | None:
    """The share of legitimate events that the cheapest policy which `evaluate` found challenges, reviews or denies; None without one.

    >>> j = Judged(np.arange(4), np.array([True, False, False, False]), np.array([0.9, 0.8, 0.2, 0.1]), np.ones(4), np.ones(4))
    >>> disturbed(j, {"policy": {"thresholds": {"review": 0.5, "deny": 0.85}}})
    0.3333333333333333
    """
    steps = [at for at in found["policy"]["thresholds"].values() if at is not None]
    legit = ~judged.fraud
    return _share(judged.weight, legit & (judged.score >= min(steps)), legit) if steps and legit.any() else None


# --- parts of the business


def segments(judged: Judged, at: float) -> dict[str, list[dict[str, Any]]]:
    """field -> its values, the largest first: what the one threshold means for each part of the business."""
    return {name: _segment(judged, words, at) for name, words in judged.segments.items()}


def _segment(judged: Judged, words: np.ndarray, at: float) -> list[dict[str, Any]]:
    found = []
    names = np.array(["(missing)" if w is None else str(w) for w in words.tolist()])
    kinds, counts = np.unique(names, return_counts=True)
    for kind in kinds[np.argsort(-counts, kind="stable")][:MOST_SEGMENTS]:
        part = judged.take(names == kind)
        enough = part.fraud.sum() >= FEW
        found.append({"value": str(kind), "events": float(part.weight.sum()), "frauds": int(part.fraud.sum()),
                      "fraud_value": _number(float(part.amount[part.fraud].sum())), **(_numbers(part, at) if enough else {})})  # fmt: skip
    return found


def _numbers(part: Judged, at: float) -> dict[str, float | None]:
    hit = part.score >= at
    return {
        "recall": _number(_share(part.weight, part.fraud & hit, part.fraud)),
        "value_recall": _number(_share(part.weight * part.amount, part.fraud & hit, part.fraud)),
        "false_positive_rate": _number(_share(part.weight, ~part.fraud & hit, ~part.fraud)),
        "roc_auc": _number(auc(part.fraud, part.score, part.weight)),
    }  # fmt: skip


def first_frauds(judged: Judged, at: float) -> dict[str, float | int | None]:
    """Recall on the first fraud of each entity, when nothing bad was known of it, beside that on all later ones.

    >>> ts, fraud = np.arange(4), np.array([True, True, False, True])
    >>> j = Judged(ts, fraud, np.array([0.1, 0.9, 0.1, 0.8]), np.ones(4), np.ones(4), entity=np.array([1, 1, 2, 3]))
    >>> first_frauds(j, 0.5)
    {'entities': 2, 'first': 0.5, 'later': 1.0}
    """
    assert judged.entity is not None
    rows = np.flatnonzero(judged.fraud & (judged.entity != 0))
    rows = rows[np.lexsort((judged.ts[rows], judged.entity[rows]))]
    who = judged.entity[rows]
    first = np.append(True, who[1:] != who[:-1]) if len(rows) else np.zeros(0, bool)
    hit = judged.score[rows] >= at
    mean = lambda part: _number(float(hit[part].mean())) if part.any() else None  # noqa: E731
    return {"entities": int(first.sum()), "first": mean(first), "later": mean(~first)}


# --- what to do at which score


def cheapest(judged: Judged, policy: Policy) -> dict[str, Any]:
    """Scores from which to challenge, review and deny, by what mistakes cost; set on the earlier days, judged on the later ones.

    A fraud costs its amount unless stopped (a challenge stops `challenge_stop_rate`), a wrongly challenged or denied customer
    `friction_cost`, a review `review_cost`; reviews stay within `review_capacity_per_day`, by a price on each that rises until they do.
    """
    if not judged.fraud.any():
        return {"thresholds": {}, "why": "no fraud"}
    middle = np.median(judged.ts)
    early = judged.take(judged.ts < middle) if np.ptp(judged.ts) else judged
    late = judged.take(judged.ts >= middle) if np.ptp(judged.ts) else judged
    if not early.fraud.any() or not late.fraud.any():
        return {
            "thresholds": {},
            "why": "too few frauds to set thresholds on one half of the days and judge them on the other",
        }
    days = max(len(np.unique(early.ts // DAY_MS)), 1)
    room = np.inf if policy.review_capacity_per_day is None else policy.review_capacity_per_day * days
    bounds, price = within(early, policy, room)
    found = _saved(late, bounds, policy)
    single = {n: _saved(late, within(early, policy, room, (STEPS[0], n))[0], policy)["net_saving"] for n in STEPS[1:]}
    return {"thresholds": {k: _number(v) for k, v in bounds.items()}, "review_price": price, "later_days": found, "net_saving_of_one_action": single}  # fmt: skip


def within(
    judged: Judged, policy: Policy, room: float, steps: tuple[str, ...] = STEPS
) -> tuple[dict[str, float], float]:
    """(the best steps with at most `room` reviews, the price on a review that keeps to it: 0 when there is room for all)."""
    fits = lambda bounds: _saved(judged, bounds, policy)["reviews"] <= room  # noqa: E731
    bounds = best_steps(judged, policy, 0.0, steps)
    if fits(bounds):
        return bounds, 0.0
    low, high = 0.0, max(policy.review_cost, 1.0)
    while not fits(bounds := best_steps(judged, policy, high, steps)):
        low, high = high, 2 * high
    for _ in range(10):
        middle = (low + high) / 2
        tried = best_steps(judged, policy, middle, steps)
        low, high, bounds = (low, middle, tried) if fits(tried) else (middle, high, bounds)
    return bounds, high


def gains(judged: Judged, policy: Policy, review_price: float = 0.0) -> Mapping[str, np.ndarray]:
    """Per action: float64[n], money saved by meeting each event with it, against letting it through."""
    w, bad = judged.weight, judged.fraud
    lost = np.where(bad, w * np.nan_to_num(judged.amount), 0.0)
    friction = np.where(bad, 0.0, w * policy.friction_cost)
    return {
        "allow": np.zeros(len(judged)), "challenge": lost * policy.challenge_stop_rate - friction,
        "review": lost - w * (policy.review_cost + review_price), "deny": lost - friction,
    }  # fmt: skip


def best_steps(judged: Judged, policy: Policy, review_price: float, steps: tuple[str, ...] = STEPS) -> dict[str, float]:
    """The lowest score of each action of a policy that saves most, actions growing with the score; those not worth it are absent.

    >>> scores = np.linspace(0, 1, 200)
    >>> j = Judged(np.arange(200), scores > 0.7, scores, np.ones(200), np.full(200, 50.0))
    >>> [(name, round(at, 2)) for name, at in best_steps(j, Policy(friction_cost=5, review_cost=3), 0.0).items()]
    [('deny', 0.69)]
    """
    edges = np.unique(np.quantile(judged.score, 1 - np.geomspace(1e-4, 1, BINS)))
    place = np.searchsorted(edges, judged.score, side="right") - 1
    place = np.clip(place, 0, len(edges) - 1)
    saved = np.stack([np.bincount(place, gain, len(edges)) for gain in gains(judged, policy, review_price).values()])
    saved = saved[[STEPS.index(s) for s in steps]]
    best, came = saved[:, 0].copy(), np.zeros((len(steps), len(edges)), np.int64)
    for b in range(1, len(edges)):
        came[:, b] = [int(np.argmax(best[: k + 1])) for k in range(len(steps))]
        best = best[came[:, b]] + saved[:, b]
    k, bounds = int(np.argmax(best)), {}
    for b in range(len(edges) - 1, -1, -1):
        bounds[steps[k]] = float(edges[b])
        k = int(came[k, b]) if b else k
    bounds.pop("allow", None)
    return {name: bounds[name] for name in steps if name in bounds}


def _saved(judged: Judged, bounds: Mapping[str, float], policy: Policy) -> dict[str, float]:
    """Net saving, value stopped, insults and reviews of the policy on these events."""
    step = np.zeros(len(judged), np.int64)
    for name in STEPS[1:]:
        if name in bounds:
            step[judged.score >= bounds[name]] = STEPS.index(name)
    each = np.stack(list(gains(judged, policy).values()))
    w, value = judged.weight, np.nan_to_num(judged.amount) * judged.fraud * judged.weight
    stops = np.array([0.0, policy.challenge_stop_rate, 1.0, 1.0])[step]
    disturbed = np.isin(step, (1, 3)) & ~judged.fraud
    return {
        "net_saving": round(float(each[step, np.arange(len(judged))].sum()), 2), "lost_without": round(float(value.sum()), 2),
        "capture_by_value": round(float((value * stops).sum() / max(value.sum(), 1e-300)), 4), "insults": round(float(w[disturbed].sum()), 1),
        "insult_rate": round(float(w[disturbed].sum() / max(w[~judged.fraud].sum(), 1e-300)), 6), "reviews": round(float(w[step == 2].sum()), 1),
    }  # fmt: skip
