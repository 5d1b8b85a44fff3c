"""The same events as micro-batches, the shape in which the engine takes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from shopward.batch import NULL, Batch
from shopward.declare.rulebook import Rulebook
from shopward.features.live import Windows
from shopward.hashing import hash_strings

SEED = bytes(range(16))


def batch_of(events: list[dict[str, Any]], book: Rulebook, seed: bytes = SEED) -> Batch:
    """One batch of the events, with every column there is."""
    schema, n = book.schema, len(events)
    whole = lambda name: np.array([e[name] for e in events], np.int64)  # noqa: E731
    types = np.array([schema.types.index(e["type"]) for e in events], np.int16)
    batch = Batch(n, events[0]["seq"] if n else 0, whole("t"), whole("ts"), types, [e["event_id"] for e in events])
    batch.text = lambda name: [e.get(name) for e in events]
    for name, field in schema.fields.items():
        column = [e.get(name) for e in events]
        if field.type == "string":
            batch.hashes[name] = hash_strings(column, seed)
        elif field.type == "list":
            batch.lists[name] = (offsets(column), hash_strings([x for items in column for x in items or ()], seed))
        else:
            batch.numbers[name] = floats(column, 10.0**field.digits)
        if field.type in ("money", "decimal"):
            batch.minor[name] = np.array([NULL if v is None else v for v in column], np.int64)
    batch.numbers["label"] = floats([e.get("label") for e in events], 1.0)
    for name in ("label_event", "label_source", "event_id"):
        batch.hashes[name] = hash_strings([e.get(name) for e in events], seed)
    return batch


def floats(column: list, scale: float) -> np.ndarray:
    return np.array([np.nan if v is None else float(v) for v in column]) / scale


def offsets(column: list) -> np.ndarray:
    return np.concatenate([[0], np.cumsum([len(items or ()) for items in column], dtype=np.int64)]).astype(np.int64)


def cut(events: list, sizes: list[int]) -> Iterator[list]:
    """The events in pieces of the given sizes, again and again until they are used up."""
    at, i = 0, 0
    while at < len(events):
        yield events[at : at + sizes[i % len(sizes)]]
        at, i = at + sizes[i % len(sizes)], i + 1


def by_engine(windows: Windows, events: list[dict], book: Rulebook, sizes: list[int]) -> dict[str, list]:
    """Every feature at every event, label events included, the stream cut into batches of these sizes."""
    columns: dict[str, list] = {name: [] for name in book.features}
    for piece in cut(events, sizes):
        block = windows.update(batch_of(piece, book))
        for k, name in enumerate(windows.names):
            if book.features[name].type == "string":
                columns[name] += windows.text(name, block.hashes[name])
            else:
                columns[name] += block.values[k].tolist()
    return columns
