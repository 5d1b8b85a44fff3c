"""History run again through the engine: what every event would have met, and what became known about it, as columns.

One pass in arrival order from empty state. Labels enter the stream when they arrived, so that a feature that reads them saw then
what it sees here. About forty bytes an event are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np

from shopward.batch import LABEL, Batch, Needs
from shopward.decide import Decisions, Engine
from shopward.declare.types import Policy, Rule, Schema
from shopward.errors import BadData, UsageError
from shopward.ingest import DeadLetters
from shopward.ingest.unique import Unique
from shopward.rules.subject import subject_roles

if TYPE_CHECKING:
    import pyarrow as pa

    from shopward.declare.rulebook import Rulebook
    from shopward.features.live import Mode
    from shopward.lists import Entry

SEED = bytes(
    range(16)
)  # the same keys in every replay, so that two of them can be laid side by side; nothing here is kept
AHEAD = 4  # batches read before they are decided on
MOST_SEGMENTS = 100  # values of one field that are told apart; the rest is one
OTHERS, MISSING = "(others)", "(missing)"


@dataclass(slots=True)
class Segments:
    """One field cut into its values: `codes` int32[n] into `words`."""

    field: str
    codes: np.ndarray
    words: list[str]


@dataclass(slots=True)
class History:
    """What a replay saw, one row an event, in arrival order.

    ids      uint64[n], event ids as hashes; `names` gives the id of the rows where a rule fired
    ts       int64[n] ms; types int16[n] into schema.types; amount float64[n], NaN where the event carries no money
    action   int8[n], what the policy would do with everybody; control bool[n]: events it lets through to keep labels honest
    hits     uint64[n, w], bit r is rule `rules[r]`
    entity   int64[n], who the event is about (-1: nobody), by the role `role`
    score    float64[n] of the policy's model, or None without one
    said     labels as they came: event hash, moment, verdict
    """

    schema: Schema
    policy: Policy
    rules: list[Rule]
    version: str
    masks: dict[str, np.ndarray]  # live, shadow, strength, mandatory, override
    ids: np.ndarray
    ts: np.ndarray
    types: np.ndarray
    amount: np.ndarray
    action: np.ndarray
    control: np.ndarray
    hits: np.ndarray
    entity: np.ndarray
    role: str | None
    score: np.ndarray | None
    segments: list[Segments]
    names: dict[int, str]
    said: tuple[np.ndarray, np.ndarray, np.ndarray]
    dead_letters: int = 0
    dead_reasons: str = ""
    notes: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ts)


def replay(
    paths: Sequence[Path],
    rulebook: Rulebook,
    *,
    labels: Path | None = None,
    lists: Iterable[Entry] = (),
    by: Sequence[str] = (),
    watch: Sequence[str] = (),
    tap: Callable[[Decisions, int], None] = lambda decisions, first: None,
    named: bool = True,
    skip_bad_files: bool = False,
    spark: OnSpark | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> History:
    """Run the events of the files through a rulebook.

    lists   entries that hold as of their own times, before the first event (what if these had been listed?)
    by      fields whose values become segments
    tap     sees the decisions of every batch, and the row of the first of them; `watch` fields are there for it as numbers
    named   keep the ids of events where a rule fired
    spark   spread the work; then `tap` sees nothing
    skip_bad_files  go on where a whole file cannot be read; it is counted and named
    Raises BadData when no event is usable or a file cannot be read, UsageError for a field that cannot be a segment.
    """
    schema = rulebook.schema
    role = next((r for r, _ in subject_roles(schema) if schema.fields[r].type == "string"), None)
    wanted = _columns(schema, role, by, watch)
    keep = Keep(role, tuple(by), named)
    seen, dead = _Seen(schema, keep, tap), DeadLetters()

    def batches(engine: Engine, size: int | None = None) -> Iterator[Batch]:
        engine.needs = engine.needs | wanted
        with Unique(engine.seed) as unique:
            for batch in engine.read(paths, labels=labels, dead=dead, unique=unique, size=size):
                yield batch
                on_progress(batch.n)
            if unique.repeated:
                dead.noted["repeated event ids, left out"] += unique.repeated

    engine = Engine(rulebook, mode="compiled", seed=SEED)
    if spark is None:
        engine.write_lists(lists)
        for batch in _ahead(batches(engine)):
            seen.add(engine, batch)
    else:
        _on_spark(spark, batches, rulebook, keep, lists, seen)
    dead.close()
    if dead.files and not skip_bad_files:
        raise BadData(f"{dead.files[0]}; a history with a hole is not judged unless asked for (--skip-bad-files)")
    if not seen.n:
        raise BadData(f"no usable event in {', '.join(map(str, paths))}" + (f"; {dead.why()}" if dead.count else ""))
    history = seen.history(engine, role)
    history.dead_letters, history.dead_reasons, history.notes = dead.count, dead.why(), dict(dead.noted)
    return history


@dataclass(frozen=True, slots=True)
class OnSpark:
    """Where on Spark: a master's URL (None: this machine), a folder that driver and workers share, kernels or not."""

    master: str | None = None
    staging: Path | None = None
    mode: Mode = "compiled"


