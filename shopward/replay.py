"""From the log back to an engine's memory: the newest snapshot that fits, then every frame after it.

State is a function of the log. So the memory of an engine can be built again at any time: at a start, after a batch that failed
half-way, beside the running engine for a new rulebook, or in a second process that follows the log and waits to take over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace as changed
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from shopward.errors import CorruptStore, UsageError
from shopward.hashing import canonical_text
from shopward.ingest import Normaliser
from shopward.ingest.arrivals import Arrivals
from shopward.lists import Entry
from shopward.store.frames import Frame

if TYPE_CHECKING:
    from shopward.decide import Engine
    from shopward.declare.rulebook import Rulebook
    from shopward.store.snapshot import Snapshot
    from shopward.store.tables import Tables

WINDOWS, USUAL, PASTS = "windows.", "usual.", "pasts."  # what the arrays of a snapshot belong to
TOGETHER = 4_096  # events of the log that move state at once
LARGE = 16 << 20  # bytes of a frame after which no more is gathered
STATE_FORM = 1  # of state and its hash: a snapshot of another form is passed over, and the log says it all again


class Replay:
    """Brings one engine along a log.

    number  the next frame it wants
    lists   the first frame whose list writes it lacks (those before are in the snapshot)
    whole   the first frame that moves everything: those before move only the histories that the snapshot lacks (`young`)
    tables  where list entries of people go, too, or None
    """

    def __init__(self, engine: Engine, tables: Tables | None = None):
        self.engine, self.tables = engine, tables
        self.number = self.lists = self.whole = 0
        self.young: set[str] = set()
        self.snapshot_seq: int | None = None  # up to where a snapshot saved the work
        self._gathered: list[Frame] = []
        self._events = 0

    def begin(self, found: Snapshot | None, first_seq: int) -> None:
        """Take over what a snapshot knows: clock and lists, and windows and histories if they still mean the same.

        `first_seq` is the oldest event of the log; a log that is whole says everything itself.
        """
        same = found is not None and found.meta.extra["features"] == meaning(self.engine.rulebook)
        same = same and found.meta.extra.get("form", STATE_FORM) == STATE_FORM  # type: ignore[union-attr]
        if found is None or not (same or first_seq > 0):
            return
        restore(self.engine, found, same)
        self.lists = found.meta.frame
        if same:
            self.whole = found.meta.frame
            self.young = self.engine.models.pasts.meanings - found.meta.extra.get("pasts", {}).keys()
        if same and not self.young:
            self.number, self.snapshot_seq = found.meta.frame, found.meta.seq

    def take(self, frames: Iterable[Frame]) -> None:
        """Move over frames; those taken before are passed over."""
        for frame in frames:
            if frame.number < self.number:
                continue
            self.number = frame.number + 1
            if self._events + frame.n > TOGETHER or frame.number == self.whole:
                self._move()
            if frame.n:
                self._gathered.append(frame)
                self._events += frame.n
            if not frame.n or frame.writes or len(frame.events) > LARGE:
                self._move()
                self._after(frame, frame.number >= self.lists)
        self._move()

    def _move(self) -> None:
        """Move state over the events gathered; what was decided is not decided again."""
        gathered, self._gathered, self._events = self._gathered, [], 0
        if not gathered:
            return
        engine = self.engine
        for block, frames in _blocks(gathered):
            arrived = self._reader.take(block)
            assert arrived.chunk is not None
            t = np.concatenate([frame.t for frame in frames])
            if arrived.chunk.n != len(t):
                raise CorruptStore(f"frame {frames[0].number} of the log: {len(t)} times, {arrived.chunk.n} events")
            batch = arrived.chunk.batch(frames[0].seq0, t)
            if frames[0].number < self.whole:
                engine.models.pasts.update(batch, self.young)
            else:
                engine.compute(batch)
        engine.clock.value = max(int(engine.clock.value), *(frame.clock for frame in gathered))

    def _after(self, frame: Frame, lists: bool) -> None:
        """What was written to lists is written again."""
        engine = self.engine
        engine.clock.value = max(int(engine.clock.value), frame.clock)
        if lists and frame.writes:
            entries = [Entry.of(write) for write in frame.writes]
            engine.apply_entries(entries)
            if frame.kind == "lists" and self.tables is not None:
                self.tables.write_lists(entries, frame=frame.number)

    @cached_property
    def _reader(self) -> Arrivals:
        engine = self.engine
        normaliser = Normaliser.of(engine.rulebook, settled=True)
        return Arrivals(normaliser, engine.needs, engine.seed, self._slow, lines=False, most=TOGETHER)

    def _slow(self, line: bytes) -> tuple[dict[str, Any], bytes]:
        """An event that columns cannot be read of, as it stands in the log."""
        record = msgspec.json.decode(line)
        _check_type(self.engine, record["type"])
        texts = self._reader.texts
        return {
            name: canonical_text(v) if name in texts and v.__class__ is not str else v for name, v in record.items()
        }, line


def _blocks(frames: list[Frame]) -> Iterator[tuple[bytes, list[Frame]]]:
    """The lines of all frames; a frame that is too large for one block alone."""
    if len(frames) == 1 and frames[0].n > TOGETHER:
        frame, lines = frames[0], frames[0].lines()
        for start in range(0, frame.n, TOGETHER):
            part = changed(frame, seq0=frame.seq0 + start, t=frame.t[start : start + TOGETHER])
            yield b"\n".join(lines[start : start + TOGETHER]), [part]
    else:
        yield b"".join(bytes(frame.events) for frame in frames), frames


def restore(engine: Engine, found: Snapshot, windows: bool) -> None:
    """Put a snapshot's clock and lists into an empty engine, and its windows and histories where they fit."""
    if found.meta.seed != engine.seed.hex():
        raise CorruptStore(f"{found.path}: made with another hash seed than this data folder")
    engine.clock.value = found.meta.extra["clock"]
    engine.lists.restore(found.meta.extra["lists"])
    if windows:
        engine.windows.restore(_arrays(found, WINDOWS))
        engine.usual.restore(_arrays(found, USUAL))
        engine.usual.publish()
        engine.seq = found.meta.seq
        pasts = engine.models.pasts
        pasts.fill(_arrays(found, PASTS))
        told = found.meta.extra.get("pasts", {})
        mine = {meaning: digest for meaning, digest in pasts.digests().items() if meaning in told}
        if engine.state_hash(told | mine) != found.meta.state_hash:
            raise CorruptStore(f"{found.path}: the state does not have the hash it was saved with")


def _arrays(found: Snapshot, prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in found.arrays.items() if name.startswith(prefix)}


def _check_type(engine: Engine, kind: str) -> None:
    if kind not in engine.schema.types:
        raise UsageError(
            f"the log holds events of type `{kind}`, which the rulebook no longer has; "
            "name it in `types` of schema.yaml again (no rule needs to use it)"
        )


def meaning(rulebook: Rulebook) -> str:
    """A hash of everything feature state depends on: two rulebooks that differ only in rules and in words share it."""
    fields = {name: changed(field, doc="") for name, field in rulebook.schema.fields.items()}
    parts = [repr(changed(rulebook.schema, fields=fields, observed=())), repr(rulebook.policy.lateness_ms)]
    parts += [repr(changed(f, file="", line=0, doc="")) for f in rulebook.features.values()]
    return sha256("\n".join(parts).encode()).hexdigest()[:16]
