"""The short way for `POST /v1/decide`: from the connection into the micro-batch and back, without an ASGI task in between.

Only a request that will be decided on takes it: one with a token that is good for it and a body of a known, allowed size. Everything
else, and every request where something stands in the way, goes through `App` and is answered there; both answer alike, to the byte.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from shopward.serve.auth import Grant, Tokens, digest_of
from shopward.serve.decider import Decider
from shopward.serve.http import JSON, MAX_EVENT, HttpError, json_object
from shopward.serve.metrics import Metrics

if TYPE_CHECKING:
    from shopward.serve.server import Patient

ROUTE = "/v1/decide"
URL = ROUTE.encode()
FIRST = b"POST %s HTTP/1.1\r\n" % URL
HEADS = 4_096  # heads of requests that are remembered
Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Head:
    """What the head of a request says that takes the short way."""

    length: int  # bytes of the body
    token: str  # its digest
    keep_alive: bool


class Direct:
    """What all connections share.

    taken  how many requests took the short way
    """

    def __init__(self, decider: Decider, tokens: Tokens, metrics: Metrics, refused: Callable):
        self.decider, self.tokens, self.metrics, self.refused = decider, tokens, metrics, refused
        self.taken = 0
        self._heads: dict[bytes, Head] = {}  # by a keyed hash, so that no token lies about in memory
        self._key = secrets.token_bytes(16)

    def head(self, headers: Headers, keep_alive: bool) -> tuple[Head, Grant] | None:
        """The head of a parsed request and what its token allows, or None when it has to take the long way."""
        length, given = -1, b""
        for name, value in headers:
            if name == b"content-length":
                length = int(value) if value.isdigit() and len(value) < 9 else -1
            elif name == b"authorization":
                given = value
            elif name in (b"transfer-encoding", b"expect", b"upgrade"):
                return None
        if not 0 < length <= MAX_EVENT or given[:7].lower() != b"bearer ":
            return None
        head = Head(length, digest_of(given[7:]), keep_alive)
        grant = self._grant(head)
        return None if grant is None else (head, grant)

    def _grant(self, head: Head) -> Grant | None:
        """What the token allows, if it is good and there is somebody who decides without a clock running."""
        decider = self.decider
        if decider.closing or not decider.has_engine or decider.engine.policy.time_budget_ms is not None:
            return None
        return self.tokens.known(head.token, "decide")

    def known(self, data: bytes) -> tuple[Head, Grant, bytes] | None:
        """The same of a whole request whose head was seen before, and its body."""
        end = data.find(b"\r\n\r\n") + 4
        head = self._heads.get(self._name(data[:end])) if end > 3 else None
        if head is None or len(data) != end + head.length or (grant := self._grant(head)) is None:
            return None
        return head, grant, data[end:]

    def remember(self, data: bytes, head: Head) -> None:
        """A whole request that was parsed: the next one with this head need not be."""
        end = data.find(b"\r\n\r\n") + 4
        if len(data) != end + head.length or not data.startswith(FIRST):
            return
        if len(self._heads) >= HEADS:
            self._heads.clear()
        self._heads[self._name(data[:end])] = head

    def _name(self, head: bytes) -> bytes:
        return blake2b(head, digest_size=16, key=self._key).digest()

    def decide(self, exchange: Exchange) -> None:
        """Bring an event in; the exchange is told the answer."""
        self.taken += 1
        try:
            raw = bytes(exchange.body)
            event = json_object(raw)
            if isinstance(event, str):
                raise HttpError(400, event)
            exchange.grant.take(1)
            self.decider.submit_one(event, raw, exchange.tell)
        except Exception as error:  # noqa: BLE001 whoever asked gets an answer
            exchange.tell(error)


class Exchange:
    """One request on its short way, and its answer. To uvicorn it is what an ASGI cycle is."""

    __slots__ = (
        "began",
        "body",
        "disconnected",
        "grant",
        "head",
        "keep_alive",
        "more_body",
        "protocol",
        "response_complete",
    )

    def __init__(self, protocol: Patient, head: Head, grant: Grant, body: bytes | bytearray):
        self.protocol, self.head, self.grant = protocol, head, grant
        self.keep_alive, self.more_body = head.keep_alive, True
        self.response_complete = self.disconnected = False
        self.body = body
        self.began = time.perf_counter()

    @property
    def message_event(self) -> Exchange:
        return self

    def set(self) -> None:
        """Nobody waits for the next piece of the body but the connection itself."""

    def tell(self, answer: Any) -> None:
        """The text of the decision, or what went wrong."""
        direct = self.protocol.direct
        status, headers = 200, ()
        if isinstance(answer, Exception):
            status, answer, headers = direct.refused(answer)
        if not self.disconnected and not self.protocol.transport.is_closing():
            self._send(response(status, answer, headers, self.keep_alive))
        direct.metrics.answered(ROUTE, status, time.perf_counter() - self.began)

    def _send(self, text: bytes) -> None:
        self.response_complete = True
        self.protocol.transport.write(text)
        if not self.keep_alive:
            self.protocol.transport.close()
        self.protocol.answered()


def response(status: int, body: bytes, headers: Headers, keep_alive: bool) -> bytes:
    """An answer as it goes over the wire."""
    head = b"%scontent-type: %s\r\ncontent-length: %d\r\n" % (STATUS_LINE[status], JSON, len(body))
    for name, value in headers:
        head += b"%s: %s\r\n" % (name, value)
    return head + (b"\r\n" if keep_alive else b"connection: close\r\n\r\n") + body
