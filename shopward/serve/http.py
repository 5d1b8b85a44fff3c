"""The few things every route needs: errors with a status, JSON objects, bodies of a bounded size and lines as they arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec

MAX_BODY = 16 << 20  # bytes of one request body
MAX_STREAM = 1 << 30  # bytes of one stream of events
MAX_EVENT = 256 << 10  # bytes of one event
MAX_LINES = 1_000  # lines that are decided together
encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
Send = Callable[[dict], Awaitable[None]]
Receive = Callable[[], Awaitable[dict]]
JSON, NDJSON, TEXT = b"application/json", b"application/x-ndjson", b"text/plain; version=0.0.4; charset=utf-8"


class HttpError(Exception):
    """An answer other than 200; `message` is safe to show."""

    def __init__(
        self,
        status: int,
        message: str,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        more: dict[str, Any] | None = None,
        retry_after: int | None = None,
    ):
        super().__init__(message)
        again = () if retry_after is None else ((b"retry-after", b"%d" % retry_after),)
        self.status, self.message, self.headers, self.more = status, message, (*headers, *again), more or {}


def json_object(raw: bytes) -> dict[str, Any] | str:
    """The JSON object in `raw`, or what is wrong with it."""
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"not a JSON object: {error}"
    except RecursionError:
        return "not a JSON object: nested too deeply"


def header(scope: dict, name: bytes) -> bytes:
    for found, value in scope["headers"]:
        if found == name:
            return value
    return b""


def asked(scope: dict, name: str) -> str | None:
    """A parameter of the query."""
    found = parse_qs(scope.get("query_string", b"").decode("latin-1")).get(name)
    return found[-1] if found else None


async def whole_body(scope: dict, receive: Receive, limit: int = MAX_BODY) -> bytes:
    _check_size(scope, limit)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        return _within(message.get("body", b""), limit)
    body = bytearray()
    while message["type"] == "http.request":
        body += message.get("body", b"")
        _within(body, limit)
        if not message.get("more_body"):
            return bytes(body)
        message = await receive()
    raise HttpError(400, "the client went away")


def _check_size(scope: dict, limit: int) -> None:
    declared = header(scope, b"content-length")
    if declared.isdigit() and int(declared) > limit:
        raise HttpError(413, f"the body may have {limit:,} bytes")


def _within(body, limit: int):
    if len(body) > limit:
        raise HttpError(413, f"the body may have {limit:,} bytes")
    return body


def numbered(body: bytes) -> list[tuple[int, bytes]]:
    """The lines that hold something, with their numbers."""
    return [(i, line) for i, line in enumerate(body.split(b"\n"), 1) if line.strip()]


async def lines_as_they_come(
    scope: dict, receive: Receive, limit: int = MAX_STREAM
) -> AsyncIterator[list[tuple[int, bytes | str]]]:
    """Groups of at most MAX_LINES numbered lines, each as soon as it is there; a text instead of bytes says what is wrong.

    Memory is bounded by one event and one read: a line that is too long is passed over, not collected.
    """
    _check_size(scope, limit)
    rest, number, size, skipping, more = b"", 0, 0, False, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise HttpError(400, "the client went away")
        more = message.get("more_body", False)
        size += len(message.get("body", b""))
        parts = (rest + message.get("body", b"")).split(b"\n")
        rest = parts.pop() if more else b""
        found: list[tuple[int, bytes | str]] = []
        for line in parts:
            number += 1
            if skipping or len(line) > MAX_EVENT:
                found.append((number, f"an event may have {MAX_EVENT:,} bytes"))
                skipping = False
            elif line.strip():
                found.append((number, line))
        if len(rest) > MAX_EVENT:
            rest, skipping = b"", True
        for start in range(0, len(found), MAX_LINES):
            yield found[start : start + MAX_LINES]
        if size > limit:
            yield [(number + 1, f"a stream may have {limit:,} bytes; send the rest again")]
            return
