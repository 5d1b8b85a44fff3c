"""How good a score is on rows that stand for others: what `metrics.py` measures, where legitimate events were sampled and weigh more."""

from __future__ import annotations

import numpy as np

FPRS = (0.001, 0.005, 0.01, 0.05)


def curve(fraud: np.ndarray, score: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(weight of frauds, weight of legitimate rows, threshold) at or above every distinct score, strictest first."""
    order = np.argsort(-score, kind="stable")
    s, f, w = score[order], fraud[order], weight[order]
    last = np.append(np.flatnonzero(s[1:] != s[:-1]), len(s) - 1) if len(s) else np.empty(0, np.int64)
    return np.cumsum(w * f)[last], np.cumsum(w * ~f)[last], s[last]


def average_precision(fraud: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Precision averaged over recall by steps; NaN without a fraud.

    >>> average_precision(np.array([True, False, True]), np.array([0.9, 0.8, 0.7]), np.array([1.0, 2.0, 1.0]))
    0.75
    """
    fraud = np.asarray(fraud, bool)
    if not fraud.any():
        return float("nan")
    hit, miss, _ = curve(fraud, score, np.ones(len(score)) if weight is None else weight)
    return float((np.diff(hit, prepend=0) * (hit / (hit + miss))).sum() / hit[-1])


def auc(fraud: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Area under the ROC curve, ties counting half; NaN with one class only."""
    fraud = np.asarray(fraud, bool)
    if not fraud.any() or fraud.all():
        return float("nan")
    hit, miss, _ = curve(fraud, score, np.ones(len(score)) if weight is None else weight)
    height = (hit + np.concatenate([[0.0], hit[:-1]])) / 2
    return float((np.diff(miss, prepend=0) * height).sum() / (hit[-1] * miss[-1]))


def threshold_at(fraud: np.ndarray, score: np.ndarray, weight: np.ndarray, fpr: float) -> float:
    """The lowest score such that the rows at or above it wrong at most `fpr` of legitimate ones (inf when none does)."""
    _, miss, at = curve(np.asarray(fraud, bool), score, weight)
    if not len(miss):
        return float("inf")
    fine = np.flatnonzero(miss <= fpr * miss[-1] * (1 + 1e-12))
    return float(at[fine[-1]]) if len(fine) else float("inf")


def summary(fraud: np.ndarray, score: np.ndarray, weight: np.ndarray, amount: np.ndarray) -> dict[str, float | None]:
    """The numbers of a card: ranking, and what is found, by count and by value, at usual false-positive rates."""
    fraud = np.asarray(fraud, bool)
    out: dict[str, float | None] = {
        "rows": float(len(fraud)), "frauds": float(fraud.sum()), "fraud_rate": float(fraud.sum() / max(weight.sum(), 1e-300)),
        "average_precision": average_precision(fraud, score, weight), "roc_auc": auc(fraud, score, weight),
    }  # fmt: skip
    for fpr in FPRS if fraud.any() and not fraud.all() else ():
        found = fraud & (score >= threshold_at(fraud, score, weight, fpr))
        value = float((amount * fraud).sum())
        out[f"recall_at_{100 * fpr:g}%_fpr"] = float(found.sum() / fraud.sum())
        out[f"value_recall_at_{100 * fpr:g}%_fpr"] = float((amount * found).sum() / value) if value > 0 else None
    return {k: None if v is None or np.isnan(v) else round(v, 6) for k, v in out.items()}
