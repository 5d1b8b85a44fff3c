"""An event that makes the engine fail: it alone is refused and kept, memory is built again from the log, nothing needs a restart."""

from __future__ import annotations

import msgspec
import pytest

from shopward import Decision, Engine
from shopward.errors import BadEvent, CorruptStore
from tests.end_to_end.story import START
from tests.rules.books import book, rule

BUSY = rule("busy", "account_orders_1h >= 3", "review")


def order(i: int, **more) -> dict:
    return {
        "event_id": f"e{i}",
        "type": "order",
        "ts": START + i,
        "account": "a1",
        "device": "d1",
        "amount": 5.0,
    } | more


def opened(data) -> Engine:
    return Engine(book(BUSY), data=data, mode="interpreted")


@pytest.fixture
def poison(monkeypatch):
    """The features fail on every event whose id begins with `bad`, after they moved."""
    judge = Engine.judge_each

    def fails(engine, events):
        found = judge(engine, events)
        if any(event["event_id"].startswith("bad") for event in events):
            raise ZeroDivisionError("a bug")
        return found

    monkeypatch.setattr(Engine, "judge_each", fails)


def test_a_poison_event_is_kept_as_a_dead_letter_and_its_neighbours_are_decided(tmp_path, poison):
    with opened(tmp_path / "wild") as engine:
        first = engine.decide_events([order(0), order(1)])
        answers = engine.decide_events([order(2), order(3, event_id="bad"), order(4)])
        assert isinstance(answers[1], BadEvent) and "dead-letters.ndjson" in str(answers[1])
        assert [answers[i].reasons for i in (0, 2)] == [("busy",), ("busy",)]
        assert engine.failure is None and (engine.journal.poison, engine.journal.rebuilt) == (1, 2)
        state = engine.state_hash()
        assert engine.decide(order(0)) == first[0]
    with opened(tmp_path / "wild") as engine:
        assert engine.state_hash() == state
    kept = [msgspec.json.decode(line) for line in (tmp_path / "wild" / "dead-letters.ndjson").read_bytes().splitlines()]
    assert [letter["record"]["event_id"] for letter in kept] == ["bad"] and "a bug" in kept[0]["reason"]


def test_memory_after_poison_is_that_of_a_run_without_it(tmp_path, poison):
    wild, calm = opened(tmp_path / "wild"), opened(tmp_path / "calm")
    events = [order(i, account=f"a{i % 3}") for i in range(30)]
    for i in range(0, 30, 5):
        wild.decide_events([*events[i : i + 3], order(100 + i, event_id=f"bad{i}"), *events[i + 3 : i + 5]])
        calm.decide_events(events[i : i + 5])
    for event in events:
        assert wild.find(event["event_id"]) == calm.find(event["event_id"])
    assert wild.journal.log.next_seq == calm.journal.log.next_seq == 30


def test_an_engine_that_fails_on_everything_stops_and_says_so(tmp_path, monkeypatch):
    engine = opened(tmp_path)
    assert engine.failure is None
    monkeypatch.setattr(Engine, "judge_each", lambda engine, events: 1 / 0)
    with pytest.raises(CorruptStore, match="half-way"):
        engine.decide_events([order(i) for i in range(20)])
    assert "a batch failed half-way (division by zero); restart" in engine.failure
    with pytest.raises(CorruptStore, match="half-way"):
        engine.label([])
    engine.close()


def test_an_engine_that_cannot_be_built_again_stops_and_a_restart_helps(tmp_path, poison, monkeypatch):
    engine = opened(tmp_path)
    good = engine.decide(order(1))
    with monkeypatch.context() as patch:
        patch.setattr("shopward.replay._blocks", lambda frames: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.decide(order(2, event_id="bad"))
    assert engine.failure
    engine.close()
    with opened(tmp_path) as again:
        assert isinstance(again.decide(order(1)), Decision) and again.decide(order(1)) == good
