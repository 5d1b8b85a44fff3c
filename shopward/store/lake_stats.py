"""What a lake holds, from the footers of its files: rows, bytes, days, and what is not as it should be."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from shopward.errors import UsageError
from shopward.store.lake import REAL, every_commit, last_commit
from shopward.store.lake_merge import SMALL

MOST_NAMED = 20


@dataclass(slots=True)
class TableStats:
    """One table: what is in it, the days between the first and the last that have no file, files that cannot be read or are gone."""

    name: str
    rows: int = 0
    bytes: int = 0
    files: int = 0
    small_files: int = 0
    partitions: int = 0
    first_day: str | None = None
    last_day: str | None = None
    missing_days: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    missing_files: list[str] = field(default_factory=list)


def stats(lake: Path) -> list[TableStats]:
    """The tables of a lake, or of any folder of `table/key=value/.../*.parquet`. Raises UsageError where there is none."""
    if not lake.is_dir():
        raise UsageError(f"{lake}: there is no such folder")
    found = [
        _table(lake, folder) for folder in sorted(lake.iterdir()) if folder.is_dir() and folder.name[0] not in "._"
    ]
    gone = _gone(lake)
    for table in found:
        table.missing_files = [name for name in gone if name.startswith(f"{table.name}/")]
    found = [table for table in found if table.files or table.missing_files]
    if not found:
        raise UsageError(f"{lake}: no table with a Parquet file in this folder")
    return found


def _table(lake: Path, folder: Path) -> TableStats:
    table, days, places = TableStats(folder.name), set(), set()
    for path in sorted(folder.rglob("*.parquet")):
        if path.name[0] in "._":
            continue
        size = path.stat().st_size
        table.files += 1
        table.bytes += size
        table.small_files += size < SMALL
        places.add(path.parent)
        days |= {part[5:] for part in path.parts if part.startswith("date=")}
        try:
            table.rows += pq.read_metadata(path).num_rows
        except (OSError, pa.ArrowInvalid) as wrong:
            table.unreadable.append(f"{path.relative_to(lake)}: {str(wrong).splitlines()[0]}")
    table.partitions = len(places)
    table.small_files = table.small_files if table.files > len(places) else 0
    table.missing_days = _between(days)
    if days:
        table.first_day, table.last_day = min(days), max(days)
    return table


def _between(days: set[str]) -> list[str]:
    """Days that lie between others and are not there."""
    try:
        known = {date.fromisoformat(day) for day in days}
    except ValueError:
        return []
    if not known:
        return []
    span = (max(known) - min(known)).days
    every = (min(known) + timedelta(i) for i in range(span))
    return [str(day) for day in every if day not in known][:MOST_NAMED]


def _gone(lake: Path) -> list[str]:
    """Files that a commit says were written and that are not there."""
    last = last_commit(lake, published=True)
    return [
        name
        for commit in every_commit(lake, REAL)
        if last is not None and commit.next <= last.next
        for name in commit.files
        if not (lake / name).exists()
    ]
