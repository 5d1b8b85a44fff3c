"""The HTTP front: one event in, one explained decision out, durable before the answer leaves.

    POST /v1/decide         one JSON event            -> the decision
    POST /v1/decide/batch   NDJSON events             -> NDJSON, one line an input line, in order
    POST /v1/labels         JSON or NDJSON labels     -> how many were taken, and which were refused
    POST /v1/lists          JSON or NDJSON entries    -> how many were taken; all or none
    GET  /v1/decisions/ID   a decision made before
    GET  /healthz           alive, and which rulebook; 503 and the reason when only a restart helps

Raw ASGI and msgspec: a framework costs more than the decision. Events of concurrent requests share one micro-batch and one
disk flush: whatever waits when the decider is free goes in together.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec

from shopward.errors import BadEvent, ShopwardError, StoreFull
from shopward.store.entries import read_entry

if TYPE_CHECKING:
    from shopward.decide import Engine

MAX_BODY = 16 << 20  # bytes of one request body
MAX_EVENT = 256 << 10  # bytes of one event
MAX_WAITING = 20_000  # events queued before new ones are told to come back
BATCH = 4096
logger = logging.getLogger("shopward.serve")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
Send = Callable[[dict], Awaitable[None]]
Receive = Callable[[], Awaitable[dict]]


class HttpError(Exception):
    """An answer other than 200; `message` is safe to show."""

    def __init__(
        self,
        status: int,
        message: str,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        more: dict[str, Any] | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.headers, self.more = status, message, headers, more or {}


@dataclass(slots=True)
class _Waiting:
    events: list[dict]
    answer: asyncio.Future


class Decider:
    """Feeds one engine from many requests: one thread decides, everything waiting joins the next micro-batch."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._queued = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decide")
        self._task: asyncio.Task | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Answer what is waiting, then close the engine."""
        await self._queue.join()
        if self._task:
            self._task.cancel()
        try:
            await self.call(self.engine.close)
        finally:
            self._thread.shutdown()

    async def decide(self, events: list[dict]) -> list:
        """A Decision or a BadEvent for each event, in order."""
        if len(events) > MAX_WAITING:
            raise HttpError(413, f"a batch may have {MAX_WAITING:,} events")
        if self._queued + len(events) > MAX_WAITING:
            raise HttpError(429, "too many events are waiting; try again", ((b"retry-after", b"1"),))
        answer = asyncio.get_running_loop().create_future()
        self._queued += len(events)
        self._queue.put_nowait(_Waiting(events, answer))
        return await answer

    async def call(self, function: Callable, *args) -> Any:
        """Run something else on the deciding thread, between two micro-batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    async def _run(self) -> None:
        while True:
            waiting = [await self._queue.get()]
            n = len(waiting[0].events)
            while n < BATCH and not self._queue.empty():
                waiting.append(self._queue.get_nowait())
                n += len(waiting[-1].events)
            await self._judge(waiting)
            self._queued -= n
            for _ in waiting:
                self._queue.task_done()

    async def _judge(self, waiting: list[_Waiting]) -> None:
        events = [event for w in waiting for event in w.events]
        try:
            answers = await self.call(self.engine.decide_events, events)
        except Exception as error:  # noqa: BLE001 whatever it was, those who wait hear of it, and the next batch is judged
            for w in waiting:
                if not w.answer.done():
                    w.answer.set_exception(error)
            return
        at = 0
        for w in waiting:
            if not w.answer.done():
                w.answer.set_result(answers[at : at + len(w.events)])
            at += len(w.events)


