"""Events as they arrive over a wire or lie in the log: a block of NDJSON becomes columns and canonical lines without building an
object for an ordinary event. Every other event is read whole by whoever knows what it means, and takes its row among them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from shopward.batch import LABEL, Needs
from shopward.errors import BadEvent
from shopward.event import LABEL_FIELDS
from shopward.ingest import canonical
from shopward.ingest.assemble import Assembler, Cover, Raw, Spans, _Work
from shopward.ingest.blocks import Fields
from shopward.ingest.canonical import Written, address
from shopward.ingest.chunk import Chunk
from shopward.ingest.dead import DeadLetters
from shopward.ingest.normalise import Normaliser
from shopward.ingest.scan import NEWLINE, PADDING, ROOM, scan_ndjson
from shopward.ingest.texts import Digits, Nothing, Text

MOST = 2_048  # events of one block
UNKNOWN = 3  # the row of `Fields.lines` that says whether a record has a field nobody knows
Slow = Callable[[bytes], tuple[dict[str, Any], bytes]]  # a record -> the event and its canonical line; raises BadEvent


_decode = msgspec.json.Decoder(dict[str, Any]).decode


def parsed(raw: bytes) -> dict[str, Any]:
    """The JSON object in `raw`. Raises BadEvent saying what it is instead."""
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadEvent(f"not a JSON object: {error}") from None
    except RecursionError:
        raise BadEvent("not a JSON object: nested too deeply") from None


@dataclass(slots=True)
class Arrived:
    """What a block held.

    n        records of the block, lines that hold nothing aside
    at       int64[n], where each begins in the block, in bytes
    line     int64[n], its line, counted from 0
    wrong    row -> why the record is no event
    rows     int64[m], the rows that are events, in order
    chunk    these m events as columns
    lines    their canonical lines, each with its newline
    """

    n: int
    at: np.ndarray
    line: np.ndarray
    wrong: dict[int, BadEvent]
    rows: np.ndarray
    chunk: Chunk | None
    lines: Text


class Arrivals(Assembler):
    """Reads blocks for one rulebook. `slow` reads what is not ordinary; with `lines` False canonical lines are not wanted (they come
    from the log, and are that already)."""

    def __init__(
        self,
        normaliser: Normaliser,
        needs: Needs,
        seed: bytes,
        slow: Slow,
        cover: Cover | None = None,
        *,
        lines: bool = True,
        most: int = MOST,
    ):
        dead = DeadLetters()
        dead.noted = normaliser.notes
        super().__init__(normaliser, needs, seed, dead, cover=cover)
        self.slow, self.wants_lines = slow, lines
        if lines:
            self.read = self.read | frozenset(self.fields)
        self.plan = _Scan(self, most)
        self.awkward = self._awkward()
        self.made = [f.name for f in self.fields.values() if f.derive is not None or f.name in self.schema.constants]
        self.texts = {f.name for f in self.fields.values() if f.type == "string"} | {"event_id"}
        self.wrong: dict[int, BadEvent] = {}

    def _awkward(self) -> bool:
        """Does the schema fill in values that can only be written by the slow path?"""
        plain = all(name == "type" or self.fields[name].type == "string" for name in self.schema.constants)
        return not plain or any(f.digits > canonical.SMALL for f in self.fields.values())

    def take(self, block: bytes) -> Arrived:
        """The events of a block of at most MOST lines."""
        raw = self.plan.scan(block)
        at, line = self.plan.places(raw.n)
        nothing = Text(np.zeros(PADDING, np.uint8), np.empty(0, np.int64), np.empty(0, np.int64))
        if not raw.n:
            return Arrived(0, at, line, {}, np.empty(0, np.int64), None, nothing)
        self.wrong, self.lines = {}, nothing
        if self.wants_lines:
            self._mark(raw)
        chunk = self.assemble(raw)
        rows = np.arange(raw.n)
        if self.wrong:
            rows = np.delete(rows, list(self.wrong))
            self.lines = self.lines.take(rows)
        return Arrived(raw.n, at, line, self.wrong, rows, chunk, self.lines)

    def _mark(self, raw: Raw) -> None:
        """Records that are written to the log in another way than field by field."""
        odd = raw.odd
        odd[self.plan.fields.lines[UNKNOWN, : raw.n] > 0] = 1
        for name in ("event_id", "seq", *LABEL_FIELDS):
            column = raw.columns.get(name)
            if name == "event_id":
                odd[:] |= 1 if column is None else column.forms == canonical.ABSENT  # type: ignore[union-attr]
            elif column is not None and (name != "seq" or name not in self.fields):
                odd[column.forms != canonical.ABSENT] = 1  # type: ignore[union-attr]
        if self.awkward:
            odd[:] = 1

    # --- steps of the recipe that differ

    def _unusual(self, work: _Work) -> None:
        super()._unusual(work)
        if self.wants_lines:
            work.raw.odd[work.types == LABEL] = 1  # no label is decided on; the slow path says so

    def _read_odd(self, work: _Work) -> np.ndarray | None:
        if self.wants_lines:
            self._write_lines(work)
        odd = np.flatnonzero(work.raw.odd)
        if not len(odd):
            return None
        self._own(work)
        out = np.zeros(work.raw.n, bool)
        for row in odd.tolist():
            try:
                event, line = self.slow(self.plan.line(row))
            except BadEvent as why:
                out[row] = True
                self.wrong[row] = why
            else:
                self._write(work, row, event, None)
                if self.wants_lines:
                    self.lines.set(row, line.decode())
        return out

    def _write_lines(self, work: _Work) -> None:
        odd = work.raw.odd
        for f in self.fields.values():
            if f.derive is not None and f.type in ("number", "list"):
                odd[[value is not None for value in self._python(work, f.name)]] = 1
        names = dict.fromkeys([*(work.raw.columns.keys() & self.fields.keys()), *self.made])
        columns = [
            self._written("event_id", "string", work),
            Written(canonical.WHOLE, "ts", work.ts),
            Written(canonical.CODE, "type", work.types),
            *(self._written(name, self.fields[name].type, work) for name in names if self._present(name, work)),
        ]
        self.lines = Text(*canonical.lines_of(columns, self.schema.types, odd))

    def _present(self, name: str, work: _Work) -> bool:
        if name in work.texts:
            return not isinstance(work.texts[name], Nothing)
        return name not in work.lists and (name in work.raw.columns or self.fields[name].derive is not None)

    def _written(self, name: str, kind: str, work: _Work) -> Written:
        match kind:
            case "string":
                given = work.texts[name]
                text = given.as_text() if isinstance(given, Digits | Nothing) else given
                assert isinstance(text, Text)
                if text.extra and (text.starts < -1).any():
                    text = text.packed()
                work.texts[name] = text  # its buffer must outlive the writing
                return Written(canonical.TEXT, name, base=address(text.buf), starts=text.starts, stops=_alike(text))
            case "number":
                spans = work.raw.columns.get(name)
                if isinstance(spans, Spans):
                    return Written(
                        canonical.NUMBER, name, work.values[name], address(spans.buf), spans.starts, spans.stops
                    )
                return Written(canonical.BOOL, name, np.full(work.raw.n, np.nan))
            case "bool":
                return Written(canonical.BOOL, name, work.values[name])
            case "time":
                return Written(canonical.MOMENT, name, work.values[name])
        return Written(canonical.MINOR, name, work.minor[name], digits=self.fields[name].digits)


def _alike(text: Text) -> np.ndarray:
    """The stops as the same kind of integers as the starts."""
    return text.stops if text.stops.dtype == text.starts.dtype else text.stops.astype(text.starts.dtype)


class _Scan:
    """The scanner's arrays, used again for every block."""

    def __init__(self, assembler: Assembler, most: int):
        self.assembler, self.fields, self.most = assembler, Fields(len(assembler.keys), most), most
        self._guess = np.full(len(assembler.words.lengths) + 1, -1, np.int32)
        self._room = np.empty(ROOM, np.uint8)
        self._buf = np.empty(0, np.uint8)

    def scan(self, block: bytes) -> Raw:
        """The records of a block."""
        words, fields, size = self.assembler.words, self.fields, len(block)
        buf = self._buf = np.empty(size + PADDING, np.uint8)
        buf[:size] = np.frombuffer(block, np.uint8)
        buf[size:] = NEWLINE
        rows, at, _ = scan_ndjson(
            buf, 0, size, True, words.place, words.values, self.assembler.begins.place, self._guess, fields.starts, fields.stops,
            fields.forms, fields.seen, fields.status, fields.lines, self._room,
        )  # fmt: skip
        if at < size and bytes(block[at:]).strip():
            raise ValueError(f"more than {self.most} lines in one block")
        odd = (fields.status[:rows] > 0).astype(np.uint8)
        columns = fields.columns(self.assembler.keys, buf, rows)
        return Raw("", rows, columns, odd, fields.lines[2, :rows], _never, _never, str)

    def places(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        return self.fields.lines[0, :n].copy(), self.fields.lines[2, :n].copy()

    def line(self, row: int) -> bytes:
        start, stop = self.fields.lines[:2, row].tolist()
        return self._buf[start:stop].tobytes()


def _never(row: int) -> Any:
    raise AssertionError("records are read by `slow`")
