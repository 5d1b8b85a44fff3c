"""The HTTP front, over a real socket: tokens, single events, batches with bad lines, labels, retries, limits."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from shopward import Engine, Rulebook
from shopward.serve.app import App
from tests.rules.books import book, rule

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-for-the-tests"
LOGIN = {
    "event_id": "h1",
    "type": "login",
    "ts": 1_767_225_600_000,
    "account": "a1",
    "device": "d1",
    "ip": "198.51.100.7",
    "success": True,
}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    port, data = free_port(), tmp_path_factory.mktemp("serve")
    command = [sys.executable, "-m", "shopward", "serve", "--port", str(port), "--data", str(data), "--token", TOKEN]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            httpx.get(f"{url}/healthz", timeout=1)
            break
        except httpx.TransportError:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
    yield url, data
    process.terminate()
    process.wait(timeout=30)


@pytest.fixture
def client(server):
    with httpx.Client(base_url=server[0], headers={"authorization": f"Bearer {TOKEN}"}, timeout=30) as client:
        yield client


def test_health_needs_no_token_and_everything_else_does(server):
    assert httpx.get(f"{server[0]}/healthz").json()["status"] == "ok"
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}):
        answer = httpx.post(f"{server[0]}/v1/decide", json=LOGIN, headers=headers)
        assert answer.status_code == 401 and TOKEN not in answer.text


def test_one_event_in_one_decision_out_and_a_retry_gets_the_same(client):
    first = client.post("/v1/decide", json=LOGIN)
    assert first.status_code == 200
    assert first.json()["action"] == "allow" and first.json()["event_id"] == "h1"
    assert client.post("/v1/decide", json=LOGIN).json() == first.json()
    assert client.get("/v1/decisions/h1").json() == first.json()
    assert client.get("/v1/decisions/nobody").status_code == 404


def test_a_batch_answers_every_line_in_order_and_names_the_bad_ones(client):
    lines = [
        json.dumps(LOGIN | {"event_id": "b1"}),
        "{broken",
        json.dumps({"type": "login", "event_id": "b3"}),
        json.dumps(LOGIN | {"event_id": "b4"}),
    ]
    answer = client.post("/v1/decide/batch", content="\n".join(lines))
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert [row.get("event_id") for row in rows] == ["b1", None, None, "b4"]
    assert rows[1]["line"] == 2 and "JSON" in rows[1]["error"]
    assert rows[2]["line"] == 3 and "ts" in rows[2]["error"]


def test_labels_are_taken_for_known_events(client):
    client.post("/v1/decide", json=LOGIN | {"event_id": "l1"})
    told = client.post("/v1/labels", json={"event_id": "l1", "label": 1, "label_ts": 1_767_225_700_000})
    assert told.json() == {"taken": 1, "repeated": 0, "unknown": 0, "refused": []}
    assert client.post("/v1/labels", json={"event_id": "l1"}).status_code == 422


def test_a_bad_label_among_good_ones_is_refused_alone_and_named_by_its_line(client):
    client.post("/v1/decide", json=LOGIN | {"event_id": "l2"})
    rows = [
        json.dumps({"event_id": "l2", "label": 1, "label_ts": 1_767_225_700_000, "amount": "abc"}),
        "",
        "{broken",
        json.dumps({"event_id": "l2", "label": 1, "label_ts": int(time.time() * 1000) + 86_400_000}),
        json.dumps({"event_id": "l2", "label": 1, "label_ts": 1_767_225_700_000, "amount": 12.5}),
    ]
    told = client.post("/v1/labels", content="\n".join(rows)).json()
    assert (told["taken"], told["repeated"], told["unknown"]) == (1, 0, 0)
    assert [wrong["row"] for wrong in told["refused"]] == [1, 3, 4]
    for wrong, said in zip(told["refused"], ("amount: expected a number", "JSON", "in the future"), strict=True):
        assert said in wrong["error"]


def test_a_key_put_on_a_list_is_denied_from_the_next_event_on(client):
    login = LOGIN | {"device": "d-bad", "account": "a77"}
    assert client.post("/v1/decide", json=login | {"event_id": "x1"}).json()["action"] == "allow"
    entry = {"list": "blocked_devices", "key": "d-bad", "valid_from": LOGIN["ts"], "provenance": "analyst:kim"}
    assert client.post("/v1/lists", json=entry).json() == {"taken": 1}
    now = int(time.time() * 1000)
    refused = client.post("/v1/decide", json=login | {"event_id": "x2", "ts": now}).json()
    assert refused["action"] == "deny" and refused["reasons"] == ["blocklist"]
    assert client.post("/v1/lists", json=entry | {"remove": True}).json() == {"taken": 1}
    assert client.post("/v1/decide", json=login | {"event_id": "x3", "ts": now}).json()["action"] == "allow"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"list": "blocked_device", "key": "d1"}, "did you mean `blocked_devices`?"),
        ({"list": "blocked_devices"}, "key: missing"),
        ({"list": "blocked_devices", "key": ["a", "b"]}, "keys of 1"),
        ({"list": "blocked_devices", "key": "d1", "expires": "soon"}, "or a duration such as 7d"),
        ({"list": "blocked_devices", "key": "d1", "until": 5}, "until: not part of a list entry"),
    ],
)
def test_an_entry_that_cannot_be_taken_says_why_and_takes_none(client, entry, said):
    body = json.dumps({"list": "blocked_devices", "key": "never"}) + "\n" + json.dumps(entry)
    answer = client.post("/v1/lists", content=body)
    assert answer.status_code == 422 and said in answer.json()["error"]
    event = LOGIN | {"device": "never", "ts": int(time.time() * 1000), "event_id": f"n{said}"}
    assert client.post("/v1/decide", json=event).json()["action"] == "allow"


def test_a_bug_is_answered_in_json_and_told_only_to_the_log(caplog, monkeypatch):
    engine = Engine(book(rule("big", "amount > 100")), mode="interpreted")
    monkeypatch.setattr(engine, "find", lambda event_id: {}["a secret"])

    async def story() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(App(engine, TOKEN)),
            base_url="http://shop",
            headers={"authorization": f"Bearer {TOKEN}"},
        ) as client:
            return await client.get("/v1/decisions/e1")

    answer = asyncio.run(story())
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})
    assert "a secret" in caplog.text


def test_a_stream_longer_than_the_queue_is_decided_line_by_line(client):
    lines = [json.dumps(LOGIN | {"event_id": f"s{i}"}) for i in range(25_000)]
    lines[12_345] = "{broken"
    answer = client.post("/v1/decide/batch", content="\n".join(lines), timeout=120)
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.status_code == 200 and len(rows) == 25_000
    assert rows[12_345]["line"] == 12_346 and "JSON" in rows[12_345]["error"]
    assert [row["event_id"] for i, row in enumerate(rows) if i != 12_345] == [
        f"s{i}" for i in range(25_000) if i != 12_345
    ]


def test_answers_come_while_the_stream_still_goes_on(server):
    with socket.create_connection(("127.0.0.1", int(server[0].rsplit(":", 1)[1])), timeout=30) as raw:
        head = f"POST /v1/decide/batch HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {TOKEN}\r\nTransfer-Encoding: chunked\r\n\r\n"
        raw.sendall(head.encode())
        got = b""
        for i in range(3):
            line = json.dumps(LOGIN | {"event_id": f"w{i}"}).encode() + b"\n"
            raw.sendall(b"%x\r\n%s\r\n" % (len(line), line))
            # the answers to a group leave when the next one comes or the stream ends
            time.sleep(0.2)
        raw.sendall(b"0\r\n\r\n")
        while b"0\r\n\r\n" not in got:
            got += raw.recv(65_536)
    assert got.count(b'"event_id":"w') == 3 and b" 200 " in got.split(b"\r\n")[0]


def test_a_line_that_is_too_long_is_passed_over_and_named(client):
    lines = [
        json.dumps(LOGIN | {"event_id": "t1"}),
        '{"a":"' + "x" * 900_000 + '"}',
        json.dumps(LOGIN | {"event_id": "t3"}),
    ]
    rows = [json.loads(line) for line in client.post("/v1/decide/batch", content="\n".join(lines)).text.splitlines()]
    assert (rows[0]["event_id"], rows[1]["line"], rows[2]["event_id"]) == ("t1", 2, "t3") and "262,144 bytes" in rows[
        1
    ]["error"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/decide", b"not json", 400),
        ("POST", "/v1/decide", b'{"type": "login"}', 422),
        ("POST", "/v1/decide", b"\xff\xfe", 400),
        ("POST", "/v1/decide", b'{"a":"' + b"x" * 300_000 + b'"}', 413),
        ("GET", "/v1/decide", b"", 405),
        ("POST", "/v1/nothing", b"", 404),
    ],
)
def test_bad_requests_get_a_clear_status_and_the_server_lives_on(client, method, path, body, status):
    answer = client.request(method, path, content=body)
    assert answer.status_code == status and "error" in answer.json()
    assert client.get("/healthz").status_code == 200


def test_an_event_that_is_only_observed_is_said_to_be(tmp_path):
    files = {
        "schema.yaml": "types: [login, {http_request: {decide: false}}]\nfields: {account: {type: string, entity: account}}",
        "features/f.yaml": 'requests_1h: {entity: account, measure: count, over: 1h, where: type == "http_request"}',
        "rules/r.yaml": rule("busy", "requests_1h > 1", on="[login]").replace(
            "type: login, ts: 0, account: a", "type: login, ts: 0"
        ),
    }
    engine = Engine(Rulebook.from_files(files), data=tmp_path, mode="interpreted")

    async def story() -> list[httpx.Response]:
        app = App(engine, TOKEN)
        app.start()
        seen = [{"type": "http_request", "ts": LOGIN["ts"] + i, "account": "a1", "event_id": f"o{i}"} for i in range(3)]
        login = {"type": "login", "ts": LOGIN["ts"] + 9, "account": "a1", "event_id": "l"}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://shop", headers={"authorization": f"Bearer {TOKEN}"}
        ) as client:
            one = await client.post("/v1/decide", json=seen[0])
            many = await client.post("/v1/decide/batch", content="\n".join(map(json.dumps, [*seen[1:], login])))
        await app.stop()
        return [one.json(), *map(json.loads, many.text.splitlines())]

    *observed, decided = asyncio.run(story())
    assert [(row["event_id"], row["decision"]) for row in observed] == [
        ("o0", None),
        ("o1", None),
        ("o2", None),
    ] and decided["reasons"] == ["busy"]
