"""One micro-batch as it lies in the log: what came in, what was decided, and a checksum over both.

A frame is a 56-byte header and a payload of six sections. `number` counts frames, `seq0` and `n` say which events it holds,
`settled` how much of the file was already forced to disk when the frame was written: that is what tells a torn tail (never
acknowledged, may be cut) from damage to something acknowledged (must never be skipped).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from shopward.store.files import Bytes

MAGIC = b"SWF1"
#                 magic crc  kind flags length n  spare number seq0 clock settled
HEADER = struct.Struct("<4s I H H I I I Q q q Q")
SECTIONS = struct.Struct("<6I")  # bytes of events, t, content, ids, decisions, extra
CHECKED = 8  # the checksum covers everything after it
KINDS = ("events", "switch", "lists")
YOUNGER = "written by a newer Shopward: open it with that version"
NO_INTS = np.empty(0, np.int64)
NEWLINE = 10

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
_json = msgspec.json.Encoder(order="deterministic")
_EMPTY_LIST = _pack([])
SHORT = 1  # flag: decisions are packed short (see `shortened`)
SAME: dict[str, Any] = {
    "action": "allow", "reasons": [], "score": None, "risk": None, "arm": "treated", "shadow": [], "labels": [], "evidence": [],
    "shadow_evidence": [], "model": None, "scores": None,
}  # fmt: skip
_EMPTY_EXTRA = _pack({})


@dataclass(frozen=True, slots=True)
class Frame:
    """A micro-batch (`events`), a change of what is in force (`switch`), or list writes from outside the stream (`lists`).

    events     canonical NDJSON, one line an event, personal values already replaced by pseudonyms
    t          int64[n], stamped time, ms UTC
    content    int64[n], a hash of each event as it was received, for telling duplicates from conflicts
    ids        packed list of the n event ids; `event_ids()` gives them as strings
    decisions  packed n decisions (None for a label event); `decided()` gives them as dicts
    writes     list writes that take effect after this frame's events: dicts of `list, key, valid_from, expires, ...`
    meta       for a switch: what is in force from here on, e.g. {"rulebook": "3f...", "columns": {...}}
    clock      the server's clock when the frame was closed, ms UTC

    >>> frame = Frame.of_events(0, 1000, [{"event_id": "e1", "type": "login"}], t=[990], ids=["e1"], decisions=[{"action": "allow"}])
    >>> frame.n, frame.event_ids(), frame.decided(), bytes(frame.events)
    (1, ['e1'], [{'action': 'allow'}], b'{"event_id":"e1","type":"login"}\\n')
    """

    kind: str
    seq0: int
    clock: int
    n: int = 0
    events: Bytes = b""
    t: np.ndarray = field(default_factory=lambda: NO_INTS)
    content: np.ndarray = field(default_factory=lambda: NO_INTS)
    ids: Bytes = _EMPTY_LIST
    decisions: Bytes = _EMPTY_LIST
    writes: tuple[dict[str, Any], ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)
    number: int = -1

    @classmethod
    def of_events(
        cls,
        seq0: int,
        clock: int,
        events: Bytes | Sequence[dict],
        t: Sequence[int] | np.ndarray,
        ids: Sequence[str],
        decisions: Sequence[Any] = (),
        content: Sequence[int] | np.ndarray | None = None,
        writes: Sequence[dict[str, Any]] = (),
    ) -> Frame:
        """A frame of events. `decisions` may be structs or dicts; `content` defaults to hashes of the canonical lines."""
        lines = events if isinstance(events, Bytes) else canonical(events)
        stamped = np.ascontiguousarray(t, np.int64)
        hashed = content_hashes(lines, len(stamped)) if content is None else np.ascontiguousarray(content, np.int64)
        if not len(stamped) == len(ids) == len(hashed):
            raise ValueError(f"{len(stamped)} times, {len(ids)} ids and {len(hashed)} contents are not one batch")
        if decisions and len(decisions) != len(ids):
            raise ValueError(f"{len(decisions)} decisions for {len(ids)} events (use None for label events)")
        packed = _pack(list(ids)), _pack(shortened(list(decisions), ids))
        return cls("events", seq0, clock, len(stamped), lines, stamped, hashed, *packed, tuple(writes))

    @property
    def size(self) -> int:
        """About how many bytes it takes in the log."""
        return len(self.events) + len(self.ids) + len(self.decisions) + 16 * self.n + 200 * (1 + len(self.writes))

    def event_ids(self) -> list[str]:
        return _unpack(self.ids)

    def decided(self) -> list[dict | None]:
        found = _unpack(self.decisions)
        return found if isinstance(found, list) else _lengthened(found, self.event_ids())

    def records(self) -> list[dict[str, Any]]:
        """The events, parsed."""
        return msgspec.json.decode(b"[" + b",".join(self.lines()) + b"]")

    def lines(self) -> list[bytes]:
        return bytes(self.events).splitlines()


def shortened(decisions: list[Any], ids: Sequence[str]) -> Any:
    """Decisions without what most of them say alike: `{"version": ..., "rows": [...]}`.

    A row is None, `[type, ts]` where nothing fired and no model spoke, or what differs from SAME. Decisions that are not structs,
    or not of one rulebook and of these events, stay as they are.

    >>> from shopward.decision import Decision
    >>> quiet = Decision(event_id="e1", ts=5, type="login", action="allow", rulebook_version="v1")
    >>> shortened([quiet, None], ["e1", "e2"])
    {'version': 'v1', 'rows': [['login', 5], None]}
    """
    given = [(d, id) for d, id in zip(decisions, ids, strict=False) if d is not None]
    if not given or not all(isinstance(d, msgspec.Struct) and d.event_id == id for d, id in given):  # type: ignore[attr-defined]
        return decisions
    version = given[0][0].rulebook_version
    if any(d.rulebook_version != version for d, _ in given):
        return decisions
    return {"version": version, "rows": [None if d is None else short_row(d) for d in decisions]}


def short_row(d: Any) -> Any:
    """One decision as a row of `shortened`."""
    if (
        not (d.reasons or d.shadow)
        and d.scores is None
        and d.score is None
        and d.action == "allow"
        and d.arm == "treated"
    ):
        return [d.type, d.ts]
    row = msgspec.structs.asdict(d)
    return {k: v for k, v in row.items() if k not in ("event_id", "rulebook_version") and v != SAME.get(k) and v != ()}


def _lengthened(found: dict[str, Any], ids: list[str]) -> list[dict | None]:
    return [
        None if row is None else _long(row, id, found["version"]) for row, id in zip(found["rows"], ids, strict=True)
    ]


def _long(row: Any, event_id: str, version: str) -> dict[str, Any]:
    if isinstance(row, list):
        row = {"type": row[0], "ts": row[1]}
    same = {name: value[:] if isinstance(value, list) else value for name, value in SAME.items()}
    return {"event_id": event_id, "ts": 0, "type": "", **same, "rulebook_version": version} | row


def canonical(events: Sequence[dict]) -> bytes:
    """Events as NDJSON with sorted keys: the same event is always the same bytes.

    >>> canonical([{"b": 1, "a": "x"}])
    b'{"a":"x","b":1}\\n'
    """
    return _json.encode_lines(events)


def content_hashes(lines: Bytes, n: int) -> np.ndarray:
    """A 64-bit hash of each line of NDJSON, int64[n]; equal lines have equal hashes on every installation."""
    from shopward.hashing import hash_slices, seed_words

    text = np.frombuffer(lines, np.uint8)
    stops = np.flatnonzero(text == NEWLINE)
    if len(stops) != n or (len(text) and text[-1] != NEWLINE):
        raise ValueError(f"{len(stops)} lines for {n} events")
    starts = np.concatenate([[0], stops[:-1] + 1]).astype(np.int64) if n else stops
    out = np.empty((n, 2), np.int64)
    hash_slices(text, starts, stops, *seed_words(bytes(16)), out)
    return np.ascontiguousarray(out[:, 0])


def encode(frame: Frame, number: int, settled: int) -> list[Bytes]:
    """The frame as bytes to write, as parts."""
    extra = _pack({"writes": frame.writes, "meta": frame.meta}) if frame.writes or frame.meta else _EMPTY_EXTRA
    parts: list[Bytes] = [
        frame.events,
        frame.t.data.cast("B"),
        frame.content.data.cast("B"),
        frame.ids,
        frame.decisions,
        extra,
    ]
    table = SECTIONS.pack(*(len(part) for part in parts))
    length = len(table) + sum(len(part) for part in parts)
    flags = SHORT if _is_map(frame.decisions) else 0
    fields = KINDS.index(frame.kind), flags, length, frame.n, 0, number, frame.seq0, frame.clock, settled
    crc = zlib.crc32(HEADER.pack(MAGIC, 0, *fields)[CHECKED:])
    for part in (table, *parts):
        crc = zlib.crc32(part, crc)
    return [HEADER.pack(MAGIC, crc, *fields), table, *(part for part in parts if len(part))]


def _is_map(packed: Bytes) -> bool:
    return len(packed) > 0 and packed[0] & 0xF0 == 0x80  # msgpack's small map


@dataclass(frozen=True, slots=True)
class Header:
    """Where a frame lies in its file and which events it holds."""

    offset: int
    stop: int
    crc: int
    kind: int
    n: int
    number: int
    seq0: int
    clock: int
    settled: int
    known: bool  # can this version read it?


def header_at(data: Bytes, offset: int) -> Header | None:
    """The header at `offset`, or None where none can be.

    It may be of a kind that only a later version knows (`known` is false); that is no damage if its checksum is right.
    """
    if offset + HEADER.size + SECTIONS.size > len(data):
        return None
    magic, crc, kind, flags, length, n, spare, number, seq0, clock, settled = HEADER.unpack_from(data, offset)
    stop = offset + HEADER.size + length
    if magic != MAGIC or length < SECTIONS.size:
        return None
    return Header(
        offset,
        stop,
        crc,
        kind,
        n,
        number,
        seq0,
        clock,
        settled,
        known=kind < len(KINDS) and flags in (0, SHORT) and not spare,
    )


def whole(data: Bytes, header: Header | None) -> bool:
    """Is the frame completely there, bit for bit?"""
    if header is None or header.stop > len(data):
        return False
    return zlib.crc32(memoryview(data)[header.offset + CHECKED : header.stop]) == header.crc


def decode(data: Bytes, header: Header) -> Frame:
    """The frame behind a header that was found whole. Its events are a view of `data`, not a copy."""
    view = memoryview(data)
    at = header.offset + HEADER.size + SECTIONS.size
    parts = []
    for size in SECTIONS.unpack_from(data, header.offset + HEADER.size):
        parts.append(view[at : at + size])
        at += size
    events, t, content, ids, decisions, extra = parts
    more = _unpack(extra)
    return Frame(
        KINDS[header.kind], header.seq0, header.clock, header.n, events, _ints(t), _ints(content), ids, decisions,
        tuple(more.get("writes", ())), more.get("meta", {}), header.number,
    )  # fmt: skip


def frames_in(data: Bytes, offset: int = 0) -> Iterator[Header]:
    """Headers of the whole frames from `offset` on; ends at the first place where there is none."""
    header = header_at(data, offset)
    while header is not None and whole(data, header):
        yield header
        header = header_at(data, header.stop)


def survivor(data: Bytes, damage: int) -> Header | None:
    """A whole frame after `damage` that was written when the damaged place had already been forced to disk, if any."""
    tail, at = bytes(memoryview(data)[damage:]), 0
    while (at := tail.find(MAGIC, at + 1)) >= 0:
        header = header_at(data, damage + at)
        if header is not None and header.settled > damage and whole(data, header):
            return header
    return None


def _ints(view: memoryview) -> np.ndarray:
    return np.frombuffer(bytes(view), np.int64)
