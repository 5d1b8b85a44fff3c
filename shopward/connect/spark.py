"""The same features and decisions on Spark: our kernels run in Spark's Python workers, and give what one machine gives, bit for bit.

    driver    reads the files in arrival order (one pass: order, stamped times, repeated ids and labels are facts of the whole
              stream), writes them in chunks to a staging folder, and counts keys
    split     chunk -> per bin and kind of key, the columns its windows read            (mapInArrow)
    compute   every bin in arrival order through the kernels                            (repartitionById, mapInArrow)
    gather    chunk -> its values side by side, what is derived, rules -> a part file   (repartitionById, mapInArrow)
    driver    joins the parts in arrival order

What Spark shuffles are blocks of columns, not rows. Every task can be run again and writes the same, so a lost worker changes nothing.
A hot key costs what its events cost, a kernel step each; keys are packed into bins by how many events they have, so a hot one has a
bin almost for itself, and events without a key go nowhere.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from shopward.batch import Batch
from shopward.decide import Engine
from shopward.decision import Decisions
from shopward.declare.rulebook import Rulebook
from shopward.errors import BadData, MissingExtra, NotYet, UsageError
from shopward.features.live import Block, Mode, Windows
from shopward.features.plan import make_plan
from shopward.features.shards import (
    BUCKETS,
    Bins,
    Gathered,
    KeyWindows,
    Splitter,
    count_buckets,
    key_domains,
    pack_batch,
    unpack_batch,
    weights,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from shopward.lists import Entry

# What is kept of a chunk, made on a worker: rows, how often each action was taken, and how often each rule fired
Answer = Callable[["Judge", Batch], tuple["pa.Table", list[int], list[int]]]

CHUNK = 1 << 15  # events of a chunk: what one step of a task holds in memory
BINS_PER_CORE = 2  # of a large job, so that no core waits long for the slowest
LARGE = 1 << 20  # events a core from which on a job is large; a task costs about as much as 50,000 events
MOST_BINS = 4096
BLOCKS_AT_ONCE = 16  # blocks of columns that are handed to a Python worker together
NOTHING = -1  # the place of a row that only says: there is this chunk
MOVED = "place long, chunk long, bin int, block binary"  # what is shuffled
TOLD = "chunk long, events long, actions array<long>, rules array<long>"
LOCAL = ("local", "spark://127.", "spark://localhost")


@dataclass(frozen=True)
class Job:
    """What every worker needs to know."""

    files: tuple[tuple[str, str], ...]  # the rulebook
    version: str
    seed: bytes
    staging: str
    answer: Answer
    mode: Mode = "compiled"
    models: dict[str, Any] = field(default_factory=dict, compare=False, hash=False)
    lists: tuple[Entry, ...] = ()


@dataclass(slots=True)
class Staged:
    """What the ordered pass over the files found."""

    chunks: int = 0
    records: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros((0, BUCKETS), np.int64))


@dataclass(slots=True)
class Ran:
    """What a job did: rows in arrival order, and how often each action was taken and each rule fired."""

    tables: Iterator[pa.Table]
    rule_ids: tuple[str, ...]
    actions: np.ndarray
    rules: np.ndarray


# ---- what Spark cannot do


def refuse(rulebook: Rulebook, decide: bool) -> None:
    """Raises NotYet where the answer to one event depends on the answers to others, through a list, or on a graph that is whole nowhere."""
    walking = [f for f in rulebook.features.values() if f.graph] if decide else []
    if walking:
        raise NotYet(f"feature `{walking[0].name}`: {walking[0].why_not_portable}; use --engine native")
    written = {w.list: r.id for r in rulebook.rules.values() if r.state != "draft" for w in r.writes}
    readers: list[tuple[str, Iterable[str]]] = [(f"feature `{f.name}`", f.lists) for f in rulebook.features.values()]
    if decide:
        readers += [(f"rule `{r.id}`", r.when.lists) for r in rulebook.rules.values() if r.state != "draft"]
    for reader, lists in readers:
        for name in sorted(written.keys() & set(lists)):
            raise NotYet(
                f"{reader} reads the list `{name}`, which rule `{written[name]}` writes: what one event meets depends on what was "
                "decided on those before, so Spark cannot spread them; use --engine native"
            )


def refuse_history(engine: Engine) -> None:
    """Raises NotYet where a model reads the last events of an entity: no worker sees them all in their order."""
    for model, memory in zip(engine.models.names, engine.models.pasts.by_model, strict=True):
        if memory is not None:
            raise NotYet(
                f"model `{model}` reads the last events of the {memory.past.entity}, and a history is whole in one engine only; "
                "use --engine native"
            )


def left_out(rulebook: Rulebook) -> dict[str, str]:
    """The features that are not computed on other engines, each with the reason."""
    return {f.name: f.why_not_portable for f in rulebook.features.values() if not f.portable}


# ---- sessions


@contextmanager
def session(
    master: str | None, hive: bool = False, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[SparkSession]:
    """The running Spark session, or one on `master` for as long as the block runs; with `hive` one that knows Hive's tables.

    Where Hive's metastore is, Spark reads from `hive-site.xml` in SPARK_CONF_DIR; without one it makes its own in the working folder.
    Raises MissingExtra, UsageError without Java.
    """
    try:
        from pyspark.errors import PySparkRuntimeError
        from pyspark.sql import SparkSession
    except ImportError:
        raise MissingExtra("spark", "pyspark") from None
    running = SparkSession.getActiveSession()
    if running is not None:
        if hive and running.conf.get("spark.sql.catalogImplementation", "") != "hive":
            raise UsageError("the running Spark session knows no Hive tables: make it with enableHiveSupport()")
        yield running
        return
    _need_java()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    master = master or "local[*]"
    try:
        builder = _configured(SparkSession.builder.master(master).appName("shopward"), master, settings)
        spark = (builder.enableHiveSupport() if hive else builder).getOrCreate()
    except PySparkRuntimeError as error:
        raise UsageError(f"Spark does not start on {master}: {str(error).splitlines()[0]}") from None
    try:
        yield spark
    finally:
        spark.stop()


def _configured(builder: Any, master: str, more: Mapping[str, str]) -> Any:
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(dict.fromkeys([root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]))
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.executorEnv.PYTHONPATH": path,
        "spark.log.level": "ERROR",
    }
    settings |= {f"spark.executorEnv.{name}": "1" for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    if "SHOPWARD_CACHE" in os.environ:
        settings["spark.executorEnv.SHOPWARD_CACHE"] = os.environ["SHOPWARD_CACHE"]
    if master.startswith(LOCAL):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        settings |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    for name, value in {**settings, **more}.items():
        builder = builder.config(name, value)
    return builder


def _need_java() -> None:
    home = os.environ.get("JAVA_HOME")
    found = (Path(home) / "bin" / "java").exists() if home else shutil.which("java") is not None
    if not found:
        where = f"JAVA_HOME={home} holds no bin/java" if home else "there is no `java` on PATH"
        raise UsageError(f"Spark needs Java 17 or newer, and {where}: install a JRE or set JAVA_HOME")


@contextmanager
def _staging(chosen: Path | None) -> Iterator[Path]:
    """A folder of this job's own, below the one chosen, gone when the block ends."""
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix="shopward-spark-", dir=chosen))
    folder.chmod(0o755)  # workers may be other users; a folder of secrets is chosen with its own permissions above
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ---- Hive's tables


