"""The socket side: uvicorn with patience that ends. Slow senders, endless headers and half-closed connections are dealt with here."""

from __future__ import annotations

import resource
import sys
import time
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 10.0  # to send a request's head
BODY_S = 20.0  # to send a body, and a second more for each MIN_RATE bytes of it
MIN_RATE = 16 << 10
MAX_HEAD = 64 << 10  # bytes of a request's head
MAX_CONNECTIONS = 12_000
GRACE_S = 20  # for requests in flight when the server is told to stop
SWITCH_S = 0.0005  # how long one Python thread may keep another waiting


class Patient(HttpToolsProtocol):
    """One connection. A request that does not arrive in time is dropped; who has sent all and waits is never hurried."""

    _timer: Any = None
    _began = 0.0
    _got = 0
    _in_head = True

    def connection_made(self, transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.parser is None:
            return
        self._got += len(data)
        super().data_received(data)
        if self._in_head and self._got > MAX_HEAD and not self.transport.is_closing():
            self.send_400_response(f"the head of a request may have {MAX_HEAD:,} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._got = True, 0
        self._arm(HEAD_S)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._disarm()
        self._in_head, self._got = True, 0
        super().on_message_complete()

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


def run(app: Any, host: str, port: int, cert: str | None = None, key: str | None = None) -> None:
    """Serve until told to stop; requests in flight are answered first."""
    _more_files()
    sys.setswitchinterval(SWITCH_S)
    config = uvicorn.Config(
        app, host=host, port=port, http=Patient, ws="none", log_level="warning", access_log=False, lifespan="on", server_header=False,
        date_header=False, backlog=4096, limit_concurrency=MAX_CONNECTIONS, timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S, ssl_certfile=cert, ssl_keyfile=key, proxy_headers=False,
    )  # fmt: skip
    uvicorn.Server(config).run()


def _more_files() -> None:
    """As many open connections as the system lets us have."""
    with suppress(ValueError, OSError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
