"""The lake's tables, column by column: how events, decisions, findings and list writes become Arrow.

Names and types here are what people query for years, so a column never changes its type: what does not fit goes to `extra`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import numpy as np
import pyarrow as pa

from shopward.evidence import Evidence, identity
from shopward.lists import PART

if TYPE_CHECKING:
    from shopward.declare.types import Schema
    from shopward.store.frames import Frame

DAY_MS = 86_400_000
TIME = pa.timestamp("ms", "UTC")
TEXTS = pa.list_(pa.string())
KINDS: dict[str, pa.DataType] = {
    "string": pa.string(), "number": pa.float64(), "bool": pa.bool_(), "time": TIME, "list": TEXTS,
}  # fmt: skip
LABEL_COLUMNS = {"label": "number", "label_event": "string", "label_source": "string", "label_amount": "number"}
RESERVED = ("event_id", "ts", "type")

DECISIONS = pa.schema(
    {
        "seq": pa.int64(), "event_id": pa.string(), "ts": TIME, "type": pa.string(), "action": pa.string(),
        "score": pa.float64(), "risk": pa.float64(), "reasons": TEXTS, "arm": pa.string(), "shadow": TEXTS, "labels": TEXTS,
        "rulebook_version": pa.string(), "model": pa.string(), "scores": pa.map_(pa.string(), pa.float64()),
    }
)  # fmt: skip
FINDINGS = pa.schema(
    {
        "id": pa.string(), "source": pa.string(), "what": pa.string(), "entity": pa.string(), "feature": pa.string(),
        "value": pa.string(), "value_number": pa.float64(), "threshold": pa.string(), "usual": pa.string(),
        "event_ids": TEXTS, "techniques": TEXTS, "confidence": pa.float64(), "ts": TIME, "seq": pa.int64(), "written": TIME,
    }
)  # fmt: skip
LISTS = pa.schema(
    {
        "list": pa.string(), "key": pa.string(), "valid_from": TIME, "expires": TIME, "remove": pa.bool_(),
        "provenance": pa.string(), "seq": pa.int64(),
    }
)  # fmt: skip

Columns = dict[str, str]  # field -> string, number, bool, time, list or decimal:2


def columns_of(schema: Schema) -> Columns:
    """The lake's columns for a rulebook's schema. Money and decimals are exact.

    >>> from shopward.declare.types import Field, Schema
    >>> columns_of(Schema(("label", "pay"), {"card": Field("card", "string"), "amount": Field("amount", "money", digits=2)}))
    {'card': 'string', 'amount': 'decimal:2'}
    """
    return {f.name: f"decimal:{f.digits}" if f.type in ("money", "decimal") else f.type for f in schema.fields.values()}


def arrow_type(kind: str) -> pa.DataType:
    return pa.decimal128(18, int(kind.split(":")[1])) if kind.startswith("decimal:") else KINDS[kind]


def guessed(records: Iterable[dict[str, Any]], most: int = 200) -> Columns:
    """Columns for events whose schema nobody told: by the first value seen of each field.

    >>> guessed([{"event_id": "e1", "ts": 1, "type": "x", "amount": 2, "tags": ["a"]}])
    {'amount': 'number', 'tags': 'list'}
    """
    found: Columns = {}
    for record in records:
        for name, value in record.items():
            if name not in found and name not in RESERVED and name not in LABEL_COLUMNS and value is not None:
                found[name] = _kind_of(value)
    return dict(sorted(found.items())[:most])


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else "list" if isinstance(value, list) else "string"


def events_schema(columns: Columns) -> pa.Schema:
    """Columns of lake/events; `type` and `date` are in the path."""
    kinds = {k: v for k, v in columns.items() if k not in LABEL_COLUMNS} | LABEL_COLUMNS
    fields = {"seq": pa.int64(), "t": pa.int64(), "event_id": pa.string(), "ts": TIME}
    return pa.schema(fields | {name: arrow_type(kind) for name, kind in kinds.items()} | {"extra": pa.string()})


def events_table(rows: Sequence[tuple[int, int, str, dict[str, Any]]], schema: pa.Schema) -> pa.Table:
    """Events given as (seq, t, event_id, record)."""
    seqs, t, ids, records = zip(*rows, strict=True) if rows else ((), (), (), ())
    known = set(schema.names) | {"type"}
    present = set().union(*records) if records else set()
    left: list[dict[str, Any]] = [{} for _ in records]
    given = {"seq": pa.array(seqs, pa.int64()), "t": pa.array(t, pa.int64()), "event_id": pa.array(ids, pa.string())}
    if not present <= known - {"seq", "t", "extra"}:
        for rest, record in zip(left, records, strict=True):
            rest |= {k: v for k, v in record.items() if k not in known or k in ("seq", "t", "extra")}
    for column in schema:
        if column.name not in given and column.name != "extra":
            values = [r.get(column.name) for r in records] if column.name in present else None
            given[column.name] = pa.nulls(len(records), column.type) if values is None else _fit(values, column, left)
    given["extra"] = pa.array([_json(rest) if rest else None for rest in left], pa.string())
    return pa.table([given[name] for name in schema.names], schema=schema)


def _fit(values: list[Any], column: pa.Field, left: list[dict[str, Any]]) -> pa.Array:
    """The values as this column's type; those that do not fit are null here and kept in `left`."""
    try:
        return _array(values, column.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError, OverflowError):
        for i, value in enumerate(values):
            if not _fits(value, column.type):
                left[i][column.name], values[i] = value, None
        return _array(values, column.type)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    return _decimals(values, kind) if pa.types.is_decimal(kind) else pa.array(values, kind)


