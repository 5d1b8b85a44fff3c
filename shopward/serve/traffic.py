"""POST /v1/traffic: requests in as they are logged, verdicts out, which the deciding engine has heard of by then.

    NDJSON requests or lines of an access log -> watch (a thread of its own) -> list entries, events -> on disk -> a line a verdict

Groups of lines are looked at while the stream goes on; memory is bounded by the groups that wait. The last line sums up. What is
refused is told with its line; the others count.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from shopward.errors import BadEvent, MissingExtra, ShopwardError, StoreFull
from shopward.serve.auth import Grant
from shopward.serve.decider import Decider
from shopward.serve.http import HttpError, Receive, encode, lines_as_they_come
from shopward.store.findings import Findings
from shopward.store.tables import now_ms
from shopward.traffic.live import Taken, Watch, entries_for, events_for

MAX_WAITING = 16_000  # lines that wait for the watch before new ones are told to come back
AGAIN_S = 0.05
FINDINGS_S = 5.0  # findings are in the lake so long after their verdict at the latest
logger = logging.getLogger("shopward.serve")


class Answers(Protocol):
    """The answer to a stream, line by line."""

    begun: bool

    async def write(self, lines: bytes) -> None: ...
    async def fail(self, status: int, error: dict[str, Any], headers: tuple[tuple[bytes, bytes], ...] = ()) -> None: ...
    async def end(self) -> None: ...


class Traffic:
    """The route and the one watch behind it, which is made when the first request comes.

    make   makes the watch
    """

    def __init__(self, decider: Decider, make: Callable[[], Watch] = Watch):
        self.decider, self.make = decider, make
        self.watch: Watch | None = None
        self.waiting = self.requests = self.attacks = self.refused = self.found = 0
        self.verdicts: Counter[str] = Counter()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="traffic")
        self._findings: Findings | None = None
        self._flushing: asyncio.Task | None = None

    async def answer(self, scope: dict, receive: Receive, grant: Grant, out: Answers) -> None:
        """Take a stream of lines. Raises HttpError before the first line is answered."""
        sums: Counter[str] = Counter()
        async for block in lines_as_they_come(scope, receive):
            lines = block.numbered()
            await self._turn(len(lines), grant, patient=out.begun or bool(sums))
            try:
                taken = await self._look(lines)
            finally:
                self.waiting -= len(lines)
            told = await self._settle(taken, patient=out.begun or bool(sums))
            self._count(taken, sums)
            await out.write(b"".join(encode(line) + b"\n" for line in told))
        keys = ("requests", "repeated", "attacks", "verdicts", "entries", "refused")
        await out.write(encode({"done": True} | {key: sums[key] for key in keys}) + b"\n")
        await out.end()

    async def _turn(self, n: int, grant: Grant, patient: bool) -> None:
        """Wait for a turn, or be sent away when the stream has not begun."""
        while True:
            try:
                _ = self.decider.engine
                if self.waiting + n > MAX_WAITING:
                    raise HttpError(429, "too much traffic is waiting; try again", retry_after=1)
                grant.take(n)
                self.waiting += n
                return
            except HttpError as error:
                if error.status != 429 or not patient:
                    raise
                await asyncio.sleep(AGAIN_S)

    async def _look(self, lines: list[tuple[int, bytes | str]]) -> Taken:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._take, lines)

    def _take(self, lines: list[tuple[int, bytes | str]]) -> Taken:
        if self.watch is None:
            try:
                self.watch = self.make()
            except MissingExtra as error:
                raise HttpError(503, str(error)) from None
        return self.watch.take(lines)

    async def _settle(self, taken: Taken, patient: bool) -> list[dict[str, Any]]:
        """Put what was found on disk, and say it line by line."""
        rulebook, now = self.decider.engine.rulebook, now_ms()
        events, entries = events_for(rulebook, taken, now), entries_for(rulebook, taken)
        try:
            if entries:
                await self.decider.call(self.decider.engine.write_lists, entries)
            answers = await self._decided(events, patient) if events else []
        except BaseException:
            if self.watch is not None:
                await asyncio.get_running_loop().run_in_executor(self._thread, self.watch.forget, taken)
            raise
        taken.entries = entries
        self._keep(taken)
        wrong = [(e, a) for e, a in zip(events, answers, strict=True) if isinstance(a, BadEvent)]
        lines: list[dict[str, Any]] = [{"line": number, "error": reason} for number, reason in taken.refused]
        lines += [{"event_id": event["event_id"], "error": str(answer)} for event, answer in wrong]
        return lines + taken.events

    async def _decided(self, events: list[dict[str, Any]], patient: bool) -> list[Any]:
        while True:
            try:
                return await self.decider.submit(events)
            except HttpError as error:
                if error.status != 429 or not patient:
                    raise
                await asyncio.sleep(AGAIN_S)

    def _count(self, taken: Taken, sums: Counter[str]) -> None:
        sums.update(
            requests=len(taken.seen), repeated=taken.repeated, attacks=taken.attacks, verdicts=len(taken.events), entries=len(taken.entries),
            refused=len(taken.refused),
        )  # fmt: skip
        self.requests += len(taken.seen)
        self.attacks += taken.attacks
        self.refused += len(taken.refused)
        self.verdicts.update(event["verdict"] for event in taken.events)

    # --- findings

    def _keep(self, taken: Taken) -> None:
        journal = self.decider.engine.journal
        if not taken.findings or journal is None:
            return
        if self._findings is None:
            self._findings = Findings(Path(journal.data))
        for finding in taken.findings:
            self._findings.add(finding)
        self.found += len(taken.findings)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush_soon())

    async def _flush_soon(self) -> None:
        await asyncio.sleep(FINDINGS_S)
        await self._flush()

    async def _flush(self) -> None:
        if self._findings is None:
            return
        held, self._findings = self._findings, None
        try:
            await asyncio.to_thread(held.flush)
        except (StoreFull, OSError) as error:
            logger.error("findings of the traffic are not in the lake yet: %s", error)
            self._findings = self._findings or held

    async def stop(self) -> None:
        """Write what is held and let the watch go."""
        if self._flushing is not None:
            self._flushing.cancel()
        await self._flush()
        if self.watch is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self.watch.close)
        self._thread.shutdown()

    def metrics(self) -> Iterator[tuple[str, str, str, float]]:
        yield "shopward_traffic_requests_total", "counter", "Requests that were looked at.", self.requests
        yield "shopward_traffic_attacks_total", "counter", "Requests that carried an attack.", self.attacks
        yield "shopward_traffic_verdicts_total", "counter", "Verdicts told to the engine.", sum(self.verdicts.values())
        yield "shopward_traffic_refused_total", "counter", "Lines that are no request.", self.refused
        yield "shopward_traffic_waiting", "gauge", "Lines waiting to be looked at.", self.waiting


async def respond(
    traffic: Traffic, scope: dict, receive: Receive, grant: Callable[[dict, str], Grant], out: Answers, failed: Callable[[Exception], tuple[int, str]]
) -> int:  # fmt: skip
    """Answer one request, whatever happens; returns the status. `failed` says what an unforeseen error is to the client."""
    try:
        await traffic.answer(scope, receive, grant(scope, "traffic"), out)
    except HttpError as error:
        await out.fail(error.status, {"error": error.message} | error.more, error.headers)
        return error.status
    except StoreFull as error:
        await out.fail(503, {"error": str(error)}, ((b"retry-after", b"5"),))
        return 503
    except ShopwardError as error:
        await out.fail(500, {"error": str(error)})
        return 500
    except Exception as error:  # noqa: BLE001 whoever asked gets an answer; a bug is logged with its place
        status, words = failed(error)
        await out.fail(status, {"error": words})
        return status
    return 200
