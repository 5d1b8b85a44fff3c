"""Event types with `decide: false`: they move features, and nobody waits for a decision on them."""

from __future__ import annotations

import pytest

from shopward import Engine, Rulebook
from shopward.features import sql
from shopward.models.linear import Linear
from shopward.runs import decide_files
from shopward.store.query import sql as ask
from tests.rules.books import QUIET
from tests.rules.test_decisions import START

FILES = {
    "schema.yaml": "types: [login, order, {http_request: {decide: false}}]\nfields: {account: {type: string, entity: account}}",
    "features/f.yaml": 'requests_1h: {entity: account, measure: count, over: 1h, where: type == "http_request"}',
    "models/m.yaml": "{from: m, state: champion}",
    "rules/r.yaml": f"id: busy\ntitle: Busy\non: [login, order]\nwhen: requests_1h > 2\nthen: review\n{QUIET}",
}
MODEL = Linear("m", ("requests_1h",), (1.0,))


def event(i: int, type: str = "http_request") -> dict:
    return {"event_id": f"e{i}", "type": type, "ts": START + i, "account": "a"}


STREAM = [event(0), event(1, "login"), event(2), event(3), event(4, "order"), event(5)]


def engine(**options) -> Engine:
    return Engine(Rulebook.from_files(FILES), mode="interpreted", models=[MODEL], **options)


@pytest.mark.parametrize("way", ["one", "batch"])
def test_requests_are_counted_and_only_people_are_judged(way, tmp_path):
    e = engine()
    answers = [e.decide(x) for x in STREAM] if way == "one" else e.decide_events(STREAM)
    assert [a and a.action for a in answers] == [None, "allow", None, None, "review", None]
    assert [a.score is not None for a in answers if a] == [True, True]
    assert e.seq == 6


def test_a_batch_shows_only_what_was_decided():
    e = engine()
    decisions = e.decide_batch(e.batch([e.normaliser(x) for x in STREAM]))
    assert decisions.table()["event_id"].to_pylist() == ["e1", "e4"]
    assert e.features_table(decisions).to_pydict() == {"event_id": ["e1", "e4"], "requests_1h": [1.0, 3.0]}


def test_the_sql_oracle_shows_the_same_rows():
    e = engine()
    batch = e.batch([e.normaliser(x) for x in STREAM])
    found = sql.run(sql.as_table([batch], e.rulebook), e.rulebook)
    assert found.to_pydict() == {"event_id": ["e1", "e4"], "requests_1h": [1.0, 3.0]}


def test_the_log_keeps_the_event_and_no_decision_and_a_retry_is_answered_with_none(tmp_path):
    with engine(data=tmp_path) as e:
        assert [a and a.action for a in e.decide_events(STREAM)] == [None, "allow", None, None, "review", None]
        state = e.state_hash()
        assert [a and a.action for a in e.decide_events(STREAM)] == [None, "allow", None, None, "review", None]
        assert e.state_hash() == state and e.seq == 6
        assert e.find("e0") is None and e.find("e4")["action"] == "review"
    with engine(data=tmp_path) as e:
        assert e.state_hash() == state
        assert e.decide(event(6, "login")).action == "review"
    assert ask(tmp_path, "select count(*) as n from events").to_pylist() == [{"n": 7}]
    assert ask(tmp_path, "select count(*) as n from decisions").to_pylist() == [{"n": 3}]


def test_a_file_of_requests_alone_is_no_mistake(tmp_path):
    import msgspec

    path = tmp_path / "events.ndjson"
    path.write_bytes(msgspec.json.Encoder().encode_lines([event(i) for i in range(5)]))
    files = {name: text for name, text in FILES.items() if not name.startswith("models")}
    summary = decide_files([path], Rulebook.from_files(files))
    assert (summary.events, summary.observed, summary.labels) == (0, 5, 0)
