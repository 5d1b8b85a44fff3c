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


def cards(seed: int, n: int = 8000) -> tuple[Examples, np.ndarray]:
    """Payments of 60 cards over 90 days; a third of the cards is stolen for ten days, which the amount shows poorly. And who was hidden."""
    rng = np.random.default_rng(seed)
    ts, card = np.sort(rng.integers(0, 90 * denoise.DAY_MS, n)), rng.integers(1, 61, n)
    day, since = ts // denoise.DAY_MS, rng.integers(0, 80, 61)
    stolen = (card <= 20) & (day >= since[card]) & (day < since[card] + 10)
    x = rng.normal(size=(n, 3)) + np.where(stolen, 1.0, 0.0)[:, None] * [1, 0, 0]
    gone = stolen & (rng.random(n) < 0.6)
    label, one = (stolen & ~gone).astype(np.int8), np.ones(n)
    ids = [str(i) for i in range(n)]
    return Examples(("a", "b", "c"), x, label, ts, ts, one, one.copy(), ids, {"card": card}), gone


def test_unreported_frauds_are_known_by_the_company_they_keep():
    e, gone = cards(4)
    with_cards, _ = denoise.with_missing(e, share=0.4)
    alone, _ = denoise.with_missing(Examples(**{n: getattr(e, n) for n in e.__slots__} | {"groups": {}}), share=0.4)
    found = []
    for fixed in (with_cards, alone):
        assert fixed.names == ("a", "b", "c")  # what helped to find them is not learnt from
        weight = {i: w for i, y, w in zip(fixed.ids, fixed.label, fixed.weight, strict=True) if y == 1}
        found.append(np.mean([weight.get(str(i), 0.0) for i in np.flatnonzero(gone)]))
    assert found[0] > 0.45 and found[0] > 2 * found[1], found


def test_a_row_does_not_count_the_report_about_itself():
    e, _ = cards(5)
    before = denoise.company(e)
    row = int(np.flatnonzero(e.label == 1)[3])
    e.label[row] = 0
    after = denoise.company(e)
    assert np.array_equal(before.matrix[row], after.matrix[row])
    assert not np.array_equal(before.matrix, after.matrix)


def test_suspects_among_cards_are_mostly_wrong_labels():
    e, gone = cards(6)
    found = denoise.suspects(e)
    missed = found[e.label[found] == 0]
    assert gone[missed].mean() > 0.7 and np.isin(np.flatnonzero(gone), missed).mean() > 0.3
