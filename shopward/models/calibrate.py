"""From raw scores (log odds of some kind) to a probability that means what it says, and a risk that means a false-positive rate."""

from __future__ import annotations

import numpy as np

RISK_OF_FPR = ((1.0, 0.0), (0.5, 300.0), (0.2, 550.0), (0.1, 700.0), (0.05, 800.0), (0.02, 900.0), (0.01, 950.0),
               (0.005, 975.0), (0.002, 985.0), (0.001, 990.0))  # fmt: skip


def platt(raw: np.ndarray, fraud: np.ndarray, weight: np.ndarray | None = None) -> tuple[float, float]:
    """(slope, shift) such that 1 / (1 + exp(-(slope * raw + shift))) is the probability of fraud; the order of scores stays.

    Newton's method with Platt's prior counts (Platt 1999, Lin et al. 2007). Without both classes: (1, 0).

    >>> raw = np.array([-2.0, -1.0, 0.0, 1.0, 2.0] * 40)
    >>> slope, shift = platt(raw, np.array([0, 0, 0, 1, 1] * 40, bool))
    >>> bool(slope > 1 and abs((1 / (1 + np.exp(-(slope * raw + shift)))).mean() - 0.4) < 0.01)
    True
    """
    fraud = np.asarray(fraud, bool)
    weight = np.ones(len(raw)) if weight is None else weight
    positive, negative = weight[fraud].sum(), weight[~fraud].sum()
    if positive <= 0 or negative <= 0 or np.ptp(raw) == 0:
        return 1.0, 0.0
    target = np.where(fraud, (positive + 1) / (positive + 2), 1 / (negative + 2))
    centre, spread = float(raw.mean()), float(raw.std()) or 1.0
    x = (raw - centre) / spread
    slope, shift = 1.0, float(np.log(positive / negative))
    for _ in range(100):
        p = 1 / (1 + np.exp(-(slope * x + shift)))
        grad, curve = weight * (p - target), weight * p * (1 - p) + 1e-12
        g = np.array([(grad * x).sum(), grad.sum()])
        h = np.array([[(curve * x * x).sum() + 1e-9, (curve * x).sum()], [(curve * x).sum(), curve.sum() + 1e-9]])
        step = np.clip(np.linalg.solve(h, g), -2, 2)
        slope, shift = slope - step[0], shift - step[1]
        if np.abs(step).max() < 1e-9:
            break
    slope = max(slope, 1e-3)  # a model no better than chance must not turn around
    return float(slope / spread), float(shift - slope * centre / spread)


def risk_bends(score: np.ndarray, fraud: np.ndarray, weight: np.ndarray | None = None) -> list[tuple[float, float]]:
    """(score, risk) points, rising from (0, 0) to (1, 1000): risk 900 is the score that 2 % of legitimate events reach, 950 1 %, 975 0.5 %.

    >>> legit = np.linspace(0, 0.5, 10_001)
    >>> bends = risk_bends(legit, np.zeros(10_001, bool))
    >>> float(np.interp(0.495, *np.array(bends).T).round(1))
    950.0
    """
    legit = np.sort(score[~np.asarray(fraud, bool)]) if weight is None else None
    if legit is None:
        keep = ~np.asarray(fraud, bool)
        order = np.argsort(score[keep])
        legit, w = score[keep][order], weight[keep][order]  # type: ignore[index]
        share = np.cumsum(w) / max(w.sum(), 1e-300)
    else:
        share = np.arange(1, len(legit) + 1) / max(len(legit), 1)
    bends = [(0.0, 0.0)]
    for fpr, risk in RISK_OF_FPR[1:]:
        if len(legit) * fpr < 1:
            break
        at = min(int(np.searchsorted(share, 1 - fpr)), len(legit) - 1)
        if legit[at] > bends[-1][0] and legit[at] < 1:
            bends.append((float(legit[at]), risk))
        elif legit[at] < 1:
            bends[-1] = (bends[-1][0], risk if len(bends) > 1 else 0.0)
    return [*bends, (1.0, 1000.0)]
