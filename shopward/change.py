"""Another rulebook while the server decides: built beside the running engine, warmed from the log, switched between two batches.

    change = Change(engine, rulebook)      # the tail of the log is kept from here on
    change.warm()                          # in any thread, while the engine decides: minutes for millions of events
    change.switch(by="token:kim")          # on the deciding thread: takes the last frames and the new rulebook's place

Nothing is dropped and nothing is decided twice: each event is decided by the engine that holds the log at that moment, and the log
says from which event on the other rulebook decided. Features are whole before the switch, so none of them is ever half warm.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from shopward.durable import Journal, Tail, in_force, kept_rulebook
from shopward.errors import CorruptStore, UsageError
from shopward.models.loading import load_all
from shopward.replay import Replay
from shopward.store import snapshot
from shopward.store.files import REAL
from shopward.store.log import segments
from shopward.store.tail import LogReader
from shopward.store.vault import load_keys

if TYPE_CHECKING:
    from shopward.decide import Engine
    from shopward.declare.rulebook import Rulebook
    from shopward.store.frames import Frame

FOLLOWED = 1_000  # frames that a follower moves over at once
NEARLY = 8  # frames left for the deciding thread: a few milliseconds


class Change:
    """One rulebook on its way into force.

    events  how many events the new engine has seen
    """

    def __init__(self, engine: Engine, rulebook: Rulebook):
        if engine.journal is None:
            raise UsageError(
                "only an engine with a data folder changes its rulebook: the new features are built from the log"
            )
        self.engine, self.rulebook, self.journal = engine, rulebook, engine.journal
        self.young: Engine | None = None
        self._opened = ExitStack()
        self._tail: Tail = self._opened.enter_context(self.journal.tail())
        self._replay: Replay | None = None

    @property
    def events(self) -> int:
        return self.young.seq if self.young else 0

    def warm(self) -> None:
        """Compile the rulebook and replay the log, until almost nothing is left. Raises UsageError when the log does not fit it."""
        try:
            young = self.young = self.engine.beside(self.rulebook)
            if self.engine.windows.compiled:
                young.windows.wait_compiled()
            self.journal.log.sync()  # what came before the tail began is on disk, and is read from there
            self._replay = self.journal.replay(young)
            while self._tail.waiting > NEARLY:
                self._replay.take(self._polite())
            young.rehearse(self.engine)
            self.journal.keep_rulebook(self.rulebook)
        except BaseException:
            self.cancel()
            raise

    def switch(self, by: str = "") -> None:
        """Take the rest of the log and then the place of the engine; call it where events are decided, between two batches."""
        journal, replay, young = self.journal, self._replay, self.young
        if replay is None or young is None:
            raise UsageError("warm the rulebook before it is switched to")
        try:
            replay.take(self._tail.frames())
            if self._tail.torn or replay.number != journal.log.next_number:
                journal.log.sync()
                journal.catch_up(replay)
            young.seq = journal.log.next_seq
            journal.switch(young, by)
            self.engine.become(young)
        finally:
            self.cancel()

    def cancel(self) -> None:
        self._opened.close()

    def _polite(self):
        """Frames of the tail, with the processor left to those who decide after each."""
        for frame in self._tail.frames():
            yield frame
            time.sleep(0)


class Follower:
    """A second process on the same data folder: its memory follows the log, and it takes over when the first one is gone."""

    def __init__(self, data: Path, mode: str = "auto"):
        from shopward.decide import Engine

        self.data, self.mode = data, mode
        if not segments(data / "log"):
            raise UsageError(f"{data}: there is no log to follow; start the first server on it before")
        rulebook = kept_rulebook(data, in_force(data).version)
        if rulebook is None:
            raise UsageError(f"{data}: it is not known which rulebook is in force; start the first server on it before")
        seed = load_keys(data)[0].hashes
        models = load_all(rulebook, data / "models")
        self.engine = Engine(rulebook, clock="server", mode=mode, seed=bytes.fromhex(seed), models=models)  # type: ignore[arg-type]
        self._begin()

    def _begin(self) -> None:
        found = snapshot.load(self.data / "state")
        self.replay = Replay(self.engine)
        self.replay.begin(found, segments(self.data / "log")[0].seq0)
        self.reader = LogReader(self.data / "log", self.replay.number)

    def follow(self) -> int:
        """Take what is new in the log; returns how many frames that were. A rulebook switched by the first server is taken over."""
        taken, new = 0, []
        for frame in self.reader.frames():
            new.append(frame)
            taken += 1
            if frame.kind == "switch" and frame.meta["rulebook"] != self.engine.rulebook.version:
                self._take(new)
                self._change(frame.meta["rulebook"])
                return taken + self.follow()
            if len(new) >= FOLLOWED:
                self._take(new)
                new = []
        self._take(new)
        return taken

    def _take(self, frames: list[Frame]) -> None:
        self.replay.take(frames)
        if frames:
            self.engine.seq = frames[-1].seq0 + frames[-1].n

    def _change(self, version: str) -> None:
        """Begin again with the rulebook that is now in force."""
        rulebook = kept_rulebook(self.data, in_force(self.data).version) or kept_rulebook(self.data, version)
        if rulebook is None:
            raise CorruptStore(f"{self.data}/state/rulebooks/{version}.json: missing; restore it from a copy")
        if rulebook.version != self.engine.rulebook.version:
            self.engine = self._beside(rulebook)
            self._begin()

    def _beside(self, rulebook: Rulebook) -> Engine:
        """An engine with nothing in memory; until it owns the folder it is given the models that are registered there."""
        self.engine.given = load_all(rulebook, self.data / "models")
        return self.engine.beside(rulebook)

    def take_over(self) -> bool:
        """Own the folder if its first server is gone; False while it lives."""
        if not free(self.data):
            return False
        try:
            journal = Journal(self.data)
        except UsageError:  # another follower was faster
            return False
        try:
            journal.catch_up(self.replay)
            now = kept_rulebook(self.data, in_force(self.data).version)
            if now is not None and now.version != self.engine.rulebook.version:
                self.engine = self._beside(now)
                self.replay = journal.replay(self.engine)
            self.engine.own(journal)
            self.engine.given = {}
        except BaseException:
            journal.release()
            raise
        return True


def free(data: Path) -> bool:
    """Does no process own this data folder?"""
    try:
        REAL.lock(data / "log" / "lock")()
    except UsageError:
        return False
    return True


def take_from(source: Path, data: Path, on_progress: Callable[[int], None] = lambda done: None) -> int:
    """Begin a new data folder with what another one decided: its log, keys, vault and lists, whoever owns it meanwhile.

    Returns how many events that were. Raises UsageError when `data` holds a log already or `source` none.
    """
    if not segments(source / "log"):
        raise UsageError(f"{source}: there is no log to replay")
    if segments(data / "log"):
        raise UsageError(f"{data}: holds a log already; --replay begins a new folder")
    data.mkdir(parents=True, exist_ok=True)
    taken = 0
    for frame in LogReader(source / "log", segments(source / "log")[0].number).frames():
        taken += frame.n
        on_progress(frame.n)
    for name in ("log", "keys.json", "state/rulebook", "state/rulebooks"):
        _copy(source / name, data / name)
    _copy_database(source / "shopward.db", data / "shopward.db")  # last: it knows every pseudonym of the copied log
    return taken


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("lock"), dirs_exist_ok=True)
    elif source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def _copy_database(source: Path, target: Path) -> None:
    """A consistent copy of a database that may be in use."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


__all__ = ["Change", "Follower", "free", "take_from"]
