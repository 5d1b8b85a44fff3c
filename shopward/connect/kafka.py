"""Events from a Kafka topic, decisions to another, at least once, and exactly one decision an event.

    consume -> decide (on disk when it returns) -> produce decisions and dead letters -> all delivered? -> commit the offsets

A crash anywhere between leads to the same messages again; their ids are known, so they get the decision they got before. An event
without an id is named after its place, `topic:partition:offset`. What cannot be used goes to a dead-letter topic with the reason.
A topic of traffic may come along: `look` is given its messages, before the events that came with them, and answers when all is on disk.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from shopward.errors import BadEvent, MissingExtra, ShopwardError, StoreFull

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message, Producer

    from shopward.decide import Engine

Look = Callable[[list[bytes], int], list[BadEvent | None]]
BATCH = 1_000
LOOK_S = 0.2
DELIVERY_S = 30.0
FULL_S = 1.0  # between two tries while the disk is full
logger = logging.getLogger("shopward.kafka")
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class Undelivered(ShopwardError):
    """The broker did not take the decisions; their events are not committed and come again."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Topics:
    """Where events come from, where decisions go, and where what cannot be used goes; `traffic` has lines of access logs (None: none)."""

    events: str
    decisions: str
    dead: str
    traffic: str | None = None


@dataclass(slots=True)
class Counts:
    """What went through so far."""

    events: int = 0
    decisions: int = 0
    dead: int = 0
    traffic: int = 0  # messages of the traffic topic
    redelivered: int = 0  # batches that had to be asked for again


