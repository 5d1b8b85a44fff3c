"""What the decision path asks of a model: the one protocol that every kind of model speaks, from logistic regression to networks.

    features as of the event -> matrix [names, events] -> score (a calibrated probability) -> risk (0-1000) -> reasons

A scorer is loaded, frozen and pure: a score depends on its own column of the matrix alone, bit for bit, so that one event, a
micro-batch and a replay agree. That fixes the order of every sum: add up over features or trees one after another, never with
`@`, `dot` or `sum`, whose order changes with the shape. Models read features and fields; they never read what rules did.

A scorer that has a `past` (`history.Past`) reads the last events of an entity, too: it is called as `score(matrix, past)` with
float32[n, steps + 1, values], and as `explain(row, past)` with those of one event (see `pasts.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec
import numpy as np

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