HIVE = "hive:"


def is_table(path: Path | str | None) -> bool:
    """Is this a table of Hive's (`hive:shop.events`), and no file?"""
    return path is not None and str(path).startswith(HIVE)


def _named(spark: SparkSession, path: Path | str) -> str:
    name = str(path)[len(HIVE) :]
    if not re.fullmatch(r"\w+(\.\w+)?", name):
        raise UsageError(f"{path}: expected {HIVE}TABLE or {HIVE}DATABASE.TABLE")
    return name


@contextmanager
def tables_as_files(paths: Iterable[Path], rulebook: Rulebook, staging: Path | None) -> Iterator[list[Path]]:
    """Inputs, Hive's tables among them as folders of Parquet that are there until the block ends.

    A table has no order of its own: it needs a column `seq`, or `order` in the schema. Raises UsageError where there is none, or no such table.
    """
    given = list(paths)
    if not any(map(is_table, given)):
        yield given
        return
    with session(None, hive=True) as spark, _staging(staging) as folder:
        yield [
            _copied(spark, path, folder / f"table-{i}", rulebook) if is_table(path) else path
            for i, path in enumerate(given)
        ]


def _copied(spark: SparkSession, path: Path, folder: Path, rulebook: Rulebook) -> Path:
    name = _named(spark, path)
    if not spark.catalog.tableExists(name):
        raise UsageError(f"{path}: Hive knows no such table")
    frame = spark.table(name)
    if "seq" not in frame.columns and not rulebook.schema.order:
        raise UsageError(
            f"{path}: a table has no order: declare `order: [ts, event_id]` in schema.yaml, or give it a column `seq`"
        )
    with _settings(spark, {"spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS"}):
        frame.write.parquet(str(folder))
    return folder


