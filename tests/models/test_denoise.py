"""Labels that are missing or wrong, and what is done about them."""

from __future__ import annotations

import numpy as np
import pytest

from shopward.models import denoise
from shopward.models.dataset import Examples

pytest.importorskip("lightgbm", reason="needs the ml extra")


def examples(seed: int, n: int = 4000) -> Examples:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    label = (3 * x[:, 0] + 2 * x[:, 1] > 5).astype(np.int8)
    zero, one = np.arange(n), np.ones(n)
    return Examples(("a", "b", "c", "d"), x, label, zero, zero, one, one.copy(), [str(i) for i in range(n)])


def test_flipped_labels_are_found():
    e = examples(1)
    frauds = np.flatnonzero(e.label == 1)
    wrong = np.random.default_rng(1).choice(frauds, len(frauds) // 10, replace=False)
    e.label[wrong] = 0
    found = denoise.suspects(e)
    assert len(set(found[: len(wrong)]) & set(wrong)) > 0.5 * len(wrong)


def test_missing_frauds_are_counted_and_stand_among_the_frauds_again():
    e = examples(2, 8000)
    frauds = np.flatnonzero(e.label == 1)
    gone = np.random.default_rng(2).choice(frauds, int(0.4 * len(frauds)), replace=False)
    e.label[gone] = 0
    fixed, share = denoise.with_missing(e)
    assert 0.35 < share < 0.85
    weight = fixed.weight[fixed.label == 1].sum()
    assert (e.label == 1).sum() < weight < 1.3 * len(frauds)
    assert fixed.weight.sum() == pytest.approx(len(e))


def test_every_row_is_judged_by_models_that_did_not_see_its_time():
    e = examples(3)
    p = denoise.out_of_fold(e)
    assert np.isfinite(p).all() and p[e.label == 1].mean() > 2 * p[e.label == 0].mean()
