"""Webhooks: tells another system of every decision that needs an act, at least once, however often either side dies.

The log is the outbox: a decision that was answered is in it, and a small file says up to which event it was delivered. A thread of
its own reads behind the log, so a hanging receiver delays nobody. A receiver checks the signature and keeps the delivery id:

    Shopward-Delivery: 1042                        the event's number; the same again is the same decision
    Shopward-Signature: t=1767225600,v1=5f3a...    HMAC-SHA256 of "<t>.<body>" with the shared secret
"""

from __future__ import annotations

import hmac
import http.client
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from shopward.declare.types import ACTIONS
from shopward.errors import StoreFull, UsageError
from shopward.store.files import write_whole

if TYPE_CHECKING:
    from shopward.durable import Journal
    from shopward.store.frames import Frame

TIMEOUT_S = 10.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 60.0
REFUSED_TRIES = 5  # a receiver that answers 4xx so often will not take this one
KEEP_EVERY_S = 0.5  # how often the place is written down
LOOK_S = 0.05
logger = logging.getLogger("shopward.outbox")


class Webhook(msgspec.Struct, frozen=True):
    """Where decisions go, which ones, and the shared secret."""

    url: str
    secret: bytes
    actions: tuple[str, ...] = tuple(a for a in ACTIONS if a != "allow")

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise UsageError("--webhook: expected http(s)://host[:port]/path")
        wrong = [a for a in self.actions if a not in ACTIONS]
        if wrong:
            raise UsageError(f"--webhook-on: `{wrong[0]}` is not an action; {', '.join(ACTIONS)}")
        if len(self.secret) < 16:
            raise UsageError("SHOPWARD_WEBHOOK_SECRET must have at least 16 characters")


def sign(secret: bytes, body: bytes, at: int) -> str:
    """The signature of a body sent at a time (epoch seconds).

    >>> sign(b"s" * 16, b"{}", 1_767_225_600)[:30]
    't=1767225600,v1=efb5608ad28707'
    """
    return f"t={at},v1={hmac.new(secret, b'%d.' % at + body, sha256).hexdigest()}"


def verify(secret: bytes, body: bytes, signature: str, now: int, tolerance_s: int = 300) -> bool:
    """Is this signature ours and young?

    >>> verify(b"s" * 16, b"{}", sign(b"s" * 16, b"{}", 1000), now=1100), verify(b"s" * 16, b"{}", sign(b"s" * 16, b"{}", 1000), now=2000)
    (True, False)
    """
    at = signature.partition(",")[0].removeprefix("t=")
    return (
        at.isdigit()
        and abs(now - int(at)) <= tolerance_s
        and hmac.compare_digest(sign(secret, body, int(at)), signature)
    )


