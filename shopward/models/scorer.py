"""What the decision path asks of a model: the one protocol that every kind of model speaks, from logistic regression to networks.

    features as of the event -> matrix [names, events] -> score (a calibrated probability) -> risk (0-1000) -> reasons

A scorer is loaded, frozen and pure: a score depends on its own column of the matrix alone, bit for bit, so that one event, a
micro-batch and a replay agree. That fixes the order of every sum: add up over features or trees one after another, never with
`@`, `dot` or `sum`, whose order changes with the shape. Models read features and fields; they never read what rules did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import msgspec
import numpy as np

from shopward.errors import BadData

MAX_RISK = 1000.0
MOST_REASONS = 5


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that moved a score: `contribution` in log odds (above 0: towards fraud), `value` as the model saw it.

    `what` is a phrase in the words of the feature, `usual` what its value normally is (a number, a range, None when unknown).

    >>> Reason(feature="card_failed_1h", value=6.0, contribution=1.7, what="card_failed_1h = 6 (usually 0)", usual=0.0).what
    'card_failed_1h = 6 (usually 0)'
    """

    feature: str
    value: float | str | None
    contribution: float
    what: str
    usual: float | tuple[float, float] | str | None = None


@runtime_checkable
class Scorer(Protocol):
    """A loaded model.

    name        what rules call it: `model("name")`
    version     a hash of its content; two scorers with the same version give the same scores
    features    what it reads, in the order of the matrix' rows: features of the rulebook, or fields of events. Numbers, money
                (in major units), decimals, times (ms) come as they are, true and false as 1 and 0, missing as NaN
    categories  for each of `features` that is a text (`type` is one): the texts it knows. The matrix holds the position of the
                text there; -1 for any other text; NaN when it is missing
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def features(self) -> Sequence[str]: ...

    @property
    def categories(self) -> Mapping[str, Sequence[str]]: ...

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """Calibrated probabilities float64[n] of fraud from matrix float64[len(features), n] (C-contiguous, not to be changed).

        NaN where the model has nothing to say; that is null to rules.
        """
        ...

    def risk(self, scores: np.ndarray) -> np.ndarray:
        """Scores float64[n] as float64[n] from 0 to 1000, calibrated to the false-positive rate (900 = 2 %, 950 = 1 %, 975 = 0.5 %).

        It never falls when the score rises, and NaN stays NaN.
        """
        ...

    def explain(self, row: np.ndarray) -> Sequence[Reason]:
        """What moved the score of one event most, strongest first, at most five; row float64[len(features)]."""
        ...


@dataclass(frozen=True)
class Linear:
    """Logistic regression over standardised features: the smallest complete scorer, and the one to copy.

    weights    per feature, in log odds for each `spread` away from `usual`; a missing value counts as usual
    bends      (score, risk) points between which risk is a straight line, the first at score 0, the last at score 1

    >>> model = Linear("payments", ("amount", "card_failed_1h"), (0.8, 1.5), bias=-4.0, usual=(40.0, 0.0), spread=(60.0, 1.0))
    >>> model.score(np.array([[40.0, 400.0], [0.0, 3.0]])).round(3).tolist()
    [0.018, 0.995]
    >>> [reason.what for reason in model.explain(np.array([400.0, 3.0]))]
    ['amount = 400 (usually 40)', 'card_failed_1h = 3 (usually 0)']
    """

    name: str
    features: tuple[str, ...]
    weights: tuple[float, ...]
    bias: float = 0.0
    usual: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    bends: tuple[tuple[float, float], ...] = ((0.0, 0.0), (1.0, MAX_RISK))
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    version: str = ""

    def __post_init__(self) -> None:
        d = len(self.features)
        for name in ("weights", "usual", "spread"):
            if len(getattr(self, name)) not in (d, 0 if name != "weights" else d):
                raise BadData(f"model `{self.name}`: {len(getattr(self, name))} {name} for {d} features")
        if not self.version:
            object.__setattr__(self, "version", content_version(self))

    def score(self, matrix: np.ndarray) -> np.ndarray:
        total = np.full(matrix.shape[1], self.bias)
        for k in range(len(self.features)):
            total += self._part(k, matrix[k])
        return 1.0 / (1.0 + np.exp(-total))

    def risk(self, scores: np.ndarray) -> np.ndarray:
        return np.interp(scores, *np.array(self.bends).T)

    def explain(self, row: np.ndarray) -> list[Reason]:
        parts = [(float(self._part(k, row[k : k + 1])[0]), k) for k in range(len(self.features))]
        strongest = sorted((p for p in parts if p[0] != 0.0), key=lambda p: (-abs(p[0]), p[1]))[:MOST_REASONS]
        return [self._reason(k, float(row[k]), part) for part, k in strongest]

    def _part(self, k: int, values: np.ndarray) -> np.ndarray:
        usual, spread = self.usual[k] if self.usual else 0.0, self.spread[k] if self.spread else 1.0
        return np.where(np.isnan(values), 0.0, (values - usual) / spread) * self.weights[k]

    def _reason(self, k: int, value: float, part: float) -> Reason:
        name, usual = self.features[k], self.usual[k] if self.usual else None
        said = f"{name} = {value:g}" + ("" if usual is None else f" (usually {usual:g})")
        return Reason(feature=name, value=value, contribution=part, what=said, usual=usual)


def content_version(model: Linear) -> str:
    """The first 12 hex digits of SHA-256 over everything that decides about scores, risk and reasons."""
    from hashlib import sha256

    parts = [getattr(model, n) for n in ("features", "weights", "bias", "usual", "spread", "bends")]
    known = {name: list(texts) for name, texts in sorted(model.categories.items())}
    return sha256(msgspec.json.encode([*parts, known])).hexdigest()[:12]
