"""Training tables: what was known at each event, what turned out to be true, and since when we know it.

    census (who, when, which labels are known)  ->  which rows to keep  ->  features of those rows, as of their events

Two passes over the stream keep memory bounded: the first reads ids and labels only, the second computes features of every event and
keeps the rows that were chosen. A label counts when it is known by `known_by`; one from later does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from shopward.batch import LABEL, Batch, Needs
from shopward.errors import BadData
from shopward.event import format_time
from shopward.ingest.unique import Unique
from shopward.models.history import History, Past

UNKNOWN = -1
MOST_TEXTS = 10_000  # different texts of one field that are told apart while reading


@dataclass(slots=True)
class Examples:
    """n examples as columns.

    names, matrix   d feature names and float64[n, d]; NaN is missing; texts are positions in `categories[name]`, -1 for others
    label           int8[n]: 1 fraud, 0 not, -1 unknown              label_ts   int64[n] when it became known (epoch ms)
    ts              int64[n] of the event (0 where a table has none)  amount     float64[n], 1 where nothing says what a row is worth
    weight          float64[n]: how many such rows this one stands for
    groups          name -> int64[n]: rows of one group (a card, a ring) must not stand on both sides of a split
    let_through     float64[n], the chance with which a row was let through that was to be stopped: 0 it was stopped, NaN nobody
                    wanted to; None where nobody asked
    past, history   float32[n, steps + 1, values] of the last events of an entity, and what they are; None where nobody asked
    """

    names: tuple[str, ...]
    matrix: np.ndarray
    label: np.ndarray
    ts: np.ndarray
    label_ts: np.ndarray
    amount: np.ndarray
    weight: np.ndarray
    ids: list[str]
    groups: dict[str, np.ndarray] = field(default_factory=dict)
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    past: np.ndarray | None = None
    history: Past | None = None
    let_through: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: np.ndarray) -> Examples:
        """Some of the rows, in the given order."""
        at = np.flatnonzero(rows) if rows.dtype == bool else rows
        cut = {name: getattr(self, name)[at] for name in ("matrix", "label", "ts", "label_ts", "amount", "weight")}
        return replace(
            self,
            **cut,
            past=None if self.past is None else self.past[at],
            let_through=None if self.let_through is None else self.let_through[at],
            ids=[self.ids[i] for i in at.tolist()],
            groups={k: v[at] for k, v in self.groups.items()},
        )

    def columns(self, names: Sequence[str]) -> Examples:
        """Only these features."""
        at = [self.names.index(name) for name in names]
        kept = {k: v for k, v in self.categories.items() if k in names}
        return replace(self, names=tuple(names), matrix=np.ascontiguousarray(self.matrix[:, at]), categories=kept)


@dataclass(slots=True)
class Census:
    """Every event of a stream, without its features. `label` is what was known by `known_by`; `hashes` are keys by role, if asked for."""

    ids: list[str]
    ts: np.ndarray
    types: np.ndarray
    label: np.ndarray
    label_ts: np.ndarray
    keys: dict[str, tuple[float, float]]  # role -> (share of labelled events that have it, events per key)
    notes: list[str] = field(default_factory=list)
    hashes: dict[str, np.ndarray] = field(default_factory=dict)


def census(
    engine: Any,
    paths: Iterable[Path],
    labels: Path | None,
    *,
    until: int | None = None,
    known_by: int | None = None,
    hashes: bool = False,
    dead: Any = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Census:
    """Read a stream once for its ids, types, times and labels; labels known after `known_by` (ms) are left out.

    Raises BadData when no event could be used.
    """
    roles = list(engine.schema.roles)
    engine.needs = engine.needs | Needs(
        numbers=frozenset({"label"}), text=frozenset({"label_event"}), hashes=frozenset(roles)
    )
    ids: list[str] = []
    ts, types, verdict, known = [], [], [], []
    judged: list[str | None] = []
    notes: list[str] = []
    keys: dict[str, list[np.ndarray]] = {role: [] for role in roles}
    for batch in _each_once(engine, paths, labels, dead, notes):
        rows, told = np.flatnonzero(batch.types != LABEL), np.flatnonzero(batch.types == LABEL)
        if len(told):
            texts = batch.text("label_event")
            judged += [texts[i] for i in told.tolist()]
            verdict.append(batch.numbers["label"][told])
            known.append(batch.ts[told])
        names = batch.event_ids
        ids += [names[i] for i in rows.tolist()]
        ts.append(batch.ts[rows])
        types.append(batch.types[rows])
        for role in roles:
            if role in batch.hashes:
                keys[role].append(batch.hashes[role][rows, 0])
        on_progress(batch.n)
        if until is not None and known_by is not None and batch.n and batch.t[0] > max(until, known_by):
            break
    if not ids:
        raise BadData("no usable event" + (f"; {dead.why()}" if dead is not None and dead.count else ""))
    found = Census(
        ids,
        np.concatenate(ts),
        np.concatenate(types),
        np.full(len(ids), UNKNOWN, np.int8),
        np.zeros(len(ids), np.int64),
        {},
        notes,
    )
    _judge(found, judged, verdict, known, known_by)
    seen = found.label != UNKNOWN
    for role, parts in keys.items():
        here = np.concatenate(parts) if parts else np.empty(0, np.int64)
        if len(here) == len(seen) and seen.any():
            mine = here[seen]
            mine = mine[mine != 0]
            found.keys[role] = (len(mine) / seen.sum(), len(mine) / max(len(np.unique(mine)), 1))
            if hashes:
                found.hashes[role] = here
    return found


def _judge(found: Census, judged: list, verdict: list, known: list, known_by: int | None) -> None:
    """Put labels beside their events: the latest that was known in time."""
    if not judged:
        return
    where = {event_id: i for i, event_id in enumerate(found.ids)}
    values, times = np.concatenate(verdict), np.concatenate(known)
    late = early = 0
    for name, value, moment in zip(judged, values.tolist(), times.tolist(), strict=True):
        at = where.get(name)
        if at is None or value not in (0.0, 1.0):
            continue
        if known_by is not None and moment > known_by:
            late += 1
        else:
            early += moment < found.ts[at]
            found.label[at], found.label_ts[at] = int(value), moment
    if late:
        found.notes.append(f"{late:,} labels became known after {format_time(known_by)}: training does not see them")  # type: ignore[arg-type]
    if early:
        found.notes.append(f"{early:,} labels are older than the event they judge: are their times right?")


def choose(
    found: Census, *, since: int | None, until: int | None, most: int, seed: int = 7, unlabelled: str = "auto"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, labels, weights) to train on: every fraud, and legitimate events up to `most` rows in all, weighted up for those left out.

    unlabelled  what events are that nobody judged: `legitimate`, `skip`, or `auto`: legitimate where most events of the types that
                frauds have go unjudged, as when only frauds and a few reviews are reported; a note says so
    """
    inside = np.ones(len(found.ids), bool)
    if since is not None:
        inside &= found.ts >= since
    if until is not None:
        inside &= found.ts <= until
    label = found.label.copy()
    if not (inside & (label != UNKNOWN)).any():
        raise BadData("no label of any event was known by then: check --labels, --until and --delay")
    if unlabelled != "skip":
        _take_silence(found, inside, label, always=unlabelled == "legitimate")
    usable = inside & (label != UNKNOWN)
    frauds, legit = np.flatnonzero(usable & (label == 1)), np.flatnonzero(usable & (label == 0))
    if not len(frauds) or not len(legit):
        raise BadData(f"one class only: {len(frauds):,} frauds and {len(legit):,} legitimate events have a known label")
    room = max(most - len(frauds), most // 2)
    weight = 1.0
    if len(legit) > room:
        weight = len(legit) / room
        legit = np.random.default_rng(seed).choice(legit, room, replace=False)
    rows = np.sort(np.concatenate([frauds, legit]))
    return rows, label[rows], np.where(label[rows] == 1, 1.0, weight)


SILENT = 0.5  # the share of judged events below which silence means that nobody complained
USUAL_SHARE = 0.9  # of fraud labels that have come when an event is old enough for its silence to mean something


def _take_silence(found: Census, inside: np.ndarray, label: np.ndarray, always: bool) -> None:
    """Events that nobody judged become legitimate, where that is what silence means; only those old enough, if there are such."""
    fraud, judged = inside & (label == 1), inside & (label != UNKNOWN)
    types = np.unique(found.types[fraud if fraud.any() else judged])
    silent = inside & (label == UNKNOWN) & np.isin(found.types, types)
    legit = int((judged & (label == 0)).sum())
    if not silent.any() or not fraud.any():
        return
    latest = int(found.label_ts[judged].max())
    wait = np.quantile(np.maximum(found.label_ts[fraud] - found.ts[fraud], 0), USUAL_SHARE)
    ripe = silent & (found.ts <= latest - wait)
    heard = judged & np.isin(found.types, types) & (found.ts <= latest - wait)
    if not always and legit and heard.sum() >= SILENT * (heard.sum() + ripe.sum()):
        return
    taken = ripe if ripe.sum() >= 10 * fraud.sum() else silent
    label[taken] = 0
    told = "only frauds are reported" if not legit else f"only {legit:,} legitimate events were judged"
    found.notes.append(f"{told}: {int(taken.sum()):,} events without a label stand for legitimate ones")


def read_examples(
    engine: Any,
    paths: Iterable[Path],
    labels: Path | None,
    inputs: Sequence[str],
    *,
    rows: np.ndarray | None = None,
    since: int | None = None,
    texts: Mapping[str, Sequence[str]] | None = None,
    groups: Sequence[str] = (),
    history: Past | None = None,
    dead: Any = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Examples:
    """Features of events as of each event: of the events numbered `rows`, or of all from `since` on.

    `inputs` are features of the engine's rulebook or fields of events; `texts` gives the known values of text fields (none: those
    found here are taken). History before the kept rows moves the engine's state all the same. With `history` each row also has the
    last events of its entity.
    """
    reader = _Reader(engine, inputs, dict(texts or {}), groups, history=history)
    last = int(rows[-1]) if rows is not None and len(rows) else None
    for batch, block, keep, seen in _walk(engine, reader, paths, labels, rows, since, dead):
        reader.remember(batch, block, keep)
        if len(keep):
            reader.take(batch, block, keep)
        on_progress(batch.n)
        if last is not None and seen > last:
            break
    return reader.examples()


def stream_examples(
    engine: Any, paths: Iterable[Path], labels: Path | None, inputs: Sequence[str], *, since: int | None,
    texts: Mapping[str, Sequence[str]], history: Past | None = None, dead: Any = None,
) -> Iterator[Examples]:  # fmt: skip
    """The same piece by piece, for scoring: every event from `since` on, batch after batch, in bounded memory."""
    reader = _Reader(engine, inputs, dict(texts), (), fixed=True, history=history)
    for batch, block, keep, _ in _walk(engine, reader, paths, labels, None, since, dead):
        reader.remember(batch, block, keep)
        if len(keep):
            reader.take(batch, block, keep)
            yield reader.examples()
            reader.clear()


def _each_once(engine: Any, paths: Iterable[Path], labels: Path | None, dead: Any, notes: list[str]) -> Iterator[Batch]:
    """The stream as decisions see it: an event whose id came before is left out, and a note says how many were."""
    with Unique(engine.seed) as unique:
        yield from engine.read(paths, labels=labels, dead=dead, unique=unique)
        if unique.repeated:
            notes.append(f"{unique.repeated:,} events came again: each counts once")


def _walk(engine, reader, paths, labels, rows, since, dead) -> Iterator[tuple[Batch, Any, np.ndarray, int]]:
    """(batch, its features, the rows of it to keep, events seen so far) of a whole stream."""
    engine.needs = engine.needs | reader.needs
    seen = 0
    for batch in _each_once(engine, paths, labels, dead, []):
        block = engine.judge(batch).block if engine.row_features.one_by_one else engine.compute(batch)
        events = np.flatnonzero(batch.types != LABEL)
        if rows is not None:
            lo, hi = np.searchsorted(rows, (seen, seen + len(events)))
            keep = events[rows[lo:hi] - seen]
        else:
            keep = events if since is None else events[batch.ts[events] >= since]
        seen += len(events)
        yield batch, block, keep, seen


class _Reader:
    """Gathers chosen rows of batches."""

    def __init__(
        self,
        engine: Any,
        inputs: Sequence[str],
        texts: dict[str, Sequence[str]],
        groups: Sequence[str],
        fixed: bool = False,
        history: Past | None = None,
    ):
        self.inputs, self.groups, self.money = tuple(inputs), tuple(groups), engine.schema.money
        place = {name: k for k, name in enumerate(engine.rulebook.features)}
        fields = {**engine.schema.fields}
        self.feature = {name: place[name] for name in inputs if name in place}
        unknown = [n for n in inputs if n not in place and n not in fields and n not in ("type", "ts")]
        if unknown:
            raise BadData(
                f"the model reads {', '.join(map(repr, unknown[:5]))}: neither a feature nor a field of this rulebook"
            )
        self.text = [
            n for n in inputs if n not in place and (n == "type" or (n in fields and fields[n].type == "string"))
        ]
        self.numbers = [n for n in inputs if n not in place and n not in self.text and n != "ts"]
        self.fixed = {name: fixed or name in texts for name in self.text}
        self.books = {n: {t: float(i) for i, t in enumerate(texts.get(n, ()))} for n in self.text}
        self.types = engine.schema.types
        wanted = {*self.numbers} | ({self.money} if self.money else set())
        self.needs = Needs(
            numbers=frozenset(wanted), text=frozenset(n for n in self.text if n != "type"), hashes=frozenset(groups)
        )
        self.history, self.tokens = history, None
        if history is not None:
            self.rings = History(history.steps, len(history.names), len(history.roles))
            kept = (history.entity, *history.roles)
            self.tokens = _Reader(engine, history.names, dict(history.texts or {}), kept, fixed=fixed)
            self.needs = self.needs | self.tokens.needs
        self.clear()

    def clear(self) -> None:
        """Forget the rows gathered so far."""
        self.parts: list[np.ndarray] = []
        self.ids: list[str] = []
        self.ts: list[np.ndarray] = []
        self.amount: list[np.ndarray] = []
        self.held: dict[str, list[np.ndarray]] = {g: [] for g in self.groups}
        self.pasts: list[np.ndarray] = []

    def remember(self, batch: Batch, block: Any, keep: np.ndarray) -> None:
        """Every event of a batch joins the history of its entity, whether it is kept or not."""
        if self.tokens is None or self.history is None:
            return
        rows = np.flatnonzero(batch.types != LABEL)
        values = [self.tokens.column(name, batch, block, rows) for name in self.history.names]
        others = [batch.hashes[role][rows, 0] for role in self.history.roles]
        wanted, none = np.isin(rows, keep), np.empty((len(rows), 0))
        table, hashes = np.column_stack([none, *values]), np.column_stack([none.astype(np.int64), *others])
        keys = batch.hashes[self.history.entity][rows, 0]
        seen = self.rings.take(keys, batch.ts[rows], table, hashes, wanted)
        if len(seen):
            self.pasts.append(seen)

    def take(self, batch: Batch, block: Any, keep: np.ndarray) -> None:
        part = np.empty((len(keep), len(self.inputs)))
        for k, name in enumerate(self.inputs):
            part[:, k] = self.column(name, batch, block, keep)
        part[np.isinf(part)] = np.nan
        self.parts.append(part)
        self.ids += [batch.event_ids[i] for i in keep.tolist()]
        self.ts.append(batch.ts[keep])
        self.amount.append(batch.numbers[self.money][keep] if self.money else np.ones(len(keep)))
        for group in self.groups:
            self.held[group].append(batch.hashes[group][keep, 0])

    def column(self, name: str, batch: Batch, block: Any, keep: np.ndarray) -> np.ndarray:
        if name in self.feature:
            return block.values[self.feature[name]][keep]
        if name in self.text:
            found = [self.types[i] for i in batch.types[keep]] if name == "type" else batch.text(name)
            chosen = found if name == "type" else [found[i] for i in keep.tolist()]
            return np.array([self.code(name, text) for text in chosen], np.float64)
        return batch.ts[keep].astype(float) if name == "ts" else batch.numbers[name][keep]

    def code(self, name: str, text: str | None) -> float:
        if text is None:
            return np.nan
        book = self.books[name]
        found = book.get(text)
        if found is None:
            if self.fixed[name] or len(book) >= MOST_TEXTS:
                return -1.0
            found = book[text] = float(len(book))
        return found

    def examples(self) -> Examples:
        n = len(self.ids)
        matrix = np.concatenate(self.parts) if self.parts else np.empty((0, len(self.inputs)))
        none = np.zeros(n, np.int64)
        ts = np.concatenate(self.ts) if self.ts else none
        amount = np.concatenate(self.amount) if self.amount else np.ones(0)
        groups = {g: np.concatenate(v) if v else none for g, v in self.held.items()}
        books = {name: tuple(book) for name, book in self.books.items()}
        label = np.full(n, UNKNOWN, np.int8)
        found = Examples(
            self.inputs, matrix, label, ts, none, np.nan_to_num(amount), np.ones(n), self.ids, groups, books
        )
        if self.tokens is None or self.history is None:
            return found
        empty = np.empty((0, self.rings.steps + 1, self.rings.width), np.float32)
        texts = {name: tuple(book) for name, book in self.tokens.books.items()}
        past = np.concatenate(self.pasts) if self.pasts else empty
        return replace(found, past=past, history=replace(self.history, texts=texts))


def usual_texts(examples: Examples, most: int = 64, least: int = 20) -> Examples:
    """Keep of each text field the commonest values (at most `most`, each at least `least` rows); others become -1."""
    matrix, books = examples.matrix.copy(), {}
    for name, texts in examples.categories.items():
        k = examples.names.index(name)
        codes = matrix[:, k]
        counts = np.bincount(codes[codes >= 0].astype(np.int64), minlength=len(texts))
        kept = [int(i) for i in np.argsort(-counts, kind="stable")[:most] if counts[i] >= least]
        new = np.full(len(texts) + 1, -1.0)
        new[kept] = np.arange(len(kept))
        known = ~np.isnan(codes)
        codes[known] = new[codes[known].astype(np.int64)]
        books[name] = tuple(texts[i] for i in kept)
    return replace(examples, matrix=matrix, categories=books)
