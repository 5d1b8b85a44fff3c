"""One engine, many requests: everything that waits when the engine is free goes in together and shares one flush to disk."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from shopward.serve.http import HttpError
from shopward.serve.metrics import Metrics

if TYPE_CHECKING:
    from shopward.decide import Engine

MAX_WAITING = 20_000  # events queued before new ones are told to come back
BATCH = 1_024  # events of one micro-batch; more would make single events wait behind streams


class Decider:
    """Feeds one engine from many requests, on one thread of its own.

    engine   None as long as another process decides (a follower)
    closing  no new events are taken
    """

    def __init__(self, engine: Engine | None, metrics: Metrics | None = None):
        self._engine, self.metrics = engine, metrics or Metrics()
        self.closing = False
        self.queued = 0
        self._waiting: deque[tuple[list[dict], asyncio.Future]] = deque()
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
        if self._engine is None or self.closing:
            raise HttpError(503, "this server does not decide just now", retry_after=1)
        if self.queued + len(events) > MAX_WAITING:
            self.metrics.turned_away += 1
            raise HttpError(429, "too many events are waiting; try again", retry_after=1)
        answer = asyncio.get_running_loop().create_future()
        self.queued += len(events)
        self._waiting.append((events, answer))
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
                n += len(taken[-1][0])
            if not self._waiting:
                self._some.clear()
            try:
                await self._judge(taken)
            finally:
                self.queued -= n

    async def _judge(self, taken: list[tuple[list[dict], asyncio.Future]]) -> None:
        events = [event for part, _ in taken for event in part]
        try:
            answers = await self.call(self.engine.decide_events, events)
        except Exception as error:  # noqa: BLE001 whatever it was, those who wait hear of it, and the next batch is judged
            for _, answer in taken:
                if not answer.done():
                    answer.set_exception(error)
            return
        self.metrics.judged(answers)
        at = 0
        for part, answer in taken:
            if not answer.done():
                answer.set_result(answers[at : at + len(part)])
            at += len(part)
