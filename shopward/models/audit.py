"""The auditor: does a table know things that nobody could have known, so that its test score is a promise nobody can keep?

It looks for columns whose power is gone when time passes, encodings of the label computed over the whole file (the row's own label left
out or not), counts over the whole file, label shares that contain later labels, identifiers that stand in for labels, and rows that stand
on both sides of a split. Each finding names the column, the metric with it as naive testing would measure it, and without.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from shopward.models.dataset import Examples
from shopward.models.measure import auc
from shopward.models.table import Recipe, examples_of, group_ids

MOST_ROWS = 40_000
LATER = 0.25
GAP = 0.08  # AUC that must be at stake before anything is called a leak
STRONG = 0.6  # AUC below which a column alone fakes nothing
TOGETHER, MANY = 6, 1 / 3  # columns that fade, and their share of those that tell: then it is fraud that changed
SAME = 0.97  # correlation from which a column is taken to be a suspected computation
SERVED_KINDS = (
    "time_artefact",
    "identifier",
    "duplicates",
)  # what can go wrong with features that a window engine computed
REFUSE = (
    "leave_one_out",
    "whole_file_encoding",
    "whole_file_count",
    "future_labels",
    "identifier",
)  # what keeps a model from being deployed


@dataclass(frozen=True, slots=True)
class Finding:
    """One leak. `metric_with` is the AUC that a naive test shows, `metric_without` the one to believe; `why` is a sentence for people."""

    column: str
    kind: str
    metric_with: float
    metric_without: float
    why: str

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "metric": "roc_auc"}


def audit_table(
    table: Any, label: str, time: str | None, *, recipe: Recipe | None = None, examples: Examples | None = None
) -> list[Finding]:
    """Every leak found in a table of labelled rows, the worst first. Columns left out of models (ids, texts) are read as keys.

    table   an Arrow table, one row an example
    label   the column of the truth, 0 or 1; time: the column of the time, without which leaks of the future cannot be seen

    Each Finding names column, kind and why, with the AUC (0.5 to 1) with the column and without it. Raises UsageError for a column
    that is not there, BadData for a label that is neither 0 nor 1, MissingExtra without `shopward[ml]`.
    """
    if examples is None or recipe is None:
        examples, recipe, table = examples_of(table, label, time, None)
    keys = {n: group_ids(table[n]) for n in _key_columns(table) if n not in (label, time)}
    texts = [n for n, c in recipe.columns.items() if c["how"] != "number"]
    return examine(examples, keys=keys, texts=texts)


def _key_columns(table: Any) -> list[str]:
    """Texts first, then whole numbers: what could name an entity."""
    import pyarrow as pa

    kinds = {n: table[n].type for n in table.column_names}
    texts = [
        n for n, t in kinds.items() if pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_dictionary(t)
    ]
    return texts + [n for n, t in kinds.items() if pa.types.is_integer(t)]


def examine(
    examples: Examples, *, keys: dict[str, np.ndarray] | None = None, texts: Sequence[str] = (), served: bool = False
) -> list[Finding]:
    """The same for examples that are in memory; `texts` are columns that were words, and so are no computations over the file.
    `served` features were computed as of their events, so only some leaks are possible."""
    fraud = examples.label == 1
    if fraud.sum() < 20 or (~fraud).sum() < 20:
        return []
    sheet = _Sheet(examples, keys or {}, frozenset(texts))
    found: list[Finding] = []
    for check in (
        (_duplicates,) if served else (_duplicates, _counts, _encodings, _futures, _fine_structure, _label_shares)
    ):
        taken = {f.column for f in found}
        found += [f for f in check(sheet) if f.column not in taken]
    taken = {f.column for f in found}
    found += [f for f in (*_identifiers(sheet), *_artefacts(sheet)) if f.column not in taken]
    seen: set[str] = set()
    once = [f for f in found if not (f.column in seen or seen.add(f.column))]  # type: ignore[func-returns-value]
    return sorted(once, key=lambda f: f.metric_without - f.metric_with)


class _Sheet:
    """The examples in time order, thinned for speed, with what several checks ask for."""

    def __init__(self, examples: Examples, keys: dict[str, np.ndarray], texts: frozenset[str]):
        order = np.argsort(examples.ts, kind="stable")
        self.timed = bool(np.ptp(examples.ts) > 0)
        self.whole = {n: k[order] for n, k in keys.items()}  # keys of all rows: arithmetic needs the whole file
        self.numbers = [(k, n) for k, n in enumerate(examples.names) if n not in texts]
        known = np.where(np.isinf(examples.matrix), np.nan, examples.matrix)
        self.x_whole, self.names = known[order], examples.names
        self.y_whole = (examples.label == 1)[order]
        rows = order if len(order) <= MOST_ROWS else order[_thinned(self.y_whole)]
        self.x, self.y, self.ts = known[rows], (examples.label == 1)[rows], examples.ts[rows]
        n = len(rows)
        self.later = np.arange(n) >= int(n * (1 - LATER))
        rng = np.random.default_rng(7)
        self.half = rng.random(n) < 0.5
        self.random_later = rng.random(n) < LATER
        self.gaps = [self._column_aucs(k) for k in range(len(self.names))]
        self._models: dict[tuple, float] = {}

    def noise(self, rows: np.ndarray) -> float:
        """Three standard errors of an AUC on these rows."""
        few = max(min(self.y[rows].sum(), (~self.y[rows]).sum()), 1)
        return float(3 * 0.29 / np.sqrt(few))

    def _column_aucs(self, k: int) -> tuple[float, float]:
        """AUC of one column alone, learnt on random rows, and learnt on earlier rows for later ones."""
        codes = bins(self.x[:, k], 64)
        random = learnt_auc(codes, self.y, ~self.random_later, self.random_later)
        return random, learnt_auc(codes, self.y, ~self.later, self.later) if self.timed else random

    def model_auc(self, without: Sequence[str] = (), by_time: bool = True) -> float:
        """AUC of a small forest over all columns but some, on later (or random) rows."""
        what = (tuple(sorted(without)), by_time and self.timed)
        if what not in self._models:
            from shopward.models import trees

            cols = [k for k, n in enumerate(self.names) if n not in without]
            test = self.later if what[1] else self.random_later
            if not cols or not self.y[test].any() or self.y[test].all() or not self.y[~test].any():
                self._models[what] = 0.5
            else:
                names = [self.names[k] for k in cols]
                settings = {"learning_rate": 0.1, "feature_fraction": 0.8, "min_data_in_leaf": 20, "lambda_l2": 1.0}
                done = trees.fit(self.x[~test][:, cols], self.y[~test], names, trees=60, settings=settings)
                self._models[what] = auc(self.y[test], done.forest.score(self.x[test][:, cols]))
        return self._models[what]

    def finding(self, column: str, kind: str, why: str) -> Finding:
        """With the column as a naive (random) test shows it, without it on later rows."""
        return Finding(column, kind, round(self.model_auc((), False), 4), round(self.model_auc((column,)), 4), why)


def _thinned(fraud: np.ndarray) -> np.ndarray:
    """Which of the ordered rows to keep: all frauds up to half the room, and an even sample of the rest."""
    rng = np.random.default_rng(7)
    yes, no = np.flatnonzero(fraud), np.flatnonzero(~fraud)
    yes = yes if len(yes) <= MOST_ROWS // 2 else rng.choice(yes, MOST_ROWS // 2, replace=False)
    return np.sort(np.concatenate([yes, rng.choice(no, min(MOST_ROWS - len(yes), len(no)), replace=False)]))


def bins(values: np.ndarray, most: int) -> np.ndarray:
    """int64[n]: quantile bins of a column, missing values a bin of their own; every value its own bin while there are few.

    >>> bins(np.array([1.0, 2.0, np.nan, 2.0]), 8).tolist()
    [0, 1, 2, 1]
    """
    known = values[~np.isnan(values)]
    distinct = np.unique(known)
    edges = distinct if len(distinct) <= most else np.unique(np.quantile(known, np.arange(1, most) / most))
    few = len(distinct) <= most
    place = np.searchsorted(edges, values, side="left") if few else np.searchsorted(edges, values, side="right")
    return np.where(np.isnan(values), len(edges) + (not few), place)


def learnt_auc(codes: np.ndarray, fraud: np.ndarray, teach: np.ndarray, judge: np.ndarray) -> float:
    """AUC on `judge` of the smoothed share of fraud per code, learnt on `teach`; 0.5 when either side has one class only."""
    if not fraud[judge].any() or fraud[judge].all() or not fraud[teach].any():
        return 0.5
    size = int(codes.max()) + 1
    n = np.bincount(codes[teach], minlength=size)
    share = (np.bincount(codes[teach], weights=fraud[teach], minlength=size) + 5 * fraud[teach].mean()) / (n + 5)
    return auc(fraud[judge], share[codes[judge]])


# --- checks: each yields findings ---------------------------------------------------------------------------------------------------


def _artefacts(sheet: _Sheet) -> Iterator[Finding]:
    """Columns that tell on random rows and no longer on later ones; one finding for all where so many fade that fraud itself changed."""
    if not sheet.timed or not sheet.y[sheet.later].any():
        return
    with_it, later = sheet.model_auc((), False), sheet.model_auc(())
    told = sorted(((late, random, n) for n, (random, late) in zip(sheet.names, sheet.gaps, strict=True) if random >= 0.62),
                  key=lambda one: one[0] - one[1])  # fmt: skip
    faded = [(late, random, name) for late, random, name in told if _fades(sheet, random, late, with_it - later)]
    if len(faded) >= TOGETHER and len(faded) > len(told) * MANY:
        names = ", ".join(name for _, _, name in faded[:3])
        why = (f"{len(faded)} of {len(told)} columns that tell fraud on random rows ({names}, ...) no longer do on later ones: "
               "the fraud of the period that is taught is not that of the one that judges; believe tests by time only")  # fmt: skip
        yield Finding("(period)", "time_artefact", round(with_it, 4), round(later, 4), why)
        return
    for late, random, name in faded:
        why = (f"alone it reaches an AUC of {random:.2f} on random rows and {late:.2f} on later ones: "
               "what it shows belongs to a period, not to fraud")  # fmt: skip
        without = max(late, 0.5) if len(sheet.names) == 1 else later
        yield Finding(name, "time_artefact", round(max(with_it, random), 4), round(min(later, without), 4), why)


def _fades(sheet: _Sheet, random: float, late: float, lost: float) -> bool:
    """Is what a column alone tells on random rows gone on later ones? `lost` is what a model of all columns loses."""
    gap, noise = random - max(late, 0.5), max(sheet.noise(sheet.later), sheet.noise(sheet.random_later))
    plain = gap >= 0.2 or (gap >= 0.12 and lost >= 0.05)  # windows that fill up lose a little, too
    return plain and gap >= noise and gap > 0.5 * (random - 0.5)


def _identifiers(sheet: _Sheet) -> Iterator[Finding]:
    """Columns with a value of their own in (nearly) every row, in whole numbers, that tell fraud: the order in which rows were made."""
    n = len(sheet.y)
    for k, name in sheet.numbers:
        column = sheet.x[:, k]
        known = column[~np.isnan(column)]
        if len(known) < 0.9 * n or (known != np.round(known)).any() or len(np.unique(known)) < 0.95 * n:
            continue
        if np.ptp(known) > 50 * len(sheet.y_whole):  # amounts in cents are unique too, but lie far apart
            continue
        random, _ = sheet.gaps[k]
        if random >= STRONG and random - 0.5 >= sheet.noise(sheet.random_later):
            yield sheet.finding(
                name,
                "identifier",
                f"it numbers the rows, and its order gives the label away (alone an AUC of {random:.2f})",
            )


def _duplicates(sheet: _Sheet) -> Iterator[Finding]:
    """Rows of the later part that stand word for word in the earlier part, too rich to agree by chance."""
    x = np.nan_to_num(sheet.x_whole, nan=-9.87654321e99)
    distinct = np.array([len(np.unique(c)) for c in x.T])
    if distinct.max(initial=0) < 0.2 * len(x) or x.shape[1] < 2:
        return
    rich = np.argsort(-distinct, kind="stable")[:40]
    packed = np.ascontiguousarray(x[:, rich]).view([("", np.float64)] * len(rich)).ravel()
    _, place, counts = np.unique(packed, return_inverse=True, return_counts=True)
    start = int(len(x) * (1 - LATER))
    seen = np.zeros(len(counts), bool)
    seen[place[:start]] = True
    twin = seen[place[start:]]
    frauds_twin = twin[sheet.y_whole[start:]].mean() if sheet.y_whole[start:].any() else 0.0
    inside = counts[place] > 1
    if not sheet.timed:
        twin = inside
    share = float(twin.mean())
    if max(share, frauds_twin) < 0.02 or twin.sum() < 20:
        return
    why = f"{share:.1%} of the later rows ({frauds_twin:.0%} of their frauds) stand word for word among the earlier ones: a test asks for what was taught"
    yield Finding(
        "(rows)", "duplicates", round(_twin_auc(sheet, place, None), 4), round(_twin_auc(sheet, place, counts), 4), why
    )


def _twin_auc(sheet: _Sheet, place: np.ndarray, counts: np.ndarray | None) -> float:
    """AUC by random rows of a forest with room to learn rows by heart; with `counts`, each set of twins stands once."""
    from shopward.models import trees

    rows = np.arange(len(place)) if counts is None else np.unique(place, return_index=True)[1]
    rng = np.random.default_rng(7)
    if len(rows) > MOST_ROWS:
        rows = rng.choice(rows, MOST_ROWS, replace=False)
    x, y, test = sheet.x_whole[rows], sheet.y_whole[rows], rng.random(len(rows)) < LATER
    if not y[test].any() or not y[~test].any():
        return 0.5
    settings = {
        "learning_rate": 0.2,
        "num_leaves": 63,
        "feature_fraction": 0.8,
        "min_data_in_leaf": 2,
        "lambda_l2": 0.1,
    }
    done = trees.fit(x[~test], y[~test], sheet.names, trees=60, settings=settings)
    return auc(y[test], done.forest.score(x[test]))


def _counts(sheet: _Sheet) -> Iterator[Finding]:
    """Columns that say how often a key stands in the whole file, also after the row."""
    if not sheet.timed:
        return
    for k, name in sheet.numbers:
        column = sheet.x_whole[:, k]
        key = next((n for n, ids in _keys(sheet, name) if _is_count(column, ids)), None)
        if key is None and not _divides(column):
            continue
        of = f"of `{key}`" if key else "of a key"
        yield sheet.finding(
            name,
            "whole_file_count",
            f"it is the number of rows {of} in the whole file: rows that came later are counted, too",
        )


def _keys(sheet: _Sheet, but: str) -> Iterator[tuple[str, np.ndarray]]:
    """Columns that could be keys: they repeat, and have many values."""
    for name, ids in sheet.whole.items():
        values = len(np.unique(ids))
        if name != but and 10 <= values <= 0.9 * len(ids):
            yield name, ids


def _is_count(column: np.ndarray, ids: np.ndarray) -> bool:
    """Is the column the whole-file count of the key, or a growing function of it, and not the count so far?"""
    total = np.bincount(ids)[ids].astype(float)
    if len(np.unique(total)) < 3 or np.isnan(column).any() or len(np.unique(column)) < 3:
        return False
    order = np.argsort(total, kind="stable")
    same = len(np.unique(np.column_stack([total, column]), axis=0)) == len(np.unique(total))
    return bool(
        same and (np.diff(column[order]) >= -1e-12).all() and len(np.unique(column)) >= 0.8 * len(np.unique(total))
    )


def _divides(column: np.ndarray) -> bool:
    """Does every value v stand in a multiple of v rows, as counts of whole groups must?"""
    if np.isnan(column).any() or (column != np.round(column)).any() or column.min() < 1 or column.max() > len(column):
        return False
    values, rows = np.unique(column, return_counts=True)
    big = values >= 2
    return bool(big.sum() >= 5 and (rows % values == 0).all() and values[big].prod(dtype=float) > 1e6)


def _so_far(ids: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sum, number) of `values` over earlier rows of the same key, in the order of the rows."""
    order = np.argsort(ids, kind="stable")
    v, g = values[order].astype(float), ids[order]
    run = np.cumsum(v) - v
    first = np.flatnonzero(np.append(True, g[1:] != g[:-1]))
    sizes = np.diff(np.append(first, len(g)))
    n = np.arange(len(g)) - np.repeat(first, sizes)
    out, many = np.empty(len(v)), np.empty(len(v))
    out[order], many[order] = run - np.repeat(run[first], sizes), n
    return out, many


