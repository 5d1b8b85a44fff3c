"""Gradient boosted trees by LightGBM: fitting needs the `ml` extra, scoring and explaining do not (`forest.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shopward.errors import extra
from shopward.models.forest import Forest, read_forest

DEFAULTS: dict[str, Any] = {
    "learning_rate": 0.03,
    "num_leaves": 15,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.3,
    "lambda_l2": 10.0,
}
MOST_TREES, FEWEST_TREES = 600, 30
PATIENCE = 60  # trees without a gain on the later rows, then no more are grown


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted forest and LightGBM's own text of it; `best` is the number of trees that did best on the later rows."""

    forest: Forest
    text: str
    gains: np.ndarray
    best: int


def lightgbm() -> Any:
    """The library, or MissingExtra with the line that installs it."""
    return extra("ml", "lightgbm")


def fit(
    matrix: np.ndarray,
    fraud: np.ndarray,
    names: Sequence[str],
    *,
    weight: np.ndarray | None = None,
    categorical: Sequence[int] = (),
    later: tuple[np.ndarray, np.ndarray] | None = None,
    trees: int = 300,
    settings: Mapping[str, Any] | None = None,
    threads: int = 1,
    seed: int = 7,
) -> Fitted:
    """Fit on matrix float64[n, d] (NaN missing). With `later` (matrix, fraud of later rows) the number of trees is chosen there.

    Names may be anything; inside LightGBM columns are f0, f1 ... Raises MissingExtra without LightGBM.
    """
    lgb = lightgbm()
    params = {**DEFAULTS, **(settings or {})}
    params["min_data_in_leaf"] = int(max(2, min(params["min_data_in_leaf"], fraud.sum() / 3, len(fraud) / 20)))
    params |= {
        "objective": "binary", "metric": "average_precision" if ranks(later) else "binary_logloss", "num_threads": threads, "seed": seed, "verbose": -1,
        "deterministic": True, "force_row_wise": True,
    }  # fmt: skip
    inner = [f"f{i}" for i in range(len(names))]
    data = lgb.Dataset(
        matrix, fraud.astype(np.int8), weight=weight, feature_name=inner, categorical_feature=list(categorical)
    )
    valid, callbacks = [], []
    if later is not None:
        valid = [lgb.Dataset(later[0], later[1].astype(np.int8), reference=data)]
        callbacks = [lgb.early_stopping(PATIENCE, verbose=False, first_metric_only=True)]
    booster = lgb.train(
        params, data, num_boost_round=trees, valid_sets=valid, callbacks=callbacks, keep_training_booster=True
    )
    best = booster.best_iteration if later is not None and booster.best_iteration > 0 else booster.num_trees()
    best = min(
        max(best, FEWEST_TREES), booster.num_trees()
    )  # a handful of trees is luck, and says little about probabilities
    text = booster.model_to_string(num_iteration=best)
    forest = read_forest(text).named(tuple(names))
    return Fitted(forest, text, booster.feature_importance("gain", iteration=best), best)


def ranks(later: tuple[np.ndarray, np.ndarray] | None) -> bool:
    """Does average precision decide about the number of trees? It jumps about when there are few frauds; log loss does not."""
    return later is not None and bool(later[1].sum() >= 300)
