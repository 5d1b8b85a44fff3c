"""The short way of `POST /v1/decide` and the long one through ASGI: the same answers to the byte, over real sockets."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from shopward import Engine, Rulebook
from shopward.serve.app import App
from shopward.serve.auth import create
from shopward.serve.server import Patient
from shopward.store.log import read
from tests.rules.books import book, rule
from tests.serve.test_http import LOGIN, TOKEN


@contextmanager
def serving(engine: Engine, **settings):
    """(App, port) of a server in this process, on a free port."""
    app = App(engine, TOKEN)
    config = uvicorn.Config(
        app, port=0, http=Patient, ws="none", log_level="warning", access_log=False, lifespan="on", server_header=False,
        date_header=False, proxy_headers=False, **settings,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield app, server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def opened(folder: Path, rulebook: Rulebook | None = None) -> Engine:
    return Engine(rulebook or book(rule("big", "amount > 100")), data=folder, mode="interpreted")


def head(token: str | None = TOKEN, more: str = "") -> bytes:
    given = "" if token is None else f"Authorization: Bearer {token}\r\n"
    return f"POST /v1/decide HTTP/1.1\r\nHost: shop\r\n{given}{more}".encode()


def short(body: bytes, token: str | None = TOKEN, more: str = "") -> bytes:
    return head(token, more) + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


def long(body: bytes, token: str | None = TOKEN, more: str = "") -> bytes:
    """In pieces of unknown size: that goes through ASGI."""
    piece = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
    return head(token, more) + b"Transfer-Encoding: chunked\r\n\r\n" + piece + b"0\r\n\r\n"


def whole(raw: socket.socket) -> bytes:
    got = b""
    while b"\r\n\r\n" not in got:
        got += raw.recv(65_536)
    start, _, body = got.partition(b"\r\n\r\n")
    size = int(start.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < size:
        body += raw.recv(65_536)
    return start + b"\r\n\r\n" + body


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def asked(port: int, request: bytes) -> bytes:
    with connect(port) as raw:
        raw.sendall(request)
        return whole(raw)


def bodies() -> list[bytes]:
    order = LOGIN | {"event_id": "o1", "type": "order", "amount": 250.5, "note": "naïve ☕"}
    return [
        json.dumps(LOGIN).encode(),
        json.dumps(LOGIN).encode(),  # again
        json.dumps(LOGIN | {"account": "other"}).encode(),  # the same id, another content
        json.dumps(order, indent=2).encode(),
        json.dumps(order, ensure_ascii=False).encode(),
        json.dumps(LOGIN | {"event_id": 17}).encode(),
        json.dumps(LOGIN | {"event_id": "t", "ts": "2026-01-01T00:00:00Z"}).encode(),
        json.dumps(LOGIN | {"event_id": "n", "ts": None}).encode(),
        json.dumps(LOGIN | {"event_id": "x", "type": "no such type"}).encode(),
        json.dumps(LOGIN | {"event_id": "l", "type": "label", "label": 1}).encode(),
        b'{"event_id": "d", "type": "login", "ts": 1767225600000, "amount": 1, "amount": 200}',
        b"{broken",
        b"[]",
        b"17",
        b"\xff\xfe",
        b"  ",
        b'{"a": ' + b"[" * 3_000 + b"]" * 3_000 + b"}",
        b'{"a": "' + b"x" * 300_000 + b'"}',
    ]


def test_both_ways_answer_the_same_to_the_byte(tmp_path):
    def told(folder: str, way) -> tuple[list[bytes], int, list]:
        with serving(opened(tmp_path / folder)) as (app, port):
            found = [asked(port, way(body)) for body in bodies()]
            found += [asked(port, way(bodies()[0], token)) for token in (None, "wrong", TOKEN[:-1])]
            found += [asked(port, way(bodies()[0], more="Connection: close\r\n"))]
            with connect(port) as raw:  # all on one connection, where heads are known from before
                for body in bodies()[:-2] * 2:
                    raw.sendall(way(body))
                    found.append(whole(raw))
            requests = sorted((key, n) for key, n in app.metrics.requests.items())
            return found, app.direct.taken, requests

    ours, taken, counted = told("short", short)
    theirs, none, same = told("long", long)
    assert ours == theirs and counted == same
    assert taken > 40 and none == 0
    assert {answer[9:12] for answer in ours} == {b"200", b"400", b"401", b"413", b"422"}


def test_a_rate_and_a_scope_hold_on_the_short_way(tmp_path):
    found = {}
    for folder, way in (("short", short), ("long", long)):
        engine = opened(tmp_path / folder)
        tables = engine.journal.vault.tables
        slow = create(tables, "slow", ["decide"], None, 0.001, "test")
        reader = create(tables, "reader", ["read"], None, None, "test")
        with serving(engine) as (_, port), connect(port) as raw:
            answers = []
            for i, token in enumerate((slow, slow, slow, reader, TOKEN)):
                raw.sendall(way(json.dumps(LOGIN | {"event_id": f"r{i}"}).encode(), token))
                answers.append(re.sub(rb"retry-after: \d+", b"retry-after: N", whole(raw)))
            found[folder] = answers
    assert found["short"] == found["long"]
    assert [answer[9:12] for answer in found["short"]] == [b"200", b"200", b"429", b"403", b"200"]
    assert b"retry-after: N" in found["short"][2]


def test_a_revoked_token_is_refused_where_its_head_is_known(tmp_path):
    from shopward.serve.auth import revoke

    engine = opened(tmp_path)
    token = create(engine.journal.vault.tables, "shop", ["decide"], None, None, "test")
    with serving(engine) as (app, port), connect(port) as raw:
        for _ in range(3):
            raw.sendall(short(bodies()[0], token))
            assert whole(raw)[9:12] == b"200"
        assert app.direct.taken == 3
        revoke(engine.journal.vault.tables, "shop", "test")
        app.tokens.refresh()
        raw.sendall(short(bodies()[0], token))
        assert whole(raw)[9:12] == b"401"


def test_a_request_in_pieces_and_requests_in_one_piece_are_answered_in_order(tmp_path):
    with serving(opened(tmp_path)) as (app, port), connect(port) as raw:
        for i in range(3):
            request = short(json.dumps(LOGIN | {"event_id": f"p{i}"}).encode())
            for start in range(0, len(request), 50):
                raw.sendall(request[start : start + 50])
                time.sleep(0.002)
            assert b'"event_id":"p%d"' % i in whole(raw)
        assert app.direct.taken == 3
        many = [short(json.dumps(LOGIN | {"event_id": f"q{i}"}).encode()) for i in range(20)]
        raw.sendall(b"".join(many) + b"GET /healthz HTTP/1.1\r\nHost: shop\r\n\r\n")
        got = b""
        while got.count(b"HTTP/1.1 200") < 21:
            got += raw.recv(65_536)
        places = [got.index(b'"event_id":"q%d"' % i) for i in range(20)]
        assert places == sorted(places) and got.index(b'"status"') > places[-1]


def test_a_half_closed_connection_still_gets_its_answer(tmp_path):
    with serving(opened(tmp_path)) as (app, port):
        for _ in range(2):
            with connect(port) as raw:
                raw.sendall(short(bodies()[0]))
                raw.shutdown(socket.SHUT_WR)
                assert whole(raw)[9:12] == b"200"
                assert raw.recv(1) == b""
        assert app.direct.taken == 2


def test_many_at_once_are_judged_together_like_one_by_one(tmp_path, monkeypatch):
    """Enough for columns; some unusual, some bad, some sent twice."""
    from shopward.serve import decider

    events = [LOGIN | {"event_id": f"m{i % 60}", "account": f"a{i % 7}", "amount": i} for i in range(80)]
    lines = [json.dumps(event, indent=1 if i % 9 == 0 else None).encode() for i, event in enumerate(events)]
    lines[5], lines[6] = b'{"type": "login", "event_id": "bad"}', json.dumps(LOGIN | {"event_id": 5}).encode()

    def together(folder: str, columns: int) -> list[bytes]:
        monkeypatch.setattr(decider, "COLUMNS", columns)
        engine = opened(tmp_path / folder)

        async def story() -> list:
            told: list = [None] * len(lines)
            app = App(engine, TOKEN)
            app.decider.start()

            def hear(i: int):
                return lambda answer: told.__setitem__(i, answer)

            for i, line in enumerate(lines):
                app.decider.submit_one(json.loads(line), line, hear(i))
            while any(answer is None for answer in told):
                await asyncio.sleep(0.01)
            await app.decider.stop()
            return [str(answer) if isinstance(answer, Exception) else answer for answer in told]

        return asyncio.run(story())

    ours, theirs = together("columns", 4), together("each", 10_000)
    assert ours == theirs and isinstance(ours[0], bytes) and "ts" in ours[5]
    kept = [
        sorted(id for frame in read(tmp_path / name / "log") for id in frame.event_ids())
        for name in ("columns", "each")
    ]
    assert kept[0] == kept[1] and len(kept[0]) == 61


def ask_all(connections: list[socket.socket], name: str) -> list[bytes]:
    """An event on every connection at once."""
    for i, raw in enumerate(connections):
        raw.sendall(short(json.dumps(LOGIN | {"event_id": f"{name}{i}"}).encode()))
    return [whole(raw) for raw in connections]


@pytest.mark.parametrize("compiled", [False, True])
def test_an_engine_that_fails_under_load_loses_and_doubles_nothing(tmp_path, monkeypatch, compiled):
    """Judged on the event loop (compiled) or on the thread: memory is built again, everyone is answered."""
    engine = Engine(
        book(rule("big", "amount > 100")), data=tmp_path, mode="compiled" if compiled else "interpreted", clock="server"
    )
    judge, threads = engine.judge, []

    def fail_once(batch):
        threads.append(threading.current_thread().name)
        if len(threads) == 1:
            raise ZeroDivisionError
        return judge(batch)

    with serving(engine) as (_, port):
        connections = [connect(port) for _ in range(40)]
        for name in "abc":
            ask_all(connections, name)
        monkeypatch.setattr(engine, "judge", fail_once)
        answers, names = [], ["a", "b", "c"]
        while not threads and len(names) < 30:  # until enough of them came together
            names.append(f"f{len(names)}-")
            answers += ask_all(connections, names[-1])
        for raw in connections:
            raw.close()
        assert engine.journal.rebuilt >= 1
    assert threads[0].startswith("decide") == (not compiled)
    assert {answer[9:12] for answer in answers} == {b"200"}
    ids = [id for frame in read(tmp_path / "log") for id in frame.event_ids()]
    assert sorted(ids) == sorted(f"{name}{i}" for name in names for i in range(40))


def test_a_body_that_dribbles_in_is_given_up_and_a_busy_connection_is_not(tmp_path, monkeypatch):
    from shopward.serve import server

    for name, value in (("HEAD_S", 0.3), ("BODY_S", 0.3), ("MIN_RATE", 1 << 20)):
        monkeypatch.setattr(server, name, value)
    request = short(bodies()[0])
    with serving(opened(tmp_path)) as (_, port), connect(port) as slow, connect(port) as busy:
        slow.sendall(request)
        assert whole(slow)[9:12] == b"200"  # its head is known now
        for byte in request[:-1]:
            try:
                slow.sendall(bytes([byte]))
            except OSError:
                break
            time.sleep(0.01)
            busy.sendall(request)
            assert whole(busy)[9:12] == b"200"
        else:
            pytest.fail("it was let dribble")


def test_a_connection_that_says_nothing_is_let_go_and_one_that_speaks_is_kept(tmp_path):
    request = short(bodies()[0])
    with serving(opened(tmp_path), timeout_keep_alive=1) as (_, port), connect(port) as quiet, connect(port) as busy:
        for raw in (quiet, busy):
            raw.sendall(request)
            assert whole(raw)[9:12] == b"200"
        for way in (short, long, short, short, long, short):  # longer than a second in all
            time.sleep(0.3)
            busy.sendall(way(bodies()[0]))
            assert whole(busy)[9:12] == b"200"
        assert quiet.recv(1) == b""


@pytest.mark.parametrize("compiled", [False, True])
def test_a_full_disk_is_503_on_the_same_connection_until_there_is_room(tmp_path, compiled):
    """Also for many at once, and what was refused is decided once when it comes again."""
    from tests.store.forgetful import ForgetfulDisk

    disk = ForgetfulDisk()
    engine = Engine(
        book(rule("big", "amount > 100")), data=tmp_path, mode="compiled" if compiled else "interpreted", disk=disk
    )
    with serving(engine) as (_, port):
        connections = [connect(port) for _ in range(40)]
        for name in "ab":
            ask_all(connections, name)
        room, disk.capacity = disk.capacity, disk.capacity - disk.room()
        for _ in range(2):
            full = ask_all(connections, "d")
            assert {answer[9:12] for answer in full} == {b"503"} and all(b"retry-after: 5" in answer for answer in full)
        disk.capacity = room
        assert {answer[9:12] for answer in ask_all(connections, "d")} == {b"200"}
        for raw in connections:
            raw.close()
    ids = [id for frame in read(tmp_path / "log", disk) for id in frame.event_ids()]
    assert sorted(ids) == sorted(f"{name}{i}" for name in "abd" for i in range(40))


def test_what_is_asked_after_an_event_knows_of_it(tmp_path, monkeypatch):
    """A decision is looked up in the order in which requests came, also while the disk is busy with those before."""

    async def story() -> list:
        engine = opened(tmp_path)
        app = App(engine, TOKEN)
        app.decider.start()
        sync, flushed = engine.journal.log.sync, []

        def slowly() -> None:
            time.sleep(0.02)
            sync()
            flushed.append(engine.journal.log.durable_seq)

        monkeypatch.setattr(engine.journal.log, "sync", slowly)
        found = []
        for i in range(5):
            answer = app.decider.submit([LOGIN | {"event_id": f"k{i}"}])
            kept = await app.decider.call(engine.find, f"k{i}")
            found.append((kept["event_id"], engine.journal.log.durable_seq > i))
            answer.add_done_callback(lambda done: done.result())
        await app.decider.stop()
        return found

    assert asyncio.run(story()) == [(f"k{i}", True) for i in range(5)]