class App:
    """The ASGI application. `token_hash` is the SHA-256 of the bearer token; None answers 401 to every /v1 call."""

    def __init__(self, engine: Engine, token: str | None):
        self.decider = Decider(engine)
        self._token = sha256(token.encode()).digest() if token else None
        self._routes = {
            ("POST", "/v1/decide"): self._decide,
            ("POST", "/v1/decide/batch"): self._batch,
            ("POST", "/v1/labels"): self._labels,
            ("POST", "/v1/lists"): self._lists,
            ("GET", "/healthz"): self._health,
        }

    async def __call__(self, scope: dict, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._lifespan(receive, send)
        headers: tuple[tuple[bytes, bytes], ...] = ()
        try:
            status, (body, kind) = 200, await self._route(scope, receive)
        except HttpError as error:
            status, body, kind = error.status, _encode({"error": error.message} | error.more), b"application/json"
            headers = error.headers
        except StoreFull as error:
            status, body, kind = 503, _encode({"error": str(error)}), b"application/json"
            headers = ((b"retry-after", b"5"),)
        except Exception as error:  # noqa: BLE001 whoever asked gets an answer; a bug is logged with its place
            status, body, kind = self._failed(error), _encode({"error": self._trouble(error)}), b"application/json"
        length = (b"content-length", str(len(body)).encode())
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), length, *headers]}
        )
        await send({"type": "http.response.body", "body": body})
        return None

    def _failed(self, error: Exception) -> int:
        if not isinstance(error, ShopwardError):
            logger.error("a request failed", exc_info=error)
        return 503 if self.decider.engine.failure else 500

    def _trouble(self, error: Exception) -> str:
        """What the client is told: our own words, or that it was not its fault."""
        return self.decider.engine.failure or (str(error) if isinstance(error, ShopwardError) else "internal error")

    async def _route(self, scope: dict, receive: Receive) -> tuple[bytes, bytes]:
        method, path = scope["method"], scope["path"]
        if path.startswith("/v1/"):
            self._authorise(scope)
        if method == "GET" and path.startswith("/v1/decisions/"):
            return await self._decision(path.removeprefix("/v1/decisions/"))
        handler = self._routes.get((method, path))
        if handler is None:
            allowed = [m for m, p in self._routes if p == path]
            if allowed:
                raise HttpError(405, f"use {allowed[0]}", ((b"allow", allowed[0].encode()),))
            raise HttpError(404, "no such path")
        return await handler(scope, receive)

    def _authorise(self, scope: dict) -> None:
        given = dict(scope["headers"]).get(b"authorization", b"")
        token = given.removeprefix(b"Bearer ")
        known = self._token is not None and hmac.compare_digest(sha256(token).digest(), self._token)
        if not known or not given.startswith(b"Bearer "):
            raise HttpError(401, "a valid bearer token is needed", ((b"www-authenticate", b"Bearer"),))

    async def _decide(self, scope: dict, receive: Receive) -> tuple[bytes, bytes]:
        body = await _body(scope, receive, MAX_EVENT)
        event = _object(body)
        if isinstance(event, str):
            raise HttpError(400, event)
        answer = (await self.decider.decide([event]))[0]
        if isinstance(answer, BadEvent):
            raise HttpError(422, str(answer))
        return _encode(answer), b"application/json"

    async def _batch(self, scope: dict, receive: Receive) -> tuple[bytes, bytes]:
        lines = _lines(await _body(scope, receive, MAX_BODY))
        events, bad = [], {}
        for i, line in lines:
            found = f"an event may have {MAX_EVENT:,} bytes" if len(line) > MAX_EVENT else _object(line)
            if isinstance(found, str):
                bad[i] = {"line": i, "error": found}
            else:
                events.append(found)
        answers = iter(await self.decider.decide(events) if events else ())
        out = []
        for i, _ in lines:
            answer = bad.get(i) or next(answers)
            out.append({"line": i, "error": str(answer)} if isinstance(answer, BadEvent) else answer)
        return b"".join(_encode(answer) + b"\n" for answer in out), b"application/x-ndjson"

    async def _labels(self, scope: dict, receive: Receive) -> tuple[bytes, bytes]:
        rows, at = [], []
        refused: list[dict[str, Any]] = []
        for i, line in _lines(await _body(scope, receive, MAX_BODY)):
            found = _object(line)
            if isinstance(found, str):
                refused.append({"row": i, "error": found})
            else:
                rows.append(found)
                at.append(i)
        answer = await self.decider.call(self.decider.engine.label, rows)
        refused += [{"row": at[wrong["row"] - 1], "error": wrong["error"]} for wrong in answer["refused"]]
        answer["refused"] = sorted(refused, key=lambda wrong: wrong["row"])
        if refused and not any(answer[done] for done in ("taken", "repeated", "unknown")):
            raise HttpError(422, f"row {answer['refused'][0]['row']}: {answer['refused'][0]['error']}", more=answer)
        return _encode(answer), b"application/json"

    async def _lists(self, scope: dict, receive: Receive) -> tuple[bytes, bytes]:
        entries, now = [], self.decider.engine.clock.now()
        for i, line in _lines(await _body(scope, receive, MAX_BODY)):
            found = _object(line)
            if isinstance(found, str):
                raise HttpError(400, f"line {i}: {found}")
            try:
                entries.append(read_entry(found, now))
            except BadEvent as error:
                raise HttpError(422, f"line {i}: {error}") from None
        try:
            taken = await self.decider.call(self.decider.engine.write_lists, entries)
        except BadEvent as error:
            raise HttpError(422, str(error)) from None
        return _encode({"taken": taken}), b"application/json"

    async def _decision(self, event_id: str) -> tuple[bytes, bytes]:
        found = await self.decider.call(self.decider.engine.find, event_id)
        if found is None:
            raise HttpError(404, "no decision for this event_id")
        return _encode(found), b"application/json"

    async def _health(self, scope: dict, receive: Receive) -> tuple[bytes, bytes]:
        engine = self.decider.engine
        if engine.failure:
            raise HttpError(503, engine.failure)
        return _encode(
            {"status": "ok", "rulebook_version": engine.rulebook.version, "events": engine.seq}
        ), b"application/json"

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.decider.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.decider.stop()
                return await send({"type": "lifespan.shutdown.complete"})


def _lines(body: bytes) -> list[tuple[int, bytes]]:
    """The lines that hold something, with their numbers."""
    return [(i, line) for i, line in enumerate(body.split(b"\n"), 1) if line.strip()]


def _object(raw: bytes) -> dict[str, Any] | str:
    """The JSON object in `raw`, or what is wrong with it."""
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"not a JSON object: {error}"
    except RecursionError:
        return "not a JSON object: nested too deeply"


async def _body(scope: dict, receive: Receive, limit: int) -> bytes:
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > limit:
        raise HttpError(413, f"the body may have {limit:,} bytes")
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HttpError(400, "the client went away")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise HttpError(413, f"the body may have {limit:,} bytes")
        if not message.get("more_body"):
            return b"".join(parts)
