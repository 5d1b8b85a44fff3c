"""Trying settings: every trial is judged on time folds (each block by what was known before it), recorded, and the best one is kept.

Each run is one row of RUNS: settings, a hash of the data, average precision per fold, seconds. The usual settings are always tried first.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from shopward.models.dataset import Examples
from shopward.models.measure import average_precision
from shopward.models.repair import repaired
from shopward.models.training import Settings, tidy
from shopward.models.trees import DEFAULTS, fit

FOLDS = 3
SPACE: dict[str, tuple] = {
    "learning_rate": (0.02, 0.03, 0.05, 0.1), "num_leaves": (7, 15, 31, 63), "min_data_in_leaf": (20, 50, 100, 300),
    "feature_fraction": (0.2, 0.3, 0.5, 0.8), "lambda_l2": (0.0, 1.0, 10.0, 50.0),
}  # fmt: skip


def data_hash(examples: Examples) -> str:
    """The first 12 hex digits of SHA-256 over names, values, labels and times."""
    digest = hashlib.sha256("\0".join(examples.names).encode())
    for part in (examples.matrix, examples.label, examples.ts, examples.weight):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:12]


def time_folds(examples: Examples, many: int = FOLDS) -> list[tuple[np.ndarray, np.ndarray]]:
    """(teach, judge) masks of growing history: the later half in `many` blocks, each judged by what was known when it began.

    Without times: random parts. Folds with one class on a side are left out.
    """
    if not np.ptp(examples.ts):
        part = np.random.default_rng(7).integers(0, many, len(examples))
        found = [(part != k, part == k) for k in range(many)]
    else:
        edges = np.quantile(examples.ts, np.linspace(0.5, 1, many + 1))
        edges[-1] += 1
        found = []
        for start, end in zip(edges[:-1], edges[1:], strict=True):
            before = examples.ts < start
            known = before & (examples.label_ts <= start)
            found.append(
                (known if (examples.label[known] == 1).any() else before, (examples.ts >= start) & (examples.ts < end))
            )
    fraud = examples.label == 1
    return [(t, j) for t, j in found if fraud[t].any() and fraud[j].any() and not fraud[t].all()]


def search(
    examples: Examples, settings: Settings, runs: Path, on_step: Callable[[str], None] = lambda what: None
) -> tuple[Settings, list[dict[str, Any]]]:
    """(settings with the best params, every run); the runs are appended to the file `runs`. Too few frauds for folds: nothing is tried."""
    examples, _ = tidy(examples)
    folds = [_fold(examples, teach, judge, settings) for teach, judge in time_folds(examples)]
    if not folds:
        return settings, []
    rng, stamp = np.random.default_rng(settings.seed), data_hash(examples)
    tried: list[dict[str, Any]] = []
    for number in range(settings.trials):
        on_step(f"trial {number + 1} of {settings.trials}")
        params = (
            dict(DEFAULTS)
            if number == 0
            else {name: choices[rng.integers(len(choices))] for name, choices in SPACE.items()}
        )
        started = time.perf_counter()
        found = [_judged(fold, replace(settings, params={**settings.params, **params})) for fold in folds]
        tried.append({
            "trial": number, "params": params, "data": stamp, "rows": len(examples), "features": len(examples.names), "folds": found,
            **({"repair": asdict(settings.repair)} if settings.repair else {}),
            "average_precision": float(np.mean(found)), "seconds": round(time.perf_counter() - started, 2),
        })  # fmt: skip
    runs.parent.mkdir(parents=True, exist_ok=True)
    with runs.open("ab") as file:
        file.writelines(msgspec.json.encode(run) + b"\n" for run in tried)
    best = max(tried, key=lambda run: run["average_precision"])
    return replace(settings, params={**settings.params, **best["params"]}), tried


@dataclass(frozen=True, slots=True)
class _Fold:
    """What teaches, repaired where asked; its latest eighth, as it is, which sets the number of trees; and what judges."""

    teach: Examples
    watch: Examples | None
    judge: Examples


def _fold(examples: Examples, teach: np.ndarray, judge: np.ndarray, settings: Settings) -> _Fold:
    rows = np.flatnonzero(teach)[np.argsort(examples.ts[teach], kind="stable")]
    early, late = rows[: len(rows) * 7 // 8], rows[len(rows) * 7 // 8 :]
    fraud = examples.label == 1
    watched = fraud[late].any() and fraud[early].any()
    taught = repaired(
        examples.take(early if watched else rows), settings.repair, settings.seed, settings.threads
    ).examples
    return _Fold(taught, examples.take(late) if watched else None, examples.take(judge))


def _judged(fold: _Fold, settings: Settings) -> float:
    """Average precision on one fold."""
    teach, judge, watch = fold.teach, fold.judge, fold.watch
    categorical = [k for k, name in enumerate(teach.names) if name in teach.categories]
    done = fit(
        teach.matrix, teach.label == 1, teach.names, weight=teach.weight, categorical=categorical,
        later=None if watch is None else (watch.matrix, watch.label == 1),
        trees=min(settings.trees, 300), settings=settings.params, threads=settings.threads, seed=settings.seed,
    )  # fmt: skip
    return average_precision(judge.label == 1, done.forest.score(judge.matrix), judge.weight)
