"""Files, tables and dicts as micro-batches: the one place where outside data becomes the stream of events.

files -> records -> events (typed, checked; what is none goes to dead letters) -> in order, labels among them -> stamped batches
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from shopward.batch import NULL, Batch, Needs
from shopward.errors import BadData, UsageError
from shopward.ingest.assemble import Assembler, Raw
from shopward.ingest.blocks import STDIN, Input, csv_rows, ndjson, open_input
from shopward.ingest.chunk import Chunk, join_chunks
from shopward.ingest.clock import Clock
from shopward.ingest.compose import compose
from shopward.ingest.dead import DeadLetters
from shopward.ingest.normalise import Normaliser, Pseudonym
from shopward.ingest.texts import Digits
from shopward.ingest.weave import Labels, Weaver
from shopward.label import label_columns

if TYPE_CHECKING:
    from shopward.declare.rulebook import Rulebook
    from shopward.ingest.unique import Unique

LINES = {".ndjson": ndjson, ".jsonl": ndjson, ".csv": csv_rows}
PACKED = (".gz", ".zst")
FORMATS = (*LINES, ".parquet")
BATCH = 4096


def read(
    paths: Iterable[Any] | str | Path,
    rulebook: Rulebook,
    needs: Needs,
    seed: bytes,
    *,
    labels: str | Path | None = None,
    batch_size: int = BATCH,
    dead: DeadLetters | None = None,
    clock: Clock | None = None,
    seq0: int = 0,
    records: bool = False,
    pseudonym: Pseudonym | None = None,
    settled: bool = False,
    unique: Unique | None = None,
) -> Iterator[Batch]:
    """The events of files, folders, Arrow tables or `-` (NDJSON piped in) as batches in arrival order.

    Order is by file name, then row; a column `seq` or the schema's `order` wins (then everything is held in memory to be sorted).
    Labels, from the schema's label column or a label file, enter as events of type `label` when they became known. With `records`
    the batches keep the whole events. `settled` events come out of Shopward (a lake, a log): their fields are taken as they are,
    without normalising, deriving or converting them again. With `unique` an event whose id came before is left out. Raises UsageError for a path that is no input; one record or file that cannot be used is a
    dead letter, and the rest goes on.
    """
    policy = rulebook.policy
    clock = Clock(policy.lateness_ms, policy.skew_ms) if clock is None else clock
    dead = DeadLetters() if dead is None else dead
    sources = expand(paths)
    normaliser = Normaliser.of(rulebook, pseudonym=pseudonym, settled=settled)
    assembler = Assembler(normaliser, needs, seed, dead, latest=clock.latest(), records=records)
    judged = Labels(label_columns(labels), seed) if labels is not None else None
    chunks = _ordered(_chunks(sources, assembler, records), rulebook.schema.order)
    if unique is not None:
        chunks = unique.of(chunks)
    if rulebook.schema.label is not None or judged is not None:
        chunks = _woven(chunks, Weaver(rulebook.schema, seed, judged, clock.value), dead, clock)
    seq = seq0
    for chunk in chunks:
        for start in range(0, chunk.n, batch_size):
            part = chunk.cut(start, min(start + batch_size, chunk.n))
            yield part.batch(seq, clock.stamp(part.ts))
            seq += part.n


def expand(paths: Iterable[Any] | str | Path) -> list[Any]:
    """Every input in reading order; folders give the files in them, hidden ones aside."""
    import pyarrow as pa

    given = [paths] if isinstance(paths, str | Path | pa.Table | pa.RecordBatchReader) else list(paths)
    files: list[Path] = []
    others: list[Any] = []
    for one in given:
        if isinstance(one, pa.Table | pa.RecordBatchReader) or str(one) == STDIN:
            others.append(one)
        else:
            files.extend(_files(Path(one)))
    return sorted(files, key=str) + others


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = [p for p in path.rglob("*") if p.is_file() and not _hidden(p, path) and _format(p) in FORMATS]
        if not found:
            raise UsageError(f"{path}: no {', '.join(FORMATS)} file in this folder")
        return found
    if not path.exists():
        raise UsageError(f"{path}: there is no such file")
    if _format(path) not in FORMATS:
        raise UsageError(
            f"{path}: the ending must be one of {', '.join(FORMATS)} (the first three also with .gz or .zst)"
        )
    return [path]


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.relative_to(root).parts)


def _format(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix in PACKED else path.suffix


def _chunks(sources: Sequence[Any], assembler: Assembler, records: bool) -> Iterator[Chunk]:
    for number, source in enumerate(sources):
        try:
            for raw in _raws(source, number, assembler, records):
                chunk = assembler.assemble(raw)
                if chunk is not None:
                    yield chunk
        except BadData as wrong:
            assembler.dead.put(str(source) if isinstance(source, Path) else f"table {number + 1}", 0, str(wrong))


def _raws(source: Any, number: int, assembler: Assembler, records: bool) -> Iterator[Raw]:
    if isinstance(source, Path) and _format(source) == ".parquet":
        from shopward.ingest.tables import parquet

        return parquet(source, assembler, records)
    if isinstance(source, Path) or str(source) == STDIN:
        return _lines(source, assembler)
    from shopward.ingest.tables import table_rows

    name = f"table {number + 1}"
    batches = source.to_batches() if hasattr(source, "to_batches") else source
    return table_rows(batches, assembler, name, lambda: name.replace(" ", ""), {})


def _lines(source: Any, assembler: Assembler) -> Iterator[Raw]:
    scanner = LINES[_format(source)] if isinstance(source, Path) else ndjson
    found = open_input(source)
    try:
        yield from scanner(found, assembler)
    finally:
        found.close()


def _woven(chunks: Iterable[Chunk], weaver: Weaver, dead: DeadLetters, clock: Clock) -> Iterator[Chunk]:
    for chunk in chunks:
        yield weaver.weave(chunk)
    rest = weaver.rest(clock.latest())
    if rest is not None:
        yield rest
    if weaver.labels is not None and (lost := weaver.labels.unused()):
        dead.noted["labels of events that did not come"] += lost


# ---- order


def _ordered(chunks: Iterator[Chunk], order: tuple[str, ...]) -> Iterator[Chunk]:
    """The chunks as they come, or all of them sorted where an order is declared."""
    first = next(chunks, None)
    if first is None:
        return
    if first.seq is not None and (first.seq != NULL).all():
        order = ("seq",)
    if not order:
        yield first
        yield from chunks
        return
    every = join_chunks([first, *chunks])
    rows = _sorted_rows(every, order)
    if rows is not None:
        every = every.take(rows)
    for start in range(0, every.n, 1 << 16):
        yield every.cut(start, min(start + (1 << 16), every.n))


def _sorted_rows(chunk: Chunk, order: tuple[str, ...]) -> np.ndarray | None:
    """The rows in order, None when they already are."""
    first = _rank(chunk, order[0])
    if (first[1:] > first[:-1]).all():
        return None
    return np.lexsort([_rank(chunk, name) for name in reversed(order[1:])] + [first])


def _rank(chunk: Chunk, name: str) -> np.ndarray:
    """Numbers that sort as a column does: texts shortest first, so that ids that count up stay in their order; nulls last."""
    if name == "ts":
        return chunk.ts
    if name == "seq":
        return np.full(chunk.n, NULL) if chunk.seq is None else chunk.seq
    if name in chunk.numbers:
        return chunk.numbers[name]
    column = chunk.ids if name == "event_id" else chunk.texts[name]
    if isinstance(column, Digits) and column.valid.all() and (column.values >= 0).all():
        return column.values
    import pyarrow as pa
    import pyarrow.compute as pc

    codes = column.to_arrow().dictionary_encode()
    words = codes.dictionary
    table = pa.table({"length": pc.binary_length(words), "text": words})
    places = np.empty(len(words) + 1, np.int64)
    places[np.asarray(pc.sort_indices(table, [("length", "ascending"), ("text", "ascending")]))] = np.arange(len(words))
    places[-1] = len(words)
    return places[np.asarray(codes.indices.fill_null(len(words)))]


# ---- from memory


_normalisers: WeakKeyDictionary[Any, dict[Any, Normaliser]] = WeakKeyDictionary()


def _normaliser(rulebook: Rulebook, pseudonym: Pseudonym | None) -> Normaliser:
    kept = _normalisers.setdefault(rulebook, {})
    if pseudonym not in kept:
        kept[pseudonym] = Normaliser.of(rulebook, pseudonym=pseudonym)
    return kept[pseudonym]


def from_dicts(
    events: Sequence[dict[str, Any]],
    rulebook: Rulebook,
    needs: Needs,
    seed: bytes,
    *,
    seq0: int = 0,
    clock: Clock | None = None,
    settled: bool = False,
    t: np.ndarray | None = None,
    pseudonym: Pseudonym | None = None,
) -> Batch:
    """Records in memory as one batch. Raises BadEvent for the first that is no event.

    `settled` events are taken as they are: they come from `normalise` or from the log. `t` are stamped times known already; else
    the clock stamps them. An event without id is called `event:<seq>`.
    """
    if not settled:
        normalise = _normaliser(rulebook, pseudonym)
        events = [normalise(event) for event in events]
    clock = Clock(rulebook.policy.lateness_ms, rulebook.policy.skew_ms) if clock is None else clock
    return compose(
        events, rulebook.schema, needs, seed, seq0, clock.stamp if t is None else lambda ts: np.asarray(t, np.int64)
    )


def from_ndjson(
    data: bytes,
    rulebook: Rulebook,
    needs: Needs,
    seed: bytes,
    *,
    seq0: int = 0,
    clock: Clock | None = None,
    dead: DeadLetters | None = None,
    records: bool = True,
    pseudonym: Pseudonym | None = None,
    name: str = "body",
) -> Batch:
    """Lines of JSON in memory as one batch; lines that are no events go to `dead` with their number."""
    clock = Clock(rulebook.policy.lateness_ms, rulebook.policy.skew_ms) if clock is None else clock
    normaliser = Normaliser.of(rulebook, pseudonym=pseudonym)
    assembler = Assembler(normaliser, needs, seed, DeadLetters() if dead is None else dead, records=records)
    source = Input(name, io.BytesIO(data), content=data)
    found = [chunk for raw in ndjson(source, assembler) if (chunk := assembler.assemble(raw)) is not None]
    if not found:
        return from_dicts([], rulebook, needs, seed, seq0=seq0, clock=clock)
    chunk = join_chunks(found)
    return chunk.batch(seq0, clock.stamp(chunk.ts))
