"""One engine, many requests: everything that waits when the engine is free goes in together and shares one flush to disk."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from shopward.errors import BadEvent
from shopward.ingest.arrivals import parsed
from shopward.serve.http import HttpError, Lines, encode
from shopward.serve.metrics import Metrics

if TYPE_CHECKING:
    from shopward.answers import Answers
    from shopward.decide import Engine

MAX_WAITING = 20_000  # events queued before new ones are told to come back
BATCH = 1_024  # events of one micro-batch; more would make single events wait behind streams


@dataclass(slots=True)
class Waiting:
    """What one request brought: some events, or lines of a stream; and who waits for the answers."""

    n: int
    answer: asyncio.Future
    events: list[dict] | None = None
    lines: Lines | None = None


class Decider:
    """Feeds one engine from many requests, on one thread of its own.

    engine   None as long as another process decides (a follower)
    closing  no new events are taken
    """

    def __init__(self, engine: Engine | None, metrics: Metrics | None = None):
        self._engine, self.metrics = engine, metrics or Metrics()
        self.closing = False
        self.queued = 0
        self._waiting: deque[Waiting] = deque()
        self._some = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decide")
        self._task: asyncio.Task | None = None

    @property
    def engine(self) -> Engine:
        """Raises HttpError 503 while another process decides."""
        if self._engine is None:
            raise HttpError(503, "this server follows another one and does not decide yet", retry_after=1)
        return self._engine

    @property
    def has_engine(self) -> bool:
        return self._engine is not None

    def adopt(self, engine: Engine) -> None:
        """Decide from now on (a follower that took over)."""
        self._engine = engine

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Answer what is waiting, then close the engine."""
        self.closing = True
        while self.queued:
            await asyncio.sleep(0.01)
        if self._task:
            self._task.cancel()
        try:
            if self._engine is not None:
                await self.call(self._engine.close)
        finally:
            self._thread.shutdown()

    def submit(self, events: list[dict]) -> asyncio.Future:
        """A future of a Decision or a BadEvent for each event, in order."""
        return self._queue(len(events), events=events)

    def submit_lines(self, lines: Lines) -> asyncio.Future:
        """A future of the answers to the lines of a stream, as lines."""
        return self._queue(lines.count, lines=lines)

    def _queue(self, n: int, **what: Any) -> asyncio.Future:
        if self._engine is None or self.closing:
            raise HttpError(503, "this server does not decide just now", retry_after=1)
        if self.queued + n > MAX_WAITING:
            self.metrics.turned_away += 1
            raise HttpError(429, "too many events are waiting; try again", retry_after=1)
        answer = asyncio.get_running_loop().create_future()
        self.queued += n
        self._waiting.append(Waiting(n, answer, **what))
        self._some.set()
        return answer

    async def decide(self, events: list[dict]) -> list:
        """A Decision or a BadEvent for each event, in order."""
        return await self.submit(events)

    async def call(self, function: Callable, *args) -> Any:
        """Run something else on the deciding thread, between two micro-batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            taken, n = [], 0
            while self._waiting and n < BATCH:
                taken.append(self._waiting.popleft())
                n += taken[-1].n
            if not self._waiting:
                self._some.clear()
            try:
                await self._judge(taken)
            finally:
                self.queued -= n

    async def _judge(self, taken: list[Waiting]) -> None:
        for _, group in groupby(taken, key=lambda one: one.lines is None):
            part = [*group]
            decide = self._decide_events if part[0].lines is None else self._decide_lines
            try:
                answers = await self.call(decide, part)
            except Exception as error:  # noqa: BLE001 whatever it was, those who wait hear of it, and the next batch is judged
                answers = [error] * len(part)
            for one, answer in zip(part, answers, strict=True):
                if one.answer.done():
                    continue
                if isinstance(answer, Exception):
                    one.answer.set_exception(answer)
                else:
                    one.answer.set_result(answer)

    def _decide_events(self, part: list[Waiting]) -> list[Any]:
        events = [event for one in part for event in one.events or ()]
        found = self.engine.decide_events(events)
        self.metrics.judged(found)
        answers, at = [], 0
        for one in part:
            answers.append(found[at : at + one.n])
            at += one.n
        return answers

    def _decide_lines(self, part: list[Waiting]) -> list[bytes]:
        groups = [one.lines for one in part if one.lines is not None]
        journal = self.engine.journal
        if journal is None:
            return [self._each_line(lines) for lines in groups]
        blocks = [lines.raw if lines.raw.endswith(b"\n") or not lines.raw else lines.raw + b"\n" for lines in groups]
        answers = journal.decide_lines(self.engine, b"".join(blocks))
        self.metrics.judged_lines(answers)
        out, at, breaks = [], 0, 0
        for lines, block in zip(groups, blocks, strict=True):
            out.append(told(answers, lines, at, at + len(block), lines.number - breaks))
            at += len(block)
            breaks += block.count(b"\n")
        return out

    def _each_line(self, lines: Lines) -> bytes:
        """The same for an engine in memory."""
        rows: list[tuple[int, Any]] = []
        for i, line in lines.numbered():
            try:
                rows.append((i, line if isinstance(line, str) else parsed(line)))
            except BadEvent as wrong:
                rows.append((i, str(wrong)))
        events = [row for _, row in rows if isinstance(row, dict)]
        found = self.engine.decide_events(events)
        self.metrics.judged(found)
        answers = iter(zip(events, found, strict=True))
        text = []
        for i, row in rows:
            event, answer = next(answers) if isinstance(row, dict) else ({}, BadEvent(row))
            if isinstance(answer, BadEvent):
                text.append(refusal(i, str(answer)))
            else:
                text.append(encode(unjudged(event) if answer is None else answer) + b"\n")
        return b"".join(text)


def told(answers: Answers, lines: Lines, start: int, stop: int, first: int) -> bytes:
    """The answers to the records from byte `start` to `stop` of a block; line 0 of the block has the number `first`."""
    text, offsets = answers.written()
    low, high = (int(row) for row in np.searchsorted(answers.at, (start, stop)))
    if not lines.wrong and not answers.wrong:
        return text[offsets[low] : offsets[high]]
    parts = [(number, refusal(number, why)) for number, why in lines.wrong.items()]
    for row in range(low, high):
        number, wrong = first + int(answers.line[row]), answers.wrong.get(row)
        if wrong is None:
            parts.append((number, text[offsets[row] : offsets[row + 1]]))
        else:
            parts.append((number, refusal(number, str(wrong))))
    return b"".join(part for _, part in sorted(parts, key=lambda part: part[0]))


def refusal(number: int, why: str) -> bytes:
    return encode({"line": number, "error": why}) + b"\n"


def unjudged(event: dict[str, Any]) -> dict[str, Any]:
    """The answer to an event that is only observed: it counts, and there is nothing to do."""
    return {"event_id": event.get("event_id"), "type": event.get("type"), "decision": None}
