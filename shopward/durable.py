"""What makes an engine durable: the log before the answer, the same answer to a retried event, and a restart without loss.

    retried or new? -> decide the new ones -> append events and decisions as one frame -> force it to disk -> answer

State is a function of the log: after a crash the newest snapshot is loaded and the frames after it are replayed.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
import numpy as np

from shopward.decision import Decision
from shopward.errors import BadEvent, CorruptStore
from shopward.hashing import hash_strings
from shopward.ingest import from_dicts
from shopward.label import Label
from shopward.store import snapshot
from shopward.store.dedup import NEW, Dedup
from shopward.store.files import REAL, Disk
from shopward.store.frames import Frame, canonical
from shopward.store.log import Log
from shopward.store.rows import columns_of
from shopward.store.vault import Vault

if TYPE_CHECKING:
    from shopward.decide import Engine
    from shopward.declare.rulebook import Rulebook

SNAPSHOT_EVERY = 2_000_000  # events between two snapshots
_WINDOWS = "windows."


class Journal:
    """The durable side of one engine: log, known event ids, vault and snapshots in one data folder."""

    def __init__(self, data: Path, rulebook: Rulebook, disk: Disk | None = None):
        data.mkdir(parents=True, exist_ok=True)
        self.data, self.rulebook = data, rulebook
        self.disk = disk = disk or REAL
        self.vault = Vault.open(data)
        self.seed = self.vault.hash_seed
        self.log = Log.open(data / "log", disk, before_sync=self.vault.commit)
        self.dedup = Dedup.open(data / "state" / "ids", self.log, self.seed, disk)
        self.snapshot_at = 0
        self._writes: list[dict[str, Any]] = []
        self._failure: BaseException | None = None  # state may be ahead of the log: only a restart makes it whole

    # --- deciding

    def pseudonym(self, field: str, value: str) -> str:
        return self.vault.pseudonymise(field, value)

    def decide(self, engine: Engine, events: list[dict[str, Any]]) -> list[Decision | BadEvent]:
        """Answers to events that are on disk when this returns. Raises StoreFull when they cannot be put there."""
        self._check()
        answers: list[Any] = [None] * len(events)
        usable, at = [], []
        for i, event in enumerate(events):
            found = self._usable(engine, event)
            if isinstance(found, BadEvent):
                answers[i] = found
            else:
                usable.append(found)
                at.append(i)
        for i, answer in zip(at, self._accept(engine, usable), strict=True):
            answers[i] = answer
        self.log.sync()
        if self.log.next_seq - self.snapshot_at >= SNAPSHOT_EVERY:
            self.snapshot(engine)
        return answers

    def label(self, engine: Engine, rows: list[dict[str, Any]]) -> dict[str, int]:
        """Labels of events in the log, as events of the stream; returns how many were taken, repeated and unknown."""
        labels = [_label(row) for row in rows]
        found = self.dedup.find(hash_strings([label.event_id for label in labels], self.seed))
        events = []
        for label, seq in zip(labels, found.tolist(), strict=True):
            if seq >= 0:
                events.append(engine.normaliser(label.as_event() | self._keys(engine, seq)))
        before = self.log.next_seq
        self._check()
        self._accept(engine, events)
        self.log.sync()
        taken = self.log.next_seq - before
        return {"taken": taken, "repeated": len(events) - taken, "unknown": len(labels) - len(events)}

    def find(self, event_id: str) -> dict[str, Any] | None:
        """The stored decision on an event, or None when there is none."""
        seq = int(self.dedup.find(hash_strings([event_id], self.seed))[0])
        return self.log.decision(seq) if seq >= 0 else None

    def wrote(self, entry: dict[str, Any]) -> None:
        """Remember a list write of the batch being decided; it goes into the same frame."""
        self._writes.append(entry)

    def _check(self) -> None:
        """May events be decided on? Not while the disk is full, and not after a batch failed half-way."""
        if self._failure is not None:
            raise CorruptStore(
                f"{self.data}: a batch failed half-way ({self._failure}); restart to recover from the log"
            )
        self.log.check_room()

    def _usable(self, engine: Engine, event: dict[str, Any]) -> dict[str, Any] | BadEvent:
        found = engine._checked(event)
        if isinstance(found, BadEvent):
            return found
        if found["type"] == "label":
            return BadEvent("a label is not decided on: send it to labels", field="type")
        if "event_id" not in found:
            found = {"event_id": uuid4().hex, **found}
        return found

    def _accept(self, engine: Engine, events: list[dict[str, Any]]) -> list[Any]:
        """Decide on what is new, append it, and answer everything (None for label events)."""
        if not events:
            return []
        lines = [canonical([event]) for event in events]
        content = np.array([_content(line) for line in lines], np.int64)
        ids = hash_strings([event["event_id"] for event in events], self.seed)
        now = np.full(len(events), engine.clock.now(), np.int64)
        if not engine.clock.server:
            now = np.maximum(now, np.array([event["ts"] for event in events], np.int64))
        status, seqs = self.dedup.check(ids, content, now, self.log.next_seq)
        fresh = np.flatnonzero(status == NEW).tolist()
        try:
            decided = self._append(engine, [events[i] for i in fresh], [lines[i] for i in fresh], content[fresh])
        except BaseException as error:
            self.dedup.forget(self.log.next_seq)
            self._failure = error
            raise
        answers: list[Any] = [None] * len(events)
        for i, decision in zip(fresh, decided, strict=True):
            answers[i] = decision
        for i in np.flatnonzero(status != NEW).tolist():
            stored = self.log.decision(int(seqs[i]))
            answers[i] = _stored(stored) if stored else None
        return answers

    def _append(
        self, engine: Engine, events: list[dict], lines: list[bytes], content: np.ndarray
    ) -> list[Decision | None]:
        step = 1 if engine.row_features.one_by_one else len(events)
        decided: list[Decision | None] = []
        for start in range(0, len(events), step):
            part = events[start : start + step]
            batch = engine.batch(part)
            decisions = engine.decide_batch(batch)
            found: list[Decision | None] = [None] * batch.n
            for row, decision in zip(decisions.rows.tolist(), decisions, strict=True):
                found[row] = decision
            frame = Frame.of_events(
                batch.seq0, int(engine.clock.value), b"".join(lines[start : start + step]), batch.t, [e["event_id"] for e in part],
                found, content[start : start + step], self._writes,
            )  # fmt: skip
            self._writes = []
            self.log.append(frame)
            decided += found
        return decided

    def _keys(self, engine: Engine, seq: int) -> dict[str, Any]:
        """The entity fields of the event with this seq, for the label that judges it."""
        frame = self.log.frame_with(seq)
        record = frame.records()[seq - frame.seq0]
        return {role: record[role] for role in engine.schema.roles if role in record}

    # --- keeping and recovering

    def snapshot(self, engine: Engine) -> None:
        """Write the state as of the end of the log."""
        self.log.sync()
        arrays = {_WINDOWS + name: array for name, array in engine.windows.snapshot().items()}
        meta = snapshot.Meta(
            seq=self.log.next_seq, frame=self.log.next_number, rulebook=self.rulebook.version, seed=self.seed.hex(),
            state_hash=engine.state_hash(),
            extra={"features": meaning(self.rulebook), "clock": int(engine.clock.value), "lists": engine.lists.entries()},
        )  # fmt: skip
        snapshot.save(self.data / "state", arrays, meta, self.disk)
        self.snapshot_at = self.log.next_seq

    def recover(self, engine: Engine) -> None:
        """Bring an empty engine to the end of the log."""
        found = snapshot.load(self.data / "state", self.disk, upto=self.log.next_number)
        start = 0
        if found and found.meta.extra["features"] == meaning(self.rulebook):
            if found.meta.seed != self.seed.hex():
                raise CorruptStore(f"{found.path}: made with another hash seed than {self.data}")
            engine.windows.restore(
                {n.removeprefix(_WINDOWS): a for n, a in found.arrays.items() if n.startswith(_WINDOWS)}
            )
            if engine.state_hash() != found.meta.state_hash:
                raise CorruptStore(f"{found.path}: the state does not have the hash it was saved with")
            engine.clock.value = found.meta.extra["clock"]
            for entry in found.meta.extra["lists"]:
                engine.write_list(entry | {"key": _key(entry["key"]), "remove": False})
            start = found.meta.frame
        for frame in self.log.replay(from_seq=0 if start else self.log.first_seq, from_number=start):
            self._replay(engine, frame)
        engine.seq = self.snapshot_at = self.log.next_seq
        self._switch(int(engine.clock.value))

    def _replay(self, engine: Engine, frame: Frame) -> None:
        """Move state over one frame: what was decided is not decided again, what was written to lists is written again."""
        if frame.n:
            batch = from_dicts(
                frame.records(),
                self.rulebook,
                engine.needs,
                self.seed,
                clock=engine.clock,
                seq0=frame.seq0,
                settled=True,
                t=frame.t,
            )
            engine.compute(batch)
        engine.clock.value = max(int(engine.clock.value), frame.clock)
        for entry in frame.writes:
            engine.write_list(entry | {"key": _key(entry["key"])})

    def _switch(self, clock: int) -> None:
        """Say in the log which rulebook is in force from here on, when it changed."""
        path = self.data / "state" / "rulebook"
        if path.exists() and path.read_text() == self.rulebook.version:
            return
        self.log.append(
            Frame(
                "switch",
                self.log.next_seq,
                clock,
                meta={"rulebook": self.rulebook.version, "columns": columns_of(self.rulebook.schema)},
            )
        )
        self.log.sync()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.rulebook.version)

    def close(self, engine: Engine) -> None:
        """Snapshot, and let another process have the folder."""
        try:
            if self._failure is None:
                self.snapshot(engine)
        finally:
            self.dedup.close()
            self.log.close()
            self.vault.close()


def meaning(rulebook: Rulebook) -> str:
    """A hash of everything feature state depends on: two rulebooks that differ only in rules share it."""
    parts = [repr(rulebook.schema), repr(rulebook.policy.lateness_ms)]
    parts += [repr(replace(f, file="", line=0, doc="")) for f in rulebook.features.values()]
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


def _stored(row: dict[str, Any]) -> Decision:
    """A decision as the log keeps it."""
    decision = msgspec.convert(row, Decision)
    return msgspec.structs.replace(decision, evidence=tuple(decision.evidence))


def _content(line: bytes) -> int:
    return int.from_bytes(blake2b(line, digest_size=8).digest(), "little", signed=True)


def _label(row: dict[str, Any]) -> Label:
    return Label.read(row)


def _key(key: Any) -> Any:
    """A list key as it was before it went through JSON or msgpack."""
    return tuple(key) if isinstance(key, list) else key
