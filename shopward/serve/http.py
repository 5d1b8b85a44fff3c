"""The few things every route needs: errors with a status, JSON objects, bodies of a bounded size and lines as they arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import msgspec

from shopward.errors import BadEvent
from shopward.ingest.arrivals import parsed

MAX_BODY = 16 << 20  # bytes of one request body
MAX_STREAM = 1 << 30  # bytes of one stream of events
MAX_EVENT = 256 << 10  # bytes of one event
MAX_LINES = 1_000  # lines that are decided together
encode = msgspec.json.Encoder().encode
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
        return parsed(raw)
    except BadEvent as wrong:
        return str(wrong)


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


@dataclass(frozen=True, slots=True)
class Lines:
    """Some lines of a stream, the first of them its line `number` (from 1). `wrong`: line -> what is wrong with one that was passed over."""

    number: int
    raw: bytes
    count: int
    wrong: dict[int, str]

    def numbered(self) -> list[tuple[int, bytes | str]]:
        """The lines that hold something, with their numbers; a text instead of bytes says what is wrong.

        >>> Lines(7, b'a\\n\\nb\\n', 3, {8: "too long"}).numbered()
        [(7, b'a'), (8, 'too long'), (9, b'b')]
        """
        found: dict[int, bytes | str] = {
            i: line for i, line in enumerate(self.raw.split(b"\n"), self.number) if line.strip()
        }
        return sorted((found | self.wrong).items())


async def lines_as_they_come(scope: dict, receive: Receive, limit: int = MAX_STREAM) -> AsyncIterator[Lines]:
    """Groups of at most MAX_LINES lines, each as soon as it is there.

    Memory is bounded by one event and one read: a line that is too long is passed over, not collected.
    """
    _check_size(scope, limit)
    rest, number, size, skipping, more = b"", 1, 0, False, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise HttpError(400, "the client went away")
        more = message.get("more_body", False)
        body = message.get("body", b"")
        size += len(body)
        whole, rest = _cut(rest + body if rest else body, more)
        wrong: dict[int, str] = {}
        if skipping and whole:
            wrong[number], skipping = _TOO_LONG, False
            whole = b"\n" + whole.partition(b"\n")[2]
        if len(whole) > MAX_EVENT:
            whole = _without_long(whole, number, wrong)
        if len(rest) > MAX_EVENT:
            rest, skipping = b"", True
        elif skipping:
            rest = b""
        for part in _grouped(whole):
            count = part.count(b"\n") + (not part.endswith(b"\n"))
            mine = {line: wrong.pop(line) for line in list(wrong) if line < number + count}
            if mine or part.strip():
                yield Lines(number, part, count, mine)
            number += count
        if wrong:  # nothing but one line without an end, and that is too long
            yield Lines(number, b"", 0, wrong)
        if skipping and not more:
            yield Lines(number, b"", 0, {number: _TOO_LONG})
        if size > limit:
            yield Lines(number, b"", 0, {number: f"a stream may have {limit:,} bytes; send the rest again"})
            return


_TOO_LONG = f"an event may have {MAX_EVENT:,} bytes"


def _cut(data: bytes, more: bool) -> tuple[bytes, bytes]:
    """The whole lines of what came, and the beginning of the next one."""
    end = data.rfind(b"\n") + 1 if more else len(data)
    return data[:end], data[end:]


def _without_long(whole: bytes, number: int, wrong: dict[int, str]) -> bytes:
    """The lines, with nothing where one is too long."""
    lines = whole.split(b"\n")
    for i, line in enumerate(lines):
        if len(line) > MAX_EVENT:
            wrong[number + i], lines[i] = _TOO_LONG, b""
    return b"\n".join(lines)


def _grouped(whole: bytes) -> Iterator[bytes]:
    """The lines in groups of at most MAX_LINES."""
    if whole.count(b"\n") <= MAX_LINES:
        if whole:
            yield whole
        return
    *lines, last = whole.split(b"\n")
    lines = [line + b"\n" for line in lines] + ([last] if last else [])
    for start in range(0, len(lines), MAX_LINES):
        yield b"".join(lines[start : start + MAX_LINES])
