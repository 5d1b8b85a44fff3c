"""One engine, many requests: everything that waits when the engine is free goes in together and shares one flush to disk.

    waiting -> judged (here, or on a thread when it is much) -> flushed on another thread -> told

While one group is on its way to disk the next one is judged; nobody is told anything before what was said is on disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from shopward.errors import BadEvent, ShopwardError
from shopward.ingest.arrivals import parsed
from shopward.serve.http import HttpError, Lines, encode
from shopward.serve.metrics import Metrics

if TYPE_CHECKING:
    from shopward.answers import Answers
    from shopward.decide import Engine
    from shopward.features.live import Windows

MAX_WAITING = 20_000  # events queued before new ones are told to come back
BATCH = 1_024  # events of one micro-batch; more would make single events wait behind streams
HERE = 200  # events judged on the event loop itself: handing them to a thread and back costs more than it frees
HERE_BYTES = 256 << 10  # and so many bytes of them
WORTH = 256  # events for which the next group does not wait until the one before is on disk: smaller ones are cheaper together
COLUMNS = 16  # single events from which on they are read as columns
TOGETHER = 16  # answers after which the same clients are given a moment to come again, so that they are judged together
MOMENT_S = 0.002
logger = logging.getLogger("shopward.serve")


@dataclass(slots=True)
class Waiting:
    """What one request brought, and who is told the answers: a Decision or BadEvent for each of `events`, the answers to `lines` as
    lines, the text of the answer (or a BadEvent) to the one event of `raw`; or the exception that came between.
    """

    n: int
    tell: Callable[[Any], None]
    events: list[dict] | None = None
    lines: Lines | None = None
    raw: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes, as far as they are known."""
        return len(self.raw or b"") + (len(self.lines.raw) if self.lines else 0)


