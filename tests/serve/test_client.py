"""The Python client against a real server: typed answers, one decision however often it is sent, and the standby when the first dies."""

from __future__ import annotations

import threading

import pytest

from shopward import Decision
from shopward.client import Client, Refused, Unreachable
from shopward.errors import BadEvent, UsageError
from shopward.store.log import read
from tests.rules.books import book, rule
from tests.serve.server import TOKEN, Server, free_port, write_rulebook
from tests.serve.test_http import LOGIN


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("client")
    rules = write_rulebook(
        folder / "rules",
        book(rule("big", "amount > 100", "deny"), rule("listed", 'listed("blocked_devices", device)', "deny")),
    )
    with Server("--data", folder / "data", "--rulebook", rules) as server:
        server.data = folder / "data"
        yield server


@pytest.fixture
def client(server):
    with Client(server.url, TOKEN) as client:
        yield client


def order(event_id: str, **more) -> dict:
    return {
        "type": "order",
        "ts": LOGIN["ts"],
        "account": "a1",
        "device": "d1",
        "event_id": event_id,
        "amount": 5,
    } | more


def test_a_decision_comes_back_with_its_reasons_and_evidence(client):
    decision = client.decide(order("c1", amount=500))
    assert isinstance(decision, Decision) and (decision.action, decision.reasons) == ("deny", ("big",))
    assert decision.evidence[0].value == 500
    assert client.decision("c1") == decision and client.decision("nobody/at all?") is None


def test_an_event_without_an_id_gets_one_before_it_is_sent(client):
    event = {name: value for name, value in order("x").items() if name != "event_id"}
    first, second = client.decide(event), client.decide(event)
    assert len(first.event_id) == 32 and first.event_id != second.event_id


def test_what_cannot_be_used_is_an_error_with_the_servers_words(client):
    with pytest.raises(BadEvent, match="ts: missing"):
        client.decide({"type": "order"})
    with pytest.raises(Refused, match="401"):
        Client(client.urls, "wrong").decide(order("c2"))
    with pytest.raises(UsageError, match="http"):
        Client("127.0.0.1:80", "t")


def test_many_events_keep_their_order_and_their_errors(client):
    events = [order(f"m{i}") if i % 7 else {"type": "order", "event_id": f"m{i}"} for i in range(1_234)]
    answers = list(client.decide_many(iter(events), lines=100))
    assert len(answers) == 1_234
    for i, answer in enumerate(answers):
        assert isinstance(answer, BadEvent) if i % 7 == 0 else answer.event_id == f"m{i}"


def test_labels_and_lists_go_the_same_way(client):
    client.decide(order("l1"))
    assert client.label([{"event_id": "l1", "label": 1, "label_ts": LOGIN["ts"]}])["taken"] == 1
    assert client.write_lists([{"list": "blocked_devices", "key": "d-bad", "valid_from": 0}]) == 1
    assert client.decide(order("l2", device="d-bad")).reasons == ("listed",)


def test_a_server_that_restarts_is_waited_for_and_nothing_is_doubled(tmp_path):
    rules = write_rulebook(tmp_path / "rules", book(rule("big", "amount > 100", "deny")))
    options, port = ("--data", tmp_path / "data", "--rulebook", rules), free_port()
    first = Server(*options, port=port)
    client, answers = Client(first.url, TOKEN, tries=40), []
    work = threading.Thread(target=lambda: answers.extend(client.decide(order(f"r{i}")) for i in range(300)))
    work.start()
    while not answers and client.decision("r20") is None:
        pass
    first.kill()
    with Server(*options, port=port) as again:
        work.join(timeout=60)
        again.stop()
    assert [answer.event_id for answer in answers] == [f"r{i}" for i in range(300)]
    kept = [
        decision["event_id"] for frame in read(tmp_path / "data" / "log") if frame.n for decision in frame.decided()
    ]
    assert sorted(kept) == sorted(f"r{i}" for i in range(300))


def test_a_standby_is_asked_when_the_first_does_not_answer(server):
    dead = f"http://127.0.0.1:{free_port()}"
    with Client([dead, server.url], TOKEN, timeout=1) as client:
        assert client.decide(order("s1")).event_id == "s1"
    with pytest.raises(Unreachable, match="safe"):
        Client(dead, TOKEN, tries=2).decide(order("s2"))
