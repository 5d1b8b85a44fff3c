"""Small readable rules out of labels: two or three conditions, what they earn on days the search did not see, as drafts with tests.

The days are cut in three. Conditions are searched on the first part by what they add to the rules in force, in money; a rule is kept
when it also earns on the second; what is reported was seen on the third, which nothing was chosen by. Then the next rule is searched
for what is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from shopward import metrics
from shopward.backtest.judge import Judged, judge, label_file
from shopward.backtest.replay import History, replay
from shopward.backtest.report import day_text
from shopward.backtest.worth import _share
from shopward.declare.types import ACTIONS
from shopward.errors import BadData

if TYPE_CHECKING:
    from shopward.decide import Decisions
    from shopward.declare.rulebook import Rulebook

MOST_VALUES = 30_000_000  # feature values held at once: 240 MB
CUTS = 32  # thresholds tried per feature
BEAM = 24  # conjunctions kept at each length
LEAST_FRAUD = 12  # a rule must have seen this many frauds on the days it was searched on
LONGER_IF = 1.05  # another condition must earn this much more
PARTS = (0.6, 0.8)  # where the days are cut
NONE = np.uint8(255)


@dataclass(frozen=True, slots=True)
class Condition:
    """`name >= cut`, or `name < cut`; for yes/no features `name` or `not name`."""

    name: str
    column: int
    at: int  # cuts below or equal
    cut: float
    above: bool
    flag: bool = False

    @property
    def text(self) -> str:
        if self.flag:
            return self.name if self.above else f"not {self.name}"
        return f"{self.name} {'>=' if self.above else '<'} {self.cut:.12g}"

    def holds(self, codes: np.ndarray) -> np.ndarray:
        mine = codes[self.column]
        return (mine >= self.at) & (mine != NONE) if self.above else mine < self.at


@dataclass(slots=True)
class Mined:
    """One rule that was found. `search`, `check` and `held_out` say what it did on each part of the days."""

    id: str
    type: str
    then: str
    conditions: tuple[Condition, ...]
    search: dict[str, float]
    check: dict[str, float]
    held_out: dict[str, float]
    rows: np.ndarray = field(repr=False)  # judged rows it fires on, ascending, as far as they were sampled

    @property
    def when(self) -> str:
        return " and ".join(c.text for c in self.conditions)


@dataclass(slots=True)
class Sample:
    """Judged events of one type with their features: all frauds, and as many honest ones as memory allows, weighted.

    rows int64[m] into the judged rows; values float64[features, m]; weight float64[m]: how many events each stands for
    """

    names: list[str]
    flags: list[bool]
    rows: np.ndarray
    values: np.ndarray
    weight: np.ndarray


@dataclass(slots=True)
class Mine:
    """What a search yields: the rules found, and the history they were found in."""

    found: list[Mined]
    history: History
    judged: Judged
    parts: tuple[int, int]
    seconds: float
    stopped: str


def mine(
    events: Sequence[Path],
    rulebook: Rulebook,
    *,
    labels: Path | None = None,
    then: str = "review",
    most: int = 5,
    seconds: float = 120.0,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Mine:
    """Search rules that add money to the rulebook's own. Bounded: two replays, then at most `seconds` of searching.

    Raises BadData when there are too few days or frauds of any value to learn from.
    """
    started = time.perf_counter()
    history = replay(events, rulebook, labels=labels, on_progress=on_progress)
    judged = judge(history, file=label_file(labels))
    if judged.days < 5:
        raise BadData(f"{judged.days} days can be judged; mining cuts them in three and wants five at least")
    cut = (judged.first_day + int(judged.days * PARTS[0]), judged.first_day + int(judged.days * PARTS[1]))
    types = _types(history, judged)
    if not types:
        raise BadData(f"no event type has {LEAST_FRAUD} frauds of any value: nothing can be learnt from this history")
    samples = _samples(events, rulebook, labels, history, judged, types, on_progress)
    end = time.perf_counter() + seconds
    action = history.action[judged.rows].copy()
    found: list[Mined] = []
    while len(found) < most and time.perf_counter() < end:
        tries = [
            m
            for t, sample in samples.items()
            if (m := _one(sample, t, then, history, judged, action, cut, len(found), end))
        ]
        if not tries:
            break
        best = max(tries, key=lambda m: m.search["net_saving"])
        found.append(best)
        action[best.rows] = np.maximum(action[best.rows], ACTIONS.index(then))
    stopped = (
        "as many as wanted"
        if len(found) >= most
        else "out of time"
        if time.perf_counter() >= end
        else "nothing more is worth a rule"
    )
    return Mine(found, history, judged, cut, round(time.perf_counter() - started, 2), stopped)


def _types(history: History, judged: Judged) -> list[int]:
    """Event types with enough fraud that is worth something."""
    costly = judged.fraud & (np.nan_to_num(judged.amount) > 0)
    counts = np.bincount(history.types[judged.rows][costly], minlength=len(history.schema.types))
    return [int(t) for t in np.flatnonzero(counts >= LEAST_FRAUD)]


# ---- what the events looked like


def _samples(events, rulebook, labels, history, judged, types, on_progress) -> dict[str, Sample]:
    """One sample a type: a second replay keeps the features of the chosen rows."""
    features = {n: f.type == "bool" for n, f in rulebook.features.items() if f.type in ("number", "bool")}
    watch = [
        n
        for n, f in history.schema.fields.items()
        if f.type in ("number", "money", "decimal") and not f.entity and not f.pii
    ]
    watch = [n for n in watch if n not in features]
    names = [*features, *watch]
    chosen, weight = _chosen(history, judged, types, MOST_VALUES // max(len(names), 1))
    wanted = judged.rows[chosen]
    kept: list[np.ndarray] = []

    def tap(decisions: Decisions, first: int) -> None:
        start, stop = np.searchsorted(wanted, (first, first + len(decisions)))
        rows = decisions.rows[wanted[start:stop] - first]
        column, numbers = decisions.rules.column, decisions.batch.numbers
        kept.append(
            np.stack([decisions.block.values[column[n], rows] if n in column else numbers[n][rows] for n in names])
        )

    replay(events, rulebook, labels=labels, watch=watch, tap=tap, named=False, on_progress=on_progress)
    values = np.concatenate(kept, axis=1)
    out = {}
    for t in types:
        mine = np.flatnonzero(history.types[wanted] == t)
        flags = [features.get(n, False) for n in names]
        out[history.schema.types[t]] = Sample(names, flags, chosen[mine], values[:, mine], weight[mine])
    return out


def _chosen(history: History, judged: Judged, types: list[int], most: int) -> tuple[np.ndarray, np.ndarray]:
    """Judged rows to look at, ascending, and how many events each stands for; frauds all, honest ones by a hash of their id."""
    mine = np.isin(history.types[judged.rows], types)
    fraud, honest = np.flatnonzero(mine & judged.fraud), np.flatnonzero(mine & ~judged.fraud)
    room = max(most - len(fraud), 1000)
    if len(honest) > room:
        share = room / len(honest)
        honest = honest[(history.ids[judged.rows[honest]] % np.uint64(1_000_003)).astype(float) < share * 1_000_003]
    rows = np.sort(np.concatenate([fraud[:most], honest]))
    total = int((mine & ~judged.fraud).sum())
    return rows, np.where(judged.fraud[rows], 1.0, total / max(len(honest), 1))


def cuts_of(values: np.ndarray, fraud: np.ndarray, flag: bool) -> np.ndarray:
    """Readable thresholds: round numbers near the quantiles of fraud and of honest events.

    >>> cuts_of(np.array([1.0, 2.0, 3.0, 250.0]), np.array([False, False, True, True]), False).tolist()
    [2.0, 3.0, 34.0, 65.0, 96.0, 130.0, 160.0, 190.0, 220.0, 250.0]
    """
    if flag:
        return np.array([1.0])
    known = np.isfinite(values)
    if not known.any():
        return np.empty(0)
    at = np.linspace(0, 1, CUTS // 4 + 1)[1:] if known.sum() < CUTS else np.linspace(0.02, 0.995, CUTS // 2)
    picked = np.concatenate([np.quantile(v, at) for v in (values[known], values[known & fraud]) if len(v)])
    whole = bool((values[known] == np.floor(values[known])).all())
    cuts = np.array([float(f"{v:.2g}") for v in picked])
    return np.unique(np.ceil(cuts) if whole else cuts)[: 2 * CUTS]


def _codes(sample: Sample, cuts: list[np.ndarray]) -> np.ndarray:
    """uint8[features, m]: how many cuts are at or below each value; NONE where it is missing."""
    out = np.empty(sample.values.shape, np.uint8)
    for k, edges in enumerate(cuts):
        out[k] = np.searchsorted(edges, sample.values[k], side="right")
        out[k][np.isnan(sample.values[k])] = NONE
    return out


# ---- the search


def _one(
    sample: Sample,
    type_name: str,
    then: str,
    history: History,
    judged: Judged,
    action: np.ndarray,
    cut: tuple[int, int],
    number: int,
    end: float,
) -> Mined | None:
    """The best rule on one type, given what happens already; None when none earns on days it was not searched on."""
    rows = sample.rows
    fraud, day, amount = judged.fraud[rows], judged.day[rows], np.nan_to_num(judged.amount[rows])
    gain = _gain(history, judged, rows, action, then, fraud, amount) * sample.weight
    cuts = [cuts_of(v, fraud, flag) for v, flag in zip(sample.values, sample.flags, strict=True)]
    codes = _codes(sample, cuts)
    part = np.digitize(day, cut)
    early = np.flatnonzero(part == 0)
    nodes = _beam(sample, codes, cuts, early, gain, fraud, end)
    floor = max(history.policy.review_cost, history.policy.friction_cost, 1.0) * LEAST_FRAUD
    for _, conditions in sorted(nodes, key=lambda n: -n[0]):
        fires = np.logical_and.reduce([c.holds(codes) for c in conditions])
        said = [_said(fires & (part == p), gain, fraud, sample.weight, amount) for p in range(3)]
        if said[0]["net_saving"] > floor and said[1]["net_saving"] > 0 and said[1]["fraud"] >= LEAST_FRAUD / 4:
            return Mined(f"mined_{number + 1}", type_name, then, conditions, said[0], said[1], said[2], rows[fires])
    return None


def _gain(
    history: History,
    judged: Judged,
    rows: np.ndarray,
    action: np.ndarray,
    then: str,
    fraud: np.ndarray,
    amount: np.ndarray,
) -> np.ndarray:
    """What one more rule with this action changes at each row, in money; nothing where an override lets the event through."""
    policy, share = history.policy, _share(history.policy)
    now = action[rows]
    new = np.maximum(now, ACTIONS.index(then))
    freed = (history.hits[judged.rows[rows]] & _free_mask(history)).any(axis=1)
    new = np.where(freed, now, new)
    disturbs = np.isin(np.arange(len(ACTIONS)), (metrics.CHALLENGE, metrics.HOLD, metrics.DENY))
    costs = policy.friction_cost * (disturbs[new].astype(float) - disturbs[now]) * ~fraud
    costs = costs + policy.review_cost * ((new == metrics.REVIEW).astype(float) - (now == metrics.REVIEW))
    return fraud * amount * (share[new] - share[now]) - costs


def _free_mask(history: History) -> np.ndarray:
    mask = np.zeros(history.hits.shape[1], np.uint64)
    for bit in np.flatnonzero(history.masks["override"][: len(history.rules)]):
        mask[bit // 64] |= np.uint64(1 << int(bit) % 64)
    return mask & history.masks["live"]


def _said(
    fires: np.ndarray, gain: np.ndarray, fraud: np.ndarray, weight: np.ndarray, amount: np.ndarray
) -> dict[str, float]:
    fired = float(weight[fires].sum())
    hits = float(fraud[fires].sum())
    return {
        "fired": round(fired), "fraud": hits, "fraud_value": float(amount[fires & fraud].sum()),
        "precision": hits / fired if fired else float("nan"), "net_saving": float(gain[fires].sum()),
    }  # fmt: skip


def _beam(
    sample: Sample,
    codes: np.ndarray,
    cuts: list[np.ndarray],
    rows: np.ndarray,
    gain: np.ndarray,
    fraud: np.ndarray,
    end: float,
):
    """(gain, conditions) of the best conjunctions of one to three conditions on these rows."""
    nodes = _grown(sample, codes, cuts, rows, gain, fraud, ())
    beam, out = sorted(nodes, key=lambda n: -n[0])[:BEAM], list(nodes)
    for _ in range(2):
        grown: dict[frozenset, tuple[float, tuple[Condition, ...]]] = {}
        for score, conditions in beam:
            if time.perf_counter() > end:
                break
            mine = rows[np.logical_and.reduce([c.holds(codes[:, rows]) for c in conditions])]
            for better, longer in _grown(sample, codes, cuts, mine, gain, fraud, conditions):
                if better >= max(score, 0) * LONGER_IF:
                    grown[frozenset(longer)] = (better, longer)
        beam = sorted(grown.values(), key=lambda n: -n[0])[:BEAM]
        out += beam
    return out


def _grown(
    sample: Sample,
    codes: np.ndarray,
    cuts: list[np.ndarray],
    rows: np.ndarray,
    gain: np.ndarray,
    fraud: np.ndarray,
    given: tuple[Condition, ...],
):
    """Every conjunction with one more condition: of each feature and direction the best threshold."""
    sums = np.zeros((len(cuts), 256, 2))
    _histogram(codes, rows, gain, fraud, sums)
    out = []
    for k, edges in enumerate(cuts):
        mine = sums[k, : len(edges) + 1]
        below = np.concatenate([np.zeros((1, 2)), mine.cumsum(axis=0)])[1:-1] if len(edges) else np.empty((0, 2))
        for above in (True, False):
            side = mine.sum(axis=0) - below if above else below
            if any(c.column == k and c.above == above for c in given) or not len(side):
                continue
            score = np.where(side[:, 1] >= LEAST_FRAUD, side[:, 0], -np.inf)
            best = int(score.argmax())
            if score[best] > -np.inf:
                c = Condition(sample.names[k], k, best + 1, float(edges[best]), above, sample.flags[k])
                out.append((float(score[best]), (*given, c)))
    return out


@numba.njit(cache=True, nogil=True)
def _histogram(codes, rows, gain, fraud, sums):
    """Money and frauds by feature and code over some rows."""
    for k in range(codes.shape[0]):
        for i in range(rows.shape[0]):
            row = rows[i]
            c = codes[k, row]
            sums[k, c, 0] += gain[row]
            sums[k, c, 1] += fraud[row]


def summary(result: Mine) -> list[dict[str, Any]]:
    """The rules found, for JSON."""
    return [
        {"id": m.id, "on": m.type, "when": m.when, "then": m.then, "search": m.search, "check": m.check, "held_out": m.held_out,
         "held_out_from": day_text(result.parts[1])}
        for m in result.found
    ]  # fmt: skip
