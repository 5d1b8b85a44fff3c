"""Gradient boosted trees by XGBoost: fitting needs the `xgboost` extra, scoring and explaining do not (`forest.py`).

XGBoost compares and adds up in single precision. Its thresholds are moved to the double that parts the same values, and leaves are
added up in single precision, in the order of the trees: raw scores equal XGBoost's `predict(output_margin=True)` bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from shopward.errors import BadData, extra
from shopward.models.forest import DEFAULT_LEFT, MISSING_IS_NAN, Forest, Tree, join
from shopward.models.trees import FEWEST_TREES, MOST_TREES, PATIENCE, Fitted, ranks

DEFAULTS: dict[str, Any] = {
    "eta": 0.05,
    "max_depth": 5,
    "min_child_weight": 5.0,
    "colsample_bytree": 0.5,
    "lambda": 10.0,
    "tree_method": "hist",
}


def xgboost() -> Any:
    """The library, or MissingExtra with the line that installs it."""
    return extra("xgboost", "xgboost")


def fit(
    matrix: np.ndarray,
    fraud: np.ndarray,
    names: Sequence[str],
    *,
    weight: np.ndarray | None = None,
    categorical: Sequence[int] = (),
    later: tuple[np.ndarray, np.ndarray] | None = None,
    trees: int = MOST_TREES,
    settings: Mapping[str, Any] | None = None,
    threads: int = 1,
    seed: int = 7,
) -> Fitted:
    """Fit on matrix float64[n, d] (NaN missing). With `later` (matrix, fraud of later rows) the number of trees is chosen there.

    Texts (`categorical`) are read as their place among the known ones, commonest first. Raises MissingExtra without XGBoost.
    """
    xgb = xgboost()
    w = np.ones(len(fraud)) if weight is None else weight
    rate = float(np.clip((w * fraud).sum() / w.sum(), 1e-6, 1 - 1e-6))
    params = {
        **DEFAULTS, **(settings or {}), "objective": "binary:logistic", "eval_metric": "aucpr" if ranks(later) else "logloss", "base_score": rate,
        "nthread": threads, "seed": seed, "verbosity": 0,
    }  # fmt: skip
    params["min_child_weight"] = min(params["min_child_weight"], float(fraud.sum()) / 100)
    data = xgb.DMatrix(matrix, fraud.astype(np.float32), weight=w, nthread=threads)
    more: dict[str, Any] = {}
    if later is not None:
        watch = xgb.DMatrix(later[0], later[1].astype(np.float32), nthread=threads)
        more = {"evals": [(watch, "later")], "early_stopping_rounds": PATIENCE, "verbose_eval": False}
    booster = xgb.train(params, data, num_boost_round=trees, **more)
    grown = booster.num_boosted_rounds()
    best = min(max(booster.best_iteration + 1, FEWEST_TREES), grown) if later is not None else grown
    booster = booster[:best]
    text = bytes(booster.save_raw("json")).decode()
    gain = booster.get_score(importance_type="total_gain")
    gains = np.array([gain.get(f"f{i}", 0.0) for i in range(len(names))])
    return Fitted(read_xgboost(text).named(tuple(names)), text, gains, best)


def read_xgboost(text: str) -> Forest:
    """A Forest from XGBoost's JSON (`Booster.save_raw("json")`). Raises BadData when it is no such text, or splits by category."""
    try:
        learner = msgspec.json.decode(text.encode())["learner"]
        param = learner["learner_model_param"]
        many, rate = int(param["num_feature"]), float(param["base_score"].strip("[]"))
        bodies = learner["gradient_booster"]["model"]["trees"]
        if learner["objective"]["name"] != "binary:logistic" or any(any(t["split_type"]) for t in bodies):
            raise BadData("only trees of `binary:logistic` that compare numbers are read")
        trees = [Tree.constant(_margin(rate)), *(_tree(body) for body in bodies)]
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        raise BadData("not the JSON of an XGBoost model with one output") from None
    forest = join(tuple(f"f{i}" for i in range(many)), trees)
    return replace(forest, value=forest.value.astype(np.float32))


def _margin(rate: float) -> float:
    """The log odds that XGBoost starts from, in its single precision."""
    one = np.float32(1.0)
    return float(-np.log(one / np.float32(rate) - one, dtype=np.float32))


def _tree(body: Mapping[str, Any]) -> Tree:
    """One tree: XGBoost counts inner nodes and leaves together, `Tree` counts them apart (~leaf)."""
    left, right = np.array(body["left_children"]), np.array(body["right_children"])
    is_leaf = left < 0
    number = np.where(is_leaf, ~(np.cumsum(is_leaf) - 1), np.cumsum(~is_leaf) - 1)
    inner = np.flatnonzero(~is_leaf)
    split, cover = np.array(body["split_conditions"], np.float32), np.array(body["sum_hessian"], np.float64)
    kind = MISSING_IS_NAN | np.where(np.array(body["default_left"])[inner] != 0, DEFAULT_LEFT, 0)
    return Tree(
        np.array(body["split_indices"])[inner], last_below(split[inner]), number[left[inner]], number[right[inner]], kind,
        cover[inner], split[is_leaf].astype(np.float64), cover[is_leaf], [],
    )  # fmt: skip


def last_below(threshold: np.ndarray) -> np.ndarray:
    """The greatest double that is less than each single-precision threshold once it is rounded to single precision.

    >>> float(last_below(np.array([1.0], np.float32))[0]) < 1.0, np.float32(last_below(np.array([1.0], np.float32))[0]) < 1.0
    (True, np.True_)
    """
    below = np.nextafter(threshold, np.float32(-np.inf))
    middle = (below.astype(np.float64) + threshold.astype(np.float64)) / 2
    return np.where(middle.astype(np.float32) < threshold, middle, np.nextafter(middle, -np.inf))
