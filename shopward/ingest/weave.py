"""Labels enter the stream when they become known: before events of the same millisecond, with the keys of the event they judge.

A label comes from the schema's label column (`known_after` its event) or from a label file. Until the stream's clock reaches it,
it waits; only its keys are kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from shopward.batch import LABEL, NULL
from shopward.declare.types import Schema
from shopward.event import LABEL_FIELDS
from shopward.hashing import hash_strings
from shopward.ingest.chunk import Chunk, Rows, join_chunks
from shopward.ingest.texts import Column, LabelIds, Text, spans_of
from shopward.label import LabelColumns


class Labels:
    """The labels of a file, found by the event they judge."""

    def __init__(self, columns: LabelColumns, seed: bytes):
        self.columns = columns
        hashes = hash_strings(columns.event_ids, seed)
        self.order = np.argsort(hashes[:, 0], kind="stable")  # labels of one event stay in the order they became known
        self.hashes = hashes[self.order]
        first = self.hashes[:, 0]
        ends = np.flatnonzero(np.append(first[1:] != first[:-1], True)) + 1 if len(first) else np.empty(0, np.int64)
        self.ends = np.repeat(ends, np.diff(ends, prepend=0))
        self.used = np.zeros(len(first), bool)

    def find(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(rows, labels): row rows[i] of these id hashes is judged by label labels[i]."""
        if not len(self.hashes):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        at = np.minimum(np.searchsorted(self.hashes[:, 0], ids[:, 0]), len(self.hashes) - 1)
        hit = np.flatnonzero((self.hashes[at] == ids).all(axis=1))
        counts = self.ends[at[hit]] - at[hit]
        rows = np.repeat(hit, counts)
        places = np.repeat(at[hit] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        self.used[places] = True
        return rows, self.order[places]

    def unused(self) -> int:
        """How many labels judge events that did not come."""
        return int(np.count_nonzero(~self.used))


class Weaver:
    """Puts label events among the events of a stream."""

    def __init__(self, schema: Schema, seed: bytes, labels: Labels | None, clock: int):
        self.schema, self.seed, self.labels, self.clock = schema, seed, labels, clock
        self.roles = frozenset(schema.roles)
        self.waiting: Chunk | None = None

    def weave(self, chunk: Chunk) -> Chunk:
        """The events of a chunk, with the labels that became known meanwhile before them."""
        clock = np.maximum.accumulate(np.maximum(chunk.ts, self.clock))
        self.clock = int(clock[-1])
        fresh, judged = self._labels_of(chunk)
        chunk.verdicts = None
        parts = [part for part in (self.waiting, fresh) if part is not None and part.n]
        if not parts:
            return chunk
        known = join_chunks(parts)
        old = known.n - len(judged)
        enters = np.searchsorted(clock, known.ts, side="left")
        enters[old:] = np.maximum(enters[old:], judged + 1)
        due = np.flatnonzero(enters < chunk.n)
        self.waiting = _in_time_order(known.take(np.flatnonzero(enters >= chunk.n)) if len(due) else known)
        if not len(due):
            return chunk
        due = due[np.lexsort((due, known.ts[due], enters[due]))]
        return _merge(chunk, known.take(due), enters[due])

    def rest(self, latest: int) -> Chunk | None:
        """The labels known by now that the stream did not reach."""
        if self.waiting is None:
            return None
        known = self.waiting.take(np.flatnonzero(self.waiting.ts <= latest))
        self.waiting = None
        return known if known.n else None

    def _labels_of(self, chunk: Chunk) -> tuple[Chunk | None, np.ndarray]:
        """The label events that these events bring, and the row each judges."""
        found: list[Chunk] = []
        judged: list[np.ndarray] = []
        column = self.schema.label
        if column is not None and chunk.verdicts is not None:
            rows = np.flatnonzero((chunk.verdicts >= 0) & (chunk.types != LABEL))
            found.append(self._label_events(chunk, rows, chunk.verdicts[rows], chunk.ts[rows] + column.known_after_ms))
            judged.append(rows)
        if self.labels is not None:
            rows, labels = self.labels.find(chunk.ids.hashes(self.seed))
            rows, labels = rows[keep := chunk.types[rows] != LABEL], labels[keep]
            given = self.labels.columns
            sources = Text(*spans_of(given.sources.take(labels))) if given.sources is not None else None
            amounts = given.amounts[labels] if given.amounts is not None else None
            found.append(self._label_events(chunk, rows, given.labels[labels], given.ts[labels], sources, amounts))
            judged.append(rows)
        if not found:
            return None, np.empty(0, np.int64)
        return join_chunks(found), np.concatenate(judged)

    def _label_events(
        self,
        chunk: Chunk,
        rows: np.ndarray,
        verdicts: np.ndarray,
        ts: np.ndarray,
        sources: Text | None = None,
        amounts: np.ndarray | None = None,
    ) -> Chunk:
        """Events of type `label` with the keys of the events in `rows`."""
        n, roles = len(rows), self.roles
        ids = _packed(chunk.ids.take(rows))
        nothing = Text(np.zeros(64, np.uint8), np.full(n, -1, np.int32), np.zeros(n, np.int32))
        out = Chunk(ts, np.full(n, LABEL, np.int16), LabelIds(ids, ts, verdicts, sources, amounts))
        out.numbers = {k: v[rows] if k in roles else np.full(n, np.nan) for k, v in chunk.numbers.items()}
        out.minor = {k: np.full(n, NULL, np.int64) for k in chunk.minor}
        for table, value in ((out.numbers, verdicts.astype(np.float64)), (out.minor, verdicts.astype(np.int64))):
            if "label" in table:
                table["label"] = value
        if "ts" in out.numbers:
            out.numbers["ts"] = ts.astype(np.float64)
        out.hashes = {k: v[rows] if k in roles else np.zeros((n, 2), np.int64) for k, v in chunk.hashes.items()}
        self._hash_own(out, ids, sources)
        out.lists = {k: (np.zeros(n + 1, np.int64), np.empty((0, 2), np.int64)) for k in chunk.lists}
        out.list_texts = {k: [None] * n for k in chunk.list_texts}
        out.texts = {k: _packed(v.take(rows)) if k in roles else nothing for k, v in chunk.texts.items()}
        out.texts |= {"label_event": ids, "label_source": nothing if sources is None else sources}
        if chunk.rows is not None:
            out.rows = Rows.of(_LabelRecords(out, verdicts, amounts, roles).records, n)
        return out

    def _hash_own(self, out: Chunk, ids: Column, sources: Text | None) -> None:
        own = {
            "label_event": lambda: ids.hashes(self.seed),
            "event_id": lambda: out.ids.hashes(self.seed),
            "type": lambda: np.tile(hash_strings(["label"], self.seed), (out.n, 1)),
        }
        if sources is not None:
            own["label_source"] = lambda: sources.hashes(self.seed)
        for name, hashes in own.items():
            if name in out.hashes:
                out.hashes[name] = hashes()


class _LabelRecords:
    """The whole records of label events, made from their columns."""

    def __init__(self, chunk: Chunk, verdicts: np.ndarray, amounts: np.ndarray | None, roles: frozenset[str]):
        self.columns = {"event_id": chunk.ids} | {
            k: v for k, v in chunk.texts.items() if k in roles or k in LABEL_FIELDS
        }
        self.numbers = {k: v for k, v in chunk.numbers.items() if k in roles}
        self.ts, self.verdicts = chunk.ts, verdicts
        if amounts is not None:
            self.numbers["label_amount"] = amounts

    def records(self, rows: np.ndarray) -> list[dict]:
        found = []
        for row in rows.tolist():
            record: dict[str, Any] = {
                "event_id": self.columns["event_id"].one(row),
                "ts": int(self.ts[row]),
                "type": "label",
            }
            record["label"] = float(self.verdicts[row])
            values: dict[str, Any] = {k: column.one(row) for k, column in self.columns.items() if k != "event_id"}
            values |= {k: v for k, column in self.numbers.items() if (v := float(column[row])) == v}
            found.append(record | {k: v for k, v in values.items() if v is not None})
        return found


def _packed(column: Column) -> Column:
    """The values without the buffer they came from, so that it can go."""
    return column.packed() if isinstance(column, Text) else column


def _in_time_order(chunk: Chunk) -> Chunk:
    if (chunk.ts[1:] >= chunk.ts[:-1]).all():
        return chunk
    return chunk.take(np.argsort(chunk.ts, kind="stable"))


def _merge(chunk: Chunk, labels: Chunk, enters: np.ndarray) -> Chunk:
    """Label k goes before event enters[k]; both keep their order."""
    order = np.empty(chunk.n + labels.n, np.int64)
    order[enters + np.arange(labels.n)] = np.arange(labels.n)
    before = np.searchsorted(enters, np.arange(chunk.n), side="right")
    order[np.arange(chunk.n) + before] = labels.n + np.arange(chunk.n)
    chunk.seq = None
    return join_chunks([labels, chunk]).take(order)
