"""From the log back to an engine's memory: the newest snapshot that fits, then every frame after it.

State is a function of the log. So the memory of an engine can be built again at any time: at a start, after a batch that failed
half-way, beside the running engine for a new rulebook, or in a second process that follows the log and waits to take over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace as changed
from hashlib import sha256
from typing import TYPE_CHECKING

from shopward.errors import CorruptStore, UsageError
from shopward.ingest import from_dicts
from shopward.lists import Entry
from shopward.store.frames import Frame

if TYPE_CHECKING:
    import numpy as np

    from shopward.decide import Engine
    from shopward.declare.rulebook import Rulebook
    from shopward.store.snapshot import Snapshot
    from shopward.store.tables import Tables

WINDOWS, USUAL = "windows.", "usual."  # what the arrays of a snapshot belong to
STATE_FORM = 1  # of state and its hash: a snapshot of another form is passed over, and the log says it all again


class Replay:
    """Brings one engine along a log.

    number  the next frame it wants
    lists   the first frame whose list writes it lacks (those before are in the snapshot)
    tables  where list entries of people go, too, or None
    """

    def __init__(self, engine: Engine, tables: Tables | None = None):
        self.engine, self.tables = engine, tables
        self.number = self.lists = 0
        self.snapshot_seq: int | None = None  # up to where a snapshot saved the work

    def begin(self, found: Snapshot | None, first_seq: int) -> None:
        """Take over what a snapshot knows: clock and lists, and the windows if they still mean the same.

        `first_seq` is the oldest event of the log; a log that is whole says everything itself.
        """
        same = found is not None and found.meta.extra["features"] == meaning(self.engine.rulebook)
        same = same and found.meta.extra.get("form", STATE_FORM) == STATE_FORM  # type: ignore[union-attr]
        if found is None or not (same or first_seq > 0):
            return
        restore(self.engine, found, same)
        self.lists = found.meta.frame
        if same:
            self.number, self.snapshot_seq = found.meta.frame, found.meta.seq

    def take(self, frames: Iterable[Frame]) -> None:
        """Move over frames; those taken before are passed over."""
        for frame in frames:
            if frame.number >= self.number:
                replay(self.engine, frame, frame.number >= self.lists, self.tables)
                self.number = frame.number + 1


def restore(engine: Engine, found: Snapshot, windows: bool) -> None:
    """Put a snapshot's clock and lists into an empty engine, and its windows where they fit."""
    if found.meta.seed != engine.seed.hex():
        raise CorruptStore(f"{found.path}: made with another hash seed than this data folder")
    engine.clock.value = found.meta.extra["clock"]
    engine.lists.restore(found.meta.extra["lists"])
    if windows:
        engine.windows.restore(_arrays(found, WINDOWS))
        engine.usual.restore(_arrays(found, USUAL))
        engine.usual.publish()
        engine.seq = found.meta.seq
        if engine.state_hash() != found.meta.state_hash:
            raise CorruptStore(f"{found.path}: the state does not have the hash it was saved with")


def _arrays(found: Snapshot, prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in found.arrays.items() if name.startswith(prefix)}


def replay(engine: Engine, frame: Frame, lists: bool, tables: Tables | None = None) -> None:
    """Move state over one frame: what was decided is not decided again, what was written to lists is written again."""
    if frame.n:
        records = frame.records()
        _check_types(engine, {record["type"] for record in records})
        batch = from_dicts(
            records, engine.rulebook, engine.needs, engine.seed, clock=engine.clock, seq0=frame.seq0, settled=True, t=frame.t
        )  # fmt: skip
        engine.compute(batch)
    engine.clock.value = max(int(engine.clock.value), frame.clock)
    if lists and frame.writes:
        entries = [Entry.of(write) for write in frame.writes]
        engine.apply_entries(entries)
        if frame.kind == "lists" and tables is not None:
            tables.write_lists(entries, frame=frame.number)


def _check_types(engine: Engine, types: set[str]) -> None:
    gone = sorted(types - set(engine.schema.types))
    if gone:
        raise UsageError(
            f"the log holds events of type `{gone[0]}`, which the rulebook no longer has; "
            "name it in `types` of schema.yaml again (no rule needs to use it)"
        )


def meaning(rulebook: Rulebook) -> str:
    """A hash of everything feature state depends on: two rulebooks that differ only in rules and in words share it."""
    fields = {name: changed(field, doc="") for name, field in rulebook.schema.fields.items()}
    parts = [repr(changed(rulebook.schema, fields=fields, observed=())), repr(rulebook.policy.lateness_ms)]
    parts += [repr(changed(f, file="", line=0, doc="")) for f in rulebook.features.values()]
    return sha256("\n".join(parts).encode()).hexdigest()[:16]
