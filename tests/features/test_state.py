"""State depends on the order of events alone: not on batches, snapshots, growth, recycling or which engine ran."""

from __future__ import annotations

import random

import numpy as np
import pytest

from shopward.batch import Batch
from shopward.errors import CorruptStore
from shopward.features import arena, live
from shopward.features import compile as kernels
from shopward.features.live import Windows
from tests.features.streams import SEED, batch_of, run
from tests.features.test_windows import BOOK, HOUR, MINUTE, T0, book

WINDOWED = book("""
n_1m: {entity: account, measure: count, over: 1m}
n_1h: {entity: account, measure: count, over: 1h}
spent_1h: {entity: account, measure: sum(amount), over: 1h}
devices_1h: {entity: account, measure: distinct(device), over: 1h}
most_1h: {entity: account, measure: max(amount), over: 1h}
city_before: {entity: account, measure: last(city), over: 1h}
accounts_1h: {entity: device, measure: distinct(account), over: 1h}
pair_1h: {entity: [account, device], measure: count, over: 1h, lag: 1m}
any_1h: {entity: account, via: [account, seller], measure: count, over: 1h}
bad_1h: {entity: account, measure: mean(label), over: 1h, where: type == "label"}
""")


def stream(n: int, keys: int, seed: int = 1, step: int = 20 * MINUTE) -> list[dict]:
    """Events with ties, late ones, nulls, labels and replaced labels."""
    r, t, events, judged = random.Random(seed), T0, [], []
    for i in range(n):
        t += r.choice([0, 0, 1, step // 10, step])
        if judged and r.random() < 0.2:
            event = {**r.choice(judged), "type": "label", "label": r.randrange(2), "t": t}
        else:
            account, device = f"a{r.randrange(keys)}", r.choice([None, f"d{r.randrange(keys // 2 + 1)}"])
            event = {"account": account, "device": device, "t": t - r.choice([0, 0, 0, 59_999, HOUR]), "type": "order"}
            event |= {
                "seller": r.choice([None, f"a{r.randrange(keys)}"]),
                "amount": r.choice([None, r.randrange(10**6)]),
            }
            event |= {"city": r.choice([None, "Köln", "東京", "São Paulo"]), "label_event": f"e{i}"}
            judged = [*judged[-20:], event]
        events.append(
            {k: v for k, v in event.items() if k != "label_event" or event["type"] == "label"} | {"ratio": r.random()}
        )
        if event["type"] != "label":
            judged[-1]["label_event"] = f"e{i}"
    return events


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def often(monkeypatch):
    """Idle keys are looked for every 16 events."""
    monkeypatch.setattr(live, "SWEEP", 16)


def windows(folder, mode="compiled", rulebook=BOOK) -> Windows:
    return Windows(rulebook, SEED, mode=mode, cache_dir=folder)


def test_values_and_state_do_not_depend_on_batches_or_on_the_engine(folder, often):
    events = stream(400, 7)
    seen = []
    for mode, size in (("interpreted", 1), ("interpreted", 400), ("compiled", 1), ("compiled", 7), ("compiled", 4096)):
        engine = windows(folder, mode, WINDOWED)
        seen.append((run(engine, events, WINDOWED.schema, size), engine.state_hash()))
    assert all(other == seen[0] for other in seen[1:])


def test_recycling_changes_no_value(folder, monkeypatch):
    events = stream(1500, 300, step=2 * HOUR)
    keeping = windows(folder, "interpreted", WINDOWED)
    expected = run(keeping, events, WINDOWED.schema, 100)
    monkeypatch.setattr(live, "SWEEP", 16)
    for mode in ("interpreted", "compiled"):
        recycling = windows(folder, mode, WINDOWED)
        assert run(recycling, events, WINDOWED.schema, 100) == expected
        assert recycling.memory()["keys"] < keeping.memory()["keys"] / 4


def test_a_recycled_key_leaves_nothing_behind(folder, often):
    engine = windows(folder, rulebook=WINDOWED)
    first = [{"account": f"a{i % 5}", "device": f"d{i}", "t": T0 + i, "amount": 5} for i in range(320)]
    run(engine, first, WINDOWED.schema, 64)
    later = [{"account": "z", "t": T0 + 10 * HOUR + i} for i in range(320)]
    run(engine, later, WINDOWED.schema, 64, seq0=320)
    memory = engine.memory()
    assert memory["keys"] == 2 and memory["live_events"] == 2 * 320  # `z` as account and as either role
    assert all(not header[0] for m in engine.families for r in m.rings.values() for header in r.index_headers.values())


@pytest.mark.parametrize("mode", ["interpreted", "compiled"])
def test_what_windows_hold_is_told_by_sizes_and_grows_with_what_they_remember(mode, folder):
    engine = windows(folder, mode, WINDOWED)
    empty = engine.held()
    run(engine, stream(600, 30), WINDOWED.schema, 50)
    memory = engine.memory()
    assert empty < engine.held() <= memory["bytes"]
    assert engine.held() - empty >= 8 * memory["live_events"], "an event's slot has at least a time and a value"


@pytest.mark.parametrize("mode", ["interpreted", "compiled"])
def test_a_restored_snapshot_goes_on_as_if_nothing_happened(mode, folder, often):
    events = stream(600, 30)
    straight = windows(folder, mode, WINDOWED)
    expected = run(straight, events, WINDOWED.schema, 50)
    half = windows(folder, "compiled", WINDOWED)
    run(half, events[:300], WINDOWED.schema, 50)
    restored = windows(folder, mode, WINDOWED)
    restored.restore(half.snapshot())
    assert restored.state_hash() == half.state_hash()
    assert restored.memory()["live_events"] == half.memory()["live_events"]
    rest = run(restored, events[300:], WINDOWED.schema, 50, seq0=300)
    assert rest == {name: column[300:] for name, column in expected.items()}
    assert restored.state_hash() == straight.state_hash()


def test_a_snapshot_of_other_features_is_refused(folder):
    part = windows(folder, "interpreted", WINDOWED).snapshot()
    with pytest.raises(CorruptStore, match="other features"):
        windows(folder, "interpreted").restore(part)


def test_areas_that_cannot_be_reserved_grow_by_copying(folder, monkeypatch):
    events = stream(300, 40)
    expected = windows(folder, rulebook=WINDOWED)
    values = run(expected, events, WINDOWED.schema, 100)
    monkeypatch.setattr(arena, "_mapped", lambda size: None)
    monkeypatch.setattr(arena, "SMALL", 64)
    for mode in ("interpreted", "compiled"):
        cramped = windows(folder, mode, WINDOWED)
        assert run(cramped, events, WINDOWED.schema, 100) == values
        assert cramped.state_hash() == expected.state_hash()


def test_an_area_keeps_what_it_holds_when_its_first_page_becomes_a_large_one():
    area = arena.Area("some numbers", 8)
    items = arena.WORTH // 8 + 1
    where = arena.address(area.array)
    area.array[:items] = np.arange(items)
    area.settle(items)
    area.array[items] = 7
    assert area.array[: items + 2].tolist() == [*range(items), 7, 0]
    assert arena.address(area.array) == where and where % arena.PAGE == 0


def test_a_large_table_begins_with_zeros():
    table = arena.zeros(arena.WORTH // 8)
    assert len(table) == arena.WORTH // 8 and not table.any() and table.flags.writeable


def test_decisions_run_interpreted_until_the_kernels_are_compiled(tmp_path):
    rulebook = book("n_77s: {entity: account, measure: count, over: 77s}")
    engine = Windows(rulebook, SEED, mode="auto", cache_dir=tmp_path)
    assert not engine.compiled
    events = [{"account": "ann", "t": T0 + i * 1000} for i in range(100)]
    early = run(engine, events[:50], rulebook.schema, 10)
    engine.wait_compiled()
    assert engine.compiled
    late = run(engine, events[50:], rulebook.schema, 10, seq0=50)
    assert early["n_77s"] + late["n_77s"] == [min(i + 1, 78) for i in range(100)]
    assert Windows(rulebook, SEED, mode="auto", cache_dir=tmp_path).compiled


def test_results_that_somebody_still_holds_are_not_overwritten(folder):
    engine = windows(folder, rulebook=WINDOWED)
    blocks = [engine.update(batch_of([{"account": "ann", "t": T0 + i}], WINDOWED.schema, i)) for i in range(8)]
    assert [b.values[1, 0] for b in blocks] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_five_million_keys_stay_in_bounded_memory(folder):
    rulebook = book("""
n_1h: {entity: account, measure: count, over: 1h}
devices_1h: {entity: account, measure: distinct(device), over: 1h}
accounts_1h: {entity: device, measure: distinct(account), over: 1h}
""")
    engine = windows(folder, rulebook=rulebook)
    n, r, used = 8192, np.random.default_rng(1), []
    for seq0 in range(0, 5_000_000, n):
        t = T0 + (np.arange(n) + seq0) * 36  # 100,000 events an hour, all keys new
        account, device = (r.integers(1, 1 << 62, (n, 2)) for _ in range(2))
        engine.update(Batch(n, seq0, t, t, np.ones(n, np.int16), [], hashes={"account": account, "device": device}))
        if seq0 // n % 20 == 0:
            used.append(engine.memory()["bytes"])
    assert max(used[15:]) <= 1.2 * max(used[:15])
    assert engine.memory()["keys"] < 1_500_000


def test_a_snapshot_under_another_seed_is_refused(folder):
    part = windows(folder, "interpreted", WINDOWED).snapshot()
    with pytest.raises(CorruptStore, match="another seed"):
        Windows(WINDOWED, bytes(16), mode="interpreted").restore(part)


def test_kernels_that_cannot_be_compiled_leave_the_engine_interpreted(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    rulebook = book("n_78s: {entity: account, measure: count, over: 78s}")
    engine = Windows(rulebook, SEED, mode="auto", cache_dir=tmp_path)
    assert engine.background is not None
    engine.background.wait()
    with pytest.warns(UserWarning, match="stay interpreted"):
        values = run(engine, [{"account": "ann", "t": T0}], rulebook.schema)
    assert values["n_78s"] == [1] and not engine.compiled


def test_the_kernel_folder_stays_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "KEPT", 3)
    for seconds in range(1, 5):
        rulebook = book(f"n: {{entity: account, measure: count, over: {seconds}s}}")
        Windows(rulebook, SEED, mode="auto", cache_dir=tmp_path).close()
    assert len(list(tmp_path.glob("k_*.py"))) == 3


def test_an_empty_batch_gives_an_empty_answer(folder):
    for mode in ("interpreted", "compiled"):
        block = windows(folder, mode, WINDOWED).update(batch_of([], WINDOWED.schema))
        assert block.values.shape == (len(WINDOWED.features), 0)
