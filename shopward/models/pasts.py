"""The histories that deployed networks read, kept as events are decided: the same rows in the same order as the training table saw.

    a batch -> the last events of the entity of each of its events, as it was met -> its own events join, observed ones too, labels never

Models that remember the same things share one history. Everything here is a function of the events and their order (see `history.py`),
so one event, a micro-batch, a restart and a replay agree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from shopward.batch import LABEL, Batch, Needs
from shopward.errors import UsageError
from shopward.expr.place import suggest
from shopward.models.history import History, Past
from shopward.models.lanes import Lane, lane_of

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook
    from shopward.models.scorer import Scorer


class Pasts:
    """What the models of a panel remember; false when none remembers anything."""

    def __init__(self, rulebook: Rulebook, names: Iterable[str], scorers: Iterable[Scorer], on: Iterable[Collection[int]], seed: bytes):  # fmt: skip
        self.by_meaning: dict[str, Memory] = {}
        self.by_model: list[Memory | None] = []
        for name, scorer, types in zip(names, scorers, on, strict=True):
            past: Past | None = getattr(scorer, "past", None)
            self.by_model.append(None if past is None else self._memory(name, past, types, rulebook, seed))

    def _memory(self, model: str, past: Past, on: Collection[int], rulebook: Rulebook, seed: bytes) -> Memory:
        memory = self.by_meaning.get(past.meaning)
        if memory is None:
            memory = self.by_meaning[past.meaning] = Memory(model, past, rulebook, seed)
        memory.asked[list(on)] = True
        return memory

    def __bool__(self) -> bool:
        return bool(self.by_meaning)

    @property
    def meanings(self) -> set[str]:
        return set(self.by_meaning)

    @property
    def entities(self) -> dict[str, str]:
        """What reasons call a history -> whose it is."""
        return {memory.past.feature: memory.past.entity for memory in self.by_meaning.values()}

    def needs(self) -> Needs:
        """The columns of events that are remembered."""
        found = Needs()
        for memory in self.by_meaning.values():
            found |= memory.needs
        return found

    def update(self, batch: Batch, only: Collection[str] | None = None) -> None:
        """Show what was known at each event of a batch, and remember its events; `only` those histories, where it is given."""
        for meaning, memory in self.by_meaning.items():
            if only is None or meaning in only:
                memory.update(batch)

    def of(self, k: int, rows: np.ndarray) -> np.ndarray | None:
        """The past float32[m, steps + 1, values] of some rows of the latest batch, for model k; None where it reads none."""
        memory = self.by_model[k]
        return None if memory is None else memory.of(rows)

    # --- snapshots

    def parts(self) -> dict[str, np.ndarray]:
        """State as arrays for a snapshot."""
        return {
            f"{m}.{name}": part
            for m, memory in self.by_meaning.items()
            for name, part in memory.history.parts().items()
        }

    def fill(self, parts: Mapping[str, np.ndarray]) -> None:
        """Take over the histories that `parts` tells and somebody still reads."""
        for meaning, memory in self.by_meaning.items():
            mine = {name.removeprefix(f"{meaning}."): x for name, x in parts.items() if name.startswith(f"{meaning}.")}
            if mine:
                memory.history.fill(mine)

    def digests(self) -> dict[str, str]:
        """meaning -> a digest of the history: equal for equal streams, however they were cut into batches."""
        return {meaning: memory.digest() for meaning, memory in sorted(self.by_meaning.items())}


class Memory:
    """One history, and how events enter it."""

    def __init__(self, model: str, past: Past, rulebook: Rulebook, seed: bytes):
        self.past = past
        self.roles = [_role(model, role, rulebook) for role in (past.entity, *past.roles)]
        self.lanes = [_value(model, name, past, rulebook, seed) for name in past.names]
        self.history = History(past.steps, len(past.names), len(past.roles))
        self.asked = np.zeros(len(rulebook.schema.types), np.bool_)  # by type code: somebody scores such events
        self.rows, self.shown = np.empty(0, np.int64), np.empty((0, past.steps + 1, past.width), np.float32)

    @property
    def needs(self) -> Needs:
        fields = [one for one in self.lanes if one.kind == "field"]
        return Needs(
            numbers=frozenset(one.name for one in fields if not one.text),
            hashes=frozenset(one.name for one in fields if one.text) | frozenset(self.roles),
        )

    def update(self, batch: Batch) -> None:
        rows = np.flatnonzero(batch.types != LABEL)
        at = slice(None) if len(rows) == batch.n else rows
        wanted = self.asked[batch.types[at]]
        values = np.empty((len(rows), len(self.lanes)))
        for k, one in enumerate(self.lanes):
            values[:, k] = one.column(batch, None)[at]
        keys = np.empty((len(rows), len(self.roles)), np.int64)
        for k, role in enumerate(self.roles):
            keys[:, k] = batch.hashes[role][at, 0]
        self.rows = rows[wanted]
        self.shown = self.history.take(keys[:, 0].copy(), batch.ts[at].copy(), values, keys[:, 1:].copy(), wanted)

    def of(self, rows: np.ndarray) -> np.ndarray:
        return self.shown if len(rows) == len(self.rows) else self.shown[np.searchsorted(self.rows, rows)]

    def digest(self) -> str:
        digest = sha256()
        for name, part in self.history.parts().items():
            digest.update(f"{name}:{part.nbytes};".encode())
            digest.update(part.view(np.uint8).data)
        return digest.hexdigest()


def _role(model: str, role: str, rulebook: Rulebook) -> str:
    roles = rulebook.schema.roles
    if role not in roles:
        raise UsageError(f"model `{model}` reads the last events of an entity, and its role `{role}` is none here; {suggest(role, roles)}")  # fmt: skip
    return role


def _value(model: str, name: str, past: Past, rulebook: Rulebook, seed: bytes) -> Lane:
    """How a value of past events is read. Raises UsageError where it is not what it was in training."""
    texts = past.texts or {}
    found = lane_of(model, name, texts, rulebook, seed)
    if found.kind == "feature" or found.text != (name in texts):
        now = "a feature" if found.kind == "feature" else "a text" if found.text else "a number"
        was = "a text" if name in texts else "a number"
        raise UsageError(
            f"model `{model}` reads `{name}` of past events as a field that is {was}, and here it is {now}: train it again"
        )
    return found


def check(model: str, past: Past, rulebook: Rulebook) -> None:
    """Raises UsageError where a rulebook's events cannot be remembered as they were in training."""
    Memory(model, past, rulebook, bytes(16))
