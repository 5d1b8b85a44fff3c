"""Events written as dicts, as the micro-batches the engine takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from shopward.batch import NULL, Batch
from shopward.declare.types import Schema
from shopward.features.live import Windows
from shopward.hashing import canonical_text, siphash128

SEED = bytes(range(16))


def pair(value: Any, seed: bytes = SEED) -> tuple[int, int]:
    return (0, 0) if value is None else siphash128(canonical_text(value).encode("utf-8", "surrogatepass"), seed)


def batch_of(events: list[dict[str, Any]], schema: Schema, seq0: int = 0, seed: bytes = SEED) -> Batch:
    """Events (`t` is the stamped time; money and decimals are minor units) as one batch with every column."""
    t = np.array([e["t"] for e in events], np.int64)
    ts = np.array([e.get("ts", e["t"]) for e in events], np.int64)
    types = np.array([schema.types.index(e.get("type", schema.types[-1])) for e in events], np.int16)
    batch = Batch(len(events), seq0, t, ts, types, [e.get("event_id", f"e{seq0 + i}") for i, e in enumerate(events)])
    kinds = {name: (f.type, f.digits) for name, f in schema.fields.items()}
    kinds |= {"label": ("decimal", 0), "label_event": ("string", 0), "label_source": ("string", 0)}
    for name, (kind, digits) in kinds.items():
        column = [e.get(name) for e in events]
        if kind == "string":
            batch.hashes[name] = np.array([pair(v, seed) for v in column], np.int64).reshape(-1, 2)
        elif kind == "list":
            parts = [[pair(v, seed) for v in (items or [])] for items in column]
            offsets = np.cumsum([0, *map(len, parts)])
            batch.lists[name] = (
                offsets.astype(np.int64),
                np.array([p for q in parts for p in q], np.int64).reshape(-1, 2),
            )
        elif kind in ("money", "decimal"):
            batch.minor[name] = np.array([NULL if v is None else v for v in column], np.int64)
            batch.numbers[name] = np.array([np.nan if v is None else v / 10.0**digits for v in column])
        else:
            batch.numbers[name] = np.array([np.nan if v is None else float(v) for v in column])
    batch.text = lambda name: [e.get(name) for e in events]
    return batch


def run(
    windows: Windows, events: list[dict[str, Any]], schema: Schema, size: int = 4096, seq0: int = 0
) -> dict[str, list[Any]]:
    """Every feature at every event; null is None."""
    columns: dict[str, list[Any]] = {name: [] for name in windows.names}
    for at in range(0, len(events), size):
        batch = batch_of(events[at : at + size], schema, seq0 + at)
        block = windows.update(batch)
        for k, name in enumerate(windows.names):
            if name in block.hashes:
                columns[name] += windows.text(name, block.hashes[name])
            else:
                columns[name] += [None if v != v else v for v in block.values[k].tolist()]
    return columns
