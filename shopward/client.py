"""A client for `shopward serve` that needs nothing but Python: typed answers, retries that cannot double a decision, fail-over.

    with Client(["http://10.0.0.1:8080", "http://10.0.0.2:8080"], token) as shopward:
        decision = shopward.decide({"type": "login", "ts": now, "account": "a1"})

An event without an id gets one before it is sent the first time; so however often it is sent again, it is decided once and
everybody gets the same answer.
"""

from __future__ import annotations

import http.client
import random
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import msgspec

from shopward.decision import Decision
from shopward.errors import BadEvent, ShopwardError, UsageError

AGAIN = frozenset({408, 425, 429, 502, 503, 504})
FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 5.0
LINES = 500  # events of one batch


class Unreachable(ShopwardError):
    """No server answered in time; sending the same events again is safe."""

    exit_code = 3


class Refused(ShopwardError):
    """The server understood and said no; `status` is that of HTTP, `told` its whole answer."""

    exit_code = 3

    def __init__(self, status: int, told: dict[str, Any]):
        super().__init__(f"{status}: {told.get('error', 'refused')}")
        self.status, self.told = status, told


class Client:
    """Asks one server, or the first of several that decides.

    urls     one base URL, or several that share their data (a server and its standby)
    token    the bearer token
    timeout  seconds for one try
    tries    how often at most; waits between them double, shortened by chance, and follow Retry-After
    context  for https with a certificate of your own

    Safe to share between threads: each has its own connection.

    >>> Client("http://127.0.0.1:8080", "secret")
    <Client http://127.0.0.1:8080>
    """

    def __init__(
        self, urls: str | Sequence[str], token: str, *, timeout: float = 5.0, tries: int = 6, context: ssl.SSLContext | None = None
    ):  # fmt: skip
        self.urls = [urls] if isinstance(urls, str) else [*urls]
        for url in self.urls:
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
                raise UsageError(f"{url}: expected http(s)://host:port")
        self._token, self.timeout, self.tries, self._context = token, timeout, max(1, tries), context
        self._first = 0  # the server that answered last
        self._own = threading.local()

    def __repr__(self) -> str:
        return f"<Client {', '.join(self.urls)}>"

    def decide(self, event: Mapping[str, Any]) -> Decision | None:
        """The decision on one event (None for one that is only observed). Raises BadEvent when it cannot be used, Unreachable when no server answers."""
        try:
            answer = self._ask("POST", "/v1/decide", msgspec.json.encode(_named(event)))
        except Refused as no:
            if no.status in (400, 422):
                raise BadEvent(no.told.get("error", "refused")) from None
            raise
        found = _answer(msgspec.json.decode(answer))
        if isinstance(found, BadEvent):
            raise found
        return found

    def decide_many(
        self, events: Iterable[Mapping[str, Any]], lines: int = LINES
    ) -> Iterator[Decision | BadEvent | None]:
        """A Decision, or the BadEvent that says what is wrong, for each event in order; `lines` events travel together."""
        source = iter(events)
        while part := [_named(event) for event in islice(source, lines)]:
            yield from self._batch(part)

    def decision(self, event_id: str) -> Decision | None:
        """A decision made before, or None."""
        try:
            return msgspec.json.decode(self._ask("GET", f"/v1/decisions/{quote(event_id, safe='')}"), type=Decision)
        except Refused as no:
            if no.status == 404:
                return None
            raise

    def label(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """Tell what turned out to be fraud: rows of event_id, label, label_ts, [source], [amount]."""
        return msgspec.json.decode(self._ask("POST", "/v1/labels", _lines(rows)))

    def write_lists(self, rows: Iterable[Mapping[str, Any]]) -> int:
        """Put keys on lists or take them off: rows of list, key, [valid_from], [expires], [provenance], [remove]."""
        return msgspec.json.decode(self._ask("POST", "/v1/lists", _lines(rows)))["taken"]

    def change_rulebook(self, **asked: Any) -> dict[str, Any]:
        """`files={path: text}`, `version="..."` or `rollback=True`; returns when it is in force."""
        return msgspec.json.decode(
            self._ask("POST", "/v1/admin/rulebook", msgspec.json.encode(asked), timeout=600, tries=1)
        )

    def close(self) -> None:
        """Hang up this thread's connections."""
        for connection in self._connections().values():
            connection.close()
        self._connections().clear()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- inside

    def _batch(self, part: list[dict[str, Any]]) -> Iterator[Decision | BadEvent | None]:
        for _ in range(self.tries):
            rows = [
                msgspec.json.decode(line) for line in self._ask("POST", "/v1/decide/batch", _lines(part)).splitlines()
            ]
            if len(rows) == len(part):
                yield from map(_answer, rows)
                return
            time.sleep(FIRST_WAIT_S)  # the stream broke off: what was decided is answered as before
        raise Unreachable("the answer to a batch broke off each time; sending the same events again is safe")

    def _ask(
        self, method: str, path: str, body: bytes = b"", timeout: float | None = None, tries: int | None = None
    ) -> bytes:
        """The body of a good answer. Tries again what may work later, at the next server first."""
        wait, said = FIRST_WAIT_S, "no answer"
        for left in reversed(range(tries or self.tries)):
            at = self._first % len(self.urls)
            try:
                status, answer, after = self._once(self.urls[at], method, path, body, timeout or self.timeout)
            except (OSError, http.client.HTTPException) as error:
                status, answer, after = 0, b"", 0.0
                said = f"{self.urls[at]}: {error or type(error).__name__}"
            if 200 <= status < 300:
                return answer
            if status and status not in AGAIN:
                raise Refused(status, _told(answer))
            said = f"{self.urls[at]}: {status}: {_told(answer).get('error', '')}" if status else said
            self._first = at + 1
            if left:
                time.sleep(
                    min(max(wait * random.uniform(0.5, 1.0), after if len(self.urls) == 1 else 0.0), LONGEST_WAIT_S)
                )
                wait *= 2
        raise Unreachable(f"{said}; sending the same again is safe")

    def _once(self, url: str, method: str, path: str, body: bytes, timeout: float) -> tuple[int, bytes, float]:
        connection = self._connections().get(url) or self._connect(url)
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            after = answer.headers.get("retry-after", "")
            return answer.status, answer.read(), float(after) if after.isdigit() else 0.0
        except BaseException:
            self._connections().pop(url, None)
            connection.close()
            raise

    def _connect(self, url: str) -> http.client.HTTPConnection:
        parts = urlsplit(url)
        host = parts.hostname or ""
        made: http.client.HTTPConnection
        if parts.scheme == "https":
            made = http.client.HTTPSConnection(host, parts.port, timeout=self.timeout, context=self._context)
        else:
            made = http.client.HTTPConnection(host, parts.port, timeout=self.timeout)
        self._connections()[url] = made
        return made

    def _connections(self) -> dict[str, http.client.HTTPConnection]:
        if not hasattr(self._own, "connections"):
            self._own.connections = {}
        return self._own.connections


def _named(event: Mapping[str, Any]) -> dict[str, Any]:
    return dict(event) if event.get("event_id") else {**event, "event_id": uuid4().hex}


def _lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return b"\n".join(msgspec.json.encode(dict(row)) for row in rows)


def _answer(row: dict[str, Any]) -> Decision | BadEvent | None:
    if row.get("decision", row) is None:  # only observed
        return None
    return BadEvent(row["error"]) if "error" in row else msgspec.convert(row, Decision)


def _told(answer: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(answer, type=dict[str, Any])
    except msgspec.DecodeError:
        return {"error": answer[:200].decode(errors="replace")}
