"""Training as a recipe: tidy -> split by time and arrival of labels -> repair -> choose -> calibrate -> fit on all that is known -> card.

The validation block is the latest quarter. It is judged by a model that saw only labels known before the block began, exactly as
in service. Numbers on the card come from there; the model that is kept is then fitted on everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from shopward.errors import BadData, UsageError
from shopward.event import format_time
from shopward.models import cat, logistic, sequence, trees, xgb
from shopward.models.calibrate import platt, risk_bends
from shopward.models.dataset import Examples, usual_texts
from shopward.models.denoise import joined
from shopward.models.measure import average_precision, summary
from shopward.models.repair import Change, Repair, Repaired, refuse_few, repaired, sentences, told

GROWERS: dict[str, tuple[Any, str]] = {  # kind -> who grows its trees, and the file they are kept in
    "forest": (trees, "trees.txt"),
    "xgboost": (xgb, "xgboost.json"),
    "catboost": (cat, "catboost.json"),
}
KINDS = (*GROWERS, "logistic", "sequence")
LATER = 0.25  # the share of time that validates
FEW = 10  # frauds below which nothing is validated
SCORE_CUTS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99)  # how scores drift matters where rules read them: at the top
SLACK = 0.002  # average precision that is worth fewer features
FEWEST_DEAR = (1, 2, 4)  # how many of the dear features are tried


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train; `features` limits their number (None: what earns out of time)."""

    kind: str = "forest"
    seed: int = 7
    threads: int = 1
    trees: int = trees.MOST_TREES
    params: dict[str, Any] = field(default_factory=dict)
    group: str | None = None
    select: bool = False
    value_weights: bool = False
    trials: int = 0
    strict: bool = False
    history: str | None = None  # whose last events a sequence network reads
    repair: Repair | None = None  # of labels that teach
    dear: tuple[str, ...] = ()  # features that cost so much to compute that each must earn its place


@dataclass(slots=True)
class Trained:
    """A fitted model before it is written: `raw` scores rows (and the past of each, for a sequence network), `meta` describes it, `files` go beside it."""

    meta: dict[str, Any]
    files: dict[str, str | bytes]
    raw: Callable[..., np.ndarray]
    features: tuple[str, ...]
    later: Examples | None = None
    later_score: np.ndarray | None = None
    changes: tuple[Change, ...] = ()  # rows that were repaired before they taught


@dataclass(frozen=True, slots=True)
class Split:
    """Which rows teach and which judge; `note` says how they were told apart."""

    early: np.ndarray
    later: np.ndarray
    note: str


def train(
    examples: Examples, name: str, settings: Settings | None = None, on_step: Callable[[str], None] = lambda what: None
) -> Trained:
    """Train a model on labelled examples. Raises BadData when they cannot teach anything (one class, no usable column)."""
    settings = settings or Settings()
    if settings.kind not in KINDS:
        raise UsageError(f"--kind {settings.kind}: one of {', '.join(KINDS)}")
    if settings.kind == "sequence" and examples.history is None:
        raise UsageError("--kind sequence reads the history of an entity: train it on --events")
    examples, notes = tidy(examples)
    fraud = examples.label == 1
    if fraud.all() or not fraud.any():
        raise BadData(f"one class only: all {len(fraud):,} rows are {'fraud' if fraud.all() else 'legitimate'}")
    if settings.repair:
        refuse_few(examples, settings.repair)
    split = split_rows(examples, settings)
    on_step("validating")
    names, taught = examples.names, _taught(examples, split, settings) if split is not None else None
    names, chosen = _chosen(names, taught, settings)
    if chosen:
        notes += chosen
        examples = examples.columns(names)
        taught = replace(taught, rows=taught.rows.columns(names)) if taught is not None else None
    judged = _judge(taught.rows, taught.split, settings) if taught is not None else None
    on_step("fitting on everything")
    size = judged[2] if judged else 100
    share = judged[3] if judged else None
    whole = repaired(examples, settings.repair, settings.seed, settings.threads)
    model = _fit(whole.examples, np.ones(len(whole.examples), bool), settings, None, max(size, 10), share)
    slope, shift, bends, metrics = _calibration(examples, split, judged, model)
    if split is None:
        notes.append(
            f"{int(fraud.sum())} frauds: too few to hold any back, so nothing was validated; trust no number of this model yet"
        )
    meta = {
        "kind": settings.kind, "name": name, "features": list(names), "categories": {k: list(v) for k, v in examples.categories.items()},
        "slope": slope, "shift": shift, "bends": bends, "usual": _usual(examples), "metrics": metrics,
        "training": _training(examples, split, settings, size),
        "gains": dict(zip(names, np.round(model.gains, 3).tolist(), strict=True)), "profile": profile(examples),
    }  # fmt: skip
    if settings.kind == "logistic":
        meta |= _served_linear(model, slope, shift)
    if settings.kind == "sequence":
        meta["sequence"], said = _sequence_card(examples, model.fit)
        notes.append(said)
    if settings.repair:
        early, plain = (taught.early, _judge(examples, split, settings)[1]) if taught and split else (None, None)
        record = told(settings.repair, whole, early, judged[1] if judged else None, plain)
        notes += sentences(record)
        meta["repair"] = record
    meta["notes"] = [*examples.notes, *notes]
    later = examples.take(split.later) if split is not None else None
    scores = 1 / (1 + np.exp(-(slope * judged[0] + shift))) if judged else None
    if later is not None and scores is not None:
        served = 1 / (1 + np.exp(-(slope * _raw(model, later) + shift)))
        meta["score_profile"] = spread_of(served, later.weight, SCORE_CUTS)
    return Trained(meta, model.files, model.raw, tuple(names), later, scores, whole.changes)


