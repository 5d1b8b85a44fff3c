"""What turned out to be true: whether an event was fraud, who says so, and since when we know it.

A label file has rows `event_id, label, label_ts, [source], [amount]`: label is 0 or 1, label_ts the moment it became known. A label
enters the stream at label_ts as an event of type `label`; a later one for the same event replaces the earlier from then on, also one
of the same moment: a day is often all that is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from shopward.errors import BadData, BadEvent, UsageError, table_reason
from shopward.event import name_of, parse_time

if TYPE_CHECKING:
    import pyarrow as pa

ENDINGS = (".parquet", ".csv", ".ndjson", ".jsonl")
TRUTH = {0: 0, 1: 1, "0": 0, "1": 1, "false": 0, "true": 1}


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """One judgement of one event; `ts` is when it became known (epoch ms), `amount` the loss or value it stands for.

    >>> Label.read({"event_id": "e1", "label": "1", "label_ts": "2026-01-08", "source": "chargeback"})
    Label(event_id='e1', label=1, ts=1767830400000, source='chargeback', amount=None)
    """

    event_id: str
    label: int
    ts: int
    source: str | None = None
    amount: float | None = None

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Label:
        """A label from a row as it is written; BadEvent says what is wrong with it."""
        if not isinstance(row, Mapping):
            raise BadEvent(f"expected an object, found {name_of(row)}")
        if row.get("event_id") in (None, ""):
            raise BadEvent("missing; a label names the event it judges", field="event_id")
        if row.get("label_ts") is None:
            raise BadEvent("missing; a label says since when it is known", field="label_ts")
        source, amount = row.get("source"), row.get("amount")
        return cls(
            event_id=_text(row["event_id"], "event_id"),
            label=truth(row.get("label")),
            ts=_moment(row["label_ts"]),
            source=None if source is None else _text(source, "source"),
            amount=None if amount is None else _finite(amount),
        )

    def as_dict(self) -> dict[str, Any]:
        """The row this label was read from, without what it does not say.

        >>> Label(event_id="e1", label=0, ts=5).as_dict()
        {'event_id': 'e1', 'label': 0, 'label_ts': 5}
        """
        row: dict[str, Any] = {"event_id": self.event_id, "label": self.label, "label_ts": self.ts}
        return row | {name: v for name in ("source", "amount") if (v := getattr(self, name)) is not None}

    def as_event(self) -> dict[str, Any]:
        """The event of type `label` that says this in the stream; its id is that of this verdict: who said what when, for how much.

        >>> Label(event_id="e1", label=0, ts=5, source="kim").as_event()["event_id"]
        'label:e1:5:0:kim'
        >>> Label(event_id="e1", label=1, ts=5, amount=12.5).as_event()
        {'event_id': 'label:e1:5:1::12.5', 'ts': 5, 'type': 'label', 'label': 1.0, 'label_event': 'e1', 'label_amount': 12.5}
        """
        own_id = f"label:{self.event_id}:{self.ts}:{self.label}:{self.source or ''}"
        own_id += "" if self.amount is None else f":{self.amount!r}"
        event: dict[str, Any] = {"event_id": own_id, "ts": self.ts, "type": "label", "label": float(self.label)}
        event |= {"label_event": self.event_id, "label_source": self.source, "label_amount": self.amount}
        return {name: value for name, value in event.items() if value is not None}


def truth(value: Any) -> int:
    """0 or 1 of a label as files write it (Python's True and False are 1 and 0).

    >>> truth("1"), truth(0.0), truth(True)
    (1, 0, 1)
    """
    found = TRUTH.get(value.strip().lower() if isinstance(value, str) else value) if _plain(value) else None
    if found is None:
        raise BadEvent("expected 0 or 1", field="label")
    return found


def _text(value: Any, field: str) -> str:
    """A name as it is written; numbers are names too."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadEvent(f"expected a string, found {name_of(value)}", field=field)
    from shopward.hashing import canonical_text

    text = canonical_text(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadEvent("not valid Unicode", field=field) from None
    return text


def _moment(value: Any) -> int:
    try:
        return parse_time(value)
    except BadEvent as wrong:
        raise BadEvent(wrong.reason, field="label_ts") from None


def _finite(value: Any) -> float:
    number = _amount(value)
    if not math.isfinite(number):
        raise BadEvent("expected a number", field="amount")
    return number


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float | np.integer | np.floating)


@dataclass(frozen=True, slots=True)
class LabelColumns:
    """The labels of a file as columns, ordered by the moment they became known."""

    event_ids: pa.Array  # large_string
    labels: np.ndarray  # int8, 0 or 1
    ts: np.ndarray  # int64, epoch ms
    sources: pa.Array | None  # large_string with nulls
    amounts: np.ndarray | None  # float64, NaN where the file gives none


def read_labels(path: str | Path) -> Iterator[Label]:
    """The labels of a file, or of all files of a folder, in the order they became known.

    Rows `event_id, label 0/1, label_ts, [source], [amount]`; label_ts is ISO 8601 or epoch ms. Raises BadData naming the row or file
    that cannot be used, UsageError for a path that is no label file.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "labels.csv"
    ...     _ = path.write_text("event_id,label,label_ts\\ne1,1,2026-01-08\\ne2,0,2026-01-02\\n")
    ...     [(row.event_id, row.label, row.ts) for row in read_labels(path)]
    [('e2', 0, 1767312000000), ('e1', 1, 1767830400000)]
    """
    columns = label_columns(path)
    sources = columns.sources.to_pylist() if columns.sources is not None else None
    for i, event_id in enumerate(columns.event_ids.to_pylist()):
        amount = None if columns.amounts is None or np.isnan(columns.amounts[i]) else float(columns.amounts[i])
        yield Label(
            event_id=event_id,
            label=int(columns.labels[i]),
            ts=int(columns.ts[i]),
            source=sources[i] if sources else None,
            amount=amount,
        )


def label_columns(path: str | Path) -> LabelColumns:
    """Read a label file (.parquet, .csv, .ndjson), or all of a folder. Raises BadData naming the row when a label cannot be used."""
    parts = [_columns_of(file) for file in _label_files(Path(path))]
    return parts[0] if len(parts) == 1 else _joined(parts)


def _label_files(path: Path) -> list[Path]:
    """The files to read, in order of their names."""
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.suffix in ENDINGS and not p.name.startswith((".", "_")))
    if not found:
        raise UsageError(f"--labels {path}: no {', '.join(ENDINGS)} file in this folder")
    return found