def _fits(value: Any, kind: pa.DataType) -> bool:
    try:
        _array([value], kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError, OverflowError):
        return False
    return True


def _decimals(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Numbers as exact decimals: 16-byte integers of minor units."""
    numbers = np.array([np.nan if v is None else v for v in values])
    if numbers.dtype.kind not in "fi":
        raise TypeError("not all are numbers")
    missing = np.isnan(numbers)
    minor = np.rint(np.where(missing, 0.0, numbers) * 10.0**kind.scale)
    if np.abs(minor).max(initial=0) >= 2**53:
        raise OverflowError("too large to be an exact amount")
    words = np.empty((len(values), 2), np.int64)
    words[:, 0] = minor
    words[:, 1] = words[:, 0] >> 63
    valid = pa.array(~missing).buffers()[1]
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(words)])


def decisions_table(rows: Sequence[tuple[int, dict[str, Any]]]) -> pa.Table:
    """Decisions given as (seq, decision)."""
    columns = {name: [decision.get(name) for _, decision in rows] for name in DECISIONS.names}
    return pa.table(columns | {"seq": [seq for seq, _ in rows]}, schema=DECISIONS)


def findings_table(rows: Sequence[tuple[int | None, int, dict[str, Any]]]) -> pa.Table:
    """Evidence given as (seq of the event that showed it, when it was written in ms, evidence as a dict)."""
    columns: dict[str, list] = {name: [row.get(name) for _, _, row in rows] for name in FINDINGS.names}
    columns["id"] = [row.get("id") or _identity(row) for _, _, row in rows]
    columns["value_number"] = [float(v) if _is_number(v) else None for v in columns["value"]]
    for name in ("value", "threshold", "usual"):
        columns[name] = [_told(v) for v in columns[name]]
    for name in ("event_ids", "techniques"):
        columns[name] = [[*(v or ())] for v in columns[name]]
    columns["confidence"] = [1.0 if v is None else v for v in columns["confidence"]]
    times = {"seq": [seq for seq, _, _ in rows], "written": [written for _, written, _ in rows]}
    return pa.table(columns | times, schema=FINDINGS)


def evidence_row(evidence: Evidence) -> dict[str, Any]:
    """Evidence as a row with its id; numbers of numpy become plain."""
    return {name: _plain(value) for name, value in msgspec.structs.asdict(evidence).items()} | {"id": evidence.id}


def evidence_of(row: dict[str, Any]) -> Evidence:
    """Evidence of a row of the view `findings`."""
    given = {name: row[name] for name in Evidence.__struct_fields__}
    given |= {name: _read(given[name]) for name in ("value", "threshold", "usual")}
    given["ts"] = round(given["ts"].timestamp() * 1000)
    return Evidence(**given | {name: tuple(given[name] or ()) for name in ("event_ids", "techniques")})


def findings_partition(source: str, day: int) -> str:
    """The folder of findings of one finder (`rule` of `rule:ring`) and day."""
    return f"finder={quote(source.split(':', 1)[0], safe='') or 'none'}/{_day(day)}"


def _identity(row: dict[str, Any]) -> str:
    return identity(
        row["source"],
        row["entity"],
        row.get("feature"),
        row["what"],
        row.get("value"),
        row.get("event_ids"),
        row.get("ts") or 0,
    )


def _told(value: Any) -> str | None:
    """A value as text: a text as it is, anything else (and a text that would be taken for something else) as JSON.

    >>> [_told(v) for v in ("> 5", 5, "5", [1, 9.5], True, float("nan"))]
    ['> 5', '5', '"5"', '[1,9.5]', 'true', None]
    """
    if value is None or value != value:
        return None
    return value if isinstance(value, str) and _read(value) is value else _json(value)


def _read(text: str | None) -> Any:
    try:
        return None if text is None else msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def lists_table(rows: Sequence[tuple[int, dict[str, Any]]]) -> pa.Table:
    """List writes given as (seq of the event that caused it, -1 when somebody wrote it by hand, write)."""
    columns: dict[str, list] = {name: [row.get(name) for _, row in rows] for name in LISTS.names}
    columns["key"] = [shown_key(key) for key in columns["key"]]
    columns["remove"] = [bool(flag) for flag in columns["remove"]]
    return pa.table(columns | {"seq": [seq for seq, _ in rows]}, schema=LISTS)


def shown_key(key: str | Sequence[str]) -> str:
    """A list key as one text; the parts of a composite key are set apart by `|`."""
    return key.replace(PART, "|") if isinstance(key, str) else "|".join(key)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def date_of(ms: int) -> str:
    """The UTC day of a time, as partitions are named.

    >>> date_of(1_767_225_600_000)
    '2026-01-01'
    """
    return str(np.datetime64(ms // DAY_MS, "D"))


class Gathered:
    """Rows of some frames, by the folder of the lake they belong to."""

    def __init__(self) -> None:
        self.events: dict[str, list] = {}
        self.decisions: dict[str, list] = {}
        self.findings: dict[str, list] = {}
        self.lists: dict[str, list] = {}
        self.frames = self.count = 0

    def add(self, frame: Frame) -> None:
        """Sort one frame's rows into partitions; the day of an event is that of its stamped time."""
        self.frames += 1
        self.count += frame.n
        if frame.n:
            self._add_events(frame)
        for write in frame.writes:
            self.lists.setdefault(f"date={date_of(frame.clock)}", []).append((write.get("seq", -1), write))

    def _add_events(self, frame: Frame) -> None:
        days = (frame.t // DAY_MS).tolist()
        records = zip(days, frame.t.tolist(), frame.event_ids(), frame.records(), strict=True)
        for seq, (day, t, event_id, record) in enumerate(records, frame.seq0):
            self.events.setdefault(_partition(record.get("type"), day), []).append((seq, t, event_id, record))
        for seq, (day, decision) in enumerate(zip(days, frame.decided(), strict=False), frame.seq0):
            if decision is not None:
                self.decisions.setdefault(_day(day), []).append((seq, decision))
                for evidence in (*(decision.get("evidence") or ()), *(decision.get("shadow_evidence") or ())):
                    place = findings_partition(evidence["source"], day)
                    self.findings.setdefault(place, []).append((seq, frame.clock, evidence))


@lru_cache(4096)
def _day(day: int) -> str:
    return f"date={date_of(day * DAY_MS)}"


@lru_cache(4096)
def _partition(kind: Any, day: int) -> str:
    """The folder of events of one type and day; a type is quoted where it is no plain word."""
    return f"type={quote(str(kind), safe='')}/{_day(day)}"
