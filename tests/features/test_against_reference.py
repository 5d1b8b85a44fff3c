"""The corners that random short streams rarely reach, against the slow reference: many values per key, many filters."""

from __future__ import annotations

import random

import pytest

from shopward.features.live import Windows
from tests.features.streams import SEED, run
from tests.features.test_windows import HOUR, MINUTE, T0, book
from tests.properties.reference import compute

LABELLED = book("""
bad_devices_1h: {entity: account, measure: distinct(device), over: 1h, where: type == "label"}
bad_devices_10m: {entity: account, measure: distinct(device), over: 10m, where: type == "label"}
late_devices_1h: {entity: account, measure: distinct(device), over: 1h, lag: 5m, where: type == "label"}
worst_1h: {entity: account, measure: max(amount), over: 1h, where: type == "label"}
best_10m: {entity: account, measure: min(amount), over: 10m, where: type == "label"}
spread_1h: {entity: account, measure: std(amount), over: 1h, where: type == "label"}
judged_ever: {entity: account, measure: count, over: ever, where: type == "label"}
last_device: {entity: account, measure: last(device), over: 1h, where: type == "label"}
""")

CROWDED = book("""
devices_10m: {entity: account, measure: distinct(device), over: 10m}
devices_1h: {entity: account, measure: distinct(device), over: 1h}
devices_lag: {entity: account, measure: distinct(device), over: 1h, lag: 10m}
cities_1h: {entity: account, measure: distinct(city), over: 1h}
tags_10m: {entity: account, measure: distinct(tags), over: 10m}
ratios_1h: {entity: account, measure: distinct(ratio), over: 1h}
most_10m: {entity: account, measure: max(ratio), over: 10m}
least_1h: {entity: account, measure: min(ratio), over: 1h}
first_city_10m: {entity: account, measure: first(city), over: 10m}
""")


def labelled(n: int, seed: int) -> list[dict]:
    """Many labels on one account, every third one replacing an earlier one."""
    r, t, events, given = random.Random(seed), T0, [], []
    for i in range(n):
        t += r.choice([0, 1000, MINUTE, 2 * MINUTE])
        old = r.choice(given) if given and r.random() < 0.35 else None
        event = old or {"account": r.choice("ab"), "device": f"d{r.randrange(25)}", "label_event": f"x{i}"}
        event = {**event, "type": "label", "label": r.randrange(2), "amount": r.choice([None, r.randrange(50)])}
        given.append(event)
        events.append({**event, "t": t, "ts": t, "seq": i, "event_id": f"e{i}"})
    return events


def crowded(n: int, seed: int) -> list[dict]:
    r, t, events = random.Random(seed), T0, []
    for i in range(n):
        t += r.choice([0, 1000, MINUTE // 4, MINUTE]) if r.random() < 0.97 else 2 * HOUR
        event = {"type": "order", "account": r.choice("aab"), "device": r.choice([None, f"d{r.randrange(40)}"])}
        event |= {"city": r.choice([None, f"c{r.randrange(12)}"]), "ratio": r.choice([None, r.randrange(30) / 7])}
        event |= {"tags": [f"t{r.randrange(30)}" for _ in range(r.randrange(5))]}
        events.append({**event, "t": t - r.choice([0, 0, MINUTE]), "ts": t, "seq": i, "event_id": f"e{i}"})
    return events


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


@pytest.mark.parametrize("mode", ["interpreted", "compiled"])
@pytest.mark.parametrize(("rulebook", "make"), [(LABELLED, labelled), (CROWDED, crowded)], ids=["labels", "crowd"])
def test_engine_agrees_with_the_reference(mode, rulebook, make, folder):
    for seed in range(3):
        events = make(180, seed)
        engine = Windows(rulebook, SEED, mode=mode, cache_dir=folder)
        assert run(engine, events, rulebook.schema, 64) == compute(events, rulebook.features.values(), rulebook.schema)


@pytest.mark.parametrize("mode", ["interpreted", "compiled"])
def test_more_filters_than_a_word_has_bits(mode, folder):
    lines = [f"n_{k}: {{entity: device, measure: count, over: ever, where: amount >= {k}}}" for k in range(70)]
    rulebook = book("\n".join(lines))
    events = [{"device": "d", "t": T0 + i, "amount": 100 * i} for i in range(70)]
    got = run(Windows(rulebook, SEED, mode=mode, cache_dir=folder), events, rulebook.schema)
    assert [column[-1] for column in got.values()] == [70 - k for k in range(70)]