@contextmanager
def rows_to_table(path: Path, staging: Path | None) -> Iterator[Path]:
    """A Parquet file to write; when the block ends well, its rows are the rows of a Hive table.

    A table that is there keeps its definition and loses its rows, one that is not is made. Raises UsageError where its columns are others.
    """
    with session(None, hive=True) as spark, _staging(staging) as folder:
        name = _named(spark, path)
        there = spark.table(name).columns if spark.catalog.tableExists(name) else None
        yield folder / "rows.parquet"
        frame = spark.read.parquet(str(folder / "rows.parquet"))
        if there is None:
            frame.write.format("hive").option("fileFormat", "parquet").saveAsTable(name)
            return
        if set(there) != set(frame.columns):
            raise UsageError(f"{path}: its columns are {', '.join(there)}; the rows have {', '.join(frame.columns)}")
        with _settings(spark, {"hive.exec.dynamic.partition.mode": "nonstrict"}):
            frame.select(*there).write.insertInto(name, overwrite=True)


# ---- driver


@contextmanager
def run(
    batches: Callable[[Engine], Iterable[Batch]],
    rulebook: Rulebook,
    *,
    decide: bool,
    answer: Answer | None = None,
    lists: Iterable[Entry] = (),
    seed: bytes | None = None,
    master: str | None = None,
    staging: Path | None = None,
    mode: Mode = "compiled",
) -> Iterator[Ran]:
    """Features (or decisions) of the batches that `batches(engine)` reads, computed on Spark.

    `answer` (a function that workers can import) keeps something else of each chunk; `lists` hold from the beginning, as of their own
    times. `staging` is a folder that the driver and every worker see under the same path; a temporary one when not given, which is enough
    for workers on this machine. The tables can be read until the block ends.
    """
    refuse(rulebook, decide)
    engine = Engine(rulebook, mode=mode, seed=seed or os.urandom(16))
    if decide:
        refuse_history(engine)
    with session(master) as spark, _staging(staging) as folder:
        files = tuple(sorted(rulebook.files.items()))
        models = dict(zip(engine.models.names, engine.models.scorers, strict=True)) if engine.models else {}
        answer = answer or (decisions_of if decide else features_of)
        job = Job(files, rulebook.version, engine.seed, str(folder), answer, mode, models, tuple(lists))
        staged = _stage(batches(engine), engine, folder)
        actions, rules = _submit(spark, job, rulebook, staged)
        yield Ran(_parts(folder, staged.chunks), engine.rules.ids, actions, rules)


def _stage(batches: Iterable[Batch], engine: Engine, folder: Path) -> Staged:
    """Write the stream to the folder, chunk by chunk."""
    plan = engine.windows.plan
    staged = Staged(counts=np.zeros((len(key_domains(plan)), BUCKETS), np.int64))
    for batch in batches:
        count_buckets(plan, batch, staged.counts)
        _write(_chunk(folder, staged.chunks), pack_batch(batch, engine.needs.text))
        staged.chunks += 1
        staged.records += batch.n
    return staged


def _chunk(folder: Path | str, number: int) -> Path:
    return Path(folder) / f"chunk-{number:09d}"


def _part(folder: Path | str, number: int) -> Path:
    return Path(folder) / f"part-{number:09d}.arrow"


def _write(path: Path, data: Any) -> None:
    """A file that is there whole or not at all, however often it is written."""
    temp = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    temp.write_bytes(data)
    temp.replace(path)


