"""What a backtest found, as one JSON object: the policy, every rule, event types, segments, days, and what could not be judged."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from math import isfinite
from typing import Any

import numpy as np

from shopward import metrics
from shopward.backtest.judge import DAY_MS, Judged
from shopward.backtest.replay import History
from shopward.backtest.worth import Worth, alone_saving, margin_saving, worth
from shopward.declare.types import ACTIONS, Policy, Rule

LAST_DAYS = 7  # a rule's drift compares the last days with all before
DRIFT_FACTOR = 2.0
DRIFT_SURE = 4.0  # standard deviations of a Poisson count
WITH_INTERVALS = ("capture", "capture_by_value", "precision", "insult_rate", "review_rate", "loss_bps", "net_saving")


def report(history: History, judged: Judged) -> dict[str, Any]:
    """The findings of one replay, ready for JSON (NaN becomes null)."""
    daily = _daily(history, judged)
    found = worth(history, judged)
    out = {
        "rulebook_version": history.version,
        "currency": history.policy.base_currency,
        "policy": policy_part(history, judged, daily),
        "rules": [_rule(history, judged, found, daily, i) for i in range(len(history.rules))],
        "overlap": {"rules": [r.id for r in history.rules], "both_fired": found.overlap.tolist()},
        "types": _by(history, judged, history.types, list(history.schema.types)),
        "segments": {s.field: _by(history, judged, s.codes, s.words) for s in history.segments},
        "days": _days(history, judged, daily),
        "labels": _labels(judged),
        "control": _control(history, judged),
        "model": _model(history, judged),
        "bias": bias(history, judged),
        "dead_letters": history.dead_letters,
        "dead_reasons": history.dead_reasons,
        "notes": history.notes,
    }
    return plain(out)


def plain(value: Any) -> Any:
    """The same in the types of JSON: numpy numbers as numbers, what is not finite as null, rounded to what can be meant."""
    if isinstance(value, np.ndarray) and not value.ndim:
        return plain(value.item())
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(v) for v in value]
    if isinstance(value, np.integer | bool | int):
        return int(value) if not isinstance(value, bool) else value
    if isinstance(value, float | np.floating):
        return float(f"{value:.10g}") if isfinite(value) else None
    return value


def day_text(day: int) -> str:
    """A day since 1970 as YYYY-MM-DD."""
    return str(np.datetime64(int(day), "D"))


def moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# ---- the policy as a whole


def _daily(history: History, judged: Judged) -> np.ndarray:
    action = history.action[judged.rows]
    return metrics.tally(
        action, judged.fraud, judged.amount, history.policy, judged.day - judged.first_day, judged.days
    )


def policy_part(history: History, judged: Judged, daily: np.ndarray) -> dict[str, Any]:
    """The policy's metrics, with confidence intervals by day."""
    sums = daily.sum(axis=0)
    rows, policy = judged.rows, history.policy
    entity, ts, action = history.entity[rows], history.ts[rows], history.action[rows]
    waits = metrics.time_to_detect(entity, ts, action, judged.fraud)
    seen = waits[np.isfinite(waits)]
    return {
        "events": judged.counts["events"],
        "judged": len(rows),
        **{name: metrics.column(sums, name) for name in ("fraud", "fraud_value", "value", "stopped_value", "lost_value", "insults", "flagged")},
        **metrics.rates_of(sums, policy),
        "actions": dict(zip(ACTIONS, np.bincount(action, minlength=len(ACTIONS)), strict=True)),
        "first_fraud_recall": metrics.first_fraud_recall(entity, ts, action, judged.fraud, policy),
        "entities_with_fraud": len(waits),
        "entities_detected": len(seen),
        "time_to_detect_s": float(np.median(seen)) if len(seen) else float("nan"),
        "entity": history.role,
        "intervals": _intervals(daily, policy),
        "reviews_per_day": _reviews(daily, policy),
    }  # fmt: skip


def _intervals(daily: np.ndarray, policy: Policy) -> dict[str, tuple[float, float]]:
    def measure(name: str, sums: np.ndarray) -> np.ndarray:
        return metrics.saving(sums, policy) if name == "net_saving" else metrics.rate(sums, name)

    return {name: metrics.day_interval(daily, partial(measure, name)) for name in WITH_INTERVALS}


