"""Columns of events between a reader and the batches it yields: they can be reordered, joined and cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from shopward.batch import NULL, Batch
from shopward.errors import UsageError
from shopward.ingest.texts import Column, join

Records = Callable[[np.ndarray], list[dict]]
ListColumn = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the whole records are: row i is row `at[i]` of `sources[which[i]]`."""

    sources: tuple[Records, ...]
    which: np.ndarray
    at: np.ndarray

    @classmethod
    def of(cls, source: Records, n: int) -> Rows:
        return cls((source,), np.zeros(n, np.int32), np.arange(n))

    def take(self, rows: np.ndarray | slice) -> Rows:
        return Rows(self.sources, self.which[rows], self.at[rows])

    def records(self) -> list[dict]:
        """The records themselves, in order."""
        out: list[dict] = [{}] * len(self.at)
        for k in np.unique(self.which):
            mine = np.flatnonzero(self.which == k)
            for row, record in zip(mine.tolist(), self.sources[k](self.at[mine]), strict=True):
                out[row] = record
        return out


@dataclass(slots=True)
class Chunk:
    """Events in arrival order, like a Batch that has no seq and no stamped time yet.

    verdicts  int8[n], what the schema's label column says: 0, 1, or -1 for nothing
    seq       int64[n], the order the file declares, NULL where it does not; None: it has no such column
    texts     every text field that somebody may want to see
    """

    ts: np.ndarray
    types: np.ndarray
    ids: Column
    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    minor: dict[str, np.ndarray] = field(default_factory=dict)
    hashes: dict[str, np.ndarray] = field(default_factory=dict)
    lists: dict[str, ListColumn] = field(default_factory=dict)
    list_texts: dict[str, list] = field(default_factory=dict)
    texts: dict[str, Column] = field(default_factory=dict)
    rows: Rows | None = None
    verdicts: np.ndarray | None = None
    seq: np.ndarray | None = None

    @property
    def n(self) -> int:
        return len(self.ts)

    def take(self, rows: np.ndarray) -> Chunk:
        """These rows, in this order."""
        return Chunk(
            self.ts[rows],
            self.types[rows],
            self.ids.take(rows),
            {k: v[rows] for k, v in self.numbers.items()},
            {k: v[rows] for k, v in self.minor.items()},
            {k: v[rows] for k, v in self.hashes.items()},
            {k: _take_lists(v, rows) for k, v in self.lists.items()},
            {k: [v[i] for i in rows] for k, v in self.list_texts.items()},
            {k: v.take(rows) for k, v in self.texts.items()},
            self.rows and self.rows.take(rows),
            None if self.verdicts is None else self.verdicts[rows],
            None if self.seq is None else self.seq[rows],
        )

    def cut(self, start: int, stop: int) -> Chunk:
        """Rows start to stop, as views."""
        if start == 0 and stop >= self.n:
            return self
        part = slice(start, stop)
        return Chunk(
            self.ts[part],
            self.types[part],
            self.ids.cut(start, stop),
            {k: v[part] for k, v in self.numbers.items()},
            {k: v[part] for k, v in self.minor.items()},
            {k: v[part] for k, v in self.hashes.items()},
            {k: (v[0][start : stop + 1] - v[0][start], v[1][v[0][start] : v[0][stop]]) for k, v in self.lists.items()},
            {k: v[part] for k, v in self.list_texts.items()},
            {k: v.cut(start, stop) for k, v in self.texts.items()},
            self.rows and self.rows.take(part),
            None if self.verdicts is None else self.verdicts[part],
            None if self.seq is None else self.seq[part],
        )

    def batch(self, seq0: int, t: np.ndarray) -> Batch:
        """The finished batch."""
        decoded = _Text(self)
        return Batch(
            self.n, seq0, t, self.ts, self.types, self.ids, self.numbers, self.minor, self.hashes, self.lists,  # type: ignore[arg-type]
            decoded.text, decoded.records,
        )  # fmt: skip


class _Text:
    """Decodes the text of a batch when it is asked for, once."""

    def __init__(self, chunk: Chunk):
        self._chunk = chunk

    def text(self, name: str) -> list:
        chunk = self._chunk
        if name in chunk.texts:
            return chunk.texts[name].to_list()
        if name in chunk.list_texts:
            return chunk.list_texts[name]
        if name == "event_id":
            return chunk.ids.to_list()
        return [record.get(name) for record in self.records()]

    def records(self) -> list[dict]:
        if self._chunk.rows is None:
            raise UsageError("these events were read without their records; read them with records=True")
        return self._records

    @cached_property
    def _records(self) -> list[dict]:
        assert self._chunk.rows is not None
        return self._chunk.rows.records()


def _take_lists(column: ListColumn, rows: np.ndarray) -> ListColumn:
    offsets, hashes = column
    lengths = (offsets[1:] - offsets[:-1])[rows]
    out = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    at = np.repeat(offsets[:-1][rows] - out[:-1], lengths) + np.arange(out[-1])
    return out, hashes[at]


def _join_lists(columns: Sequence[ListColumn]) -> ListColumn:
    shifts = np.cumsum([0, *(len(hashes) for _, hashes in columns)])
    offsets = [column[0][:-1] + shift for column, shift in zip(columns, shifts, strict=False)]
    return np.concatenate([*offsets, shifts[-1:]]), np.concatenate([hashes for _, hashes in columns])


def join_chunks(chunks: Sequence[Chunk]) -> Chunk:
    """One chunk after the other."""
    first = chunks[0]
    if len(chunks) == 1:
        return first

    def columns(name: str) -> dict:
        return {k: np.concatenate([getattr(c, name)[k] for c in chunks]) for k in getattr(first, name)}

    return Chunk(
        np.concatenate([c.ts for c in chunks]),
        np.concatenate([c.types for c in chunks]),
        join([c.ids for c in chunks]),
        columns("numbers"),
        columns("minor"),
        columns("hashes"),
        {k: _join_lists([c.lists[k] for c in chunks]) for k in first.lists},
        {k: [v for c in chunks for v in c.list_texts[k]] for k in first.list_texts},
        {k: join([c.texts[k] for c in chunks]) for k in first.texts},
        _join_rows(chunks),
        None if first.verdicts is None else np.concatenate([c.verdicts for c in chunks]),  # type: ignore[misc]
        _join_seq(chunks),
    )


def _join_rows(chunks: Sequence[Chunk]) -> Rows | None:
    kept = [c.rows for c in chunks]
    if any(rows is None for rows in kept):
        return None
    sources: list[Records] = []
    which = []
    for rows in kept:
        assert rows is not None
        used, renumbered = np.unique(rows.which, return_inverse=True)  # what nobody points to any more may go
        which.append(renumbered.astype(np.int32) + len(sources))
        sources.extend(rows.sources[k] for k in used)
    return Rows(tuple(sources), np.concatenate(which), np.concatenate([rows.at for rows in kept if rows is not None]))


def _join_seq(chunks: Sequence[Chunk]) -> np.ndarray | None:
    if all(c.seq is None for c in chunks):
        return None
    return np.concatenate([np.full(c.n, NULL) if c.seq is None else c.seq for c in chunks])