class Stream:
    """One consumer of a group, feeding one engine.

    `settings` are librdkafka's for both sides (security and so on), beside `bootstrap.servers` and the group. `look` takes messages of
    the traffic topic and the time (ms), and gives None or what is wrong for each.
    """

    def __init__(
        self,
        engine: Engine,
        brokers: str,
        topics: Topics,
        group: str = "shopward",
        settings: dict[str, Any] | None = None,
        look: Look | None = None,
    ):
        try:
            from confluent_kafka import Consumer, Producer
        except ImportError:
            raise MissingExtra("kafka", "confluent-kafka") from None
        self.engine, self.topics, self.counts, self.look = engine, topics, Counts(), look
        shared = {"bootstrap.servers": brokers, **(settings or {})}
        self.consumer: Consumer = Consumer(
            shared
            | {
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.auto.offset.store": False,
            }
        )
        self.producer: Producer = Producer(
            shared | {"acks": "all", "linger.ms": 5, "message.timeout.ms": int(DELIVERY_S * 1000)}
        )
        self._undelivered = 0

    def run(self, stop: threading.Event, on_progress: Callable[[int], Any] = lambda done: None) -> Counts:
        """Until told to stop. Broker trouble is waited out: nothing is committed that is not on disk and delivered."""
        self.consumer.subscribe([t for t in (self.topics.events, self.topics.traffic) if t is not None])
        try:
            while not stop.is_set():
                messages = self._usable(self.consumer.consume(BATCH, LOOK_S))
                if messages and self._carry(messages, stop):
                    on_progress(len(messages))
        finally:
            self.consumer.close()
            self.producer.flush(DELIVERY_S)
        return self.counts

    def _usable(self, messages: Sequence[Message]) -> list[Message]:
        found = []
        for message in messages:
            error = message.error()
            if error is None:
                found.append(message)
            elif error.fatal():
                raise Undelivered(f"kafka: {error.str()}")
            else:
                logger.warning("kafka: %s", error.str())
        return found

    def _carry(self, messages: list[Message], stop: threading.Event) -> bool:
        """Decide, deliver, commit. When a step fails, go back to the first message of each partition and say False."""
        from confluent_kafka import KafkaException

        try:
            self._deliver(messages, self._decide(messages, stop))
            self.consumer.commit(offsets=_after(messages), asynchronous=False)
        except (Undelivered, KafkaException) as error:
            logger.warning("kafka: %s; the same events again", error)
            self.counts.redelivered += 1
            self._go_back(messages)
            return False
        traffic = sum(map(self._is_traffic, messages))
        self.counts.events += len(messages) - traffic
        self.counts.traffic += traffic
        return True

    def _decide(self, messages: list[Message], stop: threading.Event) -> list[Any]:
        """A Decision, a BadEvent, or None for what is only observed, for each message."""
        found: list[Any] = [None if self._is_traffic(message) else _event(message) for message in messages]
        seen = [i for i, message in enumerate(messages) if self._is_traffic(message)]
        at = [i for i, event in enumerate(found) if isinstance(event, dict)]
        answers = self._patiently(self._looked, [messages[i].value() or b"" for i in seen], stop)
        answers += self._patiently(self.engine.decide_events, [found[i] for i in at], stop)
        for i, answer in zip(seen + at, answers, strict=True):
            found[i] = answer
        return found

    def _is_traffic(self, message: Message) -> bool:
        return message.topic() == self.topics.traffic

    def _looked(self, values: list[bytes]) -> list[BadEvent | None]:
        if self.look is None:
            return [BadEvent("nothing looks at traffic here")] * len(values)
        return self.look(values, int(time.time() * 1000))

    def _patiently(self, work: Callable[[list], list], given: list, stop: threading.Event) -> list[Any]:
        while True:
            try:
                return list(work(given)) if given else []
            except StoreFull as error:
                logger.error("kafka: %s; waiting for room", error)
                if stop.wait(FULL_S):
                    raise Undelivered(str(error)) from error

    def _deliver(self, messages: list[Message], answers: list[Any]) -> None:
        self._undelivered = 0
        decided = dead = 0
        for message, answer in zip(messages, answers, strict=True):
            if isinstance(answer, BadEvent):
                self._produce(self.topics.dead, message.key(), message.value(), _why(message, answer))
                dead += 1
            elif answer is not None:
                self._produce(self.topics.decisions, answer.event_id.encode(), _encode(answer), [])
                decided += 1
        left = self.producer.flush(DELIVERY_S)
        if left or self._undelivered:
            raise Undelivered(f"{left + self._undelivered} answers were not taken by the broker")
        self.counts.decisions += decided
        self.counts.dead += dead

    def _produce(self, topic: str, key: bytes | None, value: bytes | None, headers: list) -> None:
        while True:
            try:
                return self.producer.produce(topic, value, key, headers=headers, on_delivery=self._delivered)
            except BufferError:  # full: let some go first
                self.producer.poll(0.1)

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._undelivered += 1

    def _go_back(self, messages: list[Message]) -> None:
        """Read a batch again. A partition that another consumer has taken over is read there."""
        from confluent_kafka import KafkaException, TopicPartition

        first: dict[tuple[str, int], int] = {}
        for message in messages:
            first.setdefault((message.topic() or "", message.partition() or 0), message.offset() or 0)
        for (topic, partition), offset in first.items():
            try:
                self.consumer.seek(TopicPartition(topic, partition, offset))
            except KafkaException as error:
                logger.warning("kafka: %s", error)


def _event(message: Message) -> dict[str, Any] | BadEvent:
    try:
        event = _decode(message.value() or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return BadEvent(f"not a JSON object: {error}")
    if not event.get("event_id"):
        event["event_id"] = f"{message.topic()}:{message.partition()}:{message.offset()}"
    return event


def _why(message: Message, wrong: BadEvent) -> list[tuple[str, bytes]]:
    place = f"{message.topic()}:{message.partition()}:{message.offset()}"
    return [
        *(message.headers() or []),
        ("shopward-reason", str(wrong).encode(errors="replace")),
        ("shopward-from", place.encode()),
    ]


def _after(messages: list[Message]) -> list:
    """The offsets to go on from."""
    from confluent_kafka import TopicPartition

    last = {(m.topic() or "", m.partition() or 0): (m.offset() or 0) + 1 for m in messages}
    return [TopicPartition(topic, partition, offset) for (topic, partition), offset in last.items()]
