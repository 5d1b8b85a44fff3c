"""The HTTP front, over a real socket: tokens, single events, batches with bad lines, labels, retries, limits."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

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
    assert told.json() == {"taken": 1, "repeated": 0, "unknown": 0}
    assert client.post("/v1/labels", json={"event_id": "l1"}).status_code == 422


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
