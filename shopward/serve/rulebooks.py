"""Changing the rulebook of a running server: checked, warmed beside, switched between two batches, audited, and taken back."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shopward.change import Change
from shopward.declare.rulebook import Rulebook
from shopward.durable import in_force, kept_rulebook
from shopward.errors import RulebookError, ShopwardError
from shopward.serve.http import HttpError

if TYPE_CHECKING:
    from shopward.decide import Engine
    from shopward.serve.decider import Decider
    from shopward.serve.metrics import Metrics

WORK_S, REST_S = 0.001, 0.002  # a thread that warms a rulebook has a third of what Python can do
logger = logging.getLogger("shopward.serve")


class Rulebooks:
    """The rulebook in force, and the one on its way."""

    def __init__(self, decider: Decider, metrics: Metrics, folder: Path | None = None):
        self.decider, self.metrics, self.folder = decider, metrics, folder
        self._change: Change | None = None
        self._task: asyncio.Task | None = None
        self._failed: str | None = None

    def state(self) -> dict[str, Any]:
        """`version`, `before`, `by`, and `warming`: the version under way and how far it is, or None."""
        engine, change = self.decider.engine, self._change
        found = in_force(engine.journal.data) if engine.journal else None
        warming = (
            None if change is None else {"version": change.rulebook.version, "events": change.events, "of": engine.seq}
        )
        return {
            "version": engine.rulebook.version, "before": found.before if found else "", "by": found.by if found else "",
            "warming": warming, "failed": self._failed,
        }  # fmt: skip

    async def change(self, asked: dict[str, Any], who: str, folder: Path | None = None) -> dict[str, Any]:
        """Switch to what is asked for: `files`, a `version` that was in force, or `rollback`; or to what a folder holds now.

        With `wait: false` it answers as soon as the rulebook is known to check.

        Raises HttpError 422 with every problem of a rulebook that does not check, 409 while another change is under way.
        """
        if self.decider.engine.journal is None:
            raise HttpError(409, "only a server with a data folder changes its rulebook")
        if self._task is not None and not self._task.done():
            raise HttpError(
                409, f"rulebook {self._change.rulebook.version if self._change else ''} is being warmed", retry_after=5
            )
        if not isinstance(asked.get("wait", True), bool):
            raise HttpError(422, "wait: expected true or false")
        self._task = asyncio.create_task(self._carry_out(asked, who, folder))
        await asyncio.shield(self._task if asked.get("wait", True) else self._checked())
        return self.state()

    async def _checked(self) -> None:
        """Wait until the rulebook is known to check; what is wrong with it is the answer."""
        task = self._task
        assert task is not None
        while self._change is None and not task.done():
            await asyncio.sleep(0.005)
        if task.done():
            task.result()

    async def _carry_out(self, asked: dict[str, Any], who: str, folder: Path | None) -> None:
        engine = self.decider.engine
        self._failed = None
        rulebook = await asyncio.to_thread(self._wanted, engine, asked, folder)
        if rulebook.version == engine.rulebook.version:
            return
        before = engine.rulebook.version
        change = self._change = Change(engine, rulebook)
        try:
            await _on_a_thread(change.warm)
            await self.decider.call(change.switch, who)
            self.metrics.changes += 1
            logger.warning("rulebook %s is in force from event %d on (%s)", rulebook.version, engine.seq, who)
            await self.decider.call(_audit, engine, who, before, rulebook.version)
            gc.collect()  # the memory of the engine that was replaced
        except ShopwardError as error:
            self._failed = str(error)
            raise HttpError(422, str(error)) from error
        except Exception as error:
            self._failed = f"{type(error).__name__}: the rulebook in force stays"
            logger.error("rulebook %s could not be switched to", rulebook.version, exc_info=error)
            raise HttpError(422, self._failed) from error
        finally:
            change.cancel()
            self._change = None

    def _wanted(self, engine: Engine, asked: dict[str, Any], folder: Path | None) -> Rulebook:
        odd = [name for name in asked if name not in ("files", "version", "rollback", "wait")]
        given = [name for name in ("files", "version", "rollback") if asked.get(name)]
        if folder is None and (odd or len(given) != 1):
            raise HttpError(422, f"{odd[0]}: not known here" if odd else "give one of files, version, rollback")
        try:
            if folder is not None:
                return Rulebook(folder)
            if "files" in given:
                return Rulebook.from_files(_files(asked["files"]))
        except RulebookError as error:
            raise HttpError(
                422, "the rulebook does not check", more={"problems": [p.render() for p in error.problems]}
            ) from error
        assert engine.journal is not None
        wanted = in_force(engine.journal.data).before if "rollback" in given else asked["version"]
        found = kept_rulebook(engine.journal.data, wanted) if isinstance(wanted, str) and wanted.isalnum() else None
        if found is None:
            raise HttpError(
                422, "there is no rulebook before this one" if "rollback" in given else "version: never in force here"
            )
        return found

    def read_again(self) -> None:
        """The folder of the rulebook has changed (SIGHUP)."""
        if self.folder is None:
            logger.warning("there is no --rulebook folder to read again")
            return
        task = asyncio.ensure_future(self.change({}, "signal:HUP", self.folder))
        task.add_done_callback(_told)

    async def stop(self) -> None:
        """Give up what is under way."""
        if self._task is not None and not self._task.done():
            self._task.cancel()


async def _on_a_thread(work) -> None:
    """Run in a thread that does not keep the process alive: a replay may take minutes when the server is told to stop."""
    loop, done = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

    def run() -> None:
        sys.setprofile(Resting())
        try:
            work()
        except BaseException as error:  # noqa: BLE001 handed to whoever waits
            _tell(loop, done, error)
        else:
            _tell(loop, done, None)

    threading.Thread(target=run, name="warm", daemon=True).start()
    await done


class Resting:
    """Called at every call and return of a thread: it stops for REST_S after each WORK_S, since Python runs one thread at a time and
    those who decide meanwhile come first.
    """

    def __init__(self) -> None:
        self.until = time.perf_counter() + WORK_S

    def __call__(self, frame: Any, event: str, arg: Any) -> None:
        if time.perf_counter() > self.until:
            time.sleep(REST_S)
            self.until = time.perf_counter() + WORK_S


def _tell(loop: asyncio.AbstractEventLoop, done: asyncio.Future, error: BaseException | None) -> None:
    def tell() -> None:
        if not done.done():
            done.set_result(None) if error is None else done.set_exception(error)

    if not loop.is_closed():
        loop.call_soon_threadsafe(tell)


def _files(given: Any) -> dict[str, str]:
    if not isinstance(given, dict) or not all(isinstance(text, str) for text in given.values()):
        raise HttpError(422, "files: expected an object of relative path -> text")
    for text in (*given, *given.values()):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise HttpError(422, "files: not valid Unicode") from None
    return given


def _audit(engine: Engine, who: str, before: str, after: str) -> None:
    assert engine.journal is not None
    engine.journal.vault.tables.record(
        who, "rulebook switched", after, {"before": before, "after": after, "seq": engine.seq}
    )


def _told(task: asyncio.Future) -> None:
    error = None if task.cancelled() else task.exception()
    if isinstance(error, HttpError):
        logger.error("the rulebook in force stays: %s", "\n".join([error.message, *error.more.get("problems", [])]))
    elif error is not None:
        logger.error("the rulebook in force stays", exc_info=error)
