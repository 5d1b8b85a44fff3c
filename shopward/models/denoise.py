"""Labels that are late, missing or wrong: what can be done before training.

missing   frauds nobody reported stand among the legitimate rows: `reported_share` estimates how many, `with_missing` gives each
          unreported row the weight of being a fraud (Elkan & Noto 2008), out of fold; what was reported about the same entities
          shortly before and after is evidence (`company`)
wrong     `suspects` are rows whose label their own neighbours in time contradict (confident learning, Northcutt et al. 2021)
control   `control_weights` make the few events that were let through stand for all that were stopped (inverse propensity)
twins     `near_duplicates` keeps one row of each group of rows that are the same up to a tolerance

`shopward model train --repair` asks for them (`repair.py`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from shopward.evidence import DAY_MS
from shopward.models.dataset import Examples
from shopward.models.trees import fit

BLOCKS = 4
AROUND = (3, 7, 14)  # days before and after a row in which reports about its entities are counted
LEAST_HIDDEN = 0.01  # rows that are frauds to less than this stay as they are
APART = 10  # blocks of rows; no row counts the reports of its own
SHARP = {
    "learning_rate": 0.1,
    "feature_fraction": 0.8,
    "lambda_l2": 1.0,
    "min_data_in_leaf": 20,
}  # probabilities near 0 and 1 where rows are clear


SMOOTH = {"learning_rate": 0.05, "feature_fraction": 1.0}  # probabilities that differ little between neighbours


def out_of_fold(
    examples: Examples,
    seed: int = 7,
    trees: int = 120,
    settings: dict[str, Any] | None = None,
    by_time: bool = True,
    threads: int = 1,
) -> np.ndarray:
    """Probabilities float64[n] from models that saw other blocks of time only (or random blocks, as where there are no times)."""
    n, timed = len(examples), by_time and np.ptp(examples.ts) > 0
    order = np.argsort(examples.ts, kind="stable") if timed else np.random.default_rng(seed).permutation(n)
    block = np.empty(n, np.int64)
    block[order] = np.arange(n) * BLOCKS // n
    fraud, out = examples.label == 1, np.full(n, np.nan)
    for k in range(BLOCKS):
        teach = block != k
        if not fraud[teach].any() or fraud[teach].all():
            continue
        x, weight = examples.matrix[teach], examples.weight[teach]
        done = fit(
            x, fraud[teach], examples.names, weight=weight, trees=trees, settings=settings or SHARP, threads=threads, seed=seed,
        )  # fmt: skip
        out[~teach] = 1 / (1 + np.exp(-done.forest.score(examples.matrix[~teach])))
    return np.where(np.isnan(out), np.average(fraud, weights=examples.weight), out)


def reported_share(probability: np.ndarray, fraud: np.ndarray) -> float:
    """How many of all frauds are reported: where fraud is as good as certain, the share of rows that carry the label.

    The mean probability of the reported frauds in the upper half of what the model gives them; between 0.05 and 1.

    >>> reported_share(np.array([0.6, 0.6, 0.1, 0.02]), np.array([True, False, True, False]))
    0.6
    """
    if not fraud.any():
        return 1.0
    mine = probability[fraud]
    return float(np.clip(np.mean(mine[mine >= np.median(mine)]), 0.05, 1.0))


def with_missing(examples: Examples, share: float | None = None, seed: int = 7) -> tuple[Examples, float]:
    """(examples in which every unreported row stands partly for fraud and partly not, the reported share used).

    A row with probability p of being *reported* is a fraud with probability (1 - c) / c * p / (1 - p), c being the reported share. It is
    doubled: once as fraud with that weight, once as legitimate with the rest. Rows below a hundredth stay as they are. Where examples
    have groups (a card, a terminal) and times, p also knows what was reported about them around the row; the model that is trained on
    the result does not, so nothing of it is needed, or seen, when deciding.
    """
    hidden, c = unreported(examples, share, seed)
    return doubled(examples, hidden), c


def unreported(
    examples: Examples, share: float | None = None, seed: int = 7, threads: int = 1
) -> tuple[np.ndarray, float]:
    """(how far each row is a fraud that nobody reported, float64[n] from 0 to 1; the reported share), see `with_missing`."""
    known = company(examples, seed)
    p = out_of_fold(
        known, seed, trees=150, settings=SMOOTH, by_time=False, threads=threads
    )  # who reports is no matter of time
    fraud = examples.label == 1
    c = reported_share(p, fraud) if share is None else share
    return np.where(fraud, 0.0, np.clip((1 - c) / c * p / np.maximum(1 - p, 1e-9), 0.0, 1.0)), c


def doubled(examples: Examples, hidden: np.ndarray) -> Examples:
    """Every row that is `hidden` float64[n] to a hundredth at least twice: as fraud with that share of its weight, as legitimate with the rest."""
    partly = (examples.label != 1) & (hidden >= LEAST_HIDDEN)
    keep = replace(examples, weight=np.where(partly, examples.weight * (1 - hidden), examples.weight))
    more = examples.take(partly)
    more.label = np.ones(len(more), np.int8)
    more.weight = examples.weight[partly] * hidden[partly]
    return joined(keep, more)


def company(examples: Examples, seed: int = 7) -> Examples:
    """Examples with further columns: per group and span of days, the frauds reported before and after each row.

    Reports are counted in other blocks of rows than its own (random ones), so that a column never tells a row's own label; how many
    rows there are is not told, since samples keep more of the frauds. Rows without a key have none.

    >>> day, none = DAY_MS * np.arange(40), np.zeros(40)
    >>> one = np.ones(40)
    >>> ring = Examples(("x",), none[:, None], one.astype(np.int8), day, day, one, one, list("r" * 40), {"card": one.astype(np.int64)})
    >>> found = company(ring)
    >>> found.names[1:3], bool((found.matrix[20, 1:3] <= 4).all())
    (('card_before_3d', 'card_after_3d'), True)
    """
    if not examples.groups or not np.ptp(examples.ts):
        return examples
    block = np.random.default_rng(seed).integers(0, APART, len(examples))
    columns = {
        f"{group}_{name}": column
        for group, key in examples.groups.items()
        for name, column in _around(examples, key, block).items()
    }
    matrix = np.column_stack([examples.matrix, *columns.values()])
    return replace(examples, names=(*examples.names, *columns), matrix=matrix)


def _around(examples: Examples, key: np.ndarray, block: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of one group."""
    order = np.lexsort((examples.ts, key))
    ts, mine, fraud = examples.ts[order], block[order], examples.label[order] == 1
    number = np.unique(key[order], return_inverse=True)[1]
    place = number * (np.ptp(ts) + 2 * AROUND[-1] * DAY_MS + 1) + (ts - ts.min())  # keys far apart, time within
    reports = [_sums(fraud), *(_sums(fraud & (mine == b)) for b in range(APART))]
    there, out = key != 0, {}
    for days in AROUND:
        start = np.searchsorted(place, place - days * DAY_MS, "left")
        end = np.searchsorted(place, place + days * DAY_MS, "right")
        here, now = np.searchsorted(place, place, "left"), np.searchsorted(place, place, "right")
        sides = {"before": (start, now), "after": (here, end)}
        counts = {name: _apart(reports, mine, lo, hi) for name, (lo, hi) in sides.items()}
        for name, count in counts.items():
            column = np.empty(len(order))
            column[order] = count
            out[f"{name}_{days}d"] = np.where(there, column, np.nan)
    return out