class Outbox:
    """Delivers the decisions of one journal to one webhook, in the order of the log.

    next_seq   every decision before it was delivered or given up
    delivered, retried, given_up   how many
    """

    def __init__(self, journal: Journal, webhook: Webhook):
        self.journal, self.webhook = journal, webhook
        self.path = journal.data / "state" / "outbox"
        found = journal.disk.exists(self.path)
        self.next_seq = int(bytes(journal.disk.read(self.path))) if found else journal.log.next_seq
        self.delivered = self.retried = self.given_up = 0
        self._stop = threading.Event()
        self._kept, self._kept_at = -1, 0.0
        self._connection: http.client.HTTPConnection | None = None
        self._keep(force=True)
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let the delivery under way end or be broken off; the next start goes on from there."""
        self._stop.set()
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=TIMEOUT_S)

    def metrics(self) -> Iterable[tuple[str, str, str, float]]:
        waiting = max(self.journal.log.durable_seq - self.next_seq, 0)
        yield "shopward_outbox_lag_events", "gauge", "Events of the log the outbox has not passed yet.", waiting
        yield "shopward_outbox_delivered_total", "counter", "Decisions delivered to the webhook.", self.delivered
        yield "shopward_outbox_retried_total", "counter", "Deliveries tried again.", self.retried
        yield "shopward_outbox_given_up_total", "counter", "Decisions the webhook refused for good.", self.given_up

    # ---- inside

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except Exception as error:  # noqa: BLE001 the outbox never ends because of one failure: it begins again from its place
                logger.error("the outbox begins again from event %d", self.next_seq, exc_info=error)
                self._stop.wait(1.0)

    def _follow(self) -> None:
        """What is in the log already, then what comes."""
        with self.journal.tail() as tail:
            self.journal.log.sync()
            for frame in self.journal.log.replay(from_seq=max(self.next_seq, self.journal.log.first_seq)):
                self._deliver(frame)
            while not self._stop.is_set() and not tail.torn:
                for frame in tail.frames():
                    while self.journal.log.durable_seq < frame.seq0 + frame.n and not self._stop.is_set():
                        self._stop.wait(LOOK_S / 10)
                    self._deliver(frame)
                self._keep()
                self._stop.wait(LOOK_S)
            self._keep(force=True)

    def _deliver(self, frame: Frame) -> None:
        if frame.n == 0 or frame.seq0 + frame.n <= self.next_seq:
            return
        for i, decision in enumerate(frame.decided()):
            seq = frame.seq0 + i
            if self._stop.is_set():
                return
            if seq < self.next_seq:
                continue
            if decision and decision["action"] in self.webhook.actions:
                self._send(seq, decision)
                if self._stop.is_set():
                    return
            self.next_seq = seq + 1
            self._keep()

    def _send(self, seq: int, decision: dict[str, Any]) -> None:
        """Until it is taken; waits grow to a minute. After a few 4xx the decision goes to outbox-refused.ndjson."""
        body = msgspec.json.encode({"delivery": seq, "decision": decision})
        refused = 0
        for wait in waits():
            status = self._post(seq, body)
            if 200 <= status < 300:
                self.delivered += 1
                return None
            if 400 <= status < 500 and status not in (408, 425, 429):
                refused += 1
                if refused >= REFUSED_TRIES:
                    return self._give_up(status, body)
            self.retried += 1
            self._keep()
            if self._stop.wait(wait):
                return None
        return None

    def _give_up(self, status: int, body: bytes) -> None:
        self.given_up += 1
        with (self.journal.data / "outbox-refused.ndjson").open("ab") as file:
            file.write(msgspec.json.encode({"status": status, "sent": msgspec.Raw(body)}) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _post(self, seq: int, body: bytes) -> int:
        """The status of the answer; 0 when there was none."""
        parts = urlsplit(self.webhook.url)
        headers = {
            "Content-Type": "application/json", "Shopward-Delivery": str(seq),
            "Shopward-Signature": sign(self.webhook.secret, body, int(time.time())),
        }  # fmt: skip
        try:
            if self._connection is None:
                maker = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
                self._connection = maker(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
            self._connection.request(
                "POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, headers
            )
            answer = self._connection.getresponse()
            answer.read(65_536)
            if answer.will_close or not answer.isclosed():
                self._hang_up()
            return answer.status
        except (OSError, http.client.HTTPException):
            self._hang_up()
            return 0

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _keep(self, force: bool = False) -> None:
        """Write down how far it came. Not at every event: what is told twice after a crash carries the same delivery id."""
        if self._kept == self.next_seq or (not force and time.monotonic() - self._kept_at < KEEP_EVERY_S):
            return
        try:
            write_whole(self.journal.disk, self.path, [str(self.next_seq).encode()])
            self._kept, self._kept_at = self.next_seq, time.monotonic()
        except StoreFull:
            self._kept_at = time.monotonic()  # later; nothing is lost, only told again


def waits() -> Iterator[float]:
    """Seconds to wait, doubling to a minute, each shortened by chance so that many senders do not come at once."""
    wait = FIRST_WAIT_S
    while True:
        yield wait * random.uniform(0.5, 1.0)
        wait = min(wait * 2, LONGEST_WAIT_S)


def actions_of(text: str) -> Sequence[str]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
