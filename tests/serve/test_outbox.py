"""Webhooks: signed, told again until taken, never in the way of a decision, and not forgotten by a kill."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from shopward.errors import UsageError
from shopward.serve.outbox import Webhook, verify, waits
from tests.rules.books import book, rule
from tests.serve.server import Server, write_rulebook
from tests.serve.test_http import LOGIN

SECRET = "a-shared-secret-for-tests"


class Receiver:
    """A receiver of webhooks that does as it is told: 200, 500, 404, or hang."""

    def __init__(self, answer: int | None = 200):
        self.answer, self.got, self.tried, self.badly = answer, [], 0, 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.tried += 1
                if not verify(SECRET.encode(), body, self.headers["shopward-signature"], int(time.time())):
                    outer.badly += 1
                while outer.answer is None:
                    time.sleep(0.05)
                if outer.answer == 200:
                    outer.got.append((int(self.headers["shopward-delivery"]), json.loads(body)["decision"]))
                self.send_response(outer.answer)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    def events(self) -> list[str]:
        return [decision["event_id"] for _, decision in self.got]

    def close(self) -> None:
        self.answer = self.answer or 503
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def started(tmp_path, receiver):
    rules = write_rulebook(tmp_path / "rules", book(rule("big", "amount > 100", "deny")))
    servers = []

    def start() -> Server:
        servers.append(
            Server(
                "--data",
                tmp_path / "data",
                "--rulebook",
                rules,
                "--webhook",
                receiver.url,
                env={"SHOPWARD_WEBHOOK_SECRET": SECRET},
            )
        )
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__()


def send(server: Server, *amounts: float, first: int = 0) -> list[float]:
    took = []
    with server.client() as client:
        for i, amount in enumerate(amounts, first):
            began = time.perf_counter()
            event = {"type": "order", "ts": LOGIN["ts"], "account": "a1", "amount": amount, "event_id": f"o{i}"}
            assert client.post("/v1/decide", json=event).status_code == 200
            took.append(time.perf_counter() - began)
    return took


def until(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    assert condition()


def test_denied_orders_reach_the_shop_signed_and_in_order(started, receiver):
    server = started()
    send(server, 5, 500, 6, 700)
    until(lambda: receiver.events() == ["o1", "o3"])
    assert receiver.badly == 0 and receiver.got[0][1]["reasons"] == ["big"]


def test_a_receiver_that_fails_is_told_again(started, receiver):
    receiver.answer = 500
    server = started()
    send(server, 500, 600)
    until(lambda: receiver.tried >= 3)
    receiver.answer = 200
    until(lambda: receiver.events() == ["o0", "o1"])
    assert "shopward_outbox_retried_total 0" not in httpx.get(f"{server.url}/metrics").text


def test_a_hanging_receiver_delays_no_decision(started, receiver):
    receiver.answer = None
    server = started()
    send(server, 500)
    until(lambda: receiver.tried == 1)
    took = send(server, *[500] * 50, first=1)
    assert len(took) == 50 and max(took) < 5.0, "a hanging webhook takes ten seconds to give up on"
    receiver.answer = 200
    until(lambda: set(receiver.events()) == {f"o{i}" for i in range(51)}, 40)


def test_a_kill_forgets_no_delivery(started, receiver):
    receiver.answer = 503
    first = started()
    send(first, 500, 5, 600, 700)
    until(lambda: receiver.tried >= 1)
    first.kill()
    receiver.answer = 200
    started()
    until(lambda: {"o0", "o2", "o3"} <= set(receiver.events()))
    assert all(delivery in (0, 2, 3) for delivery, _ in receiver.got)


def test_a_receiver_that_refuses_one_for_good_does_not_keep_the_others(started, receiver, tmp_path):
    receiver.answer = 404
    server = started()
    send(server, 500)
    kept = tmp_path / "data" / "outbox-refused.ndjson"
    until(kept.exists, 30)
    receiver.answer = 200
    send(server, 600, first=1)
    until(lambda: receiver.events() == ["o1"])
    assert json.loads(kept.read_text())["sent"]["decision"]["event_id"] == "o0"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("ftp://x/y", b"s" * 16), "http"),
        (("http://x/y", b"short"), "16 characters"),
        (("http://x/y", b"s" * 16, ("dany",)), "`dany` is not an action"),
    ],
)
def test_a_webhook_that_cannot_work_is_refused_at_the_start(given, said):
    with pytest.raises(UsageError, match=said):
        Webhook(*given)


def test_waits_double_to_a_minute():
    found = [wait for wait, _ in zip(waits(), range(20), strict=False)]
    assert all(0.5 * full <= wait <= full for wait, full in zip(found[:5], (0.2, 0.4, 0.8, 1.6, 3.2), strict=True))
    assert max(found) <= 60
