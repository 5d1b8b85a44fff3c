"""Logistic regression as a scorer: the smallest complete model, and the one to copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from shopward.errors import BadData
from shopward.models.scorer import MAX_RISK, MOST_REASONS, Reason


@dataclass(frozen=True)
class Linear:
    """Log odds are a weighted sum over standardised features.

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

    numbers = [[float(x) for x in getattr(model, name)] for name in ("weights", "usual", "spread")]
    bends = [[float(score), float(risk)] for score, risk in model.bends]
    parts = [list(model.features), *numbers, float(model.bias), bends]
    known = {name: list(texts) for name, texts in sorted(model.categories.items())}
    return sha256(msgspec.json.encode([*parts, known])).hexdigest()[:12]


class Card(msgspec.Struct, forbid_unknown_fields=True):
    """`model.json` of this kind."""

    kind: str
    name: str
    features: list[str]
    weights: list[float]
    bias: float = 0.0
    usual: list[float] = []
    spread: list[float] = []
    bends: tuple[tuple[float, float], ...] = ((0.0, 0.0), (1.0, MAX_RISK))
    categories: dict[str, list[str]] = {}


def write(model: Linear, folder: Path) -> None:
    """Keep a model in a folder, for `read`."""
    folder.mkdir(parents=True, exist_ok=True)
    card = {"kind": "linear", "categories": {k: list(v) for k, v in model.categories.items()}}
    card |= {name: getattr(model, name) for name in ("name", "features", "weights", "bias", "usual", "spread", "bends")}
    (folder / "model.json").write_bytes(msgspec.json.format(msgspec.json.encode(card), indent=1))


def read(folder: Path, card: dict[str, Any]) -> Linear:
    """The model in a folder, given what its `model.json` says."""
    try:
        c = msgspec.convert(card, Card)
    except msgspec.ValidationError as error:
        raise BadData(f"{folder / 'model.json'}: {error}") from None
    return Linear(
        c.name, tuple(c.features), tuple(c.weights), bias=c.bias, usual=tuple(c.usual), spread=tuple(c.spread),
        bends=c.bends, categories=c.categories,
    )  # fmt: skip