def _submit(spark: SparkSession, job: Job, rulebook: Rulebook, staged: Staged) -> tuple[np.ndarray, np.ndarray]:
    """Run the job; how often each action was taken and each rule fired."""
    cores = max(1, spark.sparkContext.defaultParallelism)
    count = min(MOST_BINS, cores * (BINS_PER_CORE if staged.records > LARGE * cores else 1))
    plan = make_plan(rulebook.features, rulebook.schema)
    bins = Bins.of(staged.counts, weights(plan), count)
    shared = spark.sparkContext.broadcast((job, bins))
    with _settings(spark, {"spark.sql.execution.arrow.maxRecordsPerBatch": str(BLOCKS_AT_ONCE)}):
        parts = max(1, min(staged.chunks, count))
        chunks = spark.range(0, staged.chunks, 1, parts).selectExpr("id AS chunk")
        split = _sorted(chunks.mapInArrow(_splitting(shared), MOVED), count, "bin", "place", "chunk")
        moved = split.mapInArrow(_computing(shared), MOVED)
        gathered = _sorted(moved, parts, f"CAST(chunk % {parts} AS INT)", "chunk", "place", "bin")
        told = gathered.mapInArrow(_gathering(shared), TOLD).toArrow().to_pydict()
    if sorted(told["chunk"]) != list(range(staged.chunks)):
        raise BadData("Spark answered for other chunks than it was given")
    return _sum(told["actions"]), _sum(told["rules"])


def _sum(rows: list[list[int]]) -> np.ndarray:
    return np.sum([np.array(row, np.int64) for row in rows], axis=0) if rows else np.zeros(0, np.int64)


def _sorted(frame: DataFrame, partitions: int, by: str, *order: str) -> DataFrame:
    """Rows in the partition whose number `by` says, in order within it."""
    from pyspark.sql import functions as F

    if hasattr(frame, "repartitionById"):
        placed = frame.repartitionById(partitions, F.expr(by))
    else:  # before Spark 4.1: two numbers may share a partition, which changes nothing but the balance
        placed = frame.repartition(partitions, F.expr(by))
    return placed.sortWithinPartitions("bin", *order) if by == "bin" else placed.sortWithinPartitions(*order)


@contextmanager
def _settings(spark: SparkSession, wanted: dict[str, str]) -> Iterator[None]:
    """A session's settings, as before when the block ends."""
    before = {name: spark.conf.get(name, None) for name in wanted}
    for name, value in wanted.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            spark.conf.unset(name) if old is None else spark.conf.set(name, old)


def _parts(folder: Path, chunks: int) -> Iterator[pa.Table]:
    """The rows of all chunks, in arrival order."""
    import pyarrow as pa

    for number in range(chunks):
        with pa.OSFile(str(_part(folder, number))) as file:
            yield pa.ipc.open_file(file).read_all()


# ---- workers

Blocks = Iterator["pa.RecordBatch"]


@lru_cache(maxsize=2)
def _rulebook(files: tuple[tuple[str, str], ...]) -> Rulebook:
    """A rulebook is read once per worker process."""
    return Rulebook.from_files(dict(files))


def _read_chunk(job: Job, number: int) -> Batch:
    path = _chunk(job.staging, number)
    try:
        return unpack_batch(path.read_bytes())
    except FileNotFoundError:
        raise BadData(
            f"{path}: this worker does not see the staging folder; name one with --staging that driver and workers share"
        ) from None


def _begun(shared: Any) -> tuple[Job, Bins]:
    """What every task starts with. What is imported by now stays for good: Spark's worker walks all of Python's objects after every
    task, and the compiler's alone take it as long as a hundred thousand events."""
    found = shared.value
    if not gc.get_freeze_count():
        gc.freeze()
    return found


def _moved(rows: Iterable[tuple[int, int, int, bytes | None]]) -> Blocks:
    """Rows of MOVED, one record batch each: a block is large enough."""
    import pyarrow as pa

    kinds = {"place": pa.int64(), "chunk": pa.int64(), "bin": pa.int32(), "block": pa.binary()}
    for row in rows:
        yield pa.RecordBatch.from_arrays(
            [pa.array([v], k) for v, k in zip(row, kinds.values(), strict=True)], list(kinds)
        )


def _rows(blocks: Blocks) -> Iterator[tuple[int, int, int, Any]]:
    for batch in blocks:
        numbers = zip(*(batch.column(name).to_pylist() for name in ("place", "chunk", "bin")), strict=True)
        for at, (place, chunk, number) in enumerate(numbers):
            block = batch.column("block")[at]
            yield place, chunk, number, memoryview(block.as_buffer()) if block.is_valid else None