def _alike(a: np.ndarray, b: np.ndarray, rows: np.ndarray) -> float:
    """|correlation| over rows where both are known."""
    rows = rows & ~np.isnan(a) & ~np.isnan(b)
    if rows.sum() < 50 or np.ptp(a[rows]) == 0 or np.ptp(b[rows]) == 0:
        return 0.0
    return abs(float(np.corrcoef(a[rows], b[rows])[0, 1]))


def _encodings(sheet: _Sheet) -> Iterator[Finding]:
    """Columns that are the label, averaged by a key over the whole file."""
    y = sheet.y_whole.astype(float)
    for k, name in sheet.numbers:
        column = sheet.x_whole[:, k]
        if len(np.unique(column[~np.isnan(column)])) < 3 or max(sheet.gaps[k]) < 0.55:
            continue
        for key, ids in _keys(sheet, name):
            found = _encoding(column, ids, y, sheet.timed)
            if found:
                kind, said = found
                yield sheet.finding(name, kind, f"it is the share of fraud by `{key}` {said}")
                break


def _encoding(column: np.ndarray, ids: np.ndarray, y: np.ndarray, timed: bool) -> tuple[str, str] | None:
    total, n = np.bincount(ids, weights=y)[ids], np.bincount(ids)[ids].astype(float)
    past, before = _so_far(ids, y)
    many = (n >= 2) & ~np.isnan(column)
    if many.sum() < 50:
        return None
    mixed = many & (total > 0) & (total < n)  # keys with both labels
    per_key, per_label = _values_per(column, ids, many), _values_per(column, 2 * ids + y.astype(np.int64), many)
    if mixed.sum() >= 20 and per_label <= 1.001 and per_key > 1.05 and _values_per(column, ids, mixed) > 1.8:
        return "leave_one_out", "over all other rows of the file, its own left out: what is missing tells its own label"
    with np.errstate(invalid="ignore", divide="ignore"):
        whole, earlier = total / n, past / before
    known = many & (before > 0)
    as_of = max(_alike(column, earlier, known), _alike(column, past, known)) if timed else 0.0
    for average in (whole, total, _smoothed(total, n, y)):
        if (
            per_key <= 1.001
            and _alike(column, average, many) >= 0.9
            and _alike(column, average, known) > as_of + 0.02 * timed
        ):
            return "whole_file_encoding", "over the whole file, the row's own label and later ones included"
    return None