def _sums(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(values)])


def _apart(reports: list[np.ndarray], mine: np.ndarray, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    """Reports from lo to hi, without those of each row's own block."""
    own = np.stack(reports[1:])
    return reports[0][hi] - reports[0][lo] - (own[mine, hi] - own[mine, lo])


def joined(a: Examples, b: Examples) -> Examples:
    """The rows of a, and behind them those of b."""
    columns = ("matrix", "label", "ts", "label_ts", "amount", "weight", "past", "let_through")
    both: dict[str, Any] = {
        n: np.concatenate([getattr(a, n), getattr(b, n)]) for n in columns if getattr(a, n) is not None
    }
    groups = {g: np.concatenate([a.groups[g], b.groups[g]]) for g in a.groups}
    return replace(a, **both, ids=a.ids + b.ids, groups=groups)


def suspects(examples: Examples, seed: int = 7) -> np.ndarray:
    """Row numbers whose label is probably wrong, the surest first.

    A row is suspect when the other class' out-of-fold probability reaches what that class' own rows usually get, and its own does not.
    Models of other blocks of time say how likely fraud is; where examples have groups, they also know what was reported about the
    same card or terminal shortly before and after (`company`).
    """
    return contradicted(examples, seed)[0]


def contradicted(examples: Examples, seed: int = 7, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(the `suspects`, how likely each row of the examples is fraud by models that did not see it, float64[n])"""
    p = out_of_fold(company(examples, seed), seed, threads=threads)
    fraud = examples.label == 1
    if not fraud.any() or fraud.all():
        return np.empty(0, np.int64), p
    usual_fraud, usual_legit = p[fraud].mean(), (1 - p[~fraud]).mean()
    wrong = np.where(fraud, (1 - p >= usual_legit) & (p < usual_fraud), (p >= usual_fraud) & (1 - p < usual_legit))
    at = np.flatnonzero(wrong)
    surprise = np.where(fraud, 1 - p, p)
    return at[np.argsort(-surprise[at], kind="stable")], p


def control_weights(stopped_share: np.ndarray, control: np.ndarray, most: float = 50.0) -> np.ndarray:
    """Weights of labelled rows: what was let through by chance stands for all like it, at most `most`-fold.

    stopped_share  per row, how likely an event like it is stopped outside the control group; control  bool, in the control group

    >>> control_weights(np.array([0.0, 0.9, 0.9]), np.array([False, True, False])).round(2).tolist()
    [1.0, 10.0, 1.0]
    """
    passed = np.clip(1 - np.asarray(stopped_share, float), 1 / most, 1.0)
    return np.where(control, 1 / passed, 1.0)


def near_duplicates(examples: Examples, digits: int = 3) -> np.ndarray:
    """Numbers of the rows to keep: of rows equal to `digits` significant digits in every feature, and in their label, the earliest.

    >>> rows = np.array([[1.0001, 2.0], [1.0002, 2.0], [5.0, 2.0]])
    >>> zero = np.zeros(3, np.int64)
    >>> near_duplicates(Examples(("a", "b"), rows, np.ones(3, np.int8), zero, zero, np.ones(3), np.ones(3), ["x", "y", "z"])).tolist()
    [0, 2]
    """
    return np.flatnonzero(twins(examples, digits) == np.arange(len(examples)))


def twins(examples: Examples, digits: int = 3) -> np.ndarray:
    """Of each row the earliest that is equal to it in the sense of `near_duplicates`, itself where there is no earlier one; int64[n]."""
    order = np.argsort(examples.ts, kind="stable")
    key = np.column_stack([_rounded(examples.matrix, digits), examples.label])[order]
    _, first, same = np.unique(np.nan_to_num(key, nan=-1e308), axis=0, return_index=True, return_inverse=True)
    found = np.empty(len(order), np.int64)
    found[order] = order[first[same.ravel()]]
    return found


def _rounded(x: np.ndarray, digits: int) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        size = 10.0 ** (digits - 1 - np.floor(np.log10(np.abs(x))))
        return np.where((x == 0) | ~np.isfinite(x), x, np.round(x * size) / size)
