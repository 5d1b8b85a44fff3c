"""The data folder: retries, conflicts, labels, restarts, privacy."""

from __future__ import annotations

import msgspec
import pytest

from shopward import Engine, durable, replay
from shopward.errors import BadEvent, UsageError
from tests.end_to_end.story import START, rulebook, write_events
from tests.rules.books import book, rule


def order(i: int, **fields) -> dict:
    return {
        "event_id": f"e{i}",
        "type": "order",
        "ts": START + i * 1000,
        "account": "a1",
        "device": "d1",
        "amount": 5.0,
        **fields,
    }


def test_a_retried_event_gets_the_answer_it_got_before(tmp_path):
    with Engine(book(rule("second", "account_orders_1h >= 2")), data=tmp_path, mode="interpreted") as engine:
        first = engine.decide(order(1))
        engine.decide(order(2))
        again = engine.decide(order(1))
        assert again == first
        assert engine.find("e1")["action"] == "allow" and engine.find("e2")["action"] == "review"
        assert engine.find("nobody") is None


def test_the_same_id_with_other_content_keeps_the_first_and_is_counted(tmp_path):
    with Engine(book(rule("big", "amount > 100", "deny")), data=tmp_path, mode="interpreted") as engine:
        assert engine.decide(order(1)).action == "allow"
        assert engine.decide(order(1, amount=500.0)).action == "allow"
        assert (engine.journal.dedup.duplicates, engine.journal.dedup.conflicts) == (0, 1)


def test_a_restart_goes_on_where_the_log_ends_with_and_without_a_snapshot(tmp_path):
    path = tmp_path / "events.ndjson"
    write_events(path, 1_000)
    events = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    hashes = []
    for keep_snapshot in (True, False):
        data = tmp_path / f"data{keep_snapshot}"
        engine = Engine(rulebook(), data=data, mode="interpreted", seed=None)
        for i in range(0, 600, 100):
            engine.decide_events([dict(e) for e in events[i : i + 100]])
        before = engine.state_hash()
        lists = engine.lists.entries()
        if keep_snapshot:
            engine.close()
        else:
            engine.journal.log.close()
        again = Engine(rulebook(), data=data, mode="interpreted")
        assert again.state_hash() == before
        assert again.lists.entries() == lists
        for i in range(600, len(events), 100):
            again.decide_events([dict(e) for e in events[i : i + 100]])
        hashes.append([d["action"] for f in again.journal.log.replay() if f.kind == "events" for d in f.decided()])
        again.close()
    assert hashes[0] == hashes[1]


def test_a_label_reaches_features_and_rules_after_it_was_told(tmp_path):
    features = 'account_fraud_90d: {entity: account, measure: sum(label), over: 90d, where: type == "label"}'
    with Engine(
        book(rule("known", "account_fraud_90d >= 1", "deny"), features=features), data=tmp_path, mode="interpreted"
    ) as engine:
        assert engine.decide(order(1)).action == "allow"
        told = engine.label(
            [
                {"event_id": "e1", "label": 1, "label_ts": START + 5_000},
                {"event_id": "ghost", "label": 1, "label_ts": START},
            ]
        )
        assert told == {"taken": 1, "repeated": 0, "unknown": 1, "refused": []}
        assert engine.decide(order(9)).action == "deny"
        engine.label([{"event_id": "e1", "label": 0, "label_ts": START + 10_000}])
        assert engine.decide(order(11)).action == "allow"


def test_labels_need_a_data_folder():
    with pytest.raises(BadEvent, match="data folder"):
        Engine(book(rule("big", "amount > 100"))).label([{"event_id": "e1", "label": 1, "label_ts": 0}])


def test_two_processes_cannot_write_one_data_folder(tmp_path):
    with (
        Engine(book(rule("big", "amount > 100")), data=tmp_path, mode="interpreted"),
        pytest.raises(UsageError, match="process"),
    ):
        Engine(book(rule("big", "amount > 100")), data=tmp_path, mode="interpreted")


def test_personal_data_is_only_in_the_vault(tmp_path):
    with Engine(book(rule("mail", 'endswith(mail_domain, "example")')), data=tmp_path, mode="interpreted") as engine:
        answer = engine.decide(order(1, email="very.private@shop.example"))
        assert answer.reasons == ("mail",)
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.name.startswith("shopward.db"):
            assert b"very.private" not in path.read_bytes(), path


def test_a_bad_event_among_good_ones_is_refused_alone(tmp_path):
    with Engine(book(rule("big", "amount > 100")), data=tmp_path, mode="interpreted") as engine:
        good, bad, other = engine.decide_events([order(1), {"type": "order"}, order(2)])
        assert good.event_id == "e1" and other.event_id == "e2"
        assert isinstance(bad, BadEvent)
        assert engine.journal.log.next_seq == 2


def test_a_snapshot_of_another_form_is_passed_over_and_the_log_says_it_all_again(tmp_path, monkeypatch):
    made = book(rule("second", "account_orders_1h >= 2"))
    with Engine(made, data=tmp_path, mode="interpreted") as engine:
        engine.decide_events([order(i) for i in range(5)])
        state = engine.state_hash()
    form = replay.STATE_FORM + 1
    monkeypatch.setattr(replay, "STATE_FORM", form)
    monkeypatch.setattr(durable, "STATE_FORM", form)
    with Engine(made, data=tmp_path, mode="interpreted") as engine:
        assert engine.journal.snapshot_due == durable.SNAPSHOT_EVERY  # nothing was taken from the snapshot
        assert engine.state_hash() == state


def test_closing_an_engine_stops_compiling(tmp_path):
    engine = Engine(
        book(
            rule("second", "account_orders_1h >= 2"),
            features="x_1h: {entity: device, measure: count, over: 61m}\naccount_orders_1h: {entity: account, measure: count, over: 1h}",
        )
    )
    engine.close()
    assert engine.windows.background is None
