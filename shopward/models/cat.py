"""Gradient boosted symmetric trees by CatBoost: fitting needs the `catboost` extra, scoring and explaining do not (`forest.py`).

A symmetric tree asks the same question at every node of a level; it becomes a full binary tree of our forest. CatBoost compares in
single precision, so its borders are moved to the doubles that part the same values. Sums may differ from CatBoost's in the last bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from shopward.errors import BadData, extra
from shopward.models.forest import DEFAULT_LEFT, MISSING_IS_NAN, Forest, Tree, join
from shopward.models.trees import FEWEST_TREES, MOST_TREES, PATIENCE, Fitted
from shopward.models.xgb import last_below

DEFAULTS: dict[str, Any] = {"learning_rate": 0.05, "depth": 6, "l2_leaf_reg": 10.0, "rsm": 0.5, "border_count": 128}
LEAST = 1e-6


def catboost() -> Any:
    """The library, or MissingExtra with the line that installs it."""
    return extra("catboost", "catboost")


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

    Texts (`categorical`) are read as their place among the known ones, commonest first. Raises MissingExtra without CatBoost.
    """
    cb = catboost()
    params = {
        **DEFAULTS, **(settings or {}), "loss_function": "Logloss", "iterations": trees, "random_seed": seed, "thread_count": threads,
        "verbose": False, "allow_writing_files": False, "allow_const_label": True, "boost_from_average": True,
    }  # fmt: skip
    model = cb.CatBoost(params)
    pool = cb.Pool(matrix, fraud.astype(int), weight=weight)
    if later is None:
        model.fit(pool)
    else:
        watch = cb.Pool(later[0], later[1].astype(int))
        model.fit(pool, eval_set=watch, early_stopping_rounds=PATIENCE, use_best_model=False)
    grown = model.tree_count_
    best = min(max(model.get_best_iteration() + 1, FEWEST_TREES), grown) if later is not None else grown
    model.shrink(best)
    text = _json(model)
    return Fitted(read_catboost(text).named(tuple(names)), text, np.array(model.get_feature_importance()), best)


def _json(model: Any) -> str:
    """The model as CatBoost's JSON, which it writes to files only; without the time and the random name of the run."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        body = msgspec.json.decode(path.read_bytes())
    body["model_info"] = {
        k: v for k, v in body.get("model_info", {}).items() if k not in ("train_finish_time", "model_guid")
    }
    return msgspec.json.encode(body).decode()


def read_catboost(text: str) -> Forest:
    """A Forest from CatBoost's JSON (`save_model(format="json")`). Raises BadData when it is no such text, or not of numbers alone."""
    try:
        body = msgspec.json.decode(text.encode())
        columns = body["features_info"]["float_features"]
        scale, bias = body["scale_and_bias"]
        left = {f["feature_index"]: f.get("nan_value_treatment", "AsIs") != "AsTrue" for f in columns}
        flat = {f["feature_index"]: f["flat_feature_index"] for f in columns}
        trees = [_tree(tree, scale, left, flat) for tree in body["oblivious_trees"]]
        start = float(bias[0] if isinstance(bias, list) else bias)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, IndexError):
        raise BadData("not the JSON of a CatBoost model of symmetric trees with one output") from None
    return join(tuple(f"f{i}" for i in range(len(columns))), [Tree.constant(start), *trees])


def _tree(body: Mapping[str, Any], scale: float, nan_left: Mapping[int, bool], flat: Mapping[int, int]) -> Tree:
    """One symmetric tree in full: split j of the file decides bit j of the leaf's number, and stands on level j here."""
    splits = body["splits"] or []
    if any(s["split_type"] != "FloatFeature" for s in splits):
        raise BadData("only CatBoost models that compare numbers are read")
    depth = len(splits)
    weights = np.array(body["leaf_weights"], np.float64)
    weights = np.maximum(
        weights, LEAST * weights.sum()
    )  # leaves that no row reached: contributions divide by what passed
    border = np.array([s["border"] for s in splits], np.float32)
    at_most = last_below(np.nextafter(border, np.float32(np.inf)))  # CatBoost goes right above the border
    level = np.array([int(np.log2(i + 1)) for i in range(2**depth - 1)], np.int64)
    place = np.arange(len(level)) + 1 - 2**level  # the bits decided so far: split 0 is the lowest of the leaf's number
    below = [np.flatnonzero((np.arange(2**depth) & (2**lv - 1)) == bits) for lv, bits in zip(level, place, strict=True)]
    first, down = 2 ** (level + 1) - 1, level + 1
    go = [np.where(down == depth, ~(place + side * 2**level), first + place + side * 2**level) for side in (0, 1)]
    feature = np.array([s["float_feature_index"] for s in splits], np.int64)
    nan = np.array([DEFAULT_LEFT if nan_left[int(f)] else 0 for f in feature], np.int64)
    columns = np.array([flat[int(f)] for f in feature], np.int64)
    leaves = np.array(body["leaf_values"], np.float64) * scale
    cover = np.array([weights[rows].sum() for rows in below])
    return Tree(columns[level], at_most[level], go[0], go[1], (MISSING_IS_NAN | nan)[level], cover, leaves, weights, [])