def _joined(parts: list[LabelColumns]) -> LabelColumns:
    """One table of several, in the order they became known; of one moment those of the later file count later."""
    import pyarrow as pa

    ts = np.concatenate([part.ts for part in parts])
    order = np.argsort(ts, kind="stable")
    nulls = [pa.nulls(len(part.ts), pa.large_string()) if part.sources is None else part.sources for part in parts]
    amounts = [np.full(len(part.ts), np.nan) if part.amounts is None else part.amounts for part in parts]
    return LabelColumns(
        pa.concat_arrays([part.event_ids for part in parts]).take(order),
        np.concatenate([part.labels for part in parts])[order],
        ts[order],
        pa.concat_arrays(nulls).take(order) if any(part.sources is not None for part in parts) else None,
        np.concatenate(amounts)[order] if any(part.amounts is not None for part in parts) else None,
    )


def _columns_of(path: Path) -> LabelColumns:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        table = _label_table(path)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as wrong:
        if isinstance(wrong, OSError) and wrong.errno is not None:
            raise
        raise BadData(f"{path}: not a readable label file: {table_reason(wrong)}") from None
    missing = [name for name in ("event_id", "label", "label_ts") if name not in table.column_names]
    if missing:
        raise BadData(f"{path}: a label file has the columns event_id, label, label_ts; missing: {', '.join(missing)}")
    event_ids = pc.cast(table["event_id"], pa.large_string()).combine_chunks()
    if event_ids.null_count:
        raise BadData(f"{path}: row {_first(event_ids.is_null())}: event_id is missing")
    ts = _column(path, table["label_ts"], _times, parse_time, np.int64)
    order = np.argsort(ts, kind="stable")
    labels = _column(path, table["label"], _truths, truth, np.int8)
    has = set(table.column_names)
    sources = pc.cast(table["source"], pa.large_string()).combine_chunks() if "source" in has else None
    amounts = _column(path, table["amount"], _amounts, _amount, np.float64)[order] if "amount" in has else None
    return LabelColumns(event_ids.take(order), labels[order], ts[order], sources and sources.take(order), amounts)


def _label_table(path: Path) -> pa.Table:
    import pyarrow as pa

    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(path)
    if path.suffix == ".csv":
        from pyarrow import csv

        text = csv.ConvertOptions(column_types={"event_id": pa.string(), "source": pa.string(), "label": pa.string()})
        return csv.read_csv(path, convert_options=text)
    if path.suffix not in ENDINGS:
        raise UsageError(f"--labels {path}: the ending must be one of {', '.join(ENDINGS)}")
    rows = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                if line.strip():
                    rows.append(Label.read(msgspec.json.decode(line, type=dict)).as_dict())
            except (msgspec.DecodeError, BadEvent) as wrong:
                raise BadData(f"{path}:{number}: {wrong}") from None
    return pa.Table.from_pylist(rows, _label_schema())


def _label_schema() -> pa.Schema:
    import pyarrow as pa

    text, whole = pa.string(), pa.int64()
    return pa.schema({"event_id": text, "label": whole, "label_ts": whole, "source": text, "amount": pa.float64()})


def _column(path, values: pa.ChunkedArray, fast, one, kind) -> np.ndarray:
    """The whole column at once where it is of one plain kind, else value by value, to say which row is wrong."""
    import pyarrow as pa

    if not len(values):
        return np.empty(0, kind)
    try:
        whole = fast(values)
        if whole is not None:
            return whole.astype(kind)
    except pa.ArrowInvalid:
        pass
    out = np.empty(len(values), kind)
    for i, value in enumerate(values.to_pylist()):
        try:
            out[i] = one(value)
        except BadEvent as wrong:
            raise BadData(f"{path}: row {i + 1}: {wrong}") from None
    return out


def _times(values: pa.ChunkedArray) -> np.ndarray | None:
    import pyarrow as pa

    if values.null_count or not (pa.types.is_timestamp(values.type) or pa.types.is_integer(values.type)):
        return None
    if pa.types.is_timestamp(values.type):
        return np.asarray(values.cast(pa.timestamp("ms"), safe=False).cast(pa.int64()))
    return np.asarray(values.cast(pa.int64()))


def _truths(values: pa.ChunkedArray) -> np.ndarray | None:
    import pyarrow as pa

    if values.null_count or pa.types.is_floating(values.type):
        return None
    whole = np.asarray(values.cast(pa.int8()))
    return whole if np.isin(whole, (0, 1)).all() else None


def _amounts(values: pa.ChunkedArray) -> np.ndarray | None:
    import pyarrow as pa

    return np.asarray(values.cast(pa.float64()).fill_null(float("nan")))


def _amount(value: Any) -> float:
    try:
        return float("nan") if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        raise BadEvent("expected a number", field="amount") from None


def _first(flags: Any) -> int:
    return int(np.flatnonzero(np.asarray(flags))[0]) + 1
