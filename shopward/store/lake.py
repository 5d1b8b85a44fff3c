"""The lake: what the log holds, as Hive-partitioned Parquet that DuckDB, Spark, Hive and Polars read as it is.

    lake/events/type=login/date=2026-01-31/part-<first seq>-<last seq>.parquet
    lake/decisions/date=...   lake/findings/finder=rule/date=...   lake/lists/date=...

Compaction takes the frames since the last commit, writes their files under names that readers ignore, commits all of them with
one record in `lake/_commits`, and only then gives them their names. Run again after a crash it finishes what was committed and
forgets what was not, so every event is in the lake exactly once.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from shopward.errors import CorruptStore
from shopward.store import rows
from shopward.store.files import REAL, Bytes, Disk, write_temp, write_whole
from shopward.store.frames import Frame
from shopward.store.log import read, segments
from shopward.store.rows import Columns, Gathered

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK_EVENTS = 1 << 18  # events of one commit
ROW_GROUP = 1 << 17
SAMPLE = 4096  # rows by which a column is judged
LEVEL = 6  # of zstd: a tenth smaller than the level that is usual, and still faster than the rest of a commit
DATASETS = ("events", "decisions", "findings", "lists")
PART = re.compile(r"part-\d{16,}-\d{16,}-(\d{12,})\.parquet")
TEMP = re.compile(r"\." + PART.pattern + r"\.tmp")  # not those of a finder, which may be writing right now
COMMIT = re.compile(r"(\d{12,})-(\d{12,})\.json")


class Commit(msgspec.Struct, frozen=True):
    """What one step of compaction added: log frames [first, next), events [seq0, next_seq), and the files that hold them."""

    first: int
    next: int
    seq0: int
    next_seq: int
    columns: Columns
    files: list[str]


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction added to the lake."""

    events: int = 0
    decisions: int = 0
    findings: int = 0
    list_writes: int = 0
    files: int = 0

    def __add__(self, other: Compaction) -> Compaction:
        return Compaction(
            self.events + other.events, self.decisions + other.decisions, self.findings + other.findings,
            self.list_writes + other.list_writes, self.files + other.files,
        )  # fmt: skip


def compact(
    data: Path | str,
    columns: Columns | None = None,
    on_progress: Callable[[int], Any] | None = None,
    disk: Disk = REAL,
    chunk_events: int = CHUNK_EVENTS,
) -> Compaction:
    """Write what the log of a data folder holds and its lake lacks; safe beside a running server, one at a time.

    `columns` says which fields become columns (see `rows.columns_of`); without it the last `switch` frame of the log that says so
    counts, then the lake's own, then a guess. `on_progress` is told how many events each step added. Raises UsageError when
    another process compacts, StoreFull when there is no room, CorruptStore when log or lake are not what was written.
    """
    data = Path(data)
    lake = data / "lake"
    unlock = take_lock(lake, disk)
    try:
        with _no_collection():
            return _compact(data, lake, columns, on_progress or (lambda events: None), disk, chunk_events)
    finally:
        unlock()


def take_lock(lake: Path, disk: Disk = REAL) -> Callable[[], None]:
    """The lake for one writer, until the returned function is called. Raises UsageError when another process has it."""
    disk.make_folder(lake / "_commits")
    return disk.lock(lake / "_lock")


def last_commit(lake: Path, disk: Disk = REAL, published: bool = False) -> Commit | None:
    """How far the lake has come; with `published` only as far as every file has its name."""
    for name in reversed([name for name in disk.names(lake / "_commits") if COMMIT.fullmatch(name)]):
        commit = _read_commit(lake / "_commits" / name, disk)
        if not published or all(disk.exists(lake / file) for file in commit.files):
            return commit
    return None


def every_commit(lake: Path, disk: Disk = REAL) -> Iterator[Commit]:
    """All commits, oldest first."""
    for name in disk.names(lake / "_commits"):
        if COMMIT.fullmatch(name):
            yield _read_commit(lake / "_commits" / name, disk)


def _read_commit(path: Path, disk: Disk) -> Commit:
    try:
        return msgspec.json.decode(bytes(disk.read(path)), type=Commit)
    except msgspec.MsgspecError as error:
        raise CorruptStore(f"{path}: {error}; restore it from a copy") from error


def belongs(name: str, commit: Commit | None) -> bool:
    """Is this file part of the lake as of a commit? What a later compaction adds is not; what a finder wrote always is."""
    part = PART.fullmatch(name)
    return part is None or (commit is not None and int(part[1]) < commit.next)


def tail(data: Path, commit: Commit | None, disk: Disk = REAL) -> Iterator[Frame]:
    """The frames the lake lacks."""
    start = commit.next if commit else 0
    found = segments(data / "log", disk)
    if found and found[0].number > start:
        raise CorruptStore(
            f"{data / 'log'}: starts at frame {found[0].number}, but the lake ends at frame {start}: segments were dropped before "
            "they were compacted"
        )
    return read(data / "log", disk, from_number=start, settle=True)


def known_columns(frames: Sequence[Frame], commit: Commit | None, given: Columns | None = None) -> Columns:
    """Which fields are columns: a field keeps the type it had first."""
    told = given or next((f.meta["columns"] for f in reversed(frames) if f.meta.get("columns")), None)
    before = commit.columns if commit else {}
    if told is None and not before:
        told = rows.guessed(record for frame in frames if frame.n for record in frame.records())
    return (told or {}) | before


