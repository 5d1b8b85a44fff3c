"""The socket side: uvicorn with patience that ends. Slow senders, endless headers and half-closed connections are dealt with here."""

from __future__ import annotations

import gc
import resource
import socket
import sys
import time
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shopward.errors import UsageError
from shopward.serve.direct import URL, Direct, Exchange

HEAD_S = 10.0  # to send a request's head
BODY_S = 20.0  # to send a body, and a second more for each MIN_RATE bytes of it
MIN_RATE = 16 << 10
MAX_HEAD = 64 << 10  # bytes of a request's head
MAX_CONNECTIONS = 12_000
BACKLOG = 4096  # connections that wait to be taken
GRACE_S = 20  # for requests in flight when the server is told to stop
SWITCH_S = 0.0005  # how long one Python thread may keep another waiting


class Patient(HttpToolsProtocol):
    """One connection. A request that does not arrive in time is dropped; who has sent all and waits is never hurried."""

    direct: Direct
    _timer: Any = None
    _began = 0.0
    _got = 0
    _in_head = True
    _under_way = _new = False  # a request is arriving; it began with what was received last
    _exchange: Exchange | None = None  # takes the short way, and its body is arriving
    _idle_since = 0.0

    def __init__(self, *args: Any, **more: Any):
        super().__init__(*args, **more)
        self.direct = self.config.app.direct  # type: ignore[union-attr]

    def connection_made(self, transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.parser is None:
            return
        if not self._under_way and self._rests() and (found := self.direct.known(data)) is not None:
            self._disarm()
            self.cycle = exchange = Exchange(self, *found)  # type: ignore[assignment]
            exchange.more_body = False
            self.direct.decide(exchange)
            return
        self._got += len(data)
        started = not self._under_way
        super().data_received(data)
        if self._in_head and self._got > MAX_HEAD and not self.transport.is_closing():
            self.send_400_response(f"the head of a request may have {MAX_HEAD:,} bytes")
        if self._under_way:
            if self._new:
                self._arm(HEAD_S)
        elif self._new:
            self._disarm()
            cycle: Any = self.cycle
            if started and isinstance(cycle, Exchange):
                self.direct.remember(data, cycle.head)
        self._new = False

    def _rests(self) -> bool:
        """Is nothing under way on this connection, and does the client take its answers?"""
        free = self.cycle is None or self.cycle.response_complete
        return free and not self.flow.write_paused and not self.transport.is_closing() and not self._crowded()

    def _crowded(self) -> bool:
        most = self.limit_concurrency
        return most is not None and (len(self.connections) >= most or len(self.tasks) >= most)

    def on_message_begin(self) -> None:
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._in_head, self._got = True, 0
        self._under_way = self._new = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        found = None
        if self.url == URL and self.parser.get_method() == b"POST" and self._rests():
            plain = self.parser.get_http_version() == "1.1" and not self.parser.should_upgrade()
            found = self.direct.head(self.headers, self.parser.should_keep_alive()) if plain else None
        if found is None:
            self._the_long_way()
        else:
            self.cycle = self._exchange = Exchange(self, *found, bytearray())  # type: ignore[assignment]

    def _the_long_way(self) -> None:
        """Through ASGI: uvicorn gets what was read so far."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._exchange is not None:
            self._exchange.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._under_way = False
        self._disarm()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.more_body = False
            self.direct.decide(exchange)
        else:
            super().on_message_complete()
        self._in_head, self._got = True, 0

    def answered(self) -> None:
        """A request that took the short way has its answer."""
        if self.pipeline or self.transport.is_closing():
            self.on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def timeout_keep_alive_handler(self) -> None:
        """Whoever said nothing for long is let go; the clock is not set anew for every request."""
        self.timeout_keep_alive_task = None
        busy = self._under_way or not self.cycle.response_complete
        left = self.timeout_keep_alive if busy else self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has said all it will; it still gets the answer it waits for."""
        waits = self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body
        if waits and self.scheme == "http":
            self.cycle.keep_alive = False
            return True
        return False

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._began = time.monotonic()
        self._timer = self.loop.call_later(seconds, self._late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        """Too slow? A body may take longer the more of it came, and waits for us do not count."""
        took = time.monotonic() - self._began
        if not self._in_head and (self.flow.read_paused or took < BODY_S + self._got / MIN_RATE):
            self._timer = self.loop.call_later(1.0, self._late)
        else:
            self.transport.abort()


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to every address of `host`, so that a port that is taken is told before anything is built.

    Port 0 takes a free one, the same for all. Raises UsageError when there is no such address or it cannot be had.
    """
    found: list[socket.socket] = []
    try:
        for family, kind, proto, _, address in dict.fromkeys(
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        ):
            sock = socket.socket(family, kind, proto)
            found.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address[0], found[0].getsockname()[1] if sock is not found[0] else port, *address[2:]))
    except OSError as wrong:
        for sock in found:
            sock.close()
        why = (wrong.strerror or str(wrong)).lower()
        raise UsageError(f"cannot listen on {host} port {port}: {why}; name others with --host and --port") from None
    return found


def load_whole() -> None:
    """Load now what would be loaded under way, and take it from the garbage collector, which stops everything while it walks over it.

    Call it before an engine is built: one that is replaced later shall be collected.
    """
    import pyarrow as pa

    import shopward.decide
    import shopward.durable  # noqa: F401

    pa.array([None])  # looks for pandas
    gc.collect()
    gc.freeze()


def run(app: Any, sockets: list[socket.socket], cert: str | None = None, key: str | None = None) -> None:
    """Serve on sockets of `listen` until told to stop; requests in flight are answered first."""
    _more_files()
    sys.setswitchinterval(SWITCH_S)
    config = uvicorn.Config(
        app, http=Patient, ws="none", log_level="warning", access_log=False, lifespan="on", server_header=False,
        date_header=False, backlog=BACKLOG, limit_concurrency=MAX_CONNECTIONS, timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S, ssl_certfile=cert, ssl_keyfile=key, proxy_headers=False,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets)


def _more_files() -> None:
    """As many open connections as the system lets us have."""
    with suppress(ValueError, OSError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
