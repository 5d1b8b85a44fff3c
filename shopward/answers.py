"""The answers to a block of events, as the lines that go out and as what the log keeps, most of them written without an object."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np

from shopward.decision import Decision, Decisions
from shopward.errors import BadEvent
from shopward.store.frames import short_row
from shopward.store.packing import NOTHING, OWN, QUIET, Told, json_rows, packed_rows

if TYPE_CHECKING:
    from shopward.ingest.arrivals import Arrived
    from shopward.ingest.chunk import Chunk
    from shopward.ingest.texts import Text
    from shopward.rules.compile import Rules

_json = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode


class Answers:
    """Answers to the `n` records of a block.

    wrong     row -> why the record was refused
    text      bytes of all answers, one line each; offsets[i] to offsets[i + 1] is that to row i, empty where it was refused
    seen      rows of events that are only observed
    loud      the decisions that say more than `allow`; quiet: how many say just that; observed: how many events are not decided on
    """

    def __init__(self, arrived: Arrived, chunk: Chunk | None, rules: Rules):
        self.n, self.at, self.line, self.wrong = arrived.n, arrived.at, arrived.line, dict(arrived.wrong)
        self.rows, self.chunk, self.rules = arrived.rows, chunk, rules
        self.loud: list[Decision] = []
        self.quiet = self.observed = 0
        self.seen: set[int] = set()
        self._own: dict[int, bytes] = {}  # by row of the chunk
        self._written: tuple[bytes, np.ndarray] | None = None

    @classmethod
    def of_each(cls, arrived: Arrived, found: list[Any], rules: Rules) -> Answers:
        """From a Decision, a BadEvent or None (observed) for each event."""
        answers = cls(arrived, arrived.chunk, rules)
        for i, answer in enumerate(found):
            if isinstance(answer, BadEvent):
                answers.wrong[int(answers.rows[i])] = answer
                answers._own[i] = b""
            else:
                answers._tell(i, answer)
        return answers

    def id_of(self, i: int) -> str:
        assert self.chunk is not None
        return str(self.chunk.ids.one(i))

    def add(self, fresh: np.ndarray, decisions: Decisions) -> bytes:
        """The decisions on these rows of the chunk; returns them as the log packs them."""
        batch, n = decisions.batch, decisions.batch.n
        ids = cast("Text", batch.event_ids)
        kind = np.full(n, NOTHING, np.int8)
        loud = decisions.hits.any(axis=1) | decisions.control | (ids.starts[decisions.rows] < 0)
        if decisions.scored is not None:
            loud[:] = True
        kind[decisions.rows] = np.where(loud, OWN, QUIET)
        for row in np.flatnonzero(kind == NOTHING).tolist():
            self._tell(int(fresh[row]), None)
        own = []
        for i in np.flatnonzero(loud).tolist():
            decision = decisions[i]
            self._tell(int(fresh[decisions.rows[i]]), decision)
            own.append(_pack(short_row(decision)))
        self.quiet += int(np.count_nonzero(kind == QUIET))
        return packed_rows(self.rules.version, Told(kind, own), batch.ts, batch.types, self.rules.schema.types)

    def repeat(self, told: dict[int, Decision | None]) -> None:
        """Answers given before, by row of the chunk."""
        for i, decision in told.items():
            self._tell(i, decision)

    def _tell(self, i: int, decision: Decision | None) -> None:
        if decision is None:
            assert self.chunk is not None
            self.observed += 1
            self.seen.add(int(self.rows[i]))
            kind = self.rules.schema.types[self.chunk.types[i]]
            self._own[i] = _json({"event_id": self.id_of(i), "type": kind, "decision": None})
        else:
            self.loud.append(decision)
            self._own[i] = _json(decision)

    def written(self) -> tuple[bytes, np.ndarray]:
        """(text, offsets int64[n + 1])."""
        if self._written is None:
            self._written = self._write()
        return self._written

    def _write(self) -> tuple[bytes, np.ndarray]:
        chunk = self.chunk
        offsets = np.zeros(self.n + 1, np.int64)
        if chunk is None:
            return b"", offsets
        kind = np.full(chunk.n, QUIET, np.int8)
        kind[list(self._own)] = OWN
        gone = [i for i, text in self._own.items() if not text]
        kind[gone] = NOTHING
        own = [self._own[i] for i in np.flatnonzero(kind == OWN).tolist()]
        before, between, after = _template(self.rules.version)
        ids = cast("Text", chunk.ids)
        text, found = json_rows(
            before, between, after, Told(kind, own), ids, chunk.ts, chunk.types, self.rules.schema.types
        )
        sizes = np.zeros(self.n, np.int64)
        sizes[self.rows] = np.diff(found)
        np.cumsum(sizes, out=offsets[1:])
        return text[: found[-1]].tobytes(), offsets


@lru_cache(64)
def _template(version: str) -> tuple[bytes, bytes, bytes]:
    """What stands before the id, between id and time, and behind the type of a decision that says `allow` and nothing more."""
    text = _json(Decision(event_id="?", ts=0, type="?", action="allow", rulebook_version=version))
    before, between, after = text.split(b"?")
    return before, between.removesuffix(b'0,"type":"'), after
