"""The HTTP front: one event in, one explained decision out, durable before the answer leaves.

    POST /v1/decide           one JSON event            -> the decision
    POST /v1/decide/batch     NDJSON events             -> NDJSON, one line an input line, in order, while they still come in
    POST /v1/traffic          NDJSON requests or lines of an access log -> NDJSON of verdicts, on disk
    POST /v1/labels           JSON or NDJSON labels     -> how many were taken, and which were refused
    POST /v1/lists            JSON or NDJSON entries    -> how many were taken; all or none
    GET  /v1/decisions/ID     a decision made before
    GET, POST /v1/admin/rulebook    which rulebook decides; change it, or go back
    POST /v1/admin/erase      {entity: KIND:ID}: forget a person
    GET  /healthz /readyz     alive; deciding (503 and the reason when not)
    GET  /metrics /openapi.json

Raw ASGI and msgspec: a framework costs more than the decision. Events of concurrent requests share one micro-batch and one
disk flush: whatever waits when the decider is free goes in together.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from shopward.decision import Decision
from shopward.erase import forget, seen_with
from shopward.errors import BadEvent, ShopwardError, StoreFull
from shopward.event import parse_time
from shopward.evidence import Evidence
from shopward.serve.auth import AGAIN_S, Grant, Tokens
from shopward.serve.decider import Decider, unjudged
from shopward.serve.direct import Direct
from shopward.serve.http import (
    JSON,
    MAX_EVENT,
    NDJSON,
    TEXT,
    HttpError,
    Lines,
    Receive,
    Send,
    encode,
    json_object,
    lines_as_they_come,
    numbered,
    whole_body,
)  # fmt: skip
from shopward.serve.metrics import Metrics
from shopward.serve.openapi import document
from shopward.serve.rulebooks import Rulebooks
from shopward.serve.traffic import Traffic, respond
from shopward.store.entries import read_entry
from shopward.traffic.live import Watch

if TYPE_CHECKING:
    from shopward.decide import Engine
    from shopward.declare.rulebook import Rulebook
    from shopward.serve.following import Following
    from shopward.serve.outbox import Outbox, Webhook

AHEAD = 4  # groups of lines of one stream that are decided while it goes on
STALLED_S = 60.0  # so long a client may refuse to take its answers
logger = logging.getLogger("shopward.serve")


class App:
    """The ASGI application.

    engine     decides; None when `following` brings one once it takes over
    token      a bearer token with every scope, beside those in the data folder's table
    rulebook   the folder that SIGHUP reads again, or None
    traffic_rulebook   what judges the requests of /v1/traffic; the shipped one when not given
    """

    def __init__(
        self,
        engine: Engine | None,
        token: str | None = None,
        *,
        rulebook: Path | None = None,
        webhook: Webhook | None = None,
        following: Following | None = None,
        traffic_rulebook: Rulebook | None = None,
    ):
        self.metrics = Metrics()
        self.decider = Decider(engine, self.metrics)
        self.rulebooks = Rulebooks(self.decider, self.metrics, rulebook)
        self.traffic = Traffic(self.decider, partial(Watch, traffic_rulebook))
        self.metrics.more.append(self.traffic)
        self.tokens = Tokens(_tables(engine), token)
        self.direct = Direct(self.decider, self.tokens, self.metrics, self.refused)
        self.webhook, self.following = webhook, following
        self.outbox: Outbox | None = None
        self._tasks: list[asyncio.Task] = []
        self._posts = {
            "/v1/decide": self._decide,
            "/v1/labels": self._labels,
            "/v1/lists": self._lists,
            "/v1/admin/rulebook": self._change,
            "/v1/admin/erase": self._erase,
        }
        self._gets = {
            "/healthz": self._health,
            "/readyz": self._ready,
            "/metrics": self._metrics,
            "/openapi.json": self._openapi,
            "/v1/admin/rulebook": self._rulebook,
        }

    async def __call__(self, scope: dict, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._lifespan(receive, send)
        began, route = time.perf_counter(), scope["path"]
        headers: tuple[tuple[bytes, bytes], ...] = ()
        try:
            if route == "/v1/decide/batch" and scope["method"] == "POST":
                return await self._batch(scope, receive, send, began)
            if route == "/v1/traffic" and scope["method"] == "POST":
                out = _Answers(send)
                status = await respond(
                    self.traffic, scope, receive, self._grant, out, lambda e: (self._failed(e), self._trouble(e))
                )
                return self.metrics.answered(route, status, time.perf_counter() - began)
            route, handler = self._route(scope)
            status, body, kind = await handler(scope, receive)
        except Exception as error:  # noqa: BLE001 whoever asked gets an answer; a bug is logged with its place
            (status, body, headers), kind = self.refused(error), JSON
        await send(
            {"type": "http.response.start", "status": status,
             "headers": [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *headers]}
        )  # fmt: skip
        await send({"type": "http.response.body", "body": body})
        self.metrics.answered(route, status, time.perf_counter() - began)
        return None

    def refused(self, error: Exception) -> tuple[int, bytes, tuple[tuple[bytes, bytes], ...]]:
        """Status, body and headers of the answer to a request that cannot be met."""
        if isinstance(error, HttpError):
            return error.status, encode({"error": error.message} | error.more), error.headers
        if isinstance(error, BadEvent):
            return 422, encode({"error": str(error)}), ()
        if isinstance(error, StoreFull):
            return 503, encode({"error": str(error)}), ((b"retry-after", b"5"),)
        return self._failed(error), encode({"error": self._trouble(error)}), ()

    def _failed(self, error: Exception) -> int:
        if not isinstance(error, ShopwardError):
            logger.error("a request failed", exc_info=error)
        return 503 if self._failure() else 500

    def _failure(self) -> str | None:
        return self.decider.engine.failure if self.decider.has_engine else None

    def _trouble(self, error: Exception) -> str:
        """What the client is told: our own words, or that it was not its fault."""
        return self._failure() or (str(error) if isinstance(error, ShopwardError) else "internal error")

    def _route(self, scope: dict) -> tuple[str, Callable]:
        method, path = scope["method"], scope["path"]
        if path.startswith("/v1/decisions/"):
            if method != "GET":
                raise HttpError(405, "use GET", ((b"allow", b"GET"),))
            return "/v1/decisions", self._decision
        found = (self._posts if method == "POST" else self._gets if method == "GET" else {}).get(path)
        if found is None:
            allowed = [m for m, known in (("GET", self._gets), ("POST", self._posts)) if path in known]
            if path in ("/v1/decide/batch", "/v1/traffic"):
                allowed = ["POST"]
            if path.startswith("/v1/") and not allowed:
                self._grant(scope, "read")
            if allowed:
                scope["path"] = path
                raise HttpError(405, f"use {' or '.join(allowed)}", ((b"allow", ", ".join(allowed).encode()),))
            scope["path"] = "unknown"
            raise HttpError(404, "no such path")
        return path, found

    def _grant(self, scope: dict, what: str) -> Grant:
        given = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                given = value
        return self.tokens.check(given, what)

    # --- deciding

    async def _decide(self, scope: dict, receive: Receive) -> tuple[int, bytes, bytes]:
        grant = self._grant(scope, "decide")
        event = json_object(await whole_body(scope, receive, MAX_EVENT))
        if isinstance(event, str):
            raise HttpError(400, event)
        grant.take(1)
        future = self.decider.submit([event])
        budget = self.decider.engine.policy.time_budget_ms
        if budget is not None and not (await asyncio.wait((future,), timeout=budget / 1000))[0]:
            future.add_done_callback(_seen)
            return 200, encode(self._fallback(event, budget)), JSON
        answer = (await future)[0]
        if isinstance(answer, BadEvent):
            raise answer
        return 200, encode(unjudged(event) if answer is None else answer), JSON

    def _fallback(self, event: dict[str, Any], budget: int) -> Decision | dict[str, Any]:
        """What the policy declares for an event that takes too long; it is still decided on, for features and for a retry."""
        engine = self.decider.engine
        try:
            checked = engine._checked(event)
        except Exception:  # noqa: BLE001 the answer comes in time; what is wrong with the event is told to a retry
            checked = BadEvent("")
        if isinstance(checked, BadEvent):
            raise HttpError(503, f"not decided within {budget} ms, and the event cannot be used", retry_after=1)
        if checked["type"] in engine.schema.observed:
            return unjudged(event)
        self.metrics.fallbacks += 1
        told, ts = str(checked.get("event_id") or event.get("event_id") or uuid4().hex), parse_time(checked["ts"])
        why = Evidence(
            source="serve:fallback", what=f"no decision within {budget} ms: the policy's fallback", entity=f"event:{told}", feature="time_budget",
            threshold=f"> {budget} ms", event_ids=(told,), ts=ts,
        )  # fmt: skip
        return Decision(
            event_id=told, ts=ts, type=checked["type"], action=engine.policy.fallback, reasons=("fallback",), evidence=(why,),
            rulebook_version=engine.rulebook.version,
        )  # fmt: skip

    async def _batch(self, scope: dict, receive: Receive, send: Send, began: float) -> None:
        """Groups of lines go in as they arrive and their answers out in order; a few groups are under way at a time."""
        stream = _Answers(send)
        status = 200
        try:
            grant = self._grant(scope, "decide")
            under_way: deque[asyncio.Future] = deque()
            async for lines in lines_as_they_come(scope, receive):
                under_way.append(await self._send_in(lines, grant, patient=stream.begun or bool(under_way)))
                while len(under_way) >= AHEAD or (under_way and under_way[0].done()):
                    await stream.write(await under_way.popleft())
            while under_way:
                await stream.write(await under_way.popleft(), last=not under_way)
        except HttpError as error:
            status = error.status
            await stream.fail(status, {"error": error.message} | error.more, error.headers)
        except StoreFull as error:
            status = 503
            await stream.fail(status, {"error": str(error)}, ((b"retry-after", b"5"),))
        except Exception as error:  # noqa: BLE001 whoever asked gets an answer; a bug is logged with its place
            status = self._failed(error)
            await stream.fail(status, {"error": self._trouble(error)})
        else:
            await stream.end()
        self.metrics.answered("/v1/decide/batch", status, time.perf_counter() - began)

    async def _send_in(self, lines: Lines, grant: Grant, patient: bool) -> asyncio.Future:
        """Hand a group to the decider. A stream that has begun waits for its turn instead of being sent away."""
        while True:
            try:
                grant.take(lines.count)
                return self.decider.submit_lines(lines)
            except HttpError as error:
                if error.status != 429 or not patient:
                    raise
                await asyncio.sleep(0.05)

    async def _decision(self, scope: dict, receive: Receive) -> tuple[int, bytes, bytes]:
        self._grant(scope, "read")
        event_id = scope["path"].removeprefix("/v1/decisions/")
        try:
            event_id.encode()
        except UnicodeEncodeError:
            raise HttpError(404, "no decision for this event_id") from None
        found = await self.decider.call(self.decider.engine.find, event_id)
        if found is None:
            raise HttpError(404, "no decision for this event_id")
        return 200, encode(found), JSON

    # --- telling

    async def _labels(self, scope: dict, receive: Receive) -> tuple[int, bytes, bytes]:
        grant = self._grant(scope, "label")
        rows, at = [], []
        refused: list[dict[str, Any]] = []
        for i, line in numbered(await whole_body(scope, receive)):
            found = json_object(line)
            if isinstance(found, str):
                refused.append({"row": i, "error": found})
            else:
                rows.append(found)
                at.append(i)
        grant.take(len(rows))
        answer = await self.decider.call(self.decider.engine.label, rows)
        refused += [{"row": at[wrong["row"] - 1], "error": wrong["error"]} for wrong in answer["refused"]]
        answer["refused"] = sorted(refused, key=lambda wrong: wrong["row"])
        if refused and not any(answer[done] for done in ("taken", "repeated", "unknown")):
            raise HttpError(422, f"row {answer['refused'][0]['row']}: {answer['refused'][0]['error']}", more=answer)
        return 200, encode(answer), JSON

    async def _lists(self, scope: dict, receive: Receive) -> tuple[int, bytes, bytes]:
        grant = self._grant(scope, "lists")
        entries, now = [], self.decider.engine.clock.now()
        for i, line in numbered(await whole_body(scope, receive)):
            found = json_object(line)
            if isinstance(found, str):
                raise HttpError(400, f"line {i}: {found}")
            try:
                entries.append(read_entry(found, now))
            except BadEvent as error:
                raise HttpError(422, f"line {i}: {error}") from None
        try:
            taken = await self.decider.call(self._write_lists, entries, grant.name)
        except BadEvent as error:
            raise HttpError(422, str(error)) from None
        return 200, encode({"taken": taken}), JSON

    def _write_lists(self, entries: list, who: str) -> int:
        engine = self.decider.engine
        taken = engine.write_lists(entries)
        if engine.journal is not None and taken:
            removed = sum(entry.remove for entry in entries)
            engine.journal.vault.tables.record(
                f"token:{who}", "lists written", ", ".join(sorted({e.list for e in entries})), {"added": taken - removed, "removed": removed}
            )  # fmt: skip
        return taken

    # --- the rulebook

    async def _rulebook(self, scope: dict, receive: Receive) -> tuple[int, bytes, bytes]:
        self._grant(scope, "admin")
        return 200, encode(self.rulebooks.state()), JSON

    async def _change(self, scope: dict, receive: Receive) -> tuple[int, bytes, bytes]:
        grant = self._grant(scope, "admin")
        asked = json_object(await whole_body(scope, receive))
        if isinstance(asked, str):
            raise HttpError(400, asked)
        done = await self.rulebooks.change(asked, f"token:{grant.name}")
        return (200 if done["warming"] is None else 202), encode(done), JSON

    async def _erase(self, scope: dict, receive: Receive) -> tuple[int, bytes, bytes]:
        grant = self._grant(scope, "admin")
        asked = json_object(await whole_body(scope, receive))
        if isinstance(asked, str) or not isinstance(asked.get("entity"), str):
            raise HttpError(422, "expected {entity: KIND:ID}")
        journal = self.decider.engine.journal
        if journal is None:
            raise HttpError(409, "only a server with a data folder has something to forget")
        try:
            events, values = await asyncio.to_thread(seen_with, journal.data, journal.vault, asked["entity"])
        except ShopwardError as error:
            raise HttpError(422, str(error)) from None
        erased = await self.decider.call(forget, journal.vault, asked["entity"], values, f"token:{grant.name}")
        return 200, encode({"events": events, "values": erased}), JSON

    # --- watching

    async def _health(self, scope: dict, receive: Receive) -> tuple[int, bytes, bytes]:
        if self._failure():
            raise HttpError(503, self._failure() or "")
        if not self.decider.has_engine:
            return 200, encode({"status": "following"}), JSON
        engine = self.decider.engine
        return 200, encode({"status": "ok", "rulebook_version": engine.rulebook.version, "events": engine.seq}), JSON

    async def _ready(self, scope: dict, receive: Receive) -> tuple[int, bytes, bytes]:
        if self.decider.closing:
            raise HttpError(503, "closing")
        engine = self.decider.engine
        if engine.failure:
            raise HttpError(503, engine.failure)
        if engine.journal is not None and engine.journal.log.full:
            raise HttpError(503, "the disk is full", retry_after=5)
        return (
            200,
            encode({"status": "ready", "kernels": "compiled" if engine.windows.compiled else "interpreted"}),
            JSON,
        )

    async def _metrics(self, scope: dict, receive: Receive) -> tuple[int, bytes, bytes]:
        return 200, self.metrics.text(self.decider), TEXT

    async def _openapi(self, scope: dict, receive: Receive) -> tuple[int, bytes, bytes]:
        return 200, encode(document(self.decider.engine.rulebook if self.decider.has_engine else None)), JSON

    # --- from start to end

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                return await send({"type": "lifespan.shutdown.complete"})

    def start(self) -> None:
        self.decider.start()
        self._tasks.append(asyncio.create_task(self._keep_tokens()))
        if self.following is not None:
            self._tasks.append(asyncio.create_task(self.following.run(self._took_over)))
        else:
            self._begin_outbox()
        with suppress(NotImplementedError, RuntimeError, ValueError):  # not in a thread, not on Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.rulebooks.read_again)

    async def stop(self) -> None:
        self.decider.closing = True
        for task in self._tasks:
            task.cancel()
        if self.following is not None:
            await self.following.stop()
        await self.rulebooks.stop()
        await self.traffic.stop()
        if self.outbox is not None:
            await asyncio.to_thread(self.outbox.stop)
        await self.decider.stop()

    def _took_over(self, engine: Engine) -> None:
        self.decider.adopt(engine)
        self.tokens.tables = _tables(engine)
        self.tokens.refresh()
        self._begin_outbox()
        logger.warning("the first server is gone: this one decides from event %d on", engine.seq)

    def _begin_outbox(self) -> None:
        if self.webhook is not None and self.decider.has_engine and self.decider.engine.journal is not None:
            from shopward.serve.outbox import Outbox

            self.outbox = Outbox(self.decider.engine.journal, self.webhook)
            self.metrics.more.append(self.outbox)
            self.outbox.start()

    async def _keep_tokens(self) -> None:
        while True:
            await asyncio.sleep(AGAIN_S)
            try:
                await asyncio.to_thread(self.tokens.refresh)
            except Exception as error:  # noqa: BLE001 the tokens known so far go on
                logger.error("the tokens could not be read again", exc_info=error)


class _Answers:
    """The answer to a stream, line by line."""

    def __init__(self, send: Send):
        self.begun = self.ended = False
        self._send = send

    async def write(self, lines: bytes, last: bool = False) -> None:
        """`last`: these are all; when nothing was sent before, the answer is one piece of known length."""
        if not lines:
            return None
        if last and not self.begun:
            self.ended = True
            return await self._whole(lines)
        await self._begin(200, NDJSON)
        try:
            async with asyncio.timeout(STALLED_S):
                await self._send({"type": "http.response.body", "body": lines, "more_body": True})
        except TimeoutError:
            raise HttpError(408, "the answers were not taken") from None

    async def _whole(self, lines: bytes) -> None:
        await self._begin(200, NDJSON, ((b"content-length", b"%d" % len(lines)),))
        await self._send({"type": "http.response.body", "body": lines})

    async def fail(self, status: int, error: dict[str, Any], headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        """Before the first line a status says what is wrong, afterwards a last line does."""
        if self.begun:
            with suppress(TimeoutError):
                async with asyncio.timeout(STALLED_S):
                    await self._send({"type": "http.response.body", "body": encode(error) + b"\n"})
            return
        await self._begin(status, JSON, headers)
        await self._send({"type": "http.response.body", "body": encode(error)})

    async def end(self) -> None:
        if self.ended:
            return
        await self._begin(200, NDJSON)
        await self._send({"type": "http.response.body", "body": b""})

    async def _begin(self, status: int, kind: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        if not self.begun:
            self.begun = True
            await self._send(
                {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *headers]}
            )


def _tables(engine: Engine | None):
    return engine.journal.vault.tables if engine is not None and engine.journal is not None else None


def _seen(future: asyncio.Future) -> None:
    """Nobody waits for this answer any more; an error in it was logged where it happened."""
    if not future.cancelled():
        future.exception()
