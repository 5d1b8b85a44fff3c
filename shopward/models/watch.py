"""What models lately read and said, kept small enough for a server: drift of features and scores, and what the scores promise.

Every EVERY-th event goes into a ring of KEPT rows a model, so that watching costs a copy of one row now and then; the sums are made
when somebody asks, on the page that Prometheus reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from shopward.models.monitor import drift, expected_precision

if TYPE_CHECKING:
    from shopward.models.panel import Panel

KEPT, EVERY, LEAST = 2048, 4, 200  # rows kept, one in so many, rows below which nothing is said
MOST_TOLD = 25  # features a model, the most drifted first
Family = tuple[str, str, dict[str, float]]  # name, help, labels -> value


class Ring:
    """The latest rows a model read (float64[d]) and what it said about them.

    >>> ring = Ring(1)
    >>> for i in range(10):
    ...     ring.add(np.array([[float(i)]]), np.array([0.5]))
    >>> ring.asked, ring.rows()[0].ravel().tolist()
    (10, [0.0, 4.0, 8.0])
    """

    def __init__(self, width: int):
        self.seen = np.empty((KEPT, width + 1))
        self.asked = self.kept = 0

    def add(self, matrix: np.ndarray, scores: np.ndarray) -> None:
        """Rows float64[d, n] as they were read, and their scores float64[n]."""
        n = len(scores)
        first = -self.asked % EVERY
        self.asked += n
        if first >= n:
            return
        chosen = np.arange(first, n, EVERY)[-KEPT:]
        place = (self.kept + np.arange(len(chosen))) % KEPT
        self.seen[place, :-1] = matrix[:, chosen].T
        self.seen[place, -1] = scores[chosen]
        self.kept += len(chosen)

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """(float64[m, d], scores float64[m]) of the rows kept, in no order."""
        held = self.seen[: min(self.kept, KEPT)]
        return held[:, :-1].copy(), held[:, -1].copy()


def families(panel: Panel) -> Iterator[Family]:
    """Metrics of every model of a rulebook, for Prometheus."""
    names = [f'model="{name}"' for name in panel.names]
    asked = {label: float(ring.asked) for label, ring in zip(names, panel.rings, strict=True)}
    yield "shopward_model_asked", "Events each model was asked about since it was loaded.", asked
    yield (
        "shopward_model_failed",
        "Events a model had no answer for because it failed.",
        {label: float(panel.failed[name]) for label, name in zip(names, panel.names, strict=True)},
    )
    held = {
        label: float(memory.history.memory())
        for label, memory in zip(names, panel.pasts.by_model, strict=True)
        if memory is not None
    }
    if held:
        yield (
            "shopward_model_history_bytes",
            "Memory of the last events that a model reads (equal histories are shared).",
            held,
        )
    told: dict[str, dict[str, float]] = {}
    for k, label in enumerate(names):
        for name, more, value in _told(panel, k):
            told.setdefault(name, {})[label + more] = value
    for name, words in HELP.items():
        if name in told:
            yield f"shopward_model_{name}", words, told[name]


HELP = {
    "mean_score": "Mean score of the latest events.",
    "trained_fraud_rate": "Share of fraud when the model was trained: what the mean score should be near.",
    "expected_precision": "Share of fraud that the scores promise among the highest 1 %.",
    "psi": "Population stability of a feature or the score against training (alarm above 0.25).",
    "ks": "Largest gap between the distributions of then and now.",
    "alarms": "Features and scores that drifted beyond the alarm level.",
    "decayed": "1 when the score itself drifted: judge the model again, or take it back.",
}


def _told(panel: Panel, k: int) -> Iterable[tuple[str, str, float]]:
    """(metric, further labels, value) of one model; little when it says nothing about its training or saw too few events."""
    scorer, (rows, scores) = panel.scorers[k], panel.rings[k].rows()
    fine = ~np.isnan(scores)
    if fine.sum() < LEAST:
        return
    yield "mean_score", "", round(float(scores[fine].mean()), 6)
    yield (
        "expected_precision",
        "",
        round(expected_precision(scores[fine], scores[fine] >= np.quantile(scores[fine], 0.99)), 6),
    )
    profile = getattr(scorer, "profile", None)
    if not profile:
        return
    if (rate := profile.get("", {}).get("fraud_rate")) is not None:
        yield "trained_fraud_rate", "", rate
    found = drift(profile, np.column_stack([rows, scores])[fine], _columns(scorer.features))
    for one in [d for d in found if d.name == SCORE] + [d for d in found if d.name != SCORE][:MOST_TOLD]:
        more = f',feature="{one.name}"'
        yield "psi", more, one.psi
        yield "ks", more, one.ks
    yield "alarms", "", float(sum(one.state == "alarm" for one in found))
    yield "decayed", "", float(any(one.name == SCORE and one.state == "alarm" for one in found))


SCORE = "(score)"


def _columns(features: Sequence[str]) -> list[str]:
    return [*features, SCORE]