# ---- steps


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without Python's cycle collector: it would walk a chunk's million small objects, which have no cycles, again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _compact(
    data: Path, lake: Path, columns: Columns | None, on_progress: Callable[[int], Any], disk: Disk, chunk_events: int
) -> Compaction:
    total, last = Compaction(), recover(lake, disk)
    for gathered, frames in _chunks(data, last, disk, chunk_events):
        last, added = _commit(lake, gathered, frames, columns, last, disk)
        total += added
        on_progress(added.events)
    return total


def _chunks(data: Path, last: Commit | None, disk: Disk, chunk_events: int) -> Iterator[tuple[Gathered, list[Frame]]]:
    gathered, frames = Gathered(), []
    for frame in tail(data, last, disk):
        gathered.add(frame)
        frames.append(frame)
        if gathered.count >= chunk_events:
            yield gathered, frames
            gathered, frames = Gathered(), []
    if frames:
        yield gathered, frames


def _commit(
    lake: Path, gathered: Gathered, frames: list[Frame], columns: Columns | None, last: Commit | None, disk: Disk
) -> tuple[Commit, Compaction]:
    seq0, next_seq = frames[0].seq0, frames[-1].seq0 + frames[-1].n
    known = known_columns(frames, last, columns)
    part = f"part-{seq0:016d}-{max(next_seq - 1, seq0):016d}-{frames[0].number:012d}.parquet"
    tables = {f"{folder}/{part}": table for folder, table in _tables(gathered, known)}
    folders = {(lake / name).parent for name in tables}
    for folder in folders:
        disk.make_folder(folder)
    for name, table in tables.items():
        write_temp(disk, _temp(lake / name), [parquet(table)])
    for folder in folders:
        disk.sync_folder(folder)
    commit = Commit(frames[0].number, frames[-1].number + 1, seq0, next_seq, known, list(tables))
    write_whole(disk, lake / "_commits" / f"{commit.first:012d}-{commit.next:012d}.json", [msgspec.json.encode(commit)])
    _publish(lake, commit, disk)
    events, decisions, findings, writes = (sum(map(len, part.values())) for part in _parts(gathered))
    return commit, Compaction(events, decisions, findings, writes, len(tables))


def _parts(gathered: Gathered) -> tuple[dict[str, list], ...]:
    return gathered.events, gathered.decisions, gathered.findings, gathered.lists


def _tables(gathered: Gathered, columns: Columns) -> Iterator[tuple[str, pa.Table]]:
    schema = rows.events_schema(columns)
    makers: tuple[Callable[[list], pa.Table], ...] = (
        lambda found: rows.events_table(found, schema), rows.decisions_table, rows.findings_table, rows.lists_table,
    )  # fmt: skip
    for dataset, found, make in zip(DATASETS, _parts(gathered), makers, strict=True):
        for folder, some in found.items():
            yield f"{dataset}/{folder}", make(some)


def _publish(lake: Path, commit: Commit, disk: Disk) -> None:
    """Give committed files their names; those that have them already are left alone."""
    for name in commit.files:
        path = lake / name
        if disk.exists(_temp(path)):
            disk.rename(_temp(path), path)
        elif not disk.exists(path):
            raise CorruptStore(
                f"{path}: committed to the lake, but missing; restore it from a copy or remove lake/ and compact again"
            )
    for folder in {(lake / name).parent for name in commit.files}:
        disk.sync_folder(folder)


def recover(lake: Path, disk: Disk = REAL) -> Commit | None:
    """Finish what was committed, forget what was not."""
    last = last_commit(lake, disk)
    if last is not None:
        _publish(lake, last, disk)
    for path in list(_unfinished(lake, disk)):
        disk.remove(path)
    return last


def _unfinished(lake: Path, disk: Disk) -> Iterator[Path]:
    for dataset in DATASETS:
        for folder in _folders(lake / dataset, disk):
            yield from (folder / name for name in disk.names(folder) if TEMP.fullmatch(name))


def _folders(folder: Path, disk: Disk) -> Iterator[Path]:
    for name in disk.names(folder):
        if "=" in name:
            yield folder / name
            yield from _folders(folder / name, disk)


def _temp(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def parquet(table: pa.Table) -> Bytes:
    """A table as one Parquet file in memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **parquet_options(table))
    return memoryview(sink.getvalue())


def parquet_options(table: pa.Table) -> dict[str, Any]:
    """How the lake's files are written: every engine of the last years reads them, small, and with statistics to skip by.

    Numbers that rise by little (`seq`, `t`, `ts`) are kept as differences; texts that hardly come twice as they are, since a
    dictionary of them would stand beside them; and columns that this type of event never fills have no statistics.
    """
    rising = [name for name in ("seq", "t", "ts") if name in table.column_names]
    filled = [name for name in table.column_names if table[name].null_count < table.num_rows]
    return {
        "compression": "zstd",
        "compression_level": LEVEL,
        "use_dictionary": [name for name in filled if name not in rising and _comes_again(table[name])] or False,
        "column_encoding": dict.fromkeys(rising, "DELTA_BINARY_PACKED"),
        "write_statistics": filled,
        "row_group_size": ROW_GROUP,
        "version": "2.6",
        "write_page_checksum": True,
    }


def _comes_again(column: pa.ChunkedArray) -> bool:
    """Is a value worth a dictionary? By some of them."""
    import pyarrow as pa

    some = column.slice(0, SAMPLE).drop_null()
    return pa.types.is_nested(some.type) or len(some.unique()) * 2 <= len(some)