class Decider:
    """Feeds one engine from many requests. Only one thread uses the engine at a time: the event loop's, or one of its own.

    engine   None as long as another process decides (a follower)
    closing  no new events are taken
    """

    def __init__(self, engine: Engine | None, metrics: Metrics | None = None):
        self._engine, self.metrics = engine, metrics or Metrics()
        self.closing = False
        self.queued = 0
        self._waiting: deque[Waiting] = deque()
        self._judged: list[tuple[Waiting, Any]] = []  # not on disk yet
        self._planned = self._flushing = False
        self._expected = 0  # events that are worth a moment's waiting
        self._done: WeakKeyDictionary[Windows, set[Callable]] = WeakKeyDictionary()  # how they were used is compiled
        self._loop: asyncio.AbstractEventLoop | None = None
        self._busy = 0  # what the thread has to do for the engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decide")
        self._flush = ThreadPoolExecutor(1, thread_name_prefix="flush")

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
        """From now on events are taken on this event loop."""
        self._loop = asyncio.get_running_loop()

    async def stop(self) -> None:
        """Answer what is waiting, then close the engine."""
        self.closing = True
        while self.queued:
            await asyncio.sleep(0.01)
        try:
            if self._engine is not None:
                await self.call(self._engine.close)
        finally:
            self._thread.shutdown()
            self._flush.shutdown()

    def submit(self, events: list[dict]) -> asyncio.Future:
        """A future of a Decision or a BadEvent for each event, in order."""
        return self._promise(len(events), events=events)

    def submit_lines(self, lines: Lines) -> asyncio.Future:
        """A future of the answers to the lines of a stream, as lines."""
        return self._promise(lines.count, lines=lines)

    def submit_one(self, event: dict, raw: bytes, tell: Callable[[Any], None]) -> None:
        """Decide on the event of a request; `tell` gets the text of the answer, or what went wrong. `raw` is its JSON."""
        self._queue(Waiting(1, tell, events=[event], raw=raw))

    def _promise(self, n: int, **what: Any) -> asyncio.Future:
        answer = asyncio.get_running_loop().create_future()

        def tell(found: Any) -> None:
            if answer.done():
                return
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        self._queue(Waiting(n, tell, **what))
        return answer

    def _queue(self, one: Waiting) -> None:
        if self._engine is None or self.closing:
            raise HttpError(503, "this server does not decide just now", retry_after=1)
        if self.queued + one.n > MAX_WAITING:
            self.metrics.turned_away += 1
            raise HttpError(429, "too many events are waiting; try again", retry_after=1)
        self.queued += one.n
        self._waiting.append(one)
        if not self._planned and self.queued >= self._expected:  # once all requests that have arrived are read
            self._planned = True
            self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._pump)

    async def decide(self, events: list[dict]) -> list:
        """A Decision or a BadEvent for each event, in order."""
        return await self.submit(events)

    async def call(self, function: Callable, *args) -> Any:
        """Run something else on the deciding thread, after what came before it and between two micro-batches."""
        self._loop = asyncio.get_running_loop()
        while self._waiting:
            self._judge_on_thread(self._take()[0])
        return await asyncio.wrap_future(self._on_thread(function, *args))

    # --- whose turn it is

    def _on_thread(self, function: Callable, *args: Any, then: Callable[[Future], None] | None = None) -> Future:
        self._busy += 1
        job = self._thread.submit(function, *args)
        if then is not None:
            job.add_done_callback(then)
        job.add_done_callback(lambda _: self._soon(self._freed))
        return job

    def _soon(self, what: Callable, *args: Any) -> None:
        """Run something on the event loop, from whatever thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what, *args)

    def _freed(self) -> None:
        self._busy -= 1
        self._pump()

    def _pump(self) -> None:
        self._planned, self._expected = False, 0
        while self._waiting and not self._busy and not (self._flushing and self._too_early()):
            taken, n, size = self._take()
            if n <= HERE and size <= HERE_BYTES and self._can_be_judged_here(taken):
                self._judge_here(taken)
            else:
                self._judge_on_thread(taken)

    def _take(self) -> tuple[list[Waiting], int, int]:
        """What is judged together next; how many events and bytes that is."""
        taken, n, size = [], 0, 0
        while self._waiting and n < BATCH:
            taken.append(self._waiting.popleft())
            n += taken[-1].n
            size += taken[-1].size
        return taken, n, size

    def _too_early(self) -> bool:
        """Would the next group only wait for the disk behind the one that is being written?"""
        return bool(self._judged) or sum(one.n for one in islice(self._waiting, WORTH)) < WORTH

    def _can_be_judged_here(self, taken: list[Waiting]) -> bool:
        """Is it short work? And is every event named, so that it can be judged again should the engine fail half-way?"""
        engine = self.engine
        if engine.journal is None or not engine.journal.at_once or not engine.windows.compiled:
            return False
        named = all(event.get("event_id") is not None for one in taken for event in one.events or ())
        return named and not engine.row_features.one_by_one

    def _judge_here(self, taken: list[Waiting]) -> None:
        again: list[Waiting] = []
        for judge, part in self._parts(taken):
            if judge not in self._done.get(self.engine.windows, ()):
                again += part
                continue
            try:
                self._write(judge(part, False))
            except ShopwardError as error:
                self._write([(one, error) for one in part])
            except Exception as error:  # noqa: BLE001 memory is built again and they are judged one by one, which takes its time
                logger.warning("a batch failed half-way; memory is built again", exc_info=error)
                again += part
        if again:
            self._judge_on_thread(again)

    def _judge_on_thread(self, taken: list[Waiting]) -> None:
        def done(job: Future) -> None:
            error = job.exception()
            self._soon(self._write, [(one, error) for one in taken] if error is not None else job.result())

        self._on_thread(self._judge_each, taken, then=done)

    # --- to disk, and back to those who wait

    def _write(self, found: list[tuple[Waiting, Any]]) -> None:
        """Bring to disk what was judged, and tell it then."""
        self._judged += found
        if not self._flushing:
            self._begin_flush()

    def _begin_flush(self) -> None:
        found, self._judged = self._judged, []
        journal = self.engine.journal
        if journal is None:
            self._tell(found)
            return
        self._flushing = True

        def done(job: Future) -> None:
            error = job.exception()
            self._soon(self._flushed, found if error is None else [(one, error) for one, _ in found])

        self._flush.submit(journal.log.sync).add_done_callback(done)

    def _flushed(self, found: list[tuple[Waiting, Any]]) -> None:
        self._flushing = False
        if self._judged:
            self._begin_flush()
        self._tell(found)
        journal = self.engine.journal
        if journal is not None and journal.snapshot_is_due and not self._busy:
            self._on_thread(journal.snapshot_when_due, self.engine, then=_complain)
        self._wait_a_moment(sum(one.n for one, _ in found))

    def _wait_a_moment(self, told: int) -> None:
        """Many were answered at once: they are likely to come again at once, and one group costs less than two."""
        assert self._loop is not None
        if told < TOGETHER or self.closing or self._flushing or 2 * self.queued >= told:
            self._pump()
        else:
            self._expected, self._planned = told // 2, False
            self._loop.call_later(MOMENT_S, self._pump)

    def _tell(self, found: list[tuple[Waiting, Any]]) -> None:
        for one, answer in found:
            self.queued -= one.n
            try:
                one.tell(answer)
            except Exception as error:  # noqa: BLE001 one client's connection is not another's
                logger.error("an answer could not be handed over", exc_info=error)

    # --- judging

    def _judge_each(self, taken: list[Waiting]) -> list[tuple[Waiting, Any]]:
        """What goes wrong with one kind of request is not told to the others."""
        found: list[tuple[Waiting, Any]] = []
        for judge, part in self._parts(taken):
            try:
                found += judge(part, True)
                self._done.setdefault(self.engine.windows, set()).add(judge)
            except Exception as error:  # noqa: BLE001 whatever it was, those who wait hear of it, and the next batch is judged
                found += [(one, error) for one in part]
        return found

    def _parts(self, taken: list[Waiting]) -> list[tuple[Callable, list[Waiting]]]:
        """What was taken, by how it is judged."""
        raw = [one for one in taken if one.raw is not None and _as_line(one)]
        if len(raw) < COLUMNS or self.engine.journal is None:
            raw = []
        inside = set(map(id, raw))
        events = [one for one in taken if one.lines is None and id(one) not in inside]
        streams = [one for one in taken if one.lines is not None]
        parts = ((self._judge_events, events), (self._judge_raw, raw), (self._judge_lines, streams))
        return [(judge, part) for judge, part in parts if part]

    def _judge_events(self, part: list[Waiting], mend: bool) -> list[tuple[Waiting, Any]]:
        events = [event for one in part for event in one.events or ()]
        engine = self.engine
        judged = engine.journal.judge(engine, events, mend) if engine.journal else engine.decide_events(events)
        self.metrics.judged(judged)
        found: list[tuple[Waiting, Any]] = []
        at = 0
        for one in part:
            mine, at = judged[at : at + one.n], at + one.n
            found.append((one, mine if one.raw is None else _text(events[at - 1], mine[0])))
        return found

    def _judge_raw(self, part: list[Waiting], mend: bool) -> list[tuple[Waiting, Any]]:
        """The events of many requests as one block of lines."""
        engine = self.engine
        assert engine.journal is not None
        answers = engine.journal.judge_lines(engine, b"\n".join([one.raw or b"" for one in part]) + b"\n", mend)
        self.metrics.judged_lines(answers)
        text, offsets = answers.written()
        at = offsets.tolist()
        found: list[tuple[Waiting, Any]] = [(one, text[at[i] : at[i + 1] - 1]) for i, one in enumerate(part)]
        for row, wrong in answers.wrong.items():
            found[row] = part[row], wrong
        for row in answers.seen:
            found[row] = part[row], encode(unjudged((part[row].events or [{}])[0]))
        return found

    def _judge_lines(self, part: list[Waiting], mend: bool) -> list[tuple[Waiting, Any]]:
        groups = [one.lines for one in part if one.lines is not None]
        journal = self.engine.journal
        if journal is None:
            return [(one, self._each_line(lines)) for one, lines in zip(part, groups, strict=True)]
        blocks = [lines.raw if lines.raw.endswith(b"\n") or not lines.raw else lines.raw + b"\n" for lines in groups]
        answers = journal.judge_lines(self.engine, b"".join(blocks), mend)
        self.metrics.judged_lines(answers)
        out, at, breaks = [], 0, 0
        for lines, block in zip(groups, blocks, strict=True):
            out.append(told(answers, lines, at, at + len(block), lines.number - breaks))
            at += len(block)
            breaks += block.count(b"\n")
        return [*zip(part, out, strict=True)]

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


def _as_line(one: Waiting) -> bool:
    """Can the event be one line of a block? One without a name is named when it is decided on, so it is not."""
    event = (one.events or [{}])[0]
    return event.get("event_id").__class__ is str and b"\n" not in (one.raw or b"\n")


def _complain(job: Future) -> None:
    error = job.exception()
    if error is not None:
        logger.error("the snapshot could not be written", exc_info=error)


def _text(event: dict[str, Any], answer: Any) -> Any:
    return answer if isinstance(answer, BadEvent) else encode(unjudged(event) if answer is None else answer)


def refusal(number: int, why: str) -> bytes:
    return encode({"line": number, "error": why}) + b"\n"


def unjudged(event: dict[str, Any]) -> dict[str, Any]:
    """The answer to an event that is only observed: it counts, and there is nothing to do."""
    return {"event_id": event.get("event_id"), "type": event.get("type"), "decision": None}
