"""Letting go of what is old: segments of the log that nothing needs any more, and days of the lake past their retention.

A segment goes only when the lake has all its events, both snapshots start after it, the known ids no longer need it, and it is
older than what a new feature would be rebuilt from. Labels, retries and `find` then ask the lake. Of the lake go whole days of an
event type, with what was decided on those events and found in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from shopward.store import snapshot
from shopward.store.dedup import NAME
from shopward.store.files import REAL, Disk, write_whole
from shopward.store.lake import COMMIT, PART, Commit, last_commit, parquet
from shopward.store.log import Log

if TYPE_CHECKING:
    import pyarrow as pa

DAY_MS = 86_400_000


def drop_log(data: Path | str, older_than_ms: int, disk: Disk = REAL) -> list[str]:
    """Remove the segments that may go and whose events are more than `older_than_ms` behind the log's clock; returns their names.

    Raises UsageError while another process has the log: a running server keeps it.
    """
    data = Path(data)
    snapshots = [snapshot.read(path, disk).meta for path in snapshot.saved(data / "state", disk)]
    commit = last_commit(data / "lake", disk, published=True)
    stops = [int(name[2]) for name in map(NAME.fullmatch, disk.names(data / "state" / "ids")) if name]
    if not snapshots or commit is None or not stops:
        return []
    safe = min(commit.next_seq, max(stops), *(meta.seq for meta in snapshots))
    clock = max(int(meta.extra.get("clock", 0)) for meta in snapshots)
    with Log.open(data / "log", disk) as log:
        return log.drop_before(safe - 1, older_than=clock - older_than_ms)


@dataclass(frozen=True, slots=True)
class Expired:
    """What left the lake: events, days of one type each, and the decisions and findings about those events."""

    events: int = 0
    days: int = 0
    decisions: int = 0
    findings: int = 0


def expire(data: Path | str, keep: Mapping[str, int], disk: Disk = REAL) -> Expired:
    """Remove from the lake the events of the types in `keep` that are older than so many ms, counted back from its newest day.

    Whole days go, so nothing younger ever does. Their decisions and findings go first, the events last: what a crash interrupts
    is finished by the next call. Raises UsageError while another process compacts.
    """
    lake = Path(data) / "lake"
    unlock = disk.lock(lake / "_lock")
    try:
        return _expire(lake, keep, disk)
    finally:
        unlock()


def _expire(lake: Path, keep: Mapping[str, int], disk: Disk) -> Expired:
    old = [folder for name, ms in keep.items() for folder in _old_days(lake, name, ms, disk)]
    files = [folder / name for folder in old for name in disk.names(folder) if PART.fullmatch(name)]
    if not files:
        return Expired()
    gone = _seqs(files, disk)
    days = {folder.name for folder in old}
    decisions = _without(gone, lake / "decisions", days, disk)
    finders = [lake / "findings" / name for name in _names(lake / "findings", "finder", disk)]
    findings = sum(_without(gone, finder, days, disk) for finder in finders)
    _forget_files(lake, [*files], disk)
    for path in files:
        disk.remove(path)
    return Expired(len(gone), len(old), decisions, findings)


def _old_days(lake: Path, type_: str, keep_ms: int, disk: Disk) -> list[Path]:
    """The folders of a type's days that ended `keep_ms` or more before the newest day of the lake began."""
    types = [lake / "events" / name for name in _names(lake / "events", "type", disk)]
    newest = max((day for folder in types for day in _days(folder, disk).values()), default=0)
    folder = lake / "events" / f"type={quote(type_, safe='')}"
    return [folder / name for name, day in _days(folder, disk).items() if (newest - day - 1) * DAY_MS >= keep_ms]


def _names(folder: Path, column: str, disk: Disk) -> list[str]:
    return [name for name in disk.names(folder) if name.startswith(f"{column}=")]


def _days(folder: Path, disk: Disk) -> dict[str, int]:
    """The folder's partitions by date, as days since 0001-01-01."""
    return {name: date.fromisoformat(name.removeprefix("date=")).toordinal() for name in _names(folder, "date", disk)}


def _seqs(files: list[Path], disk: Disk) -> pa.Array:
    """The events of some files, by number."""
    import pyarrow as pa

    return pa.concat_arrays([c for file in files for c in _read(file, disk, ["seq"])["seq"].chunks])


def _read(file: Path, disk: Disk, columns: list[str] | None = None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.read_table(pa.BufferReader(disk.read(file)), columns=columns)


def _without(gone: Any, folder: Path, days: set[str], disk: Disk) -> int:
    """Take the rows about events that are gone out of the files of some days; how many that were."""
    import pyarrow.compute as pc

    removed = 0
    for day in sorted(days):
        for name in [n for n in disk.names(folder / day) if PART.fullmatch(n)]:
            table = _read(folder / day / name, disk)
            left = table.filter(pc.invert(pc.is_in(table["seq"], value_set=gone)))
            if left.num_rows < table.num_rows:
                removed += table.num_rows - left.num_rows
                write_whole(disk, folder / day / name, [parquet(left)])
    return removed


def _forget_files(lake: Path, files: list[Path], disk: Disk) -> None:
    """The commits no longer promise these files."""
    names = {path.relative_to(lake).as_posix() for path in files}
    for name in [name for name in disk.names(lake / "_commits") if COMMIT.fullmatch(name)]:
        path = lake / "_commits" / name
        commit = msgspec.json.decode(bytes(disk.read(path)), type=Commit)
        kept = [file for file in commit.files if file not in names]
        if len(kept) < len(commit.files):
            write_whole(disk, path, [msgspec.json.encode(msgspec.structs.replace(commit, files=kept))])
