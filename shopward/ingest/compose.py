"""Events in memory (dicts, as `normalise` makes them) as a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from shopward.batch import NULL, Batch, Needs
from shopward.declare.types import Schema
from shopward.event import LABEL_FIELDS
from shopward.hashing import TextHash, canonical_text, hash_strings

FEW = 256  # below this, texts are hashed one by one and remembered


@lru_cache(maxsize=16)
def _remembered(seed: bytes) -> TextHash:
    return TextHash(seed)


def compose(
    events: Sequence[dict[str, Any]],
    schema: Schema,
    needs: Needs,
    seed: bytes,
    seq0: int,
    stamp: Callable[[np.ndarray], np.ndarray],
) -> Batch:
    """Columns of the fields in `needs`; everything else stays in the records."""
    codes = {name: code for code, name in enumerate(schema.types)}
    ts = np.array([event["ts"] for event in events], np.int64)
    types = np.array([codes[event["type"]] for event in events], np.int16)
    ids = [event.get("event_id") or f"event:{seq0 + i}" for i, event in enumerate(events)]

    def column(name: str) -> list:
        if name == "event_id":
            return ids
        values = [event.get(name) for event in events]
        if name in LABEL_FIELDS:
            values = [value if code == 0 else None for value, code in zip(values, types, strict=True)]
        return values

    return Batch(
        len(events),
        seq0,
        stamp(ts),
        ts,
        types,
        ids,
        {name: _numbers(column(name)) for name in needs.numbers},
        {
            name: _minor(column(name), schema.fields[name].digits if name in schema.fields else 0)
            for name in needs.minor
        },
        {name: _hashes(column(name), seed) for name in needs.hashes},
        {name: _lists(column(name), seed) for name in needs.lists},
        column,
        lambda: [
            event if "event_id" in event else {"event_id": name, **event}
            for name, event in zip(ids, events, strict=True)
        ],
    )


def _numbers(values: list) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _minor(values: list, digits: int) -> np.ndarray:
    scale = 10**digits
    return np.array([NULL if value is None else round(value * scale) for value in values], np.int64)


def _hashes(values: list, seed: bytes) -> np.ndarray:
    texts = [value if value is None or value.__class__ is str else canonical_text(value) for value in values]
    if len(texts) >= FEW:
        return hash_strings(texts, seed)
    hashed = _remembered(seed)
    return np.array([hashed(text) for text in texts], np.int64).reshape(len(texts), 2)


def _lists(values: list, seed: bytes) -> tuple[np.ndarray, np.ndarray]:
    lengths = [0 if items is None else len(items) for items in values]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return offsets, _hashes([item for items in values if items is not None for item in items], seed)
