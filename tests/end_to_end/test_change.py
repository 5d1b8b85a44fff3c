"""Another rulebook while events keep coming, and a second process that takes over: nothing lost, nothing decided twice."""

from __future__ import annotations

import threading

import pytest

from shopward import Engine
from shopward.change import Change, Follower
from shopward.durable import in_force, kept_rulebook
from shopward.errors import UsageError
from shopward.store.log import read
from tests.end_to_end.story import START
from tests.rules.books import FEATURES, book, rule

MANY = rule("many", "account_orders_1h >= 5", "review")
FEW = rule("few", "account_orders_1h >= 2", "challenge")
DEVICE = 'device_orders_1h: {entity: device, measure: count, over: 1h, where: type == "order"}\n'
SHARED = rule("shared", "device_orders_1h >= 5", "deny")


def order(i: int, **more) -> dict:
    return {
        "event_id": f"e{i}",
        "type": "order",
        "ts": START + i,
        "account": f"a{i % 50}",
        "device": f"d{i % 9}",
    } | more


def opened(data, *rules: str, features: str = FEATURES, mode: str = "interpreted") -> Engine:
    return Engine(book(*rules or (MANY,), features=features), data=data, mode=mode)


MODES = pytest.mark.parametrize("mode", ["interpreted", "compiled"])


def decided(data) -> dict[str, dict]:
    found: dict[str, dict] = {}
    for frame in read(data / "log"):
        for decision in frame.decided() if frame.n else ():
            assert decision["event_id"] not in found, "decided twice"
            found[decision["event_id"]] = decision
    return found


@MODES
def test_a_new_feature_is_warm_at_the_switch_and_the_log_says_where_it_happened(tmp_path, mode):
    engine = opened(tmp_path, mode=mode)
    for i in range(20):
        engine.decide(order(i, device="d1"))
    change = Change(engine, book(SHARED, features=FEATURES + DEVICE))
    change.warm()
    engine.decide(order(20, device="d1"))  # while the new one is ready but not in force
    assert engine.decide(order(21, device="d1")).reasons == ()
    change.switch(by="kim")
    assert engine.decide(order(22, device="d1")).reasons == ("shared",)
    assert engine.decide(order(21, device="d1")).reasons == (), "a retry gets the answer it got"
    assert [d.reasons for d in engine.decide_events([order(i, device="d1") for i in (23, 24)])] == [("shared",)] * 2
    assert engine.seq == 25 and engine.journal.rebuilt == 0
    [*_, switch] = [frame for frame in read(tmp_path / "log") if frame.kind == "switch"]
    assert switch.seq0 == 22 and switch.meta["rulebook"] == engine.rulebook.version
    now = in_force(tmp_path)
    assert (now.version, now.by) == (engine.rulebook.version, "kim")
    engine.close()


@MODES
def test_a_switch_under_load_equals_an_engine_that_always_had_the_rulebook(tmp_path, mode):
    engine, turn, stop = opened(tmp_path, mode=mode), threading.Lock(), threading.Event()
    sent = []

    def traffic() -> None:
        while not stop.is_set():
            with turn:  # the deciding thread
                engine.decide_events([order(len(sent) + k) for k in range(7)])
            sent.extend(range(7))

    thread = threading.Thread(target=traffic)
    thread.start()
    try:
        for rules in ((FEW,), (SHARED,), (MANY,)):
            change = Change(engine, book(*rules, features=FEATURES + DEVICE))
            change.warm()
            with turn:
                change.switch()
    finally:
        stop.set()
        thread.join()
    state, n = engine.state_hash(), engine.seq
    assert engine.journal.rebuilt == 0
    engine.close()
    kept = decided(tmp_path)
    assert n == len(sent) and kept.keys() == {f"e{i}" for i in range(n)}
    assert len({decision["rulebook_version"] for decision in kept.values()}) == 4
    with opened(tmp_path, MANY, features=FEATURES + DEVICE) as again:
        assert again.state_hash() == state


def test_a_rulebook_that_does_not_fit_the_log_is_refused_and_nothing_changes(tmp_path):
    engine = opened(tmp_path)
    engine.decide(order(1))
    files = {name: text.replace("order, ", "") for name, text in book(MANY).files.items()}
    files |= {
        "features/all.yaml": "a_1h: {entity: account, measure: count, over: 1h}",
        "rules/r00.yaml": rule("x", "a_1h > 3", on="[login]"),
    }
    from shopward import Rulebook

    change = Change(engine, Rulebook.from_files(files))
    with pytest.raises(UsageError, match="type `order`"):
        change.warm()
    assert engine.decide(order(2)).event_id == "e2" and engine.rulebook.version == book(MANY).version
    engine.close()


def test_the_rulebook_before_is_kept_for_going_back(tmp_path):
    engine = opened(tmp_path)
    first = engine.rulebook.version
    change = Change(engine, book(FEW))
    change.warm()
    change.switch("kim")
    engine.close()
    assert in_force(tmp_path).before == first
    assert kept_rulebook(tmp_path, first).version == first


def test_a_follower_has_the_same_memory_and_takes_over_without_loss(tmp_path):
    first = Engine(book(MANY), data=tmp_path, clock="server", mode="interpreted")
    for i in range(30):
        first.decide(order(i))
    follower = Follower(tmp_path, "interpreted")
    assert follower.follow() == 31 and follower.follow() == 0  # the first rulebook's frame, too
    assert not follower.take_over()
    change = Change(first, book(FEW))
    change.warm()
    change.switch()
    for i in range(30, 40):
        first.decide(order(i))
    while follower.follow():
        pass
    assert follower.engine.state_hash() == first.state_hash()
    assert follower.engine.rulebook.version == book(FEW).version
    answer = first.decide(order(40))
    first.journal.release()  # gone
    assert follower.take_over()
    second = follower.engine
    assert second.decide(order(40)) == answer and second.decide(order(41)).event_id == "e41"
    assert second.seq == 42 == len(decided(tmp_path))
    second.close()
