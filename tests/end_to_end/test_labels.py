"""Labels in the data folder: months late, corrected the same day, for an amount, refused row by row."""

from __future__ import annotations

import time

from shopward import Engine
from shopward.store import dedup
from shopward.store.lake import compact
from shopward.store.query import sql
from tests.end_to_end.story import START
from tests.rules.books import book, rule

DAY = 86_400_000
FRAUD = 'account_fraud_90d: {entity: account, measure: sum(label), over: 90d, where: type == "label"}'


def order(i: int, **fields) -> dict:
    return {"event_id": f"e{i}", "type": "order", "ts": START + i * 1000, "account": "a1", "amount": 5.0} | fields


def opened(folder, **options) -> Engine:
    return Engine(
        book(rule("known", "account_fraud_90d >= 1", "deny"), features=FRAUD),
        data=folder,
        mode="interpreted",
        **options,
    )


def test_a_chargeback_forty_days_later_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(dedup, "TABLE_ROWS", 50)
    with opened(tmp_path) as engine:
        for day in range(0, 41, 2):
            engine.decide_events([order(day * 1_000 + i, ts=START + day * DAY + i) for i in range(30)])
        engine.journal.dedup.close()
        engine.journal.dedup.maintain()
        assert engine.journal.dedup.memory()["young"] < 200 < engine.journal.dedup.memory()["old"]
        told = engine.label([{"event_id": "e5", "label": 1, "label_ts": START + 40 * DAY, "source": "chargeback"}])
        assert told["taken"] == 1 and engine.find("e5")["action"] == "allow"
        assert engine.decide(order(99_999, ts=START + 40 * DAY + 1)).action == "deny"


def test_a_second_verdict_of_the_same_moment_counts_and_the_same_verdict_again_does_not(tmp_path):
    with opened(tmp_path) as engine:
        engine.decide(order(1))
        fraud = {"event_id": "e1", "label": 1, "label_ts": "2026-01-02", "source": "chargeback", "amount": 12.5}
        assert engine.label([fraud])["taken"] == 1
        assert engine.decide(order(2, ts=START + 2 * DAY)).action == "deny"
        cleared = fraud | {"label": 0, "source": "analyst", "amount": None}
        assert engine.label([fraud, cleared, fraud])["repeated"] == 2
        assert engine.decide(order(3, ts=START + 2 * DAY + 1)).action == "allow"
    query = "SELECT event_id, label, source, amount FROM labels ORDER BY seq"
    expected = [
        {"event_id": "e1", "label": 1.0, "source": "chargeback", "amount": 12.5},
        {"event_id": "e1", "label": 0.0, "source": "analyst", "amount": None},
    ]
    assert sql(tmp_path, query).to_pylist() == expected
    compact(tmp_path)
    assert sql(tmp_path, query).to_pylist() == expected


def test_a_label_from_the_future_is_refused_by_a_server_too(tmp_path):
    now = time.time_ns() // 1_000_000
    with opened(tmp_path, clock="server") as engine:
        engine.decide(order(1, ts=now))
        told = engine.label([{"event_id": "e1", "label": 1, "label_ts": now + 30 * DAY}])
        assert told["taken"] == 0 and "label_ts: in the future" in told["refused"][0]["error"]
        assert engine.decide(order(2, ts=now)).action == "allow"


def test_labels_of_one_frame_read_it_once(tmp_path, monkeypatch):
    with opened(tmp_path) as engine:
        engine.decide_events([order(i) for i in range(200)])
        engine.decide_events([order(i) for i in range(200, 300)])
        asked = []
        find = engine.journal.log.frame_with
        monkeypatch.setattr(engine.journal.log, "frame_with", lambda seq: asked.append(seq) or find(seq))
        rows = [{"event_id": f"e{i}", "label": i % 2, "label_ts": START + DAY} for i in reversed(range(300))]
        assert engine.label(rows)["taken"] == 300
        assert asked == [0, 200]