def _splitting(shared: Any) -> Callable[[Blocks], Blocks]:
    def split(blocks: Blocks) -> Blocks:
        job, bins = _begun(shared)
        splitter = Splitter(_rulebook(job.files), job.seed, bins, job.mode)
        for batch in blocks:
            for chunk in batch.column("chunk").to_pylist():
                yield from _moved([(NOTHING, chunk, chunk % bins.count, None)])
                found = splitter.split(_read_chunk(job, chunk))
                yield from _moved((place, chunk, number, block) for number, place, block in found)

    return split


def _computing(shared: Any) -> Callable[[Blocks], Blocks]:
    def compute(blocks: Blocks) -> Blocks:
        job, _ = _begun(shared)
        rulebook, windows, now = _rulebook(job.files), None, None
        domains = key_domains(make_plan(rulebook.features, rulebook.schema))
        for place, chunk, number, block in _rows(blocks):
            if block is None:
                yield from _moved([(place, chunk, number, None)])
                continue
            if (number, place) != now:
                now, windows = (number, place), KeyWindows(rulebook, job.seed, domains[place], job.mode)
            assert windows is not None
            yield from _moved([(place, chunk, number, windows.update(block))])

    return compute


def _gathering(shared: Any) -> Callable[[Blocks], Blocks]:
    def gather(blocks: Blocks) -> Blocks:
        import pyarrow as pa

        job, _ = _begun(shared)
        engine = Judge(_rulebook(job.files), job)
        for chunk, (actions, rules, n) in engine.chunks(_rows(blocks)):
            numbers = pa.list_(pa.int64())
            yield pa.RecordBatch.from_arrays(
                [pa.array([chunk]), pa.array([n]), pa.array([actions], numbers), pa.array([rules], numbers)],
                ["chunk", "events", "actions", "rules"],
            )

    return gather


class Judge(Engine):
    """An engine whose windows were computed elsewhere: it takes their values, derives, and decides."""

    def __init__(self, rulebook: Rulebook, job: Job):
        self.job = job
        self.gathered = Gathered(rulebook, job.seed, job.mode)
        self.block = Block(np.empty((0, 0)))
        super().__init__(rulebook, seed=job.seed, mode=job.mode, models=job.models)
        self.write_lists(job.lists)

    def _windows(self) -> Windows:
        return self.gathered.windows

    def compute(self, batch: Batch) -> Block:
        self.row_features.before(batch)
        block = self.gathered.finish(batch, self.block)
        self.row_features.after(batch, block)
        return block

    def chunks(
        self, rows: Iterator[tuple[int, int, int, Any]]
    ) -> Iterator[tuple[int, tuple[list[int], list[int], int]]]:
        """Judge chunk after chunk, as their blocks come; each begins with a row that brings none."""
        now, batch = -1, None
        for place, chunk, _, block in rows:
            if place == NOTHING:
                if batch is not None:
                    yield now, self._finish(now, batch)
                now, batch = chunk, _read_chunk(self.job, chunk)
                self.block = self.gathered.begin(batch.n)
            else:
                self.gathered.put(self.block, place, block)
        if batch is not None:
            yield now, self._finish(now, batch)

    def _finish(self, chunk: int, batch: Batch) -> tuple[list[int], list[int], int]:
        import pyarrow as pa

        table, actions, rules = self.job.answer(self, batch)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as file:
            file.write_table(table)
        _write(_part(self.job.staging, chunk), sink.getvalue())
        return actions, rules, table.num_rows


def decisions_of(engine: Judge, batch: Batch) -> tuple[pa.Table, list[int], list[int]]:
    """The rows of `shopward decide`."""
    decisions = engine.judge(batch)
    return decisions.table(), list(decisions.counts().values()), engine.rules.count(decisions.hits).tolist()


def features_of(engine: Judge, batch: Batch) -> tuple[pa.Table, list[int], list[int]]:
    """The rows of `shopward features`, without rules."""
    block, rules = engine.compute(batch), engine.rules
    rows = np.flatnonzero(engine.judged[batch.types])
    nobody = np.zeros((len(rows), rules.words), np.uint64)
    none = Decisions(batch, block, rules, rows, np.zeros(len(rows), np.int8), nobody, np.zeros(len(rows), np.bool_))
    shown = [name for name in engine.rulebook.features if name not in left_out(engine.rulebook)]
    return engine.features_table(none).select(["event_id", *shown]), [], []
