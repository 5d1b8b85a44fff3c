"""Reads Parquet files and Arrow tables column by column; no row is looked at singly unless it is odd."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shopward.errors import BadData
from shopward.event import format_time
from shopward.ingest.assemble import Assembler, Items, Other, Raw, RawColumn, Real, Spans, Whole
from shopward.ingest.dead import mask_record
from shopward.ingest.texts import spans_of

ROWS = 1 << 16
_PER_MS = {"us": 1_000, "ns": 1_000_000}


def parquet(path: Path, assembler: Assembler, whole: bool) -> Iterator[Raw]:
    """The rows of a Parquet file. `whole`: also columns no field is read from (they are kept with the record).

    A folder `name=value` above the file is a column it does not hold, as Hive writes them.
    """
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield from _parquet_rows(file, path, assembler, whole)
    except (pa.ArrowInvalid, OSError) as wrong:
        raise BadData(f"{path}: not a readable Parquet file: {wrong}") from None


def _parquet_rows(file: Any, path: Path, assembler: Assembler, whole: bool) -> Iterator[Raw]:
    names = file.schema_arrow.names
    wanted = names if whole else [name for name in names if _wanted(name, file.schema_arrow, assembler)]
    batches = file.iter_batches(batch_size=ROWS, columns=wanted, use_threads=False)
    yield from table_rows(batches, assembler, str(path), lru_cache(lambda: _digest(path)), _folders(path, names))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _folders(path: Path, names: list[str]) -> dict[str, str]:
    found = dict(part.split("=", 1) for part in path.parent.parts if "=" in part)
    return {name: value for name, value in found.items() if name not in names}


def _wanted(name: str, schema: pa.Schema, assembler: Assembler) -> bool:
    return name in assembler.columns or name == "seq" or pa.types.is_struct(schema.field(name).type)


def table_rows(
    batches: Iterable[pa.RecordBatch],
    assembler: Assembler,
    name: str,
    prefix: Callable[[], str],
    extra: Mapping[str, str],
) -> Iterator[Raw]:
    """Arrow record batches as raw records; `extra` are columns with one value for all."""
    line = 1
    for batch in batches:
        for start in range(0, batch.num_rows, ROWS):
            part = batch.slice(start, ROWS)
            yield _raw(part, assembler, name, line, prefix, extra)
            line += part.num_rows


def _raw(
    batch: pa.RecordBatch,
    assembler: Assembler,
    name: str,
    line: int,
    prefix: Callable[[], str],
    extra: Mapping[str, str],
) -> Raw:
    n = batch.num_rows
    arrays = _flat(batch)
    arrays |= {key: pa.array([value] * n) for key, value in extra.items() if key in assembler.columns}
    odd = np.zeros(n, np.uint8)
    columns: dict[str, RawColumn] = {}
    for key, array in arrays.items():
        field = assembler.columns.get(key)
        if field is None:
            continue
        if field in columns:  # two columns for one field: the slow path says so where both have a value
            odd[:] = 1
        columns[field] = raw_column(array)

    def row(i: int) -> dict[str, Any]:
        return {key: _python(array[i]) for key, array in arrays.items()}

    def outline(i: int) -> dict[str, Any]:
        return mask_record(row(i), frozenset())

    return Raw(name, n, columns, odd, np.arange(line, line + n), row, outline, prefix)


def _flat(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Columns by name; those of objects are joined with `_`."""
    found: dict[str, pa.Array] = {}
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        found |= _flat_column(name, array)
    return found


def _flat_column(name: str, array: pa.Array) -> dict[str, pa.Array]:
    if not pa.types.is_struct(array.type):
        return {name: array}
    found: dict[str, pa.Array] = {}
    for field, child in zip(array.type, array.flatten(), strict=True):
        found |= _flat_column(f"{name}_{field.name}", child)
    return found


def raw_column(array: pa.Array) -> RawColumn:
    """An Arrow column in the form the assembler reads."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return raw_column(array.dictionary_decode())
    if pa.types.is_decimal(kind):
        return raw_column(array.cast(pa.string()))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        buf, starts, stops = spans_of(array)
        return Spans(buf, starts, stops, _present(array).view(np.uint8))
    valid = _present(array)
    if pa.types.is_boolean(kind):
        return Whole(np.asarray(array.fill_null(False)).astype(np.int64), valid, flag=True)
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return Whole(np.asarray(array.fill_null(0)).astype(np.int64), valid)
    if pa.types.is_floating(kind):
        return Real(np.asarray(array.cast(pa.float64()).fill_null(0.0)), valid)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return Whole(_moments(array), valid, moment=True)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return Items(array.to_pylist())
    return Other(valid)


def _present(array: pa.Array) -> np.ndarray:
    """bool[n], which values are not null."""
    return np.asarray(array.is_valid()) if array.null_count else np.ones(len(array), np.bool_)


def _moments(array: pa.Array) -> np.ndarray:
    if not pa.types.is_timestamp(array.type):
        return np.asarray(array.cast(pa.timestamp("ms")).cast(pa.int64()).fill_null(0))
    values = np.asarray(array.cast(pa.int64()).fill_null(0))
    unit = array.type.unit
    return values * (1000 if unit == "s" else 1) if unit in ("s", "ms") else values // _PER_MS[unit]


def _python(value: pa.Scalar) -> Any:
    """A value as a JSON record would have it."""
    if not value.is_valid:
        return None
    if pa.types.is_timestamp(value.type):
        return format_time(int(_moments(pa.array([value.value], pa.int64()).cast(value.type))[0]))
    found = value.as_py()
    return found if not isinstance(found, Decimal) else str(found)
