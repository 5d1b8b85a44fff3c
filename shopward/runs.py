"""Whole files at once: decide on every event, or compute every feature; one pass, bounded memory.

A run is pure, from empty state, unless a data folder is given: then it starts from what is there and adds to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shopward.batch import LABEL, Batch
from shopward.declare.types import ACTIONS
from shopward.errors import BadData, NotYet, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from shopward.batch import Batch
    from shopward.decide import Engine
    from shopward.declare.rulebook import Rulebook
    from shopward.store.frames import Frame

ROW_GROUP = 1 << 17
FORMATS = (".parquet", ".csv", ".ndjson")


@dataclass(slots=True)
class Summary:
    """What a run did; `decisions` counts events by action."""

    events: int = 0
    decisions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ACTIONS, 0))
    rules: dict[str, int] = field(default_factory=dict)
    labels: int = 0
    repeated: int = 0  # events whose id came before: left out, or, in a data folder, answered as then
    observed: int = 0  # events of types with `decide: false`
    conflicts: int = 0  # those of them that came with other content: the first counts
    dead_letters: int = 0
    nulls: dict[str, int] = field(default_factory=dict)  # values that became null, by reason
    reasons: str = ""  # the commonest reasons of dead letters
    left_out: dict[str, str] = field(default_factory=dict)  # features another engine does not compute, and why
    threads: int = 1
    alone: str = ""  # why it was one thread although more were asked for
    seconds: float = 0.0


class Rows:
    """A file of rows, its format chosen by the ending of `path`; None keeps nothing.

    Tables are gathered into row groups; the file appears under its name only when it is complete. `apart` packs and writes one row
    group on a thread of its own while the next is gathered.
    """

    def __init__(self, path: Path | None, apart: bool = False):
        if path is not None and path.suffix not in FORMATS:
            raise UsageError(f"--out {path}: the ending must be one of {', '.join(FORMATS)}")
        self.path = path
        self._temp = path.with_name(f".{path.name}.part") if path else None
        self._held: list[pa.Table] = []
        self._rows = 0
        self._sink: Any = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rows") if apart and path is not None else None
        self._writing: Future | None = None

    def write(self, table: pa.Table) -> None:
        if self.path is None or not table.num_rows:
            return
        self._held.append(table)
        self._rows += table.num_rows
        if self._rows >= ROW_GROUP:
            self._flush()

    def close(self, empty: pa.Table | None = None) -> None:
        """Finish the file; `empty` gives the columns when no row was written. Without rows and columns there is no file."""
        if self.path is None or self._temp is None:
            return
        self._flush()
        self._wait()
        if self._sink is None and empty is not None:
            self._put([empty])
        self._stop()
        if self._sink is not None:
            self._sink.close()
            self._temp.replace(self.path)

    def abandon(self) -> None:
        """Drop what was written so far."""
        self._stop()
        if self._sink is not None:
            self._sink.close()
        if self._temp is not None:
            self._temp.unlink(missing_ok=True)

    def _flush(self) -> None:
        if not self._held:
            return
        held, self._held, self._rows = self._held, [], 0
        if self._thread is None:
            self._put(held)
        else:
            self._wait()
            self._writing = self._thread.submit(self._put, held)

    def _put(self, tables: list[pa.Table]) -> None:
        import pyarrow as pa

        assert self.path is not None and self._temp is not None
        table = pa.concat_tables(tables).combine_chunks()
        if self._sink is None:
            self._sink = _open_sink(self._temp, self.path.suffix, table.schema)
        self._sink.write_table(table)

    def _wait(self) -> None:
        """Until the row group before is on its way to the disk; raises what went wrong with it."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _stop(self) -> None:
        if self._thread is not None:
            self._thread.shutdown()


def _open_sink(path: Path, ending: str, schema: pa.Schema):
    path.parent.mkdir(parents=True, exist_ok=True)
    if ending == ".parquet":
        import pyarrow.parquet as pq

        return pq.ParquetWriter(path, schema, compression="zstd")
    return _CsvSink(path) if ending == ".csv" else _NdjsonSink(path)


class _NdjsonSink:
    def __init__(self, path: Path):
        import msgspec

        self._file = path.open("wb")
        self._encode = msgspec.json.Encoder().encode

    def write_table(self, table: pa.Table) -> None:
        for row in table.to_pylist():
            self._file.write(self._encode(row) + b"\n")

    def close(self) -> None:
        self._file.close()


