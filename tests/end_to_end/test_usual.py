"""Evidence says what the value usually is, once enough people stand behind that."""

from __future__ import annotations

import numpy as np
import pytest

from shopward import Engine, Rulebook
from shopward.features.usual import Usual
from shopward.store.findings import read_findings
from tests.end_to_end.test_files_into_data import BOOK, pay

WIDE = BOOK | {"rules/many.yaml": BOOK["rules/many.yaml"].replace("on: [pay]", "on: [pay, refund]"),
               "schema.yaml": BOOK["schema.yaml"].replace("[pay]", "[pay, refund]")}  # fmt: skip


@pytest.fixture(scope="module")
def book() -> Rulebook:
    return Rulebook.from_files(WIDE)


def opened(book, path) -> Engine:
    return Engine(book, data=path, mode="interpreted")


def crowd(n: int, cards: int) -> list[dict]:
    return [pay(i, card=f"card-{i % cards}") for i in range(n)]


def fraudster(engine: Engine, start: int = 9_000, kind: str = "pay"):
    answers = engine.decide_events([pay(start + i, card=f"one-{start}", type=kind) for i in range(6)])
    return answers[-1].evidence[0]


def test_a_value_is_shown_beside_what_is_usual(book, tmp_path):
    with opened(book, tmp_path) as engine:
        engine.decide_events(crowd(4_000, 3_000))
        assert fraudster(engine).usual is None, "told from the next start, or after many events"
    with opened(book, tmp_path) as engine:
        found = fraudster(engine, 9_500)
        assert (found.feature, found.value, found.usual) == ("card_pays_7d", 6.0, (1.0, 2.0))
        assert fraudster(engine, 9_700, "refund").usual is None, "nothing is known of refunds"
    assert [e.usual for e in read_findings(tmp_path, source="rule:many") if "e9505" in e.event_ids] == [[1.0, 2.0]]


def test_nothing_is_told_of_a_few_people(book, tmp_path):
    with opened(book, tmp_path) as engine:
        engine.decide_events(crowd(4_000, 15))
    with opened(book, tmp_path) as engine:
        assert engine.usual.shown == {} and fraudster(engine).usual is None


def test_it_is_the_same_after_a_crash_and_however_the_stream_was_cut(book, tmp_path):
    events = crowd(3_000, 700)
    with opened(book, tmp_path / "whole") as engine:
        engine.decide_events(events)
        engine.usual.publish()
        told = dict(engine.usual.shown)
    engine = opened(book, tmp_path / "cut")
    for start in range(0, 3_000, 37):
        engine.decide_events(events[start : start + 37])
        if start == 37 * 20:
            engine.snapshot()
    engine.journal.log.sync()
    engine.journal.release()  # no snapshot at the end, as after a crash
    with opened(book, tmp_path / "cut") as engine:
        assert engine.usual.shown == told and 2 <= told["pay", "card_pays_7d"][0] <= 3


def test_quantiles_are_near_the_true_ones(book):
    class Batch:
        seq0, n = 0, 200_000
        types = np.ones(n, np.int16)
        hashes = {"card": np.arange(2 * n).reshape(n, 2) + 1}  # noqa: RUF012
        numbers: dict = {}  # noqa: RUF012

    values = np.random.default_rng(5).lognormal(2, 1.5, (2, Batch.n))
    usual = Usual(book)
    usual.watch(Batch, values)
    assert set(usual.shown) == {("pay", "card_pays_7d"), ("pay", "card_frauds")}
    for row, feature in enumerate(("card_pays_7d", "card_frauds")):
        for told, part in zip(usual.shown["pay", feature], (0.5, 0.99), strict=True):
            true = np.quantile(values[row], part)
            assert 0.85 * true < told < 1.1 * true, "a bin is 6 % wide, a sample of 12,500 adds some"


def test_small_whole_numbers_are_exact_and_memory_is_bounded(book):
    usual = Usual(book)
    assert sum(array.nbytes for array in usual.snapshot().values()) < 1 << 20
    from shopward.features.usual import BINS, _bin, _quantiles

    for value in (*range(33), 1e300, 1e-300):
        counts = np.zeros((1, BINS), np.uint32)
        counts[0, _bin(float(value))] = 3
        shown = _quantiles(counts)[0, 0]
        assert shown == value or value not in range(33), value