@dataclass(frozen=True, slots=True)
class Keep:
    """What is kept of every event: who it is about, the fields that become segments, the ids of those that fired."""

    role: str | None
    by: tuple[str, ...]
    named: bool

    def __call__(self, engine: Engine, batch: Batch) -> tuple[pa.Table, list[int], list[int]]:
        """One chunk's part of a history, on a worker, as one row of bytes."""
        import pyarrow as pa

        from shopward.connect.spark import CHUNK
        from shopward.features.shards import pack

        seen = _Seen(engine.schema, self, most=CHUNK)
        seen.add(engine, batch)
        parts: dict[str, Any] = {name: found[0] for name, found in seen.parts.items()}
        parts |= {f"words {s.name}": s.words for s in seen.segments}
        parts |= {"named rows": np.array(list(seen.names), np.int64), "names": list(seen.names.values())}
        return pa.table({"part": pa.array([pack(parts)], pa.large_binary())}), [], []


def _on_spark(
    where: OnSpark,
    batches: Callable[[Engine, int | None], Iterator[Batch]],
    rulebook: Rulebook,
    keep: Keep,
    lists: Iterable[Entry],
    seen: _Seen,
) -> None:
    """Fill `seen` with what workers decided; labels are seen here, where the stream is read in order."""
    from shopward.connect.spark import CHUNK, run
    from shopward.features.shards import unpack

    def read(engine: Engine) -> Iterator[Batch]:
        for batch in batches(engine, CHUNK):
            seen.hear(batch)
            yield batch

    with run(
        read, rulebook, decide=True, answer=keep, lists=lists, seed=SEED, master=where.master, staging=where.staging, mode=where.mode
    ) as ran:  # fmt: skip
        for table in ran.tables:
            seen.join(unpack(table["part"][0].as_py()))


def _columns(schema: Schema, role: str | None, by: Sequence[str], watch: Sequence[str]) -> Needs:
    for name in by:
        found = schema.fields.get(name)
        if found is None or found.type not in ("string", "bool"):
            wanted = sorted(n for n, f in schema.fields.items() if f.type in ("string", "bool") and not f.pii)
            raise UsageError(f"--by {name}: not a text or yes/no field of the schema (there are {', '.join(wanted)})")
        if found.pii:
            raise UsageError(f"--by {name}: the field is marked `pii`; its values are not printed")
    texts = frozenset(n for n in by if schema.fields[n].type == "string")
    numbers = (
        {"label"}
        | {n for n in (*by, *watch) if schema.fields[n].type != "string"}
        | ({schema.money} if schema.money else set())
    )
    hashes = {"event_id", "label_event"} | texts | ({role} if role else set())
    return Needs(numbers=frozenset(numbers), hashes=frozenset(hashes), text=texts)


