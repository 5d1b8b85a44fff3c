"""What makes an engine durable: the log before the answer, the same answer to a retried event, and a restart without loss.

    retried or new? -> decide the new ones -> append events and decisions as one frame -> force it to disk -> answer

State is a function of the log: after a crash the newest snapshot is loaded and the frames after it are replayed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import msgspec
import numpy as np

from shopward.answers import Answers
from shopward.decision import Decision
from shopward.errors import BadEvent, CorruptStore, ShopwardError, StoreFull
from shopward.event import MAX_DEPTH, MAX_RECORD, format_time
from shopward.hashing import hash_strings, siphash128
from shopward.ingest import Normaliser
from shopward.ingest.arrivals import Arrivals, parsed
from shopward.ingest.cover import Covers
from shopward.label import Label
from shopward.lists import Entry
from shopward.replay import PASTS, STATE_FORM, USUAL, WINDOWS, Replay, meaning
from shopward.store import snapshot
from shopward.store.dedup import EVER, KEEP_MS, NEW, Dedup
from shopward.store.files import REAL, Disk, write_whole
from shopward.store.frames import Frame, canonical
from shopward.store.log import Log
from shopward.store.packing import packed_texts
from shopward.store.past import Past
from shopward.store.rows import columns_of
from shopward.store.vault import Vault

if TYPE_CHECKING:
    from shopward.batch import Batch
    from shopward.decide import Engine
    from shopward.declare.rulebook import Rulebook
    from shopward.ingest.arrivals import Arrived
    from shopward.ingest.chunk import Chunk
    from shopward.ingest.texts import Text

SNAPSHOT_EVERY = 2_000_000  # events between two snapshots
SNAPSHOT_AGAIN = 100_000  # events until the next try when there was no room for one
WRITE_EVERY = 4 << 20  # bytes of frames that one call gathers before it writes them
FEW = 16  # events up to which deciding on each is cheaper, even if they are there as columns
_NO_SEED = bytes(16)
EACH = 512  # events up to which deciding on each is cheaper than columns for all
LABEL_TYPE = "label"
POISON_IN_A_ROW = 8  # events that cannot be decided on, one after the other: then it is a fault of something else
DEAD_BYTES = 64 << 20  # of dead letters in one file; the file before is kept
TAIL_BYTES = 64 << 20  # of frames kept for an engine that is catching up
logger = logging.getLogger("shopward.durable")


class Journal:
    """The durable side of deciding: log, known event ids, vault and snapshots in one data folder.

    It outlives the engine that decides on it: an engine's memory can be built again from it, for the same or another rulebook.

    trouble   why the last snapshot could not be written (then the log grows until there is room), or None
    poison    how many events could not be decided on and are in dead-letters.ndjson
    rebuilt   how often the memory was built again after a batch failed half-way
    """

    def __init__(self, data: Path, disk: Disk | None = None):
        data.mkdir(parents=True, exist_ok=True)
        self.data = data
        self.disk = disk = disk or REAL
        with ExitStack() as opened:
            self.vault = Vault.open(data)
            opened.callback(self.vault.close)
            self.seed = self.vault.hash_seed
            self.log = Log.open(data / "log", disk, before_sync=self.vault.commit)
            opened.callback(self.log.close)
            self.dedup = Dedup.open(data / "state" / "ids", self.log, self.seed, disk)
            opened.callback(self.dedup.close)
            self.past = Past(data)
            opened.callback(self.past.close)
            self._opened = opened.pop_all()
        self.snapshot_due = SNAPSHOT_EVERY
        self.trouble: StoreFull | None = None
        self.poison = self.rebuilt = 0
        self._covers = Covers(self.vault.pseudonymise_many, self.seed, lambda: self.vault.erasures)
        self._writes: list[dict[str, Any]] = []
        self._tails: list[Tail] = []
        self._judging = False  # while it is set, an engine's memory is between two states
        self._half_way: BaseException | None = None  # memory has to be built again from the log
        self._failure: BaseException | None = None  # that failed, too: only a restart helps

    # --- deciding

    def pseudonym(self, field: str, value: str) -> str:
        return self.vault.pseudonymise(field, value)

    def known_pseudonym(self, field: str, value: str) -> str:
        """The pseudonym of a value that may be one already: people copy what reports show them."""
        return value if self.vault.reveal(value) is not None else self.pseudonym(field, value)

    def decide(self, engine: Engine, events: list[dict[str, Any]]) -> list[Decision | BadEvent | None]:
        """Answers to events that are on disk when this returns. Raises StoreFull when they cannot be put there."""
        answers = self.judge(engine, events)
        self.settle(engine)
        return answers

    def decide_lines(self, engine: Engine, block: bytes) -> Answers:
        """Answers to the events of a block of NDJSON (at most `arrivals.MOST` lines), on disk when this returns."""
        answers = self.judge_lines(engine, block)
        self.settle(engine)
        return answers

    @property
    def at_once(self) -> bool:
        """Can events be judged just now without something long before or after it: a rebuilt memory, a full disk, a snapshot?"""
        whole = self._failure is None and self._half_way is None and not self.log.full
        return whole and not self.snapshot_is_due

    def judge(
        self, engine: Engine, events: list[dict[str, Any]], mend: bool = True
    ) -> list[Decision | BadEvent | None]:
        """Answers that nobody may see before `settle` (or the log's `sync`) has returned.

        With `mend` False what the engine fails with is raised, and nothing of these events is in the log: judge them again.
        """
        self._check(engine)
        answers: list[Any] = [None] * len(events)
        usable, lines, at = [], [], []
        for i, event in enumerate(events):
            try:
                found = self._usable(engine, event)
                lines.append(_line(found))
            except BadEvent as wrong:
                answers[i] = wrong
            else:
                usable.append(found)
                at.append(i)
        accept = self._survive if mend else self._accept
        for i, answer in zip(at, accept(engine, usable, lines), strict=True):
            answers[i] = answer
        return answers

    def judge_lines(self, engine: Engine, block: bytes, mend: bool = True) -> Answers:
        """The same for a block of NDJSON."""
        self._check(engine)
        return self._answered(engine, self.arrivals(engine).take(block), mend)

    def arrivals(self, engine: Engine) -> Arrivals:
        """The reader of blocks for an engine's rulebook."""
        if engine.arrivals is None or engine.arrivals.normaliser is not engine.normaliser:

            def slow(record: bytes) -> tuple[dict[str, Any], bytes]:
                event = self._usable(engine, parsed(record))
                return event, _line(event)

            engine.arrivals = Arrivals(engine.normaliser, engine.needs, self.seed, slow, self._covers)
        return engine.arrivals

    def _answered(self, engine: Engine, arrived: Arrived, mend: bool) -> Answers:
        chunk = arrived.chunk
        if chunk is None:
            return Answers.of_each(arrived, [], engine.rules)
        if chunk.n < FEW or engine.row_features.one_by_one:
            lines = [line.encode() for line in cast("list[str]", arrived.lines.to_list())]
            accept = self._survive if mend else self._accept
            return Answers.of_each(arrived, accept(engine, *_read_back(lines)), engine.rules)
        try:
            return self._accept_columns(engine, arrived, chunk)
        except ShopwardError:
            raise
        except Exception as error:  # memory is built again and the events are decided one by one
            if not mend:
                raise
            logger.warning("a batch failed half-way; deciding it again, one event at a time", exc_info=error)
        self._mend(engine)
        lines = [line.encode() for line in cast("list[str]", arrived.lines.to_list())]
        return Answers.of_each(arrived, self._survive(engine, *_read_back(lines)), engine.rules)

    def _accept_columns(self, engine: Engine, arrived: Arrived, chunk: Chunk) -> Answers:
        """Decide on what is new of a block as one batch of columns, append it, and answer everything."""
        content = np.ascontiguousarray(arrived.lines.hashes(_NO_SEED)[:, 0])
        now = np.full(chunk.n, engine.clock.now(), np.int64)
        if not engine.clock.server:
            now = np.maximum(now, chunk.ts)
        status, seqs = self.dedup.check(chunk.ids.hashes(self.seed), content, now, self.log.next_seq)
        fresh = np.flatnonzero(status == NEW)
        lines = arrived.lines
        answers = Answers(arrived, chunk, engine.rules)
        try:
            if len(fresh) < chunk.n:
                chunk, lines, content = chunk.take(fresh), lines.take(fresh), content[fresh]
            if len(fresh):
                self._judging = True
                seq0, t = engine.seq, engine.clock.stamp(chunk.ts)
                decisions = engine.judge(chunk.batch(seq0, t))
                packed = answers.add(fresh, decisions)
                frame = Frame(
                    "events", seq0, int(engine.clock.value), chunk.n, lines.joined(), np.ascontiguousarray(t, np.int64), content,
                    packed_texts(cast("Text", chunk.ids)), packed, tuple(self._writes),
                )  # fmt: skip
                self._writes = []
                self._log(frame)
                self._judging = False
        except BaseException as error:
            self._not_appended(error)
            raise
        again = np.flatnonzero(status != NEW).tolist()
        if again:
            told = self._told({int(seqs[i]): answers.id_of(i) for i in again})
            answers.repeat({i: told[int(seqs[i])] for i in again})
        return answers

    def _not_appended(self, error: BaseException) -> None:
        self.dedup.forget(self.log.next_seq)  # what did not get into the log is new when it comes again
        self._writes = []
        if self._judging or not isinstance(error, StoreFull):
            self._half_way, self._judging = error, False

    def take(self, engine: Engine, batch: Batch) -> list[Decision | None]:
        """Decide on a batch that was read from a file, with its records; None answers a label event.

        What was ever taken before, by its id, gets the answer it got. All is on disk after `settle`, or when enough has gathered.
        """
        self._check(engine)
        records = batch.records()
        long_ago = self._long_ago(records)
        if long_ago:
            young = [i for i, record in enumerate(records) if record["event_id"] not in long_ago]
            told = self._accept(engine, [records[i] for i in young], [_line(records[i]) for i in young], EVER)
            found = dict(zip(young, told, strict=True))
            return [found[i] if i in found else long_ago[record["event_id"]] for i, record in enumerate(records)]
        return self._accept(engine, records, [_line(record) for record in records], EVER, batch)

    def settle(self, engine: Engine) -> None:
        """Return when all that was taken is on disk."""
        self.log.sync()
        self.snapshot_when_due(engine)

    def label(self, engine: Engine, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Labels of events in the log, as events of the stream; returns how many were taken, repeated and unknown, and the refused."""
        self._check(engine)
        labels, refused = _usable_labels(engine, rows)
        seqs = self.dedup.find(hash_strings([label.event_id for label in labels], self.seed)).tolist()
        keys = self._keys(engine, seqs)
        known = {label.event_id: keys[seq] for label, seq in zip(labels, seqs, strict=True) if seq in keys}
        known |= self._dropped_keys(engine, {label.event_id for label in labels} - known.keys())
        judged = [(label, known[label.event_id]) for label in labels if label.event_id in known]
        logged = Normaliser.of(engine.rulebook, settled=True)
        events = [logged(label.as_event() | roles) for label, roles in judged]
        before = self.log.next_seq
        self._survive(engine, events, [_line(event) for event in events])
        self.log.sync()
        self.snapshot_when_due(engine)
        taken = self.log.next_seq - before
        unknown = len(labels) - len(events)
        return {"taken": taken, "repeated": len(events) - taken, "unknown": unknown, "refused": refused}

    def write_lists(self, engine: Engine, entries: list[Entry]) -> None:
        """Entries from outside the stream: in the log, in memory, and in the tables that people share."""
        if not entries:
            return
        self._check(engine)
        engine.clock.value = engine.clock.now()
        writes = tuple(entry.as_dict() for entry in entries)
        number = self._log(Frame("lists", self.log.next_seq, int(engine.clock.value), writes=writes))
        engine.apply_entries(entries)  # also when there is no room just now: the frame is written as soon as there is
        self.log.sync()
        self.vault.tables.write_lists(entries, frame=number)

    def find(self, event_id: str) -> dict[str, Any] | None:
        """The stored decision on an event, or None when there is none."""
        seq = int(self.dedup.find(hash_strings([event_id], self.seed))[0])
        with suppress(KeyError):  # its segment was dropped
            if seq >= self.log.durable_seq:
                self.log.sync()  # it may not be told before
            if seq >= 0:
                return self.log.decision(seq)
        if self.log.first_seq == 0:
            return None
        self.past.close()  # look anew: the lake grew
        return self.past.decisions([event_id]).get(event_id)

    def wrote(self, entry: dict[str, Any]) -> None:
        """Remember a list write of the batch being decided; it goes into the same frame."""
        self._writes.append(entry)

    def _check(self, engine: Engine) -> None:
        """May events be decided on? Not while the disk is full, and not before what a failed batch left is mended."""
        self._check_whole()
        self.log.check_room()
        if self._half_way is not None:
            self._mend(engine)

    def _check_whole(self) -> None:
        if self.failure is not None:
            raise CorruptStore(self.failure)

    @property
    def failure(self) -> str | None:
        """Why only a restart helps, or None."""
        if self._failure is None:
            return None
        return f"{self.data}: a batch failed half-way ({self._failure}); restart to recover from the log"

    def _survive(self, engine: Engine, events: list[dict[str, Any]], lines: list[bytes]) -> list[Any]:
        """Answers of `_accept`; after a failure one event at a time, so that only what cannot be decided on is refused."""
        try:
            return self._accept(engine, events, lines)
        except ShopwardError:
            raise
        except Exception as error:  # noqa: BLE001 whatever it was, memory is built again and the other events are decided
            logger.warning("a batch failed half-way; deciding it again, one event at a time", exc_info=error)
        self._mend(engine)
        answers: list[Any] = []
        in_a_row = 0
        for event, line in zip(events, lines, strict=True):
            try:
                answers += self._accept(engine, [event], [line])
                in_a_row = 0
            except ShopwardError:
                raise
            except Exception as error:  # noqa: BLE001 this event is poison, or everything is
                in_a_row += 1
                if in_a_row >= POISON_IN_A_ROW:
                    self._failure = error
                    self._check_whole()
                self._mend(engine)
                answers.append(self._dead_letter(line, error))
        return answers

    def _mend(self, engine: Engine) -> None:
        """Build the engine's memory again from the log. Raises StoreFull while there is no room; later it is tried again."""
        try:
            self.log.sync()
            fresh = engine.beside()
            self.recover(fresh)
        except StoreFull:
            raise
        except Exception as error:
            self._failure = error
            raise
        engine.become(fresh)
        self._half_way = None
        self.rebuilt += 1

    def _dead_letter(self, line: bytes, error: Exception) -> BadEvent:
        """Keep an event that cannot be decided on, and what happened; the answer to whoever sent it."""
        self.poison += 1
        reason = f"cannot be decided on ({type(error).__name__}); it is kept in dead-letters.ndjson"
        logger.error("an event cannot be decided on", exc_info=error)
        path = self.data / "dead-letters.ndjson"
        if path.exists() and path.stat().st_size > DEAD_BYTES:
            path.replace(path.with_suffix(".1.ndjson"))
        letter = {"reason": f"{type(error).__name__}: {error}", "record": msgspec.Raw(line.strip())}
        with path.open("ab") as file:
            file.write(msgspec.json.encode(letter) + b"\n")
        return BadEvent(reason)

    def _usable(self, engine: Engine, event: dict[str, Any]) -> dict[str, Any]:
        found = engine._checked(event)
        if isinstance(found, BadEvent):
            raise found
        if found["type"] == "label":
            raise BadEvent("a label is not decided on: send it to labels", field="type")
        if "event_id" not in found:
            found = {"event_id": uuid4().hex, **found}
        return found

    def _accept(
        self,
        engine: Engine,
        events: list[dict[str, Any]],
        lines: list[bytes],
        keep_ms: int = KEEP_MS,
        batch: Batch | None = None,
    ) -> list[Any]:
        """Decide on what is new, append it, and answer everything (None for label events).

        `batch` are the events as columns, if somebody has them already. With `keep_ms` EVER an id is asked for as of its own time,
        else as of now.
        """
        if not events:
            return []
        content = np.array([_content(line) for line in lines], np.int64)
        ids = hash_strings([event["event_id"] for event in events], self.seed)
        now = np.full(len(events), engine.clock.now(), np.int64)
        if not engine.clock.server:
            times = np.array([event["ts"] for event in events], np.int64)
            now = times if keep_ms == EVER else np.maximum(now, times)
        status, seqs = self.dedup.check(ids, content, now, self.log.next_seq, keep_ms)
        fresh = np.flatnonzero(status == NEW).tolist()
        try:
            whole = batch if len(fresh) == len(events) else None
            decided = self._append(engine, [events[i] for i in fresh], [lines[i] for i in fresh], content[fresh], whole)
        except BaseException as error:
            self._not_appended(error)
            raise
        answers: list[Any] = [None] * len(events)
        for i, decision in zip(fresh, decided, strict=True):
            answers[i] = decision
        again = np.flatnonzero(status != NEW).tolist()
        if again:
            told = self._told({int(seqs[i]): events[i]["event_id"] for i in again})
            for i in again:
                answers[i] = told[int(seqs[i])]
        return answers

    def _told(self, ids: dict[int, str]) -> dict[int, Decision | None]:
        """The stored decisions on the events with these seqs; a frame is read once, what the log dropped is in the lake."""
        found: dict[int, Decision | None] = {}
        dropped: dict[int, str] = {}
        stop, seq0, decided = -1, -1, []
        for seq in sorted(ids):
            if seq >= stop:
                try:
                    frame = self.log.frame_with(seq)
                except KeyError:
                    dropped[seq] = ids[seq]
                    continue
                seq0, stop, decided = frame.seq0, frame.seq0 + frame.n, frame.decided()
            found[seq] = _stored(decided[seq - seq0])
        if dropped:
            self.past.close()  # look anew: the lake grew
        past = self.past.decisions(dropped.values())
        return found | {seq: _stored(past.get(event_id)) for seq, event_id in dropped.items()}

    def _long_ago(self, records: list[dict[str, Any]]) -> dict[str, Decision | None]:
        """Answers to events so old that their ids may have been forgotten."""
        horizon = self.dedup.horizon
        old = [record["event_id"] for record in records if record["ts"] < horizon]
        return {event_id: _stored(row) for event_id, row in self.past.decisions(old).items()} if old else {}

    def _append(
        self, engine: Engine, events: list[dict], lines: list[bytes], content: np.ndarray, whole: Batch | None = None
    ) -> list[Decision | None]:
        step = 1 if engine.row_features.one_by_one else max(1, len(events))
        decided: list[Decision | None] = []
        size = 0
        for start in range(0, len(events), max(step, 1)):
            if size > WRITE_EVERY:  # should the disk be full, it is found out before more is decided
                self.log.sync()
                size = 0
            part = events[start : start + step]
            seq0, self._judging = engine.seq, True
            found, times = self._judged(engine, part, whole)
            frame = Frame.of_events(
                seq0, int(engine.clock.value), b"".join(lines[start : start + step]), times, [e["event_id"] for e in part],
                found, content[start : start + step], self._writes,
            )  # fmt: skip
            self._writes = []
            self._log(frame)
            self._judging = False
            size += frame.size
            decided += found
        return decided

    def _judged(self, engine: Engine, part: list[dict], whole: Batch | None) -> tuple[list[Decision | None], Any]:
        """What is decided on each event (None for labels), and their stamped times."""
        if whole is not None and len(part) == whole.n:
            batch = replace(whole, seq0=engine.seq, t=engine.clock.stamp(whole.ts))
        elif len(part) <= EACH and part[0]["type"] != LABEL_TYPE:
            return engine.judge_each(part)
        else:
            batch = engine.batch(part)
        decisions = engine.judge(batch)
        found: list[Decision | None] = [None] * batch.n
        for row, decision in zip(decisions.rows.tolist(), decisions, strict=True):
            found[row] = decision
        return found, batch.t

    def _log(self, frame: Frame) -> int:
        """Append a frame, and hand it to the engines that are catching up."""
        number = self.log.append(frame)
        for tail in self._tails:
            tail.add(replace(frame, number=number))
        return number

    @contextmanager
    def tail(self) -> Iterator[Tail]:
        """What is appended from now on, as it is appended."""
        tail = Tail()
        self._tails.append(tail)
        try:
            yield tail
        finally:
            self._tails.remove(tail)

    def _keys(self, engine: Engine, seqs: list[int]) -> dict[int, dict[str, Any]]:
        """The entity fields of the events with these seqs that the log holds, for labels that judge them; a frame is read once."""
        found: dict[int, dict[str, Any]] = {}
        stop, seq0, lines = -1, -1, []
        for seq in sorted({seq for seq in seqs if seq >= 0}):
            if seq >= stop:
                try:
                    frame = self.log.frame_with(seq)
                except KeyError:  # its segment was dropped
                    continue
                seq0, stop, lines = frame.seq0, frame.seq0 + frame.n, frame.lines()
            record = msgspec.json.decode(lines[seq - seq0])
            found[seq] = {role: record[role] for role in engine.schema.roles if role in record}
        return found

    def _dropped_keys(self, engine: Engine, event_ids: set[str]) -> dict[str, dict[str, Any]]:
        """The same for events that only the lake holds, because the log was cut behind them."""
        if not event_ids or self.log.first_seq == 0:
            return {}
        self.past.close()  # look anew: the lake grew
        rows, roles = self.past.events(event_ids), engine.schema.roles
        return {i: {role: row[role] for role in roles if row.get(role) is not None} for i, row in rows.items()}

    # --- keeping and recovering

    def snapshot(self, engine: Engine) -> None:
        """Write the state as of the end of the log."""
        self._check_whole()
        if self._half_way is not None:
            self._mend(engine)
        self.log.sync()
        engine.usual.publish()
        arrays = {WINDOWS + name: array for name, array in engine.windows.snapshot().items()}
        arrays |= {USUAL + name: array for name, array in engine.usual.snapshot().items()}
        arrays |= {PASTS + name: array for name, array in engine.models.pasts.parts().items()}
        pasts = engine.models.pasts.digests()
        meta = snapshot.Meta(
            seq=self.log.next_seq, frame=self.log.next_number, rulebook=engine.rulebook.version, seed=self.seed.hex(),
            state_hash=engine.state_hash(pasts),
            extra={"features": meaning(engine.rulebook), "clock": int(engine.clock.value), "lists": engine.lists.entries(), "form": STATE_FORM}
            | ({"pasts": pasts} if pasts else {}),
        )  # fmt: skip
        snapshot.save(self.data / "state", arrays, meta, self.disk)
        self.snapshot_due = self.log.next_seq + SNAPSHOT_EVERY

    @property
    def snapshot_is_due(self) -> bool:
        return self.log.next_seq >= self.snapshot_due

    def snapshot_when_due(self, engine: Engine) -> None:
        """A snapshot every so often; without room for it the answers, which are on disk already, are still given."""
        if not self.snapshot_is_due:
            return
        try:
            self.snapshot(engine)
            self.trouble = None
        except StoreFull as error:
            self.trouble, self.snapshot_due = error, self.log.next_seq + SNAPSHOT_AGAIN

    def replay(self, engine: Engine, tables: bool = False) -> Replay:
        """Bring an empty engine to the end of what the log holds on disk."""
        found = snapshot.load(self.data / "state", self.disk, upto=self.log.next_number)
        replay = Replay(engine, self.vault.tables if tables else None)
        replay.begin(found, self.log.first_seq)
        self.catch_up(replay)
        return replay

    def catch_up(self, replay: Replay) -> None:
        """What is on disk and the replay has not seen."""
        start = replay.number
        replay.take(self.log.replay(from_seq=0 if start else self.log.first_seq, from_number=start))

    def recover(self, engine: Engine) -> None:
        """Bring an empty engine to the end of the log, and say in the log which rulebook is in force."""
        replay = self.replay(engine, tables=True)
        known = self.log.first_seq if replay.snapshot_seq is None else replay.snapshot_seq
        self.snapshot_due = known + SNAPSHOT_EVERY
        engine.seq = self.log.next_seq
        engine.usual.publish()
        self.switch(engine)
        self.snapshot_when_due(engine)  # after a long replay, so that the next one is short

    # --- which rulebook

    def switch(self, engine: Engine, by: str = "") -> None:
        """Say in the log which rulebook and models are in force from here on, when they changed; `by` is who asked the running server for it."""
        version, before, models = engine.rulebook.version, in_force(self.data, self.disk), engine.models.versions
        if (before.version, before.models) == (version, models):
            return
        self.keep_rulebook(engine.rulebook)
        earlier = before.version if before.version != version else before.before
        meta = {"rulebook": version, "before": earlier, "columns": columns_of(engine.rulebook.schema), "models": models}
        self._log(Frame("switch", self.log.next_seq, int(engine.clock.value), meta=meta))
        self.log.sync()
        now = InForce(version, earlier, by, models)
        write_whole(self.disk, self.data / "state" / "rulebook", [msgspec.json.encode(now)])

    def keep_rulebook(self, rulebook: Rulebook) -> None:
        """The text of every rulebook that was ever in force, so that an old decision can still be explained."""
        folder = self.data / "state" / "rulebooks"
        path = folder / f"{rulebook.version}.json"
        if not self.disk.exists(path):
            self.disk.make_folder(folder)
            write_whole(self.disk, path, [msgspec.json.encode(rulebook.files, order="deterministic")])

    def close(self, engine: Engine) -> None:
        """Snapshot, and let another process have the folder."""
        with self._opened:
            if self._failure is None:
                self.snapshot(engine)

    def release(self) -> None:
        """Let another process have the folder; what was not written stays unwritten."""
        self._opened.close()


class InForce(msgspec.Struct, frozen=True):
    """Which rulebook decides, which did before, and who switched to it while the server ran ("": it was there at the start)."""

    version: str = ""
    before: str = ""
    by: str = ""
    models: dict[str, str] = {}  # name -> version


def in_force(data: Path, disk: Disk = REAL) -> InForce:
    """The rulebook in force in a data folder; all empty in a new one."""
    path = data / "state" / "rulebook"
    text = bytes(disk.read(path)) if disk.exists(path) else b"{}"
    return msgspec.json.decode(text, type=InForce) if text.startswith(b"{") else InForce(text.decode().split()[0])


def kept_rulebook(data: Path, version: str, disk: Disk = REAL) -> Rulebook | None:
    """A rulebook that was in force in a data folder, or None."""
    from shopward.declare.rulebook import Rulebook

    path = data / "state" / "rulebooks" / f"{version}.json"
    return Rulebook.from_files(msgspec.json.decode(bytes(disk.read(path)))) if disk.exists(path) else None


class Tail:
    """Frames as they are appended, for an engine that is catching up.

    torn  so many came that some were let go: read them from the log
    """

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        self._bytes, self.torn = 0, False

    def add(self, frame: Frame) -> None:
        self._bytes += frame.size
        if self._bytes > TAIL_BYTES:
            self._frames.clear()
            self.torn = True
        elif not self.torn:
            self._frames.append(frame)

    @property
    def waiting(self) -> int:
        return len(self._frames)

    def frames(self) -> Iterator[Frame]:
        """What came so far and was not given before."""
        while self._frames:
            frame = self._frames.popleft()
            self._bytes -= frame.size
            yield frame


def _stored(row: dict[str, Any] | None) -> Decision | None:
    """A decision as the log keeps it; None for a label event."""
    if row is None:
        return None
    decision = msgspec.convert(row, Decision)
    return msgspec.structs.replace(
        decision, evidence=tuple(decision.evidence), shadow_evidence=tuple(decision.shadow_evidence)
    )


def _line(event: dict[str, Any]) -> bytes:
    """An event as it is written to the log. Raises BadEvent naming the field that could not be read back from there."""
    for name, value in event.items():
        if isinstance(value, _NESTS) and _deeper(value, MAX_DEPTH - 1):
            raise BadEvent(f"nested deeper than {MAX_DEPTH} levels", field=str(name)[:80])
    try:
        line = canonical([event])
    except (TypeError, ValueError, OverflowError) as error:
        raise _unwritable(event, error) from None
    if len(line) > MAX_RECORD:
        raise BadEvent(f"larger than a record may be ({len(line):,} bytes; at most {MAX_RECORD:,})")
    return line


def _read_back(lines: list[bytes]) -> tuple[list[dict[str, Any]], list[bytes]]:
    return [msgspec.json.decode(line) for line in lines], lines


_NESTS = (list, tuple, set, frozenset, Mapping)


def _deeper(value: Any, levels: int) -> bool:
    """Are there more than `levels` levels below this one?"""
    items = value.values() if isinstance(value, Mapping) else value
    return any(isinstance(item, _NESTS) and (not levels or _deeper(item, levels - 1)) for item in items)


def _unwritable(event: dict[str, Any], error: Exception) -> BadEvent:
    for name, value in event.items():
        try:
            canonical([{name: value}])
        except (TypeError, ValueError, OverflowError):
            shown = str(name).encode("ascii", "backslashreplace").decode()[:80]
            what = "not valid Unicode" if isinstance(error, UnicodeError) else "a value or a name that JSON cannot hold"
            return BadEvent(what, field=shown)
    return BadEvent("a record that JSON cannot hold")


def _content(line: bytes) -> int:
    return siphash128(line, _NO_SEED)[0]


def _usable_labels(engine: Engine, rows: list[dict[str, Any]]) -> tuple[list[Label], list[dict[str, Any]]]:
    """The labels of rows, and the rows (counted from 1) that are none."""
    labels, refused = [], []
    for i, row in enumerate(rows, 1):
        try:
            label = Label.read(row)
            if label.ts > max(engine.clock.latest(), int(engine.clock.value)):
                raise BadEvent(f"in the future ({format_time(label.ts)}); tell it once it is known", field="label_ts")
            labels.append(label)
        except BadEvent as wrong:
            refused.append({"row": i, "error": str(wrong)})
    return labels, refused
