"""Saying that two ways of computing features agree, to the last bit."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from shopward.declare.types import Schema
from shopward.features.sql import table_schema

Columns = Mapping[str, list[Any]]


def bits(x: Any) -> Any:
    """A value as something that is equal only to itself: doubles by their bits, null and NaN alike."""
    if x is None or isinstance(x, str):
        return x
    x = float(x)
    return None if math.isnan(x) else struct.pack("<d", x)


def differences(a: Columns, b: Columns, events: list[dict]) -> list[str]:
    """Where they differ, one line each."""
    assert list(a) == list(b)
    return [
        f"{name} at {events[i]['event_id']}: {x!r} != {y!r}"
        for name in a
        for i, (x, y) in enumerate(zip(a[name], b[name], strict=True))
        if bits(x) != bits(y)
    ]


def table_of(events: list[dict[str, Any]], schema: Schema) -> pa.Table:
    """The events as the table that the SQL reads."""
    return pa.Table.from_pylist(events, schema=table_schema(schema))


def shown(columns: Columns, events: list[dict]) -> dict[str, list[Any]]:
    """Without the rows of label events, which have features but no row in any output."""
    return {
        name: [v for v, e in zip(column, events, strict=True) if e["type"] != "label"]
        for name, column in columns.items()
    }