def _ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The batches, read by another thread while the last ones are decided on: scanning and deciding both leave the interpreter."""
    queue: Queue[Any] = Queue(AHEAD)
    stop = False

    def read() -> None:
        try:
            for batch in batches:
                if stop:
                    return
                queue.put(batch)
            queue.put(None)
        except BaseException as error:  # noqa: BLE001  (raised again where the batches are used)
            queue.put(error)

    reader = Thread(target=read, daemon=True)
    reader.start()
    try:
        while (found := queue.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        stop = True
        while reader.is_alive():
            while not queue.empty():
                queue.get_nowait()
            reader.join(0.01)


class _Segment:
    """The values of one field, numbered as they first appear."""

    def __init__(self, schema: Schema, name: str, most: int = MOST_SEGMENTS):
        self.name, self.flag, self.most = name, schema.fields[name].type == "bool", most
        self.words = [MISSING, OTHERS, "no", "yes"] if self.flag else [MISSING, OTHERS]
        self.own = len(self.words)  # those that are no values
        self.code: dict[int, int] = {0: 0}
        self.told: dict[str, int] = {}

    def of(self, batch: Batch, rows: np.ndarray) -> np.ndarray:
        if self.flag:
            values = batch.numbers[self.name][rows]
            return np.where(np.isnan(values), 0, 2 + np.nan_to_num(values)).astype(np.int32)
        hashes = batch.hashes[self.name][rows, 0]
        fresh, first, place = np.unique(hashes, return_index=True, return_inverse=True)
        texts: list | None = None
        for h, at in zip(fresh.tolist(), first.tolist(), strict=True):
            if h not in self.code:
                texts = batch.text(self.name) if texts is None else texts
                self.code[h] = self._number(str(texts[int(rows[at])]))
        return np.array([self.code[h] for h in fresh.tolist()], np.int32)[place]

    def translated(self, codes: np.ndarray, words: list[str]) -> np.ndarray:
        """Numbers that were given elsewhere as they are given here."""
        for word in words[self.own :]:
            if word not in self.told:
                self.told[word] = self._number(word)
        return np.array([*range(self.own), *(self.told[word] for word in words[self.own :])], np.int32)[codes]

    def _number(self, word: str) -> int:
        if len(self.words) >= self.most + 2:
            return 1
        self.words.append(word)
        return len(self.words) - 1


class _Seen:
    """The columns of a history as they grow."""

    def __init__(
        self,
        schema: Schema,
        keep: Keep,
        tap: Callable[[Decisions, int], None] = lambda decisions, first: None,
        most: int = MOST_SEGMENTS,
    ):
        self.parts: dict[str, list[np.ndarray]] = {}
        self.labels: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.names: dict[int, str] = {}
        self.n, self.role, self.money = 0, keep.role, schema.money
        self.segments = [_Segment(schema, name, most) for name in keep.by]
        self.tap, self.named = tap, keep.named

    def hear(self, batch: Batch) -> None:
        """Labels, as they came."""
        judged = np.flatnonzero(batch.types == LABEL)
        if len(judged):
            about = batch.hashes["label_event"][judged, 0].view(np.uint64)
            self.labels.append((about, batch.ts[judged], batch.numbers["label"][judged]))

    def add(self, engine: Engine, batch: Batch) -> None:
        """What a batch's events meet."""
        self.hear(batch)
        decisions = engine.decide_batch(batch)
        rows, n = decisions.rows, len(decisions)
        if not n:
            return
        action = decisions.action
        if decisions.control.any():
            action = would_be(engine.rules, decisions.hits)
        role_ids = batch.hashes[self.role][rows] if self.role else None
        self._put("ids", batch.hashes["event_id"][rows, 0].view(np.uint64))
        self._put("ts", batch.ts[rows])
        self._put("types", batch.types[rows])
        self._put("amount", batch.numbers[self.money][rows] if self.money else np.full(n, np.nan))
        self._put("action", action)
        self._put("control", decisions.control)
        self._put("hits", decisions.hits)
        self._put(
            "entity",
            np.full(n, -1) if role_ids is None else np.where(role_ids.any(axis=1), role_ids[:, 0] & _POSITIVE, -1),
        )
        if decisions.scored is not None:
            self._put("score", decisions.scored.columns()["score"][rows])
        for segment in self.segments:
            self._put(f"by {segment.name}", segment.of(batch, rows))
        if self.named:
            for i in np.flatnonzero(decisions.hits.any(axis=1)).tolist():
                self.names[self.n + i] = batch.event_ids[int(rows[i])]
        self.tap(decisions, self.n)
        self.n += n

    def join(self, part: dict[str, Any]) -> None:
        """A chunk that was decided elsewhere (`Keep`)."""
        if "ids" not in part:
            return
        for row, name in zip(part["named rows"].tolist(), part["names"], strict=True):
            self.names[self.n + row] = name
        for segment in self.segments:
            by = f"by {segment.name}"
            part[by] = segment.translated(part[by], part[f"words {segment.name}"])
        for name, values in part.items():
            if isinstance(values, np.ndarray) and name != "named rows":
                self._put(name, values)
        self.n += len(part["ids"])

    def _put(self, name: str, values: np.ndarray) -> None:
        self.parts.setdefault(name, []).append(values)

    def history(self, engine: Engine, role: str | None) -> History:
        whole = {name: np.concatenate(parts) for name, parts in self.parts.items()}
        rules = engine.rules
        masks = {name: getattr(rules, name) for name in ("live", "shadow", "strength", "mandatory", "override")}
        said = tuple(np.concatenate(parts) for parts in zip(*self.labels, strict=True)) if self.labels else _no_labels()
        return History(
            engine.schema, engine.policy, list(rules.order), rules.version, masks, whole["ids"], whole["ts"], whole["types"],
            whole["amount"], whole["action"], whole["control"], whole["hits"], whole["entity"], role, whole.get("score"),
            [Segments(s.name, whole[f"by {s.name}"], s.words) for s in self.segments], self.names, said,  # type: ignore[arg-type]
        )  # fmt: skip


_POSITIVE = np.int64(0x7FFFFFFFFFFFFFFF)


def _no_labels() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0)


def would_be(rules: Any, hits: np.ndarray) -> np.ndarray:
    """The actions that hit words lead to outside the control arm."""
    from shopward.rules.act import act

    action = np.zeros(len(hits), np.int8)
    act(hits, rules.live, rules.strength, rules.mandatory, rules.override, np.zeros(len(hits), np.bool_), action)
    return action