def grown(examples: Examples, settings: Settings, size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Raw scores of a matrix, by a model of these settings fitted on all of these `tidied` examples and nothing else."""
    if settings.kind == "sequence":
        raise UsageError("--leave-out is for models of features, not for --kind sequence")
    taught = repaired(examples, settings.repair, settings.seed, settings.threads).examples
    return _fit(taught, np.ones(len(taught), bool), settings, None, max(size, 10)).raw


def tidied(examples: Examples) -> Examples:
    """Infinities as missing, rare texts as others; all columns stay."""
    examples = usual_texts(examples) if examples.categories else examples
    return replace(examples, matrix=np.where(np.isinf(examples.matrix), np.nan, examples.matrix))


# --- steps --------------------------------------------------------------------------------------------------------------------------


def tidy(examples: Examples) -> tuple[Examples, list[str]]:
    """Without columns that say nothing; infinities become missing and are counted."""
    wild, notes, keep = np.isinf(examples.matrix), [], []
    if wild.any():
        where = [n for n, w in zip(examples.names, wild.any(axis=0), strict=True) if w]
        notes.append(f"{int(wild.sum()):,} infinite values taken as missing ({', '.join(where[:5])})")
    examples = tidied(examples)
    matrix = examples.matrix
    for k, name in enumerate(examples.names):
        column = matrix[:, k]
        known = column[~np.isnan(column)]
        if not len(known):
            notes.append(f"`{name}` left out: no value at all")
        elif (known == known[0]).all() and len(known) == len(column):
            notes.append(f"`{name}` left out: always {known[0]:g}")
        else:
            keep.append(name)
    if not keep:
        raise BadData("no column can teach a model: " + "; ".join(notes[:5]))
    return replace(examples, matrix=matrix).columns(keep), notes


def split_rows(examples: Examples, settings: Settings) -> Split | None:
    """The latest quarter judges; what teaches for it was known before the quarter began. Without times: a random quarter, whole groups."""
    fraud = examples.label == 1
    if fraud.sum() < FEW or (~fraud).sum() < FEW:
        return None
    split = _by_time(examples) if np.ptp(examples.ts) > 0 else _at_random(examples, settings)
    if settings.group:
        split = _apart(split, examples.groups[settings.group], settings.group)
    sides = (
        fraud[split.early].any(),
        (~fraud[split.early]).any(),
        fraud[split.later].any(),
        (~fraud[split.later]).any(),
    )
    if not all(sides):
        return (
            None
            if settings.group
            else _at_random(examples, settings, "the latest quarter holds one class only: a random quarter judges")
        )
    return split


def _by_time(examples: Examples) -> Split:
    order = np.sort(examples.ts)
    start = order[int(len(order) * (1 - LATER))]
    later = examples.ts >= start
    known = (examples.ts < start) & (examples.label_ts <= start)
    fraud, when = examples.label == 1, format_time(int(start))
    if (known & fraud).sum() >= FEW and (known & ~fraud).sum() >= FEW:
        return Split(known, later, f"rows from {when} on judge; labels known by then teach")
    note = f"rows from {when} on judge; earlier rows teach, with labels that arrived later (the training period is shorter than the delay)"
    return Split(examples.ts < start, later, note)


def _at_random(
    examples: Examples, settings: Settings, note: str = "a random quarter judges: the rows have no times"
) -> Split:
    rng = np.random.default_rng(settings.seed)
    group = examples.groups[settings.group] if settings.group else np.arange(len(examples))
    ids, place = np.unique(group, return_inverse=True)
    later = (rng.random(len(ids)) < LATER)[place]
    return Split(~later, later, note)


def _apart(split: Split, group: np.ndarray, name: str) -> Split:
    """No group teaches and judges: rows that judge keep only groups that taught nothing (0 is no group)."""
    later = split.later & (~np.isin(group, group[split.early]) | (group == 0))
    return Split(split.early, later, f"{split.note}; no {name} on both sides")


@dataclass(frozen=True, slots=True)
class _Taught:
    """Rows that teach, repaired, and behind them the rows that judge, as they are; `early` is what the repair did."""

    rows: Examples
    split: Split
    early: Repaired


def _taught(examples: Examples, split: Split, settings: Settings) -> _Taught:
    if settings.repair is None:
        return _Taught(examples, split, Repaired(examples))
    early = repaired(examples.take(split.early), settings.repair, settings.seed, settings.threads)
    later = examples.take(split.later)
    judges = np.arange(len(early.examples) + len(later)) >= len(early.examples)
    return _Taught(joined(early.examples, later), Split(~judges, judges, split.note), early)


@dataclass(frozen=True, slots=True)
class _Model:
    raw: Callable[..., np.ndarray]
    files: dict[str, str | bytes]
    gains: np.ndarray
    size: int
    fit: Any


def _fit(
    examples: Examples, rows: np.ndarray, settings: Settings, later: np.ndarray | None, size: int, share: Any = None
) -> _Model:
    x, fraud, weight = examples.matrix[rows], examples.label[rows] == 1, examples.weight[rows]
    if settings.value_weights:
        typical = max(float(np.median(examples.amount[rows][fraud])), 1e-9)
        weight = np.where(fraud, weight * np.clip(examples.amount[rows] / typical, 0.2, 5.0), weight)
    if settings.kind == "logistic":
        found = logistic.fit(x, fraud, weight=weight)
        return _Model(found.raw, {}, np.abs(found.weights), size, found)
    categorical = [k for k, name in enumerate(examples.names) if name in examples.categories]
    watch = (examples.matrix[later], examples.label[later] == 1) if later is not None else None
    if settings.kind == "sequence":
        return _fit_sequence(examples, rows, weight, categorical, settings, watch, size, share)
    grower, file = GROWERS[settings.kind]
    done = grower.fit(
        x, fraud, examples.names, weight=weight, categorical=categorical, later=watch, trees=size,
        settings=settings.params, threads=settings.threads, seed=settings.seed,
    )  # fmt: skip
    return _Model(done.forest.score, {file: done.text}, done.gains, done.best, done.forest)


def _raw(model: _Model, examples: Examples) -> np.ndarray:
    more = (examples.past,) if isinstance(model.fit, sequence.Fused) else ()
    return model.raw(examples.matrix, *more)


def _fit_sequence(examples, rows, weight, categorical, settings: Settings, watch, size: int, share) -> _Model:
    x, fraud, names = examples.matrix[rows], examples.label[rows] == 1, examples.names
    done = sequence.fit(
        x, fraud, names, examples.past[rows], examples.ts[rows], examples.label_ts[rows], texts=_text_places(examples), weight=weight,
        categorical=categorical, later=watch, trees=size, settings=settings.params, threads=settings.threads, seed=settings.seed,
        said=share,
    )  # fmt: skip
    files: dict[str, str | bytes] = {"trees.txt": done.trees.text}
    if done.net is not None:
        files[sequence.FILE] = sequence.to_bytes(done.net)
    return _Model(done.raw, files, done.trees.gains, done.trees.best, done)


def _text_places(examples: Examples) -> list[int]:
    """Which values of a past event are texts: behind the two times."""
    past = examples.history
    return [2 + k for k, name in enumerate(past.names) if name in (past.texts or {})] if past else []


def _sequence_card(examples: Examples, done: sequence.Fused) -> tuple[dict[str, Any], str]:
    """What the model keeps about its network, and a note for people."""
    past = examples.history
    assert past is not None
    about = {
        "entity": past.entity, "names": list(past.names), "roles": list(past.roles), "steps": past.steps, "share": done.share,
        "texts": {k: list(v) for k, v in (past.texts or {}).items()}, "text_places": _text_places(examples),
        "average_precision_by_share": done.tried,
    }  # fmt: skip
    tried = ", ".join(f"{share} {value:.4f}" for share, value in done.tried.items()) or "too few frauds to try"
    said = f"network over the last {past.steps} events of the {past.entity}: share {done.share:g} (average precision out of time by share: {tried})"
    return about, said


def _judge(examples: Examples, split: Split, settings: Settings) -> tuple[np.ndarray, float, int, Any]:
    """(raw scores of the later rows, their average precision, the best size, a network's share) of a model that saw the early ones."""
    model = _fit(examples, split.early, settings, split.later, settings.trees)
    raw = _raw(model, examples.take(split.later))
    fraud = examples.label[split.later] == 1
    share = (model.fit.share, model.fit.tried) if isinstance(model.fit, sequence.Fused) else None
    return raw, average_precision(fraud, raw, examples.weight[split.later]), model.size, share


def _chosen(names: tuple[str, ...], taught: _Taught | None, settings: Settings) -> tuple[tuple[str, ...], list[str]]:
    """(the features to keep, what to say about it); dear ones only where rows that judge show that they earn."""
    dear, said = [n for n in names if n in settings.dear], []
    names = tuple(n for n in names if n not in settings.dear)
    if taught is not None and settings.select and settings.kind != "logistic":
        names, one = _selected(taught.rows.columns(names), taught.split, settings)
        said.append(one)
    if dear and taught is None:
        said.append(f"{len(dear)} graph features left out: nothing was validated that could show what they earn")
    elif dear and taught is not None:
        more, one = _earned(taught.rows, names, dear, taught.split, settings)
        names, said = (*names, *more), [*said, one]
    return names, said


def _earned(
    examples: Examples, names: tuple[str, ...], dear: list[str], split: Split, settings: Settings
) -> tuple[tuple[str, ...], str]:
    """The fewest dear features beside `names` that are as good out of time as more of them, by gain among the early rows."""
    quick = _quick(settings)
    both = examples.columns([*names, *dear])
    gains = _fit(both, split.early, quick, split.later, quick.trees).gains[len(names) :]
    order = [dear[i] for i in np.argsort(-gains, kind="stable") if gains[i] > 0]
    tries = sorted({0, *(min(k, len(order)) for k in FEWEST_DEAR)})
    found = {k: _judge(both.columns([*names, *order[:k]]), split, quick)[1] for k in tries}
    k = _fewest(found)
    tried = ", ".join(f"{n} of them {value:.4f}" for n, value in found.items())
    kept, which = tuple(order[:k]), f": {', '.join(order[:k])}" if k else ""
    return kept, f"{k} of {len(dear)} graph features earn beside the others (average precision: {tried}){which}"


def _fewest(found: dict[int, float]) -> int:
    """The smallest number of features whose average precision is within SLACK of the best."""
    return min(n for n, value in found.items() if value >= max(found.values()) - SLACK)


def _quick(settings: Settings) -> Settings:
    """To try features with: no network, few trees."""
    kind = "forest" if settings.kind == "sequence" else settings.kind
    return replace(settings, kind=kind, trees=min(settings.trees, 200))


def _selected(examples: Examples, split: Split, settings: Settings) -> tuple[tuple[str, ...], str]:
    """The fewest features that are as good out of time as all of them, by gain among the early rows."""
    quick = _quick(settings)
    model = _fit(examples, split.early, quick, split.later, quick.trees)
    order = [examples.names[i] for i in np.argsort(-model.gains, kind="stable") if model.gains[i] > 0]
    fraud, weight = examples.label[split.later] == 1, examples.weight[split.later]
    found = {len(order): average_precision(fraud, model.raw(examples.matrix[split.later]), weight)}
    for k in (15, 30, 60):
        if k < len(order):
            found[k] = _judge(examples.columns(order[:k]), split, quick)[1]
    k = _fewest(found)
    tried = ", ".join(f"{n} features {value:.4f}" for n, value in sorted(found.items()))
    return tuple(order[:k]), f"{k} of {len(examples.names)} features earn out of time (average precision: {tried})"


def _calibration(
    examples: Examples, split: Split | None, judged: Any, model: _Model
) -> tuple[float, float, list, dict]:
    if split is None or judged is None:
        raw, weight, fraud = _raw(model, examples), examples.weight, examples.label == 1
        slope, shift = platt(raw, fraud, weight)
        return slope, shift, risk_bends(1 / (1 + np.exp(-(slope * raw + shift))), fraud, weight), {}
    raw, weight, fraud = judged[0], examples.weight[split.later], examples.label[split.later] == 1
    slope, shift = platt(raw, fraud, weight)
    score = 1 / (1 + np.exp(-(slope * raw + shift)))
    return slope, shift, risk_bends(score, fraud, weight), summary(fraud, score, weight, examples.amount[split.later])


def _usual(examples: Examples) -> list[list[float | None]]:
    """(5 %, middle, 95 %) of legitimate rows per feature."""
    legit = examples.matrix[examples.label == 0]
    out: list[list[float | None]] = []
    for column in legit.T:
        known = column[~np.isnan(column)]
        out.append([float(v) for v in np.quantile(known, (0.05, 0.5, 0.95))] if len(known) else [None] * 3)
    return out


def profile(examples: Examples, bins: int = 10) -> dict[str, dict[str, list[float]]]:
    """How each feature lies in training (edges, shares per bin, the last one missing): what drift is measured against."""
    cuts = (np.arange(1, bins) / bins).tolist()
    return {n: spread_of(examples.matrix[:, k], examples.weight, cuts) for k, n in enumerate(examples.names)}


def spread_of(column: np.ndarray, weight: np.ndarray, cuts: Sequence[float]) -> dict[str, list[float]]:
    """Edges (these quantiles) and shares per bin of one column, the last share missing values.

    >>> spread_of(np.array([1.0, 2.0, 3.0, np.nan]), np.ones(4), (0.5,))
    {'edges': [2.0], 'shares': [0.25, 0.5, 0.25]}
    """
    known = column[~np.isnan(column)]
    edges = np.unique(np.quantile(known, cuts)) if len(known) else np.empty(0)
    place = np.where(np.isnan(column), len(edges) + 1, np.searchsorted(edges, column, side="right"))
    shares = np.bincount(place, weights=weight, minlength=len(edges) + 2) / weight.sum()
    return {"edges": edges.tolist(), "shares": np.round(shares, 6).tolist()}


def _training(examples: Examples, split: Split | None, settings: Settings, size: int) -> dict[str, Any]:
    fraud = examples.label == 1
    defaults = GROWERS.get(settings.kind, GROWERS["forest"])[0].DEFAULTS if settings.kind != "logistic" else {}
    times = (
        {"from": format_time(int(examples.ts.min())), "to": format_time(int(examples.ts.max()))}
        if np.ptp(examples.ts)
        else {}
    )
    return {
        "rows": len(examples), "stands_for": float(examples.weight.sum()), "frauds": int(fraud.sum()), **times,
        "split": split.note if split else "none", "seed": settings.seed, "size": size, "params": {**defaults, **settings.params},
    }  # fmt: skip


def _served_linear(model: _Model, slope: float, shift: float) -> dict[str, Any]:
    """Calibration is folded into the weights, so that the served form is plain logistic regression."""
    found = model.fit
    return {
        "weights": (found.weights * slope).tolist(), "bias": slope * found.bias + shift,
        "centre": found.centre.tolist(), "spread": found.spread.tolist(),
    }  # fmt: skip


def names_of(columns: Sequence[str], most: int = 5) -> str:
    return ", ".join(columns[:most]) + (" ..." if len(columns) > most else "")