def _smoothed(total: np.ndarray, n: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (total + 10 * y.mean()) / (n + 10)


def _values_per(column: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> float:
    """How many different values the column has per key, on average."""
    pairs = np.unique(np.column_stack([ids[rows].astype(np.float64), np.round(column[rows], 12)]), axis=0)
    return len(pairs) / max(len(np.unique(ids[rows])), 1)


def _futures(sheet: _Sheet) -> Iterator[Finding]:
    """Columns that labels of later rows explain, beyond what earlier ones do: shares over a neighbourhood with all of its labels."""
    if not sheet.timed:
        return
    y = sheet.y_whole.astype(float)
    keys = list(_keys(sheet, ""))[:4]
    if not keys or len(y) < 200:
        return
    before, after = _both_ways([ids for _, ids in keys], y)
    for k, name in sheet.numbers:
        column = sheet.x_whole[:, k]
        rows = ~np.isnan(column)
        if rows.sum() < 200 or np.ptp(column[rows]) == 0 or name in dict(keys):
            continue
        old, both = (
            _explained(column[rows], before[rows]),
            _explained(column[rows], np.column_stack([before, after])[rows]),
        )
        if both >= 0.4 and both - old >= 0.15:
            of = ", ".join(f"`{n}`" for n, _ in keys)
            yield sheet.finding(
                name,
                "future_labels",
                f"labels of later rows with the same {of} explain it (R2 {both:.2f}; earlier labels alone {old:.2f})",
            )


def _both_ways(keys: list[np.ndarray], y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What earlier labels and mere counts say about a row's neighbours by each key and by all, and what all other labels say."""
    old, new = [np.ones(len(y))], []
    sums = np.zeros((4, len(y)))
    for ids in keys:
        past, before = _so_far(ids, y)
        others, n = np.bincount(ids, weights=y)[ids] - y, np.bincount(ids)[ids] - 1.0
        old += [past, _share(past, before), (before > 0).astype(float), before, n, np.log1p(n), 1 / (1 + n)]
        new += [others, _share(others, n)]
        sums += [past, before, others, n]
    return np.column_stack([*old, _share(sums[0], sums[1])]), np.column_stack([*new, _share(sums[2], sums[3])])


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), 0.0)


def _explained(column: np.ndarray, by: np.ndarray) -> float:
    """R2 of a linear fit."""
    rest = column - by @ np.linalg.lstsq(by, column, rcond=None)[0]
    return float(1 - rest.var() / column.var())


def _fine_structure(sheet: _Sheet) -> Iterator[Finding]:
    """Columns that tell fraud by their exact values, not by being high or low: the row's own label shines through an average."""
    for k, name in sheet.numbers:
        column = sheet.x[:, k]
        known = column[~np.isnan(column)]
        distinct = len(np.unique(known))
        if not 20 <= distinct <= 0.5 * len(known) or (known == np.round(known)).all():
            continue
        fine = learnt_auc(
            np.unique(np.nan_to_num(column, nan=-1e300), return_inverse=True)[1], sheet.y, ~sheet.half, sheet.half
        )
        coarse = max(learnt_auc(bins(column, 12), sheet.y, ~sheet.half, sheet.half), _straight(column, sheet.y))
        if fine >= 0.75 and fine - coarse >= max(GAP, sheet.noise(sheet.half)):
            why = (f"its exact values tell the label (AUC {fine:.2f}), its size does not (AUC {coarse:.2f}): "
                   "an average over other rows of the file with the row's own label left out")  # fmt: skip
            yield sheet.finding(name, "leave_one_out", why)


def _straight(column: np.ndarray, fraud: np.ndarray) -> float:
    found = auc(fraud, np.nan_to_num(column, nan=np.nanmedian(column)))
    return max(found, 1 - found)


def _label_shares(sheet: _Sheet) -> Iterator[Finding]:
    """Shares between 0 and 1 that know fraud from the first day on, when no label could have been known yet, and beat all else."""
    if not sheet.timed:
        return
    first = np.arange(len(sheet.y)) < max(len(sheet.y) // 10, 1)
    if sheet.y[first].sum() < 10:
        return
    for k, name in sheet.numbers:
        column = sheet.x[:, k]
        known = column[~np.isnan(column)]
        if not len(known) or known.min() < 0 or known.max() > 1 or len(np.unique(known)) < 4 or not _rational(known):
            continue
        random, late = sheet.gaps[k]
        early = auc(sheet.y[first], np.nan_to_num(column[first], nan=0.0))
        rest = sheet.model_auc((name,))
        if (
            min(random, late) >= 0.8
            and early >= 0.75
            and sheet.model_auc(()) - rest >= max(GAP, sheet.noise(sheet.later))
        ):
            why = (f"a share that tells fraud from the first tenth of the time on (AUC {early:.2f}), before labels could be known, "
                   "and better than everything else together: later labels are in it")  # fmt: skip
            yield sheet.finding(name, "future_labels", why)


def _rational(values: np.ndarray) -> bool:
    """Are most values fractions of small numbers, 0 and 1 among them?"""
    part = values[:: max(1, len(values) // 2000)]
    bottoms = np.arange(1, 61)
    near = np.abs(part[:, None] * bottoms - np.round(part[:, None] * bottoms)).min(axis=1) < 1e-4
    return bool(near.mean() > 0.9 and (values == 0).any())


def refused(findings: Sequence[Finding | dict[str, Any]]) -> list[str]:
    """Why a model with these findings must not decide: one line a finding that no deployment survives."""
    rows = [f.as_dict() if isinstance(f, Finding) else f for f in findings]
    return [f"`{r['column']}` ({r['kind']}): {r['why']}" for r in rows if r["kind"] in REFUSE]


def without(examples: Examples, findings: Sequence[Finding]) -> Examples:
    """The examples without the columns that leak."""
    bad = {f.column for f in findings}
    return replace(examples).columns([n for n in examples.names if n not in bad])