class _CsvSink:
    """CSV; a list column becomes its items joined by `|`."""

    def __init__(self, path: Path):
        self._path = path
        self._writer: Any = None

    def write_table(self, table: pa.Table) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.csv as pc_csv

        for i, column in enumerate(table.schema):
            if pa.types.is_list(column.type):
                table = table.set_column(i, column.name, pc.binary_join(table[i], "|"))
            elif pa.types.is_timestamp(column.type):  # ISO 8601 with T and Z, as in NDJSON
                table = table.set_column(i, column.name, pc.strftime(table[i], "%Y-%m-%dT%H:%M:%SZ"))
        if self._writer is None:
            self._writer = pc_csv.CSVWriter(str(self._path), table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _keep_apart(paths: Iterable[Path], labels: Path | None, *outputs: Path | None) -> list[Path]:
    """The paths, none of which (nor the labels) is written over. Raises UsageError where one would be."""
    paths = list(paths)
    for given in (*paths, *([labels] if labels else [])):
        for output in outputs:
            if output is not None and Path(output).exists() and Path(given).exists() and Path(output).samefile(given):
                raise UsageError(f"{output} is read and would be written over: name another file")
    return paths


def _dead_file(wished: Path | None, out: Path | None) -> Path | None:
    """Where dead letters go: the file asked for, else beside the rows; its folder is made now, so that it can be written later."""
    path = wished or (out.with_name(f"{out.stem}.dead.ndjson") if out else None)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


def decide_files(
    paths: Iterable[Path],
    rulebook: Rulebook,
    *,
    out: Path | None = None,
    labels: Path | None = None,
    dead_letters: Path | None = None,
    data: Path | None = None,
    engine: str = "native",
    master: str | None = None,
    staging: Path | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Summary:
    """Decide on every event of the files, in arrival order: from empty state, or from that of the data folder `data`, and into it.

    Rows `event_id, ts, type, action, score, risk, reasons, arm, shadow, rulebook_version` go to `out` (.parquet, .csv or .ndjson).
    Into a data folder the run is durable and can be repeated: what is in the folder already is answered as it was, not decided
    again, so after a crash the same command goes on and gives the same rows. Records that cannot be used go to `dead_letters` with
    file, line and reason. Raises BadData when nothing was usable, UsageError when another process has the folder.

    engine "spark" spreads the work over `master` (see `connect.spark`); NotYet where rules read lists that rules write.
    """
    from shopward.decide import Engine
    from shopward.ingest import DeadLetters

    if engine == "spark":
        if data is not None:
            raise UsageError("--data is for --engine native: Spark runs from empty state")
        return _on_spark(paths, rulebook, True, out, labels, dead_letters, master, staging, on_progress)
    paths = _keep_apart(paths, labels, out, dead_letters)
    started = time.perf_counter()
    dead = DeadLetters(_dead_file(dead_letters, out))
    rows, summary = Rows(out), Summary()
    table = None
    with Engine(rulebook, data=data, mode="compiled") as native:
        summary.rules = dict.fromkeys(native.rules.ids, 0)
        run = _decided if data is None else _taken
        try:
            for n, table in run(native, paths, labels, dead, summary):
                rows.write(table)
                on_progress(n)
            rows.close(table.slice(0, 0) if table is not None else None)
        except BaseException:
            rows.abandon()
            raise
        finally:
            dead.close()
    return _finished(summary, dead, paths, started)


def _decided(engine: Engine, paths, labels, dead, summary: Summary) -> Iterator[tuple[int, pa.Table]]:
    """In memory: (records, rows) of each batch."""
    fired = np.zeros(len(engine.rules.ids), np.int64)
    for batch in _once(engine, paths, labels, dead, summary):
        decisions = engine.decide_batch(batch)
        fired += engine.rules.count(decisions.hits)
        summary.events += len(decisions)
        _undecided(summary, batch, len(decisions))
        for action, n in decisions.counts().items():
            summary.decisions[action] += n
        yield batch.n, decisions.table()
    summary.rules = {rule: int(n) for rule, n in zip(engine.rules.ids, fired, strict=True)}


def _once(engine: Engine, paths, labels, dead, summary: Summary, size: int | None = None) -> Iterator[Batch]:
    """Batches of the events, each id once."""
    from shopward.ingest.unique import Unique

    with Unique(engine.seed) as unique:
        yield from engine.read(paths, labels=labels, dead=dead, unique=unique, size=size)
        summary.repeated, summary.conflicts = unique.repeated, unique.conflicts


def _undecided(summary: Summary, batch: Batch, decided: int) -> None:
    """Count what of a batch got no decision."""
    labels = int((batch.types == LABEL).sum())
    summary.labels += labels
    summary.observed += batch.n - decided - labels


def _taken(engine: Engine, paths, labels, dead, summary: Summary) -> Iterator[tuple[int, pa.Table]]:
    """Into the data folder: the same; when it ends, all is on disk."""
    from shopward.decision import table_of

    journal = engine.journal
    assert journal is not None
    for batch in engine.read(paths, labels=labels, dead=dead, records=True):
        before = journal.log.next_seq
        answers = [answer for answer in journal.take(engine, batch) if answer is not None]
        summary.events += len(answers)
        _undecided(summary, batch, len(answers))
        summary.repeated += batch.n - (journal.log.next_seq - before)
        for answer in answers:
            summary.decisions[answer.action] += 1
            for rule in (*answer.reasons, *answer.shadow):
                summary.rules[rule] = summary.rules.get(rule, 0) + 1
        yield batch.n, table_of(answers, engine.models.names)
    summary.conflicts = journal.dedup.conflicts
    journal.settle(engine)


def _finished(summary: Summary, dead, paths: Iterable[Path], started: float) -> Summary:
    summary.dead_letters, summary.nulls, summary.reasons = dead.count, dict(dead.noted), dead.why()
    summary.seconds = round(time.perf_counter() - started, 3)
    if not (summary.events or summary.observed):
        raise BadData(f"no usable event in {', '.join(map(str, paths))}" + (f"; {dead.why()}" if dead.count else ""))
    return summary


def features_files(
    paths: Iterable[Path],
    rulebook: Rulebook,
    *,
    engine: str = "native",
    out: Path | None = None,
    labels: Path | None = None,
    dead_letters: Path | None = None,
    master: str | None = None,
    staging: Path | None = None,
    threads: int = 1,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Summary:
    """Every declared feature of every event, as of that event: rows `event_id` + one column a feature, in arrival order.

    The engines duckdb and spark leave out the features that are not portable; `Summary.left_out` says which, and why. The native
    engine computes on `threads` threads where the rulebook allows it; else on one, and `Summary.alone` says why. Values are the same.
    Durations are seconds. Raises BadData when no event can be used, UsageError for a path or ending that is none of ours.
    """
    if threads < 1:
        raise UsageError(f"--threads {threads}: it takes at least one thread")
    if threads > 1 and engine != "native":
        raise UsageError(f"--threads is for --engine native, not {engine}")
    if engine == "spark":
        return _on_spark(paths, rulebook, False, out, labels, dead_letters, master, staging, on_progress)
    if engine not in ("native", "duckdb"):
        raise NotYet(f"--engine {engine} is not available in this version (native, duckdb, spark)")
    from shopward.backfill import alone
    from shopward.ingest import DeadLetters

    paths = _keep_apart(paths, labels, out, dead_letters)
    started = time.perf_counter()
    dead, summary = DeadLetters(_dead_file(dead_letters, out)), Summary()
    summary.alone = (alone(rulebook) or "") if threads > 1 else ""
    summary.threads = 1 if summary.alone else threads
    rows = Rows(out, apart=summary.threads > 1)
    natively = _native_features if summary.threads == 1 else _threaded_features
    tables = natively if engine == "native" else _duckdb_features
    table = None
    try:
        for table in tables(paths, rulebook, labels, dead, summary):
            rows.write(table)
            summary.events += table.num_rows
            on_progress(table.num_rows)
        rows.close(table.slice(0, 0) if table is not None else None)
    except BaseException:
        rows.abandon()
        raise
    finally:
        dead.close()
    return _finished(summary, dead, paths, started)


def features_data(
    data: Path,
    rulebook: Rulebook | None = None,
    *,
    out: Path | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Summary:
    """The same for the events that a data folder holds, as they were taken: stamped times, pseudonyms, lists as they stood.

    Without `rulebook` the one in force there. Raises UsageError when the log is not there from its first event on.
    """
    from shopward.durable import in_force, kept_rulebook

    started, rows, summary = time.perf_counter(), Rows(out), Summary()
    book = rulebook or kept_rulebook(data, in_force(data).version)
    if book is None:
        raise UsageError(f"{data}: no rulebook is in force there; name one with --rulebook")
    table = None
    try:
        for table in _logged_features(data, book):
            rows.write(table)
            summary.events += table.num_rows
            on_progress(table.num_rows)
        rows.close(table.slice(0, 0) if table is not None else None)
    except BaseException:
        rows.abandon()
        raise
    summary.seconds = round(time.perf_counter() - started, 3)
    return summary


def _logged_features(data: Path, rulebook: Rulebook) -> Iterator[pa.Table]:
    from shopward.decide import Engine
    from shopward.models.loading import load_all
    from shopward.store.log import read, segments
    from shopward.store.vault import load_keys

    first = next(iter(segments(data / "log")), None)
    if first is None or first.seq0 > 0:
        lacks = (
            "there is no log"
            if first is None
            else f"the log begins at event {first.seq0}; what was dropped is in lake/"
        )
        raise UsageError(f"{data}: {lacks}, so windows cannot be built from their beginning")
    seed, models = bytes.fromhex(load_keys(data)[0].hashes), load_all(rulebook, data / "models")
    with Engine(rulebook, mode="compiled", seed=seed, models=models) as engine:
        for frame in read(data / "log"):
            for batch in _replayed(engine, frame):
                judged = np.flatnonzero(engine.judged[batch.types])
                yield engine.features_of(batch, engine.compute(batch), judged)


def _replayed(engine: Engine, frame: Frame) -> Iterator[Batch]:
    """The events of a frame of the log as they were stamped, to be computed one batch after the other; what rules and people wrote to
    lists comes between, where features could see it."""
    from shopward.ingest import from_dicts
    from shopward.lists import Entry

    records, entries = frame.records() if frame.n else [], [Entry.of(write) for write in frame.writes]
    if gone := sorted({record["type"] for record in records} - set(engine.schema.types)):
        raise UsageError(f"the log holds events of type `{gone[0]}`, which the rulebook does not have")
    step = 1 if engine.row_features.one_by_one else max(1, frame.n)
    for start in range(0, frame.n, step):
        stop = min(start + step, frame.n)
        yield from_dicts(
            records[start:stop], engine.rulebook, engine.needs, engine.seed, clock=engine.clock, seq0=frame.seq0 + start,
            settled=True, t=frame.t[start:stop],
        )  # fmt: skip
        written = [entry for entry in entries if frame.seq0 + start <= entry.seq < frame.seq0 + stop]
        engine.apply_entries(written)
        entries = [entry for entry in entries if entry not in written]
    engine.clock.value = max(int(engine.clock.value), frame.clock)
    engine.apply_entries(entries)


def _native_features(paths, rulebook, labels, dead, summary):
    from shopward.decide import Engine

    engine = Engine(rulebook, mode="compiled")
    for batch in _once(engine, paths, labels, dead, summary):
        yield engine.features_table(engine.decide_batch(batch))


def _threaded_features(paths, rulebook, labels, dead, summary):
    from shopward.backfill import SIZE, Backfill

    with Backfill(rulebook, summary.threads) as engine:
        for batch, block in engine.computed(_once(engine, paths, labels, dead, summary, SIZE)):
            yield engine.features_of(batch, block, np.flatnonzero(engine.judged[batch.types]))


def _duckdb_features(paths, rulebook, labels, dead, summary):
    from shopward.features import sql
    from shopward.ingest import read
    from shopward.ingest.unique import Unique

    with Unique(bytes(16)) as unique:
        batches = read(paths, rulebook, sql.needs(rulebook), bytes(16), labels=labels, dead=dead, unique=unique)
        table = sql.as_table(batches, rulebook)
        summary.repeated, summary.conflicts = unique.repeated, unique.conflicts
    summary.left_out = sql.refused(rulebook)
    yield sql.run(table, rulebook)


def _on_spark(paths, rulebook, decide: bool, out, labels, dead_letters, master, staging, on_progress) -> Summary:
    """The same rows, computed on Spark; progress counts the events read, then those answered.

    `hive:TABLE` among the paths, or as `out`, is a table of Hive's.
    """
    from contextlib import ExitStack

    from shopward.connect import spark

    started = time.perf_counter()
    spark.refuse(rulebook, decide)
    paths = _keep_apart(paths, labels, out, dead_letters)
    to_table = spark.is_table(out)
    with ExitStack() as stack:
        if to_table or any(map(spark.is_table, paths)):
            stack.enter_context(spark.session(master, hive=True))
        given = stack.enter_context(spark.tables_as_files(paths, rulebook, staging))
        file = stack.enter_context(spark.rows_to_table(out, staging)) if to_table else out
        dead_file = _dead_file(dead_letters, None if to_table else out)
        return _spark_rows(given, rulebook, decide, file, labels, dead_file, master, staging, on_progress, started)


def _spark_rows(paths, rulebook, decide, out, labels, dead_file, master, staging, on_progress, started) -> Summary:
    from shopward.connect import spark
    from shopward.ingest import DeadLetters

    dead, rows, summary = DeadLetters(dead_file), Rows(out), Summary()
    summary.left_out = {} if decide else spark.left_out(rulebook)

    def batches(engine: Engine) -> Iterator[Batch]:
        for batch in _once(engine, paths, labels, dead, summary, spark.CHUNK):
            _undecided(summary, batch, int(np.count_nonzero(engine.judged[batch.types])))
            yield batch
            on_progress(batch.n)

    table = None
    try:
        with spark.run(batches, rulebook, decide=decide, master=master, staging=staging) as ran:
            for table in ran.tables:
                rows.write(table)
                summary.events += table.num_rows
            rows.close(table.slice(0, 0) if table is not None else None)
            summary.decisions = dict(zip(ACTIONS, ran.actions.tolist(), strict=False)) if decide else summary.decisions
            summary.rules = dict(zip(ran.rule_ids, ran.rules.tolist(), strict=False)) if decide else {}
    except BaseException:
        rows.abandon()
        raise
    finally:
        dead.close()
    return _finished(summary, dead, paths, started)