def _reviews(daily: np.ndarray, policy: Policy) -> dict[str, Any]:
    reviews = metrics.column(daily, "reviewed")
    capacity = policy.review_capacity_per_day
    over = None if capacity is None else int((reviews > capacity).sum())
    return {"mean": reviews.mean(), "most": reviews.max(), "capacity": capacity, "days_over_capacity": over}


# ---- rule by rule


def _rule(history: History, judged: Judged, found: Worth, daily: np.ndarray, i: int) -> dict[str, Any]:
    rule, policy = history.rules[i], history.policy
    alone, margin = found.alone[i], found.margin[i]
    fired, fraud, fraud_value, _ = alone.sum(axis=0)
    sums = daily.sum(axis=0)
    frauds, fraud_total, honest = (float(metrics.column(sums, n)) for n in ("fraud", "fraud_value", "legitimate"))
    share = float(metrics.stopped_share(np.array([ACTIONS.index(rule.then)]), policy)[0])
    disturbs = rule.then in ("challenge", "hold", "deny")
    whole = int((history.hits[:, i // 64] >> np.uint64(i % 64) & np.uint64(1)).sum())
    return {
        "id": rule.id,
        "title": rule.title,
        "then": rule.then,
        "state": rule.state,
        "fired": whole,
        "judged": fired,
        "fraud": fraud,
        "fraud_value": fraud_value,
        "precision": _over(fraud, fired),
        "capture": _over(fraud * share, frauds),
        "capture_by_value": _over(fraud_value * share, fraud_total),
        "insult_rate": _over((fired - fraud) * disturbs, honest),
        "net_saving": float(alone_saving(alone.sum(axis=0), rule.then, policy)),
        "marginal_net_saving": float(margin_saving(margin.sum(axis=0), policy)),
        "decides": margin[:, 0].sum(),
        "marginal_stopped_value": margin[:, 2].sum(),
        "marginal_insults": margin[:, 3].sum(),
        "marginal_reviews": margin[:, 4].sum(),
        "intervals": {
            "precision": metrics.day_interval(alone, lambda s: np.divide(s[:, 1], s[:, 0], out=np.full(len(s), np.nan), where=s[:, 0] > 0)),
            "marginal_net_saving": metrics.day_interval(margin, lambda s: margin_saving(s, policy)),
        },
        "drift": _drift(alone[:, 0], metrics.column(daily, "events")),
        "status": _status(rule, whole, fired, margin[:, 0].sum(), alone[:, 0]),
        "per_day": alone[:, 0],
    }  # fmt: skip


def _over(a: float, b: float) -> float:
    return a / b if b > 0 else float("nan")


def _drift(fired: np.ndarray, events: np.ndarray) -> dict[str, Any]:
    """How often a rule fires lately against before; `drifts` when the factor is large and chance would not do it."""
    if len(fired) < 2 * LAST_DAYS or fired.sum() == 0:
        return {"before": None, "lately": None, "factor": None, "drifts": False}
    now, then = fired[-LAST_DAYS:].sum(), fired[:-LAST_DAYS].sum()
    n_now, n_then = events[-LAST_DAYS:].sum(), events[:-LAST_DAYS].sum()
    before, lately = _over(then, n_then), _over(now, n_now)
    expected = before * n_now
    sure = abs(now - expected) > DRIFT_SURE * max(expected, 1.0) ** 0.5
    factor = _over(lately, before)
    far = not isfinite(factor) or factor >= DRIFT_FACTOR or factor <= 1 / DRIFT_FACTOR
    return {"before": before, "lately": lately, "factor": factor, "drifts": bool(sure and far)}


def _status(rule: Rule, whole: int, judged: float, decides: float, per_day: np.ndarray) -> str:
    """One word on whether the rule is alive.

    dead: never fired.  silent: not in the last week.  unjudged: fired, but not on anything that can be judged yet.
    shadow: has no say.  covered: whenever it fired, others led to the same action.  alive: it decides.
    """
    if not whole:
        return "dead"
    if not judged:
        return "unjudged"
    if rule.state != "live":
        return "shadow"
    if not decides:
        return "covered"
    return "silent" if len(per_day) > LAST_DAYS and not per_day[-LAST_DAYS:].any() else "alive"


# ---- parts of the history


def _by(history: History, judged: Judged, codes: np.ndarray, words: list[str]) -> list[dict[str, Any]]:
    rows = judged.rows
    sums = metrics.tally(
        history.action[rows], judged.fraud, judged.amount, history.policy, codes[rows].astype(np.int64), len(words)
    )
    return [
        {"name": words[i], **_counts(sums[i]), **metrics.rates_of(sums[i], history.policy)}
        for i in np.argsort(-sums[:, 0], kind="stable")
        if sums[i, 0]
    ]


def _counts(sums: np.ndarray) -> dict[str, float]:
    return {name: float(metrics.column(sums, name)) for name in ("events", "fraud", "fraud_value", "value")}


def _days(history: History, judged: Judged, daily: np.ndarray) -> list[dict[str, Any]]:
    first = int(history.ts.min()) // DAY_MS
    whole = np.bincount(history.ts // DAY_MS - first)
    out = []
    for i, events in enumerate(whole):
        at = first + i - judged.first_day
        sums = daily[at] if 0 <= at < judged.days else np.zeros(daily.shape[1])
        out.append({
            "day": day_text(first + i), "events": int(events), "judged": sums[0],
            "fraud": metrics.column(sums, "fraud"), "fraud_value": metrics.column(sums, "fraud_value"),
            "stopped_value": metrics.column(sums, "stopped_value"), "reviews": metrics.column(sums, "reviewed"),
            **{n: float(metrics.rate(sums, n)) for n in ("capture", "capture_by_value", "precision", "insult_rate", "loss_bps")},
            "net_saving": float(metrics.saving(sums, history.policy)),
        })  # fmt: skip
    return out


def _labels(judged: Judged) -> dict[str, Any]:
    ages = np.array([0.0, 1, 2, 3, 5, 7, 10, 14, 21, 30, 45, 60, 90, 120, 180])
    return {
        **judged.counts,
        "maturity_days": judged.maturity_ms / DAY_MS,
        "maturity_from": judged.maturity_from,
        "as_of": moment(judged.as_of),
        "arrival": {"age_days": ages, "share": metrics.label_maturity(judged.delays, ages)},
    }


def _control(history: History, judged: Judged) -> dict[str, Any] | None:
    """What the policy would have done with the events it let through on purpose: the only unbiased sight of it."""
    mine = np.flatnonzero(history.control[judged.rows])
    if not len(mine):
        return None
    rows, day = judged.rows[mine], judged.day[mine] - judged.first_day
    daily = metrics.tally(
        history.action[rows], judged.fraud[mine], judged.amount[mine], history.policy, day, judged.days
    )
    sums = daily.sum(axis=0)
    return {**_counts(sums), **metrics.rates_of(sums, history.policy), "intervals": _intervals(daily, history.policy)}


def _model(history: History, judged: Judged) -> dict[str, Any] | None:
    """How well the score tells fraud from the rest."""
    if history.score is None or not np.isfinite(history.score[judged.rows]).any():
        return None
    known = np.isfinite(history.score[judged.rows])
    rows, fraud, day = judged.rows[known], judged.fraud[known], judged.day[known]
    score = history.score[rows]
    half = len(score) // 2
    top, ceiling = metrics.precision_at_k(day, fraud, score, 100)
    mean, share, n = metrics.calibration(fraud, score)
    return {
        "events": len(score),
        "auc": metrics.roc_auc(fraud, score),
        "average_precision": metrics.average_precision(fraud, score),
        "gini": metrics.gini(fraud, score),
        "ks": metrics.ks(fraud, score),
        "recall_at_fpr": {str(f): metrics.recall_at_fpr(fraud, score, f) for f in (0.001, 0.005, 0.01, 0.02)},
        "precision_at_100_a_day": top,
        "precision_at_100_ceiling": ceiling,
        "calibration_error": metrics.calibration_error(fraud, score),
        "calibration": {"score": mean, "fraud": share, "events": n},
        "psi_second_half": metrics.psi(score[:half], score[half:]),
    }


def bias(history: History, judged: Judged) -> str:
    """What must be said about labels of events that are not let through."""
    blocked = int((history.action[judged.rows] >= metrics.HOLD).sum())
    said = (
        f"{blocked:,} of the judged events would be held or denied. Where production really blocked an event, nobody learns whether it was fraud: "
        "its label is missing or somebody's guess, so precision looks better or worse than it is."
    )
    if history.policy.control_percent > 0:
        n = int(history.control[judged.rows].sum())
        return f"{said} The control group ({history.policy.control_percent:g} % let through, {n:,} judged events) is free of this; see the control group."
    return f"{said} There is no control group (control_percent in policy.yaml is 0); with 1 % this could be measured."
