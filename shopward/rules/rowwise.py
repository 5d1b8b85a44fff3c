"""Features that read lists, lookups or characters, beside the window engine: lists and lookups by columns, the rest by Python.

Those that need only the event itself come before the windows (which may build on them); those that read other features come after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from shopward.batch import Batch, Needs
from shopward.declare.types import Feature
from shopward.expr import to_python, walk
from shopward.expr.functions import runtime
from shopward.expr.nodes import Name
from shopward.hashing import siphash128
from shopward.rules.generated import define

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook
    from shopward.features.live import Block, Windows
    from shopward.rules.asked import Asked, Questions


@dataclass(frozen=True, slots=True)
class RowFeature:
    """One such feature: `value(*names, t)` of a row."""

    name: str
    text: bool
    names: tuple[str, ...]
    value: Callable[..., Any]
    late: bool  # reads other features
    asked: Asked | None = None  # a list or a lookup and nothing else: its column answers


class RowFeatures:
    """All of a rulebook's row features, in an order in which each finds what it reads.

    `one_by_one` is True when a rule writes a list that one of them reads: then events must be decided singly, so that each sees
    what the one before it wrote.
    """

    def __init__(
        self, rulebook: Rulebook, windows: Windows, seed: bytes, env: dict[str, Callable], questions: Questions
    ):
        self.windows, self.seed, self.schema = windows, seed, rulebook.schema
        self.questions = questions
        self.column = {name: i for i, name in enumerate(windows.names)}
        rowwise = set(windows.row_features)
        self.all = [self._prepare(f, rulebook, env) for f in rulebook.features.values() if f.name in rowwise]
        written = {w.list for r in rulebook.rules.values() if r.state == "live" for w in r.writes}
        read = {t for f in rulebook.features.values() if f.name in rowwise for t in f.lists}
        self.one_by_one = bool(written & read)

    def needs(self) -> Needs:
        """The columns that lists and lookups are asked with."""
        return self.questions.needs(f.asked for f in self.all if f.asked)

    def before(self, batch: Batch) -> None:
        """Fill `batch.numbers` and `batch.hashes` with the features that need only the event."""
        for f in self.all:
            if not f.late:
                self._fill(f, batch, None)

    def after(self, batch: Batch, block: Block) -> None:
        """Fill the block's rows of the features that read other features."""
        for f in self.all:
            if f.late:
                self._fill(f, batch, block)

    def _fill(self, f: RowFeature, batch: Batch, block: Block | None) -> None:
        if f.asked is not None:
            self._answer(f, f.asked, batch, block)
            return
        columns = [self._column(name, batch, block) for name in f.names]
        values = [f.value(*row) for row in zip(*columns, batch.t.tolist(), strict=True)]
        if f.text:
            hashes = np.array(
                [siphash128(v.encode(), self.seed) if v is not None else (0, 0) for v in values], np.int64
            )
            self.windows.keep_text(f.name, values, hashes)
            (batch.hashes if block is None else block.hashes)[f.name] = hashes.reshape(-1, 2)
            return
        self._put(f.name, np.array([nan if v is None else float(v) for v in values]), batch, block)

    def _answer(self, f: RowFeature, asked: Asked, batch: Batch, block: Block | None) -> None:
        if asked.column is None:
            self._put(f.name, self.questions.held(asked, batch, block), batch, block)
            return
        said = self.questions.said(asked, batch, block)
        if not f.text:
            self._put(f.name, said.column(), batch, block)
            return
        texts = said.texts()
        self.windows.keep_text(f.name, list(texts.values()), np.array(list(texts), np.int64))
        (batch.hashes if block is None else block.hashes)[f.name] = said.column()

    def _put(self, name: str, numbers: np.ndarray, batch: Batch, block: Block | None) -> None:
        batch.numbers[name] = numbers
        if block is not None:
            block.values[self.column[name]] = numbers

    def _column(self, name: str, batch: Batch, block: Block | None) -> list:
        if name == "ts":
            return batch.ts.astype(float).tolist()
        if name == "type":
            return [self.schema.types[c] for c in batch.types.tolist()]
        if name == "event_id":
            return batch.event_ids
        if block is not None and name in self.column:
            k = self.column[name]
            return self.windows.text(name, block.hashes[name]) if name in block.hashes else block.values[k].tolist()
        return batch.numbers[name].tolist() if name in batch.numbers else batch.text(name)

    def _prepare(self, f: Feature, rulebook: Rulebook, env: dict[str, Callable]) -> RowFeature:
        names, source = _source(f)
        value = define(f"def value({', '.join([*names, 't'])}):\n    return {source}\n", "value", {**runtime(), **env})
        late = any(name in rulebook.features for name in names)
        return RowFeature(f.name, f.type == "string", names, value, late, self._asked(f))

    def _asked(self, f: Feature) -> Asked | None:
        if f.measure == "list":
            return self.questions.ask(f.table or "", None, f.entity)
        if f.measure == "lookup":
            table, column = (f.table or "").split(".")
            return self.questions.ask(table, column, f.entity)
        return None


def _source(f: Feature) -> tuple[tuple[str, ...], str]:
    """The names a row feature reads and the Python expression of its value."""
    if f.measure == "list":
        key = f.entity[0] if len(f.entity) == 1 else f"({', '.join(f.entity)})"
        return f.entity, f"listed({f.table!r}, {key}, t)"
    if f.measure == "lookup":
        table, column = (f.table or "").split(".")
        return f.entity, f"lookup({table!r}, {column!r}, {f.entity[0]}, t)"
    assert f.expr is not None
    names = tuple(sorted({n.name for n in walk(f.expr.root) if isinstance(n, Name)}))
    return names, to_python(f.expr, mode="value")
