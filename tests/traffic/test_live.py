"""Traffic as it happens: what the watch sees in requests reaches decisions, over HTTP and from a broker, and survives a kill."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import msgspec
import pytest

from shopward import Engine, Rulebook
from shopward.errors import StoreFull
from shopward.rules_test import run_tests
from shopward.store.findings import read_findings
from shopward.traffic.live import Live, Watch, shipped
from tests.serve.server import Server, write_rulebook

AGENT = {
    "user-agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36"
}
START = 1_767_225_600_000
SHOP = {
    "schema.yaml": "types: [login, order, traffic_verdict]\n"
    "fields:\n"
    "  account: {type: string, entity: account}\n"
    "  device: {type: string, entity: device}\n"
    "  session: {type: string, entity: session}\n"
    "  ip: {type: string, entity: ip, pii: true}\n"
    "  verdict: string\n"
    "  verdict_score: number\n",
    "features/f.yaml": "session_attacks_24h: {entity: session, measure: count, over: 24h, "
    'where: type == "traffic_verdict" and verdict == "attack"}',
    "lists/l.yaml": "blocked_devices: {kind: block, entity: device}",
    "rules/a.yaml": "id: attacker\ntitle: An attacker signs in\non: [login]\nwhen: session_attacks_24h >= 1\nthen: challenge\n"
    f"tests: [{{name: quiet, events: [{{type: login, ts: {START}}}], expect: {{fires: false}}}}]\n",
    "rules/b.yaml": 'id: blocked\ntitle: A blocked device\non: [login]\nwhen: listed("blocked_devices", device)\nthen: deny\n'
    f"tests: [{{name: quiet, events: [{{type: login, ts: {START}}}], expect: {{fires: false}}}}]\n",
}


def injection(i: int = 1, **more) -> dict:
    return {"id": f"r{i}", "ts": START, "method": "GET", "url": "/p?id=1%27%20or%20%271%27=%271", "session": "s1", "ip": "198.51.100.7"} | more  # fmt: skip


def stuffing(device: str, n: int = 5) -> list[dict]:
    """One name after the other from one device, all refused."""
    return [
        {"id": f"{device}-{i}", "ts": START + 1000 * i, "method": "POST", "url": "/api/v1/session", "status": 401, "device": device,
         "account": f"victim{i}", "headers": AGENT, "body": f'{{"email": "someone{i}@example.com", "password": "hunter2!"}}'}
        for i in range(n)
    ]  # fmt: skip


def lines(*rows: dict | str) -> bytes:
    return b"\n".join(row.encode() if isinstance(row, str) else json.dumps(row).encode() for row in rows)


def numbered(*rows: dict | str) -> list[tuple[int, bytes]]:
    return list(enumerate(lines(*rows).split(b"\n"), 1))


def login(id: str, **who) -> dict:
    return {"event_id": id, "type": "login", "ts": START + 60_000} | who


# --- the watch


def test_the_shipped_rulebook_of_requests_passes_its_own_tests():
    results = list(run_tests(shipped()))
    assert [r for r in results if not r.passed] == []
    assert len(results) >= 2 * len(shipped().rules), "each rule has a case that fires and an honest one that does not"


def test_a_device_that_tries_names_is_told_once_and_put_on_the_list_and_its_victims_are_not_named():
    taken = Watch(mode="interpreted").take(numbered(*stuffing("d9", 12)))
    [event] = taken.events
    assert (event["verdict"], event["device"], event["verdict_score"]) == ("stuffing", "d9", 0.97)
    assert "account" not in event
    [entry] = taken.entries
    assert (entry.list, entry.key, entry.provenance) == ("blocked_devices", "d9", "traffic:stuffing_client")
    assert entry.expires - entry.valid_from == 86_400_000
    told = msgspec.json.encode([taken.events, taken.findings])
    assert b"example.com" not in told and b"hunter2" not in told


def test_a_request_that_comes_again_is_looked_at_once_unless_it_was_given_back():
    watch = Watch(mode="interpreted")
    first = watch.take(numbered(injection()))
    again = watch.take(numbered(injection()))
    assert (len(first.events), again.repeated, again.events) == (1, 1, [])
    watch.forget(first)
    assert watch.take(numbered(injection())).events == first.events


def test_lines_that_are_no_requests_are_told_with_their_number_and_the_rest_counts():
    hostile = [
        '{"id": 5',
        "\x00\x01",
        '{"method": "GET"}',
        '{"url": "/a", "method": "GET", "ts": "yesterday"}',
        "[" * 5000,
    ]
    taken = Watch(mode="interpreted").take(numbered(*hostile, injection()))
    assert {1, 2, 3, 5} <= {number for number, _ in taken.refused}
    assert [e["verdict"] for e in taken.events] == ["attack"]


def test_lines_of_an_access_log_are_named_after_what_they_say():
    line = '203.0.113.9 - - [01/Jan/2026:00:00:00 +0000] "GET /../../etc/passwd HTTP/1.1" 200 1200 "-" "curl/8.5"'
    one, other = Watch(mode="interpreted"), Watch(mode="interpreted")
    found = [watch.take(numbered(line, line)) for watch in (one, other)]
    assert found[0].requests == 2 and found[0].repeated == 0
    assert found[0].events == found[1].events and found[0].events[0]["ip"] == "203.0.113.9"


def test_requests_enter_the_spine_where_the_rulebook_has_a_word_for_them(tmp_path):
    schema = SHOP["schema.yaml"].replace("traffic_verdict]", "traffic_verdict, {http_request: {decide: false}}]")
    feature = '\nsession_requests_1h: {entity: session, measure: count, over: 1h, where: type == "http_request"}'
    book = Rulebook.from_files(SHOP | {"schema.yaml": schema, "features/f.yaml": SHOP["features/f.yaml"] + feature})
    with Engine(book, data=tmp_path, mode="interpreted") as engine:
        live = Live(engine, Watch(mode="interpreted"))
        assert live([lines(injection(1, url="/a"), injection(2, url="/b"))], START) == [None]
        assert engine.seq == 2
        assert live([lines(injection(3))], START) == [None]
        assert engine.seq == 4, "the request and its verdict"


def test_what_does_not_fit_on_the_disk_is_looked_at_again(tmp_path, monkeypatch):
    with Engine(Rulebook.from_files(SHOP), data=tmp_path, mode="interpreted") as engine:
        live = Live(engine, Watch(mode="interpreted"), tmp_path)

        def full(entries):
            raise StoreFull("no room")

        monkeypatch.setattr(engine, "write_lists", full)
        with pytest.raises(StoreFull):
            live([lines(*stuffing("d9"))], START)
        monkeypatch.undo()
        live([lines(*stuffing("d9"))], START)
        assert live.counts["verdicts"] == 1
        assert engine.decide(login("e1", device="d9")).action == "deny"


# --- over HTTP


def post(server: Server, body: bytes, token: str | None = None) -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    with server.client() as client:
        return client.post("/v1/traffic", content=body, headers=headers)


def test_an_attack_in_the_traffic_is_heard_by_the_next_login_and_survives_a_kill(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "START", int(time.time() * 1000) - 90_000)  # a server's clock is the machine's
    book = write_rulebook(tmp_path / "book", Rulebook.from_files(SHOP))
    data = tmp_path / "data"
    body = lines(
        injection(), "{broken", *stuffing("d9"), '198.51.100.9 - - [01/Jan/2026:00:00:00 +0000] "GET / HTTP/1.1" 200 9'
    )
    with Server("--data", data, "--rulebook", book) as server:
        answer = post(server, body)
        assert answer.status_code == 200
        *told, last = [json.loads(line) for line in answer.content.splitlines()]
        assert {t["verdict"]: t["traffic_rule"] for t in told if "verdict" in t} == {
            "attack": "attack",
            "stuffing": "stuffing_client",
        }
        assert [t["line"] for t in told if "error" in t] == [2]
        assert last == {
            "done": True,
            "requests": 7,
            "repeated": 0,
            "attacks": 1,
            "verdicts": 2,
            "entries": 1,
            "refused": 1,
        }
        with server.client() as client:
            assert client.post("/v1/decide", json=login("e1", session="s1")).json()["action"] == "challenge"
            assert client.post("/v1/decide", json=login("e2", session="s2")).json()["action"] == "allow"
            assert client.post("/v1/decide", json=login("e3", device="d9")).json()["action"] == "deny"
            assert client.get("/v1/traffic").status_code == 405
            assert "shopward_traffic_verdicts_total 2" in client.get("/metrics").text
            assert "/v1/traffic" in client.get("/openapi.json").json()["paths"]
        again = json.loads(post(server, lines(injection())).content.splitlines()[-1])
        assert (again["repeated"], again["verdicts"]) == (1, 0)
        server.kill()
    with Server("--data", data, "--rulebook", book) as server:
        with server.client() as client:
            assert client.post("/v1/decide", json=login("e4", session="s1")).json()["action"] == "challenge"
            assert client.post("/v1/decide", json=login("e5", device="d9")).json()["action"] == "deny"
        resent = [json.loads(line) for line in post(server, lines(injection(2))).content.splitlines()]
        assert [t["verdict"] for t in resent[:-1]] == ["attack"]
        server.stop()
    [finding] = [f for f in read_findings(data, entity="ip:198.51.100.7") if f.source.startswith("traffic:")]
    assert finding.techniques and finding.event_ids == ("r2",)


def test_a_token_needs_the_scope_and_a_body_its_size(tmp_path):
    from shopward.serve.auth import create
    from shopward.store.tables import Tables

    data = tmp_path / "data"
    data.mkdir()
    with Tables.open(data / "shopward.db") as tables:
        gateway = create(tables, "gateway", ["traffic"], None, None, "test")
        shop = create(tables, "shop", ["decide"], None, None, "test")
    book = write_rulebook(tmp_path / "book", Rulebook.from_files(SHOP))
    with Server("--data", data, "--rulebook", book) as server:
        assert post(server, lines(injection(url="/a")), gateway).status_code == 200
        assert post(server, b"", shop).status_code == 403
        assert post(server, b"", "no-token").status_code == 401
        long = post(server, lines(injection(url="/" + "a" * 300_000)), gateway)
        assert "256" in json.loads(long.content.splitlines()[0])["error"].replace("262,144", "256 kB")
        server.stop()


# --- from a broker


@pytest.mark.slow
def test_requests_come_from_a_topic_of_their_own_and_what_is_none_is_set_aside(tmp_path):
    kafka = pytest.importorskip("tests.connect.test_kafka", reason="a broker and confluent-kafka are needed")
    broker = kafka.Broker()
    try:
        _from_a_topic(kafka, broker, tmp_path)
    finally:
        broker.kill()


def _from_a_topic(kafka, broker, data: Path) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic("traffic", 1, 1)])["traffic"].result(20)
    producer = kafka.confluent_kafka.Producer({"bootstrap.servers": broker.address})
    for value in (lines(injection(), *stuffing("d9")), b"no request at all"):
        producer.produce("traffic", value)
    assert producer.flush(20) == 0
    with Engine(Rulebook.from_files(SHOP), data=data, mode="interpreted") as engine:
        from shopward.connect.kafka import Topics

        live = Live(engine, Watch(mode="interpreted"), data)
        running = kafka.Running(broker, engine, topics=Topics("events", "decisions", "dead", "traffic"), look=live)
        try:
            running.until(lambda counts: counts.traffic == 2)
            producer.produce("events", json.dumps(login("e1", session="s1")).encode())
            producer.produce("events", json.dumps(login("e2", device="d9")).encode())
            producer.flush(20)
            running.until(lambda counts: counts.events == 2)
        finally:
            running.end()
        decided = [json.loads(m.value()) for m in kafka.received(broker, "decisions", 2)]
        assert {d["event_id"]: d["action"] for d in decided if d["type"] == "login"} == {
            "e1": "challenge",
            "e2": "deny",
        }
        [dead] = kafka.received(broker, "dead", 1)
        assert dead.value() == b"no request at all" and dict(dead.headers())["shopward-from"].startswith(b"traffic:")
        assert live.counts == {"requests": 6, "attacks": 1, "verdicts": 2}
