"""Changing the rulebook of a running server over HTTP and by signal, under load; a standby that takes over."""

from __future__ import annotations

import os
import signal
import threading
import time

import httpx
import pytest

from shopward.store.log import read
from shopward.store.tables import Tables, audit
from tests.rules.books import FEATURES, book, rule
from tests.serve.server import HEADERS, Server, write_rulebook

MANY, FEW = rule("many", "account_orders_1h >= 5", "review"), rule("few", "account_orders_1h >= 3", "challenge")
DEVICE = 'device_orders_1h: {entity: device, measure: count, over: 1h, where: type == "order"}\n'
SHARED = rule("shared", "device_orders_1h >= 2", "deny")


def order(i: int, **more) -> dict:
    now = int(time.time() * 1000)
    return {
        "event_id": f"e{i}",
        "type": "order",
        "ts": now,
        "account": f"a{i % 500}",
        "device": f"d{i % 90}",
        "amount": 5,
    } | more


@pytest.fixture
def server(tmp_path):
    rules = write_rulebook(tmp_path / "rules", book(MANY))
    with Server("--data", tmp_path / "data", "--rulebook", rules) as server:
        yield server


def test_a_rulebook_is_changed_warm_audited_and_taken_back(server, tmp_path):
    first, second = book(MANY), book(SHARED, features=FEATURES + DEVICE)
    with server.client() as client:
        for i in range(3):
            assert client.post("/v1/decide", json=order(i, device="d1")).json()["action"] == "allow"
        done = client.post("/v1/admin/rulebook", json={"files": second.files})
        assert done.status_code == 200, done.text
        assert done.json() | {"by": ""} == {
            "version": second.version,
            "before": first.version,
            "by": "",
            "warming": None,
            "failed": None,
        }
        assert client.post("/v1/decide", json=order(3, device="d1")).json()["reasons"] == ["shared"]
        assert client.post("/v1/admin/rulebook", json={"rollback": True}).json()["version"] == first.version
        assert client.post("/v1/decide", json=order(4, device="d1")).json()["action"] == "allow"
        assert client.post("/v1/admin/rulebook", json={"version": second.version}).json()["version"] == second.version
    server.stop()
    with Tables.open(tmp_path / "data" / "shopward.db") as tables:
        rows = tables.rows(audit.select())
    assert [row["subject"] for row in rows] == [second.version, first.version, second.version]
    assert {row["who"] for row in rows} == {"token:start"} and first.version in rows[0]["detail"]
    with Server("--data", tmp_path / "data") as again:  # without --rulebook what was switched to stays
        assert httpx.get(f"{again.url}/healthz").json()["rulebook_version"] == second.version


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"files": {"schema.yaml": "types: [login"}}, 422, "does not check"),
        ({"files": {"schema.yaml": 5}}, 422, "relative path"),
        ({"version": "../../etc"}, 422, "never in force"),
        ({"rollback": True}, 422, "no rulebook before"),
        ({}, 422, "give one of"),
        ({"version": "x", "rollback": True}, 422, "give one of"),
        ({"folder": "/etc"}, 422, "folder: not known here"),
        (
            {"files": book(MANY).files | {"features/all.yaml": "a_1h: {entity: account, measure: count, over: 1h}"}},
            422,
            "unknown",
        ),
    ],
)
def test_what_cannot_come_into_force_changes_nothing(server, asked, status, said):
    with server.client() as client:
        answer = client.post("/v1/admin/rulebook", json=asked)
        assert answer.status_code == status and said in answer.text
        assert client.get("/v1/admin/rulebook").json()["version"] == book(MANY).version


def test_a_signal_reads_the_folder_again_and_a_broken_one_is_only_told(server, tmp_path):
    write_rulebook(tmp_path / "rules", book(FEW))
    os.kill(server.process.pid, signal.SIGHUP)
    until = time.monotonic() + 20
    while httpx.get(f"{server.url}/healthz").json()["rulebook_version"] != book(FEW).version:
        assert time.monotonic() < until
        time.sleep(0.05)
    (tmp_path / "rules" / "rules" / "r00.yaml").write_text("id: broken\nwhen: ((")
    os.kill(server.process.pid, signal.SIGHUP)
    time.sleep(0.5)
    assert httpx.get(f"{server.url}/healthz").json()["rulebook_version"] == book(FEW).version
    assert "the rulebook in force stays" in server.stop()


def test_changes_under_load_lose_and_double_nothing(server, tmp_path):
    stop, answered, errors = threading.Event(), {}, []

    def shop(k: int) -> None:
        with server.client() as client:
            i = 0
            while not stop.is_set():
                event = order(k * 1_000_000 + i)
                answer = client.post("/v1/decide", json=event)
                if answer.status_code != 200:
                    errors.append(answer.text)
                answered[event["event_id"]] = answer.json()
                i += 1

    threads = [threading.Thread(target=shop, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    with server.client() as admin:
        for rules in ((SHARED,), (FEW,), (MANY,), (SHARED,)):
            done = admin.post("/v1/admin/rulebook", json={"files": book(*rules, features=FEATURES + DEVICE).files})
            assert done.status_code == 200, done.text
            time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.join()
    server.stop()
    kept = [decision for frame in read(tmp_path / "data" / "log") if frame.n for decision in frame.decided()]
    assert not errors and len(kept) == len(answered) > 50
    assert {decision["event_id"]: decision for decision in kept} == answered
    assert len({decision["rulebook_version"] for decision in kept}) >= 4


def test_a_standby_takes_over_and_answers_as_the_first_did(server, tmp_path):
    with Server("--follow", tmp_path / "data", wait=False) as standby:
        standby.wait("/readyz", 503)
        with server.client() as client:
            answers = [client.post("/v1/decide", json=order(i, account="a1")).json() for i in range(8)]
        assert answers[-1]["reasons"] == ["many"]
        assert httpx.post(f"{standby.url}/v1/decide", json=order(9), headers=HEADERS).status_code == 503
        server.kill()
        standby.wait("/readyz", 200, 30)
        with standby.client() as client:
            for i, answer in enumerate(answers):
                assert client.get(f"/v1/decisions/e{i}").json() == answer
            assert client.post("/v1/decide", json=order(8, account="a1")).json()["reasons"] == ["many"]


def test_a_server_begins_with_what_another_folder_decided(server, tmp_path):
    with server.client() as client:
        answers = [client.post("/v1/decide", json=order(i, account="a1")).json() for i in range(8)]
    with Server("--data", tmp_path / "copy", "--replay", tmp_path / "data") as second, second.client() as client:
        assert client.get("/v1/decisions/e7").json() == answers[7]
        assert client.post("/v1/decide", json=order(8, account="a1")).json()["reasons"] == ["many"]
