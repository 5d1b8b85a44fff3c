"""Our scoring of trees against the library that grew them."""

from __future__ import annotations

import numpy as np
import pytest

from shopward.errors import BadData
from shopward.models.forest import BLOCK, read_forest

lgb = pytest.importorskip("lightgbm", reason="needs the ml extra")


def grown(seed: int, categorical: bool = False, missing: bool = True, **params):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3000, 8))
    x[:, 3] = np.round(x[:, 3])
    if missing:
        x[rng.random(x.shape) < 0.1] = np.nan
    if categorical:
        x[:, 5] = rng.integers(-1, 40, 3000)
    y = np.nan_to_num(x[:, 0] * x[:, 1] + (x[:, 5] % 3 == 1)) + rng.normal(size=3000) > 1
    data = lgb.Dataset(x, y, categorical_feature=[5] if categorical else [])
    booster = lgb.train({"objective": "binary", "num_threads": 1, "verbose": -1, "num_leaves": 31, **params}, data, 40)
    fresh = rng.normal(size=(BLOCK * 2 + 77, 8)) * 3
    fresh[rng.random(fresh.shape) < 0.1] = np.nan
    fresh[:5] = [0.0, -0.0, np.inf, -np.inf, 1e-36, 1e300, -1e300, np.nan]
    if categorical:
        fresh[:, 5] = rng.integers(-1, 60, len(fresh))
        fresh[::7, 5] = np.nan
    return booster, fresh


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"zero_as_missing": True},
        {"use_missing": False},
        {"max_depth": 1},
        {"boosting": "rf", "bagging_fraction": 0.6, "bagging_freq": 1},
    ],
)
@pytest.mark.parametrize("categorical", [False, True])
def test_scores_are_lightgbms_bit_for_bit(params, categorical):
    booster, fresh = grown(1, categorical, **params)
    forest = read_forest(booster.model_to_string())
    assert (forest.score(fresh) == booster.predict(fresh, raw_score=True)).all()


def test_no_score_depends_on_its_neighbours():
    booster, fresh = grown(2)
    forest = read_forest(booster.model_to_string())
    whole = forest.score(fresh)
    for size in (1, 3, 8, 9, BLOCK, BLOCK + 1):
        parts = [forest.score(fresh[i : i + size]) for i in range(0, len(fresh), size)]
        assert (np.concatenate(parts) == whole).all()


@pytest.mark.parametrize("categorical", [False, True])
def test_contributions_are_lightgbms_and_add_up_to_the_score(categorical):
    booster, fresh = grown(3, categorical)
    forest = read_forest(booster.model_to_string())
    ours = forest.contributions(fresh[5:105])
    np.testing.assert_allclose(ours, booster.predict(fresh[5:105], pred_contrib=True), atol=1e-9)
    np.testing.assert_allclose(ours.sum(axis=1), forest.score(fresh[5:105]), atol=1e-9)


def test_a_model_without_a_split_says_one_thing():
    data = lgb.Dataset(np.ones((50, 2)), np.arange(50) % 2, free_raw_data=False)
    booster = lgb.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 3)
    fresh = np.zeros((3, 2))
    assert (read_forest(booster.model_to_string()).score(fresh) == booster.predict(fresh, raw_score=True)).all()


def test_a_matrix_of_another_width_is_refused():
    booster, fresh = grown(4)
    with pytest.raises(BadData, match="reads 8 features"):
        read_forest(booster.model_to_string()).score(fresh[:, :7])


def test_other_texts_are_refused():
    with pytest.raises(BadData, match="not the text of a LightGBM model"):
        read_forest("tree\nversion=v4\n")
