"""What a model reads of a batch: one row of its matrix per feature or field, texts as their places among those the model knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

import numpy as np

from shopward.batch import Batch
from shopward.errors import UsageError
from shopward.expr.place import suggest
from shopward.hashing import siphash128

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook
    from shopward.features.live import Block


class Places:
    """Where texts stand among known ones, found by their hashes.

    >>> places = Places(["DE", "US"], bytes(16))
    >>> seen = [siphash128(b"US", bytes(16)), siphash128(b"FR", bytes(16)), (0, 0)]
    >>> places.of(np.array(seen)).tolist()
    [1.0, -1.0, nan]
    """

    def __init__(self, known: Sequence[str], seed: bytes):
        last_first = reversed(list(enumerate(known)))
        hashes: dict[tuple[int, ...], float] = {siphash128(x.encode(), seed): float(k) for k, x in last_first}
        self.book = {(0, 0): nan, **hashes}
        self.pairs = np.array(sorted(hashes), np.int64).reshape(-1, 2)
        self.places = np.array([hashes[pair] for pair in sorted(hashes)], np.float64)

    def of(self, pairs: np.ndarray) -> np.ndarray:
        """The place float64[n] of each hash int64[n, 2]; -1 for another text, NaN for none."""
        if len(pairs) == 1:
            return np.array([self.book.get(tuple(pairs[0].tolist()), -1.0)])
        out = np.where(pairs.any(axis=1), -1.0, nan)
        if len(self.pairs):
            at = np.minimum(np.searchsorted(self.pairs[:, 0], pairs[:, 0]), len(self.pairs) - 1)
            known = (self.pairs[at] == pairs).all(axis=1)
            out[known] = self.places[at[known]]
        return out


@dataclass(frozen=True, slots=True)
class Lane:
    """One row of a model's matrix. `kind` is feature, field, ts or type; `known` the texts it tells apart.

    places   those texts by hash          by_type   float64[types], what each event type is to it
    """

    name: str
    kind: str
    text: bool
    known: tuple[str, ...] = ()
    row: int = -1  # of the feature block
    places: Places | None = None
    by_type: np.ndarray | None = None

    @property
    def codes(self) -> dict[str | None, float]:
        return {None: nan} | {text: float(i) for i, text in reversed(list(enumerate(self.known)))}

    def column(self, batch: Batch, block: Block | None) -> np.ndarray:
        """Its values float64[n] in a batch; only features need the block."""
        if self.by_type is not None:
            return self.by_type[batch.types]
        if self.kind == "ts":
            return batch.ts.astype(np.float64)
        from_block = self.kind == "feature" and block is not None
        if self.places is None:
            return block.values[self.row] if from_block else batch.numbers[self.name]  # type: ignore[union-attr]
        return self.places.of((block if from_block else batch).hashes[self.name])  # type: ignore[union-attr]


def lane_of(model: str, name: str, texts: Mapping[str, Sequence[str]], rulebook: Rulebook, seed: bytes) -> Lane:
    """What a model reads under this name; `texts` are those it knows. Raises UsageError where the rulebook has no such thing for it."""
    schema = rulebook.schema
    if name in rulebook.features:
        kind, type_ = "feature", rulebook.features[name].type
    elif name in schema.fields:
        kind, type_ = "field", schema.fields[name].expr_type
    elif name in ("ts", "type"):
        kind, type_ = name, "string" if name == "type" else "time"
    else:
        near = suggest(name, [*rulebook.features, *schema.fields])
        raise UsageError(f"model `{model}` reads `{name}`, which the rulebook does not have; {near}")
    personal = kind == "field" and schema.fields[name].pii
    if personal or type_ == "list":
        what = "personal data (pii)" if personal else "a list"
        raise UsageError(f"model `{model}` reads `{name}`, which is {what}: train it on a feature made from it")
    text = type_ == "string"
    if text and name not in texts:
        raise UsageError(f"model `{model}` reads the text `{name}` and does not say which texts it knows")
    row = list(rulebook.features).index(name) if kind == "feature" else -1
    known = tuple(texts[name]) if text else ()
    if kind == "type":
        by_type = np.array([known.index(t) if t in known else -1 for t in schema.types], np.float64)
        return Lane(name, kind, text, known, by_type=by_type)
    return Lane(name, kind, text, known, row, Places(known, seed) if text else None)
