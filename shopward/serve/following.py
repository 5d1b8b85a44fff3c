"""A standby server: its memory follows the log of the first one, and it decides as soon as the first one is gone."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shopward.change import Follower
    from shopward.decide import Engine

LOOK_S = 0.05
logger = logging.getLogger("shopward.serve")


class Following:
    """Runs a follower on a thread until it takes over or is stopped."""

    def __init__(self, follower: Follower):
        self.follower = follower
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    async def run(self, took_over: Callable[[Engine], None]) -> None:
        loop, owned = asyncio.get_running_loop(), asyncio.Event()
        self._thread = threading.Thread(target=self._follow, args=(loop, owned), name="follow", daemon=True)
        self._thread.start()
        await owned.wait()
        took_over(self.follower.engine)

    async def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def metrics(self) -> Iterable[tuple[str, str, str, float]]:
        yield "shopward_followed_events", "gauge", "Events in this standby's memory.", self.follower.engine.seq

    def _follow(self, loop: asyncio.AbstractEventLoop, owned: asyncio.Event) -> None:
        while not self._stop.is_set():
            try:
                self.follower.follow()
                if self.follower.take_over():
                    loop.call_soon_threadsafe(owned.set)
                    return
            except Exception as error:  # noqa: BLE001 a standby goes on trying: it may be all there is
                logger.error("following goes on after a failure", exc_info=error)
                self._stop.wait(1.0)
            self._stop.wait(LOOK_S)
