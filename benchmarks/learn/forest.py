"""Scoring 200 trees of 31 leaves over 57 features, one thread: our forest in blocks against LightGBM's predict, equal bit for bit.

Median of five alternating runs of CPU seconds on 60,000 rows; and one row at a time, as a decision asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from benchmarks.report import finish, options
from shopward.models.forest import read_forest
from shopward.models.trees import lightgbm


def timed(run: Callable[[], object]) -> float:
    before = time.process_time()
    run()
    return time.process_time() - before


def run(quick: bool) -> dict:
    """Rows a second, ratios, and that not one bit differs."""
    lgb, rng = lightgbm(), np.random.default_rng(7)
    x = rng.normal(size=(60_000, 57))
    x[rng.random(x.shape) < 0.05] = np.nan
    y = (
        np.nan_to_num(x[:, 0] * x[:, 1] + x[:, 2] - 0.3 * x[:, 5] ** 2 + x[:, 8] * x[:, 9]) + rng.normal(size=len(x))
        > 1.2
    )
    params = {"objective": "binary", "num_leaves": 31, "learning_rate": 0.05, "num_threads": 1, "verbose": -1}
    booster = lgb.train(params, lgb.Dataset(x, y), 200)
    forest = read_forest(booster.model_to_string())
    fresh = rng.normal(size=x.shape)
    fresh[rng.random(x.shape) < 0.05] = np.nan
    theirs, ours = [], []
    forest.score(fresh[:300])
    for _ in range(3 if quick else 5):
        theirs.append(timed(lambda: booster.predict(fresh, raw_score=True, num_threads=1)))
        ours.append(timed(lambda: forest.score(fresh)))
    assert (forest.score(fresh) == booster.predict(fresh, raw_score=True, num_threads=1)).all(), "scores differ"
    one = fresh[:1]
    single = timed(lambda: [booster.predict(one, raw_score=True, num_threads=1) for _ in range(2000)])
    mine = timed(lambda: [forest.score(one) for _ in range(2000)])
    a, b = float(np.median(theirs)), float(np.median(ours))
    return {"rows_per_s": len(fresh) / b, "lightgbm_rows_per_s": len(fresh) / a, "ratio_lightgbm": a / b,
            "one_row_us": mine / 2000 * 1e6, "lightgbm_one_row_us": single / 2000 * 1e6, "ratio_lightgbm_one_row": single / mine}  # fmt: skip


if __name__ == "__main__":
    args = options(__doc__ or "")
    finish("learn/forest", run(args.quick), args.json)
