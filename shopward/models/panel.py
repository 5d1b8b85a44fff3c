"""The models of one rulebook, asked about every event between features and rules.

    features and fields of a micro-batch -> one matrix a model -> scores -> who speaks for this event -> score and risk

A model that fails on an event has nothing to say about it (null, counted in `failed`, told once); everything else goes on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from shopward.batch import Batch, Needs
from shopward.errors import BadData, UsageError
from shopward.expr.nodes import MODEL
from shopward.expr.place import suggest
from shopward.models.lanes import Lane, lane_of
from shopward.models.pasts import Pasts
from shopward.models.scorer import MAX_RISK, Reason, Scorer
from shopward.models.watch import Ring

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook
    from shopward.declare.types import ModelUse
    from shopward.features.live import Block

Share = Callable[[str, int], float]  # (name of a rollout, row) -> where the row's subject falls in [0, 100)
NOBODY = -1
FIRST = np.zeros(1, np.int64)  # the row of an event alone


@dataclass(frozen=True, slots=True)
class Said:
    """What the models say about one event; `model` is the champion that spoke. Missing is NaN."""

    score: float
    risk: float
    model: str | None
    each: dict[str, float]
    rows: tuple[tuple[float, ...], ...]  # what each model read
    pasts: tuple[np.ndarray | None, ...] = ()  # and the last events, of those that read them


@dataclass(slots=True)
class Scored:
    """What the models say about a batch: score, risk float64[n]; `who` int8[n] the speaking champion (-1 none), `each` per model."""

    names: tuple[str, ...]
    score: np.ndarray
    risk: np.ndarray
    who: np.ndarray
    each: list[np.ndarray] = field(default_factory=list)
    matrices: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)  # rows of the batch, [features, rows]
    pasts: list[np.ndarray | None] = field(default_factory=list)  # of these rows

    def at(self, row: int) -> Said:
        """The same about one row."""
        who = int(self.who[row])
        each = {name: float(values[row]) for name, values in zip(self.names, self.each, strict=True)}
        places = [_place(rows, row) for rows, _ in self.matrices]
        read = tuple(
            () if at is None else tuple(matrix[:, at].tolist())
            for at, (_, matrix) in zip(places, self.matrices, strict=True)
        )
        pasts = tuple(
            None if at is None or past is None else past[at] for at, past in zip(places, self.pasts, strict=True)
        )
        speaker = None if who == NOBODY else self.names[who]
        return Said(float(self.score[row]), float(self.risk[row]), speaker, each, read, pasts)

    def columns(self) -> dict[str, np.ndarray]:
        """The scores under the names that rules read."""
        named = {MODEL + name: values for name, values in zip(self.names, self.each, strict=True)}
        return {"score": self.score, "risk": self.risk} | named


def _place(rows: np.ndarray, row: int) -> int | None:
    """Where a row of the batch stands among those that a model scored."""
    at = int(np.searchsorted(rows, row))
    return at if at < len(rows) and rows[at] == row else None


class Panel:
    """Loaded scorers in the places that the rulebook gives them.

    pasts    the histories that networks among them read: the only state, moved by every event before it is scored
    failed   how often each model could not say anything because it failed
    """

    def __init__(self, rulebook: Rulebook, scorers: Iterable[Scorer] | Mapping[str, Scorer], seed: bytes):
        given = scorers if isinstance(scorers, Mapping) else {s.name: s for s in scorers}
        self.uses: list[ModelUse] = list(rulebook.models.values())
        self.names = tuple(use.name for use in self.uses)
        _same_names(self.names, given)
        self.scorers = [given[name] for name in self.names]
        self.failed = dict.fromkeys(self.names, 0)
        self.rings = [Ring(len(scorer.features)) for scorer in self.scorers]  # what they lately read and said
        self.schema, self.seed = rulebook.schema, seed
        codes = {name: code for code, name in enumerate(self.schema.types)}
        decided = self.schema.decided
        self.on = [frozenset(codes[t] for t in use.on or decided if t in decided) for use in self.uses]
        self.champions = sorted(
            (k for k, use in enumerate(self.uses) if use.state == "champion"), key=lambda k: self.uses[k].percent
        )
        self.shared = any(self.uses[k].percent < 100 for k in self.champions)
        self.lanes = [_lanes(use, s, rulebook, seed) for use, s in zip(self.uses, self.scorers, strict=True)]
        self.pasts = Pasts(rulebook, self.names, self.scorers, self.on, seed)

    def __bool__(self) -> bool:
        return bool(self.uses)

    @property
    def versions(self) -> dict[str, str]:
        """Which content of each model is in force."""
        return {name: scorer.version for name, scorer in zip(self.names, self.scorers, strict=True)}

    def needs(self) -> Needs:
        """The columns of events that models read themselves."""
        fields = {lane.name: lane.text for lanes in self.lanes for lane in lanes if lane.kind == "field"}
        own = Needs(
            numbers=frozenset(name for name, text in fields.items() if not text),
            hashes=frozenset(name for name, text in fields.items() if text),
        )
        return own | self.pasts.needs()

    # --- a batch

    def score(self, batch: Batch, block: Block, share: Share) -> Scored:
        """Every model on every event of its types."""
        n = batch.n
        found = Scored(self.names, np.full(n, nan), np.full(n, nan), np.full(n, NOBODY, np.int8))
        for k in range(len(self.uses)):
            rows = np.flatnonzero(np.isin(batch.types, list(self.on[k])))
            matrix, past = self._matrix(k, batch, block, rows), self.pasts.of(k, rows)
            each = np.full(batch.n, nan)
            each[rows] = said = self._ask(k, matrix, past)
            self.rings[k].add(matrix, said)
            found.each.append(each)
            found.matrices.append((rows, matrix))
            found.pasts.append(past)
        self._choose(found, share)
        return found

    def _matrix(self, k: int, batch: Batch, block: Block, rows: np.ndarray) -> np.ndarray:
        matrix = np.empty((len(self.lanes[k]), len(rows)))
        for i, lane in enumerate(self.lanes[k]):
            matrix[i] = lane.column(batch, block)[rows]
        return matrix

    def _choose(self, found: Scored, share: Share) -> None:
        """The first champion, smallest share first, that scores this type and whose share holds the subject."""
        for k in self.champions:
            rows = found.matrices[k][0]
            rows = rows[found.who[rows] == NOBODY]
            if self.uses[k].percent < 100:
                rows = np.array([r for r in rows.tolist() if self._speaks(k, r, share)], np.int64)
            found.who[rows] = k
            found.score[rows] = found.each[k][rows]
            found.risk[rows] = self._risk(k, found.score[rows])

    def _speaks(self, k: int, row: int, share: Share) -> bool:
        return share(f"model:{self.names[k]}", row) < self.uses[k].percent

    # --- one event

    def one(self, code: int, rows: tuple[tuple[float, ...], ...], share: Share) -> Said:
        """The same about one event of type `code`, given what each model reads."""
        each = {name: self._alone(k, rows[k]) if code in self.on[k] else nan for k, name in enumerate(self.names)}
        pasts = self._pasts(code) if self.pasts else ()
        for k in self.champions:
            if code in self.on[k] and (self.uses[k].percent >= 100 or self._speaks(k, 0, share)):
                score = each[self.names[k]]
                return Said(score, float(self._risk(k, np.array([score]))[0]), self.names[k], each, rows, pasts)
        return Said(nan, nan, None, each, rows, pasts)

    def _pasts(self, code: int) -> tuple[np.ndarray | None, ...]:
        found = [self.pasts.of(k, FIRST) if code in on else None for k, on in enumerate(self.on)]
        return tuple(None if past is None else past[0] for past in found)

    def _alone(self, k: int, row: tuple[float, ...]) -> float:
        matrix = np.array(row).reshape(-1, 1)
        said = self._ask(k, matrix, self.pasts.of(k, FIRST))
        self.rings[k].add(matrix, said)
        return float(said[0])

    # --- asking

    def _ask(self, k: int, matrix: np.ndarray, past: np.ndarray | None) -> np.ndarray:
        """Scores of a matrix (and the past of each event); where the model fails, each event is asked alone, so that one cannot silence the others."""
        n = matrix.shape[1]
        if not n:
            return np.empty(0)
        try:
            return _probabilities(self.scorers[k].score(matrix, *_given(past)), n)
        except Exception as error:  # noqa: BLE001 - whatever a model does, decisions go on
            if n == 1:
                self._fail(k, error)
                return np.array([nan])
        halves = [(matrix[:, half], None if past is None else past[half]) for half in (slice(n // 2), slice(n // 2, n))]
        return np.concatenate([self._ask(k, np.ascontiguousarray(part), mine) for part, mine in halves])

    def _risk(self, k: int, scores: np.ndarray) -> np.ndarray:
        try:
            risk = np.asarray(self.scorers[k].risk(scores), np.float64)
            if risk.shape != scores.shape:
                raise BadData(f"{risk.shape} risks for {scores.shape} scores")
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(k, error)
            return np.full(len(scores), nan)
        return np.clip(risk, 0.0, MAX_RISK)

    def explain(self, name: str, said: Said) -> Sequence[Reason]:
        """Why a model said what it said of an event."""
        k = self.names.index(name)
        past = said.pasts[k] if said.pasts else None
        try:
            return self.scorers[k].explain(np.array(said.rows[k], np.float64), *_given(past))
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(k, error)
            return ()

    def _fail(self, k: int, error: Exception) -> None:
        name = self.names[k]
        if not self.failed[name]:
            said = f"model `{name}` failed on an event, which is decided without it: {type(error).__name__}: {error}"
            warnings.warn(said, RuntimeWarning, stacklevel=2)
        self.failed[name] += 1


def _given(past: np.ndarray | None) -> tuple[np.ndarray, ...]:
    """What only scorers that read a past are given."""
    return () if past is None else (past,)


def _probabilities(scores: Any, n: int) -> np.ndarray:
    found = np.asarray(scores, np.float64)
    if found.shape != (n,):
        raise BadData(f"scores of shape {found.shape} for {n} events")
    if not np.all(np.isnan(found) | ((found >= 0.0) & (found <= 1.0))):
        raise BadData("a score outside [0, 1]")
    return found


def _same_names(names: tuple[str, ...], given: Mapping[str, Scorer]) -> None:
    for name in names:
        if name not in given:
            raise UsageError(f"the rulebook names model `{name}`, which is not among the given models {sorted(given)}")
    for name in given:
        if name not in names:
            near = suggest(name, names, "the model") if names else ""
            raise UsageError(f"model `{name}` has no place in the rulebook: {near or f'add models/{name}.yaml'}")


def _lanes(use: ModelUse, scorer: Scorer, rulebook: Rulebook, seed: bytes) -> list[Lane]:
    if use.version and not scorer.version.startswith(use.version):
        raise UsageError(f"{use.file}: wants version {use.version} of `{use.name}`, loaded is {scorer.version}")
    return [lane_of(use.name, name, scorer.categories, rulebook, seed) for name in scorer.features]
