"""XGBoost's and CatBoost's trees in our forest: the same answers as the libraries that grew them, and models like any other."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shopward.errors import BadData, MissingExtra
from shopward.models import cat, flows, folder, loading, xgb
from shopward.models.training import Settings


def world(seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, fraud, fresh rows with values of every awkward kind that a library takes)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3000, 6))
    x[:, 3] = np.round(x[:, 3])
    x[rng.random(x.shape) < 0.1] = np.nan
    fraud = np.nan_to_num(x[:, 0] * x[:, 1]) + rng.normal(size=3000) > 1.5
    fresh = np.concatenate(
        [rng.normal(size=(700, 6)) * 3, x.astype(np.float32)[:200], np.zeros((1, 6)), np.full((1, 6), np.nan)]
    )
    fresh[:4] = np.array([[0.0], [-0.0], [1e-46], [3e38]])
    return x, fraud, fresh  # fmt: skip


def near_thresholds(forest, fresh: np.ndarray) -> np.ndarray:
    """Rows that stand exactly on thresholds, and one double beside them."""
    inner = np.flatnonzero(forest.left != np.arange(len(forest.left)))[:300]
    rows = np.repeat(fresh[:1], 3 * len(inner), axis=0)
    for k, node in enumerate(inner):
        at = forest.threshold[node]
        rows[3 * k : 3 * k + 3, forest.feature[node]] = at, np.nextafter(at, -np.inf), np.nextafter(at, np.inf)
    return np.concatenate([fresh, rows])


@pytest.mark.parametrize("later", [False, True])
def test_scores_are_xgboosts_bit_for_bit(later):
    library = pytest.importorskip("xgboost", reason="needs the xgboost extra")
    x, fraud, fresh = world()
    done = xgb.fit(x[:2000], fraud[:2000], list("abcdef"), trees=80, later=(x[2000:], fraud[2000:]) if later else None)
    booster = library.Booster(model_file=bytearray(done.text.encode()))
    rows = near_thresholds(done.forest, fresh)
    data = library.DMatrix(rows, nthread=1)
    assert (done.forest.score(rows) == booster.predict(data, output_margin=True)).all()
    parts = booster.predict(library.DMatrix(fresh[4:60], nthread=1), pred_contribs=True)
    np.testing.assert_allclose(done.forest.contributions(fresh[4:60]), parts, atol=1e-4)
    assert done.best <= 80 and done.gains[:2].min() > done.gains[2:].max()


def test_scores_are_catboosts(tmp_path):
    library = pytest.importorskip("catboost", reason="needs the catboost extra")
    x, fraud, fresh = world()
    done = cat.fit(x[:2000], fraud[:2000], list("abcdef"), trees=80, later=(x[2000:], fraud[2000:]))
    model = library.CatBoost()
    (tmp_path / "m.json").write_text(done.text)
    model.load_model(str(tmp_path / "m.json"), format="json")
    rows = near_thresholds(done.forest, fresh)
    np.testing.assert_allclose(done.forest.score(rows), model.predict(rows), rtol=0, atol=1e-12)
    parts = done.forest.contributions(fresh[:60])
    np.testing.assert_allclose(parts.sum(axis=1), done.forest.score(fresh[:60]), atol=1e-9)


@pytest.mark.parametrize("kind", ["xgboost", "catboost"])
def test_a_model_of_another_library_is_a_model_like_any_other(kind, tmp_path):
    pytest.importorskip(kind, reason=f"needs the {kind} extra")
    rng = np.random.default_rng(3)
    amount, what = rng.exponential(50, 3000), rng.choice(["gift", "book", "phone"], 3000)
    label = (rng.random(3000) < 0.05 + 0.4 * ((amount > 60) & (what == "gift"))).astype(int)
    pq.write_table(pa.table({"amount": amount, "what": what, "label": label}), tmp_path / "t.parquet")
    done = flows.train_table(tmp_path / "t.parquet", "label", tmp_path / "m", Settings(kind=kind, trees=60))
    assert done.meta["kind"] == kind and done.meta["metrics"]["roc_auc"] > 0.6
    scores = flows.score_table(tmp_path / "t.parquet", tmp_path / "m")
    assert np.asarray(scores["score"])[label == 1].mean() > 2 * np.asarray(scores["score"])[label == 0].mean()
    reasons = loading.load(tmp_path / "m").explain(np.array([300.0, 1.0]))
    assert {r.feature for r in reasons} == {"amount", "what"} and all(r.contribution for r in reasons)
    file = tmp_path / "m" / folder.TREES[kind][0]
    file.write_text(file.read_text().replace("1", "2", 1))
    with pytest.raises(BadData, match="hash refused"):
        folder.read_model(tmp_path / "m")


@pytest.mark.parametrize(("kind", "module"), [("xgboost", xgb), ("catboost", cat)])
def test_without_the_library_the_line_that_installs_it_is_said(kind, module, monkeypatch):
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'shopward\[{kind}\]'") as error:
        module.fit(np.zeros((4, 1)), np.array([False, True, False, True]), ["a"])
    assert error.value.exit_code == 4


@pytest.mark.parametrize("read", [xgb.read_xgboost, cat.read_catboost])
@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"learner": 3}', '{"oblivious_trees": 1}'])
def test_what_is_no_model_is_refused(read, text):
    with pytest.raises(BadData, match="not the JSON"):
        read(text)
